"""IKE_SA_INIT, IKE_INTERMEDIATE, IKE_AUTH: what comes up, and what must not."""

from __future__ import annotations

import hashlib

import pytest

from gateway.ike.config import PpkMode
from gateway.ike.registry import ExchangeType as X
from gateway.model import PpkMethod, Protection, Role
from tests.support.ike_pair import IKE_HYBRID, Pair

GOLDEN = "17a322595546eb0559aa38f5169e0f5940910faa481b8a0e92adb19ffff724f9"
"""SHA-256 of all datagrams of a handshake and a rekey with seeded randomness. It changes only
when what we put on the wire changes."""


def test_hybrid_handshake_with_ppk_in_intermediate():
    pair = Pair()
    # IKE_SA_INIT       SA, KE(X25519), Ni, N(USE_PPK_INT), ...   -->
    #                                   <-- SA, KE, Nr, N(USE_PPK_INT), ...
    # IKE_INTERMEDIATE  SK{KE(ML-KEM-768), N(PPK_IDENTITY_KEY)}   -->
    #                                   <-- SK{KE(ML-KEM-768), N(PPK_IDENTITY)}
    # IKE_AUTH          SK{IDi, IDr, AUTH, SA, TSi, TSr}          -->
    #                                   <-- SK{IDr, AUTH, SA, TSi, TSr}
    # INFORMATIONAL     SK{}                                      -->  <-- SK{}
    pair.initiate()
    assert list(pair.exchanges()) == [
        X.IKE_SA_INIT,
        X.IKE_INTERMEDIATE,
        X.IKE_AUTH,
        X.INFORMATIONAL,
    ]
    assert list(pair.exchanges("sun")) == []
    for side, role in ((pair.moon, Role.INITIATOR), (pair.sun, Role.RESPONDER)):
        (ike,) = side.established
        (child,) = side.ups
        assert (ike.role, child.role) == (role, role)
        assert ike.key_exchanges == ("X25519", "ML-KEM-768")
        assert ike.ppk_method is PpkMethod.INTERMEDIATE
        assert ike.key_id == child.mixed.key_id == pair.moon.handed[0]
        assert child.mixed.protection is Protection.HYBRID
        assert child.encryption == "AES_GCM_16-256"
        assert child.esn
        assert ike.peer_is_qsgw
        assert ike.fragmentation
        assert not ike.nat
        assert side.settled[0].used
        assert not side.failures
    pair.check_mirrored()
    pair.check_settled()


def test_keys_are_wiped_once_they_are_mixed_in():
    pair = Pair()
    key = pair.key()
    pair.moon.endpoint.initiate("net", ppk=key, now=pair.now)
    pair.run()
    assert key.key.wiped
    fresh = pair.key()
    pair.moon.endpoint.rekey_child("net", ppk=fresh, now=pair.now)
    pair.run()
    assert fresh.key.wiped
    assert [command.used for command in pair.moon.settled] == [True, True]


def test_a_key_that_is_not_used_is_wiped_too():
    pair = Pair(fault=lambda flight: [])
    key = pair.key()
    pair.moon.endpoint.initiate("net", ppk=key, now=pair.now)
    pair.run(60)
    assert key.key.wiped
    pair.check_settled()


def test_status_shows_what_was_negotiated():
    pair = Pair().initiate()
    (ike,) = pair.sun.facts.ike
    (child,) = pair.sun.facts.children
    assert ike.state == "established"
    assert ike.proposal == "AES_GCM_16-256/PRF_HMAC_SHA2_512/X25519/KE1_ML-KEM-768/PPK"
    assert child.state == "active"
    assert child.carries_outbound
    assert child.mixed == pair.sun.ups[0].mixed


def test_without_a_key_the_tunnel_comes_up_without_qkd():
    pair = Pair().initiate(ppk=False)
    for side in pair.sides:
        assert side.ups[0].mixed.protection is Protection.PQC_ONLY
        assert side.established[0].ppk_method is None
    pair.check_mirrored()


