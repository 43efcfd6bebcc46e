"""Profiles: in what a KME one can buy or download differs from ETSI GS QKD 014 V1.1.1.

A profile says how to ask so that such a KME answers, and how to read what it says. It never
makes an answer acceptable that could put a wrong key into use. Without a profile everything is
as the standard has it; ``qsgw-kme probe`` finds out what a KME needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from kms_client.errors import QsgwError

DEFAULT_PROFILE = "etsi014"


class Evidence(StrEnum):
    """How well a profile is founded."""

    STANDARD = "the standard's own text"
    TESTED = "run here against our client"
    READ = "source or document read, not run here"


class SaeIds(StrEnum):
    TEXT = "text"
    INTEGER = "integer"  # the path takes decimal digits only


class KeyIds(StrEnum):
    """How a key_ID is written. All of them carry the 128 bits of a UUID."""

    UUID = "uuid"  # 6.3: lower case is what RFC 9562 4 asks of writers
    UPPER = "upper"  # upper case, and looked up as text
    HEX = "hex"  # 32 digits without hyphens, and looked up as text


class Base64(StrEnum):
    STANDARD = "standard"  # RFC 4648 4, padded
    ANY = "any"  # also the alphabet of RFC 4648 5, without padding, with line breaks


class Meaning(StrEnum):
    """What a status code stands for where it is not the standard's."""

    NO_KEYS = "no keys"  # the standard's 503
    UNKNOWN_KEY = "unknown key"  # the standard's 400 on dec_keys
    FAULT = "fault"  # of the KME or of the one behind it; the standard's 503


class UnknownProfileError(QsgwError):
    """No profile of this name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One kind of KME. Sizes in bits, times in seconds; None where the standard's status tells.

    ``fixed_size``: keys have this size whatever is asked for. ``meanings`` by resource and HTTP
    status. ``repeatable``: dec_keys gives a key again, so a lost answer may be asked for again.
    ``outstanding``: keys given to the master that the slave may still fetch; earlier ones go.
    ``retention``: how long a key the master took can be fetched by the slave.
    """

    name: str
    product: str
    source: str
    evidence: Evidence
    sae_ids: SaeIds = SaeIds.TEXT
    key_ids: KeyIds = KeyIds.UUID
    base64: Base64 = Base64.STANDARD
    get: bool = False
    fixed_size: int | None = None
    max_number: int | None = None
    meanings: Mapping[tuple[str, int], Meaning] = field(default_factory=dict)
    repeatable: bool = False
    outstanding: int | None = None
    retention: float | None = None
    notes: tuple[str, ...] = ()


_ODD_STATUS = {
    ("enc_keys", 404): Meaning.NO_KEYS,
    ("enc_keys", 409): Meaning.FAULT,
    ("enc_keys", 412): Meaning.FAULT,
    ("enc_keys", 504): Meaning.FAULT,
    ("dec_keys", 404): Meaning.UNKNOWN_KEY,
}

_ALL = (
    Profile(
        name=DEFAULT_PROFILE,
        product="any KME that keeps to ETSI GS QKD 014 V1.1.1",
        source="ETSI GS QKD 014 V1.1.1 (2019-02)",
        evidence=Evidence.STANDARD,
    ),
    Profile(
        name="qkd-kme-server",
        product="thomasarmel/qkd_kme_server (Rust)",
        source="repository at 4d53a3d: docs/api.md, src/routes/sae_zone_routes/keys",
        evidence=Evidence.TESTED,
        sae_ids=SaeIds.INTEGER,
        fixed_size=256,
        max_number=10,
        meanings=_ODD_STATUS,
        repeatable=True,
        notes=(
            "an SAE is told by the serial number of its certificate",
            "gives fewer keys than asked for, with 200",
            "a body it cannot read is taken for an empty one",
        ),
    ),
    Profile(
        name="next-door-key",
        product="CreepPork/next-door-key-simulator (Python)",
        source="repository at 800efac: router/external.py, keys/key_store.py",
        evidence=Evidence.TESTED,
        meanings={
            ("enc_keys", 400): Meaning.NO_KEYS,
            ("dec_keys", 401): Meaning.UNKNOWN_KEY,
        },
        outstanding=1,
        notes=(
            "a second enc_keys drops the keys the slave has not fetched yet, other pairs' too",
            "GET ignores number and size",
            "an unknown key_ID is 400, or 401 while no key waits for the slave",
            "its own script makes certificates without subjectAltName; make your own",
            "its default key size is 32 bits: set MIN_KEY_SIZE and MAX_KEY_SIZE to span 256",
        ),
    ),
    Profile(
        name="cybermerqury",
        product="cybermerqury etsi-gs-qkd-014-referenceimplementation (Rust)",
        source="repository, as read by others; not read in full here",
        evidence=Evidence.READ,
        repeatable=True,
        notes=(
            "default size 1024 bits; we always say the size",
            "two KMEs on one database: they cannot lose step, which a real pair can",
        ),
    ),
    Profile(
        name="get-only",
        product="a KME that takes GET only, though 5.3 and 5.4 have POST",
        source="our own KME with the quirk of this name; no product known",
        evidence=Evidence.TESTED,
        get=True,
    ),
    Profile(
        name="hex-key-ids",
        product="a KME whose key_IDs lack the hyphens of 6.3",
        source="our own KME with the quirk of this name; no product known",
        evidence=Evidence.TESTED,
        key_ids=KeyIds.HEX,
    ),
    Profile(
        name="upper-key-ids",
        product="a KME whose key_IDs are upper case and looked up as text",
        source="our own KME with the quirk of this name; no product known",
        evidence=Evidence.TESTED,
        key_ids=KeyIds.UPPER,
    ),
    Profile(
        name="lenient",
        product="a KME without a profile of its own, until there is one",
        source="the union of what is harmless, tested with our own KME's quirks",
        evidence=Evidence.TESTED,
        base64=Base64.ANY,
        meanings=_ODD_STATUS,
    ),
)

PROFILES: Mapping[str, Profile] = {profile.name: profile for profile in _ALL}


def find_profile(name: str) -> Profile:
    """Raises UnknownProfileError naming those there are."""
    try:
        return PROFILES[name]
    except KeyError:
        known = ", ".join(PROFILES)
        raise UnknownProfileError(f'no KME profile "{name}"; there are {known}') from None
