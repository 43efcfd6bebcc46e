"""From what a block was to what the detection is told of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qkd_adapters.detection import telemetry
from qkd_adapters.detection.telemetry import BlockTelemetry, Classical, RandomnessHealth
from qkd_adapters.device.blocks import Run
from qkd_adapters.device.datasheet import Datasheet
from qkd_adapters.device.messages import Seen
from qkd_adapters.postprocessing import messages as wire
from qkd_adapters.postprocessing.errors import PostprocessingError
from qkd_adapters.postprocessing.estimate import Counts, Moments
from qkd_adapters.records import Monitor, Record


def seen(record: Record, *, random: bool) -> Seen:
    """Bob's side of a block, for Alice."""
    arrival = record.columns.get("arrival")
    known = arrival is not None and len(arrival) > 0
    clicks = record.totals.get("clicks", (0, 0, 0, 0))
    return Seen(
        block=record.block,
        start=record.start,
        detections=record.detections,
        double=sum(record.totals.get("double", ())),
        clicks=(clicks[0], clicks[1], clicks[2], clicks[3]),
        arrival_mean=float(arrival.mean()) if arrival is not None and known else 0.0,
        arrival_std=float(arrival.std()) if arrival is not None and known else 0.0,
        monitor=record.monitor,
        random=random,
    )


def bits_unlike(record: Record, detections: bytes) -> NDArray[np.uint8]:
    """Alice's bits of the detections that Bob says he made in the other basis.

    ``detections``: his message about the block, public.
    """
    nothing = np.empty(0, dtype=np.uint8)
    if "bit" not in record.columns:
        return nothing
    try:
        message = wire.decode(detections)
    except PostprocessingError:
        return nothing
    if not isinstance(message, wire.Detections) or not record.detections:
        return nothing
    index = record.columns["index"].astype(np.int64)
    rows = np.minimum(np.searchsorted(index, message.indices), len(index) - 1)
    unlike = (index[rows] == message.indices) & (record.columns["basis"][rows] != message.basis)
    return np.asarray(record.columns["bit"][rows[unlike]], dtype=np.uint8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """What Alice has at hand when a block is over."""

    number: int
    record: Record
    seen: Seen | None  # None: Bob could not be asked
    run: Run | None  # None: the block was not worked on, or was lost
    classical: Classical
    random: bool
    bias: float


def block_telemetry(sheet: Datasheet, seat: Seat) -> BlockTelemetry:
    outcome = seat.run.outcome if seat.run is not None else None
    counts = outcome.counts if outcome is not None else None
    estimate = outcome.estimate if outcome is not None else None
    other = seat.seen
    return BlockTelemetry(
        block=seat.number,
        seconds=seat.record.seconds,
        pulses=seat.record.pulses,
        protocol=telemetry.Protocol(sheet.protocol.value),
        levels=_levels(sheet, seat.record, counts if isinstance(counts, Counts) else None),
        detector_clicks=other.clicks if other is not None else (0, 0, 0, 0),
        double_clicks=other.double if other is not None else 0,
        arrival_mean=other.arrival_mean if other is not None else 0.0,
        arrival_std=other.arrival_std if other is not None else 0.0,
        sender=_monitor(seat.record.monitor),
        receiver=_monitor(other.monitor if other is not None else Monitor()),
        classical=seat.classical,
        randomness=RandomnessHealth(
            sender_ok=seat.random,
            receiver_ok=other is None or other.random,
            bias=seat.bias,
        ),
        samples=counts.count if isinstance(counts, Moments) else 0,
        secret_bits=estimate.secret_bits if estimate is not None else None,
        secret_reason=estimate.reason if estimate is not None else "",
        excess_noise=estimate.excess_noise if estimate is not None else None,
        transmittance=estimate.transmittance if estimate is not None else None,
    )


def _levels(sheet: Datasheet, record: Record, counts: Counts | None) -> tuple[telemetry.Level, ...]:
    clicks = _clicks(record, len(sheet.intensities))
    tested = counts.levels if counts is not None else ()
    settled = counts is not None and counts.reconciled
    found = []
    for number, (name, mean) in enumerate(zip(sheet.level_names, sheet.intensities, strict=True)):
        level = tested[number] if number < len(tested) else None
        found.append(
            telemetry.Level(
                name=name,
                mean_photons=mean,
                sent=_sent(record, number),
                clicks=clicks[number],
                # Before reconciliation errors in Z are no more than a guess.
                tested_z=level.tested_z if level is not None and settled else 0,
                errors_z=level.errors_z if level is not None and settled else 0,
                tested_x=level.tested_x if level is not None else 0,
                errors_x=level.errors_x if level is not None else 0,
            )
        )
    return tuple(found)


def _clicks(record: Record, levels: int) -> Sequence[int]:
    """Detections of either basis per intensity; of one intensity where none is noted."""
    intensity = record.columns.get("intensity")
    if intensity is None:
        return [record.detections] + [0] * (levels - 1)
    return [int(count) for count in np.bincount(intensity, minlength=levels)[:levels]]


def _sent(record: Record, number: int) -> int:
    """Pulses of this intensity; where a source in the middle sends, pairs, all of one kind."""
    rows = [record.totals[name] for name in ("sent_z", "sent_x") if name in record.totals]
    if not rows:
        return record.pulses if number == 0 else 0
    return sum(row[number] for row in rows if number < len(row))


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
