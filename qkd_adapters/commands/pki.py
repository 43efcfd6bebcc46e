"""``qsgw-kme pki``: make a CA and certificates."""

from __future__ import annotations

import argparse
from pathlib import Path

from qkd_adapters.commands.groups import Subparsers
from qkd_adapters.pki import LEAF_DAYS, KmeName, make_pki, parse_kme_name


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser("pki", help="make a CA and certificates for KMEs and SAEs")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--kme", type=_kme_name, action="append", default=[], metavar="NAME:ADDRESS[,ADDRESS...]"
    )
    parser.add_argument("--sae", action="append", default=[], nargs="+", metavar="NAME")
    parser.add_argument("--days", type=int, default=LEAF_DAYS, help="lifetime of certificates")
    parser.add_argument("--force", action="store_true", help="make everything anew, CA included")
    parser.set_defaults(run=_pki)


def _kme_name(text: str) -> KmeName:
    try:
        return parse_kme_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _pki(arguments: argparse.Namespace) -> int:
    saes = [name for names in arguments.sae for name in names]
    result = make_pki(
        arguments.out,
        kmes=arguments.kme,
        saes=saes,
        force=arguments.force,
        days=arguments.days,
    )
    print(f"{arguments.out}: made {', '.join(result.made) or 'nothing'}")
    if result.kept:
        print(f"{arguments.out}: kept {', '.join(result.kept)}")
    return 0
