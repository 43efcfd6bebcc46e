"""Requests, refusals and probing, with a netlink socket that answers from a script."""

from __future__ import annotations

import errno
from dataclasses import replace
from ipaddress import ip_address

import pytest
from pyroute2.netlink.exceptions import NetlinkError

from gateway.crypto.secret import Secret
from gateway.dataplane.netlink import monitor, multicast, probe, request_socket
from gateway.dataplane.netlink.xfrm import XfrmDataPlane
from gateway.dataplane.netlink.xfrm_codec import encode_sa
from gateway.dataplane.netlink.xfrm_messages import XFRM, XfrmMessage, sa_reply
from gateway.dataplane.port import EventsLost
from gateway.errors import DataplaneError, StartupError
from gateway.model import Direction, SaId, SaSpec

MOON, SUN = ip_address("10.0.12.1"), ip_address("10.0.23.3")
KEY = b"\xa5" * 36


class FakeNetlink:
    """Stands for pyroute2's socket: ``answer(type)`` raises or gives messages."""

    def __init__(self, answer):
        self.answer = answer
        self.sent = []
        self.closed = False
        self.incoming = []
        self.readable = []  # octets on the socket; what counts as answered comes from ``answer``
        self.enqueued = []

    def register_policy(self, classes):
        pass

    def setsockopt(self, *arguments):
        pass

    def add_membership(self, group):
        pass

    def close(self):
        self.closed = True

    def recv(self, size):
        if not self.readable:
            raise BlockingIOError
        return self.readable.pop(0)

    def enqueue(self, data, address):
        self.enqueued.append(data)

    async def nlm_request(self, message, message_type, flags):
        message.encode()
        self.sent.append((XfrmMessage(message_type), bytes(message.data)))

        async def replies():
            for reply in self.answer(message_type):
                yield reply

        return replies()

    async def get(self):
        if not self.incoming:
            raise NetlinkError(errno.ECONNRESET)
        item = self.incoming.pop(0)
        if isinstance(item, Exception):
            raise item
        yield item


@pytest.fixture
def netlink(monkeypatch):
    """Sockets opened so far; ``script`` maps message types to an errno and text, or replies."""

    class Opened:
        def __init__(self):
            self.sockets = []
            self.script = {XfrmMessage.GETSA: (errno.ESRCH, "No such process")}

        def answer(self, message_type):
            outcome = self.script.get(message_type, [])
            if isinstance(outcome, Exception):
                raise outcome
            if isinstance(outcome, tuple):
                raise NetlinkError(*outcome)
            return outcome

        @property
        def requests(self):
            return [kind for sock in self.sockets for kind, _ in sock.sent]

    opened = Opened()

    async def open_netlink(family):
        sock = FakeNetlink(opened.answer)
        opened.sockets.append(sock)
        return sock

    monkeypatch.setattr(request_socket, "open_netlink", open_netlink)
    monkeypatch.setattr(multicast, "open_netlink", open_netlink)
    return opened


@pytest.fixture
async def plane(netlink):
    made = XfrmDataPlane()
    await made.open_sockets()
    for sock in netlink.sockets:
        sock.sent.clear()
    return made


def spec(direction=Direction.INBOUND):
    return SaSpec(
        tunnel="sun",
        direction=direction,
        spi=0xC0000001,
        source=SUN,
        destination=MOON,
        reqid=0x5100_0001,
        key=Secret(KEY),
    )


def spi_reply():
    reply = sa_reply()
    reply["header"] = {"type": int(XfrmMessage.NEWSA)}
    reply["spi"] = 0xC0000009
    return reply


async def test_an_inbound_sa_fills_its_reservation(plane, netlink):
    await plane.install_sa(spec())
    assert netlink.requests == [XfrmMessage.UPDSA]


async def test_an_inbound_sa_comes_anew_when_the_reservation_is_gone(plane, netlink):
    netlink.script[XfrmMessage.UPDSA] = (errno.ESRCH, "No such process")
    await plane.install_sa(spec())
    assert netlink.requests == [XfrmMessage.UPDSA, XfrmMessage.NEWSA]


async def test_other_refusals_are_not_tried_again(plane, netlink):
    netlink.script[XfrmMessage.UPDSA] = (errno.EINVAL, "Invalid replay window")
    with pytest.raises(DataplaneError, match=r"Invalid replay window \(EINVAL\)") as caught:
        await plane.install_sa(spec())
    assert caught.value.errno == errno.EINVAL
    assert "for sun" in str(caught.value)
    assert netlink.requests == [XfrmMessage.UPDSA]


async def test_an_outbound_sa_is_always_new(plane, netlink):
    await plane.install_sa(spec(Direction.OUTBOUND))
    assert netlink.requests == [XfrmMessage.NEWSA]


async def test_the_key_is_wiped_from_the_message_once_it_was_sent(netlink):
    requests = request_socket.RequestSocket(XFRM, {})
    await requests.open()
    message = encode_sa(spec(), with_direction=False)
    await requests.execute("test", XfrmMessage.NEWSA, message)
    assert KEY in netlink.sockets[0].sent[0][1]
    assert bytes(message.data) == bytes(len(message.data))
    assert message["attrs"] == []


async def test_gone_is_not_an_error_but_other_refusals_are(plane, netlink):
    nothing = SaId(MOON, 1)
    netlink.script[XfrmMessage.DELSA] = (errno.ESRCH, "No such process")
    await plane.remove_sa(nothing)
    assert await plane.read_sa(nothing) is None
    netlink.script[XfrmMessage.DELSA] = (errno.EPERM, "Operation not permitted")
    with pytest.raises(DataplaneError):
        await plane.remove_sa(nothing)


