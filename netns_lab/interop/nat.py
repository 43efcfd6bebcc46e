"""What lies between the two."""

from __future__ import annotations

from netns_lab import proof
from netns_lab.errors import LabError
from netns_lab.interop.scenario import Run, scenario
from netns_lab.interop.setup import Setup

REKEYS = 2
_ESP = 50  # as an IP protocol: outside UDP


@scenario("nat")
async def nat_between(run: Run) -> None:
    """A NAT in front of the initiator: ESP in UDP on port 4500, rekeys from both ends."""
    async with run.pair(Setup(qkd="require", peer_ppk="require", nat=True)) as pair:
        await pair.up("HYBRID")
        found = await pair.prove()
        if not found.ike["nat"]:
            raise LabError("we did not notice the NAT")
        packets = [proof.ip_packet(frame.data) for frame in pair.frames()]
        bare = sum(1 for packet in packets if packet is not None and packet.protocol == _ESP)
        if bare:
            raise LabError(f"{bare} ESP packets outside UDP")
        run.note(f"we see the peer at {found.ike['remote']}")
