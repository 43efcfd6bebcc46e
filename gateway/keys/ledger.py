"""One QKD key, one use: which key_IDs have come up, and what became of them."""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum, auto

from gateway.errors import KeyReusedError
from gateway.model import KeyId

LEDGER_SIZE = 32_768
"""key_IDs remembered. At one rekey per 30 s (both directions) that is more than five days;
KMEs forget a key when it is delivered, so an older one cannot come up again."""


class _Fate(Enum):
    CLAIMED = auto()  # on its way into a key exchange
    SETTLED = auto()  # in an SA, or burned


class KeyLedger:
    """Remembers the latest ``LEDGER_SIZE`` key_IDs (never keys), in RAM only."""

    def __init__(self, size: int = LEDGER_SIZE) -> None:
        self._size = size
        self._fates: OrderedDict[KeyId, _Fate] = OrderedDict()  # oldest first
        self.used = 0
        self.burned = 0
        self.reused = 0

    def claim(self, key_id: KeyId) -> None:
        """Take this key_ID for one exchange. Raises KeyReusedError if it ever was before."""
        if key_id in self._fates:
            self.reused += 1
            raise KeyReusedError(f"QKD key {key_id} came up a second time")
        self._fates[key_id] = _Fate.CLAIMED
        if len(self._fates) > self._size:
            self._fates.popitem(last=False)

    def release(self, key_id: KeyId) -> None:
        """The claim came to nothing: the key was never delivered."""
        if self._fates.get(key_id) is _Fate.CLAIMED:
            del self._fates[key_id]

    def settle(self, key_id: KeyId, *, used: bool) -> None:
        """The key is out of our hands. Only the first word on a claimed key counts."""
        if self._fates.get(key_id) is not _Fate.CLAIMED:
            return
        self._fates[key_id] = _Fate.SETTLED
        if used:
            self.used += 1
        else:
            self.burned += 1
