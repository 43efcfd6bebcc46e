"""What the operator writes, what is offered, what is chosen, what is accepted back."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ike.errors import ProtocolError
from gateway.ike.proposals import (
    Chosen,
    Proposal,
    ProposalSpec,
    Transform,
    accept_answer,
    decode_proposals,
    encode_proposals,
    offers,
    select,
)
from gateway.ike.registry import (
    EncryptionId,
    EsnId,
    KeMethod,
    NotifyType,
    PrfId,
    ProtocolId,
    TransformType,
)
from tests.support.ike_strategies import proposal_lists

IKE = "aes256gcm16-prfsha512-x25519-ke1_mlkem768"
ESP = "aes256gcm16-x25519-ke1_mlkem768-esn"
SPI = b"\x01\x02\x03\x04"


def parse(*texts: str) -> tuple[ProposalSpec, ...]:
    return tuple(ProposalSpec.parse(text) for text in texts)


def negotiate(theirs: str | tuple[str, ...], ours: str | tuple[str, ...], **more: bool) -> str:
    """The choice as text, or "" for none."""
    offered = offers(parse(theirs) if isinstance(theirs, str) else parse(*theirs), SPI)
    acceptable = parse(ours) if isinstance(ours, str) else parse(*ours)
    if offered[0].protocol == ProtocolId.IKE:
        offered = tuple(one.with_spi(b"") for one in offered)
    chosen = select(offered, acceptable, **more)
    return "" if chosen is None else str(chosen)


class TestSpec:
    def test_an_ike_proposal(self) -> None:
        spec = ProposalSpec.parse(IKE)
        assert spec.protocol is ProtocolId.IKE
        assert spec.ciphers == ((EncryptionId.AES_GCM_16, 256),)
        assert spec.prfs == (PrfId.HMAC_SHA2_512,)
        assert spec.key_exchanges == (KeMethod.X25519,)
        assert spec.additional == ((TransformType.ADDKE1, (KeMethod.ML_KEM_768,)),)
        assert spec.esn == ()
        assert spec.wants_additional

    def test_an_esp_proposal(self) -> None:
        spec = ProposalSpec.parse(ESP)
        assert spec.protocol is ProtocolId.ESP
        assert (spec.prfs, spec.esn) == ((), (EsnId.ESN,))

    def test_esn_by_default_and_not(self) -> None:
        assert ProposalSpec.parse("aes256gcm16").esn == (EsnId.ESN, EsnId.NO_ESN)
        assert ProposalSpec.parse("aes256gcm16-noesn").esn == (EsnId.NO_ESN,)
        assert ProposalSpec.parse("aes256gcm16-noesn-esn").esn == (EsnId.NO_ESN, EsnId.ESN)

    @pytest.mark.parametrize(
        "text",
        [
            IKE,
            ESP,
            (
                "aes256gcm16-aes128gcm16-prfsha384-ecp384-x25519-ke1_mlkem1024-ke1_mlkem768-ke3_none"
                "-ke3_frodokem976shake"
            ),
            "chacha20poly1305-prfsha256-ecp256",
        ],
    )
    def test_text_comes_back(self, text: str) -> None:
        assert str(ProposalSpec.parse(text)) == text
        assert ProposalSpec.parse(str(ProposalSpec.parse(text))) == ProposalSpec.parse(text)

    def test_case_and_other_names(self) -> None:
        assert ProposalSpec.parse("AES256GCM128-PRFSHA512-Curve25519") == ProposalSpec.parse(
            "aes256gcm16-prfsha512-x25519"
        )

    @pytest.mark.parametrize(
        ("text", "protocol", "why"),
        [
            ("", None, "'' is not known"),
            ("aes256", None, "'aes256' is not known"),
            ("aes256gcm16-sha256", None, "'sha256' is not known"),
            ("aes256gcm16-ke8_mlkem768", None, "'ke8_mlkem768' is not known"),
            ("aes256gcm16-ke", None, "'ke' is not known"),
            ("aes256gcm16-ke1_", None, "'ke1_' names no known key exchange"),
            ("aes256gcm16-x25519-ke1_kyber3", None, "'ke1_kyber3' names no known key exchange"),
            ("prfsha512-x25519", None, "no cipher"),
            ("aes256gcm16-prfsha512", None, "no key exchange"),
            ("aes256gcm16-x25519", ProtocolId.IKE, "no PRF"),
            ("aes256gcm16-prfsha512-x25519-esn", None, "for ESP only"),
            (IKE, ProtocolId.ESP, "an ESP proposal has no PRF"),
            ("aes256gcm16-ke1_mlkem768", None, "needs a first one"),
            ("aes256gcm16-none", None, "for additional key exchanges only"),
            ("aes256gcm16-x25519-ke1_none", None, "slot ke1 has only 'none'"),
            ("aes256gcm16-x25519-ke1_x25519", None, "must differ"),
            ("aes256gcm16-x25519-ke1_mlkem768-ke2_mlkem768", None, "must differ"),
        ],
    )
    def test_errors_name_the_word(self, text: str, protocol: ProtocolId | None, why: str) -> None:
        with pytest.raises(ValueError, match=why) as caught:
            ProposalSpec.parse(text, protocol)
        assert repr(text) in str(caught.value)

    def test_without_key_exchange_for_ike_auth(self) -> None:
        """RFC 7296 1.2."""
        assert ProposalSpec.parse(ESP).without_key_exchange() == ProposalSpec.parse(
            "aes256gcm16-esn"
        )

    def test_offers_are_numbered_from_one(self) -> None:
        first, second = offers(parse(IKE, "aes256gcm16-prfsha384-ecp384"))
        assert (first.number, second.number) == (1, 2)
        assert (first.spi, first.protocol) == (b"", ProtocolId.IKE)


class TestSelect:
    @pytest.mark.parametrize(
        ("theirs", "ours", "result"),
        [
            (IKE, IKE, "AES_GCM_16-256/PRF_HMAC_SHA2_512/X25519/KE1_ML-KEM-768"),
            (ESP, ESP, "AES_GCM_16-256/X25519/KE1_ML-KEM-768/ESN"),
            ("aes256gcm16-noesn", "aes256gcm16", "AES_GCM_16-256/NO_ESN"),
            ("aes256gcm16", "aes256gcm16", "AES_GCM_16-256/ESN"),
            ("chacha20poly1305-esn", "chacha20poly1305", "CHACHA20_POLY1305/ESN"),
            # nothing in common
            ("aes256gcm16-esn", "aes256gcm16-noesn", ""),
            ("aes128gcm16", "aes256gcm16", ""),
            (IKE, ESP, ""),
            (IKE, "aes256gcm16-prfsha512-ecp384-ke1_mlkem768", ""),
            (IKE, "aes256gcm16-prfsha384-x25519-ke1_mlkem768", ""),
            # a mandatory slot on either side
            (IKE, "aes256gcm16-prfsha512-x25519", ""),
            ("aes256gcm16-prfsha512-x25519", IKE, ""),
            (IKE, "aes256gcm16-prfsha512-x25519-ke2_mlkem768", ""),
            (ESP, "aes256gcm16-esn", ""),
        ],
    )
    def test_one_to_one(self, theirs: str, ours: str, result: str) -> None:
        assert negotiate(theirs, ours) == result

    def test_our_preference_comes_first(self) -> None:
        theirs = ("aes256gcm16-prfsha512-x25519", IKE)
        ours = (IKE, "aes256gcm16-prfsha512-x25519")
        assert negotiate(theirs, ours).endswith("KE1_ML-KEM-768")
        assert negotiate(theirs, tuple(reversed(ours))).endswith("/X25519")
        assert "X25519" in negotiate(
            "aes256gcm16-prfsha512-ecp256-x25519", "aes256gcm16-prfsha512-x25519-ecp256"
        )

    def test_an_optional_slot(self) -> None:
        """RFC 9370 2.2.2: NONE among the methods of a slot."""
        optional = IKE + "-ke1_none"
        plain = "aes256gcm16-prfsha512-x25519"
        assert negotiate(optional, IKE).endswith("KE1_ML-KEM-768")
        assert negotiate(IKE, optional).endswith("KE1_ML-KEM-768")
        assert negotiate(optional, optional).endswith("KE1_ML-KEM-768")
        assert negotiate(optional, plain).endswith("/X25519")
        assert negotiate(plain, optional).endswith("/X25519")

    def test_slots_need_not_be_contiguous(self) -> None:
        text = "aes256gcm16-prfsha512-x25519-ke2_mlkem768-ke7_ecp384"
        assert negotiate(text, text).endswith("X25519/KE2_ML-KEM-768/KE7_P-384")

    def test_methods_are_pairwise_distinct(self) -> None:
        """The first choice of a slot gives way where a later slot has no other."""
        spec = "aes256gcm16-prfsha512-x25519-ke1_mlkem768-ke1_mlkem1024-ke2_mlkem768"
        assert negotiate(spec, spec).endswith("KE1_ML-KEM-1024/KE2_ML-KEM-768")
        spec = "aes256gcm16-prfsha512-x25519-ecp384-ke1_x25519"
        assert negotiate(spec, spec).endswith("/P-384/KE1_X25519")

    def test_no_distinct_choice_is_no_choice(self) -> None:
        same = [Transform(type=kind, id=KeMethod.X25519) for kind in (4, 6)]
        base = ProposalSpec.parse(IKE).offer(1)
        hostile = dataclasses.replace(base, transforms=(*base.transforms[:2], *same))
        spec = ProposalSpec.parse("aes256gcm16-prfsha512-x25519-ecp384-ke1_x25519-ke1_mlkem768")
        assert select([hostile], [spec]) is None

    def test_without_intermediate_no_additional_key_exchange(self) -> None:
        """RFC 9370 2.2.1: both ends must have sent INTERMEDIATE_EXCHANGE_SUPPORTED."""
        optional = IKE + "-ke1_none"
        assert negotiate(IKE, IKE, additional_key_exchanges=False) == ""
        assert negotiate(optional, IKE, additional_key_exchanges=False) == ""
        assert negotiate(optional, optional, additional_key_exchanges=False).endswith("/X25519")

    @pytest.mark.parametrize(
        "strange",
        [
            Transform(type=13, id=1),  # a type we do not know
            Transform(type=TransformType.INTEG, id=12),  # with AEAD there is none
            Transform(type=TransformType.PRF, id=7, unknown_attributes=b"\x80\x01\x00\x02"),
        ],
    )
    def test_what_we_do_not_understand_is_not_chosen(self, strange: Transform) -> None:
        spec = ProposalSpec.parse(ESP)
        good = spec.offer(1, SPI)
        bad = dataclasses.replace(good, transforms=(*good.transforms, strange))
        assert select([bad], [spec]) is None
        chosen = select([bad, dataclasses.replace(good, number=2)], [spec])
        assert chosen is not None
        assert chosen.number == 2

    def test_an_unknown_algorithm_beside_a_known_one_does_no_harm(self) -> None:
        spec = ProposalSpec.parse(IKE)
        offer = spec.offer(1)
        more = (
            Transform(type=1, id=12, key_length=256),
            Transform(type=1, id=20, key_length=192),
            Transform(type=4, id=14),
            Transform(type=2, id=7, unknown_attributes=b"\x80\x01\x00\x02"),
        )
        wide = dataclasses.replace(offer, transforms=(*more, *offer.transforms))
        chosen = select([wide], [spec])
        assert chosen is not None
        assert set(chosen.proposal.transforms) == set(offer.transforms)

    def test_integrity_none_is_answered(self) -> None:
        spec = ProposalSpec.parse(IKE)
        none = Transform(type=TransformType.INTEG, id=0)
        offer = spec.offer(1)
        chosen = select([dataclasses.replace(offer, transforms=(*offer.transforms, none))], [spec])
        assert chosen is not None
        assert none in chosen.proposal.transforms

    @pytest.mark.parametrize("kind", [1, 2, 4, 5])
    def test_a_proposal_that_lacks_a_type(self, kind: int) -> None:
        for spec in parse(IKE, ESP):
            offer = spec.offer(1, SPI)
            fewer = tuple(one for one in offer.transforms if one.type != kind)
            chosen = select([dataclasses.replace(offer, transforms=fewer)], [spec])
            assert (chosen is None) == (len(fewer) < len(offer.transforms))

    def test_ike_auth_with_key_exchange_none(self) -> None:
        """RFC 7296 1.2: a peer may send KE with NONE there, though it should leave it out."""
        spec = ProposalSpec.parse(ESP).without_key_exchange()
        none = Transform(type=TransformType.KE, id=KeMethod.NONE)
        offer = spec.offer(1, SPI)
        chosen = select([dataclasses.replace(offer, transforms=(*offer.transforms, none))], [spec])
        assert chosen is not None
        assert chosen.key_exchange is KeMethod.NONE
        assert chosen.methods == ()

    @given(proposal_lists())
    def test_strange_offers_are_declined_not_fatal(self, offered: tuple[Proposal, ...]) -> None:
        specs = parse(IKE, ESP)
        chosen = select(offered, specs)
        if chosen is not None:
            assert accept_answer([chosen.proposal], offered) == chosen


class TestChosen:
    @pytest.fixture
    def chosen(self) -> Chosen:
        spec = ProposalSpec.parse(IKE)
        found = select([spec.offer(3, b"their-sp")], [spec])
        assert found is not None
        return found

    def test_facts(self, chosen: Chosen) -> None:
        assert chosen.number == 3
        assert chosen.spi == b"their-sp"
        assert (chosen.encryption, chosen.key_bits, chosen.key_size) == (20, 256, 36)
        assert chosen.prf is PrfId.HMAC_SHA2_512
        assert chosen.methods == (KeMethod.X25519, KeMethod.ML_KEM_768)
        assert chosen.key_exchanges == ("X25519", "ML-KEM-768")
        assert chosen.additional == ((TransformType.ADDKE1, KeMethod.ML_KEM_768),)
        assert chosen.encryption_name == "AES_GCM_16-256"

    def test_the_answer_has_our_spi_and_one_transform_per_type(self, chosen: Chosen) -> None:
        answer = chosen.answer(b"our-spi8")
        assert (answer.number, answer.spi) == (3, b"our-spi8")
        assert [one.type for one in answer.transforms] == [1, 2, 4, 6]
        assert decode_proposals(encode_proposals([answer])) == (answer,)


class TestAcceptAnswer:
    """The initiator's check."""

    OFFERED = offers(
        parse(IKE + "-ke1_mlkem1024", "aes256gcm16-prfsha512-ecp384-ke1_none-ke1_x25519")
    )

    @pytest.fixture
    def answer(self) -> Proposal:
        chosen = select(self.OFFERED, parse(IKE))
        assert chosen is not None
        return chosen.answer()

    def test_a_choice_from_the_offer(self, answer: Proposal) -> None:
        chosen = accept_answer([answer], self.OFFERED)
        assert str(chosen).endswith("X25519/KE1_ML-KEM-768")

    def test_a_slot_with_none_may_be_left_out(self) -> None:
        second = self.OFFERED[1]
        for keep in (
            [Transform(type=6, id=0)],
            [],
        ):
            base = [one for one in second.transforms if one.type != 6]
            answer = dataclasses.replace(second, transforms=(*base, *keep))
            assert accept_answer([answer], self.OFFERED).key_exchanges == ("P-384",)

    def refuse(self, *answer: Proposal, why: str) -> None:
        with pytest.raises(ProtocolError, match=why) as caught:
            accept_answer(answer, self.OFFERED)
        assert caught.value.notify is NotifyType.NO_PROPOSAL_CHOSEN

    def test_not_exactly_one_proposal(self, answer: Proposal) -> None:
        self.refuse(why="0 proposals")
        self.refuse(answer, dataclasses.replace(answer, number=2), why="2 proposals")

    def test_another_number_protocol_or_spi_size(self, answer: Proposal) -> None:
        self.refuse(dataclasses.replace(answer, number=3), why="proposal 3")
        self.refuse(dataclasses.replace(answer, protocol=3), why="not offered")
        self.refuse(dataclasses.replace(answer, spi=bytes(8)), why="not offered")

    def test_downgrade_by_leaving_the_kem_out(self, answer: Proposal) -> None:
        fewer = tuple(one for one in answer.transforms if one.type != 6)
        self.refuse(dataclasses.replace(answer, transforms=fewer), why="no transform of type 6")

    def test_a_transform_we_did_not_offer(self, answer: Proposal) -> None:
        for other in (
            Transform(type=1, id=20, key_length=128),
            Transform(type=1, id=20),
            Transform(type=4, id=14),
            Transform(type=6, id=0),
        ):
            rest = tuple(one for one in answer.transforms if one.type != other.type)
            changed = dataclasses.replace(answer, transforms=(*rest, other))
            self.refuse(changed, why="was not offered")

    def test_two_transforms_of_one_type(self, answer: Proposal) -> None:
        more = (*answer.transforms, Transform(type=6, id=37))
        self.refuse(dataclasses.replace(answer, transforms=more), why="two transforms of type 6")

    def test_the_same_method_twice(self) -> None:
        text = "aes256gcm16-prfsha512-x25519-ecp384-ke1_x25519"
        offered = offers(parse(text))
        base = offered[0].transforms
        picked = (*base[:2], Transform(type=4, id=31), Transform(type=6, id=31))
        with pytest.raises(ProtocolError, match="twice"):
            accept_answer([dataclasses.replace(offered[0], transforms=picked)], offered)


