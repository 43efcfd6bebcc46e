"""The loop around the IKE core: feed it, carry out what it asks, send, arm one timer.

The core does no I/O. Everything that enters it goes through ``Driver.run``, so after each
input its datagrams, commands and events are drained once, in order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from gateway.daemon.core_loop import CoreLoop
from gateway.ike.commands import Answer, Command
from gateway.ike.endpoint import Endpoint
from gateway.ike.events import Event
from gateway.model import IpAddress

Peer = tuple[IpAddress, int]


class Executor(Protocol):
    """Carries out commands; hands answers to the function it was given."""

    def submit(self, command: Command) -> None: ...


class Driver:
    """Owns the endpoint. Single-threaded; every method returns at once."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        send: Callable[[bytes, Peer, Peer], None],
        on_event: Callable[[Event], None],
        clock: Callable[[], float],
    ) -> None:
        self.endpoint = endpoint
        self._send = send
        self._on_event = on_event
        self._clock = clock
        self._executor: Executor | None = None
        self._loop = CoreLoop(endpoint, drain=self._drain, clock=clock)

    def connect(self, executor: Executor) -> None:
        """Executor and driver know each other; this closes the circle."""
        self._executor = executor

    def receive(self, data: bytes, local: Peer, remote: Peer) -> None:
        """A datagram came in."""
        now = self._clock()
        self.run(lambda: self.endpoint.receive_datagram(data, local=local, remote=remote, now=now))

    def answer(self, answer: Answer) -> None:
        """A command was carried out, or failed."""
        self.run(lambda: self.endpoint.answer(answer, self._clock()))

    def run(self, step: Callable[[], None]) -> None:
        """Do one thing to the endpoint (see ``CoreLoop.run``)."""
        self._loop.run(step)

    def close(self) -> None:
        self._loop.close()

    def _drain(self) -> None:
        if self._executor is None:
            raise RuntimeError("driver is not connected to an executor")
        while True:
            datagrams = self.endpoint.take_datagrams()
            commands = self.endpoint.take_commands()
            events = self.endpoint.take_events()
            if not (datagrams or commands or events):
                return
            for datagram in datagrams:
                self._send(datagram.data, datagram.local, datagram.remote)
            for command in commands:
                self._executor.submit(command)
            for event in events:
                self._on_event(event)
