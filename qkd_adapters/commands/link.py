"""``qsgw-kme link``: run the emulated QKD link."""

from __future__ import annotations

import argparse
from pathlib import Path

from qkd_adapters.commands.groups import Subparsers
from qkd_adapters.commands.process import run_service
from qkd_adapters.link.config import load_link


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser("link", help="run the emulated QKD link between two KMEs")
    parser.add_argument("--config", type=Path, required=True, metavar="FILE")
    parser.add_argument(
        "--record-keys",
        type=Path,
        metavar="FILE",
        help="write every key to FILE (only with QSGW_LAB=1 in the environment)",
    )
    parser.set_defaults(run=_link)


def _link(arguments: argparse.Namespace) -> int:
    from qkd_adapters.link.service import run_link  # noqa: PLC0415  (as above: keep the rest light)

    settings = load_link(arguments.config)
    record_keys: Path | None = arguments.record_keys
    return run_service(
        lambda ready, stop: run_link(settings, record_keys=record_keys, ready=ready, stop=stop)
    )
