"""Where a link's CAKs come from: the IKE SAs of one connection, and what policy says of it."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.crypto.secret import Secret
from gateway.daemon.tunnel import Tunnel
from gateway.ike.endpoint import Endpoint
from gateway.ike.states import IkeState
from gateway.ike.views import IkeFacts
from gateway.mka.hybrid import EXPORT_LABEL, EXPORT_SIZE
from gateway.protection.inputs import OperatorInitiate
from gateway.protection.machine import TunnelProtection

_UP = (IkeState.ESTABLISHED, IkeState.REKEYED)


class CakSource:
    """One ``[connection.NAME]``, as it is now: a reload may replace its tunnel."""

    def __init__(self, connection: str, tunnels: Mapping[str, Tunnel], endpoint: Endpoint) -> None:
        self.connection = connection
        self.max_age: float | None = None  # seconds a CAK may be used; as configured now
        self._tunnels = tunnels
        self._endpoint = endpoint

    @property
    def policy(self) -> TunnelProtection | None:
        tunnel = self._tunnels.get(self.connection)
        return None if tunnel is None else tunnel.protection

    def established(self) -> IkeFacts | None:
        """The newest IKE SA that is."""
        return next((ike for ike in self._ike_sas() if ike.state == IkeState.ESTABLISHED), None)

    def find(self, spi_i: bytes, spi_r: bytes) -> IkeFacts | None:
        """By its SPIs; None where it is no more, or was closed by policy a moment ago."""
        spis = (spi_i, spi_r)
        return next((ike for ike in self._ike_sas() if (ike.spi_i, ike.spi_r) == spis), None)

    def export(self, ike: IkeFacts) -> Secret:
        """What ``hybrid_cak`` takes. NoIkeSaError where it is gone."""
        return self._endpoint.export_key(
            ike.spi_i, ike.spi_r, label=EXPORT_LABEL, context=b"", length=EXPORT_SIZE
        )

    def want(self, reason: str) -> None:
        """Have the IKE SA set up now, whichever end is to begin."""
        tunnel = self._tunnels.get(self.connection)
        if tunnel is not None and self.established() is None:
            tunnel.feed(OperatorInitiate(reason=reason))

    def _ike_sas(self) -> list[IkeFacts]:
        return [
            ike
            for facts in self._endpoint.views()
            if facts.connection == self.connection
            for ike in facts.ike
            if ike.state in _UP
        ]
