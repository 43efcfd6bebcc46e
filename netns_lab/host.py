"""Runs a job in namespaces of its own on the host's kernel, where that kernel has it all.

As root in new network, mount and PID namespaces; as an ordinary user in a new user namespace
as well. The host's network is not touched and every process ends with the job.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from netns_lab import tools
from netns_lab.errors import LabError
from netns_lab.job import Job, command_script, variables
from netns_lab.tools import Say

PROGRAMS = ("ip", "tc", "ping", "mosquitto", "iptables-legacy", "conntrack")

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


@contextmanager
def started(job: Job, say: Say, fds: tuple[int, ...] = ()) -> Iterator[subprocess.Popen[bytes]]:
    """``job`` running in fresh namespaces with ``fds`` open; ended, with all its processes."""
    tools.ensure(PROGRAMS, say)
    for path in job.writable:
        path.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        [*namespaces(), "sh", "-c", _PRELUDE + command_script(job)],
        stdin=subprocess.DEVNULL,
        pass_fds=fds,
        env=variables("host"),
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def run(job: Job, say: Say) -> int:
    """Run ``job`` in fresh namespaces; its exit code. Raises LabError when time is over."""
    with started(job, say) as process:
        try:
            return process.wait(job.timeout)
        except subprocess.TimeoutExpired as error:
            late = f"not finished after {job.timeout} s, ended"
            raise LabError(f"{late}: {shlex.join(job.command)}") from error
