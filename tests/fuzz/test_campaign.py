"""A short campaign, the same every time; and that each thing a campaign looks for is found."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from gateway.ike.channel import Channel, NotEncryptedError
from gateway.ike.courier import Courier
from gateway.ike.endpoint import Endpoint
from gateway.ike.events import DropReason
from gateway.ike.payloads import AuthPayload, CertPayload, CertReqPayload
from gateway.ike.sessions import Sessions
from tests.fuzz import campaign as campaigns
from tests.fuzz.campaign import Campaign, Failure, replay
from tests.fuzz.cast import HEALTHY, NET
from tests.fuzz.corpus import datagrams, templates
from tests.fuzz.credentials import WAYS
from tests.fuzz.guided import Chooser, attack
from tests.fuzz.world import Op, World

PROOFS = {
    "psk": "pre-shared key",
    "certificates": "Ed25519 CN=moon",
    "certificate of the peer": "Ed25519 CN=moon",
    "raw keys": "Ed25519 raw public key",
}
RARE = {
    DropReason.HALF_OPEN_LIMIT,  # takes more half-open IKE SAs than an episode sets up
    DropReason.BAD_FRAGMENT,  # these three come up a few times in ten thousand inputs
    DropReason.FRAGMENT_LIMIT,
    DropReason.REPLAYED,
}


def test_two_thousand_inputs() -> None:
    done = Campaign(seed="slice 2", inputs=2000).run()
    assert done.failures == []
    assert done.done == 2000
    assert {reason.value for reason in DropReason} - set(done.reached["drop"]) <= RARE
    for exchange in ("IKE_INTERMEDIATE", "IKE_AUTH", "CREATE_CHILD_SA", "IKE_FOLLOWUP_KE"):
        assert done.reached["accepted"][f"{exchange} request"] > 5, exchange
    for exchange in ("IKE_SA_INIT", "IKE_INTERMEDIATE", "IKE_AUTH", "INFORMATIONAL"):
        assert done.reached["accepted"][f"{exchange} response"] > 0, exchange
    for state in ("responder keyed", "responder established", "initiator keyed, asking"):
        assert done.reached["state"][state] > 10, state
    assert any("waiting for a command" in state for state in done.reached["state"])
    assert any("rekeying" in state for state in done.reached["state"])
    assert any(" rekeyed" in state for state in done.reached["state"])
    assert done.reached["event"]["IkeRekeyed"] > 0
    assert done.reached["proof"]["Ed25519 CN=moon"] > 0


def test_a_seed_says_it_all() -> None:
    one, same, other = (Campaign(seed=seed, inputs=150).run() for seed in ("a", "a", "b"))
    assert one.reached == same.reached
    assert one.reached != other.reached


def test_the_corpus_has_captures_and_exchanges_in_memory() -> None:
    assert len(datagrams()) > 100
    assert {data[18] for data in datagrams()} >= {34, 35, 36, 37, 43, 44}
    assert {data[16] for data in datagrams()} >= {33, 46, 53}


def test_the_corpus_has_messages_with_certificates_and_signatures() -> None:
    found = [payload for one in templates() for payload in one.payloads]
    assert {type(one) for one in found} >= {CertPayload, CertReqPayload}
    assert {one.method for one in found if isinstance(one, AuthPayload)} == {2, 14}
    assert {one.encoding for one in found if isinstance(one, CertPayload)} == {4, 15}


@pytest.mark.parametrize("way", WAYS)
def test_peers_of_a_world_prove_themselves_in_each_way(way: str) -> None:
    world = next(one for one in map(World, map(str, range(99))) if one._way == way)
    world.apply(Op(kind="deliver", args=(99,)))
    world.apply(Op(kind="wish", args=("moon", "initiate", NET)))
    assert [ike.remote_proof for ike in world.sun.endpoint.views()[0].ike] == [PROOFS[way]]


def test_octets_steer_an_attack_as_a_seed_does() -> None:
    """For atheris, which is not needed here."""
    for number in range(6):
        attack(bytes((number,)) + hashlib.shake_256(bytes((number,))).digest(4000))
    drawn = [Chooser(b"\x01\x02\x03\x04").getrandbits(12) for _ in range(2)]
    assert drawn == [0x010, 0x010]


# --- the twins: a fault of each kind, put in, is found ----------------------------------------


def failure(inputs: int = 1500) -> Failure:
    found = Campaign(seed="twin", inputs=inputs, failures_max=1).run().failures
    assert found, "the fault was not found"
    return found[0]


def test_an_exception_is_found_kept_and_brought_about_again(tmp_path: Path, monkeypatch) -> None:
    def throws(channel: Channel, data: bytes, header: object) -> bool:
        raise ZeroDivisionError("a fault put in")

    with monkeypatch.context() as faulty:
        faulty.setattr(Channel, "is_retransmission", throws)
        found = failure()
        assert "a fault put in" in found.error
        found.save(tmp_path / "failure.json")
        assert "a fault put in" in replay(tmp_path / "failure.json")
    assert replay(tmp_path / "failure.json") == ""  # mended


def test_the_fault_this_found_first(monkeypatch) -> None:
    """A request in the clear with the Message ID of the last one, from anybody."""
    real = Courier._drop

    def drop(courier: Courier, reason: DropReason, detail: str, remote: object) -> None:
        if reason is DropReason.UNPROTECTED:
            raise NotEncryptedError(detail)
        real(courier, reason, detail, remote)

    monkeypatch.setattr(Courier, "_drop", drop)
    assert "NotEncryptedError" in failure().error


def test_what_is_left_behind_is_found(monkeypatch) -> None:
    monkeypatch.setattr(Sessions, "_forget", lambda sessions, session: None)
    assert "left behind" in failure().error


def test_a_storm_of_events_is_found(monkeypatch) -> None:
    real = Courier._drop

    def drop(courier: Courier, *args: object) -> None:
        for _ in range(100):
            real(courier, *args)

    monkeypatch.setattr(Courier, "_drop", drop)
    assert "one datagram made 100 events" in failure().error


def test_an_answer_that_grows_is_found(monkeypatch) -> None:
    real = Courier._emit_all

    def emit_all(courier: Courier, datagrams: tuple[bytes, ...], *where: object) -> None:
        real(courier, tuple(datagrams) * 100, *where)

    monkeypatch.setattr(Courier, "_emit_all", emit_all)
    assert "datagrams" in failure().error


def test_harm_done_to_another_peer_is_found(monkeypatch) -> None:
    real = Endpoint.receive_datagram

    def receive(endpoint: Endpoint, data: bytes, **how: object) -> None:
        if len(data) == 28 and HEALTHY in endpoint._tunnels and len(endpoint._tunnels) > 2:
            endpoint.close(HEALTHY, reason="confused", now=how["now"])
        real(endpoint, data, **how)

    monkeypatch.setattr(Endpoint, "receive_datagram", receive)
    assert "healthy tunnel" in failure().error


def test_memory_that_grows_is_found(monkeypatch) -> None:
    grown = iter(range(1 << 20, 1 << 40, 50 << 20))
    monkeypatch.setattr(campaigns, "rss", lambda: next(grown))
    monkeypatch.setattr(campaigns, "EPISODES", 1)
    assert "MiB more" in failure().error


def test_a_key_that_is_never_settled_is_found(monkeypatch) -> None:
    real = World._rest

    def rest(world: World) -> None:
        world.sun.handed.append("one more")
        real(world)

    monkeypatch.setattr(World, "_rest", rest)
    assert "QKD keys settled" in failure().error


def test_the_corpus_says_where_it_is_from() -> None:
    stored = json.loads((Path(__file__).parent / "corpus" / "datagrams.json").read_text())
    assert all(entry["origin"] and entry["datagrams"] for entry in stored)
