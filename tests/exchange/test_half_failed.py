"""A CREATE_CHILD_SA that fails half-way: its secrets are wiped, and the peer knows what is so."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from gateway.ike.config import PpkMode
from gateway.ike.flows import create_child, key_exchange
from gateway.ike.payloads import NotifyPayload
from gateway.ike.proposals import ProposalSpec, offers, select
from gateway.ike.registry import ExchangeType, NotifyType
from tests.support.ike_pair import Pair, child
from tests.support.toy_kex import SeededRng, ToyKex

PLAIN = ("aes256gcm16-x25519-esn",)
HYBRID = ("aes256gcm16-x25519-ke1_mlkem768-esn",)
QUIET = 150.0


@dataclass(frozen=True)
class _Kept:
    kex: object
    secrets: list

    @property
    def public(self) -> bytes:
        return self.kex.public

    def finish(self, peer: bytes):
        secret = self.kex.finish(peer)
        self.secrets.append(secret)
        return secret


class KeptKex(ToyKex):
    """Keeps every secret it gave away."""

    def __init__(self, seed: str) -> None:
        super().__init__(SeededRng(seed))
        self.secrets: list = []

    def initiate(self, method):
        return _Kept(super().initiate(method), self.secrets)

    def respond(self, method, peer):
        public, secret = super().respond(method, peer)
        self.secrets.append(secret)
        return public, secret


class Watched(Pair):
    """A tunnel that is up; from now on both ends' secrets are kept."""

    def __init__(self, **settings: object) -> None:
        super().__init__(toy_kex=True, report_inbound=True, **settings)
        self.initiate()
        self.run(1)
        self.kept = {side.name: KeptKex(side.name) for side in self.sides}
        for side in self.sides:
            # the endpoint's parts share it: only what it gives is changed
            kex, kept = side.endpoint._env.kex, self.kept[side.name]
            kex.initiate, kex.respond = kept.initiate, kept.respond

    def check_wiped(self, *, at_least: int = 1) -> None:
        assert len(self.kept["moon"].secrets) >= at_least
        for name, kept in self.kept.items():
            assert all(secret.wiped for secret in kept.secrets), name


def begin(pair: Pair, what: str) -> None:
    wish = pair.moon.endpoint.rekey_child if what == "child" else pair.moon.endpoint.rekey_ike
    wish("net", ppk=pair.key(), now=pair.now)


WHAT = pytest.mark.parametrize("what", ["child", "ike"])


@WHAT
@pytest.mark.parametrize("esp", [PLAIN, HYBRID])
def test_nothing_is_left_of_one_that_succeeds(what, esp):
    pair = Watched(esp=esp)
    begin(pair, what)
    pair.run(QUIET)
    assert not pair.moon.failures
    pair.check_wiped()


@WHAT
@pytest.mark.parametrize("when", ["closed", "lost"])
def test_the_ike_sa_ends_between_the_key_exchanges(what, when):
    """
    CREATE_CHILD_SA ------->
           <--------------- response             SK(0) is here
    IKE_FOLLOWUP_KE ------x
    """
    pair = Watched(esp=HYBRID)
    pair.fault = lambda flight: (
        [] if flight.header.exchange == ExchangeType.IKE_FOLLOWUP_KE else [(0.0, flight.data)]
    )
    begin(pair, what)
    pair.run(1)
    assert not all(secret.wiped for secret in pair.kept["moon"].secrets)
    if when == "closed":
        pair.moon.endpoint.close("net", reason="terminated by the operator", now=pair.now)
    pair.run(QUIET)
    pair.check_wiped()


@WHAT
def test_the_peer_forgets_the_exchange(what):
    """STATE_NOT_FOUND in answer to IKE_FOLLOWUP_KE (RFC 9370 2.2.4)."""
    pair = Watched(esp=HYBRID)
    pair.fault = lambda flight: [
        (20.0 if flight.header.exchange == ExchangeType.IKE_FOLLOWUP_KE else 0.0, flight.data)
    ]
    begin(pair, what)
    pair.run(1)
    pair.sun.endpoint._sessions.all()[0].sa.abandon_pending("test")
    pair.run(QUIET)
    assert pair.moon.failures
    pair.check_wiped()


@pytest.mark.parametrize("esp", [PLAIN, HYBRID])
def test_our_kernel_refuses(esp):
    pair = Watched(esp=esp)
    pair.moon.kernel.fail_install = "no room"
    begin(pair, "child")
    pair.run(QUIET)
    assert pair.moon.failures
    pair.check_wiped(at_least=len(esp))


def test_the_peer_widens_our_traffic(monkeypatch):
    pair = Watched(esp=PLAIN)
    wide = create_child.Traffic.of(child("moon", "scada"))
    original = create_child.traffic_payloads
    monkeypatch.setattr(
        create_child,
        "traffic_payloads",
        lambda traffic, role: original(wide if role.value == "responder" else traffic, role),
    )
    begin(pair, "child")
    pair.run(QUIET)
    assert "widened" in pair.moon.failures[0].reason
    pair.check_wiped()


