"""Notices that nothing passes through a tunnel's SA any more."""

from __future__ import annotations

from collections.abc import Collection

from gateway.model import KernelSnapshot, SaId


class IdleWatch:
    """Follows the packet counters of the SAs in use. Monotonic seconds."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._counters: dict[SaId, int] = {}
        self._quiet_since: float | None = None

    def ceased(self, carrying: Collection[SaId], kernel: KernelSnapshot, now: float) -> bool:
        """Whether no packet has passed for the whole timeout. To be asked at intervals.

        A new SA begins at zero, so a rekey by itself is no traffic.
        """
        counters = {sa.sa_id: sa.packets for sa in kernel.sas if sa.sa_id in carrying}
        passed = any(count > self._counters.get(sa_id, 0) for sa_id, count in counters.items())
        self._counters = counters
        if passed or not counters or self._quiet_since is None:
            self._quiet_since = now if counters else None
        return self._quiet_since is not None and now - self._quiet_since >= self._timeout
