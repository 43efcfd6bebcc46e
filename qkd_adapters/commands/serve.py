"""``qsgw-kme serve``: run a KME."""

from __future__ import annotations

import argparse
from pathlib import Path

from qkd_adapters.commands.groups import Subparsers
from qkd_adapters.commands.process import run_service
from qkd_adapters.kme.config import load_kme


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser("serve", help="run a KME (ETSI GS QKD 014 server)")
    parser.add_argument("--config", type=Path, required=True, metavar="FILE")
    parser.set_defaults(run=_serve)


def _serve(arguments: argparse.Namespace) -> int:
    from qkd_adapters.kme.service import run_kme  # noqa: PLC0415  (aiohttp takes 160 ms to import)

    settings = load_kme(arguments.config)
    return run_service(lambda ready, stop: run_kme(settings, ready=ready, stop=stop))
