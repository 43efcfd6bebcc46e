"""The probe at our own KME: all passes as it is, and each quirk is named when it is on."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kms_client.profiles import DEFAULT_PROFILE
from kms_client.tls import TlsFiles
from qkd_adapters.kme.config import KeySettings
from qkd_adapters.kme.faults import Fault
from qkd_adapters.kme.quirk_names import Quirk
from qkd_adapters.kme.quirks import PREFIX
from qkd_adapters.probe.advice import advise
from qkd_adapters.probe.findings import Findings, Trait, Verdict
from qkd_adapters.probe.report import table
from qkd_adapters.probe.run import Side, probe
from tests.support.kme_lab import SITES, KmeLab

ROOMY = KeySettings(
    min_size=64, max_size=1024, max_per_request=8, max_count=32, max_sae_ids=2, lifetime=3600.0
)


@pytest.fixture
async def lab(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[KmeLab]:
    monkeypatch.setattr("qkd_adapters.kme.server.NOTICE_WAIT", 0.2)
    async with KmeLab(short_dir, keys=ROOMY) as lab:
        await lab.filled()
        lab.source.cut()
        yield lab


def side(lab: KmeLab, sae: str, path: str = "") -> Side:
    files = TlsFiles(
        ca=lab.pki / "ca.pem", certificate=lab.pki / f"{sae}.pem", key=lab.pki / f"{sae}.key"
    )
    return Side(url=lab.url(SITES[sae]) + path, files=files)


async def probed(
    lab: KmeLab, *, path: str = "", numbers: bool = False, **wanted: float
) -> Findings:
    return await probe(
        side(lab, "moon", path),
        peer="3" if numbers else "sun",
        slave=side(lab, "sun", path),
        own="2" if numbers else "moon",
        **wanted,
    )


def verdicts(findings: Findings, verdict: Verdict) -> list[str]:
    return [row.requirement for row in findings.rows if row.verdict is verdict]


async def test_our_kme_keeps_to_the_standard(lab: KmeLab) -> None:
    findings = await probed(lab, retention=0.01)
    assert verdicts(findings, Verdict.FAIL) == []
    assert verdicts(findings, Verdict.DEVIATES) == []
    assert verdicts(findings, Verdict.NOT_TESTED) == ["another SAE's key is refused"]
    assert findings.traits == set()
    assert advise(findings).profile == DEFAULT_PROFILE
    store = lab.kmes["kme-moon"].store
    account = store.account(next(each for each in store.directions if each.slave == "sun"))
    assert findings.keys == account.delivered_master  # it says how many it took
    assert findings.lost == 0


@pytest.mark.parametrize(
    ("quirk", "profile"),
    [
        (Quirk.INTEGER_SAE_IDS, DEFAULT_PROFILE),
        (Quirk.IGNORES_SIZE, DEFAULT_PROFILE),
        (Quirk.FEWER_KEYS, DEFAULT_PROFILE),
        (Quirk.REPEATABLE_READS, DEFAULT_PROFILE),
        (Quirk.ODD_STATUS, "lenient"),
        (Quirk.URL_BASE64, "lenient"),
        (Quirk.HEX_KEY_IDS, "hex-key-ids"),
        (Quirk.UPPER_KEY_IDS, "upper-key-ids"),
        (Quirk.GET_ONLY, "get-only"),
        (Quirk.POST_ONLY, DEFAULT_PROFILE),
        (Quirk.ONE_OUTSTANDING, DEFAULT_PROFILE),
        (Quirk.NO_STATUS, DEFAULT_PROFILE),
    ],
)
async def test_each_quirk_is_named(lab: KmeLab, quirk: Quirk, profile: str) -> None:
    for kme in lab.kmes.values():
        kme.quirks.command([quirk.value, "on"])
    findings = await probed(lab, numbers=quirk is Quirk.INTEGER_SAE_IDS)
    assert findings.traits == {Trait(quirk.value)}
    assert quirk.value in table(findings)
    assert advise(findings).profile == profile


async def test_a_short_retention_is_found_when_asked_for(
    lab: KmeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qkd_adapters.kme.quirks.RETENTION", 0.2)
    for kme in lab.kmes.values():
        kme.quirks.command([Quirk.SHORT_RETENTION.value, "on"])
    assert Trait.SHORT_RETENTION in (await probed(lab, retention=0.3)).traits


async def test_a_prefix_belongs_to_the_url(lab: KmeLab) -> None:
    for kme in lab.kmes.values():
        kme.quirks.command([Quirk.PATH_PREFIX.value, "on"])
    assert verdicts(await probed(lab, path=PREFIX), Verdict.FAIL) == []
    findings = await probed(lab)
    assert findings.keys == 0
    assert advise(findings).profile is None


@pytest.mark.parametrize(
    ("fault", "requirement"),
    [
        (Fault.WRONG_SIZE, "key has the size asked for"),
        (Fault.WRONG_KEY, "Get key with key IDs gives the master's key"),
        (Fault.DESYNCHRONISED, "Get key with key IDs gives the master's key"),
        (Fault.LOST_ANSWER, "Get key by POST"),
        (Fault.GARBAGE, "Get key by POST"),
    ],
)
async def test_a_fault_fails(lab: KmeLab, fault: Fault, requirement: str) -> None:
    lab.kmes["kme-moon"].faults.command([fault.value, "on"])
    findings = await probed(lab)
    assert requirement in verdicts(findings, Verdict.FAIL)
    if fault is Fault.LOST_ANSWER:
        assert findings.lost > 0


async def test_without_the_slaves_side(lab: KmeLab) -> None:
    findings = await probe(side(lab, "moon"), peer="sun")
    assert verdicts(findings, Verdict.NOT_TESTED) == ["Get key with key IDs"]


async def test_nobody_there(lab: KmeLab) -> None:
    gone = side(lab, "moon")
    await lab.stop_kme("kme-moon")
    findings = await probe(gone, peer="sun")
    assert [row.verdict for row in findings.rows] == [Verdict.FAIL]
    assert "cannot connect" in findings.rows[0].got


async def test_no_key_is_shown(lab: KmeLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in the table nor in JSON: what the KME delivered is nowhere in it."""
    delivered: list[str] = []

    def listen(answer: dict[str, list[dict[str, str]]]) -> None:
        delivered.extend(entry["key"] for entry in answer["keys"])

    for kme in lab.kmes.values():
        monkeypatch.setattr(kme.quirks, "dress", listen)
    findings = await probed(lab)
    shown = table(findings) + json.dumps(findings.as_json()) + repr(findings)
    assert len(delivered) > 10
    assert not [text for text in delivered if text in shown]
