"""``qsgw-kme device`` and ``devicectl``: one QKD device, and what its maker ships with it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from qkd_adapters import control
from qkd_adapters.commands.groups import Subparsers
from qkd_adapters.commands.output import print_json
from qkd_adapters.commands.process import run_service
from qkd_adapters.config_file import parse_duration

DEFAULT_REGIONS = 1024


def add_parser(subparsers: Subparsers) -> None:
    device = subparsers.add_parser("device", help="run a QKD device, Alice or Bob")
    device.add_argument("--config", type=Path, required=True, metavar="FILE")
    device.add_argument(
        "--record-keys",
        type=Path,
        metavar="FILE",
        help="write every key Alice makes to FILE (only with QSGW_LAB=1 in the environment)",
    )
    device.set_defaults(run=_device)
    pair = subparsers.add_parser(
        "pair", help="make what a pair of devices is shipped with: datasheet, calibration, secret"
    )
    pair.add_argument("--preset", required=True, metavar="NAME")
    pair.add_argument("--out", type=Path, required=True, metavar="DIR")
    pair.add_argument(
        "--loss", type=float, metavar="DB", help="of the fibre; default: the preset's"
    )
    pair.add_argument("--block", type=_seconds, default=1.0, metavar="TIME", help="light per block")
    pair.add_argument("--blocks", type=int, default=600, help="to calibrate with")
    pair.add_argument("--drift", default="stationary", metavar="PROFILE")
    pair.add_argument(
        "--regions", type=int, default=DEFAULT_REGIONS, help="restarts the secret is good for"
    )
    pair.set_defaults(run=_pair)
    _add_devicectl(subparsers.add_parser("devicectl", help="ask a running QKD device"))


def _add_devicectl(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--socket", required=True, metavar="PATH")
    actions = parser.add_subparsers(required=True, dest="action", metavar="ACTION")
    status = actions.add_parser("status", help="show the device and its link")
    status.add_argument("--json", action="store_true")
    actions.add_parser("calibrate", help="take the blocks to come for normal (Alice)")
    parser.set_defaults(run=_devicectl, json=False)


def _seconds(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _device(arguments: argparse.Namespace) -> int:
    from qkd_adapters.device.config import load_device  # noqa: PLC0415  (numpy)
    from qkd_adapters.device.service import run_device  # noqa: PLC0415

    settings = load_device(arguments.config)
    record_keys: Path | None = arguments.record_keys
    return run_service(
        lambda ready, stop: run_device(settings, record_keys=record_keys, ready=ready, stop=stop)
    )


def _pair(arguments: argparse.Namespace) -> int:
    from qkd_adapters.factory import Order, ship  # noqa: PLC0415  (numpy)

    order = Order(
        preset=arguments.preset,
        loss_db=arguments.loss,
        block=arguments.block,
        blocks=arguments.blocks,
        drift=arguments.drift,
    )
    for path in ship(order, arguments.out, regions=arguments.regions):
        print(path)
    return 0


def _devicectl(arguments: argparse.Namespace) -> int:
    answer = control.request(arguments.socket, [arguments.action])
    if arguments.json:
        print_json(answer)
    else:
        for line in describe(answer):
            print(line)
    return 0


def describe(status: dict[str, Any]) -> list[str]:
    """A device's status in lines for the operator."""
    head = f"{status['role']} of {status['link']}: {status['state']} since {status['since']}"
    lines = [f"{head}, {status['model']} ({status['protocol']})"]
    lines += [f"  alarm: {alarm}" for alarm in status["alarms"]]
    last = status.get("last")
    if last is not None:
        lines.append(_block(last))
        rates = status["rates"]
        lines.append(
            f"  sifted {rates['sifted'] / 1000:.1f} kbit/s, secret "
            f"{rates['secret_bits'] / 1000:.2f} kbit/s, keys {rates['keys']:.1f}/s"
        )
    delivery = status["delivery"]
    lines.append(f"  keys handed over {delivery['handed_over']}, waiting {delivery['waiting']}")
    stock = status["authentication"]
    lines.append(
        f"  authentication key: {stock['left_send']} bits to send, {stock['left_receive']} to "
        f"receive, {stock['bootstrap_regions_left']} bootstrap regions left"
    )
    channel = status["classical"]
    if channel["up"]:
        lines.append(f"  classical channel up, {channel['round_trip_ms']:g} ms")
    else:
        lines.append(f"  classical channel down: {channel['trouble']}")
    return lines


def _block(last: dict[str, Any]) -> str:
    gains = ", ".join(f"{name} {gain:.3g}" for name, gain in last["gains"].items())
    text = f"  block {last['block']}: {last['detections']} detections, gains {gains}"
    if last.get("sifted"):
        text += (
            f"; QBER Z {last['qber_z']:.2%} X {last['qber_x']:.2%}, "
            f"{last['secret_bits']} of {last['sifted']} bits secret"
        )
    if last.get("reason"):
        text += f" ({last['reason']})"
    return text
