"""``qsgw-kme linkctl``: control a running link."""

from __future__ import annotations

import argparse
from typing import Any

from qkd_adapters import control
from qkd_adapters.commands.groups import Subparsers
from qkd_adapters.commands.output import print_json


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser("linkctl", help="control a running link")
    parser.add_argument("--socket", required=True, metavar="PATH")
    actions = parser.add_subparsers(required=True, dest="action", metavar="ACTION")
    actions.add_parser("cut", help="interrupt the quantum channel: no new keys")
    actions.add_parser("heal", help="undo cut")
    rate = actions.add_parser("rate", help="set the key rate")
    rate.add_argument("words", nargs=1, metavar="N", help="256-bit keys per second")
    suspect = actions.add_parser(
        "suspect", help="raise an eavesdropping alarm; keys made since the last good moment go"
    )
    suspect.add_argument(
        "--since", metavar="SECONDS", help="how long ago all was last well (default 0)"
    )
    suspect.add_argument("words", nargs="*", metavar="TEXT")
    actions.add_parser("clear", help="withdraw every eavesdropping alarm")
    status = actions.add_parser("status", help="show the link")
    status.add_argument("--json", action="store_true")
    parser.set_defaults(run=_linkctl, words=[], since=None, json=False)


def _linkctl(arguments: argparse.Namespace) -> int:
    since = [] if arguments.since is None else ["--since", arguments.since]
    answer = control.request(arguments.socket, [arguments.action, *since, *arguments.words])
    if arguments.json:
        print_json(answer)
    else:
        _print_link(answer)
    return 0


def _print_link(status: dict[str, Any]) -> None:
    print(
        f"link {status['name']}: {status['state']} since {status['since']}, "
        f"{status['key_rate']:g} keys/s"
    )
    for alarm in status["alarms"]:
        print(f"  alarm: {alarm}")
    if status["suspect_age"] is not None:
        print(f"  last good {status['suspect_age']:.1f} s ago")
    if status["quarantined"]:
        print(f"  keys quarantined so far: {status['quarantined']}")
    for side, facts in status["sides"].items():
        state = "connected" if facts["connected"] else "not connected"
        print(f"  {side}  {facts['listen']}  {state}")
    for entry in status["directions"]:
        room = ", ".join(f"{side} {count}" for side, count in entry["room"].items())
        print(
            f"  {entry['master']} -> {entry['slave']}  handed over {entry['handed_over']}, "
            f"discarded {entry['discarded']}, room: {room}"
        )
