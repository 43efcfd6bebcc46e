"""What depends on the edition of ETSI GS QKD 014: paths, bodies, and how answers are read.

Nothing else in this package knows a path or a member's name. There is one edition: V1.1.1
(2019-02). Edition 2 is an unpublished draft of which only this much is known: base path
``/kdapi/v2/``, no GET for keys, SAE IDs in the body, master and slave called initiator and
target. That is too little to write requests from; a class beside ``Edition1`` is its place.
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import assert_never
from urllib.parse import quote, urlencode

import msgspec

from kms_client.errors import (
    KmeEmptyError,
    KmeError,
    KmeNonsenseError,
    KmeRefusedError,
    KmeUnavailableError,
)
from kms_client.faults import http_fault
from kms_client.models import (
    KeyContainer,
    KeyIdMember,
    KeyIds,
    KeyMember,
    KeyRequest,
    QkdKey,
    Status,
    TextContainer,
    canonical_key_id,
)
from kms_client.profiles import Base64, Meaning, Profile, SaeIds
from kms_client.profiles import KeyIds as KeyIdForm
from kms_client.secret import Secret
from kms_client.transport import decoded, overwrite

STANDARD = "ETSI GS QKD 014"
_HEX_DIGITS = 32  # of a UUID without its hyphens


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request. ``path`` is encoded and follows the KME's URL."""

    method: str
    path: str
    verb: str  # as in errors
    body: bytes | None = None


