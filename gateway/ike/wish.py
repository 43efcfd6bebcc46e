"""What somebody asked for: a Child SA for a tunnel, with or without a QKD key of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.ike.config import PpkMode
from gateway.ike.ppk import HeldPpk

if TYPE_CHECKING:
    from gateway.ike.tunnel import Tunnel

NO_KEY = "policy requires a QKD key and there is none at hand"


@dataclass(slots=True, kw_only=True, eq=False)
class Wish:
    """Ends in ChildUp or in one ExchangeFailed; ``ppk`` is settled then."""

    tunnel: Tunnel
    what: str  # "initiate" or "rekey", as in ExchangeFailed
    ppk: HeldPpk | None

    @property
    def lacks_key(self) -> bool:
        """Policy requires a key, and the wish brings none."""
        return self.ppk is None and self.tunnel.mode is PpkMode.REQUIRE

    def refuse(
        self,
        reason: str,
        *,
        notify: str | None = None,
        from_peer: bool = False,
        ppk_missing: bool = False,
    ) -> None:
        """It comes to nothing; the arguments are those of ExchangeFailed."""
        if self.ppk is not None:
            self.ppk.settle(used=False, reason=reason)
        self.tunnel.failed(
            self.what, reason, notify=notify, from_peer=from_peer, ppk_missing=ppk_missing
        )
