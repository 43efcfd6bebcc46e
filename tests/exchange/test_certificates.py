"""IKE_AUTH with signatures: every kind of key, and every reason to refuse one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography import x509

from gateway.crypto.secret import Secret
from gateway.crypto.signatures import Signer, VerifyKey
from gateway.ike.credentials import KnownKey, OwnKey, SharedKey
from gateway.ike.flows import proof, sa_init
from gateway.ike.identity import Identity
from gateway.ike.registry import AuthMethod, HashId, NotifyType
from gateway.ike.registry import ExchangeType as X
from gateway.model import Revocation
from kms_client.certificates import KeyAlgorithm as K
from tests.support.certificates import Owner, Pki, judge, key_of
from tests.support.ike_pair import Pair

PSK = SharedKey(key=Secret(b"a pre-shared key of some length"))


def certified(
    moon: Owner, sun: Owner, pki: Pki, *, moon_anchors=None, sun_anchors=None, **both
) -> Pair:
    """moon and sun with certificates; each trusts what the PKI gave out."""
    pair = Pair(
        moon={"local_auth": moon.auth, "remote_auth": pki.trusted},
        sun={"local_auth": sun.auth, "remote_auth": pki.trusted},
        toy_kex=True,
        **both,
    )
    pair.moon.judge = judge(moon_anchors or pki.anchors())
    pair.sun.judge = judge(sun_anchors or pki.anchors())
    return pair


@pytest.fixture
def wire(monkeypatch):
    """AUTH payloads as they were checked: (who checks, method, how it starts)."""
    seen = []
    original = proof.check

    def check(sa, expected, octets, auth):
        seen.append((sa.role.value, auth.method, auth.data[:16]))
        return original(sa, expected, octets, auth)

    monkeypatch.setattr(proof, "check", check)
    return seen


@pytest.mark.parametrize(
    ("algorithm", "text", "identifier"),
    [
        (K.ECDSA_P256, "ECDSA-P256-SHA256", "0c300a06082a8648ce3d040302"),
        (K.ECDSA_P384, "ECDSA-P384-SHA384", "0c300a06082a8648ce3d040303"),
        (K.ED25519, "Ed25519", "07300506032b6570"),
        (K.RSA_3072, "RSA-PSS-SHA256", "48304606092a864886f70d01010a"),
        (K.ML_DSA_65, "ML-DSA-65", "0d300b0609608648016503040312"),
        (K.ML_DSA_87, "ML-DSA-87", "0d300b0609608648016503040313"),
    ],
)
@pytest.mark.parametrize("intermediate", [False, True])
def test_both_sides_sign(algorithm, text, identifier, intermediate, wire):
    # IKE_SA_INIT  SA, KE, Ni, N(SIGNATURE_HASH_ALGORITHMS), ...  -->
    #                    <-- SA, KE, Nr, N(SIGNATURE_HASH_ALGORITHMS), CERTREQ, ...
    # IKE_AUTH     SK{IDi, CERT+, CERTREQ, IDr, AUTH(14), SA, TSi, TSr}  -->
    #                    <-- SK{IDr, CERT+, AUTH(14), SA, TSi, TSr}
    pki = Pki(algorithm, intermediate=intermediate)
    pair = certified(pki.issue("moon"), pki.issue("sun"), pki).initiate()
    assert list(pair.exchanges())[:3] == [X.IKE_SA_INIT, X.IKE_INTERMEDIATE, X.IKE_AUTH]
    assert [(role, method) for role, method, _ in wire] == [("responder", 14), ("initiator", 14)]
    for _, _, head in wire:
        assert head.startswith(bytes.fromhex(identifier))
    pair.check_mirrored()
    pair.check_settled()
    for side, ours, theirs in ((pair.moon, "moon", "sun"), (pair.sun, "sun", "moon")):
        (ike,) = side.established
        assert ike.local_proof == f"{text} CN={ours}"
        assert ike.remote_proof == f"{text} CN={theirs}"
        (facts,) = side.facts.ike
        assert (facts.local_proof, facts.remote_proof) == (ike.local_proof, ike.remote_proof)
        (check,) = side.checks
        assert len(check.chain) == 1 + intermediate
        assert str(check.identity) == f"{theirs}.example"


def test_ml_dsa_certificates_go_in_fragments():
    pki = Pki(K.ML_DSA_87, intermediate=True)
    pair = certified(pki.issue("moon"), pki.issue("sun"), pki, fragment_size=1280).initiate()
    pair.check_mirrored()
    requests = [one for one in pair.sent if one.header.exchange == X.IKE_AUTH]
    for sender in ("moon", "sun"):
        sizes = [len(one.data) for one in requests if one.sender == sender]
        assert len(sizes) > 12  # 2 certificates of 7.5 kB, a signature of 4.6 kB
        assert max(sizes) <= 1280


def test_each_side_has_a_way_of_its_own(wire):
    pki = Pki()
    moon, sun = pki.issue("moon"), Signer(key_of("sun", K.ED25519))
    pair = Pair(
        moon={"local_auth": moon.auth, "remote_auth": PSK},
        sun={"local_auth": PSK, "remote_auth": pki.trusted},
        toy_kex=True,
    )
    pair.sun.judge = judge(pki.anchors())
    pair.initiate()
    assert [(role, method) for role, method, _ in wire] == [("responder", 14), ("initiator", 2)]
    assert pair.sun.established[0].remote_proof == "ECDSA-P256-SHA256 CN=moon"
    assert pair.sun.established[0].local_proof == "pre-shared key"
    pair.check_mirrored()
    other = Pair(
        moon={"local_auth": PSK, "remote_auth": KnownKey(public_key=sun.public)},
        sun={"local_auth": OwnKey(signer=sun), "remote_auth": PSK},
        toy_kex=True,
    ).initiate()
    assert other.moon.established[0].remote_proof == "Ed25519 raw public key"
    other.check_mirrored()


@pytest.mark.parametrize("algorithm", [K.ECDSA_P384, K.ED25519, K.RSA_3072, K.ML_DSA_65])
def test_raw_public_keys(algorithm):
    # IKE_AUTH  SK{IDi, CERT(15, SubjectPublicKeyInfo), CERTREQ(15), IDr, AUTH(14), ...}  -->
    moon, sun = Signer(key_of("moon", algorithm)), Signer(key_of("sun", algorithm))
    settings = {
        "moon": {"local_auth": OwnKey(signer=moon), "remote_auth": KnownKey(public_key=sun.public)},
        "sun": {"local_auth": OwnKey(signer=sun), "remote_auth": KnownKey(public_key=moon.public)},
    }
    pair = Pair(**settings, toy_kex=True).initiate()
    pair.check_mirrored()
    assert pair.moon.established[0].remote_proof.endswith(" raw public key")
    assert not pair.moon.checks
    settings["sun"]["remote_auth"] = KnownKey(public_key=Signer(key_of("x", algorithm)).public)
    refused = Pair(**settings, toy_kex=True).initiate()
    assert "another public key than remote_public_key" in refused.sun.failures[0].reason
    refused.check_empty()


def test_a_raw_key_that_is_not_shown_and_is_wrong(monkeypatch):
    monkeypatch.setattr(proof, "certificate_payloads", lambda sa: [])
    moon, sun = Signer(key_of("moon", K.ED25519)), Signer(key_of("sun", K.ED25519))
    other = Signer(key_of("x", K.ED25519))
    pair = Pair(
        moon={"local_auth": OwnKey(signer=moon), "remote_auth": KnownKey(public_key=sun.public)},
        sun={"local_auth": OwnKey(signer=sun), "remote_auth": KnownKey(public_key=other.public)},
        toy_kex=True,
    ).initiate()
    assert "signature of the peer is wrong" in pair.sun.failures[0].reason
    assert pair.moon.failures[0].notify == "AUTHENTICATION_FAILED"
    pair.check_empty()


# --- who is refused ----------------------------------------------------------------------------


def refused(pair: Pair) -> str:
    """Nothing came up; why, in the words of the side that refused."""
    pair.initiate()
    pair.check_empty()
    pair.check_settled()
    assert not pair.sun.established
    (failure,) = pair.sun.failures
    assert failure.notify == "AUTHENTICATION_FAILED"
    (told,) = pair.moon.failures
    assert told.from_peer
    assert "wrong pre-shared key, certificate or identity" in told.reason
    return failure.reason


def test_wrong_key():
    pki = Pki()
    moon = replace(pki.issue("moon"), key=key_of("impostor", K.ECDSA_P256))
    assert "signature of CN=moon is wrong" in refused(certified(moon, pki.issue("sun"), pki))


def test_the_initiator_refuses_too():
    pki = Pki()
    sun = replace(pki.issue("sun"), key=key_of("impostor", K.ECDSA_P256))
    pair = certified(pki.issue("moon"), sun, pki).initiate()
    # IKE_AUTH ... <-- SK{IDr, CERT, AUTH(wrong), ...}
    # INFORMATIONAL SK{N(AUTHENTICATION_FAILED)} -->   <-- SK{}
    assert "signature of CN=sun is wrong" in pair.moon.failures[0].reason
    assert not pair.moon.established
    assert pair.sun.closed
    pair.check_empty()


def test_wrong_identity():
    pki = Pki()
    moon = pki.issue("moon", alternatives=[x509.DNSName("other.example")])
    reason = refused(certified(moon, pki.issue("sun"), pki))
    assert reason == "identity moon.example is not in the subjectAltName of certificate CN=moon"


def test_a_good_certificate_of_somebody_else_does_not_help():
    pki = Pki()
    eve = pki.issue("eve")
    pair = certified(eve, pki.issue("sun"), pki)
    assert "identity moon.example is not" in refused(pair)


@pytest.mark.parametrize("algorithm", [K.ECDSA_P256, K.ED25519, K.RSA_3072, K.ML_DSA_65])
def test_expired(algorithm):
    pki = Pki(algorithm)
    moon = pki.issue("moon", days=-5)
    reason = refused(certified(moon, pki.issue("sun"), pki))
    assert reason == "certificate of CN=moon expired on 2026-05-27"


def test_untrusted_authority():
    pki, others = Pki(), Pki(name="other ca")
    reason = refused(certified(others.issue("moon"), pki.issue("sun"), pki))
    assert reason.startswith("issuer CN=other ca of certificate CN=moon is not among the")


def test_missing_intermediate():
    pki = Pki(intermediate=True)
    moon = replace(pki.issue("moon"), above=())
    reason = refused(certified(moon, pki.issue("sun"), pki))
    assert reason.startswith("issuer CN=intermediate of certificate CN=moon is not among")


@pytest.mark.parametrize("revocation", [Revocation.SOFT, Revocation.REQUIRE])
@pytest.mark.parametrize("algorithm", [K.ECDSA_P384, K.ML_DSA_65])
def test_revoked(revocation, algorithm):
    pki = Pki(algorithm, intermediate=True)
    moon = pki.issue("moon")
    anchors = pki.anchors(pki.crls(moon), revocation)
    pair = certified(moon, pki.issue("sun"), pki, sun_anchors=anchors)
    assert refused(pair) == "certificate of CN=moon is revoked"
    good = pki.anchors(pki.crls(), revocation)
    certified(moon, pki.issue("sun"), pki, sun_anchors=good).initiate().check_mirrored()


def test_no_certificate(monkeypatch):
    monkeypatch.setattr(proof, "certificate_payloads", lambda sa: [])
    pki = Pki()
    reason = refused(certified(pki.issue("moon"), pki.issue("sun"), pki))
    assert reason == "peer shows no certificate, and is to authenticate with one"


def test_too_many_certificates_are_not_looked_at():
    pki = Pki()
    moon = pki.issue("moon")
    moon = replace(moon, above=(moon.certificate,) * 8)
    pair = certified(moon, pki.issue("sun"), pki)
    assert "9 certificates" in refused(pair)
    assert not pair.sun.checks


@pytest.mark.parametrize("junk", [b"\x00", b"\x30\x03\x02\x01\x01", bytes(2000)])
def test_what_is_no_certificate(junk):
    pki = Pki()
    moon = pki.issue("moon")
    pair = certified(moon, pki.issue("sun"), pki)
    auth = replace(moon.auth, certificates=(junk,))
    connection = replace(pair.moon.connection, local_auth=auth)
    pair.moon.endpoint.set_connections([connection], pair.now)
    assert "certificate cannot be read" in refused(pair)


def test_a_psk_does_not_stand_in_for_a_certificate():
    pki = Pki()
    pair = Pair(
        moon={"local_auth": PSK, "remote_auth": PSK},
        sun={"local_auth": PSK, "remote_auth": pki.trusted},
        toy_kex=True,
    )
    pair.sun.judge = judge(pki.anchors())
    pair.initiate()
    assert "peer shows no certificate" in pair.sun.failures[0].reason
    pair.check_empty()


def test_a_psk_does_not_stand_in_for_a_known_key():
    known = KnownKey(public_key=Signer(key_of("moon", K.ED25519)).public)
    pair = Pair(sun={"remote_auth": known}, toy_kex=True).initiate()
    assert pair.sun.failures[0].reason == "peer uses a pre-shared key, and is to sign"
    pair.check_empty()


def test_a_certificate_does_not_stand_in_for_a_psk():
    pki = Pki()
    pair = Pair(moon={"local_auth": pki.issue("moon").auth}, toy_kex=True).initiate()
    assert "is to use a pre-shared key" in pair.sun.failures[0].reason


# --- hashes (RFC 7427) ---------------------------------------------------------------------------


@pytest.fixture
def announce(monkeypatch):
    """What either side announces, from now on."""

    def set_to(*hash_ids):
        monkeypatch.setattr(proof, "ANNOUNCED_HASHES", hash_ids)

    return set_to


@pytest.mark.parametrize(
    ("algorithm", "announced", "text"),
    [
        (K.ECDSA_P256, (HashId.SHA2_512,), "ECDSA-P256-SHA512"),
        (K.ECDSA_P384, (HashId.SHA2_256,), "ECDSA-P384-SHA256"),
        (K.RSA_3072, (HashId.SHA2_384, HashId.SHA2_512), "RSA-PSS-SHA384"),
    ],
)
def test_only_announced_hashes_are_used(announce, algorithm, announced, text):
    announce(*announced)
    pki = Pki(algorithm)
    pair = certified(pki.issue("moon"), pki.issue("sun"), pki).initiate()
    assert pair.sun.established[0].remote_proof == f"{text} CN=moon"


@pytest.mark.parametrize(
    ("algorithm", "announced"),
    [
        (K.ECDSA_P256, (HashId.SHA1,)),
        (K.ED25519, (HashId.SHA2_256, HashId.SHA2_512)),
        (K.ML_DSA_65, (HashId.SHA2_256,)),
        (K.RSA_3072, (HashId.IDENTITY,)),
    ],
)
def test_no_hash_in_common(announce, algorithm, announced):
    announce(*announced)
    pki = Pki(algorithm)
    pair = certified(pki.issue("moon"), pki.issue("sun"), pki).initiate()
    assert "peer announced no hash that goes with our" in pair.moon.failures[0].reason
    assert announced[0].name in pair.moon.failures[0].reason
    pair.check_empty()
    pair.check_settled()


def test_a_long_list_of_hashes_makes_no_long_message(announce):
    announce(*range(1000, 3000))
    pki = Pki()
    pair = certified(pki.issue("moon"), pki.issue("sun"), pki).initiate()
    assert "no hash" in pair.moon.failures[0].reason
    assert all(len(one.reason) < 300 for side in pair.sides for one in side.failures)


@pytest.mark.parametrize("blob", ["300906072a8648ce3d0401", "300d06092a864886f70d0101050500"])
def test_sha1_signatures_are_refused(monkeypatch, blob):
    """ecdsa-with-SHA1 and sha1WithRSAEncryption (RFC 7427 A.1, A.3): never announced."""
    identifier = bytes.fromhex(blob)
    monkeypatch.setattr(
        proof,
        "encode_signature",
        lambda scheme, signature: bytes((len(identifier),)) + identifier + signature,
    )
    pki = Pki()
    reason = refused(certified(pki.issue("moon"), pki.issue("sun"), pki))
    assert "algorithm we do not accept" in reason


@pytest.mark.parametrize(
    ("algorithm", "method", "text"),
    [
        (K.RSA_3072, AuthMethod.RSA_SIGNATURE, "RSA-PKCS1-SHA256"),
        (K.ECDSA_P256, AuthMethod.ECDSA_SHA256_P256, "ECDSA-P256-SHA256"),
        (K.ECDSA_P384, AuthMethod.ECDSA_SHA384_P384, "ECDSA-P384-SHA384"),
    ],
)
def test_without_rfc_7427_the_older_methods(monkeypatch, wire, algorithm, method, text):
    monkeypatch.setattr(proof, "hash_payloads", lambda connection: [])
    pki = Pki(algorithm)
    moon, sun = pki.issue("moon"), pki.issue("sun")
    pair = certified(moon, sun, pki).initiate()
    assert [used for _, used, _ in wire] == [method, method]
    assert pair.sun.established[0].remote_proof == f"{text} CN=moon"
    pair.check_mirrored()
    impostor = replace(moon, key=key_of("impostor", algorithm))
    assert "signature of CN=moon is wrong" in refused(certified(impostor, sun, pki))


@pytest.mark.parametrize("algorithm", [K.ED25519, K.ML_DSA_65])
def test_without_rfc_7427_there_is_no_such_signature(monkeypatch, algorithm):
    monkeypatch.setattr(proof, "hash_payloads", lambda connection: [])
    pki = Pki(algorithm)
    pair = certified(pki.issue("moon"), pki.issue("sun"), pki).initiate()
    assert "peer knows no RFC 7427 signatures" in pair.moon.failures[0].reason
    pair.check_settled()


def test_older_methods_do_not_count_where_both_know_rfc_7427(monkeypatch):
    original = proof._our_scheme

    def stubborn(sa, ours):
        return original(replace_peer(sa), ours)

    def replace_peer(sa):
        return type("Sa", (), {"peer": replace(sa.peer, signature_hashes=None)})

    monkeypatch.setattr(proof, "_our_scheme", stubborn)
    pki = Pki()
    reason = refused(certified(pki.issue("moon"), pki.issue("sun"), pki))
    assert reason == "peer announced RFC 7427 and uses authentication method 9"


@pytest.mark.parametrize("victim", ["moon", "sun"])
def test_stripping_the_hashes_on_the_way_is_noticed(monkeypatch, victim):
    """An attacker takes N(SIGNATURE_HASH_ALGORITHMS) out of an IKE_SA_INIT message, so that the
    older methods are used. AUTH covers the message as it was sent (RFC 7296 2.15)."""
    original = sa_init._peer_traits

    def traits(connection, received, mode=None):
        found = original(connection, received, mode)
        receiver = "sun" if mode is not None else "moon"
        return replace(found, signature_hashes=None) if receiver == victim else found

    monkeypatch.setattr(sa_init, "_peer_traits", traits)
    pki = Pki()
    pair = certified(pki.issue("moon"), pki.issue("sun"), pki).initiate()
    # The one that was not lied to knows that both announced it.
    other = pair.sun if victim == "moon" else pair.moon
    assert "peer announced RFC 7427 and uses" in other.failures[0].reason
    pair.check_empty()


def test_an_altered_first_message_breaks_the_signature():
    def fault(flight):
        data = flight.data
        if flight.header.exchange == X.IKE_SA_INIT and flight.sender == "moon":
            kind = NotifyType.SIGNATURE_HASH_ALGORITHMS.to_bytes(2, "big")
            assert kind + b"\x00\x02" in data
            # SHA2-256 becomes number 9, which nobody knows
            data = data.replace(kind + b"\x00\x02", kind + b"\x00\x09")
        return [(0.0, data)]

    pki = Pki()
    pair = certified(pki.issue("moon"), pki.issue("sun"), pki, fault=fault)
    assert "signature of CN=moon is wrong" in refused(pair)


def test_psk_tunnels_announce_nothing():
    pair = Pair(toy_kex=True).initiate()
    kind = NotifyType.SIGNATURE_HASH_ALGORITHMS.to_bytes(2, "big")
    assert not any(kind in one.data for one in pair.sent if one.header.exchange == X.IKE_SA_INIT)


# --- QKD keys, names, renewal ---------------------------------------------------------------------


def test_ppk_in_ike_auth_with_signatures(rfc8784_only):
    pki = Pki()
    moon, sun = pki.issue("moon"), pki.issue("sun")
    certified(moon, sun, pki).initiate().check_mirrored()
    pair = certified(moon, sun, pki)
    pair.moon.endpoint.initiate("net", ppk=pair.key(at_peer=b"\x01" * 32), now=pair.now)
    pair.run()
    assert "differs from the peer's" in pair.sun.failures[0].reason  # NO_PPK_AUTH was good
    pair.check_settled()


def test_distinguished_names():
    pki = Pki()
    ids = {name: Identity.parse(f"dn:CN={name}") for name in ("moon", "sun")}
    pair = Pair(
        moon={
            "local_auth": pki.issue("moon").auth,
            "remote_auth": pki.trusted,
            "local_id": ids["moon"],
            "remote_id": ids["sun"],
        },
        sun={
            "local_auth": pki.issue("sun").auth,
            "remote_auth": pki.trusted,
            "local_id": ids["sun"],
            "remote_id": ids["moon"],
        },
        toy_kex=True,
    )
    pair.moon.judge = pair.sun.judge = judge(pki.anchors())
    pair.initiate().check_mirrored()


def test_a_renewed_certificate_keeps_the_sas():
    pki = Pki()
    pair = certified(pki.issue("moon"), pki.issue("sun"), pki).initiate()
    new = pki.issue("moon", algorithm=K.ED25519)
    renewed = replace(pair.moon.connection, local_auth=new.auth, remote_auth=pki.trusted)
    pair.moon.endpoint.set_connections([renewed], pair.now)
    pair.run()
    pair.check_mirrored()
    assert not pair.moon.closed
    pair.initiate()
    assert pair.sun.established[-1].remote_proof == "Ed25519 CN=moon"


def test_a_change_from_certificates_to_a_psk_does_not():
    pki = Pki()
    pair = certified(pki.issue("moon"), pki.issue("sun"), pki).initiate()
    pair.moon.endpoint.set_connections([replace(pair.moon.connection, remote_auth=PSK)], pair.now)
    pair.run()
    assert pair.moon.closed
    pair.check_empty()


def test_a_private_key_shows_itself_nowhere():
    pki = Pki(K.ED25519)
    moon = pki.issue("moon")
    secret = moon.key.private_bytes_raw()
    pair = certified(moon, pki.issue("sun"), pki).initiate()
    shown = repr(pair.moon.connection) + repr(pair.moon.events) + repr(moon.auth.signer)
    assert repr(secret) not in shown
    assert secret.hex() not in shown
    assert "<Signer Ed25519>" in shown
    assert VerifyKey.load(moon.auth.signer.public.der) == moon.auth.signer.public
