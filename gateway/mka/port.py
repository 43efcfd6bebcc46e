"""One interface: its CAKs, its SecY, one clock. The sans-IO face of the MKA core.

Feed it frames, answers, wishes and the time; collect frames, commands and events after every
call, and call ``handle_timer`` when ``next_deadline`` has come. Times are monotonic seconds.
"""

from __future__ import annotations

from gateway.crypto.rng import Rng
from gateway.mka import limits
from gateway.mka.commands import Answer, Command
from gateway.mka.controlled_port import ControlledPort
from gateway.mka.errors import DropReason, MkpduError
from gateway.mka.events import (
    CakRetired,
    Dropped,
    Event,
    NoSakPossible,
    PrincipalChanged,
    SakMade,
)
from gateway.mka.identifiers import KeyIdentifier
from gateway.mka.key_server import Need, agreed_confidentiality, need_of
from gateway.mka.keys import Cak
from gateway.mka.mkpdu import Envelope, Mkpdu, parse_frame
from gateway.mka.obstacle import Obstacle, obstacle_of
from gateway.mka.outbox import Outbox
from gateway.mka.participant import Participant, Saying
from gateway.mka.peers import Peer
from gateway.mka.principal import choose, least_needed, may_follow, outlived
from gateway.mka.registry import Confidentiality
from gateway.mka.sak import Sak, free_an
from gateway.mka.sets import DistributedSak, ParameterSet, Xpn
from gateway.mka.settings import InheritedSas, PortSettings
from gateway.mka.states import State
from gateway.mka.views import PortFacts, participant_facts, sak_facts
from gateway.model import PortSecurity

_STEPS_MAX = 8  # a rollover takes three steps at one moment; more is a fault


