"""What holds of every MacsecPlane, in memory and in the kernel: one test body for both.

Two planes with a device each, joined. ``hears`` sends one frame from a to b.
"""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import pytest

from gateway.crypto.secret import Secret
from gateway.dataplane.macsec_port import (
    MacsecPlane,
    ReceiveSaSpec,
    SecySpec,
    SecyState,
    TransmitSaSpec,
)
from gateway.errors import DataplaneError
from gateway.mka.identifiers import KeyIdentifier, MemberId, Sci
from gateway.mka.registry import CipherSuite
from gateway.model import PortState

STRANGER = Sci(bytes.fromhex("02ffffffffff"))


@dataclass(kw_only=True)
class MacsecPair:
    a: MacsecPlane
    b: MacsecPlane
    spec_a: SecySpec
    spec_b: SecySpec
    hears: Callable[[], Awaitable[bool]]  # whether b takes in a frame that a sends now

    def with_suite(self, suite: CipherSuite) -> MacsecPair:
        a, b = (replace(spec, suite=suite) for spec in (self.spec_a, self.spec_b))
        return replace(self, spec_a=a, spec_b=b)

    async def up(self) -> tuple[SecyState, SecyState]:
        return await self.a.set_up(self.spec_a), await self.b.set_up(self.spec_b)

    async def states(self) -> tuple[SecyState, SecyState]:
        a, b = await self.a.read(self.spec_a.device), await self.b.read(self.spec_b.device)
        assert a is not None
        assert b is not None
        return a, b


def transmit_sa(number: int, *, an: int, suite: CipherSuite) -> TransmitSaSpec:
    """SAK ``number``, at the end whose SSCI is 1."""
    xpn = suite.xpn
    return TransmitSaSpec(
        an=an,
        key=Secret(bytes([number]) * suite.key_size),
        ki=KeyIdentifier(MemberId(bytes([0xA0]) * 12), number),
        ssci=1 if xpn else None,
        salt=bytes([number]) * 12 if xpn else None,
    )


def receive_sa(sa: TransmitSaSpec, sci: Sci, *, lowest_pn: int = 1) -> ReceiveSaSpec:
    """The other end of it."""
    return ReceiveSaSpec(
        sci=sci,
        an=sa.an,
        lowest_pn=lowest_pn,
        key=Secret(sa.key.expose()),
        ki=sa.ki,
        ssci=sa.ssci,
        salt=sa.salt,
    )


async def install(pair: MacsecPair, number: int, an: int) -> TransmitSaSpec:
    """SAK ``number`` for frames from a to b, not in use yet."""
    sa = transmit_sa(number, an=an, suite=pair.spec_a.suite)
    a, _ = await pair.states()
    await pair.b.install_receive_sa(pair.spec_b.device, receive_sa(sa, a.sci))
    await pair.a.install_transmit_sa(pair.spec_a.device, sa)
    return sa


async def secure(pair: MacsecPair, number: int = 1, an: int = 0) -> TransmitSaSpec:
    sa = await install(pair, number, an)
    await pair.a.transmit_with(pair.spec_a.device, an)
    return sa


# --- what holds ------------------------------------------------------------------------------


async def a_new_device_lets_nothing_pass(pair: MacsecPair) -> None:
    for state in await pair.up():
        assert state.port is PortState.BLOCKED
        assert state.running
        assert state.transmit == state.receive == state.receive_channels == ()
        assert state.filtered
    assert not await pair.hears()


async def an_sa_sends_from_when_it_is_told_to(pair: MacsecPair) -> None:
    await pair.up()
    sa = await install(pair, 1, an=0)
    assert not await pair.hears()
    a, _ = await pair.states()
    assert a.port is PortState.BLOCKED
    assert [(held.an, held.active, held.pn) for held in a.transmit] == [(0, False, 1)]

    await pair.a.transmit_with(pair.spec_a.device, 0)
    assert await pair.hears()
    a, b = await pair.states()
    assert a.port is PortState.SECURED
    (held,), (taken,) = a.transmit, b.receive
    assert (held.sci, held.an, held.active, held.ki) == (a.sci, 0, True, sa.ki.encode())
    assert (taken.sci, taken.an, taken.active, taken.ki) == (a.sci, 0, True, sa.ki.encode())
    assert held.pn >= 2
    assert b.receive_channels == (a.sci,)
    assert a.counters.out_packets >= 1
    assert b.counters.in_ok >= 1
    assert a.counters.out_untagged == b.counters.in_untagged == 0


async def one_sak_follows_another(pair: MacsecPair) -> None:
    await pair.up()
    await secure(pair, 1, an=0)
    assert await pair.hears()
    await install(pair, 2, an=1)
    assert await pair.hears()
    a, b = await pair.states()
    assert (a.encoding_an, len(a.transmit), len(b.receive)) == (0, 2, 2)
    await pair.a.transmit_with(pair.spec_a.device, 1)
    assert await pair.hears()
    await pair.a.remove_transmit_sa(pair.spec_a.device, 0)
    await pair.b.remove_receive_sa(pair.spec_b.device, a.sci, 0)
    assert await pair.hears()
    a, b = await pair.states()
    assert (a.encoding_an, [sa.an for sa in a.transmit], [sa.an for sa in b.receive]) == (
        1,
        [1],
        [1],
    )


