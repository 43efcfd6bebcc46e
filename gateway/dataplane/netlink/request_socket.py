"""The socket that asks the kernel: one request, its answer or the kernel's refusal.

It joins no multicast group: an event between request and answer would be taken for the answer.
Kernel events have a socket of their own (``monitor``).
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Mapping
from contextlib import aclosing, suppress
from typing import Any, Final

from pyroute2.netlink import NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.nlsocket import AsyncNetlinkSocket

from gateway.dataplane.netlink.layout import NetlinkFamily
from gateway.errors import DataplaneError, StartupError

_ANSWER_MAX: Final = 65536  # octets; no part of a dump is larger (NLMSG_GOODSIZE, linux/netlink.h)
_DUMP_TRIES: Final = 5


class RequestSocket:
    """Requests of one family. Belongs to the event loop it was opened in.

    ``replies``: message classes by message type, of what the kernel answers.
    """

    def __init__(self, family: NetlinkFamily, replies: Mapping[int, Any]) -> None:
        self._family = family
        self._replies = dict(replies)
        self._socket: Any = None
        self._dumping = asyncio.Lock()

    async def open(self) -> None:
        """Raises StartupError where the kernel does not have the family."""
        self._socket = await open_netlink(self._family)
        self._socket.register_policy(self._replies)

    def learn(self, message_type: int, message_class: Any) -> None:
        """Another type of answer, which is known by its number only now."""
        self._replies[message_type] = message_class
        self._socket.register_policy(self._replies)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def execute(self, what: str, message_type: int, message: Any, flags: int = 0) -> None:
        """A request that is answered by an acknowledgement. ``flags``: NLM_F_CREATE and so on."""
        await self._exchange(what, message_type, message, NLM_F_REQUEST | NLM_F_ACK | flags)

    async def fetch(self, what: str, message_type: int, message: Any) -> Any:
        """A request that is answered by one message.

        Without NLM_F_ACK: pyroute2 ends the exchange at the first message, and an
        acknowledgement behind it would be queued for ever.
        """
        answers = await self._exchange(what, message_type, message, NLM_F_REQUEST)
        if not answers:
            raise DataplaneError(f"{what}: the kernel gave no answer", errno.ENODATA)
        return answers[0]

    async def dump(self, what: str, message_type: int, make: Callable[[], Any]) -> list[Any]:
        """Everything of one kind, drained. ``make`` gives the request, for each try anew."""
        for _ in range(_DUMP_TRIES):
            async with self._dumping:  # a socket can have one dump under way: netlink(7), EBUSY
                flags = NLM_F_REQUEST | NLM_F_DUMP
                replies = await self._exchange(what, message_type, make(), flags)
            if not any(reply["header"]["flags"] & NLM_F_DUMP_INTR for reply in replies):
                return replies
        raise DataplaneError(f"{what}: the kernel changes while it is read", errno.EINTR)

    async def _exchange(self, what: str, message_type: int, message: Any, flags: int) -> list[Any]:
        if self._socket is None:
            raise DataplaneError(f"{what}: the {self._family.name} socket is not open", errno.EBADF)
        try:
            try:
                replies = await self._socket.nlm_request(message, message_type, flags)
            finally:
                _wipe(message)
            if not flags & NLM_F_DUMP:
                self._take_answer()
            async with aclosing(replies):
                return [reply async for reply in replies if reply["header"]["type"] >= 0x10]
        except NetlinkError as error:
            raise refused(what, error) from None
        except OSError as error:
            await self._reopen()
            raise DataplaneError(f"{what}: {error.strerror}", error.errno or 0) from None

    def _take_answer(self) -> None:
        """The kernel answers while the request is sent: spare it a turn of the event loop.

        Whatever is read here goes to whoever waits for it, as if the loop had read it.
        """
        with suppress(BlockingIOError):
            data = self._socket.recv(_ANSWER_MAX)
            self._socket.enqueue(data, None)

    async def _reopen(self) -> None:
        # An error on the socket itself leaves pyroute2's socket unusable for good.
        self.close()
        await self.open()


class SequenceNumbers:
    """In place of pyroute2's pool, which looks for free numbers bit by bit for each request.

    A number comes back after 2**32 requests; no request lives that long.
    """

    def __init__(self) -> None:
        self._last = 0

    def alloc(self) -> int:
        self._last = (self._last + 1) & 0xFFFFFFFF or 1  # 0 is an event's
        return self._last

    def free(self, number: int, ban: int = 0) -> None:
        """Nothing to do: see above."""


async def open_netlink(family: NetlinkFamily, **options: Any) -> Any:
    """A socket of this family, namespace and event loop, bound, in no group."""
    sock = AsyncNetlinkSocket(family=family.number, ext_ack=True, strict_check=True, **options)
    sock.addr_pool = SequenceNumbers()
    try:
        await sock.bind()
    except OSError as error:
        sock.close()
        raise StartupError(
            f"no {family.name} in this kernel (module {family.module}): {error.strerror}"
        ) from error
    return sock


def refused(what: str, error: NetlinkError) -> DataplaneError:
    """The kernel's refusal in its own words, which pyroute2 has as the second argument."""
    name = errno.errorcode.get(error.code, str(error.code))
    return DataplaneError(f"{what}: {error.args[1]} ({name})", error.code)


def _wipe(message: Any) -> None:
    # The request has gone out or never will; an SA's key stood in it.
    message["attrs"] = []
    message.data[:] = bytes(len(message.data))  # same size: overwritten in place
