"""What a flood costs: CPU per packet against one full handshake, and the memory it can fill.

One endpoint with many tunnels, in this process; no sockets, no kernel. Real cryptography. The
figures are ratios, so they mean the same on any machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, ip_address

from gateway.crypto.rng import SystemRng
from gateway.ike import limits
from gateway.ike.endpoint import Endpoint
from gateway.ike.message import Header, parse_header
from gateway.ike.outbox import Address
from gateway.ike.payloads import UnknownPayload
from gateway.ike.registry import ExchangeType
from gateway.model import IpAddress
from tests.bench.figures import Figure, quantile
from tests.bench.unwatched import Unwatched
from tests.support.ike_pair import SUN, SeededRng, connection

HANDSHAKES = 20
SOURCES = 200  # tunnels, and so addresses that may begin at all; below HALF_OPEN_MAX
PACKETS = 4000
NOW = 1000.0
HERE: Address = (SUN, 500)
NEVER = 10**9  # a cookie threshold
WHOLE = 60_000  # octets of a message in fragments, whose last fragment never comes


def _peer(number: int) -> IpAddress:
    return IPv4Address(int(ip_address("10.77.0.1")) + number)


def _responder(cookie_threshold: int) -> Endpoint:
    ours = connection("sun")
    tunnels = [replace(ours, name=f"t{n}", remote_address=_peer(n)) for n in range(SOURCES)]
    return Endpoint(connections=tunnels, rng=SystemRng(), cookie_threshold=cookie_threshold)


def _initiator(number: int) -> Endpoint:
    theirs = replace(connection("moon"), local_address=_peer(number))
    return Endpoint(connections=[theirs], rng=SystemRng())


def _requests(count: int) -> list[tuple[bytes, Address]]:
    """IKE_SA_INIT requests, all different, in the names of the peers in turn."""
    pair = Unwatched(witnessed=False)
    pair.initiate()
    first = next(one.data for one in pair.sent if one.header.exchange == ExchangeType.IKE_SA_INIT)
    rng = SeededRng("flood")
    return [(rng.random_bytes(8) + first[8:], (_peer(n % SOURCES), 500)) for n in range(count)]


def _cost(endpoint: Endpoint, packets: Sequence[tuple[bytes, Address]]) -> float:
    """CPU seconds per packet; what comes of it is taken out as a driver would."""
    start = time.process_time()
    for data, remote in packets:
        endpoint.receive_datagram(data, local=HERE, remote=remote, now=NOW)
        endpoint.take_datagrams()
        endpoint.take_commands()
        endpoint.take_events()
    return (time.process_time() - start) / len(packets)


def _handshake() -> float:
    costs = []
    for number in range(HANDSHAKES):
        pair = Unwatched(seed=f"flood {number}", witnessed=False)
        start = time.process_time()
        pair.initiate()
        costs.append(time.process_time() - start)
        pair.check_mirrored()
    return quantile(costs, 0.5)


def _garbage() -> list[tuple[bytes, Address]]:
    rng = SeededRng("garbage")
    return [(rng.random_bytes(28 + n % 400), (_peer(n % SOURCES), 500)) for n in range(PACKETS)]


def _forged(endpoint: Endpoint) -> list[tuple[bytes, Address]]:
    """Messages with the SPIs of an IKE SA that is there, as whoever watches can send them."""
    (request,) = _requests(1)
    _cost(endpoint, [request])
    sa = endpoint._sessions.all()[-1].sa
    rng = SeededRng("forged")
    packets = []
    for _ in range(PACKETS):
        body = b"\x21\x00\x01\x00" + rng.random_bytes(252)
        header = Header(
            spi_i=sa.spi_i, spi_r=sa.spi_r, exchange=ExchangeType.IKE_INTERMEDIATE,
            message_id=1, initiator=True, response=False,
        )  # fmt: skip
        packets.append((header.encode(46, 28 + len(body)) + body, request[1]))
    return packets


def _fragments(endpoint: Endpoint, number: int) -> list[tuple[bytes, Address]]:
    """Fragments of a message that never gets whole, in a half-open IKE SA of peer ``number``."""
    begun = _initiator(number)
    begun.initiate("net", ppk=None, now=NOW)
    remote = (_peer(number), 500)
    (request,) = begun.take_datagrams()
    endpoint.receive_datagram(request.data, local=HERE, remote=remote, now=NOW)
    endpoint.take_events()
    for answer in endpoint.take_datagrams():
        begun.receive_datagram(answer.data, local=remote, remote=HERE, now=NOW)
    sa = begun._sessions.all()[0].sa
    header = parse_header(begun.take_datagrams()[0].data)
    if sa.channel is None:
        raise RuntimeError("no IKE SA to send fragments in")
    payload = UnknownPayload(type=200, data=bytes(WHOLE))
    sealed = sa.channel.seal(header, [payload], fragment_size=1280, ip_version=4)
    return [(data, remote) for data in sealed[:-1]]


def run() -> list[Figure]:
    handshake = _handshake()
    figures = [Figure(name="flood: one full handshake", value=handshake * 1e3, unit="ms CPU",
                      note="both ends; 100 % below")]  # fmt: skip

    def share(name: str, cost: float, note: str) -> None:
        figures.append(
            Figure(name=f"flood: {name}", value=100 * cost / handshake, unit="%", note=note)
        )

    for name, threshold, count, note in (
        ("no cookies asked", NEVER, SOURCES, f"each becomes half-open, up to {SOURCES}"),
        ("cookies asked", limits.COOKIE_THRESHOLD, PACKETS, "answered, nothing kept"),
        ("cookies asked of a crowd", SOURCES, PACKETS, f"the same beside {SOURCES} half-open"),
    ):
        endpoint = _responder(threshold)
        requests = _requests(count + SOURCES)
        if threshold != NEVER:
            _cost(endpoint, requests[count:])
        share(f"IKE_SA_INIT, {name}", _cost(endpoint, requests[:count]), note)
    full = _responder(0)
    stranger = [(data, (ip_address("203.0.113.9"), 500)) for data, _ in _requests(PACKETS)]
    share("IKE_SA_INIT from nobody's address", _cost(full, stranger), "dropped")
    share("garbage", _cost(full, _garbage()), "dropped by its header")
    forged = _responder(NEVER)
    share("forged messages of a known IKE SA", _cost(forged, _forged(forged)), "ICV is wrong")
    figures += _memory(share)
    return figures


def _memory(share: Callable[[str, float, str], None]) -> list[Figure]:
    endpoint = _responder(NEVER)
    costs = []
    for number in range(SOURCES):
        packets = _fragments(endpoint, number)
        costs.append(_cost(endpoint, packets))
    share("fragments that never get whole", quantile(costs, 0.5), "authentic, half-open IKE SAs")
    kept = endpoint._env.fragments.total
    return [
        Figure(
            name="flood: fragments kept",
            value=kept / 2**20,
            unit="MiB",
            aim=limits.REASSEMBLY_MAX / 2**20,
            note=f"{SOURCES} peers sent {SOURCES * WHOLE / 2**20:.1f} MiB",
        )
    ]
