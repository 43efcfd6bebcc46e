"""The model of one QKD link: two devices and what lies between them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from qkd_adapters.optics.detector import Detector, yield_of_dark
from qkd_adapters.optics.fibre import Fibre, Raman, transmittance
from qkd_adapters.optics.satellite import Downlink
from qkd_adapters.records import Protocol

CALIBRATED_TEMPERATURE = 25.0  # deg C at which a device was calibrated


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaussian:
    """What CV-QKD (GG02) has that the others have not. Noise in shot-noise units."""

    modulation: float  # V_A, Alice's modulation variance
    excess_noise: float  # xi, at the channel's input
    electronic_noise: float  # v_el of the receiver, trusted
    heterodyne: bool = False
    beta: float = 0.95  # reconciliation efficiency, declared


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What a publication says the link did, to hold the model against."""

    secret_rate: float | None = None  # bit/s
    qber: float | None = None
    tolerance: float = 0.2  # relative; how far the fitted model may be off


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Bits per second, and the error rate of the sifted key."""

    qber: float
    sifted: float
    secret: float  # asymptotic


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkModel:
    """One device pair on one channel. Raises ValueError for what no link can be.

    ``provenance`` starts with ``published:`` (the figures it is held against are published; the
    parameters inside are still fitted unless it says otherwise) or ``modelled``.
    """

    name: str
    provenance: str
    protocol: Protocol
    clock_hz: float
    channel: Fibre
    detector: Detector
    receiver_db: float = 0.0  # loss of the receiver's own optics
    ed: float = 0.01  # misalignment: probability that light takes the wrong way
    # Mean photon numbers: signal, decoy, second decoy. BBM92: mean pairs per pulse.
    # Twin-field: of the key mode's coherent states, then of the test states.
    intensities: tuple[float, ...] = ()
    probabilities: tuple[float, ...] = ()
    p_z: float = 0.5  # both ends choose the key basis with it
    error_correction: float = 1.16  # f: leak over the Shannon limit
    raman: Raman | None = None
    gaussian: Gaussian | None = None
    downlink: Downlink | None = None
    published: Published = field(default_factory=Published)

    def __post_init__(self) -> None:
        if len(self.intensities) != len(self.probabilities):
            raise ValueError(f"{self.name}: one probability for each intensity")
        if self.probabilities and abs(sum(self.probabilities) - 1.0) > 1e-9:
            raise ValueError(f"{self.name}: probabilities of the intensities do not add up to 1")
        if not 0.0 < self.p_z < 1.0 or not 0.0 <= self.ed <= 0.5:
            raise ValueError(f"{self.name}: p_z or ed out of range")
        if self.clock_hz <= 0 or min(self.intensities, default=0.0) < 0:
            raise ValueError(f"{self.name}: negative clock or intensity")

    @property
    def loss_db(self) -> float:
        """Loss between the devices, without the receiver's own."""
        return self.channel.loss_db

    @property
    def eta_bob(self) -> float:
        return transmittance(self.receiver_db)

    @property
    def eta_det(self) -> float:
        return self.detector.efficiency

    @property
    def eta(self) -> float:
        """From the sender's output to a click."""
        return transmittance(self.loss_db) * self.eta_bob * self.eta_det

    @property
    def dark(self) -> float:
        """Clicks of one detector per gate without light of the sender, Raman noise included."""
        return self.detector.dark + self.raman_noise / 2.0

    @property
    def raman_noise(self) -> float:
        """Detected Raman photons per gate, both detectors together."""
        if self.raman is None:
            return 0.0
        photons = self.raman.photons(self.channel, self.detector.gate_ps * 1e-12)
        return photons * self.eta_bob * self.eta_det

    @property
    def y0(self) -> float:
        """Probability of a click in a gate without light of the sender."""
        return yield_of_dark(self.dark)

    def with_loss(self, loss_db: float) -> LinkModel:
        """The same devices on another fibre. Raises ValueError for a negative loss."""
        if loss_db < 0:
            raise ValueError(f"loss of {loss_db:g} dB")
        if self.channel.db_per_km <= 0:
            return replace(self, channel=replace(self.channel, extra_db=loss_db))
        length = loss_db / self.channel.db_per_km
        return replace(self, channel=replace(self.channel, length_km=length, extra_db=0.0))

    def with_distance(self, length_km: float) -> LinkModel:
        """The same devices on ``length_km`` of the same fibre, splices in proportion."""
        if length_km < 0:
            raise ValueError(f"distance of {length_km:g} km")
        old = self.channel
        extra = old.extra_db * length_km / old.length_km if old.length_km else old.extra_db
        return replace(self, channel=replace(old, length_km=length_km, extra_db=extra))
