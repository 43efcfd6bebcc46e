"""SAs that are replaced while traffic runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from netns_lab.errors import LabError
from netns_lab.interop import stray
from netns_lab.interop.pair import Pair
from netns_lab.interop.scenario import Run, scenario
from netns_lab.interop.setup import CLASSICAL, Setup
from netns_lab.readiness import wait_until

REKEYS = 3

SWIFT = Setup(
    tunnel={"rekey_min": "3s", "rekey_max": "3s", "more": {"ike_rekey": "20s"}},
    peer={"rekey_packets": 150, "rekey_ike": 12.0},  # packets: at 50 a second, as traffic runs
)
STORM_SECONDS = 180.0
CHILD_REKEYS, IKE_REKEYS = 30, 3


@scenario("child-rekey-ours")
async def child_rekey_ours(run: Run) -> None:
    """We rekey the Child SA with X25519 and ML-KEM (IKE_FOLLOWUP_KE), traffic running."""
    async with run.pair(Setup()) as pair:
        await pair.up("PQC_ONLY")
        found = await pair.prove()
        async with pair.traffic():
            for _ in range(REKEYS):
                await pair.site.act("moon", "rekey")
                found = await pair.prove(unlike=found, by_create_child=True)
        run.note(f"{REKEYS} rekeys")


@scenario("child-rekey-theirs")
async def child_rekey_theirs(run: Run) -> None:
    """The peer rekeys the Child SA with X25519 and ML-KEM, traffic running."""
    async with run.pair(Setup()) as pair:
        await pair.up("PQC_ONLY")
        found = await pair.prove()
        async with pair.traffic():
            for _ in range(REKEYS):
                await pair.peer.rekey_child()
                found = await pair.prove(unlike=found, by_create_child=True)
        run.note(f"{REKEYS} rekeys")


@scenario("ike-rekey-ours", peers=("strongswan", "libreswan"))
async def ike_rekey_ours(run: Run) -> None:
    """We rekey the IKE SA, with IKE_FOLLOWUP_KE where the peer has it, traffic running."""
    async with run.pair(_rekeyable(run)) as pair:
        await _rekey_ike(run, pair, pair.rekey_ike)


@scenario("ike-rekey-theirs", peers=("strongswan", "libreswan"))
async def ike_rekey_theirs(run: Run) -> None:
    """The peer rekeys the IKE SA, with IKE_FOLLOWUP_KE where it has it, traffic running."""
    async with run.pair(_rekeyable(run)) as pair:
        await _rekey_ike(run, pair, pair.peer.rekey_ike)


def _rekeyable(run: Run) -> Setup:
    return CLASSICAL if run.tree.name == "libreswan" else Setup()


async def _rekey_ike(run: Run, pair: Pair, rekey: Callable[[], Awaitable[None]]) -> None:
    """Its Child SAs go on untouched, and can be rekeyed in it."""
    await pair.up("PQC_ONLY", "CLASSICAL")
    found = await pair.prove()
    async with pair.traffic(peer_hastens=True):
        for _ in range(REKEYS):
            await rekey()
            after = await pair.prove(unlike_ike=found)
            if after.spis != found.spis:
                raise LabError(f"other Child SAs: {after.spis}, not {found.spis}")
            found = after
        await pair.rekey_child()
        await pair.prove(unlike=found, by_create_child=True)
    run.note(f"{REKEYS} rekeys of the IKE SA, then one of the Child SA")


@scenario("storm")
async def storm(run: Run) -> None:
    """Both ends rekey everything every few seconds: one IKE SA and one SA pair are left."""
    async with run.pair(SWIFT) as pair:
        await pair.up("PQC_ONLY")
        async with pair.traffic(peer_hastens=True):
            await wait_until(lambda: _rekeyed(pair), STORM_SECONDS, "so many rekeys", interval=1.0)
        await pair.calm(Setup())
        tunnel = await pair.only_one()
        if (begun := stray.attempts(pair.frames())) != 1:
            raise LabError(f"{begun} IKE SAs were set up, where one was to be rekeyed")
        run.note(f"{tunnel['rekeys']} child rekeys, {tunnel['ike_rekeys']} IKE rekeys")


async def _rekeyed(pair: Pair) -> bool:
    tunnel = await pair.site.tunnel("moon")
    return bool(tunnel["rekeys"] >= CHILD_REKEYS and tunnel["ike_rekeys"] >= IKE_REKEYS)
