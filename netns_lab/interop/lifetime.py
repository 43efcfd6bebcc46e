"""SAs that are replaced while traffic runs."""

from __future__ import annotations

from netns_lab.interop.scenario import Run, scenario
from netns_lab.interop.setup import Setup

REKEYS = 3


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
