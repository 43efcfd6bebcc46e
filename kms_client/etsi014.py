"""One KME, spoken to as ETSI GS QKD 014 has it: JSON over mutually authenticated TLS.

Paths, bodies and answers are ``kms_client.editions``; where a KME differs from the standard is
its profile (``kms_client.profiles``). Nothing here is ever sent twice, save where the profile
says that the KME gives a key again: a lost answer costs the keys in it and nothing else,
because the next call asks for new ones.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from kms_client.editions import Call, Edition1
from kms_client.errors import KmeError, KmeNonsenseError, KmeTimeoutError, KmeUnreachableError
from kms_client.events import EventDecoder, LinkEvent
from kms_client.models import KeyRequest, QkdKey, Status, canonical_key_id
from kms_client.profiles import DEFAULT_PROFILE, PROFILES, Profile
from kms_client.tls import ClientTls, TlsFiles
from kms_client.transport import MAX_BODY, HttpsTransport

__all__ = ["MAX_BODY", "MAX_NUMBER", "MIN_KEY_SIZE", "KmeClient"]

MAX_NUMBER = 128  # keys in one request, whatever the KME would allow
MIN_KEY_SIZE = 256  # bits; RFC 8784 5.1: a PPK needs 256 bits to be worth 128 after Grover
_NO_NAMES: Mapping[str, str] = {}


class KmeClient:
    """Asks one KME for keys. Every failure is a KmeError with the KME's name in it.

    ``timeout`` in seconds bounds a whole request. ``peers``: what this KME calls an SAE, where
    that is not the SAE's name. Raises KmeError for a URL that is not https. TLS files that
    cannot be used are a KmeTlsError of each request, until they can.
    Belongs to one event loop: the first request opens the session there.
    """

    def __init__(
        self,
        *,
        name: str,
        url: str,
        tls: TlsFiles,
        timeout: float = 3.0,
        profile: Profile = PROFILES[DEFAULT_PROFILE],
        peers: Mapping[str, str] = _NO_NAMES,
    ) -> None:
        self._profile = profile
        self._peers = peers
        self._edition = Edition1(name, profile)
        self._transport = HttpsTransport(
            name=name,
            url=url,
            tls=ClientTls(tls),
            timeout=timeout,
            fault_of=self._edition.fault,
        )
        self.name = name
        self.url = self._transport.url

    async def status(self, peer_sae: str) -> Status:
        """How many keys the KME holds for us and ``peer_sae``, its limits, its link."""
        body = await self._send(self._edition.status(self._called(peer_sae)))
        return self._edition.read_status(body)

    async def enc_keys(
        self,
        peer_sae: str,
        *,
        number: int = 1,
        size: int = 256,
        additional_slaves: Sequence[str] = (),
        extension_mandatory: Sequence[Mapping[str, Any]] = (),
        extension_optional: Sequence[Mapping[str, Any]] = (),
    ) -> tuple[QkdKey, ...]:
        """New keys of ``size`` bits as master SAE: at least one, at most ``number``.

        Fewer than asked for is what some KMEs answer when they run low; it is accepted.
        """
        if not 1 <= number <= MAX_NUMBER:
            raise ValueError(f"number of keys must be 1..{MAX_NUMBER}")
        if size % 8 or size < MIN_KEY_SIZE:
            raise ValueError(f"key size must be a multiple of 8 and at least {MIN_KEY_SIZE} bits")
        request = KeyRequest(
            number=number,
            size=size,
            additional_slave_SAE_IDs=tuple(self._called(slave) for slave in additional_slaves),
            extension_mandatory=tuple(dict(item) for item in extension_mandatory),
            extension_optional=tuple(dict(item) for item in extension_optional),
        )
        body = await self._send(self._edition.enc_keys(self._called(peer_sae), request))
        keys = self._edition.read_keys(body)
        wrong = None
        if len(keys) > number:
            wrong = f"gave {len(keys)} keys where {number} were asked for"
        elif any(len(key.key) * 8 != size for key in keys):
            lengths = sorted({len(key.key) * 8 for key in keys})
            wrong = f"gave keys of {lengths} bits where {size} were asked for"
        if wrong is not None:
            _wipe(keys)
            raise KmeNonsenseError(self.name, wrong)
        return keys

    async def dec_keys(self, peer_sae: str, key_ids: Sequence[str]) -> tuple[QkdKey, ...]:
        """The keys that master SAE ``peer_sae`` named, all of them, in the order asked.

        Raises ValueError for a key_ID that is no UUID or comes twice.
        """
        wanted = [canonical_key_id(key_id) for key_id in key_ids]
        if not 1 <= len(wanted) <= MAX_NUMBER or len(set(wanted)) != len(wanted):
            raise ValueError(f"key_IDs must be 1..{MAX_NUMBER} different ones")
        keys: list[QkdKey] = []
        try:
            for call in self._edition.dec_keys(self._called(peer_sae), wanted):
                keys += self._edition.read_keys(await self._fetch(call))
        except KmeError:
            _wipe(keys)
            raise
        by_id = {key.key_id: key for key in keys}  # any order is allowed
        wrong = None
        if by_id.keys() - set(wanted):
            wrong = "gave a key that was not asked for"
        elif set(wanted) - by_id.keys():
            wrong = f"gave {len(keys)} of {len(wanted)} keys asked for by key_ID"
        elif any(len(key.key) * 8 < MIN_KEY_SIZE for key in keys):
            wrong = f"gave a key of less than {MIN_KEY_SIZE} bits"
        if wrong is not None:
            _wipe(keys)
            raise KmeNonsenseError(self.name, wrong)
        return tuple(by_id[key_id] for key_id in wanted)

    async def events(self, peer_sae: str, path: str) -> AsyncGenerator[LinkEvent]:
        """What the KME tells of its link, from its present state on; ends with a KmeError only.

        ``path`` is a reference from the status about ``peer_sae``, where it is advertised.
        """
        status = self._edition.status(self._called(peer_sae)).path
        decoder = EventDecoder(self.name)
        async with aclosing(self._transport.stream(status, path)) as chunks:
            async for chunk in chunks:
                for event in decoder.feed(chunk):
                    yield event

    async def close(self) -> None:
        """Drop the connections. The client cannot be used afterwards. Idempotent."""
        await self._transport.close()

    # --- below: one request ------------------------------------------------------------------

    def _called(self, peer_sae: str) -> str:
        return self._peers.get(peer_sae, peer_sae)

    async def _send(self, call: Call) -> bytearray:
        return await self._transport.request(call.method, call.path, call.verb, call.body)

    async def _fetch(self, call: Call) -> bytearray:
        """Once more after a lost answer, where the KME gives a key again."""
        try:
            return await self._send(call)
        except KmeTimeoutError:
            raise  # a peer waits for the key: there is no time for a second one
        except KmeUnreachableError:
            if not self._profile.repeatable:
                raise
        return await self._send(call)


def _wipe(keys: Sequence[QkdKey]) -> None:
    for key in keys:
        key.key.wipe()
