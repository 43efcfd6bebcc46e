"""A second opinion on whole exchanges: scapy dissects every datagram both our ends emit.

The encryption is opened here by AES-GCM of ``cryptography`` alone, framed as scapy sees it;
of our code only the keys are taken.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.ike.channel import Channel
from gateway.ike.flows import sa_init
from tests.support.ike_pair import Pair

ikev2 = pytest.importorskip("scapy.contrib.ikev2", reason="scapy is not installed")
scapy = pytest.importorskip("scapy.packet")

HEADER = 28
SK, SKF = 46, 53
INIT, IKE_AUTH, CHILD, INFORMATIONAL, INTERMEDIATE, FOLLOWUP = 34, 35, 36, 37, 43, 44
PPK_IDENTITY_KEY, PPK_IDENTITY, ADDITIONAL_KE, NO_PPK_AUTH = 16446, 16436, 16441, 16437


@dataclass
class Witness:
    """What travelled, message by message, in scapy's words."""

    keys: list[bytes] = field(default_factory=list)  # SK_e of all generations and directions
    messages: list[tuple[str, int, object]] = field(default_factory=list)  # sender, exchange, chain
    _parts: dict[object, dict[int, tuple[int, bytes]]] = field(default_factory=dict)

    def see(self, sender: str, data: bytes) -> None:
        packet = ikev2.IKEv2(data)
        assert packet.length == len(data)
        assert packet.version == 0x20
        assert packet.flags.Response or packet.flags.value in (0, 0x08)
        if packet.next_payload not in (SK, SKF):
            self.messages.append((sender, packet.exch_type, whole_chain(packet)))
            return
        layer = packet.payload
        first, plaintext = self._open(layer, data)
        if packet.next_payload == SKF:
            mark = (sender, packet.init_SPI, packet.id, bool(packet.flags.Response))
            parts = self._parts.setdefault(mark, {})
            parts[layer.frag_number] = (first, plaintext)
            if len(parts) < layer.frag_total:
                return
            first = parts[1][0]
            plaintext = b"".join(parts[n][1] for n in range(1, layer.frag_total + 1))
        length = HEADER + len(plaintext)
        head = data[:16] + bytes((first,)) + data[17:24] + length.to_bytes(4, "big")
        chain = whole_chain(ikev2.IKEv2(head + plaintext))
        self.messages.append((sender, packet.exch_type, chain))

    def _open(self, layer: object, data: bytes) -> tuple[int, bytes]:
        """RFC 5282: IV | ciphertext | ICV; all octets in front are associated data."""
        size = 8 if layer.name.endswith("Fragment") else 4
        assert layer.length == len(data) - HEADER
        start = HEADER + size
        iv, sealed = data[start : start + 8], data[start + 8 :]
        for key in self.keys:
            try:
                padded = AESGCM(key[:-4]).decrypt(key[-4:] + iv, sealed, data[:start])
            except InvalidTag:
                continue
            return data[HEADER], padded[: -1 - padded[-1]]
        raise AssertionError("no key opens this message")


def whole_chain(packet: object) -> list[object]:
    """The payloads, every octet of them accounted for."""
    layers = []
    layer = packet.payload
    while not isinstance(layer, scapy.NoPayload):
        assert not isinstance(layer, scapy.Raw | scapy.Padding), f"{layer!r} is not dissected"
        layers.append(layer)
        layer = layer.payload
    built = packet.copy()
    built.clear_cache()
    assert bytes(built) == bytes(packet.original)
    return layers


@pytest.fixture
def witness(monkeypatch):
    """Sees every datagram of a Pair; learns the keys from the channels."""
    seen = Witness()
    original = Channel._generation

    def generation(channel, keys):
        seen.keys += [keys.sk_ei.expose(), keys.sk_er.expose()]
        return original(channel, keys)

    monkeypatch.setattr(Channel, "_generation", generation)
    return seen


def play(witness: Witness, pair: Pair) -> Pair:
    """A whole life, then all datagrams in order."""
    pair.initiate()
    pair.rekey()
    pair.rekey(side=pair.sun)
    pair.run(31)
    pair.moon.endpoint.close("net", reason="terminated by the operator", now=pair.now)
    pair.run(10)
    assert [len(side.ups) for side in pair.sides] == [3, 3]
    for flight in pair.sent:
        witness.see(flight.sender, flight.data)
    return pair


def chains(witness: Witness, exchange: int, sender: str = "moon") -> list[list[object]]:
    return [chain for who, kind, chain in witness.messages if (who, kind) == (sender, exchange)]


def names(chain: list[object]) -> list[str]:
    return [type(layer).__name__.removeprefix("IKEv2_") for layer in chain]


