"""The tables a run leaves for docs/ikev2.md and docs/macsec.md."""

from __future__ import annotations

from dataclasses import replace

from netns_lab.interop.report import Row
from netns_lab.interop.table import markdown

ROW = Row(
    peer="strongswan",
    version="6.1.0",
    scenario="nat",
    role="initiator",
    result="pass",
    negotiated="X25519/KE1_ML-KEM-768 | AES_GCM_16-256",
    detail="0 of 564 packets lost; 6 SAs decrypted at isp; "
    "none of 7 keys in logs, status and capture",
    seconds=20.0,
)
WHAT = {"nat": "A NAT between the two."}


def lines(*rows: Row) -> list[str]:
    return markdown(rows, WHAT).splitlines()[2:]


def test_one_line_for_both_roles_with_what_each_found() -> None:
    other = replace(ROW, role="responder", result="fail", detail="3 of 9 packets lost")
    (line,) = lines(ROW, other)
    assert line == (
        "| strongswan 6.1.0 | A NAT between the two. (`nat`) | pass | fail "
        "| X25519/KE1_ML-KEM-768, AES_GCM_16-256; "
        "0 of 564 packets lost // 3 of 9 packets lost |"
    )


def test_what_both_roles_found_is_said_once_and_a_role_not_played_is_a_dash() -> None:
    assert "//" not in lines(ROW, replace(ROW, role="responder"))[0]
    assert "| pass | - |" in lines(ROW)[0]


def test_peers_of_one_scenario_have_lines_of_their_own() -> None:
    assert len(lines(ROW, replace(ROW, peer="libreswan", version="5.2"))) == 2


def test_mka_has_a_table_of_its_own_with_its_own_roles() -> None:
    server = replace(ROW, peer="wpa_supplicant", role="key-server", scenario="mka")
    member = replace(server, role="member", version="2.10", result="skip")
    text = markdown([ROW, server, member], WHAT)
    first, second = text.split("\n\n")
    assert first.splitlines()[0] == "| peer | scenario | as initiator | as responder | seen |"
    assert second.splitlines()[0] == "| peer | scenario | as key server | as member | seen |"
    assert len(first.splitlines()) == len(second.splitlines()) == 3
    assert "| pass | skip |" in second


def test_without_rows_of_one_kind_its_table_is_left_out() -> None:
    assert "initiator" not in markdown([replace(ROW, role="member")], WHAT)
