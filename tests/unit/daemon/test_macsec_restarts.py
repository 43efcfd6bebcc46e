"""A MACsec link while daemons, interfaces and configurations come and go."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gateway.config.schema import StaticCak
from gateway.crypto.secret import Secret
from gateway.dataplane.macsec_port import SecySpec, SecyState
from gateway.errors import DataplaneError
from gateway.model import PortSecurity, PortState, Protection, QkdPolicy
from gateway.protection.inputs import OperatorTerminate
from tests.support.macsec_site import DEVICE, LINK, MacsecSite
from tests.support.memory_lan import PARENT
from tests.support.virtual_loop import run_virtually

NAMES = ("moon", "sun")


def static(key: int = 1, ckn: bytes = b"by hand") -> StaticCak:
    return StaticCak(ckn=ckn, cak=Secret(bytes([key]) * 32))


def by_hand(**changes: object) -> dict[str, object]:
    return {"connection": None, "static": static(), **changes}


@pytest.mark.parametrize("name", NAMES)
def test_a_restarted_daemon_takes_over_without_losing_a_frame(name: str) -> None:
    async def scenario() -> None:
        async with MacsecSite() as site:
            await site.until_links(Protection.HYBRID, 30)
            await asyncio.sleep(6)
            site.start_frames()
            await site.restart(name)
            assert site.link_of(name).protection is Protection.DOWN
            assert "earlier run" in (await site.view(name)).reason
            await site.until_links(Protection.HYBRID, 30)
            await asyncio.sleep(20)
            assert site.deaf == []
            assert site.alarms(name) == set()

    run_virtually(scenario())


@pytest.mark.parametrize("name", NAMES)
def test_a_device_that_vanishes_is_made_anew_with_another_sak(name: str) -> None:
    async def scenario() -> None:
        async with MacsecSite() as site:
            await site.until_links(Protection.HYBRID, 30)
            await asyncio.sleep(6)
            ki = (await site.view(name)).saks[0].ki
            getattr(site, name).macsec.vanish(DEVICE)
            await asyncio.sleep(0.1)
            assert site.link_of(name).protection is Protection.DOWN
            await asyncio.sleep(12)
            view = await site.view(name)
            assert view.protection is Protection.HYBRID
            assert view.saks[0].ki != ki
            assert "the device is gone" in str(view.last_error)
            site.start_frames()
            await asyncio.sleep(5)
            assert site.deaf == []

    run_virtually(scenario())


@pytest.mark.parametrize("which", ["transmit", "receive"])
def test_an_sa_that_somebody_removed_is_replaced(which: str) -> None:
    async def scenario() -> None:
        async with MacsecSite() as site:
            await site.until_links(Protection.HYBRID, 30)
            await asyncio.sleep(6)
            plane = site.moon.macsec
            state = await plane.read(DEVICE)
            assert state is not None
            if which == "transmit":
                await plane.remove_transmit_sa(DEVICE, state.encoding_an)
            else:
                (found,) = state.receive
                await plane.remove_receive_sa(DEVICE, found.sci, found.an)
            await asyncio.sleep(12)
            await site.until_links(Protection.HYBRID, 10)
            site.start_frames()
            await asyncio.sleep(5)
            assert site.deaf == []

    run_virtually(scenario())


def test_what_somebody_opened_is_closed_again() -> None:
    async def scenario() -> None:
        async with MacsecSite() as site:
            await site.until_links(Protection.HYBRID, 30)
            await site.moon.macsec.set_port(DEVICE, PortState.CLEAR)
            site.moon.macsec.filters.discard(PARENT)
            await asyncio.sleep(2.5)
            assert (await site.view("moon")).port is PortState.SECURED
            assert PARENT in site.moon.macsec.filters
            assert site.link_of("moon").protection is Protection.HYBRID

    run_virtually(scenario())


def test_an_interface_that_is_missing_is_waited_for() -> None:
    async def scenario() -> None:
        site = MacsecSite()
        parent = site.moon.macsec.parents[PARENT]
        site.moon.macsec.remove_parent(PARENT)
        async with site:
            await site.until_both(Protection.HYBRID, 30)
            await asyncio.sleep(5)
            assert site.alarms("moon") == {"macsec-interface-missing"}
            assert (await site.view("moon")).protection is Protection.DOWN
            site.moon.macsec.add_parent(PARENT, parent.mac)
            await site.until_links(Protection.HYBRID, 20)
            assert site.alarms("moon") == set()

    run_virtually(scenario())


@pytest.mark.parametrize("mac", [bytes((2, 0, 0, 0, 0, 1)), bytes((2, 0, 0, 0, 9, 9))])
def test_an_interface_that_goes_and_comes_back(mac: bytes) -> None:
    async def scenario() -> None:
        async with MacsecSite() as site:
            await site.until_links(Protection.HYBRID, 30)
            site.moon.macsec.remove_parent(PARENT)
            await asyncio.sleep(10)
            assert site.alarms("moon") == {"macsec-interface-missing"}
            site.moon.macsec.add_parent(PARENT, mac)
            await asyncio.sleep(15)
            await site.until_links(Protection.HYBRID, 10)
            assert (await site.view("moon")).sci == f"{mac.hex(':')}/1"

    run_virtually(scenario())


def test_an_interface_with_another_mac_address_has_another_sci() -> None:
    async def scenario() -> None:
        async with MacsecSite() as site:
            await site.until_links(Protection.HYBRID, 30)
            mac = bytes((2, 0, 0, 0, 7, 7))
            site.moon.macsec.change_parent(PARENT, mac=mac)
            await asyncio.sleep(15)
            await site.until_links(Protection.HYBRID, 10)
            assert (await site.view("moon")).sci == f"{mac.hex(':')}/1"
            site.start_frames()
            await asyncio.sleep(5)
            assert site.deaf == []

    run_virtually(scenario())


def test_a_link_that_is_down_is_told() -> None:
    async def scenario() -> None:
        async with MacsecSite() as site:
            await site.until_links(Protection.HYBRID, 30)
            site.moon.macsec.change_parent(PARENT, running=False)
            await asyncio.sleep(15)
            assert "macsec-interface-down" in site.alarms("moon")
            assert site.link_of("sun").protection is Protection.DOWN
            site.moon.macsec.change_parent(PARENT, running=True)
            await site.until_links(Protection.HYBRID, 20)
            await asyncio.sleep(3)
            assert site.alarms("moon") == site.alarms("sun") == set()

    run_virtually(scenario())


def test_a_smaller_mtu_below_is_followed() -> None:
    async def scenario() -> None:
        async with MacsecSite() as site:
            await site.until_links(Protection.HYBRID, 30)
            await asyncio.sleep(5)
            site.start_frames()
            site.moon.macsec.change_parent(PARENT, mtu=1400)
            await asyncio.sleep(5)
            assert (await site.view("moon")).mtu == 1368
            assert site.deaf == []

    run_virtually(scenario())


def test_a_kernel_that_refuses_is_told_and_tried_again() -> None:
    async def scenario() -> None:
        site = MacsecSite()
        refusal = DataplaneError("macsec-metro: no more devices (ENOSPC)")
        site.moon.macsec.refuse("set_up", refusal)
        async with site:
            await asyncio.sleep(0.5)
            assert "macsec-device" in site.alarms("moon")
            assert "ENOSPC" in (await site.view("moon")).reason
            await site.until_links(Protection.HYBRID, 30)
            await asyncio.sleep(3)
            assert site.alarms("moon") == set()
            for verb in ("install_transmit_sa", "install_receive_sa", "transmit_with"):
                site.moon.macsec.refuse(verb, DataplaneError(f"{verb} refused"))
                site.link_of("moon").new_sak()
                site.link_of("sun").new_sak()
                await asyncio.sleep(25)
            await site.until_links(Protection.HYBRID, 30)
            assert site.link_of("moon").events.tally.failures >= 3

    run_virtually(scenario())


@pytest.mark.parametrize("other", [static(2), static(1, b"another")])
def test_a_wrong_cak_or_ckn_says_so(other: StaticCak) -> None:
    async def scenario() -> None:
        site = MacsecSite(macsec=by_hand())
        site.settings["sun"]["macsec"] = {LINK: by_hand(static=other)}
        site.sun = site._gateway("sun", seed=5)
        async with site:
            await asyncio.sleep(20)
            view = await site.view("moon")
            (alarm,) = [a for a in site.moon.bulletin.alarms if a.id == "macsec-peer-refused"]
            assert alarm.text == view.last_error
            wanted = "the CAK differs" if other.ckn == b"by hand" else other.ckn.hex()
            assert wanted in alarm.text
            assert "02:00:00:00:00:02" in alarm.text
            assert view.protection is Protection.DOWN

    run_virtually(scenario())


def test_a_static_cak_is_shown_as_classical_with_a_warning() -> None:
    async def scenario() -> None:
        async with MacsecSite(macsec=by_hand()) as site:
            await site.until_links(Protection.CLASSICAL, 20)
            await asyncio.sleep(3)
            assert site.alarms("moon") == {"macsec-static-cak"}
            site.start_frames()
            await site.restart("moon")
            await asyncio.sleep(15)
            await site.until_links(Protection.CLASSICAL, 20)
            assert site.deaf == []

    run_virtually(scenario())


def test_should_secure_passes_in_the_clear_with_a_critical_alarm_until_there_is_a_sak() -> None:
    async def scenario() -> None:
        async with MacsecSite(macsec={"security": PortSecurity.SHOULD_SECURE}) as site:
            await asyncio.sleep(0.2)
            assert site.moon.macsec.filters == set()
            assert site.hears("moon")
            assert "macsec-clear" in site.alarms("moon")
            await site.until_links(Protection.HYBRID, 30)
            await asyncio.sleep(3)
            view = await site.view("moon")
            assert (view.port, site.alarms("moon")) == (PortState.SECURED, set())

    run_virtually(scenario())


def test_reloads() -> None:
    async def scenario() -> None:
        async with MacsecSite() as site:
            await site.until_links(Protection.HYBRID, 30)
            await asyncio.sleep(5)
            site.start_frames()
            link = site.link_of("moon")
            await site.reload("moon")
            assert site.link_of("moon") is link, "what is the same is not touched"
            # How, not with whom: SAs and CAKs go on.
            await site.reload("moon", macsec={LINK: {"priority": 8}})
            assert site.link_of("moon") is not link
            assert site.link_of("moon").protection is Protection.HYBRID
            await asyncio.sleep(20)
            assert site.deaf == []
            assert (await site.view("moon")).we_are_key_server
            # Another name for the link: other CAKs, so nothing of what was there is used.
            await site.reload("moon", macsec={LINK: {"link": "another"}})
            await asyncio.sleep(0.1)
            assert not site.hears("moon")
            await asyncio.sleep(20)
            assert site.link_of("moon").protection is Protection.DOWN
            assert "macsec-peer-refused" in site.alarms("moon")
            await site.reload("sun", macsec={LINK: {"link": "another"}})
            await site.until_links(Protection.HYBRID, 120)
            # Gone from the file: device and filter, too.
            await site.reload("moon", macsec={})
            assert site.moon.macsec.only_device() == ""
            assert site.moon.macsec.filters == set()
            assert not site.moon.links.links
            await site.reload("moon", macsec={LINK: {"link": "another"}})
            await site.until_links(Protection.HYBRID, 120)

    run_virtually(scenario())


def test_on_stop_close_leaves_a_device_that_lets_nothing_pass() -> None:
    async def scenario() -> None:
        async with MacsecSite() as site:
            await site.until_links(Protection.HYBRID, 30)
            await site.moon.links.close()
            state = await site.moon.macsec.read(DEVICE)
            assert state is not None
            assert (state.port, state.transmit, state.receive) == (PortState.BLOCKED, (), ())
            assert PARENT in site.moon.macsec.filters

    run_virtually(scenario())


def test_a_connection_to_another_peer_ends_what_the_first_one_keyed() -> None:
    async def scenario() -> None:
        async with MacsecSite() as site:
            await site.until_links(Protection.HYBRID, 30)
            await site.reload("moon", remote_id="somebody.example")
            await asyncio.sleep(0.1)
            assert not site.hears("moon")
            assert (await site.view("moon")).caks == ()

    run_virtually(scenario())


def test_another_vendors_peer_gives_no_cak(monkeypatch: pytest.MonkeyPatch) -> None:
    from gateway.ike.flows import sa_init

    original = sa_init._peer_traits
    monkeypatch.setattr(sa_init, "_peer_traits", lambda *args: replace(original(*args), qsgw=False))

    async def scenario() -> None:
        async with MacsecSite() as site:
            await site.until_both(Protection.HYBRID, 30)
            await asyncio.sleep(3)
            assert "macsec-peer-foreign" in site.alarms("moon")
            assert (await site.view("moon")).caks == ()

    run_virtually(scenario())


def test_both_daemons_restart_at_once() -> None:
    async def scenario() -> None:
        async with MacsecSite() as site:
            await site.until_links(Protection.HYBRID, 30)
            await asyncio.sleep(6)
            site.start_frames()
            for name in NAMES:
                await site.kill(name)
            await asyncio.sleep(30)
            assert site.deaf == [], "the kernels go on by themselves"
            for name in NAMES:
                await site.bring_back(name)
            await site.until_links(Protection.HYBRID, 30)
            await asyncio.sleep(20)
            assert site.deaf == []

    run_virtually(scenario())


def test_a_daemon_that_is_away_for_long_finds_back() -> None:
    async def scenario() -> None:
        async with MacsecSite() as site:
            await site.until_links(Protection.HYBRID, 30)
            await site.kill("sun")
            await asyncio.sleep(60)
            assert site.link_of("moon").protection is Protection.DOWN
            assert not site.hears("moon")
            await site.bring_back("sun")
            await site.until_links(Protection.HYBRID, 30)
            await asyncio.sleep(10)
            site.start_frames()
            await asyncio.sleep(30)
            assert site.deaf == []

    run_virtually(scenario())


def test_sas_of_an_earlier_run_go_where_qkd_is_required_and_there_are_no_keys() -> None:
    async def scenario() -> None:
        async with MacsecSite(qkd=QkdPolicy.REQUIRE) as site:
            await site.until_links(Protection.HYBRID, 30)
            await asyncio.sleep(6)
            await site.kill("moon")
            site.link.cut()
            await site.bring_back("moon")
            await site.until(lambda: site.link_of("moon").protection is Protection.BLOCKED, 60)
            await asyncio.sleep(0.1)
            assert not site.hears("moon")
            assert not site.hears("sun")

    run_virtually(scenario())


def test_sas_of_an_earlier_run_do_not_stay_for_ever() -> None:
    """The management network is down all the time: nobody gives this daemon a CAK."""

    async def scenario() -> None:
        async with MacsecSite() as site:
            await site.until_links(Protection.HYBRID, 30)
            for name in NAMES:
                await site.kill(name)
            site.wire.loses = lambda _data: True
            for name in NAMES:
                await site.bring_back(name)
            await asyncio.sleep(100)
            assert site.hears("moon")
            assert "macsec-down" not in site.alarms("moon"), "traffic passes"
            await asyncio.sleep(25)
            assert not site.hears("moon")
            assert not site.hears("sun")

    run_virtually(scenario())


def test_an_end_that_closes_the_ike_sa_means_its_keys_and_the_other_may_be_mistaken() -> None:
    """Whoever hears of a deletion may lack an IKE SA that the other has; MKA tells them apart."""

    async def scenario() -> None:
        async with MacsecSite() as site:
            await site.until_links(Protection.HYBRID, 30)
            endpoint, now = site.moon.driver.endpoint, site.moon.clock()
            site.moon.tunnel.retire()
            site.sun.tunnel.retire()
            site.moon.driver.run(lambda: endpoint.close("sun", reason="it stops", now=now))
            await asyncio.sleep(0.1)
            assert not site.hears("moon")
            assert not site.hears("sun")
            assert not (await site.view("moon")).caks
            assert (await site.view("sun")).caks
            await asyncio.sleep(10)
            assert not (await site.view("sun")).saks
            assert "cak-not-renewed" in site.alarms("sun")

    run_virtually(scenario())


def test_what_policy_closes_while_a_link_is_made_anew_stays_closed() -> None:
    async def scenario() -> None:
        async with MacsecSite() as site:
            await site.until_links(Protection.HYBRID, 30)
            plane, going_on = site.moon.macsec, asyncio.Event()
            set_up = plane.set_up

            async def slow(spec: SecySpec) -> SecyState:
                state = await set_up(spec)
                await going_on.wait()
                return state

            plane.set_up = slow  # type: ignore[method-assign]
            reloading = asyncio.create_task(site.reload("moon", macsec={LINK: {"priority": 3}}))
            await asyncio.sleep(0.5)
            site.moon.tunnel.feed(OperatorTerminate())
            going_on.set()
            await reloading
            facts = site.link_of("moon").facts
            assert facts is not None
            assert facts.port is PortState.BLOCKED, "at once, not when the peer has answered"
            await asyncio.sleep(0.1)
            assert not site.hears("moon")
            assert not site.hears("sun")
            assert (await site.view("moon")).saks == ()

    run_virtually(scenario())


def test_a_restart_in_the_middle_of_a_rollover_leaves_no_sa_behind() -> None:
    async def scenario() -> None:
        async with MacsecSite(rekey_max=3600.0) as site:
            await site.until_links(Protection.HYBRID, 30)
            await asyncio.sleep(8)
            site.start_frames()
            site.link_of("moon").new_sak()
            await asyncio.sleep(0.5)
            state = await site.sun.macsec.read(DEVICE)
            assert state is not None
            assert len(state.transmit) == 2
            await site.restart("sun")
            await site.until_links(Protection.HYBRID, 30)
            await asyncio.sleep(12)
            state = await site.sun.macsec.read(DEVICE)
            assert state is not None
            assert len(state.transmit) == len(state.receive) == 1
            assert site.deaf == []

    run_virtually(scenario())
