"""Proposals as an operator writes them: "aes256gcm16-prfsha512-x25519-ke1_mlkem768".

The words are those strongSwan and its users know. A word may be given several times with
different algorithms: then each is offered, the first preferred.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Final, Self, TypeVar

from gateway.ike.registry import (
    ADDITIONAL_KE_TYPES,
    EncryptionId,
    EsnId,
    KeMethod,
    PrfId,
    ProtocolId,
    TransformType,
)
from gateway.ike.transforms import Proposal, Transform

Cipher = tuple[EncryptionId, int | None]
"""A cipher and its Key Length attribute in bits; None where the cipher has none."""

_CIPHERS: Final[dict[str, Cipher]] = {
    "aes256gcm16": (EncryptionId.AES_GCM_16, 256),
    "aes256gcm": (EncryptionId.AES_GCM_16, 256),
    "aes256gcm128": (EncryptionId.AES_GCM_16, 256),
    "aes128gcm16": (EncryptionId.AES_GCM_16, 128),
    "aes128gcm": (EncryptionId.AES_GCM_16, 128),
    "aes128gcm128": (EncryptionId.AES_GCM_16, 128),
    "chacha20poly1305": (EncryptionId.CHACHA20_POLY1305, None),
}
_PRFS: Final = {
    "prfsha256": PrfId.HMAC_SHA2_256,
    "prfsha384": PrfId.HMAC_SHA2_384,
    "prfsha512": PrfId.HMAC_SHA2_512,
}
_METHODS: Final = {
    "x25519": KeMethod.X25519,
    "curve25519": KeMethod.X25519,
    "ecp256": KeMethod.SECP256R1,
    "ecp384": KeMethod.SECP384R1,
    "mlkem512": KeMethod.ML_KEM_512,
    "mlkem768": KeMethod.ML_KEM_768,
    "mlkem1024": KeMethod.ML_KEM_1024,
    "frodokem976shake": KeMethod.FRODOKEM_976_SHAKE,
    "frodokem1344shake": KeMethod.FRODOKEM_1344_SHAKE,
    "hqc192": KeMethod.HQC_192,
    "hqc256": KeMethod.HQC_256,
    "none": KeMethod.NONE,
}
_T = TypeVar("_T")
_ESN: Final = {"esn": EsnId.ESN, "noesn": EsnId.NO_ESN}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalSpec:
    """What we offer and accept for one SA, each list in order of preference.

    ``additional`` holds one entry per used slot of RFC 9370, by Transform Type 6 to 12; NONE
    among its methods makes the slot optional.
    """

    protocol: ProtocolId  # IKE or ESP
    ciphers: tuple[Cipher, ...]
    prfs: tuple[PrfId, ...] = ()
    key_exchanges: tuple[KeMethod, ...] = ()
    additional: tuple[tuple[TransformType, tuple[KeMethod, ...]], ...] = ()
    esn: tuple[EsnId, ...] = ()

    @classmethod
    def parse(cls, text: str, protocol: ProtocolId | None = None) -> Self:
        """From the operator's words. ValueError naming the word that is wrong or missing.

        Without ``protocol``, a text with a PRF is for IKE and one without for ESP. An ESP
        text with neither ``esn`` nor ``noesn`` offers both, ESN preferred.
        """
        words = _Words(text)
        for word in text.strip().lower().split("-"):
            words.add(word)
        if protocol is None:
            protocol = ProtocolId.IKE if words.prfs else ProtocolId.ESP
        words.check(protocol)
        esn = tuple(words.esn) or (EsnId.ESN, EsnId.NO_ESN)
        return cls(
            protocol=protocol,
            ciphers=tuple(words.ciphers),
            prfs=tuple(words.prfs),
            key_exchanges=tuple(words.methods),
            additional=tuple((slot, tuple(words.slots[slot])) for slot in sorted(words.slots)),
            esn=esn if protocol is ProtocolId.ESP else (),
        )

    def without_key_exchange(self) -> ProposalSpec:
        """For the Child SA made in IKE_AUTH, which takes its keys from the IKE SA.

        RFC 7296 1.2: its SA payload has no key exchange.
        """
        return replace(self, key_exchanges=(), additional=())

    def with_prf(self, prf: PrfId) -> ProposalSpec:
        """With this PRF and no other."""
        return replace(self, prfs=(prf,))

    @property
    def wants_additional(self) -> bool:
        """Whether some additional key exchange is mandatory."""
        return any(KeMethod.NONE not in methods for _, methods in self.additional)

    def transforms(self) -> tuple[Transform, ...]:
        """All of it, as in a proposal."""
        kinds = TransformType
        return (
            *(Transform(type=kinds.ENCR, id=id_, key_length=bits) for id_, bits in self.ciphers),
            *(Transform(type=kinds.PRF, id=prf) for prf in self.prfs),
            *(Transform(type=kinds.KE, id=method) for method in self.key_exchanges),
            *(
                Transform(type=slot, id=method)
                for slot, methods in self.additional
                for method in methods
            ),
            *(Transform(type=kinds.ESN, id=esn) for esn in self.esn),
        )

    def offer(self, number: int, spi: bytes = b"") -> Proposal:
        """The proposal to send."""
        return Proposal(
            number=number, protocol=self.protocol, spi=spi, transforms=self.transforms()
        )

    def __str__(self) -> str:
        words = [_word(_CIPHERS, cipher) for cipher in self.ciphers]
        words += [_word(_PRFS, prf) for prf in self.prfs]
        words += [_word(_METHODS, method) for method in self.key_exchanges]
        for slot, methods in self.additional:
            prefix = f"ke{slot - TransformType.ADDKE1 + 1}_"
            words += [prefix + _word(_METHODS, method) for method in methods]
        words += [_word(_ESN, esn) for esn in self.esn]
        return "-".join(words)


def offers(specs: Sequence[ProposalSpec], spi: bytes = b"") -> tuple[Proposal, ...]:
    """The proposals of one SA payload, numbered from 1."""
    return tuple(spec.offer(number, spi) for number, spec in enumerate(specs, 1))


def _word(table: Mapping[str, object], value: object) -> str:
    return next(word for word, known in table.items() if known == value)


class _Words:
    """The words of one text, sorted by kind."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.ciphers: list[Cipher] = []
        self.prfs: list[PrfId] = []
        self.methods: list[KeMethod] = []
        self.slots: dict[TransformType, list[KeMethod]] = {}
        self.esn: list[EsnId] = []

    def add(self, word: str) -> None:
        if word in _CIPHERS:
            _append(self.ciphers, _CIPHERS[word])
        elif word in _PRFS:
            _append(self.prfs, _PRFS[word])
        elif word in _METHODS:
            _append(self.methods, _METHODS[word])
        elif word in _ESN:
            _append(self.esn, _ESN[word])
        elif word.startswith("ke") and word[3:4] == "_" and word[2] in "1234567":
            slot = ADDITIONAL_KE_TYPES[int(word[2]) - 1]
            if word[4:] not in _METHODS:
                raise self._error(f"{word!r} names no known key exchange{_similar(word[4:])}")
            _append(self.slots.setdefault(slot, []), _METHODS[word[4:]])
        else:
            raise self._error(f"{word!r} is not known{_similar(word)}")

    def check(self, protocol: ProtocolId) -> None:
        if not self.ciphers:
            raise self._error("no cipher, e.g. aes256gcm16")
        if KeMethod.NONE in self.methods:
            raise self._error("'none' is for additional key exchanges only, e.g. ke1_none")
        if self.slots and not self.methods:
            # An additional key exchange without a first one is not defined (RFC 9370 2.2.1).
            raise self._error("an additional key exchange needs a first one, e.g. x25519")
        if protocol is ProtocolId.IKE:
            if not self.prfs:
                raise self._error("no PRF, e.g. prfsha512")
            if not self.methods:
                raise self._error("no key exchange, e.g. x25519")
            if self.esn:
                raise self._error("'esn' and 'noesn' are for ESP only")
        elif self.prfs:
            raise self._error("an ESP proposal has no PRF")
        for slot, methods in self.slots.items():
            if set(methods) == {KeMethod.NONE}:
                raise self._error(f"slot ke{slot - 5} has only 'none'")
        # RFC 9370 2.2.2: the methods chosen must differ from each other.
        if not distinct_choice([self.methods or [KeMethod.NONE], *self.slots.values()]):
            raise self._error("key exchanges must differ from each other")

    def _error(self, reason: str) -> ValueError:
        return ValueError(f"proposal {self.text!r}: {reason}")


def _similar(word: str) -> str:
    """A hint for a word that is nearly right, or is another name of a known one."""
    known = [*_CIPHERS, *_PRFS, *_METHODS, *_ESN]
    plain = word.replace("_", "").replace("secp", "ecp").replace("r1", "")
    found = get_close_matches(plain, known, n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


def _append(values: list[_T], value: _T) -> None:
    if value not in values:
        values.append(value)


def distinct_choice(slots: Sequence[Sequence[KeMethod]]) -> tuple[KeMethod, ...] | None:
    """One method per slot, earliest preferred, no method but NONE twice (RFC 9370 2.2.2).

    None where there is no such choice.
    """
    if not slots:
        return ()
    for method in slots[0]:
        others = [
            [other for other in slot if other != method or method is KeMethod.NONE]
            for slot in slots[1:]
        ]
        rest = distinct_choice(others)
        if rest is not None:
            return (method, *rest)
    return None
