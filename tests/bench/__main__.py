"""``make bench``: the figures of one run on this machine, beside what we aim for.

Figures of one run compare with each other; between machines only their ratios do.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from tests.bench import cli, devices, flood, handshake, keys, macsec, memory, rates
from tests.bench.figures import REPOSITORY, Figure, machine, table

PARTS = {
    "handshake": handshake,
    "flood": flood,
    "keys": keys,
    "cli": cli,
    "memory": memory,
    "rates": rates,
    "devices": devices,
    "macsec": macsec,
}
REPORT = REPOSITORY / "build" / "bench" / "report.json"


def main() -> None:
    """Run every part, or those named on the command line."""
    figures: list[Figure] = []
    for name in sys.argv[1:] or PARTS:
        print(f"bench: {name} ...", file=sys.stderr, flush=True)
        figures += PARTS[name].run()
    print(machine())
    print(table(figures))
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    report = {"schema": 1, "machine": machine(), "figures": [asdict(each) for each in figures]}
    REPORT.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
