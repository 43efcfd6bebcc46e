"""CERT, CERTREQ and AUTH: each side proves who it is, in a way of its own.

    certificates     CERT(X.509) ..., AUTH(14)       RFC 7296 3.6, RFC 7427
    raw public key   CERT(SubjectPublicKeyInfo), AUTH(14)                RFC 7670
    pre-shared key   AUTH(2)                                     RFC 7296 2.15

What a signature may be made with is negotiated: N(SIGNATURE_HASH_ALGORITHMS) in IKE_SA_INIT
lists the hashes its sender can check. Where a peer sends none, RSA and the two ECDSA curves
still have methods of their own (1, 9, 10); Ed25519 and ML-DSA have not.
"""

from __future__ import annotations

from typing import assert_never

from gateway.crypto.signatures import ANNOUNCED_HASHES, Scheme, VerifyKey, usable_schemes
from gateway.errors import CryptoError
from gateway.ike import limits
from gateway.ike.auth import (
    classic_scheme,
    decode_signature,
    encode_classic,
    encode_signature,
    psk_auth,
    psk_verify,
    verify_classic,
)
from gateway.ike.auth_hints import AuthHints
from gateway.ike.commands import CheckCertificates
from gateway.ike.config import Connection
from gateway.ike.credentials import KnownKey, OwnKey, SharedKey, TrustedAuthorities
from gateway.ike.errors import ProtocolError
from gateway.ike.events import AuthHintUnmet
from gateway.ike.flow import Flow, check_certificates, refuse
from gateway.ike.payloads import (
    AuthPayload,
    CertPayload,
    CertReqPayload,
    IdPayload,
    NotifyPayload,
    Payload,
)
from gateway.ike.received import Received
from gateway.ike.registry import AuthMethod, CertEncoding, HashId, NotifyType
from gateway.ike.sa import IkeSa, PeerProof
from gateway.ike.wire import syntax_error

_SHARED_KEY_TEXT = "pre-shared key"
_SHOWN = 8  # of the hashes a peer announces, in a message


def failed(reason: str) -> ProtocolError:
    """RFC 7296 2.21.2: whatever is wrong with a proof, this is the notify."""
    return refuse(NotifyType.AUTHENTICATION_FAILED, reason)


# --- IKE_SA_INIT -------------------------------------------------------------------------------


def hash_payloads(connection: Connection) -> list[Payload]:
    """N(SIGNATURE_HASH_ALGORITHMS), where either side signs (RFC 7427 4)."""
    if not connection.signatures:
        return []
    data = b"".join(hash_id.to_bytes(2, "big") for hash_id in ANNOUNCED_HASHES)
    return [NotifyPayload(type=NotifyType.SIGNATURE_HASH_ALGORITHMS, data=data)]


def announced_hashes(received: Received) -> tuple[int, ...] | None:
    """What the peer can check; None where it knows no RFC 7427."""
    notify = received.notify(NotifyType.SIGNATURE_HASH_ALGORITHMS)
    if notify is None:
        return None
    if len(notify.data) % 2:
        raise syntax_error("SIGNATURE_HASH_ALGORITHMS of an odd length")
    pairs = range(0, len(notify.data), 2)
    return tuple(int.from_bytes(notify.data[at : at + 2], "big") for at in pairs)


def certificate_requests(connection: Connection) -> list[Payload]:
    """CERTREQ: what the peer's proof is expected to rest on (RFC 7296 3.7).

    A responder sends it with IKE_SA_INIT, an initiator with IKE_AUTH.
    """
    match connection.remote_auth:
        case TrustedAuthorities(key_hashes=key_hashes):
            named = b"".join(key_hashes[: limits.CERTIFICATE_REQUESTS_MAX])
            return [CertReqPayload(encoding=CertEncoding.X509_SIGNATURE, data=named)]
        case KnownKey():  # RFC 7670 2: no authority is named
            return [CertReqPayload(encoding=CertEncoding.RAW_PUBLIC_KEY, data=b"")]
        case SharedKey():
            return []
        case _:
            assert_never(connection.remote_auth)


# --- our proof ---------------------------------------------------------------------------------


def certificate_payloads(sa: IkeSa) -> list[Payload]:
    """Our end entity certificate first, then those above it (RFC 7296 3.6), or our raw key.

    They go out whatever the peer's CERTREQ names: it is a hint which certificate to take, and
    we have one (RFC 7296 3.7).
    """
    ours = sa.connection.local_auth
    if not isinstance(ours, OwnKey):
        return []
    encoding = CertEncoding.X509_SIGNATURE if ours.certificates else CertEncoding.RAW_PUBLIC_KEY
    bodies = ours.certificates or (ours.signer.public.der,)
    return [CertPayload(encoding=encoding, data=body) for body in bodies]


def prove(sa: IkeSa, octets: bytes) -> AuthPayload:
    """Our AUTH over SignedOctets. ProtocolError where the peer can check nothing we make."""
    ours = sa.connection.local_auth
    match ours:
        case SharedKey(key=key):
            sa.local_proof = _SHARED_KEY_TEXT
            data = psk_auth(sa.prf, key, octets)
            return AuthPayload(method=AuthMethod.SHARED_KEY, data=data)
        case OwnKey(signer=signer):
            method, scheme = _our_scheme(sa, ours)
            signature = signer.sign(scheme, octets)
            if method is AuthMethod.DIGITAL_SIGNATURE:
                data = encode_signature(scheme, signature)
            else:
                data = encode_classic(method, signature)
            sa.local_proof = _text(scheme, signer.public, ours.subject)
            return AuthPayload(method=method, data=data)
        case _:
            assert_never(ours)


