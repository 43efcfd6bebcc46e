"""CERTREQ and SUPPORTED_AUTH_METHODS (RFC 9593): what the peer can check, told beforehand.

IKE_SA_INIT  SA, KE, Ni, ...                              -->
      <-- SA, KE, Nr, CERTREQ, N(SUPPORTED_AUTH_METHODS)
IKE_AUTH     SK{IDi, CERT+, CERTREQ, N(SUPPORTED_AUTH_METHODS), AUTH, ...}  -->
"""

from __future__ import annotations

import pytest

from gateway.crypto.secret import Secret
from gateway.crypto.signatures import Family
from gateway.ike import auth_hints
from gateway.ike.auth_hints import Announcement, decode
from gateway.ike.credentials import SharedKey, TrustedAuthorities
from gateway.ike.errors import ProtocolError
from gateway.ike.events import AuthHintUnmet
from gateway.ike.flows import proof
from gateway.ike.payloads import CertReqPayload
from gateway.ike.registry import CertEncoding
from kms_client.certificates import KeyAlgorithm as K
from tests.support.certificates import Pki, judge
from tests.support.ike_pair import Pair, Side

PSK = SharedKey(key=Secret(b"a pre-shared key of some length"))


def certified(pki: Pki, *, asked: TrustedAuthorities | None = None, **both: object) -> Pair:
    """moon is asked for a certificate of ``asked``; what it shows, sun trusts all the same."""
    pair = Pair(
        moon={"local_auth": pki.issue("moon").auth, "remote_auth": pki.trusted},
        sun={"local_auth": pki.issue("sun").auth, "remote_auth": asked or pki.trusted},
        toy_kex=True,
        **both,
    )
    for side in pair.sides:
        side.judge = judge(pki.anchors())
    return pair


def reasons(side: Side) -> list[str]:
    return [event.reason for event in side.events if isinstance(event, AuthHintUnmet)]


@pytest.mark.parametrize("algorithm", [K.ECDSA_P384, K.RSA_3072, K.ED25519, K.ML_DSA_65])
@pytest.mark.parametrize("intermediate", [False, True])
def test_hints_that_are_met_are_nothing_to_speak_of(algorithm, intermediate):
    pair = certified(Pki(algorithm, intermediate=intermediate)).initiate()
    pair.check_mirrored()
    for side in pair.sides:
        assert not reasons(side)


@pytest.mark.parametrize("name", ["moon", "sun"])
def test_other_authorities_are_asked_for(name):
    """We show what we have: the operator learns what a refusal would come from."""
    others = TrustedAuthorities(key_hashes=(bytes(20), b"\x01" * 20))
    pair = certified(Pki(), asked=others)
    pair.initiate(side=pair.moon if name == "moon" else pair.sun)
    assert reasons(pair.moon) == [
        "peer asks for certificates of other CAs than those that certify ours (CERTREQ)"
    ]
    assert not reasons(pair.sun)
    pair.check_mirrored()


def test_one_of_several_authorities_is_ours():
    pki = Pki()
    both = TrustedAuthorities(key_hashes=(bytes(20), *pki.trusted.key_hashes))
    pair = certified(pki, asked=both).initiate()
    assert not reasons(pair.moon)


def test_no_authority_named_is_any():
    pair = certified(Pki(), asked=TrustedAuthorities(key_hashes=())).initiate()
    assert not reasons(pair.moon)


def test_authorities_above_ours_are_not_all_known():
    """A chain whose root is the peer's to know: nothing can be said."""
    pki = Pki()
    pair = certified(pki, asked=TrustedAuthorities(key_hashes=(bytes(20),)))
    ours = pair.moon.connection.local_auth
    object.__setattr__(ours, "authorities", frozenset())
    pair.initiate()
    assert not reasons(pair.moon)


