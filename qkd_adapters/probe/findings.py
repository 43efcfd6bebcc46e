"""What a probe finds: one row for each requirement, and the ways in which a KME is peculiar."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    PASS = "pass"  # noqa: S105  (a verdict)
    FAIL = "fail"  # against the standard, and keys cannot be had or trusted this way
    DEVIATES = "deviates"  # against the standard, or unusual; can be lived with
    NOT_TESTED = "not tested"


class Trait(StrEnum):
    """A peculiarity of a KME, called as the emulator's quirk is, where it has that one."""

    INTEGER_SAE_IDS = "integer-sae-ids"
    IGNORES_SIZE = "ignores-size"
    FEWER_KEYS = "fewer-keys"
    REPEATABLE_READS = "repeatable-reads"
    ODD_STATUS = "odd-status"
    SHORT_RETENTION = "short-retention"
    ANY_BASE64 = "url-base64"
    HEX_KEY_IDS = "hex-key-ids"
    UPPER_KEY_IDS = "upper-key-ids"
    GET_ONLY = "get-only"
    POST_ONLY = "post-only"
    ONE_OUTSTANDING = "one-outstanding"
    NO_STATUS = "no-status"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """``clause`` of ETSI GS QKD 014 V1.1.1."""

    requirement: str
    clause: str
    expected: str
    got: str
    verdict: Verdict


@dataclass(slots=True, kw_only=True)
class Findings:
    """Filled while the probe goes on. ``keys``: given to us, and used up by that."""

    url: str
    second_url: str | None
    peer: str
    rows: list[Row] = field(default_factory=list)
    traits: set[Trait] = field(default_factory=set)
    keys: int = 0
    unknown_key: int | None = None  # HTTP status of a key_ID that nobody has
    lost: int = 0  # requests for a key without an answer: each may have cost one

    def row(self, requirement: str, clause: str, expected: str, got: str, verdict: Verdict) -> None:
        self.rows.append(
            Row(
                requirement=requirement,
                clause=clause,
                expected=expected,
                got=got,
                verdict=verdict,
            )
        )

    def count(self, verdict: Verdict) -> int:
        return sum(row.verdict is verdict for row in self.rows)

    def as_json(self) -> dict[str, Any]:
        return {
            "url": self.url,
            "second_url": self.second_url,
            "peer": self.peer,
            "rows": [
                {
                    "requirement": row.requirement,
                    "clause": row.clause,
                    "expected": row.expected,
                    "got": row.got,
                    "verdict": row.verdict.value,
                }
                for row in self.rows
            ],
            "quirks": sorted(self.traits),
            "keys_consumed": self.keys,
            "answers_lost": self.lost,
        }
