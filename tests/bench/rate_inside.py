"""Sets up IKE SAs between gateways of both makes, in one boot of the lab's kernel.

    python -m tests.bench.rate_inside [ROUND...]        prints one JSON object

A round is called after its initiator and responder: strongSwan-qsgw, or strongSwan-qsgw-ppk.
Those with QKD keys are played only when named: 300 pools at one KME take minutes to fill.

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
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from netns_lab.errors import LabError
from netns_lab.lab import Lab
from netns_lab.peers import fetch
from tests.bench import rate_site as site
from tests.bench.rate_keys import KeyNetwork
from tests.bench.rate_ours import Ours
from tests.bench.rate_site import Daemon, Side, Terms
from tests.bench.rate_strongswan import StrongSwan

AT_ONCE = 8
ROUND_SECONDS = 180.0
PAIRINGS = (
    ("strongSwan", "strongSwan"),
    ("strongSwan", "qsgw"),
    ("qsgw", "strongSwan"),
    ("qsgw", "qsgw"),
    ("strongSwan", "strongSwan"),  # the measure once more: how steady was the machine?
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One pairing. CPU in seconds and memory in MiB, of the daemons alone."""

    initiator: str
    responder: str
    ppk: bool
    count: int
    seconds: float
    initiator_cpu: float
    responder_cpu: float
    initiator_resident: float
    responder_resident: float


async def _set_up(initiator: Daemon, responder: Daemon, *, ppk: bool) -> Round:
    ups = await initiator.follow()
    daemons = (initiator, responder)
    before = [site.cpu_seconds(daemon.pid) for daemon in daemons]
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
        initiator=initiator.maker, responder=responder.maker, ppk=ppk, count=len(up),
        seconds=seconds, initiator_cpu=cpu[0], responder_cpu=cpu[1],
        initiator_resident=resident[0], responder_resident=resident[1],
    )  # fmt: skip


async def _check(daemon: Daemon, *, ppk: bool) -> None:
    """Every IKE SA is there, with what was asked for."""
    meant = site.AGREED + ("/PPK" if ppk else "")
    agreed = await daemon.agreed()
    if agreed != [meant] * site.COUNT:
        raise LabError(f"{daemon.maker} has {len(agreed)} IKE SAs: {sorted(set(agreed))}")


async def _play(lab: Lab, makers: tuple[str, str], tree: fetch.Tree, *, ppk: bool) -> Round:
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
            return await _set_up(daemons["moon"], daemons["sun"], ppk=ppk)
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


async def _main() -> list[Round]:
    tree = fetch.present(fetch.STRONGSWAN)
    if tree is None:
        raise LabError("strongSwan was not fetched")
    rounds = []
    only = sys.argv[1:]
    for ppk in (False, True):
        for makers in PAIRINGS:
            label = "-".join((*makers, *(("ppk",) if ppk else ())))
            if label not in only if only else ppk:
                continue
            try:
                async with Lab.up(f"rate-{label}", topology=site.topology()) as lab:
                    rounds.append(await _play(lab, makers, tree, ppk=ppk))
            except (LabError, TimeoutError) as error:  # the other rounds are worth having
                why = str(error).partition("\n")[0] or "not finished in time"
                print(f"bench: no rate for {label}: {why}", file=sys.stderr, flush=True)
            else:
                print(f"bench: {label}: {rounds[-1].seconds:.1f} s", file=sys.stderr, flush=True)
    return rounds


if __name__ == "__main__":
    json.dump({"rounds": [asdict(one) for one in asyncio.run(_main())]}, sys.stdout)
