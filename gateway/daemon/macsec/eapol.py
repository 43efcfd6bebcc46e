"""The EAPOL socket: frames of Ethertype 0x888e to and from one interface, whole.

On the parent, beside the MACsec device: EAPOL is never protected. The parent's filter lets it pass.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import struct
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from gateway.errors import DataplaneError
from gateway.mka.registry import ETHERTYPE_EAPOL, PAE_GROUP_ADDRESS

log = logging.getLogger("qsgw.eapol")

FRAME_MAX: Final = 2048  # octets read of one frame; the longest MKPDU fits an Ethernet frame
READS_MAX: Final = 32  # frames taken at one wake-up: whoever floods us must not starve the others
PACKET_OUTGOING: Final = 4  # <linux/if_packet.h>: a frame that leaves here
_SOL_PACKET: Final = 263  # <linux/socket.h>
_ADD_MEMBERSHIP: Final = 1  # <linux/if_packet.h> PACKET_ADD_MEMBERSHIP
_MR_MULTICAST: Final = 0  # PACKET_MR_MULTICAST

OnFrame = Callable[[bytes], None]


class FrameSocket(Protocol):
    """EAPOL on one interface."""

    @property
    def failures(self) -> Mapping[str, int]:
        """Frames not sent and reads in vain, by error."""

    def send(self, frame: bytes) -> None:
        """A whole Ethernet frame. One that cannot be sent is lost, as on any LAN."""

    def close(self) -> None: ...


OpenSocket = Callable[[str, int, OnFrame], FrameSocket]
"""Name and index of the interface; whom to give frames. Raises DataplaneError."""


class EapolSocket:
    """Bound to an interface by its index: one that comes back under its name needs another."""

    def __init__(self, interface: str, index: int, on_frame: OnFrame) -> None:
        """Raises DataplaneError, with what to do about it where that is known."""
        self._interface = interface
        self._on_frame = on_frame
        self.failures: Counter[str] = Counter()
        try:
            self._socket = _open(interface, index)
        except OSError as error:
            raise DataplaneError(_explain(interface, error), error.errno or 0) from error
        asyncio.get_running_loop().add_reader(self._socket, self._readable)

    def send(self, frame: bytes) -> None:
        try:
            self._socket.send(frame)
        except OSError as error:  # down, or its queue is full: MKA says everything again
            self._note(error)

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()

    def _readable(self) -> None:
        for _ in range(READS_MAX):
            try:
                frame, address = self._socket.recvfrom(FRAME_MAX)
            except BlockingIOError:
                return
            except OSError as error:  # ENETDOWN: said once, when the interface goes down
                self._note(error)
                return
            if address[2] != PACKET_OUTGOING:
                self._on_frame(frame)
            if self._socket.fileno() < 0:
                return  # what it led to has closed us

    def _note(self, error: OSError) -> None:
        name = errno.errorcode.get(error.errno or 0, str(error.errno))
        if not self.failures[name]:
            log.debug("EAPOL on %s: %s", self._interface, error.strerror)
        self.failures[name] += 1


def _open(interface: str, index: int) -> socket.socket:
    # Bound before it receives anything: with a protocol given here it would hear every interface.
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    try:
        sock.setblocking(False)
        request = struct.pack("iHH8s", index, _MR_MULTICAST, len(PAE_GROUP_ADDRESS), _GROUP)
        sock.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, request)  # struct packet_mreq
        sock.bind((interface, ETHERTYPE_EAPOL))
    except BaseException:
        sock.close()
        raise
    return sock


_GROUP: Final = PAE_GROUP_ADDRESS.ljust(8, b"\0")


def _explain(interface: str, error: OSError) -> str:
    match error.errno:
        case errno.EPERM | errno.EACCES:
            return f"EAPOL on {interface}: not permitted; the daemon needs CAP_NET_RAW"
        case errno.EAFNOSUPPORT:
            return (
                f"EAPOL on {interface}: no packet sockets: the kernel has none (module af_packet), "
                "or RestrictAddressFamilies= of the unit forbids them"
            )
        case errno.ENODEV | errno.ENXIO:
            return f"EAPOL: there is no interface {interface}"
        case _:
            return f"EAPOL on {interface}: {error.strerror or error}"
