"""A command to be run inside the lab, and the small files it needs on the way in."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from netns_lab import paths, tools

INSIDE = "QSGW_LAB_INSIDE"
"""Set to "1" in every process that runs inside the lab."""

KERNEL = "QSGW_LAB_KERNEL"
"""Set inside the lab: "host" or "uml"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    command: tuple[str, ...]
    directory: Path  # working directory
    writable: tuple[Path, ...]  # folders whose changes the host is to keep
    timeout: float | None = None  # seconds, boot included; None = unlimited


def variables(kernel: str) -> dict[str, str]:
    """The whole environment of the job's command: nothing of the caller's leaks in."""
    return {
        "HOME": "/tmp",  # noqa: S108 - private to the lab: a tmpfs or the overlay
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "PYTHONUNBUFFERED": "1",  # output goes to files that the host follows
        "PYTHONPATH": paths.import_path(),
        **tools.environment(),
        "QSGW_CACHE": str(paths.cache()),
        "QSGW_BUILD": str(paths.build()),
        INSIDE: "1",
        KERNEL: kernel,
    }


def command_script(job: Job) -> str:
    return f"cd {shlex.quote(str(job.directory))} && exec {shlex.join(job.command)}\n"


def environment_script(values: dict[str, str]) -> str:
    """Shell lines that export ``values``."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in values.items())
