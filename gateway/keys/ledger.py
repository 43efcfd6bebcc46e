"""One QKD key, one use: which key_IDs have come up, and what became of them."""

from __future__ import annotations

from gateway.errors import KeyReusedError
from gateway.model import KeyId

MAX_CLAIMED = 32_768
"""key_IDs remembered. At one rekey per 30 s (both directions) that is more than five days;
KMEs forget a key when it is delivered, so an older one cannot come up again."""

MAX_OPEN = 256
"""Keys of one tunnel on their way into an exchange; a handful, unless somebody never settles."""


class ClaimedKeys:
    """The latest key_IDs (never keys) of the whole process, in RAM only.

    Shared by all tunnels and kept through a reload, so that a key_ID that has served one
    tunnel is refused in every other one too.
    """

    def __init__(self, size: int = MAX_CLAIMED) -> None:
        self._size = size
        self._key_ids: dict[KeyId, None] = {}  # oldest first

    def add(self, key_id: KeyId) -> bool:
        """False when it is there already."""
        if key_id in self._key_ids:
            return False
        self._key_ids[key_id] = None
        if len(self._key_ids) > self._size:
            del self._key_ids[next(iter(self._key_ids))]
        return True

    def discard(self, key_id: KeyId) -> None:
        self._key_ids.pop(key_id, None)


class KeyLedger:
    """Claims of one tunnel, and its counts of keys used, burned and refused as reused."""

    def __init__(self, claimed: ClaimedKeys | None = None) -> None:
        self._claimed = ClaimedKeys() if claimed is None else claimed
        self._open: dict[KeyId, None] = {}  # claimed and not settled, oldest first
        self.used = 0
        self.burned = 0
        self.reused = 0

    def claim(self, key_id: KeyId) -> None:
        """Take this key_ID for one exchange. Raises KeyReusedError if it ever was before."""
        if not self._claimed.add(key_id):
            self.reused += 1
            raise KeyReusedError(f"QKD key {key_id} came up a second time")
        self._open[key_id] = None
        if len(self._open) > MAX_OPEN:
            del self._open[next(iter(self._open))]

    def release(self, key_id: KeyId) -> None:
        """The claim came to nothing: the key was never delivered."""
        if key_id in self._open:
            del self._open[key_id]
            self._claimed.discard(key_id)

    def settle(self, key_id: KeyId, *, used: bool) -> None:
        """The key is out of our hands. Only the first word on a claimed key counts."""
        if key_id not in self._open:
            return
        del self._open[key_id]
        if used:
            self.used += 1
        else:
            self.burned += 1