class Port:
    """A port access entity with its MKA participants (clause 12)."""

    def __init__(
        self, settings: PortSettings, *, rng: Rng, inherited: InheritedSas | None = None
    ) -> None:
        """Nothing is sent before there is a CAK; the port is closed from the first command on.

        ``inherited``: after a restart the SecY has SAs, and traffic is to go on. They stay until a
        SAK takes their place, or the first CAK finds no peer for a while. The packet numbers of
        the transmit SA go on where they are; it is never installed again.
        """
        self._settings = settings
        self._rng = rng
        self._outbox = Outbox()
        self._cp = ControlledPort(settings, self._outbox, inherited)
        self._participants: dict[bytes, Participant] = {}  # by CKN, in the order they came
        self._principal: Participant | None = None
        self._requested: str | None = None
        self._obstacle = Obstacle()
        self._inherits = inherited is not None
        self._inherited_until: float | None = None  # while there is nobody to make another SAK

    # --- wishes --------------------------------------------------------------------------------

    def add_cak(self, cak: Cak, now: float) -> None:
        """Speak under this CAK too; it becomes principal when everybody has it (see principal).

        The CAK is ours from here on. Where there are too many, the oldest that nothing depends on
        goes. ValueError for a CKN that is there.
        """
        if cak.ckn in self._participants:
            raise ValueError(f"CKN {cak.ckn.hex()} is there already")
        if len(self._participants) >= limits.PARTICIPANTS_MAX:
            spare = least_needed(self._principal, self._participants.values(), self._cp.saks())
            self._remove(spare, "newer CAKs came before it was used")
        if self._inherits:
            self._inherits = False
            self._inherited_until = now + limits.INHERITED_GRACE
        self._participants[cak.ckn] = Participant(cak, self._settings, self._rng, self._outbox, now)
        self._settle(now)

    def remove_cak(self, ckn: bytes, reason: str, now: float) -> None:
        """Stop speaking under it at once; SAKs made under it stay only if another CAK has peers."""
        participant = self._participants.get(ckn)
        if participant is not None:
            self._remove(participant, reason)
            self._settle(now)

    def request_sak(self, reason: str, now: float) -> None:
        """A new SAK, where we are key server; elsewhere nothing."""
        principal = self._principal
        if principal is not None and principal.is_key_server:
            self._requested = reason
            self._settle(now)

    def prove_life(self, now: float) -> None:
        """Speak under each CAK, due or not: before a restart, so that it has a whole Life Time."""
        for participant in self._participants.values():
            participant.send_soon(now)
        self._settle(now)

    def close(self, reason: str, now: float) -> None:
        """All CAKs go, all SAs are deleted."""
        self._inherits, self._inherited_until = False, None
        for participant in tuple(self._participants.values()):
            self._remove(participant, reason)
        self._settle(now)

    # --- what the outside reports --------------------------------------------------------------

    def receive_frame(self, frame: bytes, now: float) -> None:
        """One frame of Ethertype 0x888e, from its destination address on. Never raises."""
        try:
            self._hear(parse_frame(frame), now)
        except MkpduError as error:
            source = frame[limits.MAC_SIZE : 2 * limits.MAC_SIZE]
            dropped = Dropped(reason=error.reason, text=str(error), source=source)
            self._outbox.events.append(dropped)
        self._settle(now)

    def answer(self, answer: Answer, now: float) -> None:
        """The outcome of a command."""
        tried, state = self._cp.latest, self._cp.state
        self._cp.answer(answer, now)
        self._after_failure(tried, state)
        self._settle(now)

    def transmit_pn(self, an: int, next_pn: int, now: float) -> None:
        """The next packet number of our transmit SA. To be told each Hello Time, more or less."""
        self._cp.transmit_pn(an, next_pn, now)
        self._settle(now)

    # --- the clock -----------------------------------------------------------------------------

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        tried, state = self._cp.latest, self._cp.state
        self._settle(now)
        self._after_failure(tried, state)

    def next_deadline(self) -> float | None:
        """When ``handle_timer`` wants to be called next."""
        times = [participant.next_deadline() for participant in self._participants.values()]
        times += [
            time
            for time in (self._inherited_until, self._obstacle.next_deadline())
            if time is not None
        ]
        principal = self._principal
        if principal is not None:
            deadline = self._cp.next_deadline(key_server=principal.is_key_server)
            times += [deadline] if deadline is not None else []
            need = self._need(principal)
            # One that waits for the rollover under way is looked at again when that is over.
            times += [need.at] if need is not None and self._room_for(need) else []
        return min(times, default=None)

    # --- collected by the driver ---------------------------------------------------------------

    def take_frames(self) -> list[bytes]:
        taken, self._outbox.frames = self._outbox.frames, []
        return taken

    def take_commands(self) -> list[Command]:
        taken, self._outbox.commands = self._outbox.commands, []
        return taken

    def take_events(self) -> list[Event]:
        taken, self._outbox.events = self._outbox.events, []
        return taken

    def view(self) -> PortFacts:
        return PortFacts(
            interface=self._settings.interface,
            port=self._cp.port,
            rollover=self._cp.state,
            participants=tuple(
                participant_facts(item, self._settings.sci, principal=item is self._principal)
                for item in self._participants.values()
            ),
            saks=tuple(
                sak_facts(sak, transmits=sak is self._cp.in_use)
                for sak in (self._cp.latest, self._cp.old)
                if sak is not None
            ),
        )

    # --- hearing -------------------------------------------------------------------------------

    def _hear(self, envelope: Envelope, now: float) -> None:
        ckn = envelope.basic.ckn
        participant = self._participants.get(ckn)
        if participant is None:
            raise MkpduError(DropReason.UNKNOWN_CKN, f"CKN {ckn.hex()} is not ours")
        mkpdu, peer, gone = participant.receive(envelope, now)
        for other in gone:
            self._forget(participant, other)
        self._judge(now)  # what it says of the SAK before comes first
        if participant.server is peer:
            self._take_distributed(participant, mkpdu, peer, now)
        if participant is self._principal:
            self._cp.member_seen(peer)
            newest = self._cp.newest
            ours = newest is not None and newest.ki.mi == participant.mi
            if newest is not None and ours and peer.live and peer.receives(newest.ki):
                newest.received_by.add(peer.mi)

    def _take_distributed(
        self, participant: Participant, mkpdu: Mkpdu, server: Peer, now: float
    ) -> None:
        distributed = mkpdu.distributed_sak
        self._choose_principal(now)
        if not may_follow(participant, self._principal, self._participants.values()):
            return
        if server.declines or not server.secures:  # 9.6: there is to be no MACsec
            if participant is self._principal:
                self._cp.lose("the key server wants no MACsec", now)
            return
        if distributed is None or not self._settings.secures:
            return
        ki = KeyIdentifier(server.mi, distributed.kn)
        if any(sak.ki == ki for sak in self._cp.saks()):
            return
        if participant.missed(distributed, server):
            participant.renew("the SAK it is given cannot be taken", now)
            return
        sak = participant.take_sak(distributed, server)
        if sak is not None:
            self._make_principal(participant, now)
            self._cp.offer(sak, participant.peers.all(), now)

    def _after_failure(self, tried: Sak | None, state: State) -> None:
        """A SAK that the SecY did not take, and nothing was sent under: it may be offered again."""
        failed = tried is not None and tried is not self._cp.latest and tried is not self._cp.old
        if failed and tried is not None and state is State.RECEIVE:
            participant = self._participants.get(tried.ckn)
            if participant is not None and self._cp.failed_at is not None:
                participant.may_take_again(tried.ki)

    # --- settling ------------------------------------------------------------------------------

    def _settle(self, now: float) -> None:
        """Everything that follows from what is so now."""
        for participant in self._participants.values():
            if participant.used_up:
                participant.renew("its numbers are used up", now)
            for peer in participant.expire(now):
                self._forget(participant, peer)
        for _ in range(_STEPS_MAX):
            before = (self._cp.state, self._cp.newest)
            self._choose_principal(now)
            self._judge(now)
            self._serve(now)
            if before == (self._cp.state, self._cp.newest):
                break
        self._retire_caks()
        self._tell_obstacle(now)
        self._send(now)

    def _forget(self, participant: Participant, gone: Peer) -> None:
        for sak in self._cp.saks():
            if sak.ki.mi == participant.mi:
                sak.member_left(gone.mi)
        if participant is self._principal and all(
            peer.sci != gone.sci for peer in participant.peers.all()
        ):
            self._cp.member_gone(gone.sci)

    def _choose_principal(self, now: float) -> None:
        moving = self._cp.state in (State.TRANSMIT, State.TRANSMITTING)
        chosen = choose(self._principal, self._participants.values(), at_rest=not moving)
        if chosen is not None:
            self._inherited_until = None
            self._make_principal(chosen, now)
            return
        if self._principal is not None:
            self._principal = None
            self._outbox.events.append(PrincipalChanged(ckn=None))
        until = self._inherited_until
        waits = self._inherits or (until is not None and now < until)
        if self._cp.newest is not None and not waits:
            # 9.14, 12.4: without a live peer the SAs go. Whoever comes back needs another SAK, so
            # it is as another member that we meet him.
            ckns = {sak.ckn for sak in self._cp.saks()}
            self._inherited_until = None
            self._cp.lose("no live peer", now)
            for participant in self._participants.values():
                if participant.ckn in ckns:
                    participant.renew("its SAK was given up", now)

    def _make_principal(self, participant: Participant, now: float) -> None:
        if participant is not self._principal:
            self._principal = participant
            self._requested = None
            self._outbox.events.append(PrincipalChanged(ckn=participant.ckn))
            participant.send_soon(now)

    def _judge(self, now: float) -> None:
        principal = self._principal
        if principal is None:
            return
        following = choose(principal, self._participants.values(), at_rest=True)
        self._cp.judge(
            key_server=principal.is_key_server,
            peers=principal.peers.securing,
            server_transmits=self._server_transmits(principal),
            hurry=following is not principal,
            now=now,
        )

    def _server_transmits(self, principal: Participant) -> bool:
        """Under whichever CAK it says so: it may have moved on to another already."""
        latest, server = self._cp.latest, principal.server
        if latest is None or server is None:
            return False
        return any(
            peer.transmits(latest.ki)
            for participant in self._participants.values()
            for peer in participant.peers.live
            if peer.sci == server.sci
        )

    def _serve(self, now: float) -> None:
        """As key server: make a SAK where one is needed."""
        principal = self._principal
        if principal is None:
            return
        if principal.is_key_server and self._agreed(principal) is None:
            self._cp.lose("no member wants MACsec", now)
        need = self._need(principal)
        if need is None or need.at > now or not self._room_for(need):
            return
        confidentiality = self._agreed(principal)
        an = free_an(self._cp.last_an, self._taken_ans(principal))
        if confidentiality is None or an is None:
            return
        self._requested = None
        sak = principal.make_sak(an, confidentiality, now)
        event = SakMade(ckn=sak.ckn, ki=sak.ki, an=sak.an, reason=need.reason)
        self._outbox.events.append(event)
        self._cp.offer(sak, principal.peers.all(), now)
        principal.send_soon(now)

    def _need(self, principal: Participant) -> Need | None:
        if not principal.is_key_server or self._agreed(principal) is None:
            return None
        return need_of(
            principal,
            self._cp.newest,
            self._settings,
            requested=self._requested,
            failed_at=self._cp.failed_at,
        )

    def _agreed(self, principal: Participant) -> Confidentiality | None:
        return agreed_confidentiality(self._settings, principal.peers.live)

    def _room_for(self, need: Need) -> bool:
        if self._cp.at_rest:
            return True
        return need.urgent and self._cp.state in (State.RECEIVE, State.RECEIVING)

    def _taken_ans(self, principal: Participant) -> set[int]:
        """Ours, and those members say they have: we may have been restarted, they not."""
        own = {sak.an for sak in self._cp.saks()}
        theirs = {key.an for peer in principal.peers.live for key in peer.key_uses()}
        return own | theirs if len(own | theirs) < limits.ASSOCIATION_NUMBERS else own

    def _retire_caks(self) -> None:
        """A CAK rollover is over when no SAK of an older CAK is left."""
        if self._principal is None or self._cp.state is not State.RETIRE:
            return
        for participant in outlived(self._principal, self._participants.values(), self._cp.saks()):
            self._remove(participant, "another CAK took its place")

    def _remove(self, participant: Participant, reason: str) -> None:
        del self._participants[participant.ckn]
        participant.wipe()
        self._outbox.events.append(CakRetired(ckn=participant.ckn, reason=reason))
        if participant is self._principal:
            self._principal = None

    def _tell_obstacle(self, now: float) -> None:
        principal = self._principal
        waits = principal is not None and self._cp.newest is None
        found = obstacle_of(principal, self._settings) if principal is not None and waits else None
        reason = self._obstacle.judge(found, now)
        if principal is not None and reason is not None:
            self._outbox.events.append(NoSakPossible(ckn=principal.ckn, reason=reason))

    # --- sending -------------------------------------------------------------------------------

    def _send(self, now: float) -> None:
        if self._cp.announce:
            self._cp.announce = False
            if self._principal is not None:
                self._principal.send_soon(now)
        for participant in self._participants.values():
            if participant.send_due(now):
                mine = participant is self._principal
                participant.send(self._saying(participant) if mine else Saying(), now)

    def _saying(self, principal: Participant) -> Saying:
        sets: list[ParameterSet] = []
        use = self._cp.sak_use()
        if use is not None:
            sets.append(use)
        distributed, order = self._distribution(principal)
        if distributed is not None:
            sets.append(distributed)
        latest, old = self._cp.latest, self._cp.old
        if any(sak.suite.xpn for sak in self._cp.saks()):
            sets.append(Xpn(latest_high=_high(latest), old_high=_high(old)))
        return Saying(sets=tuple(sets), ssci_order=order)

    def _distribution(self, principal: Participant) -> tuple[DistributedSak | None, Sak | None]:
        """The SAK, for as long as a member does not have it (9.8.2)."""
        live = principal.peers.securing
        if not principal.is_key_server:
            return None, None
        if self._agreed(principal) is None:
            clear = self._settings.security is PortSecurity.SHOULD_SECURE
            return (DistributedSak() if clear else None), None
        sak = self._cp.newest
        if sak is None or sak is self._cp.held or sak.ki.mi != principal.mi:
            return None, None
        # Whoever joined after it was made waits for the next one: an earlier incarnation of the
        # same station may have used this one, and would use its packet numbers again.
        if any(peer.mi not in sak.members for peer in live):
            return None, None
        lacking = [peer for peer in live if not peer.receives(sak.ki)]
        if not lacking or any(peer.mi in sak.received_by for peer in lacking):
            return None, None
        return principal.distribute(sak), sak


def _high(sak: Sak | None) -> int:
    return 0 if sak is None else sak.advertised_pn >> 32
