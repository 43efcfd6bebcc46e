"""Every arrow of a SAK rollover: state x trigger -> what to do, and the next state.

The machine of 12.4 (Figure 12-2), with two of its states in one: RECEIVING is RECEIVING and READY,
which differ in what they wait for, the members or the key server; that is judged outside. So is
whether there is a SAK to fall back to, so the table has no conditions.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum, auto


class State(StrEnum):
    CHANGE = "change"  # no SAK
    RECEIVE = "receive"  # the SecY is to install the new one
    RECEIVING = "receiving"  # it receives under it; waits to be allowed to transmit
    TRANSMIT = "transmit"  # the SecY is to transmit under it
    TRANSMITTING = "transmitting"  # it does; the old one receives for frames in flight
    RETIRE = "retire"  # one SAK, at rest


class Trigger(Enum):
    NEW_SAK = auto()
    INSTALLED = auto()  # usingReceiveSAs
    MAY_TRANSMIT = auto()  # allReceiving or transmitWhen, or serverTransmitting
    ENABLED = auto()  # usingTransmitSA
    FAILED_ALONE = auto()  # the SecY did not take it; there is no other SAK
    FAILED_BESIDE = auto()  # the same, and the one before is still in use
    RETIRE_DUE = auto()  # retireWhen
    LOST = auto()  # no live peer, or told to


class Action(Enum):
    INSTALL = auto()
    ENABLE = auto()
    IN_USE = auto()  # tell, open the port, start the retire timer
    FALL_BACK = auto()  # transmit under the one before: the SecY may have moved on all the same
    ABANDON = auto()  # delete the new one
    RETIRE = auto()  # delete the old one; the latest takes its place
    HOLD = auto()  # keep the new one until there is room for it
    ANNOUNCE = auto()  # in an MKPDU, at once
    CLEAR = auto()  # delete everything, close the port


@dataclass(frozen=True, slots=True)
class Row:
    state: State
    actions: tuple[Action, ...]


_S, _T, _A = State, Trigger, Action
_CLEAR = Row(_S.CHANGE, (_A.CLEAR, _A.ANNOUNCE))
_INSTALL = Row(_S.RECEIVE, (_A.INSTALL,))
_REINSTALL = Row(_S.RECEIVE, (_A.ABANDON, _A.INSTALL))
_FAIL = (_A.ABANDON, _A.ANNOUNCE)

TABLE: dict[tuple[State, Trigger], Row] = {
    (_S.CHANGE, _T.NEW_SAK): _INSTALL,
    (_S.CHANGE, _T.LOST): Row(_S.CHANGE, ()),
    (_S.RECEIVE, _T.NEW_SAK): _REINSTALL,
    (_S.RECEIVE, _T.INSTALLED): Row(_S.RECEIVING, (_A.ANNOUNCE,)),
    (_S.RECEIVE, _T.FAILED_ALONE): Row(_S.CHANGE, _FAIL),
    (_S.RECEIVE, _T.FAILED_BESIDE): Row(_S.RETIRE, _FAIL),
    (_S.RECEIVE, _T.LOST): _CLEAR,
    (_S.RECEIVING, _T.NEW_SAK): _REINSTALL,
    (_S.RECEIVING, _T.MAY_TRANSMIT): Row(_S.TRANSMIT, (_A.ENABLE,)),
    (_S.RECEIVING, _T.LOST): _CLEAR,
    (_S.TRANSMIT, _T.NEW_SAK): Row(_S.TRANSMIT, (_A.HOLD,)),
    (_S.TRANSMIT, _T.ENABLED): Row(_S.TRANSMITTING, (_A.IN_USE, _A.ANNOUNCE)),
    (_S.TRANSMIT, _T.FAILED_ALONE): Row(_S.CHANGE, _FAIL),
    (_S.TRANSMIT, _T.FAILED_BESIDE): Row(_S.RETIRE, (_A.FALL_BACK, *_FAIL)),
    (_S.TRANSMIT, _T.LOST): _CLEAR,
    (_S.TRANSMITTING, _T.NEW_SAK): Row(_S.TRANSMITTING, (_A.HOLD,)),
    (_S.TRANSMITTING, _T.RETIRE_DUE): Row(_S.RETIRE, (_A.RETIRE, _A.ANNOUNCE)),
    (_S.TRANSMITTING, _T.LOST): _CLEAR,
    (_S.RETIRE, _T.NEW_SAK): _INSTALL,
    (_S.RETIRE, _T.LOST): _CLEAR,
}
"""There is a row for every pair that can happen, and none beside: answers to commands that are
not waited for any more are passed over before."""
