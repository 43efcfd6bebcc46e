"""The life of IKE SAs and Child SAs as tables: (state, input) -> state.

What is not in a table cannot happen; trying it is an error in this program, never the
peer's doing: what a peer may ask for in which state stands in ``ACCEPTED``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, TypeVar

from gateway.ike.registry import ExchangeType
from gateway.model import Role


class TransitionError(Exception):
    """An input a state has no transition for: a fault of this program."""


class IkeState(StrEnum):
    INIT_SENT = "init-sent"  # initiator: IKE_SA_INIT is under way
    KEYED = "keyed"  # keys, but nobody is authenticated
    AUTHENTICATING = "authenticating"  # IKE_AUTH is under way
    ESTABLISHED = "established"
    REKEYED = "rekeyed"  # the peer made another one in its place and is to delete it
    DELETING = "deleting"  # we told the peer to forget this SA and wait for its answer
    CLOSED = "closed"


class IkeInput(StrEnum):
    KEYS = "keys"  # IKE_SA_INIT is done
    AUTH = "auth"  # IKE_AUTH request sent or received
    AUTHENTICATED = "authenticated"  # both sides have proved who they are
    REKEY = "rekey"  # the peer's rekey is complete on our side
    RESTORE = "restore"  # the peer gave up the one it made
    DELETE = "delete"  # we begin to delete, or report that authentication failed
    END = "end"  # whatever ends it at once: deleted by the peer, refused, lost, superseded


IKE_TRANSITIONS: Final[dict[tuple[IkeState, IkeInput], IkeState]] = {
    (IkeState.INIT_SENT, IkeInput.KEYS): IkeState.KEYED,
    (IkeState.INIT_SENT, IkeInput.END): IkeState.CLOSED,
    (IkeState.KEYED, IkeInput.AUTH): IkeState.AUTHENTICATING,
    (IkeState.KEYED, IkeInput.DELETE): IkeState.DELETING,
    (IkeState.KEYED, IkeInput.END): IkeState.CLOSED,
    (IkeState.AUTHENTICATING, IkeInput.AUTHENTICATED): IkeState.ESTABLISHED,
    (IkeState.AUTHENTICATING, IkeInput.DELETE): IkeState.DELETING,
    (IkeState.AUTHENTICATING, IkeInput.END): IkeState.CLOSED,
    (IkeState.ESTABLISHED, IkeInput.REKEY): IkeState.REKEYED,
    (IkeState.ESTABLISHED, IkeInput.DELETE): IkeState.DELETING,
    (IkeState.ESTABLISHED, IkeInput.END): IkeState.CLOSED,
    (IkeState.REKEYED, IkeInput.RESTORE): IkeState.ESTABLISHED,
    (IkeState.REKEYED, IkeInput.DELETE): IkeState.DELETING,
    (IkeState.REKEYED, IkeInput.END): IkeState.CLOSED,
    (IkeState.DELETING, IkeInput.END): IkeState.CLOSED,
}

ACCEPTED: Final[frozenset[tuple[IkeState, Role, ExchangeType]]] = frozenset(
    {
        (IkeState.KEYED, Role.RESPONDER, ExchangeType.IKE_INTERMEDIATE),
        (IkeState.KEYED, Role.RESPONDER, ExchangeType.IKE_AUTH),
        (IkeState.KEYED, Role.RESPONDER, ExchangeType.INFORMATIONAL),  # the initiator gives up
        *(
            (state, role, exchange)
            for state in (IkeState.ESTABLISHED, IkeState.REKEYED, IkeState.DELETING)
            for role in Role
            for exchange in (
                ExchangeType.CREATE_CHILD_SA,
                ExchangeType.IKE_FOLLOWUP_KE,
                ExchangeType.INFORMATIONAL,
            )
        ),
    }
)
"""Requests we answer: our state, our role in the IKE SA, the exchange."""


class ChildState(StrEnum):
    INSTALLING = "installing"  # keys derived, on their way into the kernel
    INSTALLED = "installed"  # in the kernel; our traffic does not leave through it
    ACTIVE = "active"  # our traffic leaves through it
    REKEYING = "rekeying"  # active, and we are replacing it
    REPLACED = "replaced"  # another one carries our traffic; Delete is still to come
    DELETING = "deleting"  # we sent Delete and wait for the answer
    LINGERING = "lingering"  # only the inbound half is left, for packets in flight
    GONE = "gone"


class ChildInput(StrEnum):
    INSTALL = "install"  # both halves are in the kernel
    ACTIVATE = "activate"  # our traffic moved to it
    REKEY = "rekey"  # we begin to replace it
    REKEY_END = "rekey-end"  # that came to nothing
    REPLACE = "replace"  # our traffic moved to another one
    DELETE = "delete"  # Delete is on its way to the peer
    RETIRE = "retire"  # the outbound half is out of the kernel
    REMOVE = "remove"  # both are


CHILD_TRANSITIONS: Final[dict[tuple[ChildState, ChildInput], ChildState]] = {
    (ChildState.INSTALLING, ChildInput.INSTALL): ChildState.INSTALLED,
    (ChildState.INSTALLING, ChildInput.REMOVE): ChildState.GONE,
    (ChildState.INSTALLED, ChildInput.ACTIVATE): ChildState.ACTIVE,
    (ChildState.INSTALLED, ChildInput.DELETE): ChildState.DELETING,
    (ChildState.INSTALLED, ChildInput.RETIRE): ChildState.LINGERING,
    (ChildState.INSTALLED, ChildInput.REMOVE): ChildState.GONE,
    (ChildState.ACTIVE, ChildInput.REKEY): ChildState.REKEYING,
    (ChildState.ACTIVE, ChildInput.REPLACE): ChildState.REPLACED,
    (ChildState.ACTIVE, ChildInput.DELETE): ChildState.DELETING,
    (ChildState.ACTIVE, ChildInput.RETIRE): ChildState.LINGERING,
    (ChildState.ACTIVE, ChildInput.REMOVE): ChildState.GONE,
    (ChildState.REKEYING, ChildInput.REKEY_END): ChildState.ACTIVE,
    (ChildState.REKEYING, ChildInput.REPLACE): ChildState.REPLACED,
    (ChildState.REKEYING, ChildInput.DELETE): ChildState.DELETING,
    (ChildState.REKEYING, ChildInput.RETIRE): ChildState.LINGERING,
    (ChildState.REKEYING, ChildInput.REMOVE): ChildState.GONE,
    (ChildState.REPLACED, ChildInput.ACTIVATE): ChildState.ACTIVE,
    (ChildState.REPLACED, ChildInput.DELETE): ChildState.DELETING,
    (ChildState.REPLACED, ChildInput.RETIRE): ChildState.LINGERING,
    (ChildState.REPLACED, ChildInput.REMOVE): ChildState.GONE,
    (ChildState.DELETING, ChildInput.RETIRE): ChildState.LINGERING,
    (ChildState.DELETING, ChildInput.REMOVE): ChildState.GONE,
    (ChildState.LINGERING, ChildInput.REMOVE): ChildState.GONE,
}

USABLE: Final = frozenset(
    {ChildState.INSTALLED, ChildState.ACTIVE, ChildState.REKEYING, ChildState.REPLACED}
)
"""States in which our traffic leaves, or could leave, through a child."""

CARRYING: Final = frozenset({ChildState.ACTIVE, ChildState.REKEYING})
"""States in which our traffic leaves through it."""


StateT = TypeVar("StateT", IkeState, ChildState)
InputT = TypeVar("InputT", IkeInput, ChildInput)


def step(table: dict[tuple[StateT, InputT], StateT], state: StateT, happened: InputT) -> StateT:
    """The state after ``happened``. TransitionError where the table has none."""
    try:
        return table[state, happened]
    except KeyError:
        raise TransitionError(f"{happened} in state {state}") from None
