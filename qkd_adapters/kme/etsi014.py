"""Requests and answers of ETSI GS QKD 014 V1.1.1 (2019-02), checked; no HTTP, no store."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

import msgspec

from qkd_adapters.kme.config import KeySettings
from qkd_adapters.kme.store import DeliveredKey
from qkd_adapters.link.messages import BLOCK_BITS

_T = TypeVar("_T")


class RefusedError(Exception):
    """An HTTP error answer. Inside this package only; it never leaves the server."""

    def __init__(self, status: int, message: str, *details: dict[str, Any]) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.details = details

    def body(self) -> bytes:
        """Error: ``{"message": str, "details": [object]}``."""
        return msgspec.json.encode({"message": self.message, "details": self.details})


class _KeyRequest(msgspec.Struct, frozen=True):
    """Key request. Unknown members are ignored."""

    number: int | None = None
    size: int | None = None
    additional: list[str] = msgspec.field(name="additional_slave_SAE_IDs", default_factory=list)
    mandatory: list[dict[str, Any]] = msgspec.field(
        name="extension_mandatory", default_factory=list
    )
    optional: list[dict[str, Any]] = msgspec.field(name="extension_optional", default_factory=list)


class _KeyId(msgspec.Struct, frozen=True):
    key_id: str = msgspec.field(name="key_ID")


class _KeyIds(msgspec.Struct, frozen=True):
    """Key IDs."""

    key_ids: list[_KeyId] = msgspec.field(name="key_IDs")


@dataclass(frozen=True, slots=True, kw_only=True)
class EncRequest:
    """A checked request for ``number`` keys of ``size`` bits."""

    number: int
    size: int
    additional: tuple[str, ...] = ()


def parse_enc_get(query: Mapping[str, str], limits: KeySettings) -> EncRequest:
    """GET carries ``number`` and ``size`` only. Raises RefusedError."""
    return _check(_KeyRequest(_integer(query, "number"), _integer(query, "size")), limits)


def parse_enc_post(body: bytes, limits: KeySettings) -> EncRequest:
    """An empty body asks for the defaults, as ``{}`` does. Raises RefusedError."""
    return _check(_decode(body or b"{}", _KeyRequest), limits)


def parse_dec_get(query: Mapping[str, str]) -> tuple[str, ...]:
    """Raises RefusedError."""
    if "key_ID" not in query:
        raise RefusedError(400, "key_ID is missing")
    return _canonical([query["key_ID"]])


def parse_dec_post(body: bytes, limits: KeySettings) -> tuple[str, ...]:
    """Raises RefusedError."""
    key_ids = [item.key_id for item in _decode(body, _KeyIds).key_ids]
    if not key_ids:
        raise RefusedError(400, "key_IDs is empty")
    if len(key_ids) > limits.max_per_request:
        raise RefusedError(400, "too many key_IDs", {"max_key_per_request": limits.max_per_request})
    return _canonical(key_ids)


def container(keys: Sequence[DeliveredKey]) -> dict[str, Any]:
    """Key container. The keys are wiped; the text is the caller's to send."""
    entries = []
    for item in keys:
        text = base64.b64encode(item.key.expose()).decode("ascii")
        item.key.wipe()
        entries.append({"key_ID": item.key_id, "key": text})
    return {"keys": entries}


def _check(request: _KeyRequest, limits: KeySettings) -> EncRequest:
    number = 1 if request.number is None else request.number
    size = BLOCK_BITS if request.size is None else request.size
    unknown = sorted({name for extension in request.mandatory for name in extension})
    if unknown:
        # A KME that cannot handle all of extension_mandatory shall answer 400.
        raise RefusedError(
            400,
            "not all extension_mandatory parameters are supported",
            *({"extension_mandatory_unsupported": name} for name in unknown),
        )
    if number < 1:
        raise RefusedError(400, "number shall be at least 1", {"number": number})
    if number > limits.max_per_request:
        raise RefusedError(
            400,
            "number exceeds max_key_per_request",
            {"number": number, "max_key_per_request": limits.max_per_request},
        )
    if size % 8:
        raise RefusedError(400, "size shall be a multiple of 8", {"size": size})
    if not limits.min_size <= size <= limits.max_size:
        raise RefusedError(
            400,
            "size is not between min_key_size and max_key_size",
            {"size": size, "min_key_size": limits.min_size, "max_key_size": limits.max_size},
        )
    if len(request.additional) > limits.max_sae_ids:
        raise RefusedError(
            400,
            "additional_slave_SAE_IDs exceed max_SAE_ID_count",
            {"max_SAE_ID_count": limits.max_sae_ids},
        )
    if len(set(request.additional)) != len(request.additional):
        raise RefusedError(400, "additional_slave_SAE_IDs name one SAE twice")
    return EncRequest(number=number, size=size, additional=tuple(request.additional))


def _integer(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    # Ten digits: any value beyond is refused by the limits anyway, and int() stays cheap.
    if not text.isascii() or not text.isdecimal() or len(text) > 10:
        raise RefusedError(400, f"{name} shall be an integer")
    return int(text)


def _decode(body: bytes, model: type[_T]) -> _T:
    try:
        return msgspec.json.decode(body, type=model)
    except msgspec.ValidationError as error:
        raise RefusedError(
            400, "the request does not have the expected form", {"reason": str(error)}
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RefusedError(400, "the request is not JSON") from error


def _canonical(key_ids: Sequence[str]) -> tuple[str, ...]:
    """Lower-case UUID text, each once."""
    canonical = []
    for key_id in key_ids:
        try:
            canonical.append(str(UUID(key_id)))
        except ValueError as error:
            raise RefusedError(400, "a key_ID shall be a UUID") from error
    if len(set(canonical)) != len(canonical):
        raise RefusedError(400, "key_IDs name one key twice")
    return tuple(canonical)
