"""Driving flows: what a flow yields is done, and the flow goes on with the answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, assert_never

from gateway.errors import QsgwError
from gateway.ike.attempt import ChildAttempt
from gateway.ike.commands import (
    ActivateOutbound,
    AllocateSpi,
    Answer,
    CheckCertificates,
    FetchPpk,
    InstallChild,
    InstallInbound,
    TakePpk,
    Token,
)
from gateway.ike.desk import AskingCommand
from gateway.ike.flow import Flow, Fulfilled, Request, Respond, Resume, Step
from gateway.ike.registry import ExchangeType
from gateway.ike.sa import IkeSa
from gateway.ike.tunnel import Tunnel


@dataclass(slots=True, kw_only=True, eq=False)
class Task:
    """One flow under way."""

    flow: Flow[object]
    what: str  # "initiate", "rekey", "move", "rekey-ike", "respond", ...: as in ExchangeFailed
    tunnel: Tunnel | None = None  # for which one; None: for the IKE SA, or not known
    attempt: ChildAttempt | None = None  # the Child SA it makes in an IKE SA that is up
    exchange: ExchangeType | None = None  # of the request it answers; None: it is ours
    answered: bool = False
    fulfilled: bool = False  # what was asked for has come about
    token: Token | None = None  # of the command it waits for


class TaskHost(Protocol):
    """Who sends and receives on behalf of the flows."""

    def send_request(self, task: Task, request: Request) -> None:
        """The task goes on with ``Tasks.resume`` when the response is here."""

    def send_response(self, task: Task, response: Respond) -> None: ...

    def task_done(self, task: Task, result: object) -> None: ...

    def task_failed(self, task: Task, error: QsgwError) -> None: ...


class Tasks:
    """The flows of one IKE SA that are under way."""

    __slots__ = ("_host", "_running", "_sa")

    def __init__(self, sa: IkeSa, host: TaskHost) -> None:
        self._sa = sa
        self._host = host
        self._running: list[Task] = []

    def start(self, task: Task) -> None:
        self._running.append(task)
        self.resume(task, None)

    def resume(self, task: Task, value: Resume) -> None:
        self._advance(task, lambda: task.flow.send(value))

    def fail(self, task: Task, error: QsgwError) -> None:
        """Raise an error where the flow waits."""
        self._advance(task, lambda: task.flow.throw(error))

    def running(self, what: str) -> bool:
        return any(task.what == what for task in self._running)

    def of(self, tunnel: Tunnel) -> tuple[Task, ...]:
        """Those that are for one tunnel."""
        return tuple(task for task in self._running if task.tunnel is tunnel)

    def others(self, tunnel: Tunnel) -> bool:
        """Whether any is for another tunnel."""
        return any(task.tunnel not in (None, tunnel) for task in self._running)

    def busy(self) -> bool:
        """Whether any is for a tunnel."""
        return any(task.tunnel is not None for task in self._running)

    def find(self, what: str) -> Task | None:
        return next((task for task in self._running if task.what == what), None)

    def responding(self, *exchanges: ExchangeType) -> bool:
        """Whether a request of one of these kinds is under work."""
        return any(task.exchange in exchanges for task in self._running)

    def end(self, task: Task) -> None:
        """Stop a flow where it is; its ``finally`` gives back what it holds."""
        self._running.remove(task)
        if task.token is not None:
            self._sa.env.desk.abandon(task.token)
        task.flow.close()

    def end_all(self) -> tuple[Task, ...]:
        """Stop every flow. Returns what was stopped."""
        stopped = tuple(self._running)
        for task in stopped:
            self.end(task)
        return stopped

    def _advance(self, task: Task, go_on: Callable[[], Step]) -> None:
        while True:
            try:
                step = go_on()
            except StopIteration as stop:
                self._running.remove(task)
                self._host.task_done(task, stop.value)
                return
            except QsgwError as error:
                self._running.remove(task)
                self._host.task_failed(task, error)
                return
            match step:
                case Request():
                    self._host.send_request(task, step)
                    return
                case Respond():
                    task.answered = True
                    self._host.send_response(task, step)
                    go_on = lambda: task.flow.send(None)  # noqa: E731 - the loop's next turn
                case Fulfilled():
                    task.fulfilled = True
                    go_on = lambda: task.flow.send(None)  # noqa: E731 - as above
                case (
                    AllocateSpi()
                    | FetchPpk()
                    | TakePpk()
                    | CheckCertificates()
                    | InstallInbound()
                    | InstallChild()
                    | ActivateOutbound()
                ):
                    self._issue(task, step)
                    return
                case _:
                    assert_never(step)

    def _issue(self, task: Task, command: AskingCommand) -> None:
        timing = self._sa.peering.timing
        timeout = timing.ppk_timeout if isinstance(command, FetchPpk) else timing.command_timeout
        task.token = command.token

        def answered(answer: Answer, now: float) -> None:
            task.token = None
            self._sa.now = now
            self.resume(task, answer)

        self._sa.env.desk.issue(command, answered, timeout=timeout, now=self._sa.now)
