"""Debian packages without installing them: apt-get and dpkg-deb with folders of our own.

Works as an ordinary user too, and leaves the host's package database alone.
"""

from __future__ import annotations

import fcntl
import getpass
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

# apt would change to the user _apt, who may not be able to write to the cache.
_SANDBOX = ("-o", f"APT::Sandbox::User={getpass.getuser()}")
_TRIES = ("-o", "Acquire::Retries=2", "-o", "Acquire::http::Timeout=30")
_PACKAGES_ONLY = ("-o", "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false")


def available() -> bool:
    """Are the programs there that fetch and unpack packages?"""
    return bool(shutil.which("apt-get") and shutil.which("dpkg-deb"))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One fetch at a time, also across processes."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def apt_get(words: Sequence[str], folder: Path, options: Sequence[str] = ()) -> str:
    """What ``apt-get WORDS`` says. Raises CalledProcessError."""
    return run(["apt-get", *_SANDBOX, *_TRIES, *options, "-q", *words], folder)


def own_lists(state: Path) -> list[str]:
    """Options for package lists and archives of our own in ``state``; nothing is fetched."""
    (state / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    (state / "cache" / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    return [
        *("-o", f"Dir::State::lists={state / 'lists'}"),
        *("-o", f"Dir::Cache={state / 'cache'}"),
        *_PACKAGES_ONLY,
    ]


def unpack(archive: Path, root: Path) -> None:
    """The archive's files, below ``root``; no maintainer script is run.

    Links to folders that are there, /lib to /usr/lib, stay: ``dpkg-deb -x`` would replace them by
    folders where a package has files in /lib, as those of bookworm do.
    """
    script = 'dpkg-deb --fsys-tarfile "$1" | tar --extract --keep-directory-symlink -C "$2"'
    run(["sh", "-ec", script, "sh", str(archive), str(root)], archive.parent)


def field(archive: Path, name: str) -> str:
    """A field of the archive's control file, such as ``Version``."""
    return run(["dpkg-deb", "-f", str(archive), name], archive.parent).strip()


def run(command: Sequence[str], folder: Path) -> str:
    """Standard output of ``command``. Raises CalledProcessError."""
    done = subprocess.run(
        command,
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
    )
    return done.stdout


def last_words(error: subprocess.CalledProcessError, lines: int) -> str:
    """The end of what a command that failed had to say."""
    return "\n".join((error.stderr or "").strip().splitlines()[-lines:])
