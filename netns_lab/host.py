"""Runs a job in namespaces of its own on the host's kernel, where that kernel has it all.

As root in new network, mount and PID namespaces; as an ordinary user in a new user namespace
as well. The host's network is not touched and every process ends with the job.
"""

from __future__ import annotations

import os
import shlex
import subprocess

from netns_lab import tools
from netns_lab.errors import LabError
from netns_lab.job import Job, command_script, variables
from netns_lab.tools import Say

PROGRAMS = ("ip", "tc", "ping", "mosquitto")

# /run is the lab's own: ip-netns keeps its names there.
_PRELUDE = """\
mount -t tmpfs tmpfs /run && mkdir -p /run/netns /run/lock && ip link set lo up || exit 1
"""


def namespaces() -> list[str]:
    """The ``unshare`` command that makes the lab's namespaces for whoever we are."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return [
        *("unshare", *user, "--net", "--mount", "--pid"),
        *("--fork", "--kill-child", "--mount-proc", "--"),
    ]


def run(job: Job, say: Say) -> int:
    """Run ``job`` in fresh namespaces; its exit code. Raises LabError when time is over."""
    tools.ensure(PROGRAMS, say)
    for path in job.writable:
        path.mkdir(parents=True, exist_ok=True)
    script = _PRELUDE + command_script(job)
    try:
        return subprocess.run(
            [*namespaces(), "sh", "-c", script],
            check=False,
            stdin=subprocess.DEVNULL,
            env=variables(job, "host"),
            timeout=job.timeout,
        ).returncode
    except subprocess.TimeoutExpired as error:
        raise LabError(
            f"not finished after {job.timeout} s, ended: {shlex.join(job.command)}"
        ) from error
