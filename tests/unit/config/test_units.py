"""Single values of the configuration file."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import units


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("250ms", 0.25),
        ("3s", 3),
        ("1.5s", 1.5),
        ("5m", 300),
        ("1h30m", 5400),
        ("1d", 86400),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert units.parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "3", "s", "-3s", "3 s", "3s ", "3x", "s3", "1h30", "٣s"])
def test_not_durations(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        units.parse_duration(text)


@pytest.mark.parametrize(
    ("text", "octets"),
    [("0", 0), ("64 GiB", 64 << 30), ("1.5KiB", 1536), ("500 MB", 500_000_000), ("7B", 7)],
)
def test_sizes(text: str, octets: int) -> None:
    assert units.parse_size(text) == octets


@pytest.mark.parametrize("text", ["", "64", "GiB", "-1 GiB", "64  GiB", "64 gib", "1e3 B", "٣ B"])
def test_not_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="is not an amount of data"):
        units.parse_size(text)


@pytest.mark.parametrize(
    ("text", "packets"),
    [("0", 0), ("1000M", 10**9), ("1000M packets", 10**9), ("2.5k", 2500), ("4G", 4 * 10**9)],
)
def test_numbers_of_packets(text: str, packets: int) -> None:
    assert units.parse_packets(text) == packets


@pytest.mark.parametrize("text", ["", "M", "-1", "1 M", "1m", "1000 pkts", "1Mpackets", "٣"])
def test_not_numbers_of_packets(text: str) -> None:
    with pytest.raises(ValueError, match="is not a number of packets"):
        units.parse_packets(text)


@pytest.mark.parametrize("text", ["127.0.0.1:9464", "[::1]:9464"])
def test_listen(text: str) -> None:
    assert units.parse_listen(text)[1] == 9464


@pytest.mark.parametrize("text", ["", ":1", "9464", "::1:9464", "127.0.0.1:0", "127.0.0.1:65536"])
def test_not_listen(text: str) -> None:
    with pytest.raises(ValueError):
        units.parse_listen(text)


def test_kme_url_loses_its_last_slash() -> None:
    assert units.parse_kme_url("https://kme.example:8443/") == "https://kme.example:8443"


@pytest.mark.parametrize(
    "text", ["https://u:p@kme", "https://kme:x", "https://kme?x", "ftp://kme", "kme:8443"]
)
def test_not_kme_urls(text: str) -> None:
    with pytest.raises(ValueError):
        units.parse_kme_url(text)


@given(text=st.text(max_size=80))
@pytest.mark.parametrize(
    "parse",
    [
        units.parse_duration,
        units.parse_size,
        units.parse_packets,
        units.parse_address,
        units.parse_network,
        units.parse_name,
        units.parse_sae_id,
        units.parse_kme_url,
        units.parse_listen,
        units.parse_topic_prefix,
    ],
)
def test_nonsense_is_a_value_error_and_nothing_else(parse: object, text: str) -> None:
    with contextlib.suppress(ValueError):
        parse(text)  # type: ignore[operator]
