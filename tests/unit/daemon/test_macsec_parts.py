"""Parts of a MACsec link by themselves: CAKs, refusals, audit, alarms."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from gateway.config.schema import StaticCak
from gateway.crypto.secret import Secret
from gateway.daemon.macsec.alarms import START_GRACE, Situation, standing
from gateway.daemon.macsec.audit import Findings, compare, complete
from gateway.daemon.macsec.caks import ORIGINS_MAX, Caks
from gateway.daemon.macsec.events import Refusals
from gateway.dataplane.macsec_port import ParentState, SecySaState, SecySpec, SecyState
from gateway.ike.identity import Identity
from gateway.ike.views import IkeFacts
from gateway.mka.errors import DropReason
from gateway.mka.events import Dropped
from gateway.mka.hybrid import EXPORT_SIZE
from gateway.mka.identifiers import KeyIdentifier, MemberId, Sci
from gateway.mka.limits import LIFE_TIME, PARTICIPANTS_MAX
from gateway.mka.registry import CipherSuite, Confidentiality
from gateway.mka.states import State
from gateway.mka.views import ParticipantFacts, PeerFacts, PortFacts, SakFacts
from gateway.model import (
    KeyId,
    MacsecCounters,
    Mixed,
    PortState,
    PpkMethod,
    Protection,
    Role,
    Severity,
)

HYBRID = Mixed(
    key_exchanges=("X25519", "ML-KEM-768"),
    key_id=KeyId("0f4e1c9a-52d1-4c9e-8a77-3b1f0c9d2e61"),
    ppk_method=PpkMethod.INTERMEDIATE,
)
PQC = Mixed(key_exchanges=("X25519", "ML-KEM-768"), key_id=None, ppk_method=None)
OWN, PEER = Sci(bytes((2, 0, 0, 0, 0, 1))), Sci(bytes((2, 0, 0, 0, 0, 2)))
KI = KeyIdentifier(MemberId(bytes(range(12))), 7)


def ike(number: int = 1, **changes: object) -> IkeFacts:
    facts = IkeFacts(
        spi_i=number.to_bytes(8, "big"),
        spi_r=bytes(8),
        role=Role.INITIATOR,
        state="established",
        local=(ip_address("10.0.12.1"), 500),
        remote=(ip_address("10.0.23.3"), 500),
        proposal="",
        key_exchanges=HYBRID.key_exchanges,
        ppk_method=HYBRID.ppk_method,
        key_id=HYBRID.key_id,
        mixed=HYBRID,
        established_at=0.0,
        nat=False,
        fragmentation=True,
        peer_is_qsgw=True,
        local_id=Identity.parse("moon.example"),
        remote_id=Identity.parse("sun.example"),
        local_proof="",
        remote_proof="",
    )
    return replace(facts, **changes)  # type: ignore[arg-type]


def add(caks: Caks, facts: IkeFacts, *, seed: int = 1, link: str = "metro", now: float = 0.0):
    exported = Secret(bytes([seed]) * EXPORT_SIZE)
    return caks.add_hybrid(facts, exported, link=link, size=32, now=now)


# --- CAKs ----------------------------------------------------------------------------------------


def test_both_ends_have_the_same_whoever_began() -> None:
    moon = ike()
    sun = replace(moon, role=Role.RESPONDER, local_id=moon.remote_id, remote_id=moon.local_id)
    one, other = add(Caks(), moon), add(Caks(), sun)
    assert one is not None
    assert other is not None
    assert (one.ckn, one.key.expose()) == (other.ckn, other.key.expose())


@pytest.mark.parametrize(
    "change",
    [
        {"mixed": PQC},
        {"role": Role.RESPONDER},
        {"local_id": Identity.parse("mars.example")},
        {"remote_id": Identity.parse("keyid:6d6f6f6e")},
    ],
)
def test_what_one_end_sees_otherwise_gives_another(change: dict[str, object]) -> None:
    one, other = add(Caks(), ike()), add(Caks(), ike(**change))
    assert one is not None
    assert other is not None
    assert one.ckn != other.ckn


def test_one_ike_sa_gives_one_cak() -> None:
    caks = Caks()
    assert add(caks, ike()) is not None
    assert add(caks, ike()) is None
    assert len(caks) == 1


def test_an_ike_sa_without_an_identity_gives_none() -> None:
    with pytest.raises(ValueError, match="not authenticated"):
        add(Caks(), ike(remote_id=None))


def test_copies_outlive_the_cak_that_was_given_away_and_go_with_drop() -> None:
    caks = Caks()
    given = add(caks, ike())
    assert given is not None
    octets = given.key.expose()
    given.wipe()
    (copy,) = caks.copies()
    assert copy.key.expose() == octets
    caks.drop_all()
    assert caks.copies() == []
    assert copy.key.expose() == octets, "the next port has it for its own"


def test_what_was_mixed_is_known_while_a_sak_may_be_in_use() -> None:
    caks = Caks()
    cak = add(caks, ike())
    assert cak is not None
    caks.sak_in_use(KI, cak.ckn)
    caks.drop(cak.ckn)
    for ckn in (cak.ckn, b""):
        origin = caks.origin_of(KI, ckn)
        assert origin is not None
        assert origin.protection is Protection.HYBRID
    for number in range(2, 2 + 2 * ORIGINS_MAX):
        other = add(caks, ike(number), seed=number)
        assert other is not None
        caks.drop(other.ckn)
    assert caks.origin_of(KI, cak.ckn) is None, "not for ever"
    assert len(caks._origins) <= ORIGINS_MAX + 1


def test_without_a_port_the_newest_stay() -> None:
    caks = Caks()
    for number in range(1, PARTICIPANTS_MAX + 3):
        add(caks, ike(number), seed=number)
        caks.trim()
    assert len(caks) == PARTICIPANTS_MAX
    assert caks.newest is not None
    assert caks.newest.ike == (ike(PARTICIPANTS_MAX + 2).spi_i, bytes(8))


def test_the_end_of_the_newest_ones_ike_sa_is_noted_until_there_is_another() -> None:
    caks = Caks()
    add(caks, ike(1), seed=1)
    add(caks, ike(2), seed=2)
    caks.ike_closed(ike(1).spi_i, bytes(8), "rekeyed")
    assert caks.source_lost is None
    caks.ike_closed(ike(2).spi_i, bytes(8), "no answer")
    assert caks.source_lost == "no answer"
    add(caks, ike(3), seed=3)
    assert caks.source_lost is None


def test_age_and_protection_by_hand() -> None:
    caks = Caks()
    caks.add_static(StaticCak(ckn=b"x", cak=Secret(bytes(16))), 100.0)
    assert caks.newest is not None
    assert caks.newest.protection is Protection.CLASSICAL
    assert caks.expired(50.0, 149.0) == []
    assert caks.expired(50.0, 150.0) == [b"x"]


# --- who is there with another key ---------------------------------------------------------------


def dropped(reason: DropReason, text: str = "CKN 6d6f is not ours") -> Dropped:
    return Dropped(reason=reason, text=text, source=PEER.mac)


def test_refusals_are_told_for_a_while_and_the_worst_first() -> None:
    refusals = Refusals()
    assert refusals.text(0.0) is None
    refusals.note(dropped(DropReason.UNKNOWN_CKN), 0.0)
    assert refusals.text(1.0) == (
        "a station with CKN 6d6f is there (02:00:00:00:00:02), which is not ours"
    )
    refusals.note(dropped(DropReason.BAD_ICV, "ICV of CKN 6d6f is wrong"), 1.0)
    assert refusals.text(1.0) == (
        "frames with our CKN and a wrong ICV from 02:00:00:00:00:02: the CAK differs"
    )
    assert refusals.text(LIFE_TIME + 1.0) is None
    refusals.note(dropped(DropReason.UNKNOWN_CKN), 10.0)
    refusals.clear()
    assert refusals.text(10.0) is None


@pytest.mark.parametrize("reason", [DropReason.MALFORMED, DropReason.LOOPED, DropReason.REPLAYED])
def test_noise_is_no_refusal(reason: DropReason) -> None:
    refusals = Refusals()
    refusals.note(dropped(reason), 0.0)
    assert refusals.text(0.0) is None


def test_a_flood_of_names_takes_no_memory() -> None:
    refusals = Refusals()
    for number in range(10_000):
        refusals.note(dropped(DropReason.UNKNOWN_CKN, f"CKN {number:x} is not ours"), 0.0)
    assert len(refusals._last) == 1


# --- audit ---------------------------------------------------------------------------------------

SPEC = SecySpec(
    link="metro",
    parent="eth1",
    device="macsec-metro",
    suite=CipherSuite.GCM_AES_256,
    encrypt=True,
    replay_window=0,
    filtered=True,
)
PARENT = ParentState(index=3, mac=OWN.mac, mtu=1500, running=True, addresses=())
SAK = SakFacts(
    ckn=b"x",
    ki=KI,
    an=1,
    suite=CipherSuite.GCM_AES_256,
    confidentiality=Confidentiality.OFFSET_0,
    transmits=True,
    next_pn=1,
    receivers=(PEER,),
)
FACTS = PortFacts(
    interface="eth1",
    port=PortState.SECURED,
    rollover=State.RETIRE,
    participants=(
        ParticipantFacts(
            ckn=b"x",
            mi=MemberId(bytes(12)),
            mn=1,
            principal=True,
            key_server=OWN,
            peers=(PeerFacts(sci=PEER, mi=MemberId(bytes(12)), mn=1, priority=16, live=True),),
        ),
    ),
    saks=(SAK,),
)


def sa(sci: Sci, an: int = 1, **changes: object) -> SecySaState:
    state = SecySaState(sci=sci, an=an, ki=KI.encode(), active=True, pn=5)
    return replace(state, **changes)  # type: ignore[arg-type]


STATE = SecyState(
    index=9,
    parent=3,
    sci=OWN,
    suite=CipherSuite.GCM_AES_256,
    mtu=1468,
    running=True,
    encrypt=True,
    port=PortState.SECURED,
    encoding_an=1,
    filtered=True,
    transmit=(sa(OWN),),
    receive=(sa(PEER),),
    receive_channels=(PEER,),
    counters=MacsecCounters(**dict.fromkeys(MacsecCounters.__dataclass_fields__, 0)),
)


def findings(state: SecyState | None, facts: PortFacts = FACTS, spec: SecySpec = SPEC) -> Findings:
    return compare(facts, state, sci=OWN, spec=spec, parent=PARENT)


def test_nothing_to_find() -> None:
    assert findings(STATE) == Findings()
    assert complete(FACTS, STATE, KI.encode())


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (None, "device is gone"),
        (replace(STATE, parent=4), "another"),
        (replace(STATE, sci=PEER), "another"),
        (replace(STATE, transmit=()), "transmit SA with AN 1 is gone"),
        (replace(STATE, transmit=(sa(OWN, active=False),)), "transmit SA with AN 1 is disabled"),
        (replace(STATE, transmit=(sa(OWN, ki=bytes(16)),)), "transmit SA with AN 1 is gone"),
        (replace(STATE, receive=()), "receive SA of"),
        (replace(STATE, receive=(sa(PEER, active=False),)), "receive SA of"),
        (replace(STATE, receive=(sa(PEER, an=2),)), "receive SA of"),
    ],
)
def test_keys_that_are_gone_need_another_sak(state: SecyState | None, word: str) -> None:
    lost = findings(state).lost
    assert lost is not None
    assert word in lost


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (replace(STATE, running=False), "down"),
        (replace(STATE, mtu=1400), "MTU is 1400, not 1468"),
        (replace(STATE, filtered=False), "filter of eth1 is gone"),
        (replace(STATE, encrypt=False), "encryption is off"),
    ],
)
def test_what_only_differs_is_set_again(state: SecyState, word: str) -> None:
    found = findings(state)
    assert found.lost is None
    assert found.changed is not None
    assert word in found.changed


def test_a_configured_mtu_is_what_counts() -> None:
    assert findings(replace(STATE, mtu=1400), spec=replace(SPEC, mtu=1400)) == Findings()


def test_a_port_that_somebody_opened_and_an_an_that_somebody_chose() -> None:
    assert findings(replace(STATE, port=PortState.CLEAR)).set_port is PortState.SECURED
    assert findings(replace(STATE, encoding_an=2)).send_with == 1


def test_a_sak_of_another_suite_went_with_the_device_before() -> None:
    other = replace(FACTS, saks=(replace(SAK, suite=CipherSuite.GCM_AES_128),))
    assert findings(replace(STATE, transmit=(), receive=()), other).lost is None


def test_one_that_does_not_send_any_more_may_go() -> None:
    old = replace(SAK, an=0, ki=KeyIdentifier(KI.mi, 6), transmits=False)
    assert findings(STATE, replace(FACTS, saks=(SAK, old))) == Findings()


def test_a_peer_without_a_receive_sa_is_not_complete() -> None:
    assert not complete(FACTS, replace(STATE, receive=()), KI.encode())
    assert not complete(FACTS, replace(STATE, transmit=()), KI.encode())


# --- alarms --------------------------------------------------------------------------------------

CALM = Situation(
    now=100.0,
    interface="eth1",
    protection=Protection.HYBRID,
    reason="",
    since=0.0,
    was_up=True,
    earlier_run=False,
    stopped=False,
    port=PortState.SECURED,
    static=False,
    filtered=True,
    missing=None,
    down=False,
    refused=None,
    addressed=(),
    foreign_peer=None,
    refusal=None,
    not_renewed=None,
)
DOWN = replace(CALM, protection=Protection.DOWN, port=PortState.BLOCKED, reason="why")


@pytest.mark.parametrize(
    ("situation", "alarm", "severity", "text"),
    [
        (DOWN, "macsec-down", Severity.CRITICAL, "traffic is dropped: why"),
        (
            replace(DOWN, protection=Protection.BLOCKED),
            "macsec-blocked",
            Severity.CRITICAL,
            "traffic is dropped: why",
        ),
        (
            replace(DOWN, port=PortState.CLEAR),
            "macsec-clear",
            Severity.CRITICAL,
            "traffic passes unprotected: why",
        ),
        (
            replace(DOWN, missing="no eth1"),
            "macsec-interface-missing",
            Severity.CRITICAL,
            "no eth1",
        ),
        (
            replace(DOWN, down=True),
            "macsec-interface-down",
            Severity.CRITICAL,
            "eth1 is down or has no carrier",
        ),
        (replace(CALM, refused="no"), "macsec-device", Severity.CRITICAL, "no"),
        (replace(CALM, foreign_peer="no"), "macsec-peer-foreign", Severity.CRITICAL, "no"),
        (replace(CALM, refusal="no"), "macsec-peer-refused", Severity.WARNING, "no"),
        (replace(CALM, not_renewed="no"), "cak-not-renewed", Severity.WARNING, "no"),
    ],
)
def test_each_alarm_stands_alone(
    situation: Situation, alarm: str, severity: Severity, text: str
) -> None:
    assert standing(situation) == {alarm: (severity, text)}


def test_no_alarm_where_nothing_is_wrong_or_it_is_meant_so() -> None:
    assert standing(CALM) == {}
    assert standing(replace(DOWN, stopped=True)) == {}
    assert standing(replace(DOWN, earlier_run=True)) == {}
    young = replace(DOWN, was_up=False, since=100.0 - START_GRACE + 0.1)
    assert standing(young) == {}
    assert "macsec-down" in standing(replace(young, since=100.0 - START_GRACE))


def test_addresses_of_the_parent_say_what_becomes_of_them() -> None:
    used = replace(CALM, addressed=("10.0.0.1/24",))
    (text,) = [text for _, text in standing(used).values()]
    assert text == "eth1 has addresses of its own, where nothing passes: 10.0.0.1/24"
    (text,) = [text for _, text in standing(replace(used, filtered=False)).values()]
    assert "where traffic passes unprotected" in text


# --- what nobody knows ---------------------------------------------------------------------------


def test_sas_of_no_sak_are_strays_unless_an_earlier_run_has_left_them() -> None:
    left = (sa(PEER, an=2), sa(PEER, ki=bytes(16), an=3))
    state = replace(STATE, receive=(*STATE.receive, *left), transmit=(*STATE.transmit, sa(OWN, 0)))
    assert findings(state).strays == (sa(OWN, 0), *left)
    assert findings(state).lost is None
    inherited = replace(FACTS, saks=(replace(SAK, ckn=b""),))
    assert findings(state, inherited) == Findings()
