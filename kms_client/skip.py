"""One key provider (KP), spoken to as Cisco's Secure Key Integration Protocol has it.

draft-cisco-skip-02 (2025-09-03), an individual Internet-Draft. The client looks like one of
ETSI GS QKD 014 to everybody else: a SAE's name stands for the remoteSystemID of the KP at the
other end, and a keyId of 128 bits, the draft's default, for a key_ID.

Keys are asked for with GET, the only method there is (section 4).

The draft has TLS with certificates or with a pre-shared key (Table 1). Python's ``ssl`` has
pre-shared keys from 3.13 on, and those of TLS 1.2 only; see ``kms_client.tls_psk``.
"""

from __future__ import annotations

import binascii
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from urllib.parse import quote, urlencode

import msgspec

from kms_client.editions import hyphenated
from kms_client.errors import (
    KmeEmptyError,
    KmeError,
    KmeNonsenseError,
    KmeRefusedError,
    KmeUnavailableError,
    one_line,
)
from kms_client.etsi014 import MAX_NUMBER, MIN_KEY_SIZE
from kms_client.events import LinkEvent
from kms_client.faults import http_fault
from kms_client.models import QkdKey, Status, canonical_key_id
from kms_client.secret import Secret
from kms_client.tls import ContextSource
from kms_client.transport import HttpsTransport, decoded

STANDARD = "draft-cisco-skip-02"
_NO_NAMES: Mapping[str, str] = {}


class _Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """Section 4.1, Figure 3; all members are required there."""

    entropy: bool
    key: bool
    algorithm: str
    localSystemID: str  # noqa: N815  (the draft's own member names, here and below)
    remoteSystemID: tuple[str, ...]  # noqa: N815


class _Key(msgspec.Struct, kw_only=True):
    """Section 4.2, Figure 5. Both hexadecimal; JSON gives them as str, which nobody can wipe."""

    keyId: str  # noqa: N815
    key: str

    def __repr__(self) -> str:
        return "<_Key>"


class _Entropy(msgspec.Struct, kw_only=True):
    """Section 4.3, Figure 7."""

    randomStr: str  # noqa: N815
    minentropy: int

    def __repr__(self) -> str:
        return f"<_Entropy {self.minentropy} bits>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a KP says of itself. ``remotes`` may be glob patterns (4.1.2)."""

    entropy: bool
    key: bool
    algorithm: str
    local: str
    remotes: tuple[str, ...]

    def reaches(self, remote: str) -> bool:
        return any(fnmatchcase(remote, pattern) for pattern in self.remotes)


