"""Boots user-mode Linux for one command and hands back its output and exit code.

No root is needed. The exit status of ``linux.uml`` says nothing, so the verdict is a file
that the init script writes; without it the run has failed.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from netns_lab import tools
from netns_lab.errors import BootError, LabError, ToolMissingError
from netns_lab.job import Job, command_script, environment_script, variables
from netns_lab.tools import Say

BOOT_SECONDS = 60.0  # 2 s on an idle machine
POLL_SECONDS = 0.05
MEMORY = "2048M"  # taken from the host page by page as it is touched
CONSOLE_LINES = 25
_SAMPLE_SECONDS = 0.2

# Waits for the end of its input, a pipe that ends with the launcher, however that ends: a
# lab must not live on when its launcher was killed.
_UNDERTAKER = 'cat >/dev/null; kill -s KILL -- -"$1" 2>/dev/null; rm -rf "$2"'

PROGRAMS = (
    *("linux.uml", "modprobe", "ip", "tc", "ping", "mosquitto"),
    *("iptables-legacy", "conntrack"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A booting or running lab kernel."""

    process: subprocess.Popen[bytes]
    undertaker: subprocess.Popen[bytes]
    folder: Path  # the job's folder on the host; /run/qsgw-job inside

    def console(self) -> str:
        text = (self.folder / "console").read_text(errors="replace")
        return "\n".join(text.splitlines()[-CONSOLE_LINES:])

    def ended(self) -> bool:
        """Is the kernel gone, or its job done?"""
        return self.process.poll() is not None or self.result() is not None

    def booted(self) -> bool:
        return (self.folder / "booted").exists()

    def result(self) -> int | None:
        try:
            return int((self.folder / "result").read_text())
        except FileNotFoundError:
            return None

    def kill(self) -> None:
        """End the kernel and the processes in it, and remove the folder."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.undertaker.communicate()


def run(job: Job, say: Say) -> int:
    """Run ``job`` in a fresh lab kernel; its exit code. Output goes to ours as it comes.

    Raises BootError when the kernel does not come up, LabError when it ends without a
    result or the job's time is over.
    """
    with machine(job, say) as running, _terminated_as_interrupt():
        return _follow(running, job.timeout)


@contextmanager
def machine(
    job: Job, say: Say, *, extra: tuple[str, ...] = (), fds: tuple[int, ...] = ()
) -> Iterator[Machine]:
    """A lab kernel that runs ``job``; killed, with everything in it, at the end."""
    programs = tools.ensure(PROGRAMS, say)
    # The name goes on the kernel's command line, so it must be short and without blanks.
    folder = Path(tempfile.mkdtemp(prefix="qsgw-uml-", dir="/tmp"))
    try:
        _prepare(folder, job)
        started = _start(programs["linux.uml"], folder, extra, fds)
    except BaseException:
        shutil.rmtree(folder)
        raise
    try:
        yield started
    finally:
        started.kill()


def _prepare(folder: Path, job: Job) -> None:
    modules = tools.uml_modules()
    if modules is None:
        raise ToolMissingError("user-mode-linux is here but its modules are not")
    (folder / "modules/lib").mkdir(parents=True)
    (folder / "modules/lib/modules").symlink_to(modules)
    for path in job.writable:
        path.mkdir(parents=True, exist_ok=True)
    (folder / "writable").write_text("".join(f"{path}\n" for path in job.writable))
    (folder / "environment").write_text(environment_script(variables("uml")))
    (folder / "command").write_text(command_script(job))
    for name in ("console", "stdout", "stderr"):
        (folder / name).touch()
    for name in ("init.sh", "main.sh"):
        shutil.copy(Path(__file__).with_name(name), folder / name)
    (folder / "init.sh").chmod(0o755)


def _start(kernel: Path, folder: Path, extra: tuple[str, ...], fds: tuple[int, ...]) -> Machine:
    command = [
        # hostfs holds a file of ours open for every file the kernel inside remembers.
        *("sh", "-c", 'ulimit -Sn "$(ulimit -Hn)" && exec "$@"', "sh"),
        # Every system call inside is a change of process outside: a third faster on one CPU.
        *("taskset", "--cpu-list", str(idlest(_idle_ticks(), _idle_ticks(_SAMPLE_SECONDS)))),
        str(kernel),
        *("root=/dev/root", "rootfstype=hostfs", "rootflags=/", "rw"),
        f"init={folder}/init.sh",
        f"qsgw_job={folder}",
        f"mem={MEMORY}",
        f"uml_dir={folder}/",
        "umid=lab",
        *("con=null", "con0=null,fd:1", "ssl=null", "quiet", "panic=-1"),
        *extra,
    ]
    with (folder / "console").open("wb") as console:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=fds,
            env={**os.environ, **tools.environment(), "TMPDIR": _memory_folder(folder)},
        )
    # The kernel and all it starts are one process group, named by its process id.
    undertaker = subprocess.Popen(
        ["sh", "-c", _UNDERTAKER, "sh", str(process.pid), str(folder)],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    return Machine(process=process, undertaker=undertaker, folder=folder)


def _idle_ticks(after: float = 0.0) -> dict[int, int]:
    """How long each CPU that we may use has been idle, ``after`` seconds from now."""
    time.sleep(after)
    return idle_ticks(Path("/proc/stat").read_text(), os.sched_getaffinity(0))


def idle_ticks(stat: str, usable: Collection[int]) -> dict[int, int]:
    """Idle time of each usable CPU in a /proc/stat (proc_stat(5))."""
    rows = (line.split() for line in stat.splitlines() if line.startswith("cpu"))
    ticks = {int(row[0][3:]): int(row[4]) for row in rows if row[0] != "cpu"}
    return {cpu: idle for cpu, idle in ticks.items() if cpu in usable}


def idlest(before: dict[int, int], after: dict[int, int]) -> int:
    """The CPU that was idle the longest between two looks; any of those that were."""
    gained = {cpu: idle - before.get(cpu, idle) for cpu, idle in after.items()}
    most = max(gained.values())
    return random.choice([cpu for cpu, idle in gained.items() if idle == most])


def _memory_folder(folder: Path) -> str:
    """Where the kernel keeps its memory as a file: on a tmpfs that allows PROT_EXEC."""
    shared = "/dev/shm"  # noqa: S108 - the file is created with O_EXCL and unlinked at once
    usable = os.path.ismount(shared) and os.access(shared, os.W_OK)
    if usable and not os.statvfs(shared).f_flag & os.ST_NOEXEC:
        return shared
    return str(folder)


def wait_booted(machine: Machine) -> None:
    """Return when the job's command starts. Raises BootError."""
    deadline = time.monotonic() + BOOT_SECONDS
    while not machine.booted():
        if machine.process.poll() is not None:
            raise BootError(f"the lab kernel ended while booting\n{machine.console()}")
        if time.monotonic() > deadline:
            raise BootError(
                f"the lab kernel did not boot in {BOOT_SECONDS:.0f} s\n{machine.console()}"
            )
        time.sleep(POLL_SECONDS)


def _follow(machine: Machine, timeout: float | None) -> int:
    deadline = None if timeout is None else time.monotonic() + timeout
    wait_booted(machine)
    with (
        (machine.folder / "stdout").open("rb") as out,
        (machine.folder / "stderr").open("rb") as err,
    ):
        while True:
            ended = machine.process.poll() is not None
            result = machine.result()
            _copy(out, sys.stdout.buffer)
            _copy(err, sys.stderr.buffer)
            if result is not None:
                return result
            if ended:
                raise LabError(f"the lab kernel ended without a result\n{machine.console()}")
            if deadline is not None and time.monotonic() > deadline:
                raise LabError(f"not finished after {timeout:.0f} s; the lab kernel was ended")
            time.sleep(POLL_SECONDS)


def _copy(source: IO[bytes], sink: IO[bytes]) -> None:
    if data := source.read():
        sink.write(data)
        sink.flush()


@contextmanager
def _terminated_as_interrupt() -> Iterator[None]:
    """Let SIGTERM end us as Ctrl-C does, so that the kernel is ended too."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