def test_ppk_without_additional_key_exchange_has_an_intermediate_of_its_own():
    pair = Pair(ike=("aes256gcm16-prfsha256-ecp384",), allow_classical=True).initiate()
    assert list(pair.exchanges())[:3] == [X.IKE_SA_INIT, X.IKE_INTERMEDIATE, X.IKE_AUTH]
    assert pair.sun.established[0].ppk_method is PpkMethod.INTERMEDIATE
    pair.check_mirrored()
    pair.check_settled()


def test_no_intermediate_where_nothing_needs_one():
    pair = Pair(
        ike=("aes256gcm16-prfsha256-x25519",), allow_classical=True, ppk=PpkMode.OFF
    ).initiate(ppk=False)
    assert list(pair.exchanges())[:2] == [X.IKE_SA_INIT, X.IKE_AUTH]
    assert pair.sun.ups[0].mixed.protection is Protection.CLASSICAL
    pair.check_mirrored()


@pytest.mark.parametrize(
    ("ike", "esp", "names"),
    [
        (
            "aes256gcm16-prfsha384-ecp384-ke1_mlkem1024",
            "aes256gcm16-ecp384-ke1_mlkem1024-esn",
            ("P-384", "ML-KEM-1024"),
        ),
        (
            "aes256gcm16-prfsha512-x25519-ke1_mlkem768-ke2_mlkem1024",
            "aes256gcm16-noesn",
            ("X25519", "ML-KEM-768", "ML-KEM-1024"),
        ),
        (
            "aes256gcm16-prfsha256-ecp256-ke3_mlkem768",
            "aes256gcm16-ecp256-esn",
            ("P-256", "ML-KEM-768"),
        ),
    ],
)
def test_algorithms(ike, esp, names):
    pair = Pair(ike=(ike,), esp=(esp,)).initiate()
    assert pair.moon.established[0].key_exchanges == names
    assert pair.moon.ups[0].esn is not esp.endswith("noesn")
    pair.check_mirrored()
    pair.check_settled()


def test_ppk_in_auth_with_a_peer_that_knows_no_other(rfc8784_only):
    pair = Pair()
    # IKE_AUTH  SK{IDi, IDr, AUTH, SA, TSi, TSr, N(PPK_IDENTITY), N(NO_PPK_AUTH)}  -->
    #                                <-- SK{IDr, AUTH, N(PPK_IDENTITY), SA, TSi, TSr}
    pair.initiate()
    for side in pair.sides:
        assert side.established[0].ppk_method is PpkMethod.AUTH
        assert side.ups[0].mixed.protection is Protection.HYBRID
    pair.check_mirrored()
    pair.check_settled()


def test_ppk_in_auth_required_by_both(rfc8784_only):
    pair = Pair(ppk=PpkMode.REQUIRE).initiate()
    assert pair.sun.ups[0].mixed.protection is Protection.HYBRID
    pair.check_mirrored()


def test_ppk_in_auth_not_at_responder_falls_back_to_no_ppk_auth(rfc8784_only):
    pair = Pair()
    key = pair.key(at_peer=None)
    pair.moon.endpoint.initiate("net", ppk=key, now=pair.now)
    pair.run()
    for side in pair.sides:
        assert side.ups[0].mixed.protection is Protection.PQC_ONLY
    assert not pair.moon.settled[0].used
    pair.check_mirrored()
    pair.check_settled()


@pytest.mark.parametrize("strict", ["moon", "sun"])
def test_ppk_in_auth_not_at_responder_and_required(rfc8784_only, strict):
    pair = Pair(**{strict: {"ppk": PpkMode.REQUIRE}})
    pair.moon.endpoint.initiate("net", ppk=pair.key(at_peer=None), now=pair.now)
    pair.run(60)
    assert not pair.moon.ups
    assert pair.sun.failures[0].ppk_missing
    pair.check_empty()
    pair.check_settled()


def test_ppk_in_auth_that_differs_is_told_from_a_wrong_psk(rfc8784_only):
    pair = Pair()
    pair.moon.endpoint.initiate("net", ppk=pair.key(at_peer=bytes(32)), now=pair.now)
    pair.run(60)
    assert "QKD key" in pair.sun.failures[0].reason
    assert "pre-shared" not in pair.sun.failures[0].reason
    assert pair.moon.failures[0].notify == "AUTHENTICATION_FAILED"
    pair.check_empty()
    pair.check_settled()


