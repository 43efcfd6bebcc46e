"""Two gateways at two real KMEs, over TLS: from the link's alarm to the SAs of both."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.daemon import build
from gateway.model import Protection
from kms_client.etsi014 import KmeClient
from kms_client.models import Status
from tests.support.kme_lab import KmeLab, eventually
from tests.support.memory_site import MemorySite


class RealKmes(MemorySite):
    """moon and sun of the lab's KMEs; what is asked of them is counted."""

    def __init__(self, lab: KmeLab, **tunnel: object) -> None:
        self._lab = lab
        self.looks = 0
        super().__init__(**tunnel)

    def kmes_of(self, name: str) -> Mapping[str, KmeClient]:
        client = self._lab.client(name)
        real = client.status

        async def status(peer_sae: str) -> Status:
            self.looks += 1
            return await real(peer_sae)

        client.status = status
        return {"primary": client}


@pytest.fixture
def short_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="kme") as name:
        yield Path(name)


@pytest.mark.slow
async def test_an_alarm_of_the_link_reaches_both_gateways_without_a_look_at_the_status(
    short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = build.pool_settings
    monkeypatch.setattr(  # no look but the first, so that nothing else can have told them
        build,
        "pool_settings",
        lambda *args, **words: replace(real(*args, **words), poll_interval=3600.0),
    )
    async with KmeLab(short_dir) as lab:
        await lab.filled()
        async with RealKmes(lab, restore_dwell=1.0) as site:
            await site.until_both(Protection.HYBRID, 30)
            streams = [lab.kmes[f"kme-{sae}"].events for sae in ("moon", "sun")]
            await eventually(lambda: streams[0].count("moon") and streams[1].count("sun"))
            looks = site.looks
            lab.source.suspect("error rate 8.1 %", since=3600.0)
            await eventually(
                lambda: all(
                    gateway.happened("keys-quarantined") for gateway in (site.moon, site.sun)
                )
            )
            # What was in the pools was made within the last hour, and so is all of it gone.
            assert site.moon.happened("keys-quarantined")[0].fields["keys"] == 4
            await site.until_both(Protection.PQC_ONLY, 30)
            assert site.looks == looks
            assert not lab.ids("kme-moon") | lab.ids("kme-sun")
            lab.source.clear()
            await site.until_both(Protection.HYBRID, 60)
            assert site.looks == looks