def notifies(chain: list[object]) -> dict[int, bytes]:
    return {one.type: bytes(one.notify) for one in chain if isinstance(one, ikev2.IKEv2_Notify)}


@pytest.mark.parametrize("size", [1280, 576])
def test_a_life_with_rfc_9867(witness, size):
    pair = play(witness, Pair(fragment_size=size))
    request, response = chains(witness, INTERMEDIATE), chains(witness, INTERMEDIATE, "sun")
    assert [names(one) for one in (*request, *response)] == [["KE", "Notify"]] * 2
    assert (request[0][0].group, len(request[0][0].ke)) == (36, 1184)
    assert (response[0][0].group, len(response[0][0].ke)) == (36, 1088)
    key_id = b"\x02" + pair.moon.handed[0].encode()
    offer = notifies(request[0])[PPK_IDENTITY_KEY]
    assert (offer[:-8], len(offer)) == (key_id, 1 + 36 + 8)
    assert notifies(response[0]) == {PPK_IDENTITY: key_id}
    (auth,), (proof,) = chains(witness, IKE_AUTH), chains(witness, IKE_AUTH, "sun")
    assert names(auth) == ["IDi", "IDr", "AUTH", "SA", "TSi", "TSr", "Notify"]
    assert names(proof) == ["IDr", "AUTH", "SA", "TSi", "TSr"]
    assert auth[0].ID == b"moon.example"
    assert auth[2].auth_type == proof[1].auth_type == 2
    assert len(auth[2].load) == 64


@pytest.mark.parametrize("size", [1280, 576])
def test_a_rekey(witness, size):
    pair = play(witness, Pair(fragment_size=size))
    (request,), (response,) = (
        [one for one in chains(witness, CHILD, who) if (PPK_IDENTITY_KEY in notifies(one)) is asks]
        for who, asks in (("moon", True), ("sun", False))
    )
    assert names(request) == ["Notify", "SA", "Nonce", "Notify", "KE", "TSi", "TSr"]
    rekey = request[0]
    assert (rekey.type, rekey.proto, rekey.SPIsize) == (16393, 3, 4)
    assert int.from_bytes(rekey.SPI, "big") == pair.moon.ups[0].spi_in
    link = notifies(response)[ADDITIONAL_KE]
    assert notifies(response)[PPK_IDENTITY] == b"\x02" + pair.moon.handed[1].encode()
    followup = chains(witness, FOLLOWUP)[0]
    assert (names(followup), notifies(followup)) == (["KE", "Notify"], {ADDITIONAL_KE: link})
    deletes = [one for one in chains(witness, INFORMATIONAL) if names(one) == ["Delete"]]
    assert len(deletes) == 3  # for moon's rekey, in answer to sun's, and for the IKE SA
    assert [(one[0].proto, one[0].SPInum) for one in deletes] == [(3, 1), (3, 1), (1, 0)]


def test_a_handshake_with_rfc_8784(witness, monkeypatch):
    """The initiator offers USE_PPK alone, as one without RFC 9867 does."""
    original = sa_init._ppk_offers
    monkeypatch.setattr(sa_init, "_ppk_offers", lambda sa, **how: original(sa, **how)[1:])
    pair = Pair().initiate()
    for flight in pair.sent:
        witness.see(flight.sender, flight.data)
    (auth,), (proof,) = chains(witness, IKE_AUTH), chains(witness, IKE_AUTH, "sun")
    assert notifies(auth)[PPK_IDENTITY] == b"\x02" + pair.moon.handed[0].encode()
    assert len(notifies(auth)[NO_PPK_AUTH]) == 64
    assert notifies(proof) == {PPK_IDENTITY: b""}


def test_cookie_and_another_key_exchange(witness):
    pair = Pair(
        cookie_threshold=0,
        moon={"ike": ("aes256gcm16-prfsha384-x25519-ecp384-ke1_mlkem1024",)},
        sun={"ike": ("aes256gcm16-prfsha384-ecp384-ke1_mlkem1024",)},
    ).initiate()
    for flight in pair.sent:
        witness.see(flight.sender, flight.data)
    requests, responses = chains(witness, INIT), chains(witness, INIT, "sun")
    assert [names(one)[0] for one in requests] == ["SA", "Notify", "Notify"]
    assert [names(one) for one in responses[:2]] == [["Notify"], ["Notify"]]
    assert notifies(requests[2])[16390] == notifies(responses[0])[16390]
    assert notifies(responses[1]) == {17: b"\x00\x14"}
    assert [one[-1].vendorID for one in requests] == [b"qsgw PPK in CREATE_CHILD_SA v1"] * 3
    (ke,) = [one for one in responses[2] if isinstance(one, ikev2.IKEv2_KE)]
    assert (ke.group, len(ke.ke)) == (20, 96)
