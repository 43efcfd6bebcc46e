"""What two ends of a link agree on before the first block; the same at both."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoyBb84:
    """BB84 with one decoy (two intensities) or two (three).

    ``intensities``: mean photon numbers by intensity number, signal first, falling.
    ``probabilities``: how often each is sent; they sum to 1.
    """

    intensities: tuple[float, ...]
    probabilities: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainBb84:
    """BB84 with weak coherent pulses of one mean photon number ``mu`` and no decoys.

    ``receiver_z``: probability with which the receiver measures in Z.
    """

    mu: float
    receiver_z: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Bbm92:
    """Entangled pairs; nothing about the source is trusted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TwinField:
    """Curty-Azuma-Lo twin field: both ends send, the middle announces which detector clicked.

    Basis 0: coherent states of mean photon number ``intensities[0]``, phase 0 or pi: the key.
    Basis 1: phase-randomised test pulses of ``intensities[1:]``, three of them, falling, the last
    (nearly) vacuum; test intensity k has number k in a record, from 0. ``probabilities``: of each
    among all pulses of one end. Both ends use the same.
    """

    intensities: tuple[float, ...]
    probabilities: tuple[float, ...]


class Detection(StrEnum):
    HOMODYNE = "homodyne"  # one quadrature per symbol, named by the basis column: 0 x, 1 p
    HETERODYNE = "heterodyne"  # both


@dataclass(frozen=True, slots=True, kw_only=True)
class ContinuousVariable:
    """Gaussian-modulated coherent states, reverse reconciliation, trusted receiver noise.

    ``modulation``: variance V_A of each sent quadrature, shot-noise units.
    ``efficiency``: of the receiver; ``electronic_noise``: of its detector, shot-noise units.
    ``test_share``: part of the symbols that is given away to estimate the channel.
    ``slices``: bits into which each kept symbol is cut.
    """

    modulation: float
    efficiency: float
    electronic_noise: float
    detection: Detection = Detection.HOMODYNE
    test_share: float = 0.3
    slices: int = 5


Scheme = DecoyBb84 | PlainBb84 | Bbm92 | TwinField | ContinuousVariable


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """``link`` names the link in key IDs and tags.

    ``eps_sec``, ``eps_cor``: probability that the key is not secret, that the ends' keys differ,
    per block. ``key_bits``: size of one delivered key. ``auth_reserve``: bits of authentication
    key per direction to which the stock is filled from generated key. ``expected_qber``: where
    reconciliation starts before the link has shown its own.
    """

    link: str
    scheme: Scheme
    eps_sec: float = 1e-9
    eps_cor: float = 2.0**-63
    key_bits: int = 256
    auth_reserve: int = 8192
    expected_qber: float = 0.03
