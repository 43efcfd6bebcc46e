"""What can be wrong with a baseline or with telemetry that does not fit it."""

from __future__ import annotations

from kms_client.errors import QsgwError


class BaselineError(QsgwError):
    """A calibration is too short, damaged, or made for another kind of link."""


class MissingExtraError(QsgwError):
    """An optional part was asked for whose libraries are not installed."""
