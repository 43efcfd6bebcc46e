"""From one IKE SA to the next: who has the children, who deletes the old one (RFC 7296 2.8).

Our rekey is complete: the new IKE SA takes the children at once, and we delete the old one.

The peer's rekey is complete: the peer takes the children over when it has our answer, and this
we cannot know yet. So the new IKE SA is only the *heir*: it stands ready and has nothing, while
the old one is REKEYED and starts nothing any more. The old one *gives way*, and the children go
to the heir, when the peer deletes it, when the peer uses the heir, or when it was given long
enough to do so. If the peer deletes the heir instead (it lost a collision, or did not like our
answer), the old IKE SA is as it was before.

Of two new ones made at the same time one is redundant (see ``collision``). It never has any
children; the side that began it deletes it, the other one forgets it after a while in any case.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.ike.events import IkeRekeyed
from gateway.ike.flows.rekey_ike import Successor
from gateway.ike.path import update_encap
from gateway.ike.sa import IkeSa
from gateway.ike.states import IkeInput, IkeState
from gateway.model import Role

if TYPE_CHECKING:
    from gateway.ike.session import Session

Admit = Callable[[IkeSa], "Session"]
"""Makes a session of an IkeSa and a place for it in the SPI table."""


class Succession:
    """What one session knows of the one before it and of the one after it."""

    __slots__ = ("_admit", "_session", "heir", "predecessor")

    def __init__(self, session: Session, admit: Admit) -> None:
        self._session = session
        self._admit = admit
        self.heir: Session | None = None  # made by the peer, not in use yet
        self.predecessor: Session | None = None  # whose heir we are

    # --- a rekey is complete ------------------------------------------------------------------

    def made(self, successor: Successor) -> None:
        """By us or by the peer; ``successor.sa.role`` says by whom."""
        new = self._admit(successor.sa)
        if successor.sa.role is Role.RESPONDER:
            self._stand_ready(new)
        elif successor.redundant is not None:
            new.discard(str(successor.redundant), self._session.sa.now)
        else:
            self._take_over(new)

    def _stand_ready(self, heir: Session) -> None:
        session = self._session
        self.heir = heir
        heir.succession.predecessor = session
        session.sa.happened(IkeInput.REKEY)
        session.at_grace(self._give_up_waiting)

    def _take_over(self, new: Session) -> None:
        session = self._session
        rival, self.heir = self.heir, None
        if rival is not None:  # the peer's, which lost: the peer is to delete it
            rival.succession.predecessor = None
            rival.at_grace(lambda: rival.discard("redundant", rival.sa.now))
        self._hand_over(new)
        session.bow_out("rekeyed")

    # --- the old one ends ---------------------------------------------------------------------

    def give_way(self, *, spoken: bool = False) -> None:
        """The children go to the heir, if there is one: the peer has moved there.

        ``spoken``: and has just been heard in it.
        """
        heir, self.heir = self.heir, None
        if heir is not None:
            heir.succession.predecessor = None
            self._hand_over(heir, spoken=spoken)
            self._session.stop_rekeying()

    def _give_up_waiting(self) -> None:
        """The peer does not delete the IKE SA it has replaced."""
        if self._session.sa.state is IkeState.REKEYED:
            self.give_way()
            self._session.bow_out("rekeyed, and the peer did not delete it")

    # --- the heir ends, or is used ------------------------------------------------------------

    def used(self) -> None:
        """The peer has spoken in this IKE SA."""
        if self.predecessor is not None:
            self.predecessor.succession.give_way(spoken=True)

    def ended(self) -> None:
        """This IKE SA is over."""
        before, self.predecessor = self.predecessor, None
        if before is not None:
            before.succession.lose_heir()

    def lose_heir(self) -> None:
        self.heir = None
        self._session.sa.happened(IkeInput.RESTORE)

    # ------------------------------------------------------------------------------------------

    def _hand_over(self, new: Session, *, spoken: bool = False) -> None:
        old, sa = self._session.sa, new.sa
        old.now = sa.now = max(old.now, sa.now)
        sa.children[:], old.children[:] = old.children, ()
        if not spoken:  # else it knows better where the peer is
            sa.local, sa.remote = old.local, old.remote
        for child in sa.children:
            child.owner = new
            update_encap(sa, child)
        sa.announced = True
        new.join(self._session)
        sa.emit(
            IkeRekeyed(
                connection=sa.peering.name,
                role=sa.role,
                old_spi_i=old.spi_i,
                old_spi_r=old.spi_r,
                spi_i=sa.spi_i,
                spi_r=sa.spi_r,
                proposal=sa.label,
                key_exchanges=sa.key_exchanges,
                key_id=sa.mixed.key_id,
                remote=sa.remote,
            )
        )
