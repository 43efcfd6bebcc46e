"""From what was found to a profile: the one that has what the KME needs and least besides."""

from __future__ import annotations

from dataclasses import dataclass

from kms_client.profiles import DEFAULT_PROFILE, PROFILES, Base64, KeyIds, Profile, SaeIds
from qkd_adapters.probe.findings import Findings, Trait, Verdict

# Without these in its profile no key comes, or an answer is misread.
NEEDED = frozenset({Trait.ANY_BASE64, Trait.HEX_KEY_IDS, Trait.UPPER_KEY_IDS, Trait.GET_ONLY})
SERIOUS = frozenset({Trait.ODD_STATUS})  # works without, but is told wrongly


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """``profile`` None: none there is fits; ``notes`` for the operator."""

    profile: str | None
    notes: tuple[str, ...]


def traits_of(profile: Profile, unknown_key: int | None) -> frozenset[Trait]:
    """What a profile allows for, in the probe's words.

    ``unknown_key``: the status code that was seen for one; None stands for any.
    """
    codes = {status for verb, status in profile.meanings if verb == "dec_keys"}
    present = {
        Trait.INTEGER_SAE_IDS: profile.sae_ids is SaeIds.INTEGER,
        Trait.IGNORES_SIZE: profile.fixed_size is not None,
        Trait.REPEATABLE_READS: profile.repeatable,
        Trait.ODD_STATUS: unknown_key in codes or (unknown_key is None and bool(codes)),
        Trait.ANY_BASE64: profile.base64 is Base64.ANY,
        Trait.HEX_KEY_IDS: profile.key_ids is KeyIds.HEX,
        Trait.UPPER_KEY_IDS: profile.key_ids is KeyIds.UPPER,
        Trait.GET_ONLY: profile.get,
        Trait.ONE_OUTSTANDING: profile.outstanding is not None,
        Trait.SHORT_RETENTION: profile.retention is not None,
    }
    return frozenset(trait for trait, there in present.items() if there)


def advise(findings: Findings) -> Advice:
    found = findings.traits
    notes = tuple(text for trait, text in _NOTES.items() if trait in found)
    if any(row.verdict is Verdict.FAIL for row in findings.rows) and not findings.keys:
        return Advice(profile=None, notes=(*notes, "no key was given: see the rows that fail"))
    if not found & (NEEDED | SERIOUS):
        return Advice(profile=DEFAULT_PROFILE, notes=notes)
    seen = findings.unknown_key
    fitting = [
        profile for profile in PROFILES.values() if found & NEEDED <= traits_of(profile, seen)
    ]
    if not fitting:
        return Advice(profile=None, notes=(*notes, "no profile has all of this; report it"))

    def merit(profile: Profile) -> int:
        has = traits_of(profile, seen)
        return 2 * len(has & found) - len(has - found)

    return Advice(profile=max(fitting, key=merit).name, notes=notes)


_NOTES = {
    Trait.INTEGER_SAE_IDS: 'say in "peers" which number the peer SAE has',
    Trait.IGNORES_SIZE: "keys have one size whatever is asked for",
    Trait.FEWER_KEYS: "it may give fewer keys than asked for; qsgw asks for one at a time",
    Trait.ONE_OUTSTANDING: (
        "a new key ends those the slave has not fetched: keys fetched ahead are lost"
    ),
    Trait.SHORT_RETENTION: 'say in "retention" for how long a key waits for the slave',
    Trait.NO_STATUS: "no status: qsgw sees neither stock nor limits, and measures the rate itself",
    Trait.REPEATABLE_READS: "a key can be read again: keys stay in this KME after delivery",
}
