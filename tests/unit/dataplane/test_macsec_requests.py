"""MACsec requests, their order and refusals, with sockets that answer from a script."""

from __future__ import annotations

import errno
import struct
from dataclasses import replace

import pytest

from gateway.crypto.secret import Secret
from gateway.dataplane.macsec_port import (
    InterfaceChanged,
    InterfaceEventsLost,
    ReceiveSaSpec,
    SecySpec,
    TransmitSaSpec,
)
from gateway.dataplane.netlink import multicast, request_socket
from gateway.dataplane.netlink.link_messages import (
    TC_H_EGRESS,
    TC_H_INGRESS,
    RouteMessage,
    filter_message,
    link_message,
    qdisc_message,
)
from gateway.dataplane.netlink.link_monitor import LinkEvents
from gateway.dataplane.netlink.macsec import MacsecNetlink
from gateway.dataplane.netlink.macsec_codec import encode_add_receive_sa
from gateway.dataplane.netlink.macsec_messages import (
    GENL_ID_CTRL,
    MacsecCommand,
    family_message,
    macsec_reply,
)
from gateway.dataplane.netlink.parent_filter import RULES, encode_qdisc
from gateway.errors import DataplaneError, StartupError
from gateway.mka.identifiers import KeyIdentifier, MemberId, Sci
from gateway.mka.registry import CipherSuite

KEY = b"\xa5" * 32
FAMILY = 35
MAC = bytes.fromhex("020000005101")
SCI, PEER = Sci(MAC), Sci(bytes.fromhex("020000005102"))
SPEC = SecySpec(
    link="core",
    parent="eth1",
    device="macsec-core",
    suite=CipherSuite.GCM_AES_256,
    encrypt=True,
    replay_window=0,
    filtered=True,
)
TRANSMIT = TransmitSaSpec(
    an=1, key=Secret(KEY), ki=KeyIdentifier(MemberId(bytes(12)), 7), ssci=None, salt=None
)
RECEIVE = ReceiveSaSpec(
    sci=PEER, an=1, lowest_pn=1, key=Secret(KEY), ki=TRANSMIT.ki, ssci=None, salt=None
)


class Kernel:
    """One parent, eth1, and perhaps a device on it. ``refusals``: errno by request."""

    def __init__(self):
        self.asked = []
        self.refusals = {}
        self.device = False
        self.suite = SPEC.suite
        self.transmit = []  # AN and KI
        self.filters = {}  # of each direction; {}: no qdisc

    def take(self, what, message_type, message):
        message.encode()
        request = message_type
        if message_type == FAMILY:
            request = MacsecCommand(message["cmd"])
        elif message_type != GENL_ID_CTRL:
            request = RouteMessage(message_type)
        if request not in READS:
            self.asked.append(request)
        if request in self.refusals:
            code = self.refusals[request]
            raise DataplaneError(f"{what}: the kernel's words ({errno.errorcode[code]})", code)
        if request is RouteMessage.NEWLINK and not message["index"]:
            self.device = True
        if request is RouteMessage.DELLINK:
            self.device = False
        if request is RouteMessage.NEWQDISC:
            self.filters = {TC_H_INGRESS: [], TC_H_EGRESS: []}
        if request is RouteMessage.NEWTFILTER:
            self.filters[message["parent"]].append(bytes(message.data[16:]))

    def find(self, name):
        if name == "eth1":
            return link(5, "eth1", mtu=1500)
        if name == SPEC.device and self.device:
            return link(9, name, mtu=1468, kind="macsec")
        raise DataplaneError("No such device", errno.ENODEV)


READS = (MacsecCommand.GET_TXSC, RouteMessage.GETLINK, RouteMessage.GETADDR)


def decoded(cls, body, message_type):
    message = cls(struct.pack("IHHII", 16 + len(body), message_type, 0, 0, 0) + body)
    message.decode()
    return message


