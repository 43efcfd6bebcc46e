"""``qsgw-kme channel`` and ``channelctl``: the simulated optics between two devices."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from qkd_adapters import control
from qkd_adapters.commands.groups import Subparsers
from qkd_adapters.commands.output import print_json
from qkd_adapters.commands.process import run_service
from qkd_adapters.errors import ControlRequestError


def add_parser(subparsers: Subparsers) -> None:
    channel = subparsers.add_parser("channel", help="play the optics between two QKD devices")
    channel.add_argument("--config", type=Path, required=True, metavar="FILE")
    channel.set_defaults(run=_channel)
    _add_channelctl(subparsers.add_parser("channelctl", help="attack or disturb a running channel"))


def _add_channelctl(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--socket", metavar="PATH", help="of the channel; all but list need it")
    actions = parser.add_subparsers(required=True, dest="action", metavar="ACTION")
    start = actions.add_parser("attack", help="start an attack, or change its parameters")
    start.add_argument("words", nargs="+", metavar="NAME [PARAMETER=VALUE]")
    stop = actions.add_parser("stop", help="stop one attack, or all")
    stop.add_argument("words", nargs="*", metavar="NAME")
    actions.add_parser("list", help="what attacks there are, with their parameters")
    script = actions.add_parser("script", help="run a timeline of attacks")
    script.add_argument("file", type=Path, metavar="FILE")
    drift = actions.add_parser("drift", help="set how the link drifts by itself")
    drift.add_argument("words", nargs=1, metavar="PROFILE")
    loss = actions.add_parser("loss", help="set the loss of the fibre")
    loss.add_argument("words", nargs=1, metavar="DB")
    actions.add_parser("cut", help="cut the fibre")
    actions.add_parser("heal", help="undo cut")
    status = actions.add_parser("status", help="show the channel")
    status.add_argument("--json", action="store_true")
    parser.set_defaults(run=_channelctl, words=[], json=False)


def _channel(arguments: argparse.Namespace) -> int:
    from qkd_adapters.channel.config import load_channel  # noqa: PLC0415  (numpy)
    from qkd_adapters.channel.service import run_channel  # noqa: PLC0415

    settings = load_channel(arguments.config)
    return run_service(lambda ready, stop: run_channel(settings, ready=ready, stop=stop))


def _channelctl(arguments: argparse.Namespace) -> int:
    if arguments.action == "list":
        return _list()
    if arguments.socket is None:
        raise ControlRequestError("--socket PATH of the channel is missing")
    words = arguments.words
    if arguments.action == "script":
        try:
            words = [arguments.file.read_text(encoding="utf-8")]
        except (OSError, UnicodeDecodeError) as error:
            raise ControlRequestError(f"{arguments.file}: {error}") from error
    answer = control.request(arguments.socket, [arguments.action, *words])
    if arguments.json:
        print_json(answer)
    else:
        _print_channel(answer)
    return 0


def _list() -> int:
    from qkd_adapters.optics.attacks import ATTACKS, parameters_of  # noqa: PLC0415  (numpy)

    for name, kind in ATTACKS.items():
        print(f"{name}: {kind.help}{' (benign)' if kind.benign else ''}")
        for parameter in parameters_of(name):
            allowed = ", ".join(parameter.words) or (
                f"{parameter.low:g} to {parameter.high:g}" if parameter.high else "true, false"
            )
            unit = f" {parameter.unit}" if parameter.unit else ""
            print(f"  {parameter.name}={parameter.default}{unit} ({allowed}): {parameter.help}")
        print(f"  moves: {'; '.join(kind.moves)}")
    return 0


def _print_channel(status: dict[str, Any]) -> None:
    print(
        f"channel {status['name']}: {status['model']} ({status['protocol']}), "
        f"{status['loss_db']:g} dB, drift {status['drift']}, block {status['block']}"
    )
    for attack in status["attacks"]:
        parameters = " ".join(f"{key}={value}" for key, value in attack["parameters"].items())
        print(f"  attack: {attack['name']} {parameters} since block {attack['since_block']}")
    if status["script_steps_left"]:
        print(f"  script: {status['script_steps_left']} steps left")
    for role, facts in status["devices"].items():
        state = "connected" if facts["connected"] else "not connected"
        print(f"  {role}  {state}, {facts['sent']} blocks sent, {facts['lost']} lost")
