"""What SystemKex offers, and that no method is claimed that does not work."""

from __future__ import annotations

import pytest

from gateway.crypto import kex
from gateway.crypto.algorithms import KE_NAMES, KeMethod, ke_name
from gateway.errors import CryptoError
from gateway.model import PQ_PREFIXES

ALWAYS = {
    KeMethod.SECP256R1,
    KeMethod.SECP384R1,
    KeMethod.X25519,
    KeMethod.ML_KEM_768,
    KeMethod.ML_KEM_1024,
}


def test_what_needs_no_library_is_there() -> None:
    assert set(kex.available()) >= ALWAYS
    assert KeMethod.NONE not in kex.available()


@pytest.mark.parametrize("method", kex.available(), ids=lambda m: m.name)
def test_every_available_method_works(method: KeMethod) -> None:
    system = kex.SystemKex()
    initiator = system.initiate(method)
    public, secret = system.respond(method, initiator.public)
    assert initiator.finish(public) == secret
    assert any(secret.expose())


@pytest.mark.parametrize("method", sorted(set(KeMethod) - set(kex.available())))
def test_every_other_method_is_refused(method: KeMethod) -> None:
    system = kex.SystemKex()
    assert not system.supports(method)
    with pytest.raises(CryptoError, match="not available"):
        system.initiate(method)
    with pytest.raises(CryptoError, match="not available"):
        system.respond(method, b"")


def test_a_number_nobody_knows() -> None:
    assert not kex.SystemKex().supports(14)
    assert ke_name(14) == "14"


def test_every_method_has_a_name_and_the_model_knows_which_are_post_quantum() -> None:
    assert set(KE_NAMES) == set(KeMethod)
    classical = {KeMethod.NONE, KeMethod.SECP256R1, KeMethod.SECP384R1, KeMethod.X25519}
    for method in KeMethod:
        assert ke_name(method).startswith(PQ_PREFIXES) == (method not in classical)
