"""Numbers and their names."""

from __future__ import annotations

from gateway.ike.registry import (
    ADDITIONAL_KE_TYPES,
    ExchangeType,
    KeMethod,
    NotifyType,
    PayloadType,
    TransformType,
    notify_name,
)


def test_errors_end_where_status_begins() -> None:
    """RFC 7296 3.10.1."""
    assert NotifyType.STATE_NOT_FOUND.is_error
    assert not NotifyType.INITIAL_CONTACT.is_error
    assert all(kind.is_error == (kind < 16384) for kind in NotifyType)


def test_names() -> None:
    assert notify_name(16445) == "USE_PPK_INT"
    assert notify_name(40000) == "40000"


def test_numbers_that_later_rfcs_added() -> None:
    assert (ExchangeType.IKE_INTERMEDIATE, ExchangeType.IKE_FOLLOWUP_KE) == (43, 44)
    assert PayloadType.SKF == 53
    assert [int(kind) for kind in ADDITIONAL_KE_TYPES] == [6, 7, 8, 9, 10, 11, 12]
    assert TransformType.ADDKE1 is ADDITIONAL_KE_TYPES[0]
    assert [KeMethod.ML_KEM_512, KeMethod.ML_KEM_768, KeMethod.ML_KEM_1024] == [35, 36, 37]
    assert [
        NotifyType.USE_PPK,
        NotifyType.PPK_IDENTITY,
        NotifyType.NO_PPK_AUTH,
        NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED,
        NotifyType.ADDITIONAL_KEY_EXCHANGE,
        NotifyType.USE_PPK_INT,
        NotifyType.PPK_IDENTITY_KEY,
    ] == [16435, 16436, 16437, 16438, 16441, 16445, 16446]


def test_methods_of_our_own_have_private_numbers() -> None:
    """RFC 7296 3.3.2: 1024 to 65535 are for private use."""
    ours = [method for method in KeMethod if "ML_KEM" not in method.name and method > 34]
    assert ours
    assert all(1024 <= method <= 65535 for method in ours)
