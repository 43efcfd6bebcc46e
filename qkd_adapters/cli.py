"""``qsgw-kme``: the key side. Exit codes: 0 done, 1 failed (one line on stderr), 2 usage."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from kms_client.errors import QsgwError
from kms_client.notify import ServiceManager
from kms_client.tls import TlsFiles
from qkd_adapters import control
from qkd_adapters.config import load_kme, load_link
from qkd_adapters.faults import Fault
from qkd_adapters.logs import set_up_logging
from qkd_adapters.pki import LEAF_DAYS, KmeName, make_pki, parse_kme_name

_Service = Callable[[asyncio.Event, asyncio.Event], Awaitable[None]]


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
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="run a KME (ETSI GS QKD 014 server)")
    serve.add_argument("--config", type=Path, required=True, metavar="FILE")
    serve.set_defaults(run=_serve)

    link = commands.add_parser("link", help="run the emulated QKD link between two KMEs")
    link.add_argument("--config", type=Path, required=True, metavar="FILE")
    link.add_argument(
        "--record-keys",
        type=Path,
        metavar="FILE",
        help="write every key to FILE (only with QSGW_LAB=1 in the environment)",
    )
    link.set_defaults(run=_link)

    _add_linkctl(commands.add_parser("linkctl", help="control a running link"))
    _add_kmectl(commands.add_parser("kmectl", help="ask or disturb a running KME"))
    _add_get(commands.add_parser("get", help="take keys from a KME, for a peer that cannot"))
    _add_pki(commands.add_parser("pki", help="make a CA and certificates for KMEs and SAEs"))
    return parser


def _add_linkctl(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--socket", required=True, metavar="PATH")
    actions = parser.add_subparsers(required=True, dest="action", metavar="ACTION")
    actions.add_parser("cut", help="interrupt the quantum channel: no new keys")
    actions.add_parser("heal", help="undo cut")
    rate = actions.add_parser("rate", help="set the key rate")
    rate.add_argument("words", nargs=1, metavar="N", help="256-bit keys per second")
    suspect = actions.add_parser("suspect", help="raise an eavesdropping alarm")
    suspect.add_argument("words", nargs="*", metavar="TEXT")
    actions.add_parser("clear", help="withdraw every eavesdropping alarm")
    status = actions.add_parser("status", help="show the link")
    status.add_argument("--json", action="store_true")
    parser.set_defaults(run=_linkctl, words=[], json=False)


def _add_kmectl(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--socket", required=True, metavar="PATH")
    actions = parser.add_subparsers(required=True, dest="action", metavar="ACTION")
    fault = actions.add_parser("fault", help="switch a fault of the KME on or off")
    fault.add_argument("words", nargs=1, choices=[*Fault], metavar="NAME", help=", ".join(Fault))
    fault.add_argument("switch", choices=["on", "off"])
    status = actions.add_parser("status", help="show stores, accounting and link")
    status.add_argument("--json", action="store_true")
    parser.set_defaults(run=_kmectl, words=[], switch=None, json=False)


def _add_get(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", required=True, metavar="https://ADDRESS:PORT")
    for name, what in (("ca", "that signs the KME"), ("certificate", "ours"), ("key", "ours")):
        parser.add_argument(f"--{name}", type=Path, required=True, metavar="FILE", help=what)
    parser.add_argument("--peer", required=True, metavar="SAE", help="SAE at the other end")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "key_ids", nargs="*", metavar="KEY_ID", help="keys the peer was given; none = a new key"
    )
    parser.set_defaults(run=_get)


def _add_pki(parser: argparse.ArgumentParser) -> None:
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


# --- long-running commands ---------------------------------------------------------------


def _serve(arguments: argparse.Namespace) -> int:
    from qkd_adapters.kme import run_kme  # noqa: PLC0415  (aiohttp takes 160 ms to import)

    settings = load_kme(arguments.config)
    return _run_service(lambda ready, stop: run_kme(settings, ready=ready, stop=stop))


def _link(arguments: argparse.Namespace) -> int:
    from qkd_adapters.link import run_link  # noqa: PLC0415  (as above: keep the rest light)

    settings = load_link(arguments.config)
    record_keys: Path | None = arguments.record_keys
    return _run_service(
        lambda ready, stop: run_link(settings, record_keys=record_keys, ready=ready, stop=stop)
    )


def _run_service(service: _Service) -> int:
    """Run until SIGTERM or SIGINT; tell the service manager when ready."""
    set_up_logging()

    async def run() -> None:
        ready, stop = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signal_number, stop.set)
        announcer = asyncio.create_task(_announce(ready))
        try:
            await service(ready, stop)
        finally:
            announcer.cancel()
            ServiceManager().tell("STOPPING=1")

    asyncio.run(run())
    return 0


async def _announce(ready: asyncio.Event) -> None:
    await ready.wait()
    ServiceManager().tell("READY=1")


# --- commands to running processes -------------------------------------------------------


def _linkctl(arguments: argparse.Namespace) -> int:
    answer = control.request(arguments.socket, [arguments.action, *arguments.words])
    if arguments.json:
        _print_json(answer)
    else:
        _print_link(answer)
    return 0


def _kmectl(arguments: argparse.Namespace) -> int:
    switch = [arguments.switch] if arguments.switch else []
    answer = control.request(arguments.socket, [arguments.action, *arguments.words, *switch])
    if arguments.json:
        _print_json(answer)
    elif arguments.action == "fault":
        print("faults on: " + (", ".join(answer) or "none"))
    else:
        _print_kme(answer)
    return 0


def _print_json(answer: Any) -> None:
    print(msgspec.json.format(msgspec.json.encode(answer), indent=2).decode())


def _print_link(status: dict[str, Any]) -> None:
    print(
        f"link {status['name']}: {status['state']} since {status['since']}, "
        f"{status['key_rate']:g} keys/s"
    )
    for alarm in status["alarms"]:
        print(f"  alarm: {alarm}")
    for side, facts in status["sides"].items():
        state = "connected" if facts["connected"] else "not connected"
        print(f"  {side}  {facts['listen']}  {state}")
    for entry in status["directions"]:
        room = ", ".join(f"{side} {count}" for side, count in entry["room"].items())
        print(
            f"  {entry['master']} -> {entry['slave']}  handed over {entry['handed_over']}, "
            f"discarded {entry['discarded']}, room: {room}"
        )


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
    if status["faults"]:
        print("  faults on: " + ", ".join(status["faults"]))


def _get(arguments: argparse.Namespace) -> int:
    from qkd_adapters.get import get_keys  # noqa: PLC0415  (as above)

    files = TlsFiles(ca=arguments.ca, certificate=arguments.certificate, key=arguments.key)
    wanted = get_keys(arguments.url, files, arguments.peer, arguments.key_ids, arguments.out)
    for path in asyncio.run(wanted):
        print(path)
    return 0


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


if __name__ == "__main__":
    sys.exit(main())
