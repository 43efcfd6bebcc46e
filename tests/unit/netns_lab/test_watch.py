"""What counts as seen by both gateways."""

from __future__ import annotations

from typing import Any, cast

import pytest

from netns_lab.site import Site
from netns_lab.watch import Watch


@pytest.fixture
def watch() -> Watch:
    return Watch(cast("Site", None))


def child(gateway: str, spi_in: str, spi_out: str, key_id: str | None, **more: Any) -> Any:
    fields = {
        "protection": "HYBRID" if key_id else "PQC_ONLY",
        "spi_in": spi_in,
        "spi_out": spi_out,
        "key_id": key_id,
        "rekey": True,
        "role": "initiator" if gateway == "moon" else "responder",
    }
    tunnel = "sun" if gateway == "moon" else "moon"
    return {"type": "child-up", "tunnel": tunnel, "fields": fields | more}


def test_a_rekey_counts_once_both_ends_tell_the_same(watch: Watch) -> None:
    watch._take("moon", 1.0, child("moon", "a", "b", "key-1"))
    assert watch.rekeys() == []
    watch._take("sun", 1.1, child("sun", "b", "a", "key-1"))
    assert [seen.key_id for seen in watch.rekeys("HYBRID")] == ["key-1"]
    assert watch.rekeys("PQC_ONLY") == []
    assert watch.rekeys(since=2.0) == []


@pytest.mark.parametrize(
    "other",
    [
        child("sun", "b", "a", "key-2"),
        child("sun", "b", "a", None),
        child("sun", "a", "b", "key-1"),
        child("sun", "b", "x", "key-1"),
    ],
)
def test_ends_that_differ_are_no_rekey(watch: Watch, other: Any) -> None:
    watch._take("moon", 1.0, child("moon", "a", "b", "key-1"))
    watch._take("sun", 1.1, other)
    assert watch.rekeys() == []


def test_a_first_child_and_another_tunnels_are_no_rekey(watch: Watch) -> None:
    watch._take("moon", 1.0, child("moon", "a", "b", "key-1", rekey=False))
    watch._take("sun", 1.1, child("sun", "b", "a", "key-1", rekey=False))
    watch._take("moon", 2.0, child("moon", "c", "d", "key-2") | {"tunnel": "mars"})
    assert watch.rekeys() == []
    assert len(watch.children) == 2


def test_protection_over_time(watch: Watch) -> None:
    for at, gateway, new in (
        (0.5, "sun", "HYBRID"),
        (1.0, "moon", "HYBRID"),
        (5.0, "moon", "PQC_ONLY"),
        (5.5, "sun", "PQC_ONLY"),
        (9.0, "moon", "HYBRID"),
    ):
        tunnel = "sun" if gateway == "moon" else "moon"
        event = {"type": "protection", "tunnel": tunnel, "fields": {"new": new}}
        watch._take(cast("Any", gateway), at, event)
    assert watch.sequence("moon") == ["HYBRID", "PQC_ONLY", "HYBRID"]
    assert watch.changed_to("HYBRID", since=0.0) == {"sun": 0.5, "moon": 1.0}
    assert watch.changed_to("HYBRID", since=6.0) == {"moon": 9.0}
