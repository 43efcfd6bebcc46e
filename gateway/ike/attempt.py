"""A Child SA in the making: what IKE_AUTH and CREATE_CHILD_SA have in common.

Both reserve an SPI, derive keys and put the two ESP SAs into the kernel. Whatever goes wrong
before the end, ``abandon`` gives everything back. What both ends agree on is ``negotiation``'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gateway.crypto.secret import Secret
from gateway.ike.child import ChildSa
from gateway.ike.commands import (
    AllocateSpi,
    InstallChild,
    InstallInbound,
    RemoveSas,
)
from gateway.ike.flow import CommandError, DeletedEarlyError, Flow, allocate_spi, carry_out
from gateway.ike.keymat import child_keymat, fresh_sk_d
from gateway.ike.limits import ESP_SPI_SIZE
from gateway.ike.nat import encapsulation
from gateway.ike.negotiation import Traffic, first_child_specs
from gateway.ike.path import update_encap
from gateway.ike.ppk import HeldPpk
from gateway.ike.proposals import Chosen, offers, select
from gateway.ike.sa import IkeSa
from gateway.ike.tunnel import Tunnel
from gateway.model import Direction, EspMode, Mixed, PpkMethod, Role, SaId, SaSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSecrets:
    """What the keys of a Child SA come from besides SK_d."""

    nonces: bytes  # Ni | Nr
    shared: Sequence[Secret] = ()  # of the exchange itself, then of each IKE_FOLLOWUP_KE
    ppk: HeldPpk | None = None


class ChildAttempt:
    """``role``: ours in this exchange. ``replaces``: the child it is to replace."""

    def __init__(
        self, sa: IkeSa, tunnel: Tunnel, role: Role, replaces: ChildSa | None = None
    ) -> None:
        self.sa = sa
        self.tunnel = tunnel
        self.role = role
        self.replaces = replaces
        self.spi_in = 0
        self._reserved = False
        self._early: SaSpec | None = None  # inbound, in the kernel before the peer has answered

    def reserve(self) -> Flow[None]:
        """An inbound SPI. CommandError if there is none."""
        self.spi_in = yield from allocate_spi(
            AllocateSpi(
                token=self.sa.env.desk.token(),
                tunnel=self.tunnel.name,
                source=self.sa.remote[0],
                destination=self.sa.local[0],
            )
        )
        self._reserved = True

    @property
    def spi_octets(self) -> bytes:
        return self.spi_in.to_bytes(ESP_SPI_SIZE, "big")

    def abandon(self) -> None:
        """Give the reservation back. Does nothing once the SAs are in the kernel."""
        if self._reserved:
            self._reserved = False
            self._remove(self._inbound_id)
        self._forget_early()

    def _remove(self, *sa_ids: SaId) -> None:
        self.sa.env.outbox.commands.append(RemoveSas(tunnel=self.tunnel.name, sa_ids=sa_ids))

    @property
    def _inbound_id(self) -> SaId:
        return SaId(self.sa.local[0], self.spi_in)

    def install_early(self, sk_d: Secret) -> Flow[None]:
        """As initiator of IKE_AUTH: be able to receive before the request goes out.

        A responder may send through the new SA as soon as it has answered, and its packets
        overtake the answer. All that its keys come from is known but which of our proposals it
        takes and whether it has the PPK: guessed are our first proposal, or what the running
        child has, and ``sk_d``. Where the answer is another, ``install`` puts another SA in the
        place of this one. CommandError where the kernel refuses.
        """
        specs = first_child_specs(self.tunnel)
        guess = select(offers(specs, self.spi_octets), specs)
        if guess is None:
            raise RuntimeError("we do not take our own proposal")
        secrets = ChildSecrets(nonces=self.sa.nonce_i + self.sa.nonce_r)
        outbound_key, key = self._keys(guess, secrets, sk_d)
        outbound_key.wipe()
        running = self.tunnel.active
        if running is None:
            inbound = self._inbound(key, esn=guess.esn, mode=self.tunnel.config.esp_mode)
        else:
            inbound = self._inbound(key, esn=running.esn, mode=running.esp_mode)
        self._early = replace(inbound, key=Secret(key.expose()))  # the other is wiped by its taker
        self.tunnel.early.append(self._inbound_id)
        yield from carry_out(
            InstallInbound(
                token=self.sa.env.desk.token(), tunnel=self.tunnel.name, inbound=inbound
            ),
            "the kernel did not take the inbound SA",
        )

    def _guessed_wrong(self, inbound: SaSpec) -> bool:
        """Whether there is an inbound SA in the kernel that is not this one."""
        # A peer behind a NAT may have moved: that alone is no other SA.
        return self._early is not None and replace(self._early, encap=inbound.encap) != inbound

    def _forget_early(self) -> None:
        if self._early is not None:
            self._early.key.wipe()
            self._early = None
            self.tunnel.early.remove(self._inbound_id)

    def install(self, chosen: Chosen, traffic: Traffic, secrets: ChildSecrets) -> Flow[ChildSa]:
        """Derive the keys and put both SAs into the kernel.

        CommandError leaves none there; so does DeletedEarlyError, where the peer deletes the child
        before it is there: its Delete may overtake the answer, or find our kernel at work.
        """
        sa = self.sa
        spi_out = int.from_bytes(chosen.spi, "big")
        if spi_out in sa.deleted_early:
            raise DeletedEarlyError
        sending, receiving = self._keys(chosen, secrets, sa.keys.sk_d)
        inbound = self._inbound(receiving, esn=chosen.esn, mode=traffic.mode)
        outbound = self._outbound(chosen, sending, traffic.mode)
        try:
            yield from carry_out(
                InstallChild(
                    token=sa.env.desk.token(),
                    tunnel=self.tunnel.name,
                    inbound=inbound,
                    outbound=outbound,
                    local_networks=traffic.local,
                    remote_networks=traffic.remote,
                    # Inbound, the same key may be put in again with a counter from zero (other
                    # ESN): with it nothing is encrypted here, and of what the peer sends the SA
                    # that goes has accepted no packet that could be replayed to the new one, as
                    # other keys or another ESN fail each packet's integrity check.
                    replaces_inbound=self._guessed_wrong(inbound),
                ),
                "the kernel did not take the SAs",
            )
        except CommandError:  # the outbound SA, if one is there, is not ours
            self.abandon()
            raise
        self._reserved = False
        self._forget_early()
        if spi_out in sa.deleted_early:
            self._remove(outbound.sa_id, inbound.sa_id)
            raise DeletedEarlyError
        child = ChildSa(
            tunnel=self.tunnel,
            owner=sa.owner,
            role=self.role,
            local_address=sa.local[0],
            remote_address=sa.remote[0],
            spi_in=self.spi_in,
            spi_out=spi_out,
            mixed=_mixed(sa, chosen, secrets, rekeyed=self.replaces is not None),
            encryption=chosen.encryption_name,
            esp_mode=traffic.mode,
            esn=chosen.esn,
            local_networks=traffic.local,
            remote_networks=traffic.remote,
            established_at=sa.now,
            peer_port=outbound.encap.destination_port if outbound.encap else None,
            replaces=None if self.replaces is None else self.replaces.spi_in,
        )
        self.tunnel.add(child)
        sa.children.append(child)
        update_encap(sa, child)  # the peer may have moved while the kernel was at work
        return child

    def _keys(self, chosen: Chosen, secrets: ChildSecrets, sk_d: Secret) -> tuple[Secret, Secret]:
        """For what we send, and for what we receive."""
        sa = self.sa
        ppk = None if secrets.ppk is None else secrets.ppk.key
        mixed = fresh_sk_d(sa.prf, sk_d, ppk)
        # RFC 7296 2.17: first the key for what the exchange's initiator sends
        sending, receiving = child_keymat(
            sa.prf, mixed, secrets.nonces, secrets.shared, chosen.key_size
        )
        mixed.wipe()
        return (receiving, sending) if self.role is Role.RESPONDER else (sending, receiving)

    def _inbound(self, key: Secret, *, esn: bool, mode: EspMode) -> SaSpec:
        sa = self.sa
        return SaSpec(
            tunnel=self.tunnel.name,
            direction=Direction.INBOUND,
            spi=self.spi_in,
            source=sa.remote[0],
            destination=sa.local[0],
            reqid=0,
            key=key,
            mode=mode,
            esn=esn,
            encap=encapsulation(sa.nat, sa.local, sa.remote)[0],
        )

    def _outbound(self, chosen: Chosen, key: Secret, mode: EspMode) -> SaSpec:
        sa = self.sa
        return SaSpec(
            tunnel=self.tunnel.name,
            direction=Direction.OUTBOUND,
            spi=int.from_bytes(chosen.spi, "big"),
            source=sa.local[0],
            destination=sa.remote[0],
            reqid=0,
            key=key,
            mode=mode,
            esn=chosen.esn,
            encap=encapsulation(sa.nat, sa.local, sa.remote)[1],
        )


def _mixed(sa: IkeSa, chosen: Chosen, secrets: ChildSecrets, *, rekeyed: bool) -> Mixed:
    # SK_d brings in everything that keyed the IKE SA; fresh exchanges come on top.
    names = dict.fromkeys((*chosen.key_exchanges, *sa.key_exchanges))
    if secrets.ppk is not None:
        return Mixed(
            key_exchanges=tuple(names),
            key_id=secrets.ppk.key_id,
            ppk_method=PpkMethod.CREATE_CHILD,
        )
    first = secrets.nonces == sa.nonce_i + sa.nonce_r  # RFC 7296 2.17
    # Where there is no way to a fresh key, a new child has the one that is in SK_d, as the
    # first has. What replaces a child would have no other key than that one had.
    shared = not first and not rekeyed and sa.shares_ppk
    counts = first or shared
    return Mixed(
        key_exchanges=tuple(names),
        key_id=sa.key_id if counts else None,
        ppk_method=sa.ppk_method if counts else None,
        key_shared=shared,
    )
