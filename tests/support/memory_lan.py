"""A layer-2 link in memory between gateways: EAPOL frames take a moment, and may get lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.daemon.macsec.eapol import FrameSocket, OnFrame, OpenSocket
from gateway.dataplane.macsec_memory import MemoryMacsec
from gateway.errors import DataplaneError

FRAME_DELAY = 0.001  # seconds
MACS = {"moon": bytes((2, 0, 0, 0, 0, 1)), "sun": bytes((2, 0, 0, 0, 0, 2))}
PARENT = "eth1"


class _Socket:
    def __init__(self, lan: MemoryLan, name: str, interface: str, on_frame: OnFrame) -> None:
        self.lan, self.name, self.interface, self.on_frame = lan, name, interface, on_frame
        self.open = True
        self.failures: dict[str, int] = {}

    def send(self, frame: bytes) -> None:
        self.lan.send(self, frame)

    def close(self) -> None:
        self.open = False
        self.lan.sockets.discard(self)


class MemoryLan:
    """Interfaces of one name are on one link. ``loses``: whether a frame of a station gets lost."""

    def __init__(self) -> None:
        self.sockets: set[_Socket] = set()
        self.planes: dict[str, MemoryMacsec] = {}
        self.loses: Callable[[str, bytes], bool] = lambda _name, _frame: False
        self.frames: list[tuple[str, bytes]] = []

    def plane(self, name: str) -> MemoryMacsec:
        """A kernel with an interface on the link."""
        made = self.planes[name] = MemoryMacsec()
        made.add_parent(PARENT, MACS[name])
        return made

    def opener(self, name: str) -> OpenSocket:
        def open_socket(interface: str, index: int, on_frame: OnFrame) -> FrameSocket:
            parent = self.planes[name].parents.get(interface)
            if parent is None or parent.index != index:
                raise DataplaneError(f"EAPOL: there is no interface {interface}")
            made = _Socket(self, name, interface, on_frame)
            self.sockets.add(made)
            return made

        return open_socket

    def open_any(self, interface: str, index: int, on_frame: OnFrame) -> FrameSocket:
        """For whoever has no socket on that interface yet."""
        taken = {each.name for each in self.sockets if each.interface == interface}
        for name, plane in self.planes.items():
            parent = plane.parents.get(interface)
            if name not in taken and parent is not None and parent.index == index:
                return self.opener(name)(interface, index, on_frame)
        raise DataplaneError(f"EAPOL: there is no interface {interface}")

    def send(self, sender: _Socket, frame: bytes) -> None:
        assert sender.open, "a closed socket sends"
        self.frames.append((sender.name, frame))
        if self.loses(sender.name, frame):
            return
        for socket in tuple(self.sockets):
            if socket.name != sender.name and socket.interface == sender.interface:
                asyncio.get_running_loop().call_later(FRAME_DELAY, self._deliver, socket, frame)

    def inject(self, frame: bytes) -> None:
        """From somebody else on the link."""
        for socket in tuple(self.sockets):
            self._deliver(socket, frame)

    def _deliver(self, socket: _Socket, frame: bytes) -> None:
        parent = self.planes[socket.name].parents.get(socket.interface)
        if socket.open and parent is not None and parent.running:
            socket.on_frame(frame)