@given(proposal_lists())
def test_round_trip(proposals: tuple[Proposal, ...]) -> None:
    octets = encode_proposals(proposals)
    assert decode_proposals(octets) == proposals
    assert encode_proposals(decode_proposals(octets)) == octets


METHODS = st.sampled_from(["x25519", "ecp256", "ecp384", "mlkem768", "mlkem1024", "none"])


@st.composite
def spec_texts(draw: st.DrawFn) -> str:
    words = ["aes256gcm16", "prfsha512"]
    words += draw(st.lists(METHODS.filter(lambda m: m != "none"), min_size=1, max_size=3))
    for slot in draw(st.sets(st.integers(1, 7), max_size=4)):
        words += [f"ke{slot}_{m}" for m in draw(st.lists(METHODS, min_size=1, max_size=3))]
    return "-".join(words)


@given(spec_texts(), spec_texts())
def test_both_ends_come_to_the_same_choice(theirs: str, ours: str) -> None:
    try:
        offered, acceptable = offers(parse(theirs)), parse(ours)
    except ValueError:
        return
    chosen = select(offered, acceptable)
    if chosen is None:
        return
    assert accept_answer([chosen.answer()], offered) == chosen
    assert len(set(chosen.methods)) == len(chosen.methods)
    assert KeMethod.NONE not in chosen.methods


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("aes256gcm16-prfsha512-secp384r1", "'ecp384'"),
        ("aes256gmc16-prfsha512-x25519", "'aes256gcm16'"),
        ("aes256gcm16-prfsha512-x25519-ke1_ml_kem_768", "'mlkem768'"),
    ],
)
def test_a_word_that_is_nearly_right_gets_a_hint(text: str, hint: str) -> None:
    with pytest.raises(ValueError, match=f"did you mean {hint}"):
        ProposalSpec.parse(text)


def test_a_word_that_is_like_nothing_gets_none() -> None:
    with pytest.raises(ValueError, match=r"'x' is not known$"):
        ProposalSpec.parse("aes256gcm16-x")
