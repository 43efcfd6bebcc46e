"""A port under attack, its honest peer, and a member of their LAN that has gone mad.

The mad one has the CAK. What it says may well disturb: it can be key server, and give out SAKs as
it likes. What must hold is that nothing escapes, nothing grows, no AN is taken twice, no packet
number comes twice under one SAK, nothing passes in the clear, and that the honest two come to one
SAK again when it is silent. Each step is an ``Op``, as with the IKE core.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from gateway.mka import limits
from gateway.mka.events import Dropped, Event
from gateway.mka.keys import MkaKeys
from gateway.mka.participant import Participant
from gateway.mka.port import Port
from gateway.mka.registry import CipherSuite
from gateway.mka.settings import PortSettings
from gateway.model import PortState
from tests.fuzz.world import BrokenError, Op
from tests.support.mka_lan import Lan, Member, cak, settings_of

QUIET: Final = 40.0  # seconds until the honest two have one SAK again

# What one frame may cause; ours, above what campaigns report as the most seen.
EVENTS_MAX: Final = 100  # every peer there is may be lost at once
COMMANDS_MAX: Final = 80  # and the channel of each
FRAMES_MAX: Final = limits.PARTICIPANTS_MAX


class MkaWorld:
    """``note`` is told of what was reached: kinds of drops, events and states."""

    def __init__(self, seed: str, note: Callable[[str, str], None] = lambda kind, what: None):
        self.note = note
        self.inputs = 0
        self.most: dict[str, float] = {}  # that one frame caused
        pick = int(hashlib.sha256(seed.encode()).hexdigest()[:8], 16)
        suite = tuple(CipherSuite)[pick & 3]
        change = {
            "suite": suite,
            "accepted_suites": frozenset({suite, CipherSuite.GCM_AES_256}),
            "delay_protect": bool(pick >> 2 & 1),
            "sak_lifetime": (None, 10.0)[pick >> 3 & 1],
        }
        self.ours = pick >> 4 & 1  # key server or not
        members: list[PortSettings] = [replace(settings_of(i), **change) for i in range(2)]  # type: ignore[arg-type]
        self.lan = Lan(members, seed=seed)
        self._caks = 1

    # --- what an attacker may know ---------------------------------------------------------

    @property
    def member(self) -> Member:
        return self.lan.members[self.ours]

    @property
    def port(self) -> Port:
        return self.member.port

    def participants(self) -> list[Participant]:
        return list(self.port._participants.values())

    def keys(self) -> list[tuple[bytes, MkaKeys]]:
        """CKN, ICK and KEK of each CAK the port has."""
        return [(ckn, MkaKeys(cak(number, ckn))) for number, ckn in self.member.caks[-4:]]

    # --- doing -----------------------------------------------------------------------------

    def apply(self, op: Op) -> None:
        """Do one step. BrokenError, AssertionError of the LAN, or whatever escaped."""
        lan = self.lan
        match op.kind, op.args:
            case "frame", (text,):
                self._frame(bytes.fromhex(text))
            case "pass", (seconds,):
                lan.run(seconds)
            case "secy", (trouble,):
                setattr(self.member.secy, trouble, 1)
            case "cak", ():
                self._caks += 1
                for index in range(2):
                    lan.add_cak(index, self._caks, b"cak %d" % self._caks)
            case "drop", ():
                if len(self.member.caks) > 1:
                    lan.remove_cak(self.ours, self.member.caks[0][1])
            case "request", ():
                lan.act(self.ours, lambda port: port.request_sak("asked", lan.now))
            case "numbers", (next_pn,):
                for sak in self.port.view().saks:
                    lan.act(
                        self.ours, lambda port, an=sak.an: port.transmit_pn(an, next_pn, lan.now)
                    )
            case "restart", (keep,):
                lan.restart(self.ours, keep=keep and self.member.secy.sak is not None)
            case "cut", (cut,):
                lan.cut = lambda source, target, cut=cut: cut
            case "rest", ():
                self._rest()
            case _:
                raise ValueError(f"no such step: {op}")
        self._look()

    def _frame(self, frame: bytes) -> None:
        self.inputs += 1
        outbox = self.port._outbox
        begun = time.process_time()
        self.port.receive_frame(frame, self.lan.now)
        self._measure("CPU seconds", time.process_time() - begun)
        for what, produced, bound in (
            ("events", outbox.events, EVENTS_MAX),
            ("commands", outbox.commands, COMMANDS_MAX),
            ("frames", outbox.frames, FRAMES_MAX),
        ):
            self._measure(what, len(produced))
            if len(produced) > bound:
                raise BrokenError(f"one frame made {len(produced)} {what}")
        accepted = not any(isinstance(event, Dropped) for event in outbox.events)
        if accepted:
            self.note("accepted", "MKPDU")
        self.lan.act(self.ours, lambda port: None)  # what came of it is carried out
        self.lan.send(frame, 1 - self.ours)  # the group address: both hear it

    def _measure(self, what: str, value: float) -> None:
        self.most[what] = max(value, self.most.get(what, 0))

    def _rest(self) -> None:
        """The attack is over: time passes, and both have one SAK."""
        lan = self.lan
        lan.cut = lambda source, target: False
        for member in lan.members:
            member.secy.fail = member.secy.mute = 0
        self._same_caks()
        lan.run(QUIET)
        for _ in range(20):  # another rollover may be under way
            if not lan.one_sak():
                lan.run(0.2)
        if not lan.one_sak():
            shown = [str(member.port.view()) for member in lan.members]
            raise BrokenError(f"no SAK in common: {shown}")
        for member in lan.members:
            names = {peer.sci for item in member.port.view().participants for peer in item.peers}
            if len(names) != 1:
                raise BrokenError(f"left behind: {names}")
            member.events.clear()
            member.secy.log[:-8] = []
        lan.frames[:-32] = []

    def _same_caks(self) -> None:
        """What one end dropped, the other does too; both have one at least."""
        ours, theirs = self.member, self.lan.members[1 - self.ours]
        for _, ckn in [item for item in theirs.caks if item not in ours.caks]:
            self.lan.remove_cak(1 - self.ours, ckn)

    # --- what must hold --------------------------------------------------------------------

    def _look(self) -> None:
        for member in self.lan.members:
            self._check_bounds(member)
            if member.secy.port is PortState.CLEAR:
                raise BrokenError("the port is open")
        for event in self.member.events:
            self._see(event)
        for member in self.lan.members:
            member.events.clear()
        view = self.port.view()
        principal = next((item for item in view.participants if item.principal), None)
        server = (
            "none"
            if principal is None or principal.key_server is None
            else ("ours" if principal.key_server == self.member.sci else "theirs")
        )
        self.note("state", f"{view.rollover.value}, key server {server}")

    def _check_bounds(self, member: Member) -> None:
        port = member.port
        if len(port._participants) > limits.PARTICIPANTS_MAX:
            raise BrokenError(f"{len(port._participants)} participants")
        for participant in port._participants.values():
            peers = participant.peers.all()
            if len(peers) > limits.PEERS_MAX:
                raise BrokenError(f"{len(peers)} peers")
            if len(participant._spent) > limits.KEY_SERVERS_REMEMBERED + 1:
                raise BrokenError(f"{len(participant._spent)} key servers remembered")
            if len(participant._sent._sent) > limits.LIFE_TIME / limits.SEND_SPACING + 1:
                raise BrokenError("too many MNs remembered")
        cp = port._cp
        kept = [len(cp._channels), *(len(sak.receivers) for sak in cp.saks())]
        kept += [len(sak.received_by) for sak in cp.saks()]
        if max(kept) > limits.PEERS_MAX * limits.PARTICIPANTS_MAX:
            raise BrokenError(f"{max(kept)} things kept of peers")

    def _see(self, event: Event) -> None:
        match event:
            case Dropped(reason=reason):
                self.note("drop", reason.value)
            case _:
                self.note("event", type(event).__name__)
