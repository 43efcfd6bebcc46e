"""Commands under way: who waits for the answer, for how long, and what if nobody does.

An answer that comes after its time, or after its session is gone, still has something in
its hands: an SPI reservation, a QKD key, SAs in the kernel. The desk puts that away.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

from gateway.ike.commands import (
    ActivateOutbound,
    AllocateSpi,
    Answer,
    CertificatesTrusted,
    CheckCertificates,
    Done,
    Failed,
    FetchPpk,
    InstallChild,
    InstallInbound,
    PpkFetched,
    RemoveSas,
    SettlePpk,
    SpiAllocated,
    TakePpk,
    Token,
)
from gateway.ike.deadlines import Deadlines
from gateway.ike.outbox import Outbox
from gateway.model import Ppk, SaId

AskingCommand = (
    AllocateSpi
    | FetchPpk
    | TakePpk
    | CheckCertificates
    | InstallInbound
    | InstallChild
    | ActivateOutbound
)
Continuation = Callable[[Answer, float], None]


@dataclass(slots=True)
class _Open:
    command: AskingCommand
    then: Continuation | None  # None: nobody waits any more


class CommandDesk:
    """Hands out tokens and brings answers to whoever waits for them."""

    __slots__ = ("_deadlines", "_open", "_outbox", "_tokens")

    def __init__(self, outbox: Outbox, deadlines: Deadlines) -> None:
        self._outbox = outbox
        self._deadlines = deadlines
        self._open: dict[Token, _Open] = {}
        self._tokens = itertools.count(1)

    def token(self) -> Token:
        """A token for the next command."""
        return Token(next(self._tokens))

    def issue(
        self, command: AskingCommand, then: Continuation, *, timeout: float, now: float
    ) -> None:
        """Send a command out; ``then`` gets its answer, or Failed after ``timeout`` seconds."""
        self._open[command.token] = _Open(command, then)
        self._outbox.commands.append(command)

        def give_up(when: float) -> None:
            self._stop_waiting(command.token)
            then(Failed(token=command.token, reason=f"no answer within {timeout:g} s"), when)

        self._deadlines.set(("command", command.token), now + timeout, give_up)

    def abandon(self, token: Token) -> None:
        """Nobody waits any more: the answer is put away when it comes."""
        self._deadlines.cancel(("command", token))
        self._stop_waiting(token)

    def answer(self, answer: Answer, now: float) -> None:
        """Bring an answer to whoever waits. A token nobody knows is ignored."""
        waiting = self._open.pop(answer.token, None)
        if waiting is None:
            return
        self._deadlines.cancel(("command", answer.token))
        if waiting.then is not None:
            waiting.then(answer, now)
        else:
            self._put_away(waiting.command, answer)

    def _stop_waiting(self, token: Token) -> None:
        waiting = self._open.get(token)
        if waiting is None:
            return
        waiting.then = None
        if isinstance(waiting.command, InstallInbound | InstallChild):
            self._remove(waiting.command)

    def _put_away(self, command: AskingCommand, answer: Answer) -> None:
        match answer:
            case SpiAllocated(spi=spi):
                if isinstance(command, AllocateSpi):
                    sa_id = SaId(command.destination, spi)
                    self._outbox.commands.append(RemoveSas(tunnel=command.tunnel, sa_ids=(sa_id,)))
            case PpkFetched(ppk=ppk):
                ppk.key.wipe()
                if isinstance(command, FetchPpk):
                    self._settle(command, ppk)
            case Done():
                if isinstance(command, InstallInbound | InstallChild):
                    self._remove(command)
            case CertificatesTrusted() | Failed():
                pass
            case _:
                assert_never(answer)

    def _settle(self, command: FetchPpk, ppk: Ppk) -> None:
        self._outbox.commands.append(
            SettlePpk(tunnel=command.tunnel, key_id=ppk.key_id, used=False, reason="came too late")
        )

    def _remove(self, command: InstallInbound | InstallChild) -> None:
        sa_ids: tuple[SaId, ...] = (command.inbound.sa_id,)
        if isinstance(command, InstallChild):
            sa_ids = (command.outbound.sa_id, *sa_ids)
        self._outbox.commands.append(RemoveSas(tunnel=command.tunnel, sa_ids=sa_ids))
