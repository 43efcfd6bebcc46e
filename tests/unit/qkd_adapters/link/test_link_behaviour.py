"""The link between two running KMEs: cut, slowed, suspect, restarted; what the KMEs then say."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from qkd_adapters.address import TcpAddress, connect, parse_address
from qkd_adapters.control import ControlServer, request
from qkd_adapters.errors import ControlRequestError, KmeStartupError
from qkd_adapters.link.messages import (
    Direction,
    Hello,
    LinkState,
    Rejected,
    Room,
    Survey,
    decode_from_link,
    frame,
    read_frame,
)
from qkd_adapters.link.recorder import KeyRecorder
from qkd_adapters.link.server import LinkServer
from qkd_adapters.link.service import link_commands
from qkd_adapters.link.source import EmulatedSource
from tests.support.kme_lab import KmeLab, eventually


async def link_report(lab: KmeLab, sae: str, peer: str) -> Any:
    return (await lab.get(sae, f"{peer}/status")).json["status_extension"]["qsgw_link"]


async def test_cut_stops_new_keys_and_both_kmes_say_so(lab: KmeLab) -> None:
    for sae, peer in (("moon", "sun"), ("sun", "moon")):
        await eventually(lambda: lab.kmes["kme-moon"].agent.state.state == "down")
        await eventually(lambda: lab.kmes["kme-sun"].agent.state.state == "down")
        report = await link_report(lab, sae, peer)
        assert report["state"] == "down"
        assert report["key_rate"] == 0
        await lab.post(sae, f"{peer}/enc_keys", {"number": 8})
    await eventually(lab.same_stores)
    assert not lab.ids("kme-moon")
    assert not lab.ids("kme-moon", "sun", "moon")
    lab.source.heal()
    await lab.filled()
    report = await link_report(lab, "moon", "sun")
    assert (report["state"], report["alarms"]) == ("up", [])
    assert report["key_rate"] == lab.rate


async def test_notices_pass_while_the_quantum_channel_is_cut(lab: KmeLab) -> None:
    sent = await lab.post("moon", "sun/enc_keys", {"additional_slave_SAE_IDs": ["mars"]})
    received = await lab.fetch("mars", "moon", [sent.json["keys"][0]["key_ID"]])
    assert received.json == sent.json


async def test_suspicion_is_reported_with_its_text_until_cleared(lab: KmeLab) -> None:
    lab.source.heal()
    lab.source.suspect("error rate 8.1 %")
    for name, sae, peer in (("kme-moon", "moon", "sun"), ("kme-sun", "sun", "moon")):
        await eventually(lambda n=name: lab.kmes[n].agent.state.state == "suspect")
        assert (await link_report(lab, sae, peer))["alarms"] == ["error rate 8.1 %"]
    lab.source.clear()
    await eventually(lambda: lab.kmes["kme-sun"].agent.state.state == "up")
    assert (await link_report(lab, "sun", "moon"))["alarms"] == []


async def command(lab: KmeLab, *words: str) -> Any:
    assert lab.link is not None
    name, *rest = words
    return link_commands(lab.source, lab.link)[name](rest)


async def test_suspect_since_takes_the_keys_of_that_time_from_both_kmes(short_dir: Path) -> None:
    leapt = 0.0
    async with KmeLab(short_dir, link_clock=lambda: time.monotonic() + leapt) as lab:
        await lab.filled()
        lab.source.cut()  # nothing moves by itself
        old = lab.ids("kme-moon")
        leapt += 100.0
        sent = await lab.post("moon", "sun/enc_keys", {"number": 2})
        lab.source.heal()
        await lab.filled()
        young = lab.ids("kme-moon") - old
        assert len(young) == 2
        leapt += 10.0
        status = await command(lab, "suspect", "--since", "60", "QBER", "7.9", "%")
        assert 60.0 <= status["suspect_age"] < 70.0
        await eventually(lambda: not young & (lab.ids("kme-moon") | lab.ids("kme-sun")))
        await eventually(lab.same_stores)
        assert lab.ids("kme-moon") == old - {entry["key_ID"] for entry in sent.json["keys"]}
        for sae, peer in (("moon", "sun"), ("sun", "moon")):
            await eventually(lambda s=sae: lab.kmes[f"kme-{s}"].agent.state.state == "suspect")
            report = await link_report(lab, sae, peer)
            assert 60.0 <= report["suspect_age"] < 70.0
            assert report["quarantined"] == len(young)
            assert report["alarms"] == ["QBER 7.9 %"]
        # A key older than the suspicion is as good as ever.
        received = await lab.fetch("sun", "moon", [sent.json["keys"][0]["key_ID"]])
        assert received.status == 200
        assert (await command(lab, "clear"))["suspect_age"] is None
        await lab.filled()


async def test_the_slave_of_a_key_quarantined_after_delivery_is_refused_and_told_why(
    lab: KmeLab,
) -> None:
    sent = await lab.post("moon", "sun/enc_keys", {"number": 2})
    first, second = (entry["key_ID"] for entry in sent.json["keys"])
    assert (await lab.fetch("sun", "moon", [first])).status == 200
    await command(lab, "suspect", "--since", "3600")
    await eventually(lambda: lab.kmes["kme-sun"].agent.state.state == "down")  # cut as well
    await eventually(lambda: not lab.ids("kme-sun"))
    refused = await lab.fetch("sun", "moon", [second])
    assert refused.status == 400
    assert "quarantined" in refused.json["message"]
    assert refused.json["details"] == [{"key_ID": second}]
    direction = Direction("moon", "sun")
    accounts = {name: kme.store.account(direction) for name, kme in lab.kmes.items()}
    assert accounts["kme-moon"].delivered_suspect == 2
    assert accounts["kme-sun"].delivered_suspect == 1
    assert accounts["kme-sun"].quarantined == 1 + 6


@pytest.mark.parametrize(
    "words", [["--since"], ["--since", "x"], ["--since", "-1"], ["--since", "nan"]]
)
async def test_suspect_since_nonsense_is_refused(lab: KmeLab, words: list[str]) -> None:
    with pytest.raises(ControlRequestError, match="since"):
        await command(lab, "suspect", *words)
    assert lab.source.state.suspect_age is None


async def test_rate_changes_what_is_reported(lab: KmeLab) -> None:
    lab.source.heal()
    lab.source.set_rate(0.5)
    await eventually(lambda: lab.kmes["kme-moon"].agent.state.key_rate == 0.5)
    assert (await link_report(lab, "moon", "sun"))["key_rate"] == 0.5


async def test_stores_are_bounded_and_equal(lab: KmeLab) -> None:
    lab.source.heal()
    await eventually(lambda: lab.link is not None and lab.link.status()["overflow"] > 20)
    for kme in lab.kmes.values():
        for direction in kme.store.directions:
            assert kme.store.stored(direction) == lab.keys.max_count
    assert lab.same_stores()


@pytest.mark.parametrize("name", ["kme-moon", "kme-sun"])
async def test_restart_of_a_kme_leaves_no_key_on_one_side_only(lab: KmeLab, name: str) -> None:
    before = lab.ids("kme-moon")
    await lab.restart_kme(name)
    await lab.connected()
    await eventually(lab.same_stores)
    assert not lab.ids("kme-moon")
    lab.source.heal()
    await lab.filled()
    assert not lab.ids("kme-moon") & before
    sent = await lab.post("moon", "sun/enc_keys", {"number": 8})
    received = await lab.fetch("sun", "moon", [entry["key_ID"] for entry in sent.json["keys"]])
    assert received.json == sent.json


async def test_key_delivered_before_the_masters_kme_restarts_can_still_be_fetched(
    lab: KmeLab,
) -> None:
    sent = await lab.post("moon", "sun/enc_keys")
    await eventually(lambda: len(lab.ids("kme-sun")) == 7)
    await lab.restart_kme("kme-moon")
    await lab.connected()
    await eventually(lab.same_stores)
    received = await lab.fetch("sun", "moon", [sent.json["keys"][0]["key_ID"]])
    assert received.json == sent.json


async def test_restart_of_the_link_keeps_the_stock(lab: KmeLab) -> None:
    before = lab.ids("kme-moon")
    await lab.stop_link()
    await eventually(lambda: not any(kme.agent.connected for kme in lab.kmes.values()))
    report = await link_report(lab, "moon", "sun")
    assert report["state"] == "down"
    assert "no connection to the link" in report["alarms"][0]
    sent = await lab.post("moon", "sun/enc_keys", {"number": 2, "size": 512})
    assert sent.status == 200
    await lab.start_link()
    lab.source.cut()
    await lab.connected()
    await eventually(lab.same_stores)
    # The notice of the delivery was made good: sun has the two double keys for its SAE.
    received = await lab.fetch("sun", "moon", [entry["key_ID"] for entry in sent.json["keys"]])
    assert received.json == sent.json
    assert lab.ids("kme-moon") <= before
    lab.source.heal()
    await lab.filled()


async def test_kmes_started_before_the_link_connect_by_themselves(short_dir: Path) -> None:
    lab = KmeLab(short_dir)
    async with lab:
        await lab.stop_link()
        await lab.restart_kme("kme-moon")
        assert (await lab.get("moon", "sun/status")).json["stored_key_count"] == 0
        await lab.start_link()
        await lab.filled()


async def test_link_without_the_peer_kme_is_reported_down(lab: KmeLab) -> None:
    lab.source.heal()
    await eventually(lambda: lab.kmes["kme-moon"].agent.state.state == "up")
    await lab.stop_kme("kme-sun")
    await eventually(lambda: lab.kmes["kme-moon"].agent.state.state == "down")
    report = await link_report(lab, "moon", "sun")
    assert report["alarms"] == ["KME kme-sun is not connected to the link"]
    assert report["key_rate"] == 0
    lab.source.suspect("error rate")
    await eventually(lambda: lab.kmes["kme-moon"].agent.state.state == "suspect")
    lab.source.clear()
    await lab.start_kme("kme-sun")
    await eventually(lambda: lab.kmes["kme-moon"].agent.state.state == "up")
    assert (await link_report(lab, "moon", "sun"))["alarms"] == []


# --- the link alone, over TCP, with a hand-made KME -----------------------------------------


@pytest.fixture
async def tcp_link() -> Any:
    server = LinkServer(
        name="moon-sun",
        sides=(("kme-moon", _loopback()), ("kme-sun", _loopback())),
        source=EmulatedSource(rate=1.0),
    )
    await server.start()
    yield server
    await server.stop()


def _loopback() -> TcpAddress:
    return TcpAddress(host="127.0.0.1", port=0)


async def _greet(server: LinkServer, hello: Hello) -> Any:
    port = server.ports()["kme-moon"]
    reader, writer = await connect(TcpAddress(host="127.0.0.1", port=port))
    writer.write(frame(hello))
    return reader, writer


async def test_link_over_tcp_welcomes_its_kmes(tcp_link: LinkServer) -> None:
    hello = Hello(kme="kme-moon", peer="kme-sun", pairs=(("moon", "sun"),))
    reader, writer = await _greet(tcp_link, hello)
    state = decode_from_link(await read_frame(reader))
    assert isinstance(state, LinkState)
    assert (state.state, state.peer_connected) == ("up", False)
    writer.close()


@pytest.mark.parametrize(("kme", "peer"), [("kme-sun", "kme-moon"), ("kme-moon", "kme-mars")])
async def test_link_refuses_a_kme_of_another_link(
    tcp_link: LinkServer, kme: str, peer: str
) -> None:
    reader, writer = await _greet(tcp_link, Hello(kme=kme, peer=peer, pairs=()))
    assert isinstance(decode_from_link(await read_frame(reader)), Rejected)
    with pytest.raises(EOFError):
        await read_frame(reader)
    writer.close()


@pytest.mark.parametrize(
    "octets",
    [frame(Room(master="a", slave="b", more=1)), frame(Survey()), b"\xff" * 8, b"\0\0\0\1\xc1"],
    ids=["before-hello", "wrong-way", "too-long", "not-msgpack"],
)
async def test_link_drops_whoever_breaks_the_protocol(tcp_link: LinkServer, octets: bytes) -> None:
    port = tcp_link.ports()["kme-moon"]
    reader, writer = await connect(TcpAddress(host="127.0.0.1", port=port))
    writer.write(octets)
    assert isinstance(decode_from_link(await read_frame(reader)), Rejected)
    with pytest.raises(EOFError):
        await read_frame(reader)
    writer.close()


async def test_a_second_connection_of_a_side_replaces_the_first(tcp_link: LinkServer) -> None:
    hello = Hello(kme="kme-moon", peer="kme-sun", pairs=(("moon", "sun"),))
    first, first_writer = await _greet(tcp_link, hello)
    await read_frame(first)
    second, second_writer = await _greet(tcp_link, hello)
    assert isinstance(decode_from_link(await read_frame(second)), LinkState)
    with pytest.raises(EOFError):
        await read_frame(first)
    first_writer.close()
    second_writer.close()


# --- control socket, recording --------------------------------------------------------------


async def test_linkctl_commands(tcp_link: LinkServer, short_dir: Path) -> None:
    source = EmulatedSource(rate=5.0)
    control = ControlServer(short_dir / "ctl", link_commands(source, tcp_link))
    await control.start()
    assert (short_dir / "ctl").stat().st_mode & 0o777 == 0o600

    async def ask(*words: str) -> Any:
        return await asyncio.to_thread(request, str(short_dir / "ctl"), words)

    try:
        await ask("cut")
        await ask("suspect", "QBER", "8 %")
        assert source.state.alarms == ("quantum channel cut", "QBER 8 %")
        await ask("heal")
        assert source.state.state == "suspect"
        await ask("clear")
        assert source.state.state == "up"
        await ask("rate", "2.5")
        assert source.rate == 2.5
        assert (await ask("status"))["name"] == "moon-sun"
        for words in (["rate", "0"], ["rate", "fast"], ["rate", "nan"], ["rate"], ["explode"], []):
            with pytest.raises(ControlRequestError):
                await ask(*words)
        assert source.rate == 2.5
    finally:
        await control.stop()
    assert not (short_dir / "ctl").exists()
    with pytest.raises(ControlRequestError, match="no answer"):
        await ask("status")


async def test_socket_in_use_is_not_taken_over_but_a_stale_one_is(short_dir: Path) -> None:
    path = short_dir / "ctl"
    first = ControlServer(path, {})
    await first.start()
    with pytest.raises(KmeStartupError, match="another process"):
        await ControlServer(path, {}).start()
    assert path.exists()
    assert first._server is not None
    first._server.close()  # as a killed process leaves it: the file stays
    assert path.exists()
    second = ControlServer(path, {})
    await second.start()
    await second.stop()
    path.write_text("precious")
    with pytest.raises(KmeStartupError, match="not a socket"):
        await ControlServer(path, {}).start()
    assert path.read_text() == "precious"


def test_recording_keys_needs_the_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QSGW_LAB", raising=False)
    with pytest.raises(KmeStartupError, match="QSGW_LAB"):
        KeyRecorder(tmp_path / "keys")
    assert not (tmp_path / "keys").exists()
    monkeypatch.setenv("QSGW_LAB", "1")
    KeyRecorder(tmp_path / "keys").close()
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "text", ["unix:relative", "tcp:host", "tcp:host:99999", "udp:host:1", "unix:/" + "x" * 108, ""]
)
def test_bad_addresses(text: str) -> None:
    with pytest.raises(ValueError):
        parse_address(text)


@pytest.mark.parametrize("text", ["unix:/run/x.sock", "tcp:10.9.0.3:7000", "tcp:[::1]:7000"])
def test_good_addresses(text: str) -> None:
    assert str(parse_address(text)) == text
