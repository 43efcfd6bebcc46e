"""A root for a foreign daemon: its own programs and files, the lab's kernel and devices.

The programs stay in the cache, mounted read-only; what the daemon writes goes to memory.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from netns_lab.lab import RUNS
from netns_lab.peers.fetch import MERGED, Tree
from netns_lab.process import Completed, finish

# Below no folder that anyone clears: there are mounts in it.
_ROOTS = RUNS.with_name("qsgw-peers")

# A new proc would need a PID namespace of our own where we are not root; the lab's does.
_BUILD = """\
root=$1 tree=$2; shift 2
mkdir -p "$root"
mount -t tmpfs -o mode=755 tmpfs "$root"
cd "$root"
mkdir -p usr etc var proc dev run/lock tmp
mount --bind "$tree/usr" usr
mount -o remount,bind,ro usr
for name; do ln -s "usr/$name" "$name"; done
cp -R --preserve=mode,links "$tree/etc/." etc
cp -R --preserve=mode,links "$tree/var/." var
rm -rf var/run var/lock
ln -s /run var/run
ln -s /run/lock var/lock
mount --rbind /proc proc
for name in null zero full random urandom; do
    touch "dev/$name"
    mount --bind "/dev/$name" "dev/$name"
done
"""


class PeerRoot:
    """One daemon's root folder. ``build`` before use, ``destroy`` at the end."""

    def __init__(self, tree: Tree, name: str) -> None:
        self.tree = tree
        self.path = _ROOTS / f"{os.getpid():x}-{name}"

    async def build(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        await _shell(_BUILD, str(self.path), str(self.tree.root), *MERGED)

    async def destroy(self) -> None:
        """Unmount it all; what was written there is gone."""
        await _shell('umount -R -l "$1"; rmdir "$1"', str(self.path))

    def command(self, words: Sequence[str]) -> list[str]:
        """``words`` as a command with this root."""
        return ["chroot", str(self.path), *words]

    def write(self, name: str, text: str, *, mode: int = 0o644) -> None:
        """A file in it; ``name`` as the daemon would call it."""
        path = self.path / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=mode)
        path.write_text(text)

    def remove(self, name: str) -> None:
        (self.path / name.lstrip("/")).unlink(missing_ok=True)


async def _shell(script: str, *words: str) -> Completed:
    return (await finish(["sh", "-ec", script, "sh", *words])).check()
