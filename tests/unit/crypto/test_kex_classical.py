"""X25519, P-256 and P-384."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.crypto import ecdh
from gateway.crypto.algorithms import KeMethod
from gateway.errors import CryptoError
from tests.support.vectors import load

CURVES = {"secp256r1": KeMethod.SECP256R1, "secp384r1": KeMethod.SECP384R1}
SCALAR_SIZE = {KeMethod.SECP256R1: 32, KeMethod.SECP384R1: 48}


@pytest.mark.parametrize("case", load("rfc_ecdh"), ids=lambda c: KeMethod(c["method"]).name)
def test_rfc_vectors(case: dict[str, Any]) -> None:
    """Public values without a format octet, the secret X alone (RFC 5903 7 and 9)."""
    method = KeMethod(case["method"])
    initiator = ecdh.from_private(method, bytes.fromhex(case["private_i"]))
    responder = ecdh.from_private(method, bytes.fromhex(case["private_r"]))
    assert initiator.public == bytes.fromhex(case["public_i"])
    assert responder.public == bytes.fromhex(case["public_r"])
    shared = bytes.fromhex(case["shared"])
    assert initiator.finish(responder.public).expose() == shared
    assert responder.finish(initiator.public).expose() == shared


@pytest.mark.parametrize("case", load("wycheproof_x25519"), ids=lambda c: f"x25519-{c['tcId']}")
def test_wycheproof_x25519(case: dict[str, Any]) -> None:
    """Twist points and non-canonical values are taken, an all-zero secret is not (RFC 8031)."""
    ours = ecdh.from_private(KeMethod.X25519, bytes.fromhex(case["private"]))
    peer, shared = bytes.fromhex(case["public"]), bytes.fromhex(case["shared"])
    if any(shared):
        assert ours.finish(peer).expose() == shared
    else:
        with pytest.raises(CryptoError, match="small order"):
            ours.finish(peer)


@pytest.mark.parametrize("case", load("wycheproof_ecdh"), ids=lambda c: f"{c['curve']}-{c['tcId']}")
def test_wycheproof_nist_curves(case: dict[str, Any]) -> None:
    method = CURVES[case["curve"]]
    scalar = int(case["private"], 16).to_bytes(SCALAR_SIZE[method], "big")
    ours = ecdh.from_private(method, scalar)
    peer = bytes.fromhex(case["public"])[1:]  # IKEv2 leaves the format octet out
    if case["result"] == "valid":
        assert ours.finish(peer).expose().hex() == case["shared"]
    else:
        with pytest.raises(CryptoError):
            ours.finish(peer)


@pytest.mark.parametrize("method", sorted(ecdh.METHODS), ids=lambda m: m.name)
def test_both_ends_agree(method: KeMethod) -> None:
    initiator = ecdh.initiate(method)
    public, secret = ecdh.respond(method, initiator.public)
    assert initiator.finish(public) == secret
    assert ecdh.initiate(method).public != initiator.public


@pytest.mark.parametrize("method", sorted(ecdh.METHODS), ids=lambda m: m.name)
def test_a_value_of_a_wrong_size_is_refused(method: KeMethod) -> None:
    initiator = ecdh.initiate(method)
    for peer in (b"", initiator.public[:-1], initiator.public + b"\x00"):
        with pytest.raises(CryptoError, match=f"{len(peer)} octets"):
            ecdh.respond(method, peer)
        with pytest.raises(CryptoError, match=f"{len(peer)} octets"):
            initiator.finish(peer)


def test_the_point_at_infinity_is_refused() -> None:
    for method, size in ((KeMethod.SECP256R1, 64), (KeMethod.SECP384R1, 96)):
        with pytest.raises(CryptoError, match="not on the curve"):
            ecdh.respond(method, bytes(size))
