"""What the maker of a device pair ships with it: the datasheet, the calibration, the secret.

The calibration is made as a maker makes it, with a known good fibre of the wanted loss and
nobody on it, so it looks into the simulated optics; the key path never imports this.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from qkd_adapters.detection import telemetry
from qkd_adapters.detection.baseline import Baseline, calibrate
from qkd_adapters.detection.telemetry import BlockTelemetry
from qkd_adapters.device.bootstrap import make_psk
from qkd_adapters.device.datasheet import level_names
from qkd_adapters.errors import FactoryError
from qkd_adapters.optics.drift import drift
from qkd_adapters.optics.model import LinkModel
from qkd_adapters.optics.presets import preset
from qkd_adapters.optics.sampler import Exposure, expose
from qkd_adapters.records import Monitor

# From one block of the calibration to the next, at least: the maker takes hours over it, so that
# what wanders slowly has been everywhere it goes. Seconds; the slow things take 600 to 3600.
SPACING = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A pair of devices for one link. ``block`` in seconds of light."""

    preset: str
    loss_db: float | None = None
    block: float = 1.0
    blocks: int = 600
    drift: str = "stationary"


def ordered_model(order: Order) -> LinkModel:
    """Raises FactoryError."""
    try:
        model = preset(order.preset)
        return model if order.loss_db is None else model.with_loss(order.loss_db)
    except ValueError as error:
        raise FactoryError(str(error)) from error


def datasheet(model: LinkModel) -> str:
    """TOML for both devices."""
    lines = [
        f"# {model.name}, {model.provenance}",
        "[pair]",
        f'model = "{model.name}"',
        f'protocol = "{model.protocol.value}"',
        f"intensities = {_floats(model.intensities)}",
        f"probabilities = {_floats(model.probabilities)}",
        f"p_z = {model.p_z!r}",
    ]
    if model.gaussian is not None:
        lines += [
            f"modulation = {model.gaussian.modulation!r}",
            f"efficiency = {model.eta_bob * model.eta_det!r}",
            f"electronic_noise = {model.gaussian.electronic_noise!r}",
            f'detection = "{"heterodyne" if model.gaussian.heterodyne else "homodyne"}"',
        ]
    return "\n".join(lines) + "\n"


def calibration(order: Order, rng: np.random.Generator) -> Baseline:
    """The record of ``order.blocks`` blocks. Raises FactoryError, BaselineError."""
    model = ordered_model(order)
    spacing = max(order.block, SPACING)
    try:
        weather = drift(order.drift, rng, model)
        blocks = [
            _telemetry(
                number, expose(model, weather.conditions(number * spacing), order.block, rng)
            )
            for number in range(order.blocks)
        ]
    except ValueError as error:
        raise FactoryError(str(error)) from error
    return calibrate(blocks)


def _telemetry(number: int, exposure: Exposure) -> BlockTelemetry:
    """What the devices would report of this block."""
    model = exposure.model
    z0, z1, x0, x1 = exposure.detector_clicks
    return BlockTelemetry(
        block=number,
        seconds=exposure.seconds,
        pulses=exposure.pulses,
        protocol=telemetry.Protocol(model.protocol.value),
        levels=tuple(
            telemetry.Level(
                name=name,
                mean_photons=mean,
                sent=level.sent,
                clicks=level.clicks,
                tested_z=level.sifted_z,
                errors_z=level.errors_z,
                tested_x=level.sifted_x,
                errors_x=level.errors_x,
            )
            for name, mean, level in zip(
                level_names(model.intensities), model.intensities, exposure.levels(), strict=True
            )
        ),
        detector_clicks=(z0, z1, x0, x1),
        double_clicks=exposure.double_clicks,
        arrival_mean=exposure.arrival_mean,
        arrival_std=exposure.arrival_std,
        sender=_monitor(exposure.alice),
        receiver=_monitor(exposure.bob),
    )


def _monitor(monitor: Monitor) -> telemetry.Monitor:
    return telemetry.Monitor(
        photocurrent=monitor.photocurrent,
        efficiency_check=monitor.efficiency_check,
        input_power=monitor.input_power,
        source_power=monitor.source_power,
        temperature=monitor.temperature,
        sync_offset=monitor.sync_offset,
        visibility=monitor.visibility,
        shot_noise=monitor.shot_noise,
    )


def _floats(values: tuple[float, ...]) -> str:
    return "[" + ", ".join(repr(float(value)) for value in values) + "]"


def ship(order: Order, directory: Path, *, regions: int) -> tuple[Path, ...]:
    """Write ``pair.toml``, ``baseline.json`` and ``pair.psk``. Raises QsgwError."""
    if regions < 1:
        raise FactoryError(f"a secret of {regions} regions")
    sheet = datasheet(ordered_model(order))
    baseline = calibration(order, np.random.default_rng())
    paths = tuple(directory / name for name in ("pair.toml", "baseline.json", "pair.psk"))
    try:
        directory.mkdir(parents=True, exist_ok=True)
        paths[0].write_text(sheet, encoding="utf-8")
        paths[1].write_bytes(msgspec.json.format(msgspec.json.encode(baseline.to_dict()), indent=2))
    except OSError as error:
        raise FactoryError(f"cannot write to {directory}: {error.strerror}") from error
    make_psk(paths[2], regions)
    return paths