def test_another_encoding_is_asked_for(monkeypatch):
    pair = certified(Pki())
    request = [CertReqPayload(encoding=CertEncoding.RAW_PUBLIC_KEY, data=b"")]
    monkeypatch.setattr(proof, "certificate_requests", lambda _connection: request)
    pair.initiate()
    for side in pair.sides:
        (reason,) = reasons(side)
        assert "encoding 15" in reason
    pair.check_mirrored()


def test_a_certreq_of_no_whole_hashes(monkeypatch):
    pair = certified(Pki())
    request = [CertReqPayload(encoding=CertEncoding.X509_SIGNATURE, data=bytes(19))]
    monkeypatch.setattr(proof, "certificate_requests", lambda _connection: request)
    pair.initiate()
    assert "CERTREQ" in pair.moon.failures[0].reason
    pair.run(60)
    pair.check_empty()


# --- SUPPORTED_AUTH_METHODS --------------------------------------------------------------------


def accept(monkeypatch, *announced: Announcement) -> None:
    """What both sides announce."""
    monkeypatch.setattr(auth_hints, "_accepted", lambda _remote: list(announced))


def identifier(family: Family, size: int) -> bytes:
    return next(
        scheme.identifier
        for scheme in auth_hints.SCHEMES
        if scheme.family is family and scheme.text("").endswith(str(size))  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("family", "size", "text"),
    [
        (Family.RSA_PSS, 512, "RSA-PSS-SHA512"),
        (Family.RSA_PKCS1, 384, "RSA-PKCS1-SHA384"),
    ],
)
def test_what_is_announced_is_used(monkeypatch, family, size, text):
    algorithm = identifier(family, size)
    accept(monkeypatch, Announcement(method=14, link=0, algorithm=algorithm))
    pair = certified(Pki(K.RSA_3072)).initiate()
    for side in pair.sides:
        assert side.established[0].local_proof.startswith(text)
        assert not reasons(side)


def test_what_we_have_is_not_announced(monkeypatch):
    """It is a hint: our best goes out, and the operator is told."""
    accept(monkeypatch, Announcement(method=2), Announcement(method=77, link=0, algorithm=b"?"))
    pair = certified(Pki(K.ECDSA_P256)).initiate()
    for side in pair.sides:
        (reason,) = reasons(side)
        assert "takes method 2, method 77, not our ECDSA-P256 signature" in reason
    pair.check_mirrored()


def test_a_pre_shared_key_where_the_peer_wants_a_signature():
    """sun is set up for certificates, moon for a pre-shared key: moon can tell why it fails."""
    pki = Pki()
    sun = pki.issue("sun")
    pair = Pair(
        moon={"local_auth": PSK, "remote_auth": pki.trusted},
        sun={"local_auth": sun.auth, "remote_auth": pki.trusted},
        toy_kex=True,
    )
    pair.moon.judge = judge(pki.anchors())
    pair.initiate()
    (reason,) = reasons(pair.moon)
    assert reason.endswith("not a pre-shared key (RFC 9593)")
    assert pair.moon.failures[0].notify == "AUTHENTICATION_FAILED"


def test_pre_shared_keys_alone_announce_nothing(monkeypatch):
    monkeypatch.setattr(auth_hints, "_accepted", lambda _remote: pytest.fail("announced"))
    Pair(toy_kex=True).initiate().check_mirrored()


def test_announcements_on_the_wire():
    shared, ecdsa = bytes.fromhex("0202"), bytes.fromhex("030900")
    signature = bytes.fromhex("0f0e00300a06082a8648ce3d040302")
    assert list(decode(shared + ecdsa + signature)) == [
        Announcement(method=2),
        Announcement(method=9, link=0),
        Announcement(method=14, link=0, algorithm=signature[3:]),
    ]
    assert b"".join(one.encode() for one in decode(shared + ecdsa + signature)) == (
        shared + ecdsa + signature
    )


@pytest.mark.parametrize("data", ["00", "01", "0102", "02", "040e00", "02020f0e00"])
def test_announcements_cut_short(data):
    with pytest.raises(ProtocolError):
        list(decode(bytes.fromhex(data)))
