"""Several Child SAs in one IKE SA."""

from __future__ import annotations

from netns_lab.interop.scenario import Run, scenario
from netns_lab.interop.setup import Setup
from netns_lab.peers.facts import Child

IPV6 = Child(name="net6", local=("fd02::/64",), remote=("fd01::/64",))


@scenario("two-children")
async def two_children(run: Run) -> None:
    """Two Child SAs in one IKE SA, for IPv4 and IPv6, each rekeyed by itself under traffic."""
    async with run.pair(Setup(children=(Child(), IPV6))) as pair:
        await pair.up("PQC_ONLY")
        found = await pair.prove()
        async with pair.traffic(peer_hastens=True):
            for rekey in (pair.rekey_child, pair.rekey_second_child, pair.peer.rekey_child):
                await rekey()
                found = await pair.prove(unlike=found)
        run.note("3 rekeys of one at a time")
