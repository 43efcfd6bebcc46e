"""Peers that can do less than we do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.ike.flows import sa_init
from gateway.ike.registry import NotifyType


@pytest.fixture
def rfc8784_only(monkeypatch):
    """The responder knows PPKs in IKE_AUTH only, as strongSwan does."""
    original = sa_init._peer_traits

    def traits(connection, received, mode=None):
        found = original(connection, received, mode)
        if mode is None:
            return found
        offered = received.has(NotifyType.USE_PPK) and mode != "off"
        return replace(found, ppk_intermediate=False, ppk_auth=offered)

    monkeypatch.setattr(sa_init, "_peer_traits", traits)


@pytest.fixture
def no_ppk_at_all(monkeypatch):
    """The responder has never heard of PPKs."""
    original = sa_init._peer_traits

    def traits(connection, received, mode=None):
        found = original(connection, received, mode)
        return found if mode is None else replace(found, ppk_intermediate=False, ppk_auth=False)

    monkeypatch.setattr(sa_init, "_peer_traits", traits)


@pytest.fixture
def foreign_peer(monkeypatch):
    """Each takes the other for another vendor's."""
    original = sa_init._peer_traits
    monkeypatch.setattr(sa_init, "_peer_traits", lambda *args: replace(original(*args), qsgw=False))
