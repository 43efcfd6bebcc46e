"""Every arrow of a tunnel's policy: state x trigger -> what to do, and the next state.

Triggers are inputs and deadlines already judged against the tunnel's policy (see
``judge`` and ``deadlines``), so the table itself has no conditions. There is a row for every
pair that can happen and none beside: BLOCKED and STOPPED have no attempt that could fail, and
a tunnel that may not go on without a key is never DEGRADED.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum, auto


class State(StrEnum):
    STOPPED = "stopped"  # by the operator
    DOWN = "down"  # no SA
    HYBRID = "hybrid"  # the SA in the kernel has a QKD key in it, with ML-KEM or CLASSICAL
    DEGRADED = "degraded"  # it has none
    BLOCKED = "blocked"  # no SA, and policy forbids to make one without a QKD key


class Trigger(Enum):
    # a Child SA came up ...
    SA_HYBRID = auto()
    SA_DEGRADED = auto()
    SA_KEYLESS = auto()  # degraded although a key was on offer: the peer had none
    SA_TAINTED = auto()  # hybrid, but with a key that came under suspicion meanwhile
    SA_REFUSED = auto()  # policy does not allow what came up
    SA_GONE = auto()
    # our own attempt ended without one ...
    FAILED = auto()
    KEY_MISSING_TOLERATED = auto()  # no QKD key at one end, and policy goes on without
    KEY_MISSING_FATAL = auto()
    # the quantum side ...
    SUSPECTED_TOLERATED = auto()
    SUSPECTED_FATAL = auto()
    CLEARED = auto()
    # kernel and operator ...
    EXPIRING = auto()
    TRAFFIC = auto()  # waits for an SA
    IDLE = auto()  # there was none for long enough
    OPERATOR_INITIATE = auto()
    OPERATOR_REKEY = auto()
    OPERATOR_TERMINATE = auto()
    # deadlines
    CONNECT_DUE = auto()
    NO_KEY = auto()  # policy wants a key, there is none
    KEYS_BACK = auto()
    REKEY_DUE = auto()
    RETURN_DUE = auto()  # QKD was healthy for a whole dwell
    LIFE_OVER = auto()  # a required key did not come in the SA's whole life
    DEGRADED_OVER = auto()
    AGE_OVER = auto()  # rekeys failed until the SA is too old to be used


class Action(Enum):
    ADOPT = auto()  # this is now the tunnel's SA
    LOSE = auto()  # it is gone; plan the next set-up
    DEMAND = auto()  # rekey soon: the initiator at once, the responder after a grace
    DEMAND_NOW = auto()
    CONNECT_SOON = auto()
    CONNECT_ONCE = auto()  # no sooner than the back-off lets us
    REST = auto()  # be as at the start
    INITIATE = auto()
    INITIATE_WITHOUT_KEY = auto()
    REKEY = auto()
    REKEY_WITHOUT_KEY = auto()
    BACK_OFF = auto()
    DWELL = auto()  # trust QKD keys only after a whole dwell from now
    DWELL_LONGER = auto()  # each time in a row that one end has no key costs the other a key
    TRUST = auto()  # keys are good as they come
    QUARANTINE = auto()
    CLOSE = auto()
    BLOCK = auto()
    UNBLOCK = auto()


@dataclass(frozen=True, slots=True)
class Row:
    actions: tuple[Action, ...]
    state: State


_A, _S, _T = Action, State, Trigger


def _row(state: State, *actions: Action) -> Row:
    return Row(actions, state)


TABLE: dict[tuple[State, Trigger], Row] = {
    # --- DOWN: no SA --------------------------------------------------------------------------
    (_S.DOWN, _T.SA_HYBRID): _row(_S.HYBRID, _A.ADOPT),
    (_S.DOWN, _T.SA_DEGRADED): _row(_S.DEGRADED, _A.ADOPT, _A.DWELL),
    (_S.DOWN, _T.SA_KEYLESS): _row(_S.DEGRADED, _A.ADOPT, _A.DWELL_LONGER),
    (_S.DOWN, _T.SA_TAINTED): _row(_S.HYBRID, _A.ADOPT, _A.DEMAND),
    (_S.DOWN, _T.SA_REFUSED): _row(_S.DOWN, _A.CLOSE, _A.BACK_OFF),
    (_S.DOWN, _T.SA_GONE): _row(_S.DOWN),
    (_S.DOWN, _T.FAILED): _row(_S.DOWN, _A.BACK_OFF),
    (_S.DOWN, _T.KEY_MISSING_TOLERATED): _row(_S.DOWN, _A.INITIATE_WITHOUT_KEY),
    (_S.DOWN, _T.KEY_MISSING_FATAL): _row(_S.BLOCKED, _A.BACK_OFF, _A.BLOCK),
    (_S.DOWN, _T.SUSPECTED_TOLERATED): _row(_S.DOWN, _A.QUARANTINE, _A.DWELL),
    (_S.DOWN, _T.SUSPECTED_FATAL): _row(_S.BLOCKED, _A.QUARANTINE, _A.DWELL, _A.BLOCK),
    (_S.DOWN, _T.CLEARED): _row(_S.DOWN, _A.QUARANTINE, _A.DWELL),
    (_S.DOWN, _T.EXPIRING): _row(_S.DOWN),
    (_S.DOWN, _T.TRAFFIC): _row(_S.DOWN, _A.CONNECT_ONCE),
    (_S.DOWN, _T.OPERATOR_INITIATE): _row(_S.DOWN, _A.CONNECT_SOON),
    (_S.DOWN, _T.OPERATOR_REKEY): _row(_S.DOWN),
    (_S.DOWN, _T.OPERATOR_TERMINATE): _row(_S.STOPPED, _A.CLOSE),
    (_S.DOWN, _T.CONNECT_DUE): _row(_S.DOWN, _A.INITIATE),
    (_S.DOWN, _T.NO_KEY): _row(_S.BLOCKED, _A.BLOCK),
    # --- HYBRID -------------------------------------------------------------------------------
    (_S.HYBRID, _T.SA_HYBRID): _row(_S.HYBRID, _A.ADOPT),
    (_S.HYBRID, _T.SA_DEGRADED): _row(_S.DEGRADED, _A.ADOPT, _A.DWELL),
    (_S.HYBRID, _T.SA_KEYLESS): _row(_S.DEGRADED, _A.ADOPT, _A.DWELL_LONGER),
    (_S.HYBRID, _T.SA_TAINTED): _row(_S.HYBRID, _A.ADOPT, _A.DEMAND),
    (_S.HYBRID, _T.SA_REFUSED): _row(_S.DOWN, _A.CLOSE, _A.LOSE),
    (_S.HYBRID, _T.SA_GONE): _row(_S.DOWN, _A.LOSE),
    (_S.HYBRID, _T.FAILED): _row(_S.HYBRID, _A.BACK_OFF),
    (_S.HYBRID, _T.KEY_MISSING_TOLERATED): _row(_S.HYBRID, _A.REKEY_WITHOUT_KEY),
    (_S.HYBRID, _T.KEY_MISSING_FATAL): _row(_S.HYBRID, _A.BACK_OFF),
    (_S.HYBRID, _T.SUSPECTED_TOLERATED): _row(_S.HYBRID, _A.QUARANTINE, _A.DWELL, _A.DEMAND),
    (_S.HYBRID, _T.SUSPECTED_FATAL): _row(_S.BLOCKED, _A.QUARANTINE, _A.DWELL, _A.BLOCK),
    (_S.HYBRID, _T.CLEARED): _row(_S.HYBRID, _A.QUARANTINE, _A.DWELL),
    (_S.HYBRID, _T.EXPIRING): _row(_S.HYBRID, _A.DEMAND),
    (_S.HYBRID, _T.IDLE): _row(_S.DOWN, _A.CLOSE, _A.REST),
    (_S.HYBRID, _T.OPERATOR_INITIATE): _row(_S.HYBRID),
    (_S.HYBRID, _T.OPERATOR_REKEY): _row(_S.HYBRID, _A.DEMAND_NOW),
    (_S.HYBRID, _T.OPERATOR_TERMINATE): _row(_S.STOPPED, _A.CLOSE),
    (_S.HYBRID, _T.REKEY_DUE): _row(_S.HYBRID, _A.REKEY),
    (_S.HYBRID, _T.LIFE_OVER): _row(_S.BLOCKED, _A.BLOCK),
    (_S.HYBRID, _T.AGE_OVER): _row(_S.DOWN, _A.CLOSE, _A.LOSE),
    # --- DEGRADED: PQC_ONLY, or CLASSICAL without a QKD key where that is allowed ---------------
    (_S.DEGRADED, _T.SA_HYBRID): _row(_S.HYBRID, _A.ADOPT),
    (_S.DEGRADED, _T.SA_DEGRADED): _row(_S.DEGRADED, _A.ADOPT),
    (_S.DEGRADED, _T.SA_KEYLESS): _row(_S.DEGRADED, _A.ADOPT, _A.DWELL_LONGER),
    (_S.DEGRADED, _T.SA_TAINTED): _row(_S.HYBRID, _A.ADOPT, _A.DEMAND),
    (_S.DEGRADED, _T.SA_REFUSED): _row(_S.DOWN, _A.CLOSE, _A.LOSE),
    (_S.DEGRADED, _T.SA_GONE): _row(_S.DOWN, _A.LOSE),
    (_S.DEGRADED, _T.FAILED): _row(_S.DEGRADED, _A.BACK_OFF),
    (_S.DEGRADED, _T.KEY_MISSING_TOLERATED): _row(_S.DEGRADED, _A.BACK_OFF, _A.DWELL_LONGER),
    (_S.DEGRADED, _T.SUSPECTED_TOLERATED): _row(_S.DEGRADED, _A.QUARANTINE, _A.DWELL),
    (_S.DEGRADED, _T.CLEARED): _row(_S.DEGRADED, _A.QUARANTINE, _A.DWELL),
    (_S.DEGRADED, _T.EXPIRING): _row(_S.DEGRADED, _A.DEMAND),
    (_S.DEGRADED, _T.IDLE): _row(_S.DOWN, _A.CLOSE, _A.REST),
    (_S.DEGRADED, _T.OPERATOR_INITIATE): _row(_S.DEGRADED),
    (_S.DEGRADED, _T.OPERATOR_REKEY): _row(_S.DEGRADED, _A.DEMAND_NOW),
    (_S.DEGRADED, _T.OPERATOR_TERMINATE): _row(_S.STOPPED, _A.CLOSE),
    (_S.DEGRADED, _T.REKEY_DUE): _row(_S.DEGRADED, _A.REKEY),
    (_S.DEGRADED, _T.RETURN_DUE): _row(_S.DEGRADED, _A.REKEY),
    (_S.DEGRADED, _T.DEGRADED_OVER): _row(_S.BLOCKED, _A.BLOCK, _A.TRUST),
    (_S.DEGRADED, _T.AGE_OVER): _row(_S.DOWN, _A.CLOSE, _A.LOSE),
    # --- BLOCKED ------------------------------------------------------------------------------
    (_S.BLOCKED, _T.SA_HYBRID): _row(_S.HYBRID, _A.ADOPT, _A.UNBLOCK),
    (_S.BLOCKED, _T.SA_REFUSED): _row(_S.BLOCKED, _A.CLOSE),
    (_S.BLOCKED, _T.SA_GONE): _row(_S.BLOCKED),
    (_S.BLOCKED, _T.SUSPECTED_FATAL): _row(_S.BLOCKED, _A.QUARANTINE, _A.DWELL),
    (_S.BLOCKED, _T.CLEARED): _row(_S.BLOCKED, _A.QUARANTINE, _A.DWELL),
    (_S.BLOCKED, _T.EXPIRING): _row(_S.BLOCKED),
    (_S.BLOCKED, _T.OPERATOR_INITIATE): _row(_S.BLOCKED, _A.CONNECT_SOON),
    (_S.BLOCKED, _T.OPERATOR_REKEY): _row(_S.BLOCKED),
    (_S.BLOCKED, _T.OPERATOR_TERMINATE): _row(_S.STOPPED, _A.UNBLOCK, _A.CLOSE),
    (_S.BLOCKED, _T.KEYS_BACK): _row(_S.DOWN, _A.UNBLOCK, _A.TRUST),
    # --- STOPPED ------------------------------------------------------------------------------
    (_S.STOPPED, _T.SA_HYBRID): _row(_S.STOPPED, _A.CLOSE),
    (_S.STOPPED, _T.SA_DEGRADED): _row(_S.STOPPED, _A.CLOSE),
    (_S.STOPPED, _T.SA_KEYLESS): _row(_S.STOPPED, _A.CLOSE),
    (_S.STOPPED, _T.SA_TAINTED): _row(_S.STOPPED, _A.CLOSE),
    (_S.STOPPED, _T.SA_REFUSED): _row(_S.STOPPED, _A.CLOSE),
    (_S.STOPPED, _T.SA_GONE): _row(_S.STOPPED),
    (_S.STOPPED, _T.SUSPECTED_TOLERATED): _row(_S.STOPPED, _A.QUARANTINE, _A.DWELL),
    (_S.STOPPED, _T.SUSPECTED_FATAL): _row(_S.STOPPED, _A.QUARANTINE, _A.DWELL),
    (_S.STOPPED, _T.CLEARED): _row(_S.STOPPED, _A.QUARANTINE, _A.DWELL),
    (_S.STOPPED, _T.EXPIRING): _row(_S.STOPPED),
    (_S.STOPPED, _T.OPERATOR_INITIATE): _row(_S.DOWN, _A.CONNECT_SOON),
    (_S.STOPPED, _T.OPERATOR_REKEY): _row(_S.STOPPED),
    (_S.STOPPED, _T.OPERATOR_TERMINATE): _row(_S.STOPPED),
}
