"""Counters per SAE pair and direction: what came in, what went out, what was refused."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field


@dataclass(slots=True)
class DirectionAccount:
    """All counts are keys, except ``refused``: requests by HTTP status.

    With keys of the block size, at any time: ``stored`` = delivered + expired (unfetched) +
    discarded + quarantined + what is here now. ``delivered`` is ``delivered_master`` where the
    master SAE is ours, else ``delivered_slave``; ``delivered_suspect`` are among them.
    """

    stored: int = 0  # came over the link and became available
    delivered_master: int = 0
    delivered_slave: int = 0
    expired: int = 0  # before the master asked
    unfetched: int = 0  # delivered to the master, too old before the slave asked
    discarded: int = 0  # the peer KME did not hold them, or not all parts of one
    quarantined: int = 0  # withdrawn by the link as suspect while they were here
    delivered_suspect: int = 0  # withdrawn by the link too late: an SAE has them
    refused: Counter[int] = field(default_factory=Counter)

    def as_json(self) -> dict[str, object]:
        account = asdict(self)
        account["refused"] = {str(status): count for status, count in self.refused.items()}
        return account
