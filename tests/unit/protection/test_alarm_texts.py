"""What the operator reads of a tunnel that does not come up: the reason, once, and the last one."""

from __future__ import annotations

from gateway.protection.decisions import ProtectionChanged, RaiseAlarm
from gateway.protection.inputs import AttemptFailed, PeerFailed
from tests.support.protection import Bench


def texts(bench: Bench, alarm: str) -> list[str]:
    return [item.text for _, item in bench.log if isinstance(item, RaiseAlarm) and item.id == alarm]


def changes(bench: Bench) -> list[str]:
    return [item.new.value for _, item in bench.log if isinstance(item, ProtectionChanged)]


def test_an_attempt_that_fails_again_and_again_is_told_once() -> None:
    bench = Bench("off")
    for _ in range(10):
        bench.put(AttemptFailed(reason="wrong pre-shared key", ppk_missing=False))
        bench.pass_time(100.0)
    assert texts(bench, "tunnel-down") == ["traffic is dropped: wrong pre-shared key"]
    assert bench.machine.reason == "wrong pre-shared key"
    bench.put(AttemptFailed(reason="no proposal in common", ppk_missing=False))
    assert len(texts(bench, "tunnel-down")) == 2
    assert bench.machine.reason == "no proposal in common"


def test_the_responder_tells_why_its_peer_does_not_get_through() -> None:
    bench = Bench("off", initiates=False)
    assert bench.machine.reason == "waiting for peer"
    for _ in range(3):
        bench.put(PeerFailed(reason="wrong pre-shared key"))
    assert texts(bench, "tunnel-down") == ["traffic is dropped: wrong pre-shared key"]
    assert bench.machine.reason == "wrong pre-shared key"
    bench.up("PQC_ONLY", initiated=False)
    assert bench.alarms == set()


def test_what_a_peer_fails_at_is_no_matter_while_the_tunnel_is_up() -> None:
    bench = Bench("off", initiates=False)
    bench.up("PQC_ONLY", initiated=False)
    before = bench.machine.reason
    bench.put(PeerFailed(reason="wrong pre-shared key"))
    assert bench.alarms == set()
    assert bench.machine.reason == before


def test_a_blocked_tunnel_stays_so_while_it_tries_in_vain() -> None:
    bench = Bench("require")
    bench.keys(4, 1.0)
    for _ in range(10):
        bench.put(AttemptFailed(reason="peer cannot use QKD keys", ppk_missing=True))
        bench.pass_time(100.0)
    assert changes(bench) == ["BLOCKED"]
    assert texts(bench, "blocked") == ["traffic is dropped: peer cannot use QKD keys"]
    assert bench.machine.reason == "peer cannot use QKD keys"
