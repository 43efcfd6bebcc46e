"""A peer that holds the keys and sends what our own code would not; and what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_network

from gateway.ike.events import Dropped, DropReason
from gateway.ike.message import Header
from gateway.ike.outbox import Datagram
from gateway.ike.payloads import NoncePayload, NotifyPayload, Payload, SaPayload, TsPayload
from gateway.ike.proposals import ProposalSpec, offers
from gateway.ike.registry import ExchangeType, NotifyType, ProtocolId
from gateway.ike.sa import IkeSa
from gateway.ike.selectors import from_networks
from tests.support.ike_pair import MOON, SUN, Pair, Side

TO_SUN = {"local": (MOON, 500), "remote": (SUN, 500)}
ESP_PLAIN = "aes256gcm16-esn"


def drops(side: Side) -> Counter[DropReason]:
    return Counter(event.reason for event in side.events if isinstance(event, Dropped))


def newest(side: Side) -> IkeSa:
    """The IKE SA this side began or accepted last."""
    return side.endpoint._sessions.all()[-1].sa


def inject(pair: Pair, data: bytes) -> None:
    pair.inject(Datagram(data=data, **TO_SUN))
    pair.run()


def header_of(pair: Pair, **changes: object) -> Header:
    """Of the next request sun expects from moon."""
    sa = newest(pair.moon)
    header = Header(
        spi_i=sa.spi_i,
        spi_r=sa.spi_r,
        exchange=ExchangeType.INFORMATIONAL,
        message_id=newest(pair.sun).responses.expected,
        initiator=True,
        response=False,
    )
    return replace(header, **changes)


def send_as_moon(
    pair: Pair,
    payloads: Sequence[Payload],
    exchange: int = ExchangeType.INFORMATIONAL,
    fragment_size: int | None = None,
) -> None:
    """An authentic request with any content."""
    sa = newest(pair.moon)
    header = header_of(pair, exchange=exchange)
    for data in sa.channel.seal(header, payloads, fragment_size=fragment_size, ip_version=4):
        pair.inject(Datagram(data=data, **TO_SUN))
    pair.run()


def child_request(
    spi: int,
    replaces: int | None = None,
    *,
    esp: str = ESP_PLAIN,
    nonce: bytes = bytes(32),
    tsi: TsPayload | None = None,
    tsr: TsPayload | None = None,
) -> list[Payload]:
    """CREATE_CHILD_SA as moon may send it. ``spi`` and ``replaces``: moon's inbound SPIs."""
    payloads: list[Payload] = []
    if replaces is not None:
        octets = replaces.to_bytes(4, "big")
        payloads.append(
            NotifyPayload(type=NotifyType.REKEY_SA, protocol=ProtocolId.ESP, spi=octets)
        )
    proposals = offers([ProposalSpec.parse(esp)], spi.to_bytes(4, "big"))
    ours, theirs = (from_networks([ip_network(f"10.{n}.0.0/24")]) for n in (1, 2))
    return [
        *payloads,
        SaPayload(proposals=proposals),
        NoncePayload(data=nonce),
        tsi or TsPayload(initiator=True, selectors=ours),
        tsr or TsPayload(initiator=False, selectors=theirs),
    ]
