"""Two IKE endpoints in memory, as the tests have them, but for what would be measured too."""

from __future__ import annotations

from tests.support.ike_pair import Pair


class Unwatched(Pair):
    """Without the checks after every step."""

    def check_traffic(self) -> None:
        return
