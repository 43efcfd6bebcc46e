"""``qsgw``: the operator's command.

Starts quickly: heavy modules are imported by the verb that needs them; ``status`` needs none.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from gateway import __version__
from gateway.control import commands, pki
from gateway.control.protocol import DEFAULT_SOCKET, SCHEMA, ExitCode, Verb
from gateway.control.text import clean
from gateway.errors import ControlError, QsgwError

DEFAULT_CONFIG = "/etc/qsgw/qsgw.toml"


class _Parser(argparse.ArgumentParser):
    """Reports wrong usage like every other error, so that ``--json`` holds there too."""

    def error(self, message: str) -> NoReturn:
        raise ControlError(f"{message}\n{self.format_usage().strip()}", ExitCode.USAGE)


def main(argv: list[str] | None = None) -> None:
    """Entry point. Exits with an ExitCode; the user never sees a traceback."""
    argv = sys.argv[1:] if argv is None else argv
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that is not UTF-8
    try:
        code = _run(argv)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = ExitCode.OK
    sys.exit(code)


def _run(argv: list[str]) -> int:
    as_json = "--json" in argv
    try:
        arguments = _parser().parse_args(argv)
        return int(arguments.run(arguments))
    except ControlError as error:
        return _fail(str(error), error.exit_code, as_json=as_json)
    except QsgwError as error:
        return _fail(str(error), ExitCode.FAILED, as_json=as_json)
    except KeyboardInterrupt:
        return 130  # 128 + SIGINT, as shells count
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001  one line instead of a traceback
        return _fail(f"internal error: {error!r}", ExitCode.FAILED, as_json=as_json)


def _fail(message: str, code: int, *, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"schema": SCHEMA, "error": message, "exit_code": int(code)}))
    else:
        text = "\n".join(clean(line) for line in message.splitlines())
        print(f"qsgw: {text}", file=sys.stderr)
    return int(code)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="qsgw",
        description="Shows and steers the hybrid quantum-safe VPN gateway (qsgwd).",
        epilog="Exit: 0 ok, 1 failed, 2 usage, 3 daemon unreachable, 4 not found, 5 degraded.",
    )
    _common(parser, socket=DEFAULT_SOCKET, as_json=False)
    parser.set_defaults(run=commands.status, check=False, tunnel=None)
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", parser_class=_Parser)

    def verb(name: str, summary: str) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=summary, description=summary)
        _common(added, socket=argparse.SUPPRESS, as_json=argparse.SUPPRESS)
        return added

    status = verb("status", "show tunnels, MACsec links, keys and alarms (the default)")
    status.add_argument(
        "--check", action="store_true", help="one line; exit 5 unless all is as it should be"
    )
    status.add_argument("tunnel", nargs="?", metavar="NAME")
    status.set_defaults(run=commands.status)
    sas = verb("sas", "show IKE, ESP and MACsec security associations")
    sas.add_argument("tunnel", nargs="?", metavar="NAME")
    sas.set_defaults(run=commands.sas)
    macsec = verb("macsec", "show MACsec links: CAKs, members, SAKs, counters")
    macsec.add_argument("tunnel", nargs="?", metavar="LINK")
    macsec.set_defaults(run=commands.macsec)
    verb("keys", "show QKD keys and KMEs").set_defaults(run=commands.keys)
    verb("monitor", "show events as they happen").set_defaults(run=commands.monitor)
    for name, summary in (
        (Verb.REKEY, "rekey a tunnel now; of a MACsec link, what gives its CAKs"),
        (Verb.INITIATE, "set a tunnel up now"),
        (Verb.TERMINATE, "take a tunnel down; its traffic is then dropped"),
    ):
        action = verb(name.value, summary)
        action.add_argument("tunnel", metavar="NAME")
        action.set_defaults(run=commands.act, verb=name)
        if name is Verb.REKEY:
            _add_rekey_kinds(action)
    verb("reload", "read the configuration again").set_defaults(run=commands.act, verb=Verb.RELOAD)
    _add_config(verb)
    doctor = verb("doctor", "check this machine, without the daemon")
    doctor.add_argument("--config", default=DEFAULT_CONFIG, metavar="FILE")
    doctor.set_defaults(run=commands.doctor)
    pki.add_parser(
        verb("pki", "make certificates for gateways and KME clients"),
        lambda added: _common(added, socket=argparse.SUPPRESS, as_json=argparse.SUPPRESS),
    )
    verb("version", "show the version of qsgw and of the daemon").set_defaults(
        run=commands.version, client_version=__version__
    )
    return parser


def _common(parser: argparse.ArgumentParser, *, socket: str, as_json: bool | str) -> None:
    """Options that may stand before or after the verb."""
    parser.add_argument(
        "--socket", default=socket, metavar="PATH", help=f"control socket ({DEFAULT_SOCKET})"
    )
    parser.add_argument(
        "--json", action="store_true", default=as_json, help="machine-readable output"
    )


def _add_rekey_kinds(rekey: argparse.ArgumentParser) -> None:
    kinds = rekey.add_mutually_exclusive_group()
    for flag, verb, text in (
        ("--ike", Verb.REKEY_IKE, "its IKE SA; ESP goes on with the keys it has"),
        ("--sak", Verb.REKEY_SAK, "of a MACsec link: a new SAK under the CAK it has"),
    ):
        kinds.add_argument(flag, dest="verb", action="store_const", const=verb, help=text)


def _add_config(verb: Callable[[str, str], argparse.ArgumentParser]) -> None:
    actions = verb("config", "work with configuration files").add_subparsers(
        metavar="ACTION", required=True, parser_class=_Parser
    )
    check = actions.add_parser("check", help="check a configuration file as a whole")
    _common(check, socket=argparse.SUPPRESS, as_json=argparse.SUPPRESS)
    check.add_argument("file", nargs="?", default=DEFAULT_CONFIG, metavar="FILE")
    check.add_argument(
        "--peer", metavar="FILE", help="also what its MACsec links do not agree on with this file"
    )
    check.set_defaults(run=commands.config_check)


if __name__ == "__main__":
    main()
