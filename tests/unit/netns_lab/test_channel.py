"""Frames on the stream between terminals outside and the lab inside."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netns_lab.channel import Decoder, Frame, Kind, encode
from netns_lab.terminal import describe

FRAMES = st.builds(Frame, st.sampled_from(Kind), st.integers(0, 2**32 - 1), st.binary(max_size=300))


@given(st.lists(FRAMES, max_size=8), st.integers(1, 40))
def test_frames_survive_any_cutting_of_the_stream(frames: list[Frame], step: int) -> None:
    stream = b"".join(encode(frame) for frame in frames)
    decoder = Decoder()
    found = [
        frame
        for start in range(0, len(stream), step)
        for frame in decoder.feed(stream[start : start + step])
    ]
    assert found == frames


def test_a_long_payload_goes_in_several_frames() -> None:
    payload = bytes(range(256)) * 1000
    frames = Decoder().feed(encode(Frame(Kind.STDOUT, 3, payload)))
    assert len(frames) == 4
    assert b"".join(frame.payload for frame in frames) == payload


@pytest.mark.parametrize(
    "stream", [b"\0\0\0\1i\0\0\0\0", b"\xff\xff\xff\xffi\0\0\0\0", b"\0\0\0\5?\0\0\0\0"]
)
def test_what_is_no_frame_is_refused(stream: bytes) -> None:
    with pytest.raises(ValueError, match=r"frame of|is not a valid Kind"):
        Decoder().feed(stream)


def test_status_for_people() -> None:
    daemon = {"name": "qsgwd-moon", "host": "moon", "pid": 17, "alive": True, "status": "1 HYBRID"}
    status = {
        "kernel": "uml",
        "release": "6.1",
        "hosts": [{"name": "moon", "addresses": ["10.1.0.1/24", "fd01::1/64"]}],
        "daemons": [daemon, {**daemon, "name": "link", "alive": False}],
    }
    assert describe(status).splitlines() == [
        "up in user-mode Linux (Linux 6.1)",
        "",
        "moon      10.1.0.1/24  fd01::1/64",
        "",
        "daemon      host  pid  state",
        "qsgwd-moon  moon  17   1 HYBRID",
        "link        moon  17   ended",
    ]
    assert "daemon" not in describe({**status, "daemons": []})
