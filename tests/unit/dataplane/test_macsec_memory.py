"""The kernel's MACsec rules, kept by the fake one."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_interface

import pytest

from gateway.dataplane.macsec_memory import MemoryMacsec
from gateway.dataplane.macsec_port import InterfaceChanged, InterfaceEventsLost, SecySpec
from gateway.dataplane.memory import InvariantViolation
from gateway.errors import DataplaneError
from gateway.mka.registry import CipherSuite
from gateway.model import PortState
from tests.support.macsec_contract import (
    CONTRACT,
    MacsecPair,
    install,
    receive_sa,
    secure,
    transmit_sa,
)

MAC_A, MAC_B = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
SPEC = SecySpec(
    link="core",
    parent="eth1",
    device="macsec-core",
    suite=CipherSuite.GCM_AES_256,
    encrypt=True,
    replay_window=0,
    filtered=True,
    addresses=(ip_interface("10.9.3.1/30"),),
)


@pytest.fixture
async def pair():
    a, b = MemoryMacsec(), MemoryMacsec()
    for plane, mac in ((a, MAC_A), (b, MAC_B)):
        plane.add_parent("eth1", mac)
        await plane.open()

    async def hears():
        return b.hears(a)

    return MacsecPair(a=a, b=b, spec_a=SPEC, spec_b=SPEC, hears=hears)


@pytest.mark.parametrize("rule", CONTRACT, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("window", [0, 64])
async def test_the_contract_of_every_plane(pair, rule, window):
    pair.spec_a = replace(pair.spec_a, replay_window=window)
    pair.spec_b = replace(pair.spec_b, replay_window=window)
    await rule(pair)


async def test_a_sak_that_was_removed_cannot_come_back(pair):
    await pair.up()
    sa = await secure(pair)
    await pair.a.remove_transmit_sa(SPEC.device, sa.an)
    with pytest.raises(InvariantViolation, match="packet numbers again"):
        await pair.a.install_transmit_sa(SPEC.device, sa)


async def test_the_caller_may_wipe_its_key(pair):
    await pair.up()
    sa = await install(pair, 1, an=0)
    sa.key.wipe()
    await pair.a.transmit_with(SPEC.device, 0)
    assert await pair.hears()


async def test_replays_are_late_and_the_window_takes_what_is_behind(pair):
    pair.spec_b = replace(SPEC, replay_window=2)
    await pair.up()
    await secure(pair)
    frames = [pair.a.send(SPEC.device) for _ in range(5)]
    assert pair.b.take_in(SPEC.device, frames[4])
    assert [pair.b.take_in(SPEC.device, frame) for frame in frames] == [
        *[False] * 3,
        *[True] * 2,
    ]
    _, b = await pair.states()
    assert b.counters.in_late == 3


async def test_when_packet_numbers_end_nothing_is_sent(pair):
    await pair.up()
    await secure(pair)
    pair.a.set_next_pn(SPEC.device, 0, 2**32 - 1)
    assert await pair.hears()
    assert not await pair.hears()
    a, _ = await pair.states()
    assert a.port is PortState.BLOCKED


async def test_frames_do_not_cross_an_interface_that_is_down(pair):
    await pair.up()
    await secure(pair)
    pair.b.change_parent("eth1", running=False)
    assert not await pair.hears()


async def test_another_mac_address_is_another_channel(pair):
    await pair.up()
    sa = await secure(pair)
    pair.a.change_parent("eth1", mac=bytes.fromhex("020000000009"))
    state = await pair.a.set_up(SPEC)
    assert state.sci.mac.hex() == "020000000009"
    assert state.transmit == ()
    await pair.a.install_transmit_sa(SPEC.device, sa)  # with another SCI in the nonce
    await pair.b.install_receive_sa(
        SPEC.device, receive_sa(transmit_sa(1, an=1, suite=SPEC.suite), state.sci)
    )


async def test_addresses_are_added_and_others_left_alone(pair):
    await pair.a.set_up(SPEC)
    other = ip_interface("fd00::1/64")
    await pair.a.set_up(replace(SPEC, addresses=(other,)))
    assert pair.a.addresses(SPEC.device) == {*SPEC.addresses, other}


async def test_a_second_device_with_the_same_channel_is_refused(pair):
    await pair.up()
    with pytest.raises(DataplaneError, match="macsec-two"):
        await pair.a.set_up(replace(SPEC, device="macsec-two"))
    assert await pair.a.read("macsec-two") is None


async def test_an_interface_of_that_name_is_not_touched(pair):
    with pytest.raises(DataplaneError, match="no MACsec device"):
        await pair.a.set_up(replace(SPEC, device="eth1"))


async def test_events_tell_what_to_read(pair):
    plane = pair.a
    events = plane.events()
    await plane.set_up(SPEC)
    plane.change_parent("eth1", mtu=1400)
    plane.lose_events()
    plane.vanish(SPEC.device)
    await plane.close()
    assert [event async for event in events] == [
        InterfaceChanged(SPEC.device),
        InterfaceChanged("eth1"),
        InterfaceEventsLost(),
        InterfaceChanged(SPEC.device),
    ]


async def test_a_refusal_can_be_staged_and_a_closed_plane_refuses_all(pair):
    pair.a.refuse("set_port", DataplaneError("macsec-core: words (EPERM)", 1))
    await pair.up()
    with pytest.raises(DataplaneError, match="words"):
        await pair.a.set_port(SPEC.device, PortState.SECURED)
    await pair.a.set_port(SPEC.device, PortState.SECURED)
    await pair.a.close()
    with pytest.raises(DataplaneError, match="not open"):
        await pair.a.read(SPEC.device)


async def test_a_parent_that_goes_takes_its_device_along(pair):
    await pair.up()
    pair.a.remove_parent("eth1")
    assert await pair.a.read(SPEC.device) is None
    assert not pair.a.filters