class SkipClient:
    """Asks one KP for keys, as ``KmeClient`` asks a KME. Every failure is a KmeError.

    ``timeout`` in seconds bounds a whole request. ``peers``: the remoteSystemID of the KP of an
    SAE, where that is not the SAE's name. Belongs to one event loop.
    """

    def __init__(
        self,
        *,
        name: str,
        url: str,
        tls: ContextSource,
        timeout: float = 3.0,
        peers: Mapping[str, str] = _NO_NAMES,
    ) -> None:
        self._transport = HttpsTransport(
            name=name, url=url, tls=tls, timeout=timeout, fault_of=_fault
        )
        self._peers = peers
        self.name = name
        self.url = self._transport.url

    async def capabilities(self) -> Capabilities:
        """Section 4.1."""
        body = await self._transport.request("GET", "/capabilities", "capabilities")
        answer = decoded(self.name, body, _Capabilities, STANDARD)
        return Capabilities(
            entropy=answer.entropy,
            key=answer.key,
            algorithm=one_line(answer.algorithm),
            local=one_line(answer.localSystemID),
            remotes=answer.remoteSystemID,
        )

    async def status(self, peer_sae: str) -> Status:
        """Whether the KP gives keys shared with ``peer_sae``'s. The draft has no count of them.

        Raises KmeRefusedError where it says that it gives none.
        """
        remote = self._remote(peer_sae)
        can = await self.capabilities()
        if not can.key:
            raise KmeRefusedError(self.name, "capabilities say that it gives no keys")
        if not can.reaches(remote):
            raise KmeRefusedError(
                self.name, f"capabilities name no remote system {one_line(remote)}"
            )
        return Status(source_KME_ID=can.local, target_KME_ID=remote)

    async def enc_keys(
        self, peer_sae: str, *, number: int = 1, size: int = 256
    ) -> tuple[QkdKey, ...]:
        """New keys of ``size`` bits, at least one, at most ``number``: one request for each.

        Where the KP runs out in between, those that came. Where anything else goes wrong, an
        error, and those that came are wiped: the peer is told of none of them.
        """
        if not 1 <= number <= MAX_NUMBER:
            raise ValueError(f"number of keys must be 1..{MAX_NUMBER}")
        if size % 8 or size < MIN_KEY_SIZE:
            raise ValueError(f"key size must be a multiple of 8 and at least {MIN_KEY_SIZE} bits")
        query = urlencode({"remoteSystemID": self._remote(peer_sae), "size": size}, quote_via=quote)
        keys: list[QkdKey] = []
        for _ in range(number):
            try:
                key = self._read(await self._transport.request("GET", f"/key?{query}", "key"))
            except (KmeUnavailableError, KmeRefusedError):
                if keys:  # fewer than asked for, as an ETSI 014 KME may give
                    break
                raise
            except BaseException:
                _wipe(keys)
                raise
            keys.append(key)
            self._check(keys, size)
        return tuple(keys)

    async def dec_keys(self, peer_sae: str, key_ids: Sequence[str]) -> tuple[QkdKey, ...]:
        """The keys ``peer_sae`` named, all of them, in the order asked. One request for each.

        Raises ValueError for a key_ID that is no UUID or comes twice.
        """
        wanted = [canonical_key_id(key_id) for key_id in key_ids]
        if not 1 <= len(wanted) <= MAX_NUMBER or len(set(wanted)) != len(wanted):
            raise ValueError(f"key_IDs must be 1..{MAX_NUMBER} different ones")
        query = urlencode({"remoteSystemID": self._remote(peer_sae)}, quote_via=quote)
        keys: list[QkdKey] = []
        try:
            for key_id in wanted:
                path = f"/key/{key_id.replace('-', '')}?{query}"
                key = self._read(await self._transport.request("GET", path, "key by keyId"))
                keys.append(key)
                self._check_named(key, key_id)
        except BaseException:
            _wipe(keys)
            raise
        return tuple(keys)

    async def entropy(self, bits: int = 256) -> Secret:
        """Random octets of the KP for our own use (section 4.3).

        Raises KmeUnavailableError while it has too little, KmeNonsenseError for less than
        ``bits``.
        """
        if bits % 8 or bits < 8:
            raise ValueError("bits must be a multiple of 8 and at least 8")
        body = await self._transport.request("GET", f"/entropy?minentropy={bits}", "entropy")
        answer = decoded(self.name, body, _Entropy, STANDARD)
        octets = self._octets(answer.randomStr, "randomStr")
        # Table 8 calls minentropy a length of bytes, its schema's example and 4.3 bits.
        if len(octets) * 8 < bits:
            raise KmeNonsenseError(self.name, f"gave {len(octets) * 8} bits of entropy, not {bits}")
        return Secret(octets)

    def events(self, peer_sae: str, path: str) -> AsyncGenerator[LinkEvent]:
        """The draft has none, and so none is advertised. Raises KmeRefusedError."""
        raise KmeRefusedError(self.name, f"no events of {peer_sae} at {path}: {STANDARD} has none")

    async def close(self) -> None:
        """Drop the connections. The client cannot be used afterwards. Idempotent."""
        await self._transport.close()

    # --- inside ------------------------------------------------------------------------------

    def _remote(self, peer_sae: str) -> str:
        return self._peers.get(peer_sae, peer_sae)

    def _read(self, body: bytearray) -> QkdKey:
        answer = decoded(self.name, body, _Key, STANDARD)
        try:
            key_id = canonical_key_id(hyphenated(answer.keyId))
        except ValueError:
            # The draft's example has 192 bits; the peer is told the key by a UUID.
            raise KmeNonsenseError(
                self.name, f"gave a keyId of {4 * len(answer.keyId)} bits; 128 are needed"
            ) from None
        octets = self._octets(answer.key, "key")
        if not any(octets):
            raise KmeNonsenseError(self.name, "gave an all-zero or empty key")
        return QkdKey(key_id=key_id, key=Secret(octets))

    def _octets(self, text: str, member: str) -> bytes:
        try:
            return binascii.unhexlify(text)
        except ValueError:
            raise KmeNonsenseError(self.name, f"{member} is not hexadecimal") from None

    def _check_named(self, key: QkdKey, key_id: str) -> None:
        if key.key_id != key_id:
            raise KmeNonsenseError(self.name, "gave a key that was not asked for")
        if len(key.key) * 8 < MIN_KEY_SIZE:
            raise KmeNonsenseError(self.name, f"gave a key of less than {MIN_KEY_SIZE} bits")

    def _check(self, keys: list[QkdKey], size: int) -> None:
        *before, last = keys
        wrong = None
        if len(last.key) * 8 != size:
            wrong = f"gave a key of {len(last.key) * 8} bits where {size} were asked for"
        elif any(last.key_id == key.key_id for key in before):
            wrong = "gave the same keyId twice"
        elif any(last.key == key.key for key in before):
            wrong = "gave the same key under two keyIds"
        if wrong is not None:
            _wipe(keys)
            raise KmeNonsenseError(self.name, wrong)


def _fault(kme: str, verb: str, status: int, body: bytearray) -> KmeError:
    """Tables 3, 7 and 9. The draft gives errors no body: one is quoted if it looks like ETSI's."""
    error = http_fault(kme, verb, status, body)
    match status:
        case 503:
            return KmeEmptyError(kme, error.what)  # entropy, by Table 9; open KPs say it of keys
        case _:
            return error


def _wipe(keys: Sequence[QkdKey]) -> None:
    for key in keys:
        key.key.wipe()
