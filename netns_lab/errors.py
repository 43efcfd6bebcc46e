"""What can go wrong in the lab itself, as opposed to in what it tests."""

from __future__ import annotations

from kms_client.errors import QsgwError


class LabError(QsgwError):
    """The lab cannot do what it was asked. Its text is fit for a user."""


class ToolMissingError(LabError):
    """A system program is missing and could not be fetched into the cache."""


class BootError(LabError):
    """The lab kernel did not come up. The text ends with the tail of its console."""


class NotReadyError(LabError):
    """A daemon ended or did not become ready in time. The text ends with its log's tail."""


class WaitError(LabError):
    """A condition did not come true in time. The text names it and the last value seen."""
