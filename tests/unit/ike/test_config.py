"""Defaults of the IKE core's configuration make sense together."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest

from gateway.crypto.secret import Secret
from gateway.ike import limits
from gateway.ike.config import PpkMode, Timing
from gateway.ike.credentials import SharedKey
from tests.support.ike_pair import connection


def test_modes_are_the_words_of_the_configuration():
    assert [mode.value for mode in PpkMode] == ["require", "prefer", "off"]


def test_a_slow_key_fits_into_the_peers_patience():
    timing = Timing()
    waits = [
        timing.retransmit_base * timing.retransmit_factor**number
        for number in range(timing.retransmit_tries + 1)
    ]
    assert timing.ppk_timeout * limits.PPK_FETCHES_PER_EXCHANGE < sum(waits)
    assert timing.ppk_timeout * limits.PPK_FETCHES_PER_EXCHANGE < timing.half_open_timeout


def test_connections_compare_by_content():
    assert connection("moon") == connection("moon")
    assert connection("moon") != connection("sun")
    other = SharedKey(key=Secret(b"another"))
    assert connection("moon") != replace(connection("moon"), local_auth=other)


def test_connection_is_frozen_and_keeps_its_secret():
    one = connection("moon", psk=b"very secret")
    with pytest.raises(FrozenInstanceError):
        one.name = "other"
    assert "very secret" not in repr(one)
