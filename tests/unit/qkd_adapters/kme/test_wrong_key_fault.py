"""The fault that makes two KMEs disagree about a key."""

from __future__ import annotations

import base64

from qkd_adapters.kme.faults import CONTAINER_FAULTS, Fault


def test_a_wrong_key_has_the_right_size_and_id_and_other_octets() -> None:
    key = bytes(range(32))
    answer = {"keys": [{"key_ID": "id", "key": base64.b64encode(key).decode()}]}
    CONTAINER_FAULTS[Fault.WRONG_KEY](answer)
    (entry,) = answer["keys"]
    wrong = base64.b64decode(entry["key"])
    assert entry["key_ID"] == "id"
    assert len(wrong) == len(key)
    assert all(a != b for a, b in zip(wrong, key, strict=True))
