"""``qsgw-kme presets``: the devices and links that can be emulated."""

from __future__ import annotations

import argparse

from qkd_adapters.commands.groups import Subparsers
from qkd_adapters.commands.output import print_json
from qkd_adapters.errors import PlanError


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser("presets", help="devices and links that can be emulated")
    parser.add_argument("--json", action="store_true")
    parser.set_defaults(run=_presets)


def _presets(arguments: argparse.Namespace) -> int:
    try:
        from qkd_adapters.optics.presets import presets  # noqa: PLC0415  (numpy takes 100 ms)
        from qkd_adapters.plan import plan  # noqa: PLC0415
    except ImportError as error:
        raise PlanError("presets need numpy: install qsgw[lab]") from error
    rows = []
    for model in presets().values():
        point = plan(model)[-1]  # a satellite's: at its highest
        rows.append(
            {
                "name": model.name,
                "protocol": model.protocol,
                "loss_db": round(point.loss_db, 2),
                "distance_km": point.distance_km,
                "qber": point.qber,
                "secret_rate": point.secret_rate_asymptotic,
                "published_secret_rate": model.published.secret_rate,
                "published_qber": model.published.qber,
                "provenance": model.provenance,
            }
        )
    if arguments.json:
        print_json(rows)
        return 0
    for row in rows:
        print(
            f"{row['name']:<22} {row['protocol']:<11} {row['loss_db']:5.1f} dB  {row['provenance']}"
        )
    return 0