def attribute(kind, content):
    return struct.pack("HH", 4 + len(content), kind) + content + bytes(-len(content) % 4)


def link(index, name, *, mtu, kind="", flags=0x10001, message_type=RouteMessage.NEWLINK, mac=MAC):
    body = struct.pack("BxHiII", 0, 1, index, flags, 0) + b"".join(
        (
            *(attribute(3, name.encode() + b"\0"), attribute(1, mac)),
            attribute(4, struct.pack("I", mtu)),
            attribute(18, attribute(1, kind.encode() + b"\0")) if kind else b"",
            attribute(5, struct.pack("I", 5)) if kind else b"",
        )
    )
    return decoded(link_message, body, message_type)


def transmit_sa(an, ki):
    fields = ((1, bytes([an])), (2, b"\x01"), (3, struct.pack("I", 9)), (5, ki))
    return b"".join(attribute(*field) for field in fields)


def secy(kernel):
    fields = ((1, SCI.encode()), (4, struct.pack("Q", kernel.suite)), (5, b"\x10"))
    flags = ((2, b"\0"), (6, b"\x01"), (8, b"\x01"), (9, b"\x02"), (3, bytes(4)))
    sas = b"".join(
        attribute(number, transmit_sa(an, ki)) for number, (an, ki) in enumerate(kernel.transmit, 1)
    )
    body = b"".join(
        (
            *(bytes([0, 1, 0, 0]), attribute(1, struct.pack("I", 9))),
            attribute(4, b"".join(attribute(*field) for field in (*fields, *flags))),
            *(attribute(5, sas), attribute(7, b""), attribute(8, b"")),
        )
    )
    return decoded(macsec_reply, body, FAMILY)


class FakeRequests:
    """Stands for RequestSocket."""

    def __init__(self, kernel):
        self._kernel = kernel

    async def open(self):
        pass

    def close(self):
        pass

    def learn(self, message_type, message_class):
        assert message_type == FAMILY

    async def execute(self, what, message_type, message, flags=0):
        self._kernel.take(what, message_type, message)

    async def fetch(self, what, message_type, message):
        name = message.get_attr("IFLA_IFNAME")
        self._kernel.take(what, message_type, message)
        return self._kernel.find(name) if name else family_reply()

    async def dump(self, what, message_type, make):
        kernel, message = self._kernel, make()
        if message_type == FAMILY:
            return [secy(kernel)] if kernel.device else []
        if message_type == RouteMessage.GETQDISC:
            return [reread(encode_qdisc(5), qdisc_message)] if kernel.filters else []
        if message_type == RouteMessage.GETTFILTER:
            there = kernel.filters[message["parent"]]
            return [decoded(filter_message, body, RouteMessage.NEWTFILTER) for body in there]
        return []


def reread(message, cls):
    message.encode()
    return decoded(cls, bytes(message.data[16:]), RouteMessage.NEWQDISC)


def family_reply():
    body = bytes([1, 2, 0, 0]) + attribute(1, struct.pack("H", FAMILY))
    return decoded(family_message, body, GENL_ID_CTRL)


@pytest.fixture
def kernel():
    return Kernel()


@pytest.fixture
async def plane(kernel, monkeypatch):
    made = MacsecNetlink()
    requests = FakeRequests(kernel)
    made._requests = made._links.requests = made._filter._requests = requests

    async def no_events():
        pass

    monkeypatch.setattr(made._events, "open", no_events)
    return made


@pytest.fixture
async def device(plane, kernel):
    """The plane, open, with the device there."""
    await plane.open()
    kernel.device = True
    kernel.asked.clear()
    return plane


async def test_the_filter_comes_before_the_device_and_what_passes_before_what_drops(plane, kernel):
    await plane.open()
    kernel.asked.clear()
    state = await plane.set_up(SPEC)
    assert kernel.asked == [
        RouteMessage.NEWQDISC,
        *[RouteMessage.NEWTFILTER] * 6,
        RouteMessage.NEWLINK,
    ]
    assert state.filtered
    for filters in kernel.filters.values():
        assert len(filters) == len(RULES)
    kernel.asked.clear()
    await plane.set_up(SPEC)
    assert kernel.asked == [RouteMessage.NEWLINK], "settings only: all else is there"


