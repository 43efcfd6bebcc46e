"""Presets held against what their publications report.

The parameters were fitted to these figures, so this shows that one plausible set per device
meets them, and keeps it so; it does not predict them. Rates are the model's asymptotic ones: what
a real system loses by finite blocks and outages is in the fit.
"""

from __future__ import annotations

from qkd_adapters.optics.model import LinkModel
from qkd_adapters.optics.presets import preset, presets
from qkd_adapters.optics.rates import rates
from tests.validate.checks import Check, exactly, near


def _rate(model: LinkModel) -> Check:
    assert model.published.secret_rate is not None
    return near(
        f"{model.name}: secret rate (bit/s)",
        model.published.secret_rate,
        lambda: rates(model).secret,
        relative=model.published.tolerance,
        source=model.provenance,
    )


def _qber(model: LinkModel) -> Check:
    assert model.published.qber is not None
    return near(
        f"{model.name}: QBER",
        model.published.qber,
        lambda: rates(model).qber,
        relative=0.2,
        source=model.provenance,
    )


def _labelled() -> bool:
    """No preset claims more than it has."""
    return all(
        model.provenance.startswith("published:" if model.published.secret_rate else "modelled")
        or model.name == "gys"
        for model in presets().values()
    )


CHECKS: tuple[Check, ...] = (
    *(_rate(model) for model in presets().values() if model.published.secret_rate is not None),
    *(_qber(model) for model in presets().values() if model.published.qber is not None),
    exactly("Every preset says published or modelled", True, _labelled, source="qsgw presets"),
    near(
        "gig-apd at 30 dB: secret rate (bit/s)",
        0.0,
        lambda: rates(preset("gig-apd").with_loss(30.0)).secret,
        source="QBER 10 % is beyond what any error correction leaves",
    ),
)
