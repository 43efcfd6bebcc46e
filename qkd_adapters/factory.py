"""What the maker of a device pair ships with it: the datasheet, the calibration, the secret.

The calibration is made as a maker makes it, with a known good fibre of the wanted loss and
nobody on it, so it looks into the simulated optics; the key path never imports this.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from kms_client.secret import Secret
from qkd_adapters.detection import telemetry
from qkd_adapters.detection.baseline import Baseline, calibrate
from qkd_adapters.detection.features import Receiver
from qkd_adapters.detection.telemetry import BlockTelemetry
from qkd_adapters.device.blocks import Run
from qkd_adapters.device.bootstrap import make_psk
from qkd_adapters.device.datasheet import Datasheet, level_names, load_datasheet
from qkd_adapters.device.device import SystemRng
from qkd_adapters.device.observe import Seat, block_telemetry, seen
from qkd_adapters.errors import FactoryError
from qkd_adapters.optics.drift import drift
from qkd_adapters.optics.model import LinkModel
from qkd_adapters.optics.presets import preset
from qkd_adapters.optics.sampler import Exposure, detections, expose
from qkd_adapters.postprocessing.blocks import Block, End, LinkEnd, Outcome
from qkd_adapters.postprocessing.settings import Settings
from qkd_adapters.records import Monitor, Protocol

# From one block of the calibration to the next, at least: the maker takes hours over it, so that
# what wanders slowly has been everywhere it goes. Seconds; the slow things take 600 to 3600.
SPACING = 60.0
_BENCH_SECRET = 1 << 20  # octets: tags of ten thousand blocks that bring no key


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


def calibration(order: Order, sheet: Datasheet, rng: np.random.Generator) -> Baseline:
    """The record of ``order.blocks`` blocks. Raises FactoryError, BaselineError."""
    model = ordered_model(order)
    spacing = max(order.block, SPACING)
    try:
        weather = drift(order.drift, rng, model)
        exposures = (
            expose(model, weather.conditions(number * spacing), order.block, rng)
            for number in range(order.blocks)
        )
        if model.protocol in {Protocol.DECOY_BB84, Protocol.BB84}:
            blocks = [_counted(number, exposure) for number, exposure in enumerate(exposures)]
        else:
            blocks = list(_bench(sheet, exposures, rng))
    except ValueError as error:
        raise FactoryError(str(error)) from error
    # With the laser off, on the same table.
    dark = Receiver(dark_yield=model.y0, gate=model.detector.gate_ps)
    return calibrate(blocks, dark)


def _bench(
    sheet: Datasheet, exposures: Iterable[Exposure], rng: np.random.Generator
) -> Iterator[BlockTelemetry]:
    """Both devices at work on one table: what they report, whatever the protocol."""
    settings = Settings(link="bench", scheme=sheet.scheme)
    secret = secrets.token_bytes(_BENCH_SECRET)
    alice, bob = (
        LinkEnd(end=end, settings=settings, psk=Secret(secret), rng=SystemRng())
        for end in (End.SENDER, End.RECEIVER)
    )
    for number, exposure in enumerate(exposures):
        sent, received = detections(exposure, rng, block=number)
        outcome = _worked(alice.block(sent), bob.block(received))
        seat = Seat(
            number=number,
            record=sent,
            seen=seen(received, random=True),
            run=Run(outcome=outcome, stall=0.0, busy=0.0, took=0.0),
            classical=telemetry.Classical(efficiency=outcome.efficiency or None),
            random=True,
            bias=0.0,
        )
        yield block_telemetry(sheet, seat)


def _worked(alice: Block, bob: Block) -> Outcome:
    ends = (alice, bob)
    said = [(1, data) for data in alice.start()] + [(0, data) for data in bob.start()]
    while said:
        to, data = said.pop(0)
        said += [(1 - to, answer) for answer in ends[to].handle(data)]
    assert alice.outcome is not None
    return alice.outcome


def _counted(number: int, exposure: Exposure) -> BlockTelemetry:
    """What devices with weak coherent pulses would report: here the counts alone tell it."""
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
    paths = tuple(directory / name for name in ("pair.toml", "baseline.json", "pair.psk"))
    try:
        directory.mkdir(parents=True, exist_ok=True)
        paths[0].write_text(sheet, encoding="utf-8")
        baseline = calibration(order, load_datasheet(paths[0]), np.random.default_rng())
        paths[1].write_bytes(msgspec.json.format(msgspec.json.encode(baseline.to_dict()), indent=2))
    except OSError as error:
        raise FactoryError(f"cannot write to {directory}: {error.strerror}") from error
    make_psk(paths[2], regions)
    return paths
