"""What a side says of the proof it can check, before one is made: CERTREQ and RFC 9593.

    N(SUPPORTED_AUTH_METHODS), one announcement after the other:
    2  | Auth Method                                    shared key
    3  | Auth Method | Cert Link                        RSA and ECDSA by methods of their own
    >3 | Auth Method | Cert Link | AlgorithmIdentifier  digital signature (RFC 7427)

The first octet is the announcement's length. Cert Link numbers the authority in CERTREQ that the
method is for, 0 none in particular. A responder says it with IKE_SA_INIT, an initiator with
IKE_AUTH. Both are hints: we hold one key and one chain, which go out in any case, and where no
hint fits them the operator is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.crypto.signatures import SCHEMES, Scheme, scheme_of
from gateway.ike.config import Connection
from gateway.ike.credentials import KnownKey, LocalAuth, OwnKey, RemoteAuth, SharedKey
from gateway.ike.payloads import CertReqPayload, NotifyPayload, Payload
from gateway.ike.received import Received
from gateway.ike.registry import AuthMethod, CertEncoding, NotifyType
from gateway.ike.wire import Reader, syntax_error

KEY_HASH_SIZE: Final = 20  # octets: SHA-1 of a SubjectPublicKeyInfo (RFC 7296 3.7)
_HEAD: Final = 2  # octets: length and Auth Method
_SHOWN: Final = 8  # methods a peer announces, in a message


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """One method of SUPPORTED_AUTH_METHODS."""

    method: int
    link: int | None = None  # None: an announcement of two octets
    algorithm: bytes = b""  # DER AlgorithmIdentifier

    def encode(self) -> bytes:
        body = b"" if self.link is None else bytes((self.link,)) + self.algorithm
        return bytes((_HEAD + len(body), self.method)) + body


def decode(data: bytes) -> Iterator[Announcement]:
    """ProtocolError(INVALID_SYNTAX) where a length is wrong."""
    reader = Reader(data, "SUPPORTED_AUTH_METHODS")
    while reader.remaining:
        size = reader.u8()
        if size < _HEAD:
            raise syntax_error(f"SUPPORTED_AUTH_METHODS: announcement of {size} octets")
        method, body = reader.u8(), reader.octets(size - _HEAD)
        yield Announcement(method=method, link=body[0] if body else None, algorithm=body[1:])


# --- ours --------------------------------------------------------------------------------------


def announce(connection: Connection) -> list[Payload]:
    """N(SUPPORTED_AUTH_METHODS), where either side signs (RFC 9593 3.1)."""
    if not connection.signatures:
        return []
    data = b"".join(one.encode() for one in _accepted(connection.remote_auth))
    return [NotifyPayload(type=NotifyType.SUPPORTED_AUTH_METHODS, data=data)]


def _accepted(remote: RemoteAuth) -> list[Announcement]:
    if isinstance(remote, SharedKey):
        return [Announcement(method=AuthMethod.SHARED_KEY)]
    # Methods 1, 9 and 10 count only with a peer that knows no RFC 7427, nor RFC 9593 then.
    return [
        Announcement(method=AuthMethod.DIGITAL_SIGNATURE, link=0, algorithm=scheme.identifier)
        for scheme in SCHEMES
        if not isinstance(remote, KnownKey) or remote.public_key.accepts(scheme)
    ]


# --- the peer's --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthHints:
    """What the peer says it can check. Empty where it says nothing."""

    methods: tuple[Announcement, ...] = ()
    encodings: frozenset[int] = frozenset()  # of the certificates it asks for
    authorities: frozenset[bytes] = frozenset()  # by the SHA-1 of their keys

    @classmethod
    def read(cls, received: Received) -> AuthHints:
        """ProtocolError(INVALID_SYNTAX) where it cannot be read."""
        asked = received.all(CertReqPayload)
        named = b"".join(one.data for one in asked if one.encoding == CertEncoding.X509_SIGNATURE)
        if len(named) % KEY_HASH_SIZE:
            raise syntax_error("CERTREQ does not hold whole SHA-1 hashes")
        hashes = (named[at : at + KEY_HASH_SIZE] for at in range(0, len(named), KEY_HASH_SIZE))
        methods = received.notifies(NotifyType.SUPPORTED_AUTH_METHODS)
        return cls(
            methods=tuple(one for notify in methods for one in decode(notify.data)),
            encodings=frozenset(one.encoding for one in asked),
            authorities=frozenset(hashes),
        )

    def choose(self, schemes: Sequence[Scheme]) -> Scheme:
        """The first that the peer announced; the first of all where it announced none of them."""
        return next((one for one in schemes if self._takes(one)), schemes[0])

    def unmet(self, ours: LocalAuth, scheme: Scheme | None) -> str:
        """Why our proof may not suit the peer; empty where nothing speaks against it.

        ``scheme``: what we sign with by method 14.
        """
        match ours:
            case SharedKey():
                known = self._announced(AuthMethod.SHARED_KEY)
                what = "a pre-shared key"
            case OwnKey():
                known = scheme is None or self._takes(scheme)
                what = f"our {ours.signer.kind} signature"
        if self.methods and not known:
            return f"peer announces that it takes {self._text()}, not {what} (RFC 9593)"
        return self._certificate_unmet(ours) if isinstance(ours, OwnKey) else ""

    def _certificate_unmet(self, ours: OwnKey) -> str:
        encoding = CertEncoding.X509_SIGNATURE if ours.certificates else CertEncoding.RAW_PUBLIC_KEY
        if self.encodings and encoding not in self.encodings:
            asked = ", ".join(str(number) for number in sorted(self.encodings))
            return (
                f"peer asks for certificates of encoding {asked} (CERTREQ), "
                f"and ours is {encoding.value}, {encoding.name}"
            )
        if ours.authorities and self.authorities and not self.authorities & ours.authorities:
            return "peer asks for certificates of other CAs than those that certify ours (CERTREQ)"
        return ""

    def _announced(self, method: AuthMethod) -> bool:
        return any(one.method == method for one in self.methods)

    def _takes(self, scheme: Scheme) -> bool:
        names = (scheme.identifier, *scheme.variants)
        return any(
            one.method == AuthMethod.DIGITAL_SIGNATURE and one.algorithm in names
            for one in self.methods
        )

    def _text(self) -> str:
        texts = dict.fromkeys(_method_text(one) for one in self.methods)
        shown = list(texts)[:_SHOWN] + ["..."] * (len(texts) > _SHOWN)
        return ", ".join(shown)


def _method_text(one: Announcement) -> str:
    scheme = scheme_of(one.algorithm) if one.method == AuthMethod.DIGITAL_SIGNATURE else None
    if scheme is not None:
        return scheme.family.value
    return f"method {one.method}"
