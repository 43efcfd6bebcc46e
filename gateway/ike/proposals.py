"""Negotiation of an SA: the responder's choice and the initiator's check of it.

RFC 7296 3.3 and 2.7, RFC 9370 2.2.2. Pure functions. The types they work on stand in
``transforms`` (wire) and ``proposal_spec`` (the operator's) and are found here too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateway.crypto.aead import keymat_size
from gateway.ike.errors import ProtocolError
from gateway.ike.proposal_spec import Cipher, ProposalSpec, distinct_choice, offers
from gateway.ike.registry import (
    ADDITIONAL_KE_TYPES,
    EncryptionId,
    EsnId,
    IntegrityId,
    KeMethod,
    NotifyType,
    PrfId,
    ProtocolId,
    TransformType,
    ke_name,
)
from gateway.ike.transforms import Proposal, Transform, decode_proposals, encode_proposals

__all__ = [
    "Chosen",
    "Cipher",
    "Proposal",
    "ProposalSpec",
    "Transform",
    "accept_answer",
    "decode_proposals",
    "encode_proposals",
    "offers",
    "select",
]

_KE_TYPES: Final = (TransformType.KE, *ADDITIONAL_KE_TYPES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What both ends agreed on."""

    proposal: Proposal  # the answer: one transform per type; its SPI is the peer's
    encryption: EncryptionId
    key_bits: int | None
    prf: PrfId | None  # IKE only
    key_exchange: KeMethod  # NONE: keys come from the IKE SA alone
    additional: tuple[tuple[TransformType, KeMethod], ...]  # in order of execution, no NONE
    esn: bool

    @property
    def number(self) -> int:
        return self.proposal.number

    @property
    def spi(self) -> bytes:
        """The peer's SPI: empty, 8 (IKE) or 4 octets (ESP)."""
        return self.proposal.spi

    @property
    def key_size(self) -> int:
        """Octets of cipher key and salt for one direction."""
        return keymat_size(self.encryption, self.key_bits)

    @property
    def methods(self) -> tuple[KeMethod, ...]:
        """All key exchanges in the order they are carried out."""
        first = () if self.key_exchange is KeMethod.NONE else (self.key_exchange,)
        return (*first, *(method for _, method in self.additional))

    @property
    def key_exchanges(self) -> tuple[str, ...]:
        """Their names, e.g. ("X25519", "ML-KEM-768")."""
        return tuple(ke_name(method) for method in self.methods)

    @property
    def encryption_name(self) -> str:
        """E.g. "AES_GCM_16-256"."""
        bits = "" if self.key_bits is None else f"-{self.key_bits}"
        return f"{self.encryption.name}{bits}"

    def answer(self, spi: bytes = b"") -> Proposal:
        """The proposal the responder sends, under its own SPI."""
        return self.proposal.with_spi(spi)

    def __str__(self) -> str:
        parts = [self.encryption_name]
        if self.prf is not None:
            parts.append(f"PRF_{self.prf.name}")
        if self.key_exchange is not KeMethod.NONE:
            parts.append(ke_name(self.key_exchange))
        parts += [
            f"KE{slot - TransformType.ADDKE1 + 1}_{ke_name(method)}"
            for slot, method in self.additional
        ]
        if self.proposal.protocol == ProtocolId.ESP:
            parts.append("ESN" if self.esn else "NO_ESN")
        return "/".join(parts)


def select(
    offered: Sequence[Proposal],
    acceptable: Sequence[ProposalSpec],
    *,
    additional_key_exchanges: bool = True,
) -> Chosen | None:
    """The responder's choice, or None (NO_PROPOSAL_CHOSEN). Our preference comes first.

    ``additional_key_exchanges``: whether RFC 9370 may be used, i.e. for an IKE SA both
    ends sent INTERMEDIATE_EXCHANGE_SUPPORTED.
    """
    for spec in acceptable:
        for proposal in offered:
            transforms = _match(proposal, spec, additional=additional_key_exchanges)
            if transforms is not None:
                return _chosen(proposal, transforms)
    return None


