"""Where the local sockets are: ``unix:/path`` or ``tcp:host:port``."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from qkd_adapters.errors import KmeStartupError

# sun_path is 108 octets with its terminating zero: unix(7).
UNIX_PATH_LIMIT = 107

ConnectionCallback = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class UnixAddress:
    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpAddress:
    host: str
    port: int

    def __str__(self) -> str:
        return f"tcp:{join_host_port(self.host, self.port)}"


Address = UnixAddress | TcpAddress


def join_host_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_host_port(text: str) -> tuple[str, int]:
    """``host:port`` or ``[v6]:port``. Raises ValueError."""
    host, colon, port_text = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port_text.isdecimal() or int(port_text) > 65535:
        raise ValueError(f"{text!r} is not HOST:PORT")
    return host, int(port_text)


def parse_address(text: str) -> Address:
    """Raises ValueError with a text for the operator."""
    scheme, _, rest = text.partition(":")
    if scheme == "unix":
        if not rest.startswith("/"):
            raise ValueError(f"{text!r}: the path of a Unix socket must be absolute")
        if len(os.fsencode(rest)) > UNIX_PATH_LIMIT:
            raise ValueError(f"{text!r}: longer than {UNIX_PATH_LIMIT} octets")
        return UnixAddress(path=rest)
    if scheme == "tcp":
        host, port = split_host_port(rest)
        return TcpAddress(host=host, port=port)
    raise ValueError(f"{text!r} is neither unix:/PATH nor tcp:HOST:PORT")


async def listen(address: Address, callback: ConnectionCallback) -> asyncio.Server:
    """Listen; a Unix socket gets mode 0600. Raises KmeStartupError."""
    try:
        match address:
            case UnixAddress(path=path):
                return await asyncio.start_unix_server(callback, sock=_bind_unix(path))
            case TcpAddress(host=host, port=port):
                return await asyncio.start_server(callback, host, port)
    except OSError as error:
        raise KmeStartupError(f"cannot listen on {address}: {error.strerror or error}") from error


async def connect(address: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Raises OSError."""
    match address:
        case UnixAddress(path=path):
            return await asyncio.open_unix_connection(path)
        case TcpAddress(host=host, port=port):
            return await asyncio.open_connection(host, port)


def remove_socket(address: Address) -> None:
    """Take away the file of a Unix socket we listened on."""
    if isinstance(address, UnixAddress):
        Path(address.path).unlink(missing_ok=True)


def _bind_unix(path: str) -> socket.socket:
    _clear_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    # The mode must hold from the first instant: whoever connects gets keys.
    previous = os.umask(0o177)
    try:
        sock.bind(path)
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(previous)
    return sock


def _clear_stale(path: str) -> None:
    """Remove a socket file nobody listens on; refuse to take over a live one."""
    try:
        mode = Path(path).lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, "exists and is not a socket")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()
        else:
            raise OSError(errno.EADDRINUSE, "another process listens there")
