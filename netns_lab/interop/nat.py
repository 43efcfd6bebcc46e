"""What lies between the two."""

from __future__ import annotations

from netns_lab import proof
from netns_lab.errors import LabError
from netns_lab.interop.scenario import Run, scenario
from netns_lab.interop.setup import Setup

REKEYS = 1  # by each end
_ESP = 50  # as an IP protocol: outside UDP


@scenario("nat")
async def nat_between(run: Run) -> None:
    """A NAT in front of the initiator: ESP in UDP on port 4500, rekeys from both ends."""
    async with run.pair(Setup(nat=True)) as pair:
        await pair.up("PQC_ONLY")
        found = await pair.prove()
        if not found.ike["nat"]:
            raise LabError("we did not notice the NAT")
        async with pair.traffic():
            for rekey in (pair.rekey_child, pair.peer.rekey_child) * REKEYS:
                await rekey()
                found = await pair.prove(unlike=found, by_create_child=True)
        packets = [proof.ip_packet(frame.data) for frame in pair.frames()]
        bare = sum(1 for packet in packets if packet is not None and packet.protocol == _ESP)
        if bare:
            raise LabError(f"{bare} ESP packets outside UDP")
        run.note(f"{2 * REKEYS} rekeys; we see the peer at {found.ike['remote']}")
