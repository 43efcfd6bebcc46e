"""The SAs of one SecY: at most two SAKs installed, one of them transmitting (12.4).

A SAK belongs to this object once it was offered, and is wiped when its SAs are deleted.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from gateway.mka.commands import (
    Answer,
    Command,
    DeleteReceiveSc,
    DeleteSas,
    Done,
    EnableTransmitSa,
    InstallReceiveSa,
    InstallSas,
    RaiseLowestPn,
    ReceiveSa,
    SetPort,
    Token,
    TransmitSa,
)
from gateway.mka.events import Event, PortChanged, SakFailed, SakInUse, SakRetired
from gateway.mka.identifiers import Sci
from gateway.mka.limits import COMMAND_TIMEOUT, RETIRE_DELAY, RETIRE_HURRIED, TRANSMIT_DELAY
from gateway.mka.outbox import Outbox
from gateway.mka.peers import Peer
from gateway.mka.sak import Sak
from gateway.mka.sets import KeyUse, SakUse
from gateway.mka.settings import InheritedSas, PortSettings
from gateway.mka.states import TABLE, Action, State, Trigger
from gateway.model import PortSecurity, PortState


class ControlledPort:
    """CP state machine and the SecY behind it."""

    def __init__(
        self, settings: PortSettings, outbox: Outbox, inherited: InheritedSas | None = None
    ) -> None:
        self._settings = settings
        self._outbox = outbox
        self._tokens = 0
        self._pending: tuple[Token, float] | None = None  # the command that is waited for
        self._receivers: tuple[Peer, ...] = ()
        self._channels: set[Sci] = set()  # receive SCs there are
        self._transmit_when = self._retire_when = 0.0
        self._in_use_at = 0.0
        self._hurry = False  # another SAK is to follow soon
        self._failed_at: float | None = None
        self.state = State.CHANGE
        self.latest: Sak | None = None  # on its way in
        self.old: Sak | None = None  # before it, or the one at rest
        self.held: Sak | None = None  # offered while there was no room
        self.last_an: int | None = None
        self.port = self._closed
        self.announce = False  # taken by the port: an MKPDU is due
        reason = "no SAK yet"
        if inherited is not None:  # at rest; nobody is given this SAK, which is not known
            self.old = Sak.inherit(inherited)
            self.last_an = inherited.an
            self._channels.update(inherited.receive)
            self.state, self.port = State.RETIRE, PortState.SECURED
            reason = "SAs from before the restart are in use"
        self._emit(SetPort(state=self.port))
        self._tell(PortChanged(state=self.port, reason=reason))

    # --- what there is -----------------------------------------------------------------------

    @property
    def newest(self) -> Sak | None:
        """The last one offered and not given up."""
        return self.held or self.latest or self.old

    @property
    def in_use(self) -> Sak | None:
        """The one frames leave under."""
        return self.latest if self.state is State.TRANSMITTING else self.old

    @property
    def at_rest(self) -> bool:
        return self.state in (State.CHANGE, State.RETIRE)

    @property
    def failed_at(self) -> float | None:
        """When the SecY last refused a SAK, if none was offered since."""
        return self._failed_at

    def saks(self) -> list[Sak]:
        return [sak for sak in (self.held, self.latest, self.old) if sak is not None]

    def sak_use(self) -> SakUse | None:
        """What an MKPDU says of it (9.10.1); None where there is nothing to say."""
        latest = old = None
        if self.latest is not None:
            transmits = self.state is State.TRANSMITTING
            receives = self.state is not State.RECEIVE
            latest = _use(self.latest, transmits=transmits, receives=receives)
        if self.old is not None:
            transmits = self.state is not State.TRANSMITTING
            old = _use(self.old, transmits=transmits, receives=True)
        clear = self.port is PortState.CLEAR
        if latest is None and old is None and not clear:
            return None
        return SakUse(
            latest=latest,
            old=old,
            plain_transmit=clear,
            plain_receive=clear,
            delay_protect=self._settings.delay_protect,
        )

    # --- what happens ------------------------------------------------------------------------

    def offer(self, sak: Sak, receivers: Iterable[Peer], now: float) -> None:
        """A new SAK: made by us as key server, or distributed to us."""
        self._receivers = tuple(receivers)
        self._failed_at = None
        if self.held is not None:
            self._discard(self.held)
        self.held = sak
        self._run(Trigger.NEW_SAK, "", now)

    def answer(self, answer: Answer, now: float) -> None:
        """Passed over where that command is not waited for any more."""
        if self._pending is None or self._pending[0] != answer.token:
            return
        self._pending = None
        if isinstance(answer, Done):
            done = Trigger.INSTALLED if self.state is State.RECEIVE else Trigger.ENABLED
            self._run(done, "", now)
        else:
            self._fail(answer.reason, now)

    def lose(self, reason: str, now: float) -> None:
        """Nobody to talk to, or not to be protected: all SAs go."""
        self._run(Trigger.LOST, reason, now)

    def judge(
        self,
        *,
        key_server: bool,
        peers: Iterable[Peer],
        server_transmits: bool,
        hurry: bool,
        now: float,
    ) -> None:
        """Go on where time or the members allow it.

        ``peers``: the live ones of the principal. ``server_transmits``: the key server does so
        under the latest SAK. ``hurry``: there will be another one soon.
        """
        self._receivers = tuple(peers)
        self._hurry = hurry
        if self._pending is not None and self._pending[1] <= now:
            self._pending = None
            self._fail("no answer from the SecY", now)
        if self.state is State.RECEIVING and self.latest is not None:
            ki = self.latest.ki
            if key_server:
                # 12.4: all receive, or they were waited for long enough
                allowed = all(peer.receives(ki) for peer in self._receivers)
                allowed = allowed or self._transmit_when <= now
            else:
                allowed = server_transmits
            if allowed:
                self._run(Trigger.MAY_TRANSMIT, "", now)
        if self.state is State.TRANSMITTING and self._retire_due() <= now:
            self._run(Trigger.RETIRE_DUE, "", now)
            if self.held is not None:
                self._run(Trigger.NEW_SAK, "", now)

    def next_deadline(self, *, key_server: bool) -> float | None:
        times = [self._pending[1]] if self._pending is not None else []
        if self.state is State.RECEIVING and key_server:
            times.append(self._transmit_when)
        if self.state is State.TRANSMITTING:
            times.append(self._retire_due())
        return min(times, default=None)

    def _retire_due(self) -> float:
        """12.4: retireWhen; sooner where another SAK waits and no frame under the old can follow.

        Who shows that it transmits under the latest has sent its last frame under the old one.
        """
        latest = self.latest
        if latest is None or not (self._hurry or self.held is not None):
            return self._retire_when
        moved = all(peer.transmits(latest.ki) for peer in self._receivers)
        return (
            min(self._retire_when, self._in_use_at + RETIRE_HURRIED) if moved else self._retire_when
        )

    def transmit_pn(self, an: int, next_pn: int, now: float) -> None:
        """What the SecY says of its transmit SA."""
        for sak in (self.latest, self.old):
            if sak is not None and sak.an == an:
                announce = sak.report_pn(next_pn, self._settings.hello_time, now)
                self.announce = self.announce or announce

    # --- members -----------------------------------------------------------------------------

    def member_seen(self, peer: Peer) -> None:
        """Receive from it where it has part in a SAK that is installed; 9.10 delay protection."""
        for sak in (self.latest, self.old):
            if sak is None:
                continue
            lowest = sak.receivers.get(peer.sci)
            if lowest is None:
                receive = sak.receive_sa(peer)
                if receive is not None:
                    self._receive(sak, receive)
                    self._emit(InstallReceiveSa(key=sak.sa_key(), receive=receive))
            elif self._delay_protected(peer) and peer.lowest_pn(sak.ki) > lowest:
                sak.receivers[peer.sci] = peer.lowest_pn(sak.ki)
                self._emit(
                    RaiseLowestPn(sci=peer.sci, an=sak.an, lowest_pn=sak.receivers[peer.sci])
                )

    def member_gone(self, sci: Sci) -> None:
        if sci in self._channels:
            self._channels.discard(sci)
            self._emit(DeleteReceiveSc(sci=sci))
        for sak in self.saks():
            sak.receivers.pop(sci, None)

    def _delay_protected(self, peer: Peer) -> bool:
        use = peer.sak_use
        return self._settings.delay_protect and use is not None and use.delay_protect

    def _receive(self, sak: Sak, receive: ReceiveSa) -> None:
        sak.receivers[receive.sci] = receive.lowest_pn
        self._channels.add(receive.sci)

    # --- running the table -------------------------------------------------------------------

    def _run(self, trigger: Trigger, reason: str, now: float) -> None:
        row = TABLE[self.state, trigger]
        self.state = row.state
        for action in row.actions:
            self._act(action, reason, now)

    def _act(self, action: Action, reason: str, now: float) -> None:
        match action:
            case Action.INSTALL:
                self._install(now)
            case Action.ENABLE:
                assert self.latest is not None
                self._emit(EnableTransmitSa(token=self._await(now), an=self.latest.an))
            case Action.IN_USE:
                self._use(now)
            case Action.FALL_BACK:
                assert self.old is not None
                self._emit(EnableTransmitSa(token=self._await(now), an=self.old.an))
            case Action.ABANDON:
                self._pending = None  # no answer is waited for
                self._delete(self.latest)
                self.latest = None
            case Action.RETIRE:
                self._delete(self.old)
                self.old, self.latest = self.latest, None
            case Action.HOLD:
                pass  # ``offer`` has put it there
            case Action.ANNOUNCE:
                self.announce = True
            case Action.CLEAR:
                self._clear(reason)
            case _:
                assert_never(action)

    def _install(self, now: float) -> None:
        sak, self.held = self.held, None
        assert sak is not None
        if self.old is not None and self.old.an == sak.an:
            # A key server that does not know what we have gave out an AN that is taken. There
            # is one SA for an AN (802.1AE 9.6), so traffic stops until the new one is in use.
            self._delete(self.old)
            self.old = None
        self.latest = sak
        self.last_an = sak.an
        self._transmit_when = now + TRANSMIT_DELAY
        receive: dict[Sci, ReceiveSa] = {}
        for peer in sorted(self._receivers, key=lambda peer: peer.live):
            found = sak.receive_sa(peer)
            if found is not None:  # of two with one SCI the live one
                receive[peer.sci] = found
        for item in receive.values():
            self._receive(sak, item)
        self._emit(
            InstallSas(
                token=self._await(now),
                key=sak.sa_key(),
                transmit=TransmitSa(sci=self._settings.sci, ssci=sak.own_ssci),
                receive=tuple(receive.values()),
            )
        )

    def _use(self, now: float) -> None:
        sak = self.latest
        assert sak is not None
        self._in_use_at = now
        self._retire_when = now if self.old is None else now + RETIRE_DELAY
        self._tell(
            SakInUse(
                ckn=sak.ckn,
                ki=sak.ki,
                an=sak.an,
                suite=sak.suite,
                confidentiality=sak.confidentiality,
            )
        )
        self._set_port(PortState.SECURED, "a SAK is in use")

    def _fail(self, reason: str, now: float) -> None:
        if self.latest is not None:
            self._tell(SakFailed(ckn=self.latest.ckn, ki=self.latest.ki, reason=reason))
        self._failed_at = now
        alone = self.old is None
        self._run(Trigger.FAILED_ALONE if alone else Trigger.FAILED_BESIDE, reason, now)
        if alone:
            self._set_port(self._closed, reason)
        if self.held is not None:
            self._run(Trigger.NEW_SAK, "", now)

    def _clear(self, reason: str) -> None:
        self._pending = None
        self._set_port(self._closed, reason)
        if self.held is not None:
            self._discard(self.held)
        self._delete(self.latest)
        self._delete(self.old)
        self.held = self.latest = self.old = None
        for sci in sorted(self._channels):
            self._emit(DeleteReceiveSc(sci=sci))
        self._channels.clear()

    def _delete(self, sak: Sak | None) -> None:
        if sak is not None:
            self._emit(DeleteSas(an=sak.an))
            self._discard(sak)

    def _discard(self, sak: Sak) -> None:
        self._tell(SakRetired(ckn=sak.ckn, ki=sak.ki))
        sak.wipe()

    # --- helpers -----------------------------------------------------------------------------

    @property
    def _closed(self) -> PortState:
        must = self._settings.security is PortSecurity.MUST_SECURE
        return PortState.BLOCKED if must else PortState.CLEAR

    def _set_port(self, state: PortState, reason: str) -> None:
        if state is not self.port:
            self.port = state
            self._emit(SetPort(state=state))
            self._tell(PortChanged(state=state, reason=reason))

    def _await(self, now: float) -> Token:
        self._tokens += 1
        self._pending = (Token(self._tokens), now + COMMAND_TIMEOUT)
        return self._pending[0]

    def _emit(self, command: Command) -> None:
        self._outbox.commands.append(command)

    def _tell(self, event: Event) -> None:
        self._outbox.events.append(event)


def _use(sak: Sak, *, transmits: bool, receives: bool) -> KeyUse:
    return KeyUse(
        ki=sak.ki,
        an=sak.an,
        transmits=transmits,
        receives=receives,
        lowest_pn=sak.advertised_pn & 0xFFFF_FFFF,
    )
