"""QKD keys with a peer that knows RFC 8784 only, and what happens where one side has none."""

from __future__ import annotations

from netns_lab.errors import LabError
from netns_lab.interop.scenario import Run, scenario
from netns_lab.interop.setup import Setup

STRAY_KEY_ID = "5ca1ab1e-0000-4000-8000-000000000001"
STRAY_KEY = bytes(range(32))
"""A PPK that the peer alone has."""


@scenario("hybrid")
async def hybrid(run: Run) -> None:
    """X25519, ML-KEM-768 and a QKD key by RFC 8784, required at both ends."""
    async with run.pair(Setup(qkd="require", peer_ppk="require")) as pair:
        await pair.up("HYBRID")
        found = await pair.prove()
        if not found.peer_ike.ppk or found.ike["ppk_method"] != "RFC8784":
            raise LabError(f"no PPK by RFC 8784: {found.ike}, {found.peer_ike}")


@scenario("ppk-ours-only-optional")
async def ppk_ours_only_optional(run: Run) -> None:
    """We would like a QKD key, the peer knows none: up without."""
    async with run.pair(Setup(qkd="prefer")) as pair:
        await pair.up("PQC_ONLY")
        await pair.prove()


@scenario("ppk-ours-only-required")
async def ppk_ours_only_required(run: Run) -> None:
    """We insist on a QKD key, the peer knows none: refused, nothing passes."""
    async with run.pair(Setup(qkd="require")) as pair:
        if not pair.we_initiate:
            await pair.peer_initiates()
        await pair.refused()


@scenario("ppk-peer-only-optional")
async def ppk_peer_only_optional(run: Run) -> None:
    """The peer would like a PPK, we use none: up without."""
    async with run.pair(Setup(peer_ppk="prefer")) as pair:
        await pair.peer.give_ppks({STRAY_KEY_ID: STRAY_KEY})
        if not pair.we_initiate:
            await pair.peer_names(STRAY_KEY_ID)
        await pair.up("PQC_ONLY")
        await pair.prove()


@scenario("ppk-peer-only-required")
async def ppk_peer_only_required(run: Run) -> None:
    """The peer insists on a PPK, we use none: refused, nothing passes."""
    async with run.pair(Setup(peer_ppk="require")) as pair:
        await pair.peer.give_ppks({STRAY_KEY_ID: STRAY_KEY})
        if not pair.we_initiate:
            await pair.peer_names(STRAY_KEY_ID)
            await pair.peer_initiates()
        await pair.refused()


@scenario("fresh-key-under-traffic", roles=("initiator",))
async def fresh_key_under_traffic(run: Run) -> None:
    """A fresh QKD key for each new IKE SA, made before the old one goes, traffic running."""
    async with run.pair(Setup(qkd="require", peer_ppk="require")) as pair:
        await pair.up("HYBRID")
        found = await pair.prove()
        used = {found.ike["key_id"]}
        async with pair.traffic():
            for _ in range(3):
                await pair.keys_brought()
                await pair.site.act("moon", "rekey")
                found = await pair.prove(unlike=found, unlike_ike=found)
                used.add(found.ike["key_id"])
        if len(used) != 4:
            raise LabError(f"4 IKE SAs with {len(used)} QKD keys")
        run.note("3 new IKE SAs, each with a QKD key of its own")
