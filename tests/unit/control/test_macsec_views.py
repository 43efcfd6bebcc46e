"""MACsec links as ``qsgw`` shows them, and the verbs that change something about them."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.control import render
from gateway.control.text import Style
from gateway.model import PortSecurity, PortState, Protection, QkdPolicy, Severity
from tests.support.snapshots import (
    CKN,
    KEY_ID,
    OUR_SCI,
    THEIR_SCI,
    alarm,
    cak_view,
    macsec_counters,
    macsec_view,
    member_view,
    sak_view,
    snapshot,
    tunnel_view,
)

STATIC = {
    "connection": None,
    "qkd": QkdPolicy.OFF,
    "protection": Protection.CLASSICAL,
    "cak_at": None,
    "caks": (
        cak_view(
            ckn="6d6f6f6e",
            protection=Protection.CLASSICAL,
            key_exchanges=(),
            ppk_method=None,
            key_id=None,
        ),
    ),
}


@pytest.fixture
def shown(qsgw: Any, path: Path, daemon: Any) -> Any:
    """``await shown("status", ...)``: of a daemon with one link of these traits, in lines."""

    async def show(*words: str, **changes: Any) -> list[str]:
        daemon.current = snapshot(macsec=(macsec_view(**changes),))
        result = await qsgw("--socket", path, *words)
        assert (result.code, result.err) == (0, "")
        return list(result.out.splitlines())

    return show


# --- status ------------------------------------------------------------------------------------


async def test_status(shown: Any) -> None:
    lines = await shown("status")
    assert lines[0] == "gateway moon, qsgw 0.1.0, up 2h, 1 tunnel, 1 MACsec link"
    at = lines.index("HYBRID    metro: for 1m, qkd prefer")
    assert at > lines.index("HYBRID    sun: for 1m, qkd prefer")
    assert lines[at + 1 : at + 9] == [
        "  device  macsec-metro on eth1, mtu 1468, must-secure: secured",
        "  cak     HYBRID: X25519/KE1_ML-KEM-768/PPK, CKN 3f9a01c2…",
        "          made 5m ago, rekeying in 40m, keyed by connection sun",
        "  sak     GCM-AES-256, encrypted, AN 1 KN 3, in the kernel, we are key server",
        f"  peers   {THEIR_SCI} live",
        "  traffic in 1.5 KiB, 12 packets; out 20 B, 12345 packets",
        "  rekeys  20 CAKs (18 HYBRID, 2 PQC_ONLY), 24 SAKs, 0 failures",
        "",
    ]
    assert all(len(line) <= 80 for line in lines[at : at + 9])


async def test_without_links_nothing_is_said_of_them(qsgw: Any, path: Path, daemon: Any) -> None:
    assert "MACsec" not in (await qsgw("--socket", path, "status")).out
    daemon.current = snapshot(tunnels=(), macsec=(macsec_view(),))
    first = (await qsgw("--socket", path, "status")).out.splitlines()[0]
    assert first.endswith("up 2h, 1 MACsec link")
    assert (await qsgw("--socket", path, "sas")).out.startswith("HYBRID    metro")


async def test_a_cak_agreed_by_hand(shown: Any) -> None:
    lines = await shown("status", "metro", **STATIC)
    assert "CLASSICAL metro: for 1m" in lines
    assert "  cak     CLASSICAL: agreed by hand, CKN 6d6f6f6e" in lines
    assert "          made 5m ago" in lines
    assert not any("connection" in line for line in lines)


async def test_a_link_that_has_nothing(shown: Any) -> None:
    traits: dict[str, Any] = {
        "protection": Protection.DOWN,
        "reason": "eth1 does not exist",
        "port": PortState.BLOCKED,
        "we_are_key_server": False,
        "caks": (),
        "peers": (),
        "saks": (),
        "counters": None,
        "mtu": None,
        "last_error": "no device",
    }
    lines = await shown("status", "metro", **traits)
    assert "DOWN      metro: for 1m (eth1 does not exist), qkd prefer" in lines
    assert "  device  macsec-metro on eth1 IS NOT THERE" in lines
    assert "  peers   none" in lines
    assert "  error   no device" in lines
    assert not any(line.startswith(("  cak", "  sak", "  traffic")) for line in lines)
    lines = await shown("macsec", "metro", **traits)
    assert f"  sci     {OUR_SCI}, no key server" in lines
    assert not any(line.startswith("  sci") for line in await shown("macsec", sci=""))
    assert {"  cak     none", "  peer    none", "  sak     none"} <= set(lines)


async def test_what_is_in_the_clear_stands_out(shown: Any) -> None:
    lines = await shown(
        "status",
        "metro",
        security=PortSecurity.SHOULD_SECURE,
        port=PortState.CLEAR,
        counters=macsec_counters(out_untagged=4, in_untagged=2),
    )
    assert "  device  macsec-metro on eth1, mtu 1468, should-secure: IN THE CLEAR" in lines
    assert "  clear   4 out, 2 in: UNPROTECTED" in lines
    lines = await shown("status", "metro")
    assert not any("clear" in line.casefold() for line in lines)


async def test_frames_that_were_dropped(shown: Any) -> None:
    bad = macsec_counters(in_no_tag=3, in_not_valid=2, in_late=1, in_unchecked=7)
    told = "  dropped 2 with a wrong ICV, 1 late or replayed"
    status = await shown("status", "metro", counters=bad)
    assert told in status
    assert not any(line.startswith(("  taken", "  no tag")) for line in status)
    detail = await shown("macsec", counters=bad)
    assert told in detail
    assert "  no tag  3 not taken in, MKA's own among them" in detail
    assert "  taken   7 unchecked" in detail
    assert not any("dropped" in line for line in await shown("macsec"))


async def test_what_is_not_in_the_kernel_is_said(shown: Any) -> None:
    saks = (sak_view(in_kernel=False, encrypted=False),)
    lines = await shown("status", "metro", saks=saks, we_are_key_server=False)
    assert "  sak     GCM-AES-256, INTEGRITY ONLY, AN 1 KN 3, NOT IN THE KERNEL" in lines


async def test_text_from_outside_cannot_drive_the_terminal(shown: Any) -> None:
    evil = "\x1b[2J\r\nHYBRID \x9b31m\u202e"
    for verb in ("status", "macsec", "sas"):
        lines = await shown(
            verb,
            reason=evil,
            last_error=evil,
            protection=Protection.DOWN,
            peers=(member_view(sci=evil, mi=evil),),
            saks=(sak_view(ki=evil, suite=evil, ckn=evil),),
            caks=(cak_view(ckn=evil),),
            drops={evil: 1},
        )
        assert not re.search("[\x00-\x1f\x7f-\x9f\u202e]", "".join(lines))


# --- check -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, 0),
        ({"protection": Protection.PQC_ONLY}, 5),
        ({"protection": Protection.PQC_ONLY, "qkd": QkdPolicy.OFF}, 0),
        (STATIC, 5),
        ({"protection": Protection.BLOCKED}, 5),
        ({"protection": Protection.DOWN}, 5),
    ],
)
async def test_check(
    qsgw: Any, path: Path, daemon: Any, changes: dict[str, Any], code: int
) -> None:
    daemon.current = snapshot(macsec=(macsec_view(reason="why", **changes),))
    for words in (("status", "--check"), ("status", "--check", "metro")):
        result = await qsgw("--socket", path, *words)
        assert result.code == code
    start = "DEGRADED: metro is" if code else "OK: metro"
    assert result.out.startswith(start)
    assert (await qsgw("--socket", path, "status", "--check", "sun")).code == 0


async def test_a_critical_alarm_of_a_link_is_the_links(qsgw: Any, path: Path, daemon: Any) -> None:
    clear = alarm(id="macsec-clear", severity=Severity.CRITICAL, subject="metro")
    daemon.current = snapshot(macsec=(macsec_view(),), alarms=(clear,))
    assert (await qsgw("--socket", path, "status", "--check", "metro")).code == 5
    assert (await qsgw("--socket", path, "status", "--check", "sun")).code == 0


# --- macsec, sas -------------------------------------------------------------------------------


async def test_detail(shown: Any) -> None:
    older = cak_view(ckn="aa" * 32, since="2026-11-21T09:15:00.000Z")
    newer = cak_view(
        principal=False, protection=Protection.PQC_ONLY, key_id=None, ppk_method=None, live_peers=0
    )
    lines = await shown(
        "macsec",
        "metro",
        link="ring",
        caks=(older, newer),
        peers=(member_view(key_server=True, priority=3),),
        saks=(sak_view(ckn="aa" * 32), sak_view(an=0, kn=2, transmits=False, ckn="")),
        we_are_key_server=False,
        drops={"unknown-ckn": 10, "bad-icv": 3},
    )
    assert lines == [
        "HYBRID    metro: for 1m, qkd prefer",
        "  device  macsec-metro on eth1, mtu 1468, must-secure: secured",
        "  link    called ring, keyed by connection sun",
        f"  sci     {OUR_SCI}, key server {THEIR_SCI}",
        f"  cak     {CKN}",
        "          not in use, made 5m ago, rekeying in 40m, 0 live peers",
        "          PQC_ONLY: X25519/KE1_ML-KEM-768, no QKD key mixed",
        f"  cak     {'aa' * 32}",
        "          in use, made 45m ago, 1 live peer",
        f"          HYBRID: X25519/KE1_ML-KEM-768/PPK, QKD key {KEY_ID[:8]}… by RFC9867",
        f"  peer    {THEIR_SCI} live, key server, priority 3",
        "          member c0b0a0908070605040302010",
        "  sak     GCM-AES-256, encrypted, AN 1 KN 3, in the kernel",
        "          carries traffic, under CKN aaaaaaaa…, next PN 12346",
        "          KI 0102030405060708090a0b0c.3",
        "  sak     GCM-AES-256, encrypted, AN 0 KN 2, in the kernel",
        "          receives only, from before a restart, next PN 12346",
        "          KI 0102030405060708090a0b0c.3",
        "  traffic in 1.5 KiB, 12 packets; out 20 B, 12345 packets",
        "  eapol   dropped: 3 bad-icv, 10 unknown-ckn",
        "  rekeys  20 CAKs (18 HYBRID, 2 PQC_ONLY), 24 SAKs, 0 failures",
    ]
    assert all(len(line) <= 80 for line in lines)


async def test_one_link(qsgw: Any, path: Path, daemon: Any) -> None:
    daemon.current = snapshot(macsec=(macsec_view(), macsec_view("ring")))
    found = (await qsgw("--socket", path, "macsec", "ring", "--json")).json
    assert [link["name"] for link in found["macsec"]] == ["ring"]
    assert (found["schema"], found["gateway"]) == (1, "moon")
    found = (await qsgw("--socket", path, "status", "ring", "--json")).json
    assert ([*found["tunnels"]], [link["name"] for link in found["macsec"]]) == ([], ["ring"])
    found = (await qsgw("--socket", path, "status", "sun", "--json")).json
    assert found["macsec"] == []
    both = (await qsgw("--socket", path, "macsec")).out
    assert "metro: for" in both
    assert "ring: for" in both
    assert "sun: for" not in both


async def test_no_such_link(qsgw: Any, path: Path, daemon: Any) -> None:
    result = await qsgw("--socket", path, "macsec", "metro")
    assert (result.code, result.err) == (4, 'qsgw: no MACsec link "metro" (configured: none)\n')
    daemon.current = snapshot(macsec=(macsec_view(),))
    result = await qsgw("--socket", path, "macsec", "sun")
    assert (result.code, result.err) == (4, 'qsgw: no MACsec link "sun" (configured: metro)\n')
    result = await qsgw("--socket", path, "status", "mars")
    assert result.err == 'qsgw: no tunnel "mars" (configured: sun, metro)\n'


async def test_no_links_at_all(qsgw: Any, path: Path) -> None:
    result = await qsgw("--socket", path, "macsec")
    assert (result.code, result.out) == (0, "no MACsec links\n")


async def test_sas(qsgw: Any, path: Path, daemon: Any) -> None:
    daemon.current = snapshot(tunnels=(tunnel_view(),), macsec=(macsec_view(),))
    out = (await qsgw("--socket", path, "sas")).out
    assert "carries traffic, under CKN 3f9a01c2…, next PN 12346" in out
    assert KEY_ID not in out
    found = (await qsgw("--socket", path, "sas", "--json")).json
    assert set(found["macsec"][0]) == {"name", "protection", "port", "caks", "saks"}


def test_a_daemon_of_an_earlier_version_has_no_links() -> None:
    old = json.loads(msgspec.json.encode(snapshot()))
    del old["macsec"]
    style = Style(colour=False)
    assert "sun" in render.render_status(old, style)
    assert "sun" in render.render_sas(old, style)
    assert render.render_links(old, style) == "no MACsec links"
    assert render.complaints(old) == []


# --- rekey -------------------------------------------------------------------------------------


async def test_a_new_sak(qsgw: Any, path: Path, daemon: Any) -> None:
    daemon.current = snapshot(macsec=(macsec_view(), macsec_view("ring", we_are_key_server=False)))
    result = await qsgw("--socket", path, "rekey", "--sak", "metro")
    assert (result.code, result.out) == (0, "metro: a new SAK is made\n")
    assert daemon.calls == ["rekey-sak metro"]
    result = await qsgw("--socket", path, "rekey", "--sak", "ring")
    assert (result.code, result.err) == (1, "qsgw: ring: the peer is key server\n")
    result = await qsgw("--socket", path, "rekey", "--sak", "sun")
    assert (result.code, result.err) == (4, "qsgw: no MACsec link named sun\n")
    assert daemon.calls == ["rekey-sak metro"]


async def test_a_new_cak(qsgw: Any, path: Path, daemon: Any) -> None:
    """The daemon knows which connection that is."""
    await qsgw("--socket", path, "rekey", "metro")
    assert daemon.calls == ["rekey metro"]


async def test_one_kind_of_rekey_at_a_time(qsgw: Any) -> None:
    result = await qsgw("rekey", "--sak", "--ike", "metro")
    assert result.code == 2
    assert "not allowed with" in result.err
