"""libreswan. Up to 5.3 it has no ML-KEM, so the tunnel is CLASSICAL, QKD key or not."""

from __future__ import annotations

from dataclasses import replace

from netns_lab.errors import LabError
from netns_lab.interop.lifetime import REKEYS
from netns_lab.interop.scenario import Run, Skipped, scenario
from netns_lab.interop.setup import CLASSICAL, CLASSICAL_ESP, Setup


@scenario("classical", peers=("libreswan",))
async def classical(run: Run) -> None:
    """X25519 and a pre-shared key, where the operator allows it."""
    async with run.pair(CLASSICAL) as pair:
        await pair.up("CLASSICAL")
        await pair.prove()


@scenario("classical-ppk", peers=("libreswan",))
async def classical_ppk(run: Run) -> None:
    """X25519 and a QKD key by RFC 8784, required at both ends: CLASSICAL, and keyed."""
    setup = replace(CLASSICAL, qkd="require", peer_ppk="require")
    async with run.pair(setup) as pair:
        await pair.up("CLASSICAL")
        found = await pair.prove()
        if not found.peer_ike.ppk or found.ike["ppk_method"] != "RFC8784":
            raise LabError(f"no PPK by RFC 8784: {found.ike}, {found.peer_ike}")


@scenario("classical-rekey-ours", peers=("libreswan",))
async def classical_rekey_ours(run: Run) -> None:
    """We rekey the Child SA with X25519, traffic running."""
    async with run.pair(CLASSICAL) as pair:
        await pair.up("CLASSICAL")
        found = await pair.prove()
        async with pair.traffic(peer_hastens=True):
            for _ in range(REKEYS):
                await pair.site.act("moon", "rekey")
                found = await pair.prove(unlike=found, by_create_child=True)


@scenario("classical-rekey-theirs", peers=("libreswan",))
async def classical_rekey_theirs(run: Run) -> None:
    """The peer rekeys the Child SA with X25519, traffic running."""
    async with run.pair(CLASSICAL) as pair:
        await pair.up("CLASSICAL")
        found = await pair.prove()
        async with pair.traffic():
            for _ in range(REKEYS):
                await pair.peer.rekey_child()
                found = await pair.prove(unlike=found, by_create_child=True)


@scenario("ppk-intermediate", peers=("libreswan",))
async def ppk_intermediate(run: Run) -> None:
    """X25519, ML-KEM-768 and a QKD key by RFC 9867, in IKE_INTERMEDIATE."""
    if _numbers(run.tree.version) < (5, 4):
        raise Skipped(
            f"libreswan {run.tree.version} has no ML-KEM, and RFC 9867 under private numbers only"
        )
    setup = Setup(esp=CLASSICAL_ESP, qkd="require", peer_ppk="require")
    async with run.pair(setup) as pair:
        await pair.up("HYBRID")
        found = await pair.prove()
        if found.ike["ppk_method"] != "RFC9867":
            raise LabError(f"no PPK by RFC 9867: {found.ike}")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(word) for word in version.split(".") if word.isdigit())
