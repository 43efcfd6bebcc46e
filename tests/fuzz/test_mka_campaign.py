"""A short campaign at the MKA core, the same every time; and that faults put in are found."""

from __future__ import annotations

from pathlib import Path

from gateway.mka.controlled_port import ControlledPort
from gateway.mka.errors import DropReason
from gateway.mka.events import PrincipalChanged
from gateway.mka.participant import Participant
from gateway.mka.peers import Peers
from gateway.mka.port import Port
from gateway.mka.states import State
from gateway.model import PortState
from tests.fuzz import mka_world
from tests.fuzz.campaign import Campaign, Failure, replay
from tests.fuzz.corpus import frames
from tests.fuzz.targets import MKA


def test_two_thousand_frames() -> None:
    done = Campaign(target=MKA, seed="slice", inputs=2000).run()
    assert done.failures == []
    assert done.done == 2000
    assert {reason.value for reason in DropReason} == set(done.reached["drop"])
    assert done.reached["accepted"]["MKPDU"] > 500
    for state in State:
        assert any(state.value in shown for shown in done.reached["state"]), state
    for event in ("SakInUse", "SakRefused", "SakFailed", "CakRetired", "PeerLost"):
        assert done.reached["event"][event] > 0, event


def test_a_seed_says_it_all() -> None:
    one, same, other = (Campaign(target=MKA, seed=s, inputs=150).run() for s in ("a", "a", "b"))
    assert one.reached == same.reached
    assert one.reached != other.reached


def test_the_corpus_has_frames_of_all_suites_and_two_caks() -> None:
    assert len(frames()) > 100
    assert {frame[18] for frame in frames()} == {1, 3}  # wpa_supplicant's version, and ours


# --- the twins -------------------------------------------------------------------------------


def failure(inputs: int = 2500) -> Failure:
    found = Campaign(target=MKA, seed="twin", inputs=inputs, failures_max=1).run().failures
    assert found, "the fault was not found"
    return found[0]


def test_an_exception_is_found_kept_and_brought_about_again(tmp_path: Path, monkeypatch) -> None:
    def throws(cp: ControlledPort, peer: object) -> None:
        raise ZeroDivisionError("a fault put in")

    with monkeypatch.context() as faulty:
        faulty.setattr(ControlledPort, "member_seen", throws)
        found = failure()
        assert "a fault put in" in found.error
        found.save(tmp_path / "failure.json")
        assert "a fault put in" in replay(tmp_path / "failure.json")
    assert replay(tmp_path / "failure.json") == ""  # mended


def test_a_sak_that_is_taken_twice_is_found(monkeypatch) -> None:
    monkeypatch.setattr(Participant, "_spend", lambda participant, ki: None)
    assert "packet numbers used twice" in failure(20_000).error


def test_peers_without_end_are_found(monkeypatch) -> None:
    monkeypatch.setattr("gateway.mka.peers.PEERS_MAX", 10_000)
    monkeypatch.setattr(mka_world.limits, "PEERS_MAX", 3)
    assert " peers" in failure().error


def test_a_port_that_opens_is_found(monkeypatch) -> None:
    monkeypatch.setattr(ControlledPort, "_closed", PortState.CLEAR)
    assert "the port is open" in failure().error


def test_what_is_left_behind_is_found(monkeypatch) -> None:
    monkeypatch.setattr(Peers, "expire", lambda peers, now: [])
    error = failure().error
    assert "left behind" in error or "no SAK in common" in error or "storm" in error


def test_a_storm_of_events_is_found(monkeypatch) -> None:
    real = Port._hear

    def hear(port: Port, *args: object) -> None:
        told = PrincipalChanged(ckn=None)
        port._outbox.events += [told] * (mka_world.EVENTS_MAX + 1)
        real(port, *args)

    monkeypatch.setattr(Port, "_hear", hear)
    assert "events" in failure().error
