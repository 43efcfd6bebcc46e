"""What a failed scenario leaves behind: one folder with kernel state, logs and captures."""

from __future__ import annotations

import asyncio
import re
import shutil
from pathlib import Path

from netns_lab import process
from netns_lab.errors import LabError
from netns_lab.net import Network

# "list nokeys" keeps the kernel from telling the keys of SAs in the first place.
# "ip macsec" tells key identifiers only.
KERNEL_STATE = """\
for command in 'ip -s address' 'ip route show table all' 'ip -s xfrm state list nokeys' \
    'ip -s xfrm policy' 'cat /proc/net/xfrm_stat' 'tc -s qdisc' 'ip neighbour' \
    'ip -s macsec show'; do
    echo "== $command"
    $command 2>&1
done
"""

_KEY = re.compile(r"\b((?:aead|enc|auth|auth-trunc|comp)\s+\S+)\s+0x[0-9a-f]+", re.IGNORECASE)


def without_keys(text: str) -> str:
    """``text`` of ``ip xfrm state`` with every key blotted out."""
    return _KEY.sub(r"\1 <key>", text)


async def kernel_state(network: Network, host: str) -> str:
    """Addresses, routes, SAs (without keys), policies and counters of ``host``."""
    done = await process.run(network.namespace(host), ["sh", "-c", KERNEL_STATE])
    return without_keys(done.stdout)


async def collect(network: Network, run_dir: Path, folder: Path) -> None:
    """Fill ``folder`` with the state of every host and what the run has written."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [host.name for host in network.topology.hosts]
    states = await asyncio.gather(
        *(kernel_state(network, name) for name in names), return_exceptions=True
    )
    (folder / "kernel").mkdir(exist_ok=True)
    for name, state in zip(names, states, strict=True):
        if isinstance(state, BaseException) and not isinstance(state, LabError):
            raise state
        (folder / "kernel" / f"{name}.txt").write_text(str(state))
    for part in ("log", "capture"):
        if (run_dir / part).is_dir():
            shutil.copytree(
                run_dir / part,
                folder / part,
                dirs_exist_ok=True,
                ignore=shutil.ignore_patterns("*.notify"),
            )
