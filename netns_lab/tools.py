"""System programs the lab needs: found on the host, else unpacked from Debian packages.

Nothing is installed on the host. A missing package is downloaded with ``apt-get download``
and unpacked with ``dpkg -x`` into the cache, which works as an ordinary user too; where the
host's package lists are empty or stale, private ones are fetched into the cache.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from netns_lab import debian, paths
from netns_lab.errors import ToolMissingError

Say = Callable[[str], None]

PACKAGE_OF = {
    "conntrack": "conntrack",
    "ip": "iproute2",
    "iptables-legacy": "iptables",
    "linux.uml": "user-mode-linux",
    "modprobe": "kmod",
    "mosquitto": "mosquitto",
    "ping": "iputils-ping",
    "tc": "iproute2",
    "tshark": "tshark",
}
"""Program -> Debian package that has it."""

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PREFIXES = ("usr/sbin", "usr/bin", "sbin", "bin")
_UML_MODULES = Path("usr/lib/uml/modules")


def unpacked() -> Path:
    """Root of the unpacked packages."""
    return paths.cache() / "debian" / "root"


def search_path() -> str:
    """PATH for the lab: ours first, then the host's, then the system's, then the cache."""
    parts = [str(paths.scripts()), *os.environ.get("PATH", "").split(":")]
    parts += SYSTEM_PATH.split(":")
    parts += [str(unpacked() / prefix) for prefix in _PREFIXES]
    return ":".join(dict.fromkeys(part for part in parts if part))


def library_path() -> str:
    """LD_LIBRARY_PATH with the unpacked packages' libraries; empty when nothing was unpacked."""
    libraries = {path.parent for path in unpacked().glob("**/lib*/**/*.so*") if path.is_file()}
    wanted = sorted(str(folder) for folder in libraries if "uml" not in folder.parts)
    inherited = os.environ.get("LD_LIBRARY_PATH", "")
    return ":".join([*wanted, *([inherited] if inherited else [])])


def environment() -> dict[str, str]:
    """The variables a process needs to find the lab's programs and their libraries."""
    variables = {"PATH": search_path()}
    libraries = library_path()
    if libraries:
        variables["LD_LIBRARY_PATH"] = libraries
    # iptables looks for its extensions where it was built to be installed.
    found = find("iptables-legacy")
    if found is not None and found.is_relative_to(unpacked()):
        extensions = next(unpacked().glob("usr/lib/*/xtables"), None)
        if extensions is not None:
            variables["XTABLES_LIBDIR"] = str(extensions)
    return variables


def find(program: str) -> Path | None:
    found = shutil.which(program, path=search_path())
    return Path(found) if found else None


def uml_modules() -> Path | None:
    """Folder with one sub-folder of modules per user-mode-linux kernel."""
    for root in (Path("/"), unpacked()):
        if (root / _UML_MODULES).is_dir():
            return root / _UML_MODULES
    return None


def ensure(programs: Iterable[str], say: Say) -> dict[str, Path]:
    """Paths of ``programs``, fetching what the host lacks. Raises ToolMissingError."""
    wanted = tuple(programs)
    if any(find(program) is None for program in wanted):
        with debian.locked(paths.cache() / "debian"):
            # Another process may have fetched it while we waited.
            missing = {PACKAGE_OF[program] for program in wanted if find(program) is None}
            if missing:
                _fetch(sorted(missing), say)
    found = {program: find(program) for program in wanted}
    lost = [program for program, path in found.items() if path is None]
    if lost:
        raise ToolMissingError(_advice(sorted({PACKAGE_OF[program] for program in lost})))
    return {program: path for program, path in found.items() if path is not None}


def _advice(packages: list[str], detail: str = "") -> str:
    names = " ".join(packages)
    text = f"missing on this host: {names}\nrun as root: apt-get install {names}"
    return f"{text}\n{detail}" if detail else text


def fetch(packages: list[str], say: Say) -> None:
    """Unpack ``packages`` and what they need into the cache. Raises ToolMissingError."""
    with debian.locked(paths.cache() / "debian"):
        _fetch(packages, say)


def _fetch(packages: list[str], say: Say) -> None:
    if not debian.available():
        raise ToolMissingError(_advice(packages, "(no apt-get here to fetch them with)"))
    archives = paths.cache() / "debian" / "archives"
    archives.mkdir(parents=True, exist_ok=True)
    say(f"fetching {', '.join(packages)} into {archives.parent} (nothing is installed)")
    try:
        names = _download(packages, archives, [])
    except subprocess.CalledProcessError:
        say("the host's package lists do not serve; fetching lists into the cache")
        try:
            names = _download(packages, archives, _private_lists())
        except subprocess.CalledProcessError as error:
            raise ToolMissingError(_advice(packages, debian.last_words(error, 3))) from error
    unpacked().mkdir(parents=True, exist_ok=True)
    for name in names:
        for archive in sorted(archives.glob(f"{name}_*.deb")):
            debian.unpack(archive, unpacked())
            archive.unlink()
    relink(unpacked())


def _private_lists() -> list[str]:
    """Options for package lists of our own; downloads them."""
    state = paths.cache() / "debian" / "apt"
    options = debian.own_lists(state)
    debian.apt_get(["update"], state, options)
    return options


def _download(packages: list[str], folder: Path, options: list[str]) -> list[str]:
    """Fetch ``packages`` and those of their dependencies the host lacks; their names."""
    wanted = ["-s", "--no-install-recommends", "install", *packages]
    names = missing_in_plan(debian.apt_get(wanted, folder, options))
    debian.apt_get(["download", *names], folder, options)
    return names


def missing_in_plan(plan: str) -> list[str]:
    """Names of the packages an ``apt-get -s install`` would add.

    Upgrades of packages the host has ("Inst NAME [OLD] (NEW ...)") are left out: the
    host's own version serves, and a second C library in the cache would break programs.
    """
    rows = (line.split() for line in plan.splitlines() if line.startswith("Inst "))
    return [row[1] for row in rows if len(row) > 2 and not row[2].startswith("[")]


def relink(root: Path) -> None:
    """Make absolute symbolic links (``/sbin/modprobe -> /bin/kmod``) point inside ``root``."""
    for folder, directories, files in os.walk(root):
        for name in (*directories, *files):
            link = Path(folder) / name
            if link.is_symlink() and (target := link.readlink()).is_absolute():
                inside = root / target.relative_to("/")
                if inside.exists():
                    link.unlink()
                    link.symlink_to(os.path.relpath(inside, link.parent))


if __name__ == "__main__":
    fetch(sys.argv[1:], print)
