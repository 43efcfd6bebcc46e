"""Log lines: the journal's native protocol, prefixed lines, plain lines."""

import io
import logging
import os
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.crypto.secret import Secret
from gateway.daemon import journal, logs


@pytest.fixture(autouse=True)
def _root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in logs.OWN_LOGGERS:
        logging.getLogger(name).setLevel(logging.NOTSET)


def _record(text: str, level: int = logging.INFO, **extra: object) -> logging.LogRecord:
    record = logging.LogRecord("qsgw.test", level, __file__, 1, text, (), None)
    record.__dict__.update(extra)
    return record


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "journal"))
        receiver.setblocking(False)
        yield receiver


def _handler(receiver: socket.socket) -> journal.JournalHandler:
    handler = journal.JournalHandler("qsgwd", Path(receiver.getsockname()))
    handler.setFormatter(logging.Formatter("%(message)s"))
    return handler


def test_entry_has_fields_an_operator_can_select_on(journald: socket.socket) -> None:
    handler = _handler(journald)
    handler.emit(_record("up", logging.WARNING, tunnel="sun", kme=None))
    handler.close()
    lines = journald.recv(65536).decode().splitlines()
    assert lines == [
        "MESSAGE=up",
        "PRIORITY=4",
        "SYSLOG_IDENTIFIER=qsgwd",
        "LOGGER=qsgw.test",
        "TUNNEL=sun",
    ]


def test_line_breaks_cannot_forge_a_field(journald: socket.socket) -> None:
    handler = _handler(journald)
    handler.emit(_record("x\nPRIORITY=0"))
    handler.close()
    text = b"x\nPRIORITY=0"
    assert journald.recv(65536).startswith(b"MESSAGE\n" + struct.pack("<Q", len(text)) + text)


def test_a_journal_that_does_not_read_loses_lines_and_says_so(journald: socket.socket) -> None:
    handler = _handler(journald)
    for _ in range(2000):
        handler.emit(_record("x"))
    while True:
        try:
            journald.recv(65536)
        except BlockingIOError:
            break
    handler.emit(_record("again"))
    handler.close()
    assert b"again (" in (entry := journald.recv(65536))
    assert b"earlier lines lost)" in entry


@pytest.mark.parametrize(
    ("level", "number"),
    [(logging.DEBUG, 7), (logging.INFO, 6), (logging.WARNING, 4), (logging.ERROR, 3)],
)
def test_priorities(level: int, number: int) -> None:
    assert journal.priority(level) == number


def test_stream_is_journal_compares_device_and_inode() -> None:
    with socket.socket() as other:
        status = os.fstat(other.fileno())
        name = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert journal.stream_is_journal(other.fileno(), name)
        assert not journal.stream_is_journal(other.fileno(), {"JOURNAL_STREAM": "1:1"})
        assert not journal.stream_is_journal(other.fileno(), {})


def _plain(monkeypatch: pytest.MonkeyPatch, *, on_journal: bool) -> io.StringIO:
    stream = io.StringIO()
    stream.fileno = lambda: 2  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(logs, "stream_is_journal", lambda _: on_journal)
    monkeypatch.setattr(logs, "JournalHandler", _no_journal)
    logs.configure_logging()
    return stream


def _no_journal(identifier: str) -> logging.Handler:
    raise FileNotFoundError(identifier)


def test_without_systemd_lines_have_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = _plain(monkeypatch, on_journal=False)
    logging.getLogger("qsgw.test").info("hello")
    line = stream.getvalue()
    assert line.endswith(" INFO hello\n")
    assert line[10] == "T"
    assert line.split()[0].endswith("Z")


def test_on_a_journal_stream_every_line_has_its_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = _plain(monkeypatch, on_journal=True)
    try:
        int("inner\nsecond")
    except ValueError:
        logging.getLogger("qsgw.test").exception("broken")
    lines = stream.getvalue().splitlines()
    assert lines[0] == "<3>broken"
    assert all(line.startswith("<3>") for line in lines)


def test_text_from_a_peer_cannot_forge_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = _plain(monkeypatch, on_journal=True)
    logging.getLogger("qsgw.test").warning("refused: %s", "x\n<0>panic \x1b[2J")
    assert stream.getvalue() == "<4>refused: x?<0>panic ?[2J\n"


def test_libraries_are_quiet_and_verbose_is_ours_only(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = _plain(monkeypatch, on_journal=True)
    logging.getLogger("aiohttp.access").info("no")
    logging.getLogger("qsgw.ike").debug("no")
    assert stream.getvalue() == ""
    logs.configure_logging(verbose=True)
    logging.getLogger("aiohttp.access").info("no")
    logging.getLogger("qsgw.ike").debug("yes")
    assert stream.getvalue() == "<7>yes\n"


def test_a_secret_has_no_text_form(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = _plain(monkeypatch, on_journal=True)
    logging.getLogger("qsgw.test").warning("%s %r", Secret(b"sesame"), Secret(b"sesame"))
    assert "sesame" not in stream.getvalue()
