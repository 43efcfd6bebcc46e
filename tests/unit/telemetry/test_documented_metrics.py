"""docs/operations.md names exactly the metrics there are, and the alarms and events too."""

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from gateway.daemon.macsec.alarms import ALARMS
from gateway.telemetry.metrics import render_metrics
from gateway.telemetry.mqtt import MqttState
from tests.support.snapshots import macsec_view, snapshot

ROOT = Path(__file__).parents[3]
MANUAL = (ROOT / "docs" / "operations.md").read_text()


def section(title: str) -> str:
    _, _, rest = MANUAL.partition(f"### {title}\n")
    assert rest, title
    return re.split(r"^##", rest, maxsplit=1, flags=re.MULTILINE)[0]


def sources(*folders: str) -> str:
    return "\n".join(
        path.read_text() for folder in folders for path in (ROOT / "gateway" / folder).rglob("*.py")
    )


def test_metrics() -> None:
    link = macsec_view(drops={"bad-icv": 1})
    shown = {
        sample.name
        for family in text_string_to_metric_families(
            render_metrics(snapshot(macsec=(link,)), MqttState()).decode()
        )
        for sample in family.samples
    }
    documented = set(re.findall(r"^\| (.+?) \|", section("Prometheus"), re.MULTILINE))
    named = {name for cell in documented for name in re.findall(r"`(qsgw_\w+)`", cell)}
    assert named == shown


def test_alarms() -> None:
    rows = re.findall(r"^\| (`[^|]+`) \|", section("Alarms"), re.MULTILINE)
    documented = {name for row in rows for name in re.findall(r"`([a-z-]+)`", row)}
    text = sources("protection", "daemon")
    raised = set(re.findall(r'alarms\["([a-z-]+)"\]|raise_alarm\(\s*"([a-z-]+)"', text))
    assert documented == {one or other for one, other in raised} | set(ALARMS)


def test_events() -> None:
    (line,) = re.findall(r"^Events, .*?: (.*)$", section("MQTT"), re.MULTILINE)
    named = r'(?:\.publish|\._say|\.failed)\(\s*"([a-z-]+)"'
    assert set(re.findall(r"`([a-z-]+)`", line)) == set(re.findall(named, sources("daemon")))
