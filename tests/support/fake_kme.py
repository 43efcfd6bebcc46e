"""A KME in memory for tests of what stands above the HTTP client."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence

from kms_client.errors import KmeEmptyError, KmeError, KmeRefusedError
from kms_client.events import LinkEvent
from kms_client.models import QkdKey, Status, link_report
from kms_client.secret import Secret


class FakeKme:
    """Delivers keys from ``stored``; what the peer pulled lies in ``for_us``.

    ``fault`` is raised by every call, ``status_fault`` by status only; ``hold`` makes calls wait.
    ``tell`` sends ``extension`` to who follows the events, or an error that ends the streams.
    """

    def __init__(self, name: str = "primary", *, stored: int = 1_000_000) -> None:
        self.name = name
        self.url = f"https://{name}.test"
        self.stored = stored
        self.max_count: int | None = None
        self.extension: object = None
        self.fault: KmeError | None = None
        self.status_fault: KmeError | None = None
        self.hold: asyncio.Event | None = None
        self.repeat: QkdKey | None = None  # always deliver this key_ID
        self.for_us: dict[str, bytes] = {}
        self.calls: list[str] = []
        self.asked: list[int] = []
        self.delivered: list[QkdKey] = []
        self.closed = False
        self.streams: list[asyncio.Queue[LinkEvent | KmeError]] = []
        self.clock: Callable[[], float] = lambda: asyncio.get_running_loop().time()
        self._serial = 0

    async def _enter(self, call: str) -> None:
        self.calls.append(call)
        if self.hold is not None:
            await self.hold.wait()
        if self.fault is not None:
            raise self.fault

    async def status(self, peer_sae: str) -> Status:
        await self._enter("status")
        if self.status_fault is not None:
            raise self.status_fault
        return Status(
            source_KME_ID=self.name,
            stored_key_count=self.stored,
            max_key_count=self.max_count,
            status_extension=self.extension,
        )

    async def enc_keys(
        self, peer_sae: str, *, number: int = 1, size: int = 256
    ) -> tuple[QkdKey, ...]:
        await self._enter("enc_keys")
        self.asked.append(number)
        given = min(number, self.stored)
        if not given:
            raise KmeEmptyError(self.name, "no keys")
        self.stored -= given
        keys = tuple(self._make(size) for _ in range(given))
        self.delivered += keys
        return keys

    def _make(self, size: int) -> QkdKey:
        self._serial += 1
        key_id = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self.name}/{self._serial}"))
        if self.repeat is not None:
            key_id = self.repeat.key_id
        return QkdKey(key_id=key_id, key=Secret(self._serial.to_bytes(size // 8, "big")))

    async def dec_keys(self, peer_sae: str, key_ids: Sequence[str]) -> tuple[QkdKey, ...]:
        await self._enter("dec_keys")
        if any(key_id not in self.for_us for key_id in key_ids):
            raise KmeRefusedError(self.name, "one or more keys specified are not found on KME")
        return tuple(
            QkdKey(key_id=key_id, key=Secret(self.for_us.pop(key_id))) for key_id in key_ids
        )

    async def events(self, peer_sae: str, path: str) -> AsyncGenerator[LinkEvent]:
        opened = self.clock()
        await self._enter(f"events {path}")
        queue: asyncio.Queue[LinkEvent | KmeError] = asyncio.Queue()
        self.streams.append(queue)
        try:
            yield self._event(0.0)
            while True:
                event = await queue.get()
                if isinstance(event, KmeError):
                    raise event
                yield LinkEvent(report=event.report, elapsed=event.elapsed - opened)
        finally:
            self.streams.remove(queue)

    def _event(self, elapsed: float) -> LinkEvent:
        report = link_report(self.extension)
        assert report is not None
        return LinkEvent(report=report, elapsed=elapsed)

    def tell(self, error: KmeError | None = None) -> None:
        for queue in self.streams:
            queue.put_nowait(error or self._event(self.clock()))

    async def close(self) -> None:
        self.closed = True
