"""Runs a command inside the lab, wherever on this machine the lab can be."""

from __future__ import annotations

from netns_lab import doctor, host
from netns_lab.job import Job
from netns_lab.tools import Say
from netns_lab.uml import launcher


def run(job: Job, say: Say) -> int:
    """Run ``job`` on the host's kernel if it has everything, else in user-mode Linux."""
    kernel, reason = doctor.where(say)
    if kernel == "host":
        say(f"running in namespaces of this host: {reason}")
        return host.run(job, say)
    say(f"booting user-mode Linux: {reason}")
    return launcher.run(job, say)
