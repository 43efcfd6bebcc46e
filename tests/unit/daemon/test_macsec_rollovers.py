"""CAK and SAK rollovers of MACsec links, as their connections and suites may have them."""

from __future__ import annotations

import asyncio
import random

import pytest

from gateway.config.schema import Start
from gateway.mka.registry import CipherSuite
from gateway.model import PortState, Protection, QkdPolicy
from gateway.protection.inputs import OperatorRekey
from tests.support.macsec_site import LINK, MacsecSite
from tests.support.memory_lan import MACS
from tests.support.virtual_loop import run_virtually

NAMES = ("moon", "sun")
DECIDED_TO_IN_USE = 2.0  # seconds from policy's decision to the SAK that follows from it


@pytest.mark.parametrize("who", NAMES)
@pytest.mark.parametrize("after", [0.05, 0.2, 0.5, 1.0, 3.0])
def test_a_rekey_in_the_middle_of_a_rollover_is_followed_as_soon(who: str, after: float) -> None:
    """However long ago the one before was: a suspicion can come at any moment."""

    async def scenario() -> None:
        async with MacsecSite(rekey_max=3600.0) as site:
            await site.until_links(Protection.HYBRID, 30)
            await asyncio.sleep(10)
            site.start_frames()
            site.moon.tunnel.feed(OperatorRekey())
            await asyncio.sleep(after)
            old = {name: newest(site, name) for name in NAMES}
            getattr(site, who).tunnel.feed(OperatorRekey())
            decided = asyncio.get_running_loop().time()
            await site.until(lambda: all(newest(site, n) != old[n] for n in NAMES), 10)
            await site.until(lambda: all(sends_under_newest(site, n) for n in NAMES), 10)
            assert asyncio.get_running_loop().time() - decided < DECIDED_TO_IN_USE
            await asyncio.sleep(10)
            assert site.deaf == []

    run_virtually(scenario())


def newest(site: MacsecSite, name: str) -> bytes:
    cak = site.link_of(name).caks.newest
    assert cak is not None
    return cak.ckn


def sends_under_newest(site: MacsecSite, name: str) -> bool:
    facts = site.link_of(name).facts
    assert facts is not None
    return any(sak.transmits and sak.ckn == newest(site, name) for sak in facts.saks)


def test_ends_that_both_rekey_lose_nothing() -> None:
    async def scenario() -> None:
        async with MacsecSite(start=Start.INITIATE) as site:
            await site.until_links(Protection.HYBRID, 30)
            await asyncio.sleep(10)
            site.start_frames()
            await site.until(lambda: site.link_of("moon").events.tally.cak_rollovers >= 8, 800)
            await asyncio.sleep(10)
            assert site.deaf == []
            for name in NAMES:
                assert len((await site.view(name)).caks) <= 2
                assert site.shown(name) == ["HYBRID"]

    run_virtually(scenario())


def test_frames_that_get_lost_delay_a_rollover_and_cost_nothing() -> None:
    """One EAPOL frame in five, never two of a sender in a row: of three Hellos one gets through."""

    async def scenario() -> None:
        async with MacsecSite() as site:
            dice = random.Random(7)
            lost = dict.fromkeys(NAMES, False)

            def loses(name: str, _frame: bytes) -> bool:
                lost[name] = not lost[name] and dice.random() < 0.2
                return lost[name]

            site.lan.loses = loses
            await site.until_links(Protection.HYBRID, 60)
            await asyncio.sleep(10)
            site.start_frames(0.05)
            await site.until(lambda: site.link_of("moon").events.tally.cak_rollovers >= 8, 900)
            assert site.deaf == []

    run_virtually(scenario())


@pytest.mark.parametrize("suite", list(CipherSuite))
def test_every_suite(suite: CipherSuite) -> None:
    async def scenario() -> None:
        given = {"suite": suite, "accept": frozenset({suite})}
        async with MacsecSite(macsec=given) as site:
            await site.until_links(Protection.HYBRID, 30)
            await asyncio.sleep(5)
            site.start_frames()
            assert (await site.view("sun")).saks[0].suite == suite.name.replace("_", "-")
            await site.until(lambda: site.link_of("moon").events.tally.cak_rollovers >= 2, 200)
            assert site.deaf == []

    run_virtually(scenario())


def test_a_member_follows_the_key_servers_suite() -> None:
    """A device has one suite: the member's is made anew once, before anything passed."""

    async def scenario() -> None:
        both = frozenset({CipherSuite.GCM_AES_128, CipherSuite.GCM_AES_256})
        site = MacsecSite(macsec={"accept": both})
        site.settings["moon"]["macsec"] = {
            LINK: {"accept": both, "suite": CipherSuite.GCM_AES_128, "priority": 1}
        }
        site.moon = site._gateway("moon", seed=3)
        async with site:
            await site.until_links(Protection.HYBRID, 30)
            await asyncio.sleep(5)
            site.start_frames()
            view = await site.view("sun")
            assert view.saks[0].suite == "GCM-AES-128"
            assert view.saks[0].in_kernel
            await site.until(lambda: site.link_of("moon").events.tally.cak_rollovers >= 2, 200)
            assert site.deaf == []
            assert site.alarms("sun") == set()

    run_virtually(scenario())


