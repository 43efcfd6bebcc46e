"""Cookies prove an address and a nonce, for a minute or two; rates are limited."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from gateway.ike.cookies import CookieJar, RateLimit
from gateway.ike.limits import COOKIE_SIZE_MAX
from tests.support.ike_pair import SeededRng

NONCE, SPI = b"n" * 32, b"s" * 8
HOME = ip_address("192.0.2.1")


@pytest.fixture
def jar() -> CookieJar:
    return CookieJar(SeededRng("cookies"))


def test_own_cookie_is_good(jar):
    cookie = jar.make(NONCE, HOME, SPI, 0.0)
    assert 1 <= len(cookie) <= COOKIE_SIZE_MAX
    assert jar.check(cookie, NONCE, HOME, SPI, 1.0)


def test_cookie_is_bound_to_nonce_address_and_spi(jar):
    cookie = jar.make(NONCE, HOME, SPI, 0.0)
    assert not jar.check(cookie, b"m" * 32, HOME, SPI, 0.0)
    assert not jar.check(cookie, NONCE, ip_address("192.0.2.2"), SPI, 0.0)
    assert not jar.check(cookie, NONCE, HOME, b"t" * 8, 0.0)
    assert not jar.check(cookie[:-1], NONCE, HOME, SPI, 0.0)
    assert not jar.check(b"", NONCE, HOME, SPI, 0.0)


def test_cookie_outlives_one_change_of_the_secret_and_not_two(jar):
    cookie = jar.make(NONCE, HOME, SPI, 0.0)
    assert jar.check(cookie, NONCE, HOME, SPI, 61.0)
    assert not jar.check(cookie, NONCE, HOME, SPI, 122.0)


def test_cookie_of_a_quiet_gateway_expires_too(jar):
    cookie = jar.make(NONCE, HOME, SPI, 0.0)
    assert not jar.check(cookie, NONCE, HOME, SPI, 1000.0)


def test_version_says_which_secret(jar):
    first = jar.make(NONCE, HOME, SPI, 0.0)
    second = jar.make(NONCE, HOME, SPI, 61.0)
    assert first[0] != second[0]
    assert first[1:] != second[1:]


def test_rate_limit():
    limit = RateLimit(rate=2.0, burst=3.0)
    assert [limit.allow(100.0) for _ in range(5)] == [True, True, True, False, False]
    assert limit.allow(100.5)
    assert not limit.allow(100.5)
    assert [limit.allow(200.0) for _ in range(4)] == [True, True, True, False]