@WHAT
def test_a_key_the_peer_has_not_got(what):
    pair = Watched(esp=PLAIN)
    pair.moon.endpoint.set_ppk_mode("net", PpkMode.REQUIRE, pair.now)
    wish = pair.moon.endpoint.rekey_child if what == "child" else pair.moon.endpoint.rekey_ike
    wish("net", ppk=pair.key(at_peer=None), now=pair.now)
    pair.run(QUIET)
    pair.check_wiped()


# --- an answer we do not like ------------------------------------------------------------------


@pytest.mark.parametrize("words", ["without ML-KEM", "another cipher"])
def test_an_ike_sa_that_is_none_of_our_proposals(monkeypatch, words):
    """
    CREATE_CHILD_SA(IKE SA) ->
           <--------------- response             the peer has made it
    INVALID_SYNTAX -------->                     else it would soon be alone there
           <--------------- response
    """
    text = {
        "without ML-KEM": "aes256gcm16-prfsha512-x25519",
        "another cipher": "chacha20poly1305-prfsha512-x25519",
    }[words]
    weak = ProposalSpec.parse(text)
    pair = Watched(allow_classical=False)
    original = key_exchange.choose

    def choose(received, specs):
        chosen = original(received, specs)
        return select(offers([weak], chosen.spi), [weak])

    monkeypatch.setattr(key_exchange, "choose", choose)
    monkeypatch.setattr("gateway.ike.flows.rekey_ike._check_strength", lambda *_: None)
    begin(pair, "ike")
    pair.run(5)
    assert pair.moon.failures[0].what == "rekey-ike"
    assert "was not offered" in pair.moon.failures[0].reason or (
        "in the answer" in pair.moon.failures[0].reason
    )
    for side in pair.sides:
        assert not side.facts.ike, "both ends know that it is over"
        assert len(side.closed) == 1
    pair.check_wiped(at_least=0)
    monkeypatch.undo()
    pair.initiate()
    pair.run(QUIET)
    pair.check_mirrored()
    pair.check_settled()


def test_a_refusal_leaves_the_ike_sa_as_it_is():
    """The negative twin: the peer answers an error, so it has made nothing."""
    pair = Watched()
    weak = replace(
        pair.sun.connection,
        ike_proposals=(ProposalSpec.parse("chacha20poly1305-prfsha512-x25519-ke1_mlkem1024"),),
    )
    pair.sun.endpoint._peerings["net"].connection = weak
    begin(pair, "ike")
    pair.run(QUIET)
    assert pair.moon.failures[0].notify == "NO_PROPOSAL_CHOSEN"
    assert not pair.moon.closed
    pair.check_mirrored()


# --- NO_PROPOSAL_CHOSEN: for want of a key, or of a proposal -------------------------------------


@WHAT
def test_proposals_that_do_not_suit_say_nothing_of_the_key(what):
    """The KME it came from is as good as before."""
    pair = Watched(esp=PLAIN)
    others = {
        "child": "aes256gcm16-ecp384-esn",
        "ike": "aes128gcm16-prfsha512-ecp384-ke1_mlkem1024",
    }
    other = ProposalSpec.parse(others[what])
    peering = pair.sun.endpoint._peerings["net"]
    if what == "ike":
        peering.connection = replace(peering.connection, ike_proposals=(other,))
    else:
        tunnel = peering.tunnels["net"]
        tunnel.config = replace(tunnel.config, esp_proposals=(other,))
    begin(pair, what)
    pair.run(QUIET)
    (failure,) = pair.moon.failures
    assert failure.notify == "NO_PROPOSAL_CHOSEN"
    assert not failure.ppk_missing
    assert [command.refused for command in pair.moon.settled] == [False, False]
    assert not pair.moon.closed


def test_a_key_that_is_missing_at_the_peer_does():
    pair = Watched(esp=PLAIN, sun={"ppk": PpkMode.REQUIRE})
    pair.moon.endpoint.rekey_child("net", ppk=pair.key(at_peer=None), now=pair.now)
    pair.run(QUIET)
    (failure,) = pair.moon.failures
    assert failure.ppk_missing
    assert [command.refused for command in pair.moon.settled] == [False, True]


def test_the_refusal_names_what_is_missing(monkeypatch):
    """NO_PROPOSAL_CHOSEN alone is what another implementation answers, and about proposals."""
    monkeypatch.setattr(
        "gateway.ike.outcomes.answer_to",
        lambda _error: [NotifyPayload(type=NotifyType.NO_PROPOSAL_CHOSEN)],
    )
    pair = Watched(esp=PLAIN, sun={"ppk": PpkMode.REQUIRE})
    pair.moon.endpoint.rekey_child("net", ppk=pair.key(at_peer=None), now=pair.now)
    pair.run(QUIET)
    assert not pair.moon.failures[0].ppk_missing
