"""Root trees with daemons of other makers, unpacked from Debian packages into the cache.

    python -m netns_lab.peers.fetch [NAME...]

They come from the mirror the host itself uses, but each from a suite of its own, be it newer than
the host's; resolved by apt-get as for an empty system and unpacked without running anything:
nothing is installed, and no root is needed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from netns_lab import debian, paths
from netns_lab.errors import ToolMissingError
from netns_lab.tools import Say

NEWEST = ("sid", "experimental")
MERGED = ("bin", "sbin", "lib", "lib64")
"""Links to folders of the same name in /usr, as on every Debian since bookworm."""

_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_TARGETS = "$(REPO_URI) $(RELEASE) $(COMPONENT)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """What makes one peer."""

    name: str
    packages: tuple[str, ...]  # the first one's version is the peer's
    suites: tuple[str, ...] = NEWEST


STRONGSWAN = Bundle(
    name="strongswan",
    packages=(
        "strongswan-swanctl",
        "charon-systemd",
        "libstrongswan-standard-plugins",
        "libstrongswan-extra-plugins",
        "libcharon-extra-plugins",
        "strongswan-pki",
    ),
)
LIBRESWAN = Bundle(name="libreswan", packages=("libreswan", "libnss3-tools"))
WPA_SUPPLICANT = Bundle(
    name="wpa_supplicant",
    packages=("wpasupplicant",),
    suites=("bookworm",),  # 2.10: the 2.11 of later ones ends without a wireless network stack
)
BUNDLES = {bundle.name: bundle for bundle in (STRONGSWAN, LIBRESWAN, WPA_SUPPLICANT)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A peer that is here: its root folder, and the version its package has."""

    name: str
    root: Path
    version: str  # upstream's, without Debian's revision


def present(bundle: Bundle) -> Tree | None:
    """The tree of ``bundle`` if it was fetched."""
    root = _home() / bundle.name
    try:
        stamp = json.loads((root.with_suffix(".json")).read_text())
    except FileNotFoundError:
        return None
    if stamp["packages"] != list(bundle.packages) or not root.is_dir():
        return None
    version = upstream(stamp["versions"][bundle.packages[0]])
    return Tree(name=bundle.name, root=root, version=version)


def ensure(bundle: Bundle, say: Say) -> Tree:
    """The tree of ``bundle``, fetched if need be. Raises ToolMissingError in one line."""
    tree = present(bundle)
    if tree is None:
        with debian.locked(_home()):
            tree = present(bundle) or _fetch(bundle, say)
    return tree


def upstream(version: str) -> str:
    """``6.1.0`` of Debian's ``1:6.1.0-2`` (deb-version(7))."""
    without_epoch = version.rpartition(":")[2]
    return without_epoch.rpartition("-")[0] or without_epoch


def mirror(targets: str) -> str | None:
    """Address of the archive the host takes Debian from, by its ``apt-get indextargets``.

    One that has updates or security fixes only ("bookworm-security") has no other suites.
    """
    for line in targets.splitlines():
        address, release, component = line.split()
        if component == "main" and "-" not in release and "/" not in release:
            return address
    return None


def sources(address: str, suites: Sequence[str], keyring: Path | None) -> str:
    """A sources.list for ``suites`` of the archive at ``address``."""
    options = f" [signed-by={keyring}]" if keyring else ""
    return "".join(f"deb{options} {address} {suite} main\n" for suite in suites)


def preferences(packages: Sequence[str]) -> str:
    """apt_preferences(5): of ``packages`` the newest, wherever it is; all else from sid."""
    return (
        f"Package: {' '.join(packages)}\n"
        "Pin: release n=rc-buggy\n"  # the code name of experimental
        "Pin-Priority: 500\n"
    )


def _home() -> Path:
    return paths.cache() / "peers"


def _fetch(bundle: Bundle, say: Say) -> Tree:
    if not debian.available():
        raise ToolMissingError(f"{bundle.name}: no apt-get here to fetch it with")
    state = _home() / "apt"
    fresh = _home() / f"{bundle.name}.new"
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        versions = _unpack(bundle, _download(bundle, state, say), fresh)
    except subprocess.CalledProcessError as error:
        said = debian.last_words(error, 1) or f"{error.cmd[0]} failed"
        raise ToolMissingError(f"{bundle.name}: {said}") from error
    root = _home() / bundle.name
    shutil.rmtree(root, ignore_errors=True)
    fresh.rename(root)
    stamp = {"packages": bundle.packages, "versions": versions}
    root.with_suffix(".json").write_text(json.dumps(stamp, indent=2) + "\n")
    shutil.rmtree(state)
    say(f"{bundle.name} {versions[bundle.packages[0]]} is in {root}")
    found = present(bundle)
    if found is None:
        raise ToolMissingError(f"{bundle.name}: unpacked, but it is not there")
    return found


def _download(bundle: Bundle, state: Path, say: Say) -> list[Path]:
    """Every archive that ``bundle`` needs on an empty system."""
    state.mkdir(parents=True, exist_ok=True)
    listed = debian.apt_get(["indextargets", "--format", _TARGETS], state)
    address = mirror(listed)
    if address is None:
        raise ToolMissingError(f"{bundle.name}: the host's apt knows no Debian archive")
    keyring = _KEYRING if _KEYRING.exists() else None
    (state / "sources.list").write_text(sources(address, bundle.suites, keyring))
    (state / "preferences").write_text(preferences(bundle.packages))
    (state / "status").touch()
    options = [
        *debian.own_lists(state),
        *("-o", f"Dir::State={state}"),
        *("-o", f"Dir::State::status={state / 'status'}"),
        *("-o", f"Dir::Etc::sourcelist={state / 'sources.list'}"),
        *("-o", "Dir::Etc::sourceparts=/dev/null"),
        *("-o", f"Dir::Etc::preferences={state / 'preferences'}"),
        *("-o", "Dir::Etc::preferencesparts=/dev/null"),
    ]
    suites = " and ".join(bundle.suites)
    say(f"{bundle.name}: reading the package lists of {suites}")
    try:
        debian.apt_get(["update", "-o", "APT::Update::Error-Mode=any"], state, options)
    except subprocess.CalledProcessError as error:
        why = f"the host's Debian mirror does not serve {suites}"
        said = (error.stderr or "").strip().partition("\n")[0]
        raise ToolMissingError(f"{bundle.name}: {why}: {said}") from error
    say(f"{bundle.name}: fetching packages (nothing is installed)")
    debian.apt_get(
        ["--yes", "--download-only", "--no-install-recommends", "install", *bundle.packages],
        state,
        options,
    )
    return sorted((state / "cache" / "archives").glob("*.deb"))


def _unpack(bundle: Bundle, archives: list[Path], root: Path) -> dict[str, str]:
    """Unpack ``archives`` into ``root``; the version of each package."""
    for name in MERGED:
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    versions = {}
    for archive in archives:
        debian.unpack(archive, root)
        versions[debian.field(archive, "Package")] = debian.field(archive, "Version")
        archive.unlink()
    missing = [name for name in bundle.packages if name not in versions]
    if missing:
        raise ToolMissingError(f"{bundle.name}: no {', '.join(missing)} among what was fetched")
    return versions


def main() -> int:
    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    failed = 0
    for name in sys.argv[1:] or BUNDLES:
        try:
            tree = ensure(BUNDLES[name], say)
        except ToolMissingError as error:
            say(f"skipped: {error}")
            failed = 1
        else:
            print(f"{tree.name} {tree.version}: {tree.root}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
