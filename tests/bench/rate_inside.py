"""Sets up IKE SAs between gateways of both makes, in one boot of the lab's kernel.

    python -m tests.bench.rate_inside [ROUND...]        prints a line of JSON for each round

A round is called after its initiator and responder: strongSwan-qsgw, or strongSwan-qsgw-ppk
with a QKD key in each IKE SA. All pairings in turn make a cycle: what loads the machine meanwhile
meets each of them. Without names there are those of ``CYCLES``, after a round that warms the
kernel up and counts for nothing.

At any time ``AT_ONCE`` tunnels are being set up, each between other addresses: fewer than any
gateway asks cookies for, so what is measured is setting up. The clock runs from the first
request to begin until the initiator tells that the last Child SA is in its kernel.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import product

from netns_lab.errors import LabError
from netns_lab.lab import Lab
from netns_lab.peers import fetch
from tests.bench import rate_site as site
from tests.bench.rate_keys import KeyNetwork
from tests.bench.rate_ours import Ours
from tests.bench.rate_site import Daemon, Side, Terms
from tests.bench.rate_strongswan import StrongSwan

AT_ONCE = 8
ROUND_SECONDS = 60.0
CYCLES = ((1, False), (1, True), (2, False), (3, False))  # which, and whether with QKD keys
LAST_CYCLE = 200.0  # seconds from the start after which no further cycle is begun
PAIRINGS = (
    ("strongSwan", "strongSwan"),
    ("strongSwan", "qsgw"),
    ("qsgw", "strongSwan"),
    ("qsgw", "qsgw"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One pairing. CPU in seconds and memory in MiB, of the daemons alone."""

    initiator: str
    responder: str
    ppk: bool
    cycle: int
    count: int
    seconds: float
    initiator_cpu: float
    responder_cpu: float
    initiator_idle: float  # resident with all tunnels configured and none up
    responder_idle: float
    initiator_resident: float
    responder_resident: float


async def _set_up(initiator: Daemon, responder: Daemon, *, ppk: bool, cycle: int) -> Round:
    ups = await initiator.follow()
    daemons = (initiator, responder)
    before = [site.cpu_seconds(daemon.pid) for daemon in daemons]
    idle = [site.resident_mib(daemon.pid) for daemon in daemons]
    started = time.monotonic()
    begun = min(AT_ONCE, site.COUNT)
    for number in range(begun):
        await initiator.begin(number)
    up: set[int] = set()
    async with asyncio.timeout(ROUND_SECONDS):
        async for number in ups:
            up.add(number)
            if begun < site.COUNT:
                await initiator.begin(begun)
                begun += 1
            if len(up) == site.COUNT:
                break
    seconds = time.monotonic() - started
    cpu = [site.cpu_seconds(daemon.pid) - was for daemon, was in zip(daemons, before, strict=True)]
    resident = [site.resident_mib(daemon.pid) for daemon in daemons]
    for daemon in daemons:
        await _check(daemon, ppk=ppk)
    return Round(
        initiator=initiator.maker, responder=responder.maker, ppk=ppk, cycle=cycle, count=len(up),
        seconds=seconds, initiator_cpu=cpu[0], responder_cpu=cpu[1],
        initiator_idle=idle[0], responder_idle=idle[1],
        initiator_resident=resident[0], responder_resident=resident[1],
    )  # fmt: skip


async def _check(daemon: Daemon, *, ppk: bool) -> None:
    """Every IKE SA is there, with what was asked for."""
    meant = site.AGREED + ("/PPK" if ppk else "")
    agreed = await daemon.agreed()
    if agreed != [meant] * site.COUNT:
        raise LabError(f"{daemon.maker} has {len(agreed)} IKE SAs: {sorted(set(agreed))}")


async def _play(
    lab: Lab, makers: tuple[str, str], tree: fetch.Tree, *, ppk: bool, cycle: int
) -> Round:
    terms = Terms(psk=secrets.token_hex(32), ppk=ppk)
    keys = None
    if ppk and "qsgw" in makers:
        keys = KeyNetwork(lab, lab.run_dir / f"keys-{'-'.join(makers)}")
        await keys.start()
    ours: dict[Side, Ours] = {
        side: Ours(lab, side, terms, keys)
        for side, maker in zip(site.SIDES, makers, strict=True)
        if maker == "qsgw"
    }
    try:
        for one in ours.values():
            await one.start()
        ppks = await _ppks(keys, ours.get("moon")) if ppk and "strongSwan" in makers else {}
        theirs: dict[Side, StrongSwan] = {
            side: StrongSwan(lab, side, terms, tree, ppks)
            for side in site.SIDES
            if side not in ours
        }
        try:
            for other in theirs.values():
                await other.start()
            daemons: dict[Side, Daemon] = {**ours, **theirs}
            return await _set_up(daemons["moon"], daemons["sun"], ppk=ppk, cycle=cycle)
        finally:
            for other in theirs.values():
                await other.stop()
    finally:
        for one in ours.values():
            await one.stop()
        if keys is not None:
            await keys.stop()


async def _ppks(keys: KeyNetwork | None, initiator: Ours | None) -> Mapping[int, tuple[str, str]]:
    """What a strongSwan has to know before: a PPK for each tunnel."""
    if keys is None:
        drawn = [(str(uuid.uuid4()), secrets.token_hex(32)) for _ in range(site.COUNT)]
        return dict(enumerate(drawn))
    if initiator is None:
        return dict(enumerate((await keys.take("moon")).items()))
    key_ids = await initiator.key_ids()
    taken = await keys.take("sun", list(key_ids.values()))
    return {number: (key_id, taken[key_id]) for number, key_id in key_ids.items()}


def _label(makers: tuple[str, str], *, ppk: bool) -> str:
    return "-".join((*makers, *(("ppk",) if ppk else ())))


async def _attempt(
    makers: tuple[str, str], tree: fetch.Tree, *, ppk: bool, cycle: int
) -> Round | None:
    """The other rounds are worth having where one cannot be played."""
    label = _label(makers, ppk=ppk)
    began = time.monotonic()
    try:
        async with Lab.up(f"rate-{label}-{cycle}", topology=site.topology()) as lab:
            played = await _play(lab, makers, tree, ppk=ppk, cycle=cycle)
    except (LabError, TimeoutError) as error:
        _say(f"no rate for {label}: {str(error).partition(chr(10))[0] or 'not finished in time'}")
        return None
    _say(f"{label}: {played.seconds:.1f} s, {time.monotonic() - began:.0f} s in all")
    return played


async def _main(only: list[str]) -> None:
    tree = fetch.present(fetch.STRONGSWAN)
    if tree is None:
        raise LabError("strongSwan was not fetched")
    for cycle, makers, ppk in _programme(only):
        played = await _attempt(makers, tree, ppk=ppk, cycle=cycle)
        if played is not None and (cycle or only):
            print(json.dumps(asdict(played)), flush=True)


def _programme(only: list[str]) -> Iterator[tuple[int, tuple[str, str], bool]]:
    """Cycle, pairing and whether with QKD keys, of each round in turn."""
    if only:
        for ppk, makers in product((False, True), PAIRINGS):
            if _label(makers, ppk=ppk) in only:
                yield 0, makers, ppk
        return
    began = time.monotonic()
    _say("a round to warm up, not counted")
    yield 0, PAIRINGS[1], False
    for cycle, ppk in CYCLES:
        if cycle > 1 and time.monotonic() - began > LAST_CYCLE:
            _say("further cycles are left out: the machine is slow")
            return
        for makers in PAIRINGS:
            yield cycle, makers, ppk


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1:]))