async def test_nothing_is_made_where_the_filter_is_refused(plane, kernel):
    await plane.open()
    kernel.refusals[RouteMessage.NEWTFILTER] = errno.ENOENT
    with pytest.raises(DataplaneError, match=r"eth1 ingress: .*cls_matchall and act_gact"):
        await plane.set_up(SPEC)
    assert not kernel.device
    kernel.filters = {}
    kernel.refusals = {RouteMessage.NEWQDISC: errno.ENOENT}
    with pytest.raises(DataplaneError, match=r"to eth1: .*sch_ingress"):
        await plane.set_up(SPEC)
    assert not kernel.device


async def test_a_device_of_another_suite_goes_before_the_new_one_comes(device, kernel):
    kernel.suite = CipherSuite.GCM_AES_XPN_256
    await device.set_up(SPEC)
    after_filter = kernel.asked[kernel.asked.index(RouteMessage.DELLINK) :]
    assert after_filter == [RouteMessage.DELLINK, RouteMessage.NEWLINK]


@pytest.mark.parametrize(
    ("code", "hint"), [(errno.EOPNOTSUPP, "module macsec"), (errno.EBUSY, "another device")]
)
async def test_what_stands_against_a_device_is_named(plane, kernel, code, hint):
    await plane.open()
    kernel.refusals[RouteMessage.NEWLINK] = code
    with pytest.raises(DataplaneError, match=f"macsec-core on eth1: .*{hint}"):
        await plane.set_up(SPEC)


async def test_an_active_sa_is_stopped_before_it_is_deleted(device, kernel):
    await device.remove_transmit_sa(SPEC.device, 1)
    assert kernel.asked == [MacsecCommand.UPD_TXSA, MacsecCommand.DEL_TXSA]
    kernel.asked.clear()
    await device.remove_receive_sa(SPEC.device, PEER, 1)
    assert kernel.asked == [MacsecCommand.UPD_RXSA, MacsecCommand.DEL_RXSA]


async def test_an_sa_is_active_before_frames_leave_with_it(device, kernel):
    await device.transmit_with(SPEC.device, 1)
    assert kernel.asked == [MacsecCommand.UPD_TXSA, RouteMessage.NEWLINK]


async def test_a_channel_is_made_for_its_first_sa(device, kernel):
    await device.install_receive_sa(SPEC.device, RECEIVE)
    assert kernel.asked == [MacsecCommand.ADD_RXSC, MacsecCommand.ADD_RXSA]


async def test_a_leftover_makes_room_and_its_own_kind_does_not(device, kernel):
    kernel.transmit = [(1, bytes(16))]
    await device.install_transmit_sa(SPEC.device, TRANSMIT)
    assert kernel.asked == [
        *(MacsecCommand.UPD_TXSA, MacsecCommand.DEL_TXSA, MacsecCommand.ADD_TXSA),
    ]
    kernel.asked.clear()
    again = replace(TRANSMIT, ki=KeyIdentifier(MemberId(bytes(12)), 8))
    kernel.transmit = [(3, again.ki.encode())]
    with pytest.raises(DataplaneError, match="never twice"):
        await device.install_transmit_sa(SPEC.device, again)
    assert kernel.asked == []


async def test_a_refused_sa_may_be_tried_again_and_an_installed_one_not(device, kernel):
    kernel.refusals[MacsecCommand.ADD_TXSA] = errno.ENOENT
    with pytest.raises(DataplaneError, match=r"macsec-core: .*gcm") as caught:
        await device.install_transmit_sa(SPEC.device, TRANSMIT)
    assert KEY.hex() not in repr(caught.value)
    kernel.refusals.clear()
    await device.install_transmit_sa(SPEC.device, TRANSMIT)
    with pytest.raises(DataplaneError, match="never twice"):
        await device.install_transmit_sa(SPEC.device, TRANSMIT)