def test_wrong_psk_with_ppk_in_auth(rfc8784_only):
    pair = Pair(sun={"psk": b"another one"})
    pair.initiate()
    assert pair.sun.failures[0].reason == (
        "authentication failed: wrong pre-shared key or identity"
    )
    pair.check_empty()
    pair.check_settled()


def test_ppk_switched_off_at_responder(rfc8784_only):
    pair = Pair()
    pair.sun.endpoint.set_ppk_mode("net", PpkMode.OFF, pair.now)
    pair.initiate()
    assert pair.moon.ups[0].mixed.protection is Protection.PQC_ONLY
    assert not pair.sun.fetches
    assert not pair.moon.settled[0].used


def test_peer_without_ppk(no_ppk_at_all):
    pair = Pair().initiate()
    assert pair.moon.ups[0].mixed.protection is Protection.PQC_ONLY
    pair.check_settled()


def test_peer_without_ppk_where_it_is_required(no_ppk_at_all):
    pair = Pair(moon={"ppk": PpkMode.REQUIRE}).initiate()
    (failure,) = pair.moon.failures
    assert failure.ppk_missing
    assert "cannot use QKD keys" in failure.reason
    pair.run(60)
    pair.check_empty()
    pair.check_settled()


def test_responder_requires_a_ppk_from_a_peer_without(no_ppk_at_all):
    pair = Pair(sun={"ppk": PpkMode.REQUIRE}).initiate(ppk=False)
    assert pair.sun.failures[0].ppk_missing
    assert not pair.moon.ups
    pair.check_empty()


@pytest.mark.parametrize("wrong", ["moon", "sun"])
def test_wrong_psk(wrong):
    pair = Pair(**{wrong: {"psk": b"another one"}}).initiate()
    assert pair.sun.failures[0].reason == "authentication failed: wrong pre-shared key or identity"
    (failure,) = pair.moon.failures
    assert failure.notify == "AUTHENTICATION_FAILED"
    assert failure.from_peer
    assert not pair.moon.established
    assert not pair.sun.established
    pair.check_empty()
    pair.check_settled()


def test_responder_that_cannot_prove_itself(monkeypatch):
    """The responder accepts anybody, as an impostor would: the initiator must find out."""
    from gateway.ike.flows import proof

    original = proof.check
    monkeypatch.setattr(
        proof, "check", lambda sa, *rest: sa.role is Role.RESPONDER or original(sa, *rest)
    )
    pair = Pair(sun={"psk": b"another one"}).initiate()
    # IKE_AUTH ... <-- SK{IDr, AUTH(wrong), ...}
    # INFORMATIONAL SK{N(AUTHENTICATION_FAILED)} -->   <-- SK{}
    (failure,) = pair.moon.failures
    assert "authentication of the peer failed" in failure.reason
    assert not failure.from_peer
    assert not pair.moon.established
    assert pair.sun.closed[0].reason == "peer reports AUTHENTICATION_FAILED"
    pair.run(60)
    pair.check_empty()


@pytest.mark.parametrize("side", ["moon", "sun"])
def test_unexpected_identity(side):
    from gateway.ike.identity import Identity

    pair = Pair(**{side: {"remote_id": Identity.parse("somebody.else")}}).initiate()
    assert "somebody.else" in pair.sun.failures[0].reason
    assert not pair.moon.ups
    pair.check_empty()
    pair.check_settled()


def test_no_ike_proposal_in_common():
    pair = Pair(sun={"ike": ("aes256gcm16-prfsha512-ecp384-ke1_mlkem1024",)}).initiate()
    assert not pair.moon.failures  # unprotected: a better answer could still follow
    pair.run(5)
    (failure,) = pair.moon.failures
    assert failure.what == "initiate"
    assert failure.notify == "NO_PROPOSAL_CHOSEN"
    assert failure.reason.startswith("no proposal in common")
    pair.check_empty()
    pair.check_settled()


