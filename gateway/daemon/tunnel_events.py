"""What the IKE core reports about one tunnel: to its policy, the bulletin and the tally."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import assert_never

from gateway.daemon.bulletin import Bulletin
from gateway.daemon.executor import KernelWork
from gateway.daemon.tally import TunnelTally
from gateway.ike.endpoint import Endpoint
from gateway.ike.events import (
    AuthHintUnmet,
    ChildDown,
    ChildUp,
    DowngradeSuspected,
    DowngradeSuspicionOver,
    Dropped,
    Event,
    ExchangeFailed,
    IkeClosed,
    IkeEstablished,
    IkeRekeyDue,
    IkeRekeyed,
    PeerPortChanged,
    PpkNotUsed,
)
from gateway.ike.registry import NotifyType
from gateway.ike.states import ChildState
from gateway.model import IpNetwork, KeyId, Mixed, Protection, Role, Severity
from gateway.protection.inputs import AttemptFailed, Input, PeerFailed, PeerLost, SaDown, SaUp
from gateway.protection.machine import TunnelProtection

Networks = tuple[IpNetwork, ...]

_FAILED = {
    "initiate": "setting up failed",
    "rekey": "rekeying failed",
    "rekey-ike": "rekeying the IKE SA failed",
    "respond": "what the peer began failed",
}


class TunnelEvents:
    """Turns events of the IKE core into inputs of the tunnel's policy."""

    def __init__(
        self,
        *,
        name: str,
        networks: tuple[Networks, Networks],
        childless: bool,
        protection: TunnelProtection,
        endpoint: Endpoint,
        bulletin: Bulletin,
        kernel: Callable[[KernelWork], None],
        feed: Callable[[Input], None],
        ike_rekey_due: Callable[[IkeRekeyDue], None],
    ) -> None:
        self._name = name
        self._networks = networks  # local and remote, as configured
        self._childless = childless
        self._protection = protection
        self._endpoint = endpoint
        self._bulletin = bulletin
        self._kernel = kernel
        self._feed = feed
        self._ike_rekey_due = ike_rekey_due
        self.tally = TunnelTally()
        self.live: set[int] = set()  # inbound SPIs of Child SAs that are up
        self.live_ikes: set[bytes] = set()  # SPIs of the IKE SAs that are, where they are protected
        self.offered = False  # a QKD key was on offer in the exchange under way

    def inherit(self, old: TunnelEvents) -> None:
        """Go on where the events of a tunnel with the same SAs left off."""
        self.tally = old.tally
        self.live = old.live
        self.live_ikes = old.live_ikes
        self.offered = old.offered

    def take(self, event: Event) -> None:
        """Something happened in the IKE core."""
        match event:
            case ChildUp():
                self._child_up(event)
            case ChildDown():
                self._child_down(event)
            case IkeEstablished():
                self._ike_established(event)
            case IkeRekeyed():
                self._ike_rekeyed(event)
            case IkeRekeyDue():
                self._ike_rekey_due(event)
            case IkeClosed():
                self._bulletin.publish(
                    "ike-closed",
                    f"IKE SA closed: {event.reason}",
                    tunnel=self._name,
                    level=logging.DEBUG if self._without_sa else logging.INFO,
                )
                self._ike_closed(event)
            case ExchangeFailed():
                self._exchange_failed(event)
            case AuthHintUnmet(reason=reason):
                self._bulletin.publish(
                    "auth-hint-unmet", reason, tunnel=self._name, level=logging.WARNING
                )
            case DowngradeSuspected(missing=missing):
                self._bulletin.raise_alarm(
                    "downgrade-suspected",
                    Severity.WARNING,
                    self._name,
                    "an attempt to set up failed, and the peer, or somebody on the way, had left "
                    f"out: {', '.join(missing)}",
                )
            case DowngradeSuspicionOver():
                self._bulletin.clear_alarm("downgrade-suspected", self._name)
            case PeerPortChanged(port=port):
                self._bulletin.publish(
                    "peer-port-changed",
                    f"the peer's NAT has moved it to UDP port {port}",
                    tunnel=self._name,
                    port=port,
                )
            case PpkNotUsed():
                self.offered = True
                self._bulletin.publish(
                    "ppk-not-used", event.reason, tunnel=self._name, level=logging.WARNING
                )
            case Dropped():
                pass  # counted by the gateway
            case _:
                assert_never(event)

    def _ike_established(self, event: IkeEstablished) -> None:
        self._bulletin.publish(
            "ike-established",
            f"IKE SA with {event.remote[0]} established, {event.proposal}; "
            f"peer: {event.remote_proof}, we: {event.local_proof}",
            tunnel=self._name,
            role=event.role.value,
            local_proof=event.local_proof,
            remote_proof=event.remote_proof,
            key_id=event.key_id,
        )
        if self._childless:
            self._ike_up(event)

    def _ike_rekeyed(self, event: IkeRekeyed) -> None:
        self.tally.ike_rekeys += 1
        qkd = " + QKD" if event.key_id else ""
        self._bulletin.publish(
            "ike-rekeyed",
            f"IKE SA with {event.remote[0]} rekeyed, {event.proposal}{qkd}",
            tunnel=self._name,
            role=event.role.value,
            key_id=event.key_id,
        )
        if self._childless:
            self.live_ikes.discard(event.old_spi_i + event.old_spi_r)
            self.tally.rekeyed(_protection_of(event))
            self._ike_up(event)

    def _ike_up(self, event: IkeEstablished | IkeRekeyed) -> None:
        """Of a connection without tunnels: this is what policy wants to know of."""
        self.live_ikes.add(event.spi_i + event.spi_r)
        self._sa_up(_protection_of(event), event.key_id, event.role)

    def _ike_closed(self, event: IkeClosed) -> None:
        self.live_ikes.discard(event.spi_i + event.spi_r)
        if self._childless and not self.live_ikes:
            self._feed(SaDown(reason=event.reason, ended=event.ended))
        elif event.peer_lost and not self.live:  # else another IKE SA carries on
            self._feed(PeerLost(reason=event.reason))

    def _child_up(self, event: ChildUp) -> None:
        mixed = event.mixed
        self.live.add(event.spi_in)
        if event.replaces is not None:
            self.tally.rekeyed(mixed.protection)
        self._bulletin.publish(
            "child-up",
            f"{mixed.protection} SA {event.spi_in:08x}/{event.spi_out:08x} carries traffic "
            f"({' + '.join(mixed.key_exchanges)}{' + QKD' if mixed.key_id else ''})",
            tunnel=self._name,
            protection=mixed.protection.value,
            spi_in=f"{event.spi_in:08x}",
            spi_out=f"{event.spi_out:08x}",
            key_id=mixed.key_id,
            rekey=event.replaces is not None,
            role=event.role.value,
        )
        self._note_narrowing(event)
        self._sa_up(mixed.protection, mixed.key_id, event.role)

    def _sa_up(self, protection: Protection, key_id: KeyId | None, role: Role) -> None:
        offered = self.offered or key_id is not None
        self.offered = False
        self._feed(
            SaUp(
                protection=protection,
                keyed=key_id is not None,
                offered_ppk=offered,
                initiated=role is Role.INITIATOR,
            )
        )

    def _note_narrowing(self, event: ChildUp) -> None:
        """Say so where the peer agreed to less than our subnets (RFC 7296 2.9)."""
        local, remote = self._networks
        if set(local) == set(event.local_networks) and set(remote) == set(event.remote_networks):
            self._bulletin.clear_alarm("subnets-narrowed", self._name)
            return
        carried = f"{_text(event.local_networks)} -> {_text(event.remote_networks)}"
        self._bulletin.raise_alarm(
            "subnets-narrowed",
            Severity.WARNING,
            self._name,
            f"the two ends have different subnets: {carried} is all that is carried, "
            f"not {_text(local)} -> {_text(remote)}",
        )

    def _child_down(self, event: ChildDown) -> None:
        self.live.discard(event.spi_in)
        self._bulletin.publish(
            "child-down",
            f"SA {event.spi_in:08x}/{event.spi_out:08x}: {event.reason}",
            tunnel=self._name,
            rekeyed=event.rekeyed,
        )
        if not self.live and self._is_taken_over():
            self._kernel(partial(self._down_unless_moved, event))
        elif not self.live:
            self._feed(SaDown(reason=event.reason, ended=event.ended))

    def _is_taken_over(self) -> bool:
        """Whether a new SA is in the kernel, and our traffic about to be moved to it."""
        children = self._endpoint.children(self._name)
        return any(child.state == ChildState.INSTALLED for child in children)

    async def _down_unless_moved(self, event: ChildDown) -> None:
        """Kernel work: it is the turn of this once the traffic was moved, or could not be."""
        if not self.live:
            self._feed(SaDown(reason=event.reason, ended=event.ended))

    def _exchange_failed(self, event: ExchangeFailed) -> None:
        if not event.yielded:
            self.tally.failed(event.reason)
        self._bulletin.publish(
            "exchange-failed",
            f"{_FAILED.get(event.what, event.what)}: {event.reason}",
            tunnel=self._name,
            level=logging.DEBUG if self._without_sa or event.yielded else logging.WARNING,
            notify=event.notify,
            from_peer=event.from_peer,
        )
        if event.what == "respond":
            self._feed(PeerFailed(reason=event.reason))
        rekey = "rekey-ike" if self._childless else "rekey"
        if event.what in ("initiate", rekey):
            self.offered = False
            self._feed(
                AttemptFailed(
                    reason=event.reason,
                    ppk_missing=event.ppk_missing,
                    rekey=event.what == rekey,
                    auth_failed=event.notify == NotifyType.AUTHENTICATION_FAILED.name,
                )
            )

    @property
    def _without_sa(self) -> bool:
        """There is an alarm that says why, or will be: the log needs no second line."""
        return self._protection.protection in (Protection.DOWN, Protection.BLOCKED)


def _protection_of(event: IkeEstablished | IkeRekeyed) -> Protection:
    """What the secrets mixed into this IKE SA amount to."""
    return Mixed(key_exchanges=event.key_exchanges, key_id=event.key_id, ppk_method=None).protection


def _text(networks: Networks) -> str:
    return ", ".join(str(network) for network in networks)
