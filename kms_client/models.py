"""What goes over the wire to a KME, ETSI GS QKD 014 V1.1.1, and what comes out of it.

Wire types carry the standard's member names. Unknown members are ignored, as the standard
asks; members that real KMEs leave out are optional. Sizes called ``size`` are in bits.
"""
# ruff: noqa: N815  (the standard's own member names)

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import msgspec

from kms_client.errors import one_line
from kms_client.secret import Secret

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")  # RFC 9562 4
_MAX_ALARMS = 16  # of one LinkReport
_REFERENCE = re.compile(r"[!-~]{1,1024}")  # RFC 3986 knows no other characters

Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


def canonical_key_id(text: str) -> str:
    """A key_ID as lower-case UUID text, 36 characters. Raises ValueError when it is no UUID."""
    lowered = text.lower()
    if not _UUID.fullmatch(lowered):
        raise ValueError("key_ID is not a UUID")
    return lowered


@dataclass(frozen=True, slots=True, kw_only=True)
class QkdKey:
    """A key as delivered: its canonical key_ID and its bytes."""

    key_id: str
    key: Secret


# --- wire ------------------------------------------------------------------------------------


class Status(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Answer to ``status``. ETSI GS QKD 014 has the count; Cisco SKIP knows none.

    There are KMEs that number their SAEs and write those IDs as JSON numbers.
    """

    source_KME_ID: str | int | None = None
    target_KME_ID: str | int | None = None
    master_SAE_ID: str | int | None = None
    slave_SAE_ID: str | int | None = None
    key_size: Count | None = None  # bits; default size of a key
    stored_key_count: Count | None = None
    max_key_count: Count | None = None
    max_key_per_request: Count | None = None
    max_key_size: Count | None = None  # bits
    min_key_size: Count | None = None  # bits
    max_SAE_ID_count: Count | None = None  # 0: no multicast
    status_extension: Any = None

    @property
    def link(self) -> LinkReport | None:
        """What the KME says of its quantum link, where it speaks our extension."""
        return link_report(self.status_extension)


class KeyRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Body of POST ``enc_keys``. All members are optional for the KME."""

    number: Count | None = None
    size: Count | None = None  # bits
    additional_slave_SAE_IDs: tuple[str, ...] = ()
    extension_mandatory: tuple[dict[str, Any], ...] = ()
    extension_optional: tuple[dict[str, Any], ...] = ()


class KeyIdMember(msgspec.Struct, frozen=True, kw_only=True):
    key_ID: str


class KeyIds(msgspec.Struct, frozen=True, kw_only=True):
    """Body of POST ``dec_keys``."""

    key_IDs: tuple[KeyIdMember, ...]


class KeyMember(msgspec.Struct, kw_only=True):
    """One key of a container; the codec turns base64 into a buffer that can be overwritten."""

    key_ID: str
    key: bytearray

    def __repr__(self) -> str:
        return f"<KeyMember {len(self.key)} bytes>"


class KeyContainer(msgspec.Struct, kw_only=True):
    """Answer to ``enc_keys`` and ``dec_keys``."""

    keys: list[KeyMember]

    def wipe(self) -> None:
        """Overwrite the decoded key bytes."""
        for member in self.keys:
            member.key[:] = bytes(len(member.key))


class TextMember(msgspec.Struct, kw_only=True):
    """A key whose base64 is not RFC 4648 4. Its text is a str, which cannot be overwritten."""

    key_ID: str
    key: str

    def __repr__(self) -> str:
        return "<TextMember>"


class TextContainer(msgspec.Struct, kw_only=True):
    keys: list[TextMember]


# --- qsgw's status extension -----------------------------------------------------------------


class LinkState(StrEnum):
    """State of a quantum link as its KME reports it."""

    UP = "up"
    DOWN = "down"
    SUSPECT = "suspect"  # the link's own detectors see signs of an eavesdropper


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkReport:
    """``status_extension.qsgw_link`` of a KME that gives one."""

    state: LinkState
    since: str  # RFC 3339, the KME's clock; "" when not given
    alarms: tuple[str, ...]
    key_rate: float | None  # keys per second of the default size
    suspect_age: float | None = None  # seconds since the link was last good, while suspect
    quarantined: int | None = None  # keys of this pair of SAEs withdrawn so far
    events: str | None = None  # where the KME tells of changes: a reference from the status

    @property
    def reason(self) -> str:
        return "; ".join(self.alarms) or f"the KME reports the quantum link {self.state}"


def link_report(extension: object) -> LinkReport | None:
    """The LinkReport inside a ``status_extension``; None when there is none that makes sense."""
    link = extension.get("qsgw_link") if isinstance(extension, Mapping) else None
    if not isinstance(link, Mapping):
        return None
    try:
        state = LinkState(str(link.get("state")))
    except ValueError:
        return None
    quarantined, events = _positive(link.get("quarantined")), link.get("events")
    since, alarms, rate = link.get("since"), link.get("alarms"), link.get("key_rate")
    return LinkReport(
        state=state,
        since=one_line(since) if isinstance(since, str) else "",
        alarms=tuple(one_line(alarm) for alarm in alarms[:_MAX_ALARMS] if isinstance(alarm, str))
        if isinstance(alarms, list)
        else (),
        key_rate=_positive(rate),
        suspect_age=_positive(link.get("suspect_age")),
        quarantined=None if quarantined is None else int(quarantined),
        events=events if isinstance(events, str) and _REFERENCE.fullmatch(events) else None,
    )


def _positive(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        return None
    return float(value)
