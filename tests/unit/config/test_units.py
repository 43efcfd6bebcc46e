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
