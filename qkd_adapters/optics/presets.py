"""Presets by name."""

from __future__ import annotations

from functools import lru_cache

from qkd_adapters.optics import presets_bb84, presets_other
from qkd_adapters.optics.model import LinkModel


@lru_cache(maxsize=1)
def _all() -> dict[str, LinkModel]:
    return {model.name: model for model in (*presets_bb84.models(), *presets_other.models())}


def presets() -> dict[str, LinkModel]:
    """A copy: name to model."""
    return dict(_all())


def preset(name: str) -> LinkModel:
    """Raises ValueError that names what there is."""
    try:
        return _all()[name]
    except KeyError:
        known = ", ".join(sorted(_all()))
        raise ValueError(f"no preset {name!r}; there are {known}") from None
