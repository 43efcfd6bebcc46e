"""``qsgw-kme``: the key side. Exit codes: 0 done, 1 failed (one line on stderr), 2 usage."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from kms_client.errors import QsgwError
from qkd_adapters.commands import (
    channel,
    device,
    get,
    kmectl,
    link,
    linkctl,
    pki,
    plan,
    presets,
    probe,
    serve,
)

# In the order of ``--help``. Each module adds its parser and names the function to run.
GROUPS = (
    serve,
    link,
    linkctl,
    device,
    channel,
    kmectl,
    get,
    pki,
    probe,
    plan,
    presets,
)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = build_parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except QsgwError as error:
        print(f"qsgw-kme: {error}", file=sys.stderr)
        return 1


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="qsgw-kme", description="Key-management entity and emulated QKD link."
    )
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for group in GROUPS:
        group.add_parser(subparsers)
    return parser


if __name__ == "__main__":
    sys.exit(main())