async def test_an_answer_that_is_there_at_once_is_not_left_to_the_loop(plane, netlink):
    (requests, _) = netlink.sockets
    requests.readable = [b"answer", b"of another request"]
    await plane.remove_sa(SaId(MOON, 1))
    assert requests.enqueued == [b"answer"]
    netlink.script[XfrmMessage.GETSA] = []
    await plane.snapshot()  # parts of a dump come in their own time
    assert requests.enqueued == [b"answer"]


def test_sequence_numbers_are_not_soon_used_again_and_none_is_an_events():
    numbers = request_socket.SequenceNumbers()
    first = numbers.alloc()
    numbers.free(first, ban=0xFF)
    assert first == 1
    assert numbers.alloc() == 2
    numbers._last = 0xFFFFFFFF
    assert numbers.alloc() == 1


async def test_a_broken_socket_is_replaced(plane, netlink):
    netlink.script[XfrmMessage.DELSA] = OSError(errno.ENOBUFS, "No buffer space available")
    before = netlink.sockets[0]
    with pytest.raises(DataplaneError, match="No buffer space"):
        await plane.remove_sa(SaId(MOON, 1))
    assert before.closed
    del netlink.script[XfrmMessage.DELSA]
    await plane.remove_sa(SaId(MOON, 1))
    assert netlink.sockets[-1].sent


async def test_requests_before_open_are_refused():
    with pytest.raises(DataplaneError, match="not open"):
        await XfrmDataPlane().snapshot()


@pytest.mark.parametrize(
    ("code", "knows"), [(errno.ERANGE, True), (errno.EINVAL, True), (errno.ESRCH, False)]
)
async def test_whether_the_kernel_knows_sa_direction_is_found_by_trying(netlink, code, knows):
    netlink.script[XfrmMessage.GETSA] = (code, "words")
    plane = XfrmDataPlane()
    await plane.open_sockets()
    assert plane.knows_sa_direction is knows


async def test_a_missing_capability_is_named(netlink):
    netlink.script[XfrmMessage.GETSA] = (errno.EPERM, "Operation not permitted")
    with pytest.raises(StartupError, match="CAP_NET_ADMIN"):
        await XfrmDataPlane().open()
    assert all(sock.closed for sock in netlink.sockets)


@pytest.mark.parametrize(
    ("code", "words", "module"),
    [
        (errno.EPROTONOSUPPORT, "Requested type not found", "esp4"),
        (errno.ENOSYS, "Requested AEAD algorithm not found", "gcm"),
    ],
)
async def test_a_missing_module_is_named(netlink, code, words, module):
    netlink.script[XfrmMessage.ALLOCSPI] = [spi_reply()]
    netlink.script[XfrmMessage.UPDSA] = (code, words)
    with pytest.raises(StartupError, match=module) as caught:
        await XfrmDataPlane().open()
    assert words in str(caught.value)
    assert XfrmMessage.DELSA in netlink.requests  # the reservation is taken back


async def test_open_tries_an_sa_each_way_and_removes_it(netlink):
    netlink.script[XfrmMessage.ALLOCSPI] = [spi_reply()]
    plane = XfrmDataPlane(ipv6=True)
    await plane.open()
    once = [XfrmMessage.ALLOCSPI, XfrmMessage.UPDSA, XfrmMessage.DELSA, XfrmMessage.NEWSA]
    assert netlink.requests == [XfrmMessage.GETSA, *[*once, XfrmMessage.DELSA] * 2]


async def test_the_probe_reports_and_never_raises(netlink):
    netlink.script[XfrmMessage.ALLOCSPI] = [spi_reply()]
    netlink.script[XfrmMessage.UPDSA] = (errno.ENOSYS, "Requested AEAD algorithm not found")
    results = {result.feature: result for result in await probe.probe()}
    assert results["XFRM"].ok
    esp = results["ESP AES-256-GCM ESN over IPv4"]
    assert not esp.ok
    assert "Requested AEAD algorithm not found" in esp.detail
    netlink.script[XfrmMessage.GETSA] = (errno.EPERM, "Operation not permitted")
    first = (await probe.probe())[0]
    assert (first.feature, first.ok) == ("XFRM", False)


async def test_an_overrun_reopens_the_event_socket_and_tells(netlink):
    events = monitor.EventSocket()
    await events.open()
    netlink.sockets[-1].incoming = [OSError(errno.ENOBUFS, "No buffer space available")]
    stream = events.events()
    assert await anext(stream) == EventsLost()
    assert netlink.sockets[0].closed
    assert len(netlink.sockets) == 2
    events.close()
    assert await anext(stream, None) is None


async def test_the_secret_stays_out_of_every_error(plane, netlink):
    netlink.script[XfrmMessage.UPDSA] = (errno.EINVAL, "words")
    sa = replace(spec(), key=Secret(KEY))
    with pytest.raises(DataplaneError) as caught:
        await plane.install_sa(sa)
    assert KEY.hex() not in repr(caught.value)
    assert caught.value.__cause__ is None


async def test_a_request_that_could_not_be_sent_is_wiped_too(plane, netlink, monkeypatch):
    unsent = []

    async def broken(self, message, message_type, flags):
        message.encode()
        assert KEY in message.data
        unsent.append(message)
        raise OSError(errno.ENOBUFS, "No buffer space available")

    monkeypatch.setattr(FakeNetlink, "nlm_request", broken)
    with pytest.raises(DataplaneError):
        await plane.install_sa(replace(spec(Direction.OUTBOUND), key=Secret(KEY)))
    (message,) = unsent
    assert not any(message.data)
    assert message["attrs"] == []