async def a_sak_is_never_installed_twice(pair: MacsecPair) -> None:
    await pair.up()
    sa = await secure(pair)
    assert await pair.hears()
    before = await pair.states()
    for again in (sa, replace(sa, an=2)):
        with pytest.raises(DataplaneError, match="never twice") as caught:
            await pair.a.install_transmit_sa(pair.spec_a.device, again)
        assert caught.value.errno == errno.EEXIST
        assert pair.spec_a.device in str(caught.value)
        with pytest.raises(DataplaneError, match="never twice"):
            await pair.b.install_receive_sa(pair.spec_b.device, receive_sa(again, before[0].sci))
    after = await pair.states()
    for old, new in (
        (before[0].transmit, after[0].transmit),
        (before[1].receive, after[1].receive),
    ):
        (kept,), (found,) = old, new
        assert found.pn >= kept.pn
        assert replace(found, pn=0) == replace(kept, pn=0)


async def what_is_left_over_makes_room(pair: MacsecPair) -> None:
    await pair.up()
    await secure(pair, 1, an=3)
    sa = await secure(pair, 2, an=3)
    a, b = await pair.states()
    for held in (*a.transmit, *b.receive):
        assert (held.an, held.ki) == (3, sa.ki.encode())
    assert await pair.hears()


async def what_is_gone_is_no_error(pair: MacsecPair) -> None:
    device = pair.spec_a.device
    assert await pair.a.read(device) is None
    for _ in "before", "after":
        await pair.a.remove_transmit_sa(device, 0)
        await pair.a.remove_receive_sa(device, STRANGER, 0)
        await pair.a.remove_receive_channel(device, STRANGER)
        await pair.a.raise_lowest_pn(device, STRANGER, 0, 5)
        await pair.a.set_up(pair.spec_a)
    await pair.a.take_down(device, pair.spec_a.parent)
    await pair.a.take_down(device, pair.spec_a.parent)
    assert await pair.a.read(device) is None


async def what_is_not_there_cannot_be_used(pair: MacsecPair) -> None:
    device = pair.spec_a.device
    sa = transmit_sa(1, an=0, suite=pair.spec_a.suite)
    with pytest.raises(DataplaneError, match=device):
        await pair.a.install_transmit_sa(device, sa)
    with pytest.raises(DataplaneError, match="nowhere"):
        await pair.a.set_up(replace(pair.spec_a, parent="nowhere"))
    with pytest.raises(DataplaneError, match="nowhere"):
        await pair.a.parent("nowhere")
    await pair.up()
    with pytest.raises(DataplaneError, match=device):
        await pair.a.transmit_with(device, 0)


async def the_sender_removed_blocks(pair: MacsecPair) -> None:
    await pair.up()
    await secure(pair)
    assert await pair.hears()
    await pair.a.remove_transmit_sa(pair.spec_a.device, 0)
    assert not await pair.hears()
    a, _ = await pair.states()
    assert a.port is PortState.BLOCKED
    assert a.transmit == ()
    assert a.counters.out_untagged == 0


async def a_channel_goes_with_its_sas(pair: MacsecPair) -> None:
    await pair.up()
    await secure(pair)
    a, _ = await pair.states()
    await pair.b.remove_receive_channel(pair.spec_b.device, a.sci)
    _, b = await pair.states()
    assert (b.receive, b.receive_channels) == ((), ())
    assert not await pair.hears()
    _, b = await pair.states()
    assert b.counters.in_no_sci >= 1


async def clear_passes_where_there_is_no_filter(pair: MacsecPair) -> None:
    pair.spec_a = replace(pair.spec_a, filtered=False)
    pair.spec_b = replace(pair.spec_b, filtered=False)
    a, _ = await pair.up()
    assert not a.filtered
    assert not await pair.hears()
    await pair.a.set_port(pair.spec_a.device, PortState.CLEAR)
    assert not await pair.hears(), "b is strict"
    await pair.b.set_port(pair.spec_b.device, PortState.CLEAR)
    assert await pair.hears()
    a, b = await pair.states()
    assert a.port is b.port is PortState.CLEAR
    assert a.counters.out_untagged >= 1
    assert b.counters.in_untagged >= 1
    assert b.counters.in_no_tag >= 1

    await pair.a.set_port(pair.spec_a.device, PortState.SECURED)
    await pair.b.set_port(pair.spec_b.device, PortState.BLOCKED)
    assert not await pair.hears()
    assert [state.port for state in await pair.states()] == [PortState.BLOCKED] * 2


async def a_device_set_up_for_protection_is_not_left_clear(pair: MacsecPair) -> None:
    await pair.a.set_up(replace(pair.spec_a, filtered=False))
    await pair.a.set_port(pair.spec_a.device, PortState.CLEAR)
    state = await pair.a.set_up(pair.spec_a)
    assert state.filtered
    assert state.port is PortState.BLOCKED


