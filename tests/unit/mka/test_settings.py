"""Settings that cannot go together are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.mka.registry import Capability, CipherSuite, Confidentiality
from tests.support.mka_lan import settings_of


@pytest.mark.parametrize(
    "change",
    [
        {"priority": 256},
        {"priority": -1},
        {"confidentiality": Confidentiality.OFFSET_30},  # with the capability for offset 0 only
        {"capability": Capability.INTEGRITY},
        {"suite": CipherSuite.GCM_AES_128},  # distributed, and not accepted
        {"sak_lifetime": 5.0},
        {
            "suite": CipherSuite.GCM_AES_XPN_256,
            "accepted_suites": frozenset({CipherSuite.GCM_AES_XPN_256}),
            "confidentiality": Confidentiality.OFFSET_50,
            "capability": Capability.CONFIDENTIALITY_OFFSETS,
        },
    ],
)
def test_what_cannot_be(change):
    with pytest.raises(ValueError):
        replace(settings_of(0), **change)


def test_hello_time_is_bounded_with_delay_protection():
    assert settings_of(0).hello_time == 2.0
    assert replace(settings_of(0), delay_protect=True).hello_time == 0.5