def accept_answer(answer: Sequence[Proposal], offered: Sequence[Proposal]) -> Chosen:
    """The initiator's check of the responder's SA payload against what we offered.

    ProtocolError(NO_PROPOSAL_CHOSEN) where the answer is not a choice from the offer.
    """
    if len(answer) != 1:
        raise _not_ours(f"{len(answer)} proposals in the answer")
    chosen = answer[0]
    ours = next((one for one in offered if one.number == chosen.number), None)
    if ours is None or ours.protocol != chosen.protocol or len(ours.spi) != len(chosen.spi):
        raise _not_ours(f"proposal {chosen.number} was not offered")
    by_type: dict[int, Transform] = {}
    for transform in chosen.transforms:
        if transform.type in by_type:
            raise _not_ours(f"two transforms of type {transform.type} in the answer")
        if transform not in ours.transforms:
            raise _not_ours(f"transform {transform.type}/{transform.id} was not offered")
        by_type[transform.type] = transform
    for transform in ours.transforms:
        # A slot we made optional may be left out as well as answered with NONE.
        if transform.type not in by_type and not _optional(ours, transform.type):
            raise _not_ours(f"no transform of type {transform.type} in the answer")
    methods = [by_type[kind].id for kind in _KE_TYPES if kind in by_type and by_type[kind].id]
    if len(set(methods)) != len(methods):  # RFC 9370 2.2.2
        raise _not_ours("the same key exchange method twice")
    return _chosen(chosen, tuple(by_type.values()))


def _not_ours(reason: str) -> ProtocolError:
    return ProtocolError(NotifyType.NO_PROPOSAL_CHOSEN, reason)


def _optional(proposal: Proposal, kind: int) -> bool:
    return kind in _KE_TYPES and any(
        transform.type == kind and transform.id == KeMethod.NONE
        for transform in proposal.transforms
    )


def _match(
    proposal: Proposal, spec: ProposalSpec, *, additional: bool
) -> tuple[Transform, ...] | None:
    """One transform per type in ``proposal`` that ``spec`` accepts, in the proposal's order."""
    if proposal.protocol != spec.protocol:
        return None
    offered: dict[int, list[Transform]] = {}
    for transform in proposal.transforms:
        offered.setdefault(transform.type, []).append(transform)
    wanted: dict[int, tuple[Transform, ...]] = {
        TransformType.INTEG: (Transform(type=TransformType.INTEG, id=IntegrityId.NONE),)
    }
    for transform in spec.transforms():
        wanted[transform.type] = (*wanted.get(transform.type, ()), transform)
    picked: dict[int, Transform] = {}
    slots: dict[int, list[KeMethod]] = {}
    for kind in offered.keys() | wanted.keys():
        if kind in _KE_TYPES:
            slots[kind] = _slot(kind, offered, wanted, additional=additional)
            continue
        # An unknown type among the offered makes the proposal unacceptable (RFC 7296 3.3.6).
        match = next((one for one in wanted.get(kind, ()) if one in offered.get(kind, ())), None)
        if match is not None:
            picked[kind] = match
        elif kind in offered or kind != TransformType.INTEG:
            return None
    order = sorted(slots)
    methods = distinct_choice([slots[kind] for kind in order])
    if methods is None:
        return None
    for kind, method in zip(order, methods, strict=True):
        if kind in offered:
            picked[kind] = Transform(type=kind, id=method)
    return tuple(picked[kind] for kind in offered)


def _slot(
    kind: int,
    offered: dict[int, list[Transform]],
    wanted: dict[int, tuple[Transform, ...]],
    *,
    additional: bool,
) -> list[KeMethod]:
    """Methods both sides can live with in one slot. A side that lacks the slot means NONE."""
    none = [Transform(type=kind, id=KeMethod.NONE)]
    theirs = offered.get(kind, none)
    usable = wanted.get(kind, none)
    methods = [KeMethod(one.id) for one in usable if one in theirs]
    if kind in ADDITIONAL_KE_TYPES and not additional:
        return [method for method in methods if method is KeMethod.NONE]
    return methods


def _chosen(proposal: Proposal, transforms: Sequence[Transform]) -> Chosen:
    """``transforms`` are all known ones: they stand in a ProposalSpec."""
    by_type = {transform.type: transform for transform in transforms}
    cipher = by_type[TransformType.ENCR]
    prf = by_type.get(TransformType.PRF)
    method = by_type.get(TransformType.KE)
    esn = by_type.get(TransformType.ESN)
    return Chosen(
        proposal=Proposal(
            number=proposal.number,
            protocol=proposal.protocol,
            spi=proposal.spi,
            transforms=tuple(transforms),
        ),
        encryption=EncryptionId(cipher.id),
        key_bits=cipher.key_length,
        prf=None if prf is None else PrfId(prf.id),
        key_exchange=KeMethod.NONE if method is None else KeMethod(method.id),
        additional=tuple(
            (slot, KeMethod(by_type[slot].id))
            for slot in ADDITIONAL_KE_TYPES
            if slot in by_type and by_type[slot].id != KeMethod.NONE
        ),
        esn=esn is not None and esn.id == EsnId.ESN,
    )