async def a_wrong_key_is_not_valid(pair: MacsecPair) -> None:
    await pair.up()
    sa = transmit_sa(1, an=0, suite=pair.spec_a.suite)
    a, _ = await pair.states()
    wrong = replace(receive_sa(sa, a.sci), key=Secret(bytes([9]) * len(sa.key)))
    await pair.b.install_receive_sa(pair.spec_b.device, wrong)
    await pair.a.install_transmit_sa(pair.spec_a.device, sa)
    await pair.a.transmit_with(pair.spec_a.device, 0)
    assert not await pair.hears()
    _, b = await pair.states()
    assert b.counters.in_not_valid >= 1
    assert b.counters.in_ok == 0


async def sas_outlive_the_daemon(pair: MacsecPair) -> None:
    await pair.up()
    await secure(pair)
    assert await pair.hears()
    before = await pair.states()
    for plane in (pair.a, pair.b):
        await plane.close()
        await plane.open()
    after = await pair.up()
    for old, new in zip(before, after, strict=True):
        assert (new.index, new.port, new.encoding_an) == (old.index, old.port, old.encoding_an)
        assert [sa.ki for sa in new.transmit] == [sa.ki for sa in old.transmit]
        assert [sa.ki for sa in new.receive] == [sa.ki for sa in old.receive]
    assert await pair.hears()


async def another_suite_makes_the_device_anew(pair: MacsecPair) -> None:
    await pair.up()
    await secure(pair)
    other = pair.with_suite(CipherSuite.GCM_AES_128)
    a, b = await other.up()
    assert a.suite is b.suite is CipherSuite.GCM_AES_128
    assert a.transmit == b.receive == ()
    assert a.port is PortState.BLOCKED
    await secure(other, 2)
    assert await other.hears()


async def the_lowest_pn_only_rises(pair: MacsecPair) -> None:
    await pair.up()
    sa = await secure(pair)
    a, _ = await pair.states()
    device = pair.spec_b.device
    await pair.b.raise_lowest_pn(device, a.sci, sa.an, 1)
    assert await pair.hears()
    await pair.b.raise_lowest_pn(device, a.sci, sa.an, 5000)
    assert not await pair.hears()
    _, b = await pair.states()
    assert b.counters.in_late >= 1
    raised = b.receive[0].pn
    assert raised == 5000 + pair.spec_b.replay_window
    await pair.b.raise_lowest_pn(device, a.sci, sa.an, 2)
    _, b = await pair.states()
    assert b.receive[0].pn == raised


async def a_receive_sa_begins_where_it_is_told_to(pair: MacsecPair) -> None:
    await pair.up()
    sa = transmit_sa(1, an=0, suite=pair.spec_a.suite)
    a, _ = await pair.states()
    await pair.b.install_receive_sa(pair.spec_b.device, receive_sa(sa, a.sci, lowest_pn=7000))
    await pair.a.install_transmit_sa(pair.spec_a.device, sa)
    await pair.a.transmit_with(pair.spec_a.device, 0)
    assert not await pair.hears()
    _, b = await pair.states()
    assert b.counters.in_late >= 1


async def what_does_not_fit_is_refused(pair: MacsecPair) -> None:
    parent = await pair.a.parent(pair.spec_a.parent)
    with pytest.raises(DataplaneError, match=f"{parent.mtu - 32} is the most"):
        await pair.a.set_up(replace(pair.spec_a, mtu=parent.mtu - 31))
    assert await pair.a.read(pair.spec_a.device) is None
    state = await pair.a.set_up(pair.spec_a)
    assert state.mtu == parent.mtu - 32
    assert (await pair.a.set_up(replace(pair.spec_a, mtu=1280))).mtu == 1280


async def an_sa_goes_with_the_suite(pair: MacsecPair) -> None:
    await pair.up()
    sa = transmit_sa(1, an=0, suite=pair.spec_a.suite)
    for wrong in (replace(sa, key=Secret(bytes(7))), replace(sa, an=4)):
        with pytest.raises(DataplaneError, match=pair.spec_a.device):
            await pair.a.install_transmit_sa(pair.spec_a.device, wrong)
    xpn = pair.with_suite(CipherSuite.GCM_AES_XPN_256)
    await xpn.up()
    with pytest.raises(DataplaneError, match="SSCI"):
        await pair.a.install_transmit_sa(pair.spec_a.device, sa)
    await secure(xpn, 2)
    assert await xpn.hears()


CONTRACT = (
    a_new_device_lets_nothing_pass,
    an_sa_sends_from_when_it_is_told_to,
    one_sak_follows_another,
    a_sak_is_never_installed_twice,
    what_is_left_over_makes_room,
    what_is_gone_is_no_error,
    what_is_not_there_cannot_be_used,
    the_sender_removed_blocks,
    a_channel_goes_with_its_sas,
    clear_passes_where_there_is_no_filter,
    a_device_set_up_for_protection_is_not_left_clear,
    a_wrong_key_is_not_valid,
    sas_outlive_the_daemon,
    another_suite_makes_the_device_anew,
    the_lowest_pn_only_rises,
    a_receive_sa_begins_where_it_is_told_to,
    what_does_not_fit_is_refused,
    an_sa_goes_with_the_suite,
)
