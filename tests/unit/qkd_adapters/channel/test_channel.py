"""Blocks in order, attacks from the next block on, scripts by the light's own clock."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qkd_adapters.address import UnixAddress
from qkd_adapters.channel.config import ChannelSettings, load_channel
from qkd_adapters.channel.player import Player
from qkd_adapters.channel.script import Timeline, parse_script
from qkd_adapters.channel.service import Channel
from qkd_adapters.control import request
from qkd_adapters.errors import ControlRequestError, KmeConfigError, KmeStartupError
from qkd_adapters.records import Record, Role

CONFIG = """
[channel]
name = "moon-sun"
preset = "metro-10us"
block = "100ms"
control_socket = "channel.ctl"

[device.alice]
listen = "unix:/run/alice.optics"

[device.bob]
listen = "tcp:127.0.0.1:7000"
"""


def settings(directory: Path, **changes: object) -> ChannelSettings:
    values: dict[str, object] = {
        "name": "moon-sun",
        "preset": "metro-10us",
        "control_socket": directory / "channel.ctl",
        "loss_db": None,
        "block": 0.5,
        "interval": 0.01,
        "drift": "stationary",
        "seed": 1,
        "feeds": tuple(
            (role, UnixAddress(path=str(directory / f"{role}.optics"))) for role in Role
        ),
    }
    return ChannelSettings(**{**values, **changes})  # type: ignore[arg-type]


def error_rate(alice: Record, bob: Record) -> float:
    same = alice.columns["basis"] == bob.columns["basis"]
    return float((alice.columns["bit"][same] != bob.columns["bit"][same]).mean())


def test_a_configuration(tmp_path: Path) -> None:
    path = tmp_path / "channel.toml"
    path.write_text(CONFIG)
    loaded = load_channel(path)
    assert loaded.block == loaded.interval == 0.1
    assert [role for role, _ in loaded.feeds] == [Role.ALICE, Role.BOB]


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('"100ms"', '"0.1ms"', r"\[channel\] block"),
        ("[device.bob]", "[device.eve]", r"\[device.alice\] and \[device.bob\]"),
        ('preset = "metro-10us"', "", r"\[channel\] preset: missing"),
        ("[channel]", "[channel]\nloss_db = -1.0", "loss_db"),
    ],
)
def test_a_configuration_that_is_wrong(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    path = tmp_path / "channel.toml"
    path.write_text(CONFIG.replace(old, new))
    with pytest.raises(KmeConfigError, match=complaint):
        load_channel(path)


def test_blocks_come_in_order_and_no_two_runs_alike(tmp_path: Path) -> None:
    player = Player(settings(tmp_path))
    moments = []
    for number in range(3):
        alice, bob = player.next()
        assert alice.block == bob.block == number
        assert alice.start == bob.start
        assert np.array_equal(alice.columns["index"], bob.columns["index"])
        moments.append((alice.block, alice.start))
    other, _ = Player(settings(tmp_path)).next()
    assert (other.block, other.start) != moments[0]
    assert moments[1][1] - moments[0][1] == pytest.approx(0.5)


def test_an_attack_changes_what_is_detected_until_it_stops(tmp_path: Path) -> None:
    player = Player(settings(tmp_path))
    assert error_rate(*player.next()) < 0.03
    player.attack("intercept-resend", ["fraction=0.4"])
    assert error_rate(*player.next()) > 0.08
    player.stop("intercept-resend")
    assert error_rate(*player.next()) < 0.03


def test_what_cannot_be_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    player = Player(settings(tmp_path))
    for action in (
        lambda: player.attack("sorcery", []),
        lambda: player.attack("intercept-resend", ["fraction=2"]),
        lambda: player.attack("local-oscillator", []),
        lambda: player.stop("tap"),
        lambda: player.set_drift("earthquake"),
        lambda: player.set_loss(-1.0),
    ):
        with pytest.raises(ValueError, match=r"."):
            action()
    assert player.status()["attacks"] == []
    with pytest.raises(KmeStartupError, match="no preset"):
        Player(settings(tmp_path, preset="nothing"))


def test_a_script_follows_the_clock_of_the_light() -> None:
    steps = parse_script(
        """
        [[step]]
        at = "20s"
        do = "stop tap"
        [[step]]
        at = "10s"
        do = "attack tap db=1"
        """
    )
    timeline = Timeline(steps, start=100.0)
    assert timeline.due(109.9) == []
    assert timeline.due(110.0) == [("attack", "tap", "db=1")]
    assert timeline.due(115.0) == []
    assert timeline.left == 1
    assert timeline.due(200.0) == [("stop", "tap")]
    assert timeline.left == 0


@pytest.mark.parametrize(
    "text",
    [
        "at = 1",
        "[[step]]\nat = 'soon'\ndo = 'cut'",
        "[[step]]\nat = '1s'\ndo = ''",
        "[[step]]\nat = '1s'\ndo = 'script x'",
        "[[step]]\nat = '1s'\ndo = \"attack 'tap\"",
    ],
)
def test_a_script_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ControlRequestError):
        parse_script(text)


async def test_a_channel_obeys_its_control_socket(short_dir: Path) -> None:
    import asyncio

    channel = Channel(settings(short_dir))
    await channel.start()
    socket = str(short_dir / "channel.ctl")

    async def ask(*words: str) -> dict[str, object]:
        return await asyncio.to_thread(request, socket, words)

    try:
        assert (await ask("cut"))["attacks"][0]["name"] == "cut"  # type: ignore[index]
        assert (await ask("heal"))["attacks"] == []
        assert (await ask("loss", "7"))["loss_db"] == 7.0
        script = "[[step]]\nat = '0s'\ndo = 'attack tap db=2'"
        await ask("script", script)
        async with asyncio.timeout(5):
            while not (await ask("status"))["attacks"]:
                await asyncio.sleep(0.005)
        assert (await ask("stop"))["attacks"] == []
        for words in (["attack"], ["attack", "sorcery"], ["loss", "deep"], ["heal"], ["explode"]):
            with pytest.raises(ControlRequestError):
                await ask(*words)
        with pytest.raises(ControlRequestError, match="step 1"):
            await ask("script", "[[step]]\nat = '1s'\ndo = 'explode'")
    finally:
        await channel.stop()
