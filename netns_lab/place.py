"""Runs a command inside the lab, wherever on this machine the lab can be."""

from __future__ import annotations

import compileall

from netns_lab import doctor, host, paths
from netns_lab.job import Job
from netns_lab.tools import Say
from netns_lab.uml import launcher

PACKAGES = ("gateway", "kms_client", "netns_lab", "qkd_adapters")


def run(job: Job, say: Say) -> int:
    """Run ``job`` on the host's kernel if it has everything, else in user-mode Linux."""
    compile_packages()
    kernel, reason = doctor.where(say)
    if kernel == "host":
        say(f"running in namespaces of this host: {reason}")
        return host.run(job, say)
    say(f"booting user-mode Linux: {reason}")
    return launcher.run(job, say)


def compile_packages() -> None:
    """Compile our packages where that has not been done, if this is a source tree.

    Jobs may not write into the tree. Without this every process of every lab would compile all it
    imports, for itself, in a slow kernel.
    """
    root = paths.checkout()
    if root is None:
        return
    for package in PACKAGES:
        compileall.compile_dir(root / package, quiet=2)
