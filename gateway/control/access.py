"""Who is at the other end of a control connection, and what they may do."""

from __future__ import annotations

import errno
import os
import socket
import struct
from dataclasses import dataclass

_UCRED = struct.Struct("3i")  # pid, uid, gid: struct ucred, unix(7)
_GID = struct.Struct("I")
_SO_PEERGROUPS = 59  # <asm-generic/socket.h>, Linux 4.13; not in Python's socket module
_GROUPS_BUFFER = 1024  # octets, the most Python's getsockopt gives: 256 groups


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Credentials the kernel vouches for, as they were when the peer connected."""

    pid: int
    uid: int
    groups: frozenset[int]

    def may_write(self, control_gid: int | None) -> bool:
        """Root, the daemon's own user and members of the control group may change things."""
        return self.uid in {0, os.geteuid()} or control_gid in self.groups


def peer_of(connection: socket.socket) -> Peer:
    """Raises OSError when the connection is already gone."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, gid = _UCRED.unpack(raw)
    return Peer(pid=pid, uid=uid, groups=_groups(connection) | {gid})


def _groups(connection: socket.socket) -> frozenset[int]:
    """Supplementary groups; none for a peer that has more of them than we can read."""
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_BUFFER)
    except OSError as error:
        if error.errno == errno.ERANGE:
            return frozenset()
        raise
    return frozenset(gid for (gid,) in _GID.iter_unpack(raw))
