"""What is counted as a rollover: what both gateways told of, in either order."""

from __future__ import annotations

from typing import Any

import pytest

from netns_lab.macsec_watch import MacsecWatch
from netns_lab.site_files import Gateway

MI = "00112233445566778899aabb"


@pytest.fixture
def watch() -> MacsecWatch:
    class NoSite:
        pass

    site: Any = NoSite()
    return MacsecWatch(site)


def event(kind: str, **fields: object) -> dict[str, Any]:
    return {"type": kind, "time": "2026-11-21T17:00:00.250Z", "tunnel": "metro", "fields": fields}


def uses(
    watch: MacsecWatch, at: float, kn: int, ckn: str, protection: str, *gateways: Gateway
) -> None:
    for gateway in gateways:
        fields = {"ki": f"{MI}.{kn}", "an": kn % 4, "ckn": ckn, "protection": protection}
        watch._take(gateway, at, event("macsec-sak-in-use", **fields))


def test_caks_and_saks_are_counted_where_both_gateways_tell_of_them(watch: MacsecWatch) -> None:
    uses(watch, 1.0, 1, "aa", "HYBRID", "sun", "moon")
    uses(watch, 2.0, 2, "aa", "HYBRID", "moon", "sun")
    uses(watch, 3.0, 3, "bb", "PQC_ONLY", "moon", "sun")
    uses(watch, 4.0, 4, "bb", "PQC_ONLY", "moon", "sun")
    uses(watch, 5.0, 5, "cc", "HYBRID", "moon")
    assert watch.sak_rollovers() == 3
    assert [use.ckn for use in watch.cak_rollovers()] == ["bb"]
    assert watch.cak_rollovers("HYBRID") == []
    uses(watch, 5.1, 5, "cc", "HYBRID", "sun")
    assert [use.ckn for use in watch.cak_rollovers(since=4.5)] == ["cc"]
    assert watch.sequence("moon") == ["HYBRID", "PQC_ONLY", "HYBRID"]


def test_what_came_into_use_since_a_moment_at_each_gateway(watch: MacsecWatch) -> None:
    uses(watch, 1.0, 1, "aa", "PQC_ONLY", "moon", "sun")
    uses(watch, 3.0, 2, "bb", "PQC_ONLY", "moon")
    assert set(watch.in_use("PQC_ONLY", since=0.5)) == {"moon", "sun"}
    assert set(watch.in_use("PQC_ONLY", since=2.0)) == {"moon"}


def test_alarms_have_the_gateways_own_time(watch: MacsecWatch) -> None:
    watch._take("sun", 9.0, {**event("alarm-raised", alarm="qkd-suspect"), "tunnel": "moon"})
    assert watch.alarms == [(1795280400.25, "sun", "qkd-suspect")]
