"""``qsgw-kme kmectl``: ask or disturb a running KME."""

from __future__ import annotations

import argparse
from typing import Any

from qkd_adapters import control
from qkd_adapters.commands.groups import Subparsers
from qkd_adapters.commands.output import print_json
from qkd_adapters.kme.faults import Fault
from qkd_adapters.kme.quirk_names import Quirk


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser("kmectl", help="ask or disturb a running KME")
    parser.add_argument("--socket", required=True, metavar="PATH")
    actions = parser.add_subparsers(required=True, dest="action", metavar="ACTION")
    for action, names, what in (
        ("fault", [*Fault], "a fault of the KME"),
        ("quirk", [*Quirk], "a way of working that real KMEs have"),
    ):
        switch = actions.add_parser(action, help=f"switch {what} on or off")
        switch.add_argument("words", nargs=1, choices=names, metavar="NAME", help=", ".join(names))
        switch.add_argument("switch", choices=["on", "off"])
    status = actions.add_parser("status", help="show stores, accounting and link")
    status.add_argument("--json", action="store_true")
    parser.set_defaults(run=_kmectl, words=[], switch=None, json=False)


def _kmectl(arguments: argparse.Namespace) -> int:
    switch = [arguments.switch] if arguments.switch else []
    answer = control.request(arguments.socket, [arguments.action, *arguments.words, *switch])
    if arguments.json:
        print_json(answer)
    elif arguments.action in ("fault", "quirk"):
        print(f"{arguments.action}s on: " + (", ".join(answer) or "none"))
    else:
        _print_kme(answer)
    return 0


def _print_kme(status: dict[str, Any]) -> None:
    link = status["link"]
    print(f"KME {status['kme']}: link to {status['peer']} {link['state']} since {link['since']}")
    for alarm in link["alarms"]:
        print(f"  alarm: {alarm}")
    for entry in status["directions"]:
        account = entry["accounting"]
        print(
            f"  {entry['master']} -> {entry['slave']}  stored {entry['stored']}, "
            f"awaiting slave {entry['awaiting']}, delivered {account['delivered_master']}"
            f"/{account['delivered_slave']}, expired {account['expired']}"
        )
        if account["quarantined"] or account["delivered_suspect"]:
            print(
                f"      quarantined {account['quarantined']}, "
                f"delivered before that {account['delivered_suspect']}"
            )
    if status["faults"]:
        print("  faults on: " + ", ".join(status["faults"]))
    if status["quirks"]:
        print("  quirks on: " + ", ".join(status["quirks"]))
