"""The picture of a plan: key rate and error rate against loss, one colour per device."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qkd_adapters.optics.model import LinkModel
from qkd_adapters.plan import PlanPoint, plan, reach

# Okabe and Ito's colours: told apart with any colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MOST = len(COLOURS)
POINTS = 121
BEYOND = 6.0  # dB past the longest reach
LOWEST_RATE = 1.0  # bit/s
INK = "#222222"
FAINT = "#8a8a8a"


def draw(models: Sequence[LinkModel], path: Path, *, block_bits: int) -> None:
    """Write the picture; its kind follows the file's name. Raises ValueError."""
    if len(models) > MOST:
        raise ValueError(f"a picture of more than {MOST} devices cannot be read")
    curves = {model: _curve(model, block_bits) for model in models}
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415  (an extra, and slow to import)
    except ImportError as error:
        raise ValueError("pictures need matplotlib: install qsgw[plots]") from error
    figure = Figure(figsize=(9.0, 7.2), layout="constrained")
    rate, error_rate = figure.subplots(2, 1, sharex=True, height_ratios=(2.2, 1.0))
    for (model, points), colour in zip(curves.items(), COLOURS, strict=False):
        _draw_rates(rate, model, points, colour)
        _draw_errors(error_rate, model, points, colour)
    _finish(rate, error_rate, curves, block_bits)
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error


def _curve(model: LinkModel, block_bits: int) -> tuple[PlanPoint, ...]:
    if model.downlink is not None:
        return plan(model, block_bits=block_bits)
    most = max(reach(model), 10.0) + BEYOND
    losses = [most * number / (POINTS - 1) for number in range(POINTS)]
    return plan(model, losses=losses, block_bits=block_bits)


def _draw_rates(axes: Any, model: LinkModel, points: Sequence[PlanPoint], colour: str) -> None:
    for name, style, width in (
        ("secret_rate_asymptotic", (0, (4, 2)), 1.0),
        ("secret_rate_finite", "solid", 2.0),
    ):
        rates = [(point.loss_db, getattr(point, name)) for point in points]
        kept = [(loss, rate) for loss, rate in rates if rate > 0]
        axes.plot(
            [loss for loss, _ in kept],
            [rate for _, rate in kept],
            color=colour,
            linestyle=style,
            linewidth=width,
            label=model.name if style == "solid" else None,
        )
    if model.published.secret_rate is not None:
        axes.plot(
            [model.loss_db],
            [model.published.secret_rate],
            marker="o",
            markersize=8,
            markerfacecolor="white",
            markeredgecolor=colour,
            markeredgewidth=1.8,
            linestyle="none",
            zorder=5,
        )


def _draw_errors(axes: Any, model: LinkModel, points: Sequence[PlanPoint], colour: str) -> None:
    if not any(point.qber > 0 for point in points):
        return  # CV-QKD has no error rate
    axes.plot(
        [point.loss_db for point in points],
        [100.0 * point.qber for point in points],
        color=colour,
        linewidth=2.0,
    )
    if model.published.qber is not None:
        axes.plot(
            [model.loss_db],
            [100.0 * model.published.qber],
            marker="o",
            markersize=8,
            markerfacecolor="white",
            markeredgecolor=colour,
            markeredgewidth=1.8,
            linestyle="none",
            zorder=5,
        )


def _finish(
    rate: Any, error_rate: Any, curves: dict[LinkModel, tuple[PlanPoint, ...]], block_bits: int
) -> None:
    highest = max(point.secret_rate_asymptotic for points in curves.values() for point in points)
    rate.set_yscale("log")
    rate.set_ylim(LOWEST_RATE, max(10.0, 3.0 * highest))
    rate.set_ylabel("secret key (bit/s)")
    rate.set_title("Secret key rate and error rate against channel loss", loc="left", color=INK)
    rate.plot([], [], color=FAINT, linewidth=2.0, label=f"blocks of {block_bits:,} bits")
    rate.plot([], [], color=FAINT, linewidth=1.0, linestyle=(0, (4, 2)), label="asymptotic")
    if any(model.published.secret_rate is not None for model in curves):
        rate.plot(
            [],
            [],
            color=FAINT,
            marker="o",
            markerfacecolor="white",
            linestyle="none",
            label="published",
        )
    rate.legend(frameon=False, loc="upper right", fontsize=9)
    error_rate.set_ylim(0.0, 12.0)
    error_rate.set_ylabel("QBER (%)")
    error_rate.set_xlabel("loss of the channel (dB)")
    error_rate.set_xlim(left=0.0)
    top = rate.secondary_xaxis("top", functions=(lambda db: db / 0.2, lambda km: km * 0.2))
    top.set_xlabel("km of fibre at 0.2 dB/km", fontsize=9, color=FAINT)
    top.tick_params(labelsize=8, colors=FAINT)
    for axes in (rate, error_rate):
        axes.grid(visible=True, which="major", color="#e6e6e6", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=INK)