class Edition1:
    """ETSI GS QKD 014 V1.1.1, as the KME of this profile has it. ``kme``: its name, for errors."""

    def __init__(self, kme: str, profile: Profile) -> None:
        self._kme = kme
        self._profile = profile

    # --- requests ----------------------------------------------------------------------------

    def status(self, peer_sae: str) -> Call:
        """Clause 5.2."""
        return Call(method="GET", path=self._path(peer_sae, "status"), verb="status")

    def enc_keys(self, peer_sae: str, request: KeyRequest) -> Call:
        """Clause 5.3. Raises KmeError for what this KME cannot do; nothing was sent then."""
        profile = self._profile
        path = self._path(peer_sae, "enc_keys")
        if profile.fixed_size is not None:
            if request.size != profile.fixed_size:
                raise KmeRefusedError(
                    self._kme,
                    f"not asked: it gives keys of {profile.fixed_size} bits only "
                    f"(profile {profile.name}), {request.size} are wanted",
                )
            request = msgspec.structs.replace(request, size=None)
        if profile.max_number is not None and (request.number or 1) > profile.max_number:
            request = msgspec.structs.replace(request, number=profile.max_number)
        if not profile.get:
            return Call(
                method="POST", path=path, verb="enc_keys", body=msgspec.json.encode(request)
            )
        if (
            request.additional_slave_SAE_IDs
            or request.extension_mandatory
            or request.extension_optional
        ):
            # 6.2: "In all other cases, the SAE shall submit the request using POST".
            raise KmeRefusedError(
                self._kme, f"not asked: it takes GET only (profile {profile.name})"
            )
        wanted = {"number": request.number, "size": request.size}
        query = urlencode({name: value for name, value in wanted.items() if value is not None})
        return Call(method="GET", path=f"{path}?{query}", verb="enc_keys")

    def dec_keys(self, peer_sae: str, key_ids: Sequence[str]) -> tuple[Call, ...]:
        """Clause 5.4: one request, or with GET one for each key (6.4)."""
        path = self._path(peer_sae, "dec_keys")
        written = [self._written(key_id) for key_id in key_ids]
        if self._profile.get:
            return tuple(
                Call(method="GET", path=f"{path}?key_ID={each}", verb="dec_keys")
                for each in written
            )
        body = msgspec.json.encode(
            KeyIds(key_IDs=tuple(KeyIdMember(key_ID=each) for each in written))
        )
        return (Call(method="POST", path=path, verb="dec_keys", body=body),)

    # --- answers -----------------------------------------------------------------------------

    def read_status(self, body: bytearray) -> Status:
        """Clause 6.1; only the count is insisted on."""
        status = decoded(self._kme, body, Status, STANDARD)
        if status.stored_key_count is None:
            raise KmeNonsenseError(
                self._kme, f"answer breaks {STANDARD}: status lacks stored_key_count"
            )
        return status

    def read_keys(self, body: bytearray) -> tuple[QkdKey, ...]:
        """Clause 6.3: the keys, checked as far as one container allows. Wipes ``body``."""
        container = self._container(body)
        keys: list[QkdKey] = []
        try:
            for member in container.keys:
                member.key_ID = self._canonical(member.key_ID)
            wrong = _container_fault(container)
            if wrong is not None:
                raise KmeNonsenseError(self._kme, wrong)
            keys.extend(
                QkdKey(key_id=member.key_ID, key=Secret(member.key)) for member in container.keys
            )
        finally:
            container.wipe()
        return tuple(keys)

    def fault(self, kme: str, verb: str, status: int, body: bytearray) -> KmeError:
        """Clauses 5.2 to 5.4 and 6.5, with what this KME's own codes mean."""
        error = http_fault(kme, verb, status, body)
        meaning = self._profile.meanings.get((verb, status))
        match meaning:
            case None:
                return error
            case Meaning.NO_KEYS:
                return KmeEmptyError(kme, error.what)
            case Meaning.UNKNOWN_KEY:
                return KmeRefusedError(kme, error.what)
            case Meaning.FAULT:
                return KmeUnavailableError(kme, error.what)
            case _:
                assert_never(meaning)

    # --- inside ------------------------------------------------------------------------------

    def _path(self, peer_sae: str, resource: str) -> str:
        """The path always names the other SAE (Table 2)."""
        if self._profile.sae_ids is SaeIds.INTEGER and not (
            peer_sae.isascii() and peer_sae.isdecimal()
        ):
            raise KmeRefusedError(
                self._kme,
                f"not asked: SAE IDs are integers (profile {self._profile.name}) and "
                f'"{peer_sae}" is none; say in "peers" what this KME calls it',
            )
        return f"/api/v1/keys/{quote(peer_sae, safe='')}/{resource}"

    def _written(self, key_id: str) -> str:
        match self._profile.key_ids:
            case KeyIdForm.UUID:
                return key_id
            case KeyIdForm.UPPER:
                return key_id.upper()
            case KeyIdForm.HEX:
                return key_id.replace("-", "")
            case unknown:
                assert_never(unknown)

    def _canonical(self, text: str) -> str:
        if self._profile.key_ids is KeyIdForm.HEX:
            text = hyphenated(text)
        try:
            return canonical_key_id(text)
        except ValueError:
            raise KmeNonsenseError(self._kme, "gave a key_ID that is not a UUID") from None

    def _container(self, body: bytearray) -> KeyContainer:
        if self._profile.base64 is Base64.STANDARD:
            return decoded(self._kme, body, KeyContainer, STANDARD)
        texts = decoded(self._kme, body, TextContainer, STANDARD)
        members = []
        for member in texts.keys:
            try:
                members.append(KeyMember(key_ID=member.key_ID, key=_any_base64(member.key)))
            except ValueError:
                raise KmeNonsenseError(self._kme, "gave a key that is not base64") from None
        return KeyContainer(keys=members)


def hyphenated(text: str) -> str:
    """32 hexadecimal digits with the hyphens of a UUID; anything else as it is."""
    if len(text) != _HEX_DIGITS or "-" in text:
        return text
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def _any_base64(text: str) -> bytearray:
    """RFC 4648 4 or 5, padded or not, in lines or not. Raises ValueError."""
    digits = bytearray(text.encode("ascii").translate(bytes.maketrans(b"-_", b"+/"), b"\r\n "))
    try:
        plain = digits.rstrip(b"=")
        plain += b"=" * (-len(plain) % 4)
        return bytearray(binascii.a2b_base64(plain, strict_mode=True))
    finally:
        overwrite(digits)


def _container_fault(container: KeyContainer) -> str | None:
    """What makes a key container unusable, or None."""
    if not container.keys:
        return "gave no key"
    if len({member.key_ID for member in container.keys}) != len(container.keys):
        return "gave the same key_ID twice"
    if any(not any(member.key) for member in container.keys):
        return "gave an all-zero or empty key"
    if any(first.key == second.key for first, second in combinations(container.keys, 2)):
        return "gave the same key under two key_IDs"
    return None