def test_integrity_only() -> None:
    async def scenario() -> None:
        async with MacsecSite(macsec={"encrypt": False}) as site:
            await site.until_links(Protection.HYBRID, 30)
            await asyncio.sleep(3)
            site.start_frames()
            assert not (await site.view("moon")).saks[0].encrypted
            await asyncio.sleep(80)
            assert site.deaf == []

    run_virtually(scenario())


def test_delay_protection_and_a_sak_lifetime() -> None:
    async def scenario() -> None:
        given = {"delay_protect": True, "sak_lifetime": 10.0, "replay_window": 0}
        async with MacsecSite(macsec=given) as site:
            await site.until_links(Protection.HYBRID, 30)
            await asyncio.sleep(5)
            site.start_frames()
            await site.until(lambda: site.link_of("sun").events.tally.sak_rollovers >= 8, 200)
            assert site.deaf == []

    run_virtually(scenario())


def test_packet_numbers_that_run_out_bring_another_sak() -> None:
    async def scenario() -> None:
        async with MacsecSite(rekey_max=3600.0) as site:
            await site.until_links(Protection.HYBRID, 30)
            await asyncio.sleep(8)
            before = (await site.view("moon")).saks[0]
            site.moon.macsec.set_next_pn("macsec-metro", before.an, 0xC000_0000)
            await site.until(lambda: site.link_of("moon").events.tally.sak_rollovers >= 1, 10)
            site.start_frames()
            await asyncio.sleep(8)
            after = await site.view("moon")
            assert after.saks[0].ki != before.ki
            assert len(after.caks) == 1
            assert site.deaf == []

    run_virtually(scenario())


def test_two_links_of_one_connection_have_caks_of_their_own() -> None:
    async def scenario() -> None:
        links = {LINK: {}, "second": {"interface": "eth2"}}
        site = MacsecSite()
        for name in NAMES:
            site.settings[name]["macsec"] = links
            setattr(site, name, site._gateway(name, seed=NAMES.index(name) + 5))
            site.lan.planes[name].add_parent("eth2", MACS[name][:-1] + bytes((9,)))
        site.lan.planes["sun"].change_parent("eth2", mac=bytes((2, 0, 0, 0, 0, 8)))
        async with site:
            await site.until_links(Protection.HYBRID, 30)
            await asyncio.sleep(2)
            ckns = set()
            for name in NAMES:
                gateway = getattr(site, name)
                views = await gateway.links.views(str)
                assert [view.name for view in views] == [LINK, "second"]
                assert [view.protection for view in views] == [Protection.HYBRID] * 2
                ckns |= {cak.ckn for view in views for cak in view.caks if cak.principal}
            assert len(ckns) == 2
            # Policy is that of the connection: both go at once.
            await site.reload("moon", qkd=QkdPolicy.REQUIRE)
            site.link.report("suspect", *NAMES)
            await site.until(lambda: site.moon.protection is Protection.BLOCKED, 30)
            for link in site.moon.links.links.values():
                assert link.protection is Protection.BLOCKED
                assert link.facts is not None
                assert link.facts.port is PortState.BLOCKED

    run_virtually(scenario())


def test_many_links_are_cheap() -> None:
    """What a link does each Hello Time, counted: its cost is not to grow with their number."""

    async def scenario(count: int) -> int:
        links = {f"l{i}": {"interface": f"p{i}", "device": f"m{i}"} for i in range(count)}
        site = MacsecSite(rekey_max=3600.0)
        for number, name in enumerate(NAMES):
            site.settings[name]["macsec"] = links
            setattr(site, name, site._gateway(name, seed=number + 5))
            for i in range(count):
                site.lan.planes[name].add_parent(f"p{i}", bytes((2, number, 0, 0, 0, i)))
        async with site:
            await asyncio.sleep(20)
            views = await site.moon.links.views(str)
            assert [view.protection for view in views] == [Protection.HYBRID] * count
            reads = 0
            read = site.moon.macsec.read

            async def counted(device: str) -> object:
                nonlocal reads
                reads += 1
                return await read(device)

            site.moon.macsec.read = counted  # type: ignore[method-assign, assignment]
            before = len(site.lan.frames)
            await asyncio.sleep(20)
            assert reads == 10 * count
            return len(site.lan.frames) - before

    assert run_virtually(scenario(20)) == 20 * run_virtually(scenario(1))
