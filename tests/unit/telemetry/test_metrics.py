"""Prometheus metrics of a snapshot, and the endpoint."""

import asyncio
import re
from collections.abc import AsyncIterator

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.errors import DataplaneError, StartupError
from gateway.model import PortState, Protection, Severity, Snapshot
from gateway.telemetry.metrics import MetricsServer, render_metrics
from gateway.telemetry.mqtt import MqttState
from tests.support.snapshots import (
    CKN,
    KEY_ID,
    MI,
    OUR_SCI,
    THEIR_SCI,
    alarm,
    cak_view,
    child_view,
    keys_view,
    kme_view,
    macsec_counters,
    macsec_view,
    member_view,
    sak_view,
    snapshot,
    tunnel_view,
)


def samples(text: bytes) -> dict[tuple[str, ...], float]:
    """Value by (name, label values in order of label names)."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_values_are_the_snapshots() -> None:
    found = samples(render_metrics(snapshot(alarms=(alarm(),)), MqttState(dropped=7)))
    assert found["qsgw_build_info", "0.1.0"] == 1
    assert found["qsgw_tunnel_protection", "HYBRID", "sun"] == 1
    assert found["qsgw_tunnel_protection", "PQC_ONLY", "sun"] == 0
    assert found["qsgw_tunnel_protection_age_seconds", "sun"] == 60
    assert found["qsgw_child_rekeys_total", "HYBRID", "sun"] == 18
    assert found["qsgw_child_rekeys_total", "PQC_ONLY", "sun"] == 2
    assert found["qsgw_sa_key_age_seconds", "sun"] == 30
    assert found["qsgw_sa_bytes", "in", "sun"] == 1536
    assert found["qsgw_qkd_keys_ready", "sun"] == 4
    assert found["qsgw_qkd_keys_reused_total", "sun"] == 0
    assert found["qsgw_kme_up", "primary"] == 1
    assert found["qsgw_ike_dropped_total", "integrity"] == 3
    assert found["qsgw_alarms", "warning"] == 1
    assert found["qsgw_mqtt_dropped_total",] == 7


def test_what_is_unknown_is_absent_not_zero() -> None:
    bare = tunnel_view(
        protection=Protection.DOWN, ike=None, children=(), keys=keys_view(stored_at_kme=None)
    )
    found = samples(render_metrics(snapshot(tunnels=(bare, tunnel_view("venus", keys=None)))))
    assert ("qsgw_qkd_keys_stored_at_kme", "sun") not in found
    assert ("qsgw_qkd_keys_ready", "venus") not in found
    assert ("qsgw_sa_key_age_seconds", "sun") not in found
    assert found["qsgw_child_sas", "sun"] == 0
    assert found["qsgw_ike_sas", "sun"] == 0
    assert not [name for name, *_ in found if name.startswith("qsgw_mqtt")]


def test_only_sas_in_the_kernel_count() -> None:
    tunnel = tunnel_view(children=(child_view(), child_view(in_kernel=False, spi_in="c3")))
    assert samples(render_metrics(snapshot(tunnels=(tunnel,))))["qsgw_child_sas", "sun"] == 1


def test_every_severity_has_a_series() -> None:
    found = samples(render_metrics(snapshot()))
    assert [found["qsgw_alarms", severity.value] for severity in Severity] == [0, 0, 0]


def test_macsec_links() -> None:
    metro = macsec_view(
        counters=macsec_counters(in_no_tag=3, in_late=1, out_untagged=2),
        drops={"bad-icv": 5},
        cak_rollovers=21,
        caks=(cak_view(since="2026-11-21T09:00:00.000Z"), cak_view(principal=False)),
        saks=(sak_view(), sak_view(in_kernel=False)),
        peers=(member_view(), member_view(live=False)),
    )
    found = samples(render_metrics(snapshot(macsec=(metro,))))
    assert found["qsgw_macsec_protection", "metro", "HYBRID"] == 1
    assert found["qsgw_macsec_protection", "metro", "PQC_ONLY"] == 0
    assert found["qsgw_macsec_protection_age_seconds", "metro"] == 60
    ports = {state: found["qsgw_macsec_port", "metro", state] for state in PortState}
    assert ports == {"secured": 1, "clear": 0, "blocked": 0}
    assert found["qsgw_macsec_peers", "metro"] == 1
    assert found["qsgw_macsec_key_server", "metro"] == 1
    assert found["qsgw_macsec_caks", "metro"] == 2
    assert found["qsgw_macsec_cak_age_seconds", "metro"] == 3600
    assert found["qsgw_macsec_saks", "metro"] == 1
    rollovers = [
        found["qsgw_macsec_cak_rollovers_total", "metro", kind]
        for kind in ("HYBRID", "PQC_ONLY", "CLASSICAL")
    ]
    assert rollovers == [18, 2, 1]
    assert found["qsgw_macsec_sak_rollovers_total", "metro"] == 24
    assert found["qsgw_macsec_packets_total", "out", "metro"] == 12345
    assert found["qsgw_macsec_bytes_total", "in", "metro"] == 1536
    assert found["qsgw_macsec_clear_packets_total", "out", "metro"] == 2
    assert found["qsgw_macsec_clear_packets_total", "in", "metro"] == 0
    assert found["qsgw_macsec_dropped_packets_total", "metro", "no-tag"] == 3
    assert found["qsgw_macsec_dropped_packets_total", "metro", "not-valid"] == 0
    assert found["qsgw_macsec_eapol_dropped_total", "metro", "bad-icv"] == 5


def test_a_link_without_a_device_has_no_counters() -> None:
    bare = macsec_view(counters=None, caks=(), saks=(), peers=(), we_are_key_server=False)
    found = samples(render_metrics(snapshot(macsec=(bare,))))
    assert found["qsgw_macsec_caks", "metro"] == found["qsgw_macsec_saks", "metro"] == 0
    assert found["qsgw_macsec_key_server", "metro"] == 0
    assert ("qsgw_macsec_cak_age_seconds", "metro") not in found
    assert not [name for name, *_ in found if "packets" in name and "macsec" in name]


def test_a_gateway_without_links_has_no_series_of_them() -> None:
    assert not [name for name, *_ in samples(render_metrics(snapshot())) if "macsec" in name]


def test_labels_hold_no_spi_key_id_or_address() -> None:
    shown = snapshot(kmes=(kme_view(last_error="x 10.9.1.2"),), macsec=(macsec_view(),))
    text = render_metrics(shown).decode()
    for secret in (KEY_ID, CKN, OUR_SCI, THEIR_SCI, MI):
        assert secret not in text
    assert "c1000001" not in text
    assert not re.search(r"\d+\.\d+\.\d+\.\d+", text)


# --- endpoint --------------------------------------------------------------------------------


class Source:
    def __init__(self) -> None:
        self.calls = 0
        self.error: Exception | None = None

    async def __call__(self) -> Snapshot:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return snapshot()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_endpoint(http: aiohttp.ClientSession) -> None:
    source = Source()
    server = MetricsServer(address="127.0.0.1", port=0, snapshot=source)
    await server.start()
    base = f"http://127.0.0.1:{server.port}"
    try:
        async with http.get(f"{base}/metrics") as answer:
            assert answer.status == 200
            assert answer.content_type == "text/plain"
            assert b"qsgw_tunnel_protection" in await answer.read()
        async with http.get(f"{base}/") as answer:
            assert answer.status == 404
        async with http.post(f"{base}/metrics") as answer:
            assert answer.status == 405
    finally:
        await server.stop()
        await server.stop()


async def test_a_flood_of_scrapes_reads_the_kernel_once(http: aiohttp.ClientSession) -> None:
    source = Source()
    server = MetricsServer(address="127.0.0.1", port=0, snapshot=source)
    await server.start()
    try:
        url = f"http://127.0.0.1:{server.port}/metrics"

        async def scrape() -> int:
            async with http.get(url) as answer:
                return answer.status

        assert set(await asyncio.gather(*(scrape() for _ in range(20)))) == {200}
        assert source.calls == 1
    finally:
        await server.stop()


async def test_no_snapshot_is_a_503(http: aiohttp.ClientSession) -> None:
    source = Source()
    source.error = DataplaneError("kernel busy")
    server = MetricsServer(address="127.0.0.1", port=0, snapshot=source)
    await server.start()
    try:
        async with http.get(f"http://127.0.0.1:{server.port}/metrics") as answer:
            assert answer.status == 503
    finally:
        await server.stop()


async def test_port_in_use_is_one_line() -> None:
    first = MetricsServer(address="127.0.0.1", port=0, snapshot=Source())
    await first.start()
    try:
        second = MetricsServer(address="127.0.0.1", port=first.port, snapshot=Source())
        with pytest.raises(StartupError, match=r"\[metrics\] listen 127\.0\.0\.1 port \d+"):
            await second.start()
    finally:
        await first.stop()


def test_an_ike_sa_that_tunnels_share_is_counted_once() -> None:
    tunnels = (tunnel_view("sun"), tunnel_view("scada", connection="sun"))
    found = samples(render_metrics(snapshot(tunnels=tunnels)))
    assert found["qsgw_ike_sas", "sun"] == 1
    assert ("qsgw_ike_sas", "scada") not in found
    assert ("qsgw_ike_rekeys_total", "scada") not in found