def test_no_esp_proposal_in_common():
    pair = Pair(sun={"esp": ("chacha20poly1305-x25519",)}).initiate()
    assert pair.moon.failures[0].notify == "NO_PROPOSAL_CHOSEN"
    assert not pair.moon.ups
    pair.run(60)
    pair.check_empty()
    assert all(side.closed for side in pair.sides)


def test_traffic_selectors_that_do_not_meet():
    from ipaddress import ip_network

    pair = Pair(sun={"remote_networks": (ip_network("10.9.0.0/16"),)}).initiate()
    assert pair.moon.failures[0].reason == (
        "peer refused our traffic selectors (TS_UNACCEPTABLE): ours 10.1.0.0/24 -> 10.2.0.0/24"
    )
    pair.run(60)
    pair.check_empty()


def test_responder_narrows_traffic():
    from ipaddress import ip_network

    pair = Pair(moon={"remote_networks": (ip_network("10.2.0.0/16"),)}).initiate()
    assert pair.moon.ups[0].remote_networks == (ip_network("10.2.0.0/24"),)
    assert pair.sun.ups[0].local_networks == (ip_network("10.2.0.0/24"),)
    pair.check_mirrored()


@pytest.mark.parametrize("lax", ["moon", "sun"])
def test_classical_is_refused_by_whoever_does_not_allow_it(lax):
    both = (IKE_HYBRID, "aes256gcm16-prfsha512-x25519")
    pair = Pair(
        ppk=PpkMode.OFF,
        moon={"ike": ("aes256gcm16-prfsha512-x25519",) if lax == "moon" else both},
        sun={"ike": ("aes256gcm16-prfsha512-x25519",) if lax == "sun" else both},
    )
    side = pair.moon if lax == "moon" else pair.sun
    other = pair.sun if lax == "moon" else pair.moon
    object.__setattr__(side.connection, "allow_classical", True)
    pair.initiate(ppk=False)
    pair.run(10)
    assert any("allow_classical is false" in failure.reason for failure in other.failures)
    assert not pair.moon.ups
    pair.check_empty()


@pytest.mark.parametrize("fault", ["fail_allocate", "fail_install", "fail_activate"])
@pytest.mark.parametrize("side", ["moon", "sun"])
def test_kernel_that_refuses(side, fault):
    pair = Pair()
    setattr(getattr(pair, side).kernel, fault, "Operation not permitted")
    pair.initiate()
    failing = pair.moon if side == "moon" else pair.sun
    assert any("Operation not permitted" in one.reason for one in failing.failures)
    if (side, fault) != ("sun", "fail_activate"):
        pair.run(60)
        pair.check_empty()
        assert not pair.moon.ups
    pair.check_settled()


def test_same_inputs_same_datagrams():
    def recording() -> str:
        pair = Pair(toy_kex=True, seed="golden").initiate()
        pair.rekey()
        return hashlib.sha256(b"".join(flight.data for flight in pair.sent)).hexdigest()

    golden = recording()
    assert golden == recording()
    assert golden == GOLDEN


def test_another_seed_other_datagrams():
    one = Pair(toy_kex=True, seed="one").initiate()
    two = Pair(toy_kex=True, seed="two").initiate()
    assert not {flight.data for flight in one.sent} & {flight.data for flight in two.sent}


def test_an_attempt_under_way_is_not_doubled():
    pair = Pair(fault=lambda flight: [])
    pair.initiate()
    pair.initiate()
    (failure,) = pair.moon.failures
    assert "already" in failure.reason
    pair.run(100)
    assert [one.what for one in pair.moon.failures] == ["initiate", "initiate"]
    pair.check_settled()


def test_required_key_that_is_not_at_hand():
    pair = Pair(ppk=PpkMode.REQUIRE).initiate(ppk=False)
    assert pair.moon.failures[0].ppk_missing
    assert not pair.sent


def test_no_answer_at_all():
    pair = Pair(fault=lambda flight: [])
    pair.initiate()
    pair.run(100)
    assert pair.moon.failures[0].reason == "no answer from 10.0.23.3"
    assert len({flight.data for flight in pair.sent}) == 1
    assert len(pair.sent) == 6  # once, and five repetitions
    pair.check_settled()