def _our_scheme(sa: IkeSa, ours: OwnKey) -> tuple[AuthMethod, Scheme]:
    kind, announced = ours.signer.kind, sa.peer.signature_hashes
    if announced is None:
        classic = classic_scheme(kind)
        if classic is None:
            raise failed(f"peer knows no RFC 7427 signatures, which our {kind} key needs")
        return classic
    usable = _usable(sa, ours)
    if not usable:
        raise failed(
            f"peer announced no hash that goes with our {kind} key, only {_hash_names(announced)}"
        )
    return AuthMethod.DIGITAL_SIGNATURE, sa.hints.choose(usable)


def _usable(sa: IkeSa, ours: OwnKey) -> list[Scheme]:
    return usable_schemes(ours.signer.kind, sa.peer.signature_hashes or ())


def heed(sa: IkeSa, received: Received) -> None:
    """Keep what the peer says it can check; say so where that is not what we have to show."""
    sa.hints = AuthHints.read(received)
    ours = sa.connection.local_auth
    usable = _usable(sa, ours) if isinstance(ours, OwnKey) else []
    reason = sa.hints.unmet(ours, sa.hints.choose(usable) if usable else None)
    if reason:
        sa.emit(AuthHintUnmet(connection=sa.peering.name, reason=reason))


# --- the peer's proof --------------------------------------------------------------------------


def learn_key(sa: IkeSa, received: Received, identity: IdPayload) -> Flow[PeerProof]:
    """What the peer's AUTH has to be checked with. ProtocolError where there is nothing.

    At most one question to the outside for each IKE SA, as there is one IKE_AUTH.
    """
    expected = sa.connection.remote_auth
    match expected:
        case SharedKey():
            return PeerProof()
        case KnownKey(public_key=known):
            _check_raw_key(received, known)
            return PeerProof(key=known)
        case TrustedAuthorities():
            chain = _shown_certificates(received)
            command = CheckCertificates(
                token=sa.env.desk.token(),
                connection=sa.connection.name,
                chain=chain,
                identity=identity.identity,
            )
            found = yield from check_certificates(command)
            if isinstance(found, str):
                raise failed(found)
            try:
                key = VerifyKey.load(found.public_key)
            except CryptoError as error:
                raise failed(f"certificate of {found.subject}: {error}") from error
            sa.remote_certificates = chain
            return PeerProof(key=key, subject=found.subject)
        case _:
            assert_never(expected)


def _shown_certificates(received: Received) -> tuple[bytes, ...]:
    """Encodings we do not know are not looked at (RFC 7296 3.6)."""
    shown = tuple(
        one.data for one in received.all(CertPayload) if one.encoding == CertEncoding.X509_SIGNATURE
    )
    if not shown:
        raise failed("peer shows no certificate, and is to authenticate with one")
    size = sum(map(len, shown))
    if len(shown) > limits.CERTIFICATES_MAX or size > limits.CERTIFICATE_OCTETS_MAX:
        raise failed(f"peer shows {len(shown)} certificates of {size} octets: too many to look at")
    return shown


def _check_raw_key(received: Received, known: VerifyKey) -> None:
    """A key that is shown must be the one that is known; it need not be shown."""
    for one in received.all(CertPayload):
        if one.encoding == CertEncoding.RAW_PUBLIC_KEY and one.data != known.der:
            raise failed("peer shows another public key than remote_public_key")


def check(sa: IkeSa, proof: PeerProof, octets: bytes, auth: AuthPayload) -> bool:
    """Whether AUTH is good over SignedOctets; where it is, ``sa.remote_proof`` says how.

    ProtocolError where it is of a kind that does not count here, whatever its value.
    """
    expected = sa.connection.remote_auth
    if isinstance(expected, SharedKey):
        if auth.method != AuthMethod.SHARED_KEY:
            raise failed(
                f"peer uses authentication method {auth.method}, and is to use a pre-shared key"
            )
        sa.remote_proof = _SHARED_KEY_TEXT
        return psk_verify(sa.prf, expected.key, octets, auth.data)
    if auth.method == AuthMethod.SHARED_KEY or proof.key is None:
        raise failed("peer uses a pre-shared key, and is to sign")
    if auth.method != AuthMethod.DIGITAL_SIGNATURE:
        return _check_classic(sa, proof, proof.key, octets, auth)
    scheme, signature = decode_signature(auth.data)
    if not proof.key.accepts(scheme):
        raise failed(f"peer's {scheme.family} signature does not go with its {proof.key.kind} key")
    sa.remote_proof = _text(scheme, proof.key, proof.subject)
    return proof.key.verify(scheme, signature, octets)


def _check_classic(
    sa: IkeSa, proof: PeerProof, key: VerifyKey, octets: bytes, auth: AuthPayload
) -> bool:
    if sa.peer.signature_hashes is not None:  # RFC 7427 3: both announced it, so it must be used
        raise failed(f"peer announced RFC 7427 and uses authentication method {auth.method}")
    scheme = verify_classic(key, auth.method, octets, auth.data)
    if scheme is None:
        return False
    sa.remote_proof = _text(scheme, key, proof.subject)
    return True


def wrong_proof(proof: PeerProof) -> str:
    """Why a proof that is well-formed and wrong may be so."""
    if proof.key is None:
        return "wrong pre-shared key or identity"
    owner = proof.subject or "the peer"
    return f"signature of {owner} is wrong: made with another key, or over other messages"


def _text(scheme: Scheme, key: VerifyKey, subject: str) -> str:
    return f"{scheme.text(key.kind)} {subject or 'raw public key'}"


def _hash_names(announced: tuple[int, ...]) -> str:
    known = {hash_id.value: hash_id.name for hash_id in HashId}
    shown = [known.get(number, str(number)) for number in announced[:_SHOWN]]
    return ", ".join(shown + ["..."] * (len(announced) > _SHOWN)) or "none"
