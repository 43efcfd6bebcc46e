"""``qsgw-kme plan``: what a device would do on a fibre."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from qkd_adapters.commands.groups import Subparsers
from qkd_adapters.commands.output import print_json
from qkd_adapters.errors import PlanError

if TYPE_CHECKING:
    from qkd_adapters.plan import PlanPoint


def add_parser(subparsers: Subparsers) -> None:
    plan = subparsers.add_parser(
        "plan",
        help="error rate and key rate of a device on a fibre",
        description="Of the models of the emulated devices; see `qsgw-kme presets`.",
    )
    plan.add_argument("presets", nargs="+", metavar="PRESET")
    where = plan.add_mutually_exclusive_group()
    where.add_argument("--distance", nargs="+", type=float, metavar="KM")
    where.add_argument("--loss", nargs="+", type=float, metavar="DB")
    plan.add_argument(
        "--block-bits",
        type=float,
        default=None,
        metavar="N",
        help="sifted bits (CV: symbols) in a block of the finite rate; default 1e7, at most 1 h",
    )
    plan.add_argument("--json", action="store_true")
    plan.add_argument(
        "--picture", type=Path, metavar="FILE", help="rates and QBER against loss, .png or .svg"
    )
    plan.set_defaults(run=_plan)


def _plan(arguments: argparse.Namespace) -> int:
    try:
        from qkd_adapters.optics.presets import preset  # noqa: PLC0415  (numpy takes 100 ms)
        from qkd_adapters.plan import BLOCK_BITS, plan  # noqa: PLC0415
    except ImportError as error:
        raise PlanError("plans need numpy: install qsgw[lab]") from error

    bits = BLOCK_BITS if arguments.block_bits is None else int(arguments.block_bits)
    found: dict[str, tuple[PlanPoint, ...]] = {}
    try:
        models = [preset(name) for name in arguments.presets]
        for model in models:
            found[model.name] = plan(
                model, losses=arguments.loss, distances=arguments.distance, block_bits=bits
            )
        if arguments.picture:
            from qkd_adapters.plan_picture import draw  # noqa: PLC0415  (matplotlib: a second)

            draw(models, arguments.picture, block_bits=bits)
    except ValueError as error:
        raise PlanError(str(error)) from error
    if arguments.json:
        print_json(
            [
                {
                    "preset": model.name,
                    "protocol": model.protocol,
                    "provenance": model.provenance,
                    "points": [asdict(point) for point in found[model.name]],
                }
                for model in models
            ]
        )
        return 0
    for model in models:
        print(f"{model.name} ({model.protocol}; {model.provenance})")
        print(
            f"  {'loss':>8} {'distance':>9} {'QBER':>7} {'sifted':>12} {'secret':>12}"
            f" {'finite':>12} {'block':>9} {'256-bit key':>12}"
        )
        for point in found[model.name]:
            print("  " + _row(point))
    if arguments.picture:
        print(f"{arguments.picture}: written")
    return 0


def _row(point: PlanPoint) -> str:
    distance = "-" if point.distance_km is None else f"{point.distance_km:.1f} km"
    return (
        f"{point.loss_db:5.1f} dB {distance:>9} {100 * point.qber:5.2f} %"
        f" {_bits(point.sifted_rate):>12} {_bits(point.secret_rate_asymptotic):>12}"
        f" {_bits(point.secret_rate_finite):>12} {_time(point.block_seconds):>9}"
        f" {'no key' if point.key_seconds is None else 'every ' + _time(point.key_seconds):>12}"
    )


def _bits(rate: float) -> str:
    for factor, unit in ((1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s")):
        if rate >= factor:
            return f"{rate / factor:.3g} {unit}"
    return f"{rate:.3g} bit/s"


def _time(seconds: float) -> str:
    if seconds < 1.0:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 600 else f"{seconds / 60:.3g} min"
