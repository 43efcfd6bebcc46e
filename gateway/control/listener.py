"""Makes the control socket: right owner and mode, never taken away from a living daemon."""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import socket
import stat
from pathlib import Path

from gateway.errors import StartupError

MODE = 0o600
GROUP_MODE = 0o660  # where a control_group is configured
DIRECTORY_MODE = 0o755
BACKLOG = 16
PROBE_TIMEOUT = 1.0  # seconds


def control_gid(group: str | None) -> int | None:
    """The group's number. Raises StartupError when there is no such group."""
    if group is None:
        return None
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise StartupError(f'control_group "{group}": there is no such group') from None


def open_listener(path: Path, gid: int | None) -> socket.socket:
    """A listening Unix socket at ``path``, for the daemon's user and this group.

    Raises StartupError.
    """
    try:
        path.parent.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        _remove_stale(path)
    except OSError as error:
        raise StartupError(f"control socket {path}: {error.strerror}") from None
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        # Nobody can connect before listen(), so the mode is right before it matters.
        if gid is not None and path.stat().st_gid != gid:
            os.chown(path, -1, gid)
        path.chmod(MODE if gid is None else GROUP_MODE)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        hint = " (is the daemon a member of control_group?)" if error.errno == errno.EPERM else ""
        raise StartupError(f"control socket {path}: {error.strerror}{hint}") from None
    return listener


def remove_listener(path: Path, inode: int) -> None:
    """Remove the socket file if it is still the one we made."""
    with contextlib.suppress(OSError):
        if path.lstat().st_ino == inode:
            path.unlink()


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise StartupError(f"control socket {path}: something else is there, not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_TIMEOUT)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:  # nobody listens: its daemon is dead
            path.unlink(missing_ok=True)
            return
        except FileNotFoundError:
            return
        except TimeoutError:
            pass  # its backlog is full: somebody is there
    raise StartupError(f"another daemon is running: it answers on {path}")