async def test_gone_is_no_error_and_other_refusals_are(device, kernel):
    kernel.refusals[MacsecCommand.UPD_TXSA] = errno.ENODEV
    await device.remove_transmit_sa(SPEC.device, 1)
    assert kernel.asked == [MacsecCommand.UPD_TXSA]
    kernel.refusals[MacsecCommand.UPD_TXSA] = errno.EPERM
    with pytest.raises(DataplaneError, match="macsec-core"):
        await device.remove_transmit_sa(SPEC.device, 1)


@pytest.mark.parametrize(
    ("request_refused", "code", "named"),
    [(GENL_ID_CTRL, errno.ENOENT, "module macsec"),
     (MacsecCommand.ADD_RXSC, errno.EPERM, "CAP_NET_ADMIN")],
)  # fmt: skip
async def test_what_is_missing_at_the_start_is_named(plane, kernel, request_refused, code, named):
    kernel.refusals[request_refused] = code
    with pytest.raises(StartupError, match=named):
        await plane.open()


async def test_a_request_that_is_wrong_in_itself_tells_that_we_may(plane, kernel):
    kernel.refusals[MacsecCommand.ADD_RXSC] = errno.EINVAL
    await plane.open()


def test_the_key_is_wiped_from_the_nest_it_was_sent_in():
    message = encode_add_receive_sa(9, RECEIVE, next_pn=1, xpn=False)
    message.encode()
    assert KEY in message.data
    request_socket._wipe(message)
    assert not any(message.data)
    assert message["attrs"] == []


# --- events ----------------------------------------------------------------------------------


def test_an_interface_is_told_of_when_something_we_read_has_changed():
    events = LinkEvents()
    changed = (InterfaceChanged("eth1"),)
    assert events.decode(link(5, "eth1", mtu=1500)) == changed
    assert events.decode(link(5, "eth1", mtu=1500)) == ()
    assert events.decode(link(5, "eth1", mtu=1400)) == changed
    assert events.decode(link(5, "eth1", mtu=1400, flags=0)) == changed
    assert events.decode(link(5, "eth1", mtu=1400, flags=0, mac=bytes(6))) == changed
    renamed = events.decode(link(5, "wan", mtu=1400, flags=0, mac=bytes(6)))
    assert renamed == (InterfaceChanged("eth1"), InterfaceChanged("wan"))
    gone = link(5, "wan", mtu=1400, message_type=RouteMessage.DELLINK)
    assert events.decode(gone) == (InterfaceChanged("wan"),)
    assert events.decode(link(5, "wan", mtu=1400)) == (InterfaceChanged("wan"),)
    bridge = link(5, "wan", mtu=1300)
    bridge["family"] = 7
    assert events.decode(bridge) == ()


async def test_an_overrun_reopens_the_socket_and_forgets_what_was_told(monkeypatch):
    opened = []

    class Socket:
        def __init__(self):
            self.closed = False
            opened.append(self)

        def register_policy(self, classes):
            pass

        def setsockopt(self, *arguments):
            pass

        def add_membership(self, group):
            assert group == 1

        def close(self):
            self.closed = True

        async def get(self):
            if len(opened) == 1:
                raise OSError(errno.ENOBUFS, "No buffer space available")
            yield link(5, "eth1", mtu=1500)

    async def open_netlink(family):
        return Socket()

    monkeypatch.setattr(multicast, "open_netlink", open_netlink)
    events = LinkEvents()
    await events.open()
    events.decode(link(5, "eth1", mtu=1500))
    stream = events.events()
    assert await anext(stream) == InterfaceEventsLost()
    assert opened[0].closed
    assert await anext(stream) == InterfaceChanged("eth1")
    events.close()
