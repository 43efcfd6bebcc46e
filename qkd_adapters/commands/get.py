"""``qsgw-kme get``: take keys from a KME, for a peer that cannot."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from kms_client.tls import TlsFiles
from qkd_adapters.commands.groups import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser("get", help="take keys from a KME, for a peer that cannot")
    parser.add_argument("--url", required=True, metavar="https://ADDRESS:PORT")
    for name, what in (("ca", "that signs the KME"), ("certificate", "ours"), ("key", "ours")):
        parser.add_argument(f"--{name}", type=Path, required=True, metavar="FILE", help=what)
    parser.add_argument("--peer", required=True, metavar="SAE", help="SAE at the other end")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "key_ids", nargs="*", metavar="KEY_ID", help="keys the peer was given; none = a new key"
    )
    parser.set_defaults(run=_get)


def _get(arguments: argparse.Namespace) -> int:
    from qkd_adapters.get import get_keys  # noqa: PLC0415  (as above)

    files = TlsFiles(ca=arguments.ca, certificate=arguments.certificate, key=arguments.key)
    wanted = get_keys(arguments.url, files, arguments.peer, arguments.key_ids, arguments.out)
    for path in asyncio.run(wanted):
        print(path)
    return 0
