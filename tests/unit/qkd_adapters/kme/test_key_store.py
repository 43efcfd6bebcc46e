"""What the store says of a key it holds but may not give yet."""

from __future__ import annotations

from uuid import uuid4

import pytest

from kms_client.secret import Secret
from qkd_adapters.errors import ForeignKeyError, UnknownKeyError
from qkd_adapters.kme.store import KeyStore
from qkd_adapters.link.messages import Direction

TO_US, TO_MARS = Direction("moon", "sun"), Direction("moon", "mars")


@pytest.fixture
def store() -> KeyStore:
    return KeyStore(
        pairs=[("sun", "moon"), ("mars", "moon")],
        max_count=4,
        lifetime=60.0,
        clock=lambda: 0.0,
        emit=lambda _: None,
    )


def test_a_key_whose_hand_over_is_not_settled_is_unknown_to_its_own_pair(store: KeyStore) -> None:
    """401 would say "never yours"; it may be there in a moment."""
    key_id = str(uuid4())
    assert store.offer(TO_US, key_id, Secret(bytes(range(32))))
    with pytest.raises(UnknownKeyError) as caught:
        store.fetch(TO_US, [key_id])
    assert not isinstance(caught.value, ForeignKeyError)
    store.commit([key_id])
    (delivered,) = store.fetch(TO_US, [key_id])
    assert delivered.key_id == key_id


def test_the_same_key_is_foreign_to_another_pair(store: KeyStore) -> None:
    key_id = str(uuid4())
    assert store.offer(TO_US, key_id, Secret(bytes(range(32))))
    with pytest.raises(ForeignKeyError):
        store.fetch(TO_MARS, [key_id])
