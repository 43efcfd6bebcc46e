"""Numbered packets: what counts as lost, doubled and out of order."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import pytest

from netns_lab import traffic
from netns_lab.traffic import MARKER, End, Notes, compare, load, loss_bins


def end() -> End:
    return End(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), ("127.0.0.1", 9), 50.0)


def packet(number: int) -> bytes:
    return number.to_bytes(8, "big") + bytes(8) + MARKER


def test_every_packet_sent_and_not_received_is_lost_with_its_moment() -> None:
    sender = Notes(sent_at=[10.0, 10.02, 10.04, 10.06])
    receiver = Notes(received={0: 1, 2: 3})
    seen = compare(sender, receiver)
    assert (seen.sent, seen.received, seen.lost, seen.duplicate) == (4, 2, 2, 2)
    assert seen.lost_at == (10.02, 10.06)


def test_nothing_lost_is_seen_as_nothing_lost() -> None:
    seen = compare(Notes(sent_at=[1.0, 2.0]), Notes(received={0: 1, 1: 1}))
    assert (seen.lost, seen.duplicate, seen.lost_at) == (0, 0, ())


def test_losses_fall_into_bins_by_the_time_of_sending() -> None:
    seen = compare(Notes(sent_at=[0.01, 0.05, 0.25, 9.0]), Notes())
    assert loss_bins(seen, 0.0, 0.3) == [2, 0, 1]


def test_a_late_packet_is_reordered_and_a_repeated_one_is_not() -> None:
    receiving = end()
    for number in (0, 2, 1, 2, 0):
        receiving._take(packet(number))
    assert receiving.notes.reordered == 1
    assert receiving.notes.received == {0: 2, 1: 1, 2: 2}


def test_what_is_not_ours_is_not_counted() -> None:
    receiving = end()
    for junk in (b"", b"short", packet(0)[:-1], bytes(16) + b"another payload"):
        receiving._take(junk)
    assert receiving.notes.received == {}


def test_two_ends_on_loopback_agree_and_their_notes_survive_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traffic, "DRAIN_SECONDS", 0.2)
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    for sock in sockets:
        sock.bind(("127.0.0.1", 0))
    first = End(sockets[0], sockets[1].getsockname(), 200.0)
    second = End(sockets[1], sockets[0].getsockname(), 200.0)
    threads = [threading.Thread(target=each.run) for each in (first, second)]
    for thread in threads:
        thread.start()
    first.begin()
    second.begin()
    while len(first.notes.received) < 5:
        time.sleep(0.01)
    first.stop()
    second.stop()
    for thread in threads:
        thread.join()
    for sock in sockets:
        sock.close()
    for sender, receiver in ((first, second), (second, first)):
        seen = compare(sender.notes, receiver.notes)
        assert seen.sent == seen.received >= 5

    import json
    from dataclasses import asdict

    (tmp_path / "notes.json").write_text(json.dumps(asdict(first.notes)))
    assert load(tmp_path / "notes.json") == first.notes
