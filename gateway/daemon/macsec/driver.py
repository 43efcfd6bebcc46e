"""The loop around the MKA core of one interface."""

from __future__ import annotations

from collections.abc import Callable

from gateway.daemon.core_loop import CoreLoop
from gateway.mka.commands import Answer, Command
from gateway.mka.events import Event
from gateway.mka.port import Port


class PortDriver:
    """Owns a port. Single-threaded; every method returns at once."""

    def __init__(
        self,
        port: Port,
        *,
        send: Callable[[bytes], None],
        submit: Callable[[Command], None],
        on_event: Callable[[Event], None],
        settled: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        """``settled`` is called once after something happened, when all of it was passed on."""
        self.port = port
        self._send = send
        self._submit = submit
        self._on_event = on_event
        self._settled = settled
        self._clock = clock
        self._loop = CoreLoop(port, drain=self._drain, clock=clock)

    def begin(self) -> None:
        """Pass on what the port says when it is made."""
        self._loop.run(lambda: None)

    def receive(self, frame: bytes) -> None:
        """An EAPOL frame came in."""
        self.run(lambda now: self.port.receive_frame(frame, now))

    def transmit_pn(self, an: int, next_pn: int) -> None:
        """The packet number of a transmit SA was read."""
        self.run(lambda now: self.port.transmit_pn(an, next_pn, now))

    def answer(self, answer: Answer) -> None:
        """A command was carried out, or failed."""
        self.run(lambda now: self.port.answer(answer, now))

    def run(self, step: Callable[[float], None]) -> None:
        """Do one thing to the port, at the time given to it (see ``CoreLoop.run``)."""
        self._loop.run(lambda: step(self._clock()))

    def close(self) -> None:
        """Feed it no more and arm nothing. The port is left as it is."""
        self._loop.close()

    def _drain(self) -> None:
        happened = False
        while True:
            frames = self.port.take_frames()
            commands = self.port.take_commands()
            events = self.port.take_events()
            if not (frames or commands or events):
                break
            happened = happened or bool(commands or events)
            for frame in frames:
                self._send(frame)
            for command in commands:
                self._submit(command)
            for event in events:
                self._on_event(event)
        if happened:
            self._settled()
