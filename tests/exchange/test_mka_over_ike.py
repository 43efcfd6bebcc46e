"""MACsec keyed by an IKE SA: both ends derive the same CAK, each IKE rekey gives another."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.ike.config import PpkMode
from gateway.mka.hybrid import EXPORT_LABEL, EXPORT_SIZE, hybrid_cak
from gateway.mka.keys import Cak
from gateway.model import Mixed, Protection, Role
from tests.support.ike_pair import Pair, Side
from tests.support.mka_lan import Lan, lan


@pytest.fixture
def pair() -> Pair:
    return Pair(toy_kex=True, tunnels=(), ppk=PpkMode.PREFER).initiate(ppk=True)


def rekey(pair: Pair, side: Side, *, ppk: bool) -> None:
    key = pair.key(side) if ppk else None
    side.endpoint.rekey("net", ppk=key, now=pair.now)
    pair.run(10)


def cak_of(pair: Pair, side: Side, *, mixed: Mixed | None = None, link: str = "metro") -> Cak:
    """As the daemon does: from the IKE SA there is, with what that end knows of it."""
    ike = side.facts.ike[0]
    exported = side.endpoint.export_key(
        ike.spi_i, ike.spi_r, label=EXPORT_LABEL, context=b"", length=EXPORT_SIZE
    )
    assert ike.remote_id is not None
    own, other = ike.local_id.encode(), ike.remote_id.encode()
    initiator, responder = (own, other) if ike.role is Role.INITIATOR else (other, own)
    found = mixed or ike.mixed
    return hybrid_cak(exported, initiator=initiator, responder=responder, link=link, mixed=found)


def give(one: Lan, index: int, cak: Cak) -> None:
    one.act(index, lambda port: port.add_cak(cak, one.now))


@pytest.mark.parametrize("who", ["moon", "sun"])
@pytest.mark.parametrize("ppk", [True, False])
def test_each_ike_rekey_gives_another_cak_and_no_frame_is_lost(pair, who, ppk):
    one = lan()
    one.run(10.0)
    broken: list[float] = []

    def watch() -> None:
        left, right = (member.secy for member in one.members)
        if not (left.hears(right) and right.hears(left)):
            broken.append(one.now)

    one.watch = watch
    names = []
    for _ in range(3):
        caks = [cak_of(pair, side) for side in pair.sides]
        assert caks[0].ckn == caks[1].ckn
        names.append(caks[0].ckn)
        for index, cak in enumerate(caks):
            give(one, index, cak)
            one.run(0.5)
        one.run(12.0)
        for member in one.members:
            assert [item.ckn for item in member.port.view().participants] == [names[-1]]
        rekey(pair, getattr(pair, who), ppk=ppk)
        hybrid = pair.moon.facts.ike[0].mixed.protection is Protection.HYBRID
        assert hybrid is ppk
    assert len(set(names)) == 3
    assert not broken
    assert one.one_sak()


@pytest.mark.parametrize("differs", ["link", "mixed"])
def test_ends_that_do_not_agree_have_no_sak(pair, differs):
    """The negative twin: what one end believes of the IKE SA is bound in."""
    one = lan()
    for member in one.members:
        member.caks.clear()
    for index in range(2):
        one.restart(index)
    mixed = replace(pair.sun.facts.ike[0].mixed, key_id=None, ppk_method=None)
    other = {"link": "other"} if differs == "link" else {"mixed": mixed}
    give(one, 0, cak_of(pair, pair.moon))
    give(one, 1, cak_of(pair, pair.sun, **other))
    one.run(20.0)
    assert one.no_sak()
