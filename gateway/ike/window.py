"""Message IDs and reliability: one request at a time each way (RFC 7296 2.1 to 2.3)."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.ike.limits import MESSAGE_ID_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When an unanswered request goes out again, and when to give up. Seconds."""

    base: float
    factor: float
    tries: int  # retransmissions after the first transmission

    def wait(self, sent: int) -> float:
        """How long to wait after the ``sent``-th transmission (from 1)."""
        return float(self.base * self.factor ** (sent - 1))


class RequestWindow:
    """Our requests: at most one is unanswered, and it is repeated.

    Bit by bit (RFC 7296 2.1), until it is cut into smaller fragments (RFC 7383 2.5.2).
    """

    __slots__ = ("_datagrams", "_next_id", "_sent")

    def __init__(self) -> None:
        self._next_id = 0
        self._datagrams: tuple[bytes, ...] | None = None
        self._sent = 0

    @property
    def busy(self) -> bool:
        return self._datagrams is not None

    @property
    def next_id(self) -> int:
        """Message ID of the next request, or of the one that is unanswered."""
        return self._next_id

    @property
    def exhausted(self) -> bool:
        """RFC 7296 2.2: the IKE SA must go before its Message IDs wrap."""
        return self._next_id >= MESSAGE_ID_MAX

    def sent(self, datagrams: tuple[bytes, ...]) -> None:
        """The request with ``next_id`` went out for the first time."""
        if self.busy:
            raise RuntimeError("a request is unanswered")
        self._datagrams = datagrams
        self._sent = 1

    def repeat(self, schedule: Schedule) -> tuple[bytes, ...] | None:
        """The request again, or None when it is time to give up."""
        if self._datagrams is None or self._sent > schedule.tries:
            return None
        self._sent += 1
        return self._datagrams

    def recut(self, datagrams: tuple[bytes, ...]) -> None:
        """The unanswered request is in these from now on."""
        self._datagrams = datagrams

    def wait(self, schedule: Schedule) -> float:
        """How long to wait before the next ``repeat``."""
        return schedule.wait(self._sent)

    def answers(self, message_id: int) -> bool:
        """Whether a response with this Message ID is the one we wait for."""
        return self.busy and message_id == self._next_id

    def answered(self) -> None:
        self._datagrams = None
        self._next_id += 1

    def retry(self) -> None:
        """The answer asked for the same request in another form: same Message ID.

        RFC 7296 2.6, 2.7: IKE_SA_INIT with a cookie or another KE payload.
        """
        self._datagrams = None


class ResponseWindow:
    """The peer's requests: the one we expect, and our answer to the one before."""

    __slots__ = ("_answer", "_expected", "_pending")

    def __init__(self, expected: int = 0) -> None:
        self._expected = expected
        self._pending = False
        self._answer: tuple[bytes, ...] = ()

    @property
    def expected(self) -> int:
        return self._expected

    @property
    def pending(self) -> bool:
        """The expected request is here and its answer is not ready."""
        return self._pending

    def received(self) -> None:
        """The expected request is complete and under work."""
        self._pending = True

    def answered(self, datagrams: tuple[bytes, ...]) -> None:
        self._answer = datagrams
        self._pending = False
        self._expected += 1

    def recut(self, datagrams: tuple[bytes, ...]) -> None:
        """The last answer is in these from now on."""
        self._answer = datagrams

    def cached(self, message_id: int) -> tuple[bytes, ...]:
        """Our answer to a request that came again; empty where it is older than the last."""
        return self._answer if message_id == self._expected - 1 else ()
