"""Signatures, and the AlgorithmIdentifiers they are named by."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.crypto.algorithms import HashId
from gateway.crypto.signatures import (
    RSA_MIN,
    SCHEMES,
    Family,
    KeyKind,
    Signer,
    VerifyKey,
    ecdsa_from_fixed,
    ecdsa_to_fixed,
    kind_of,
    scheme_for,
    scheme_of,
    usable_schemes,
)
from gateway.errors import CryptoError
from kms_client.certificates import KeyAlgorithm
from tests.support.certificates import key_of

# RFC 7427 appendix A.1 (RSA PKCS #1), A.3 (ECDSA), A.4.3 (RSASSA-PSS with SHA-256), RFC 8420
# appendix A.1 (Ed25519), draft-ietf-ipsecme-ikev2-pqc-auth appendix A (ML-DSA).
IDENTIFIERS = [
    (Family.RSA_PKCS1, HashId.SHA2_256, "300d06092a864886f70d01010b0500"),
    (Family.RSA_PKCS1, HashId.SHA2_384, "300d06092a864886f70d01010c0500"),
    (Family.RSA_PKCS1, HashId.SHA2_512, "300d06092a864886f70d01010d0500"),
    (Family.ECDSA, HashId.SHA2_256, "300a06082a8648ce3d040302"),
    (Family.ECDSA, HashId.SHA2_384, "300a06082a8648ce3d040303"),
    (Family.ECDSA, HashId.SHA2_512, "300a06082a8648ce3d040304"),
    (
        Family.RSA_PSS,
        HashId.SHA2_256,
        (
            "304606092a864886f70d01010a3039a00f300d06096086480165030402010500a11c301a06092a864886f70d"
            "010108300d06096086480165030402010500a203020120a303020101"
        ),
    ),
    (Family.ED25519, HashId.IDENTITY, "300506032b6570"),
    (Family.ML_DSA_65, HashId.IDENTITY, "300b0609608648016503040312"),
    (Family.ML_DSA_87, HashId.IDENTITY, "300b0609608648016503040313"),
]


@pytest.mark.parametrize(("family", "hash_id", "identifier"), IDENTIFIERS)
def test_identifiers_are_those_of_the_rfcs(family, hash_id, identifier):
    assert scheme_for(family, hash_id).identifier.hex() == identifier
    assert scheme_of(bytes.fromhex(identifier)) == scheme_for(family, hash_id)


@pytest.mark.parametrize(
    "identifier",
    [
        # DER leaves the default trailerField out, as strongSwan and OpenSSL write it
        (
            "304106092a864886f70d01010a3034a00f300d06096086480165030402010500a11c301a06092a864886f70d"
            "010108300d06096086480165030402010500a203020120"
        ),
        # parameters of the hash absent (RFC 4055 2.1: either must be accepted)
        (
            "303d06092a864886f70d01010a3030a00d300b0609608648016503040201a11a301806092a864886f70d0101"
            "08300b0609608648016503040201a203020120"
        ),
    ],
)
def test_other_encodings_of_pss_are_understood(identifier):
    assert scheme_of(bytes.fromhex(identifier)) == scheme_for(Family.RSA_PSS, HashId.SHA2_256)


@pytest.mark.parametrize(
    "identifier",
    [
        "300d06092a864886f70d01010a3000",  # RFC 7427 A.4.1: empty parameters mean SHA-1
        "300d06092a864886f70d0101050500",  # A.1: sha1WithRSAEncryption
        "300906072a8648ce3d0401",  # A.3: ecdsa-with-SHA1
        "300b0609608648016503040311",  # ML-DSA-44
        "300706032b65700500",  # Ed25519 with NULL: parameters must be absent (RFC 8410 3)
        "",
    ],
)
def test_what_is_not_accepted_has_no_scheme(identifier):
    assert scheme_of(bytes.fromhex(identifier)) is None


def test_ecdsa_of_rfc_4754():
    """RFC 4754 8.1: P-256 with SHA-256 over "abc", r | s."""
    gx = "2442a5cc0ecd015fa3ca31dc8e2bbc70bf42d60cbca20085e0822cb04235e970"
    gy = "6fc98bd7e50211a4a27102fa3549df79ebcb4bf246b80945cddfe7d509bbfd7d"
    r = "cb28e0999b9c7715fd0a80d8e47a77079716cbbf917dd72e97566ea1c066957c"
    s = "86fa3bb4e26cad5bf90b7f81899256ce7594bb1ea0c89212748bff3b3d5b0315"
    public = ec.EllipticCurvePublicNumbers(int(gx, 16), int(gy, 16), ec.SECP256R1()).public_key()
    key = VerifyKey.of(public)
    scheme = scheme_for(Family.ECDSA, HashId.SHA2_256)
    signature = ecdsa_from_fixed(bytes.fromhex(r + s), 32)
    assert key.verify(scheme, signature, b"abc")
    assert not key.verify(scheme, signature, b"abd")
    assert ecdsa_to_fixed(signature, 32).hex() == r + s
    assert ecdsa_from_fixed(bytes(63), 32) is None


@pytest.mark.parametrize("algorithm", KeyAlgorithm)
def test_signing_and_verifying(algorithm):
    signer = Signer(key_of("moon", algorithm))
    other = Signer(key_of("sun", algorithm))
    again = VerifyKey.load(signer.public.der)
    assert again == signer.public != other.public
    for scheme in SCHEMES:
        if not again.accepts(scheme):
            with pytest.raises(ValueError, match="signatures"):
                signer.sign(scheme, b"octets")
            assert not again.verify(scheme, b"signature", b"octets")
            continue
        signature = signer.sign(scheme, b"octets")
        assert again.verify(scheme, signature, b"octets")
        assert not again.verify(scheme, signature, b"other octets")
        assert not again.verify(scheme, signature[:-1], b"octets")
        assert not again.verify(scheme, b"", b"octets")
        assert not other.public.verify(scheme, signature, b"octets")


def test_the_choice_follows_what_the_peer_announced():
    sha2 = (HashId.SHA2_256, HashId.SHA2_384, HashId.SHA2_512)
    best = {kind: usable_schemes(kind, sha2)[0] for kind in (KeyKind.P384, KeyKind.RSA)}
    assert best[KeyKind.P384] == scheme_for(Family.ECDSA, HashId.SHA2_384)
    assert best[KeyKind.RSA] == scheme_for(Family.RSA_PSS, HashId.SHA2_256)
    p256 = usable_schemes(KeyKind.P256, sha2[1:])
    assert [scheme.hash for scheme in p256] == [HashId.SHA2_384, HashId.SHA2_512]
    rsa = [scheme.family for scheme in usable_schemes(KeyKind.RSA, sha2)]
    assert rsa == [Family.RSA_PSS] * 3 + [Family.RSA_PKCS1] * 3  # RFC 7427 3: prefer PSS
    assert not usable_schemes(KeyKind.ED25519, sha2)
    assert not usable_schemes(KeyKind.P256, (HashId.SHA1, HashId.IDENTITY, 99))
    assert usable_schemes(KeyKind.ML_DSA_87, (HashId.IDENTITY,)) == [
        scheme_for(Family.ML_DSA_87, HashId.IDENTITY)
    ]


def test_names_for_people():
    name = scheme_for(Family.ECDSA, HashId.SHA2_384).text(KeyKind.P384)
    assert name == "ECDSA-P384-SHA384"
    assert scheme_for(Family.RSA_PSS, HashId.SHA2_512).text(KeyKind.RSA) == "RSA-PSS-SHA512"
    assert scheme_for(Family.ED25519, HashId.IDENTITY).text(KeyKind.ED25519) == "Ed25519"


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (lambda: rsa.generate_private_key(65537, 1024), f"1024 bits, not {RSA_MIN}"),
        (lambda: ec.generate_private_key(ec.SECP521R1()), "secp521r1"),
        (ed448.Ed448PrivateKey.generate, "Ed448"),
        (lambda: dsa.generate_private_key(1024), "DSA"),
    ],
)
def test_keys_that_cannot_be_used(key, reason):
    made = key()
    with pytest.raises(CryptoError, match=reason):
        Signer(made)
    with pytest.raises(CryptoError, match=reason):
        kind_of(made.public_key())
    der = made.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(CryptoError, match=reason):
        VerifyKey.load(der)


def test_what_is_no_key():
    for junk in (b"", b"\x30\x00", bytes(200)):
        with pytest.raises(CryptoError):
            VerifyKey.load(junk)
