"""Many IKE SAs, one clock: the sans-IO face of the IKE core.

Feed it datagrams, answers, wishes and the time; collect datagrams, commands and events
after every call, and call ``handle_timer`` when ``next_deadline`` has come. Times are
monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.crypto.rng import Rng
from gateway.ike import limits
from gateway.ike.commands import Answer, Command
from gateway.ike.config import Connection, PpkMode, Timing
from gateway.ike.events import Event
from gateway.ike.outbox import Address, Datagram
from gateway.ike.views import TunnelFacts
from gateway.model import Ppk, SaId


class Endpoint:
    """All IKE SAs of this gateway."""

    def __init__(
        self,
        *,
        connections: Sequence[Connection],
        rng: Rng,
        timing: Timing | None = None,
        cookie_threshold: int = limits.COOKIE_THRESHOLD,
    ) -> None:
        raise NotImplementedError

    # --- wishes ---------------------------------------------------------------------------

    def set_connections(self, connections: Sequence[Connection], now: float) -> None:
        """New configuration. Unchanged connections keep their SAs; changed or removed ones close."""
        raise NotImplementedError

    def set_ppk_mode(self, name: str, mode: PpkMode, now: float) -> None:
        """What to insist on from now on; running SAs are not touched."""
        raise NotImplementedError

    def initiate(self, name: str, *, ppk: Ppk | None, now: float) -> None:
        """Set up a new IKE SA with a child; on success it replaces the tunnel's older ones.

        Ends in ChildUp or ExchangeFailed("initiate"). ``ppk`` ends in one SettlePpk.
        """
        raise NotImplementedError

    def rekey_child(self, name: str, *, ppk: Ppk | None, now: float) -> None:
        """Replace the tunnel's Child SA, or make one where the IKE SA has none.

        Ends in ChildUp or ExchangeFailed("rekey"). A ``ppk`` for a peer that takes none in
        CREATE_CHILD_SA goes into a new IKE SA instead, made before the old one is closed.
        """
        raise NotImplementedError

    def close(self, name: str, *, reason: str, now: float) -> None:
        """Remove the tunnel's children now and delete its IKE SAs with the peer."""
        raise NotImplementedError

    # --- what the outside reports ---------------------------------------------------------

    def receive_datagram(self, data: bytes, *, local: Address, remote: Address, now: float) -> None:
        """One UDP payload, the non-ESP marker already stripped. Never raises on bad input."""
        raise NotImplementedError

    def answer(self, answer: Answer, now: float) -> None:
        """The outcome of a command."""
        raise NotImplementedError

    def inbound_seen(self, sa_id: SaId, now: float) -> None:
        """The first packet came in on this inbound SA."""
        raise NotImplementedError

    def sa_expired(self, sa_id: SaId, *, hard: bool, now: float) -> None:
        """A kernel lifetime was reached. Soft: nothing here, policy decides. Hard: it is gone."""
        raise NotImplementedError

    # --- the clock ------------------------------------------------------------------------

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        raise NotImplementedError

    def next_deadline(self) -> float | None:
        """When ``handle_timer`` wants to be called next."""
        raise NotImplementedError

    # --- collected by the driver ----------------------------------------------------------

    def take_datagrams(self) -> list[Datagram]:
        raise NotImplementedError

    def take_commands(self) -> list[Command]:
        raise NotImplementedError

    def take_events(self) -> list[Event]:
        raise NotImplementedError

    def views(self) -> tuple[TunnelFacts, ...]:
        """One entry per connection, in the order of the configuration."""
        raise NotImplementedError
