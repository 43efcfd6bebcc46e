"""How the lab's tests are chosen, shared out and summed up."""

from __future__ import annotations

from pathlib import Path

import pytest

from netns_lab import cli, tools
from netns_lab.errors import ToolMissingError
from netns_lab.testing import fetch_extras, select, summary

JUNIT = """\
<testsuites><testsuite name="pytest" tests="4" failures="1" errors="1" skipped="1">
<testcase name="good"/>
<testcase name="bad"><failure message="no"/></testcase>
<testcase name="broken"><error message="no"/></testcase>
<testcase name="absent"><skipped message="no"/></testcase>
</testsuite></testsuites>
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, size in (("test_short.py", 10), ("test_long.py", 100), ("helper.py", 1000)):
        (tmp_path / name).write_text("#" * size)
    return Path()


def test_all_test_files_the_longest_first(folder: Path) -> None:
    chosen = select(["-k", "leak", "-x"], folder)
    assert [file.name for file in chosen.files] == ["test_long.py", "test_short.py"]
    assert chosen.options == ("-k", "leak", "-x")


def test_named_files_only(folder: Path) -> None:
    chosen = select(["test_short.py", "-x"], folder)
    assert [str(file) for file in chosen.files] == ["test_short.py"]
    assert chosen.options == ("-x",)


def test_a_single_test_is_not_shared_out(folder: Path) -> None:
    chosen = select(["test_short.py::test_it[1]", "test_long.py"], folder)
    assert chosen.files == ()
    assert chosen.exact == ("test_short.py::test_it[1]", "test_long.py")


def test_summary_counts_and_names_what_did_not_pass(tmp_path: Path) -> None:
    (tmp_path / "test_a.xml").write_text(JUNIT)
    assert summary([tmp_path / "test_a.xml", tmp_path / "test_lost.xml"]) == (
        "1 passed, 1 failure, 1 error, 1 skipped",
        ["test_a::bad", "test_a::broken", "test_lost: did not come to its end"],
    )


def test_only_test_takes_arguments_it_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["status", "--durations=3"])
    assert "unrecognized arguments: --durations=3" in capsys.readouterr().err


def test_a_program_one_test_wants_is_fetched_for_that_test_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "test_wireshark.py").write_text("")
    fetched: list[tuple[str, ...]] = []
    monkeypatch.setattr(tools, "ensure", lambda programs, say: fetched.append(programs))
    fetch_extras(select(["test_short.py"], folder), print)
    assert fetched == []
    fetch_extras(select([], folder), print)
    fetch_extras(select(["test_wireshark.py::test_it"], folder), print)
    assert fetched == [("tshark",)] * 2


def test_one_that_cannot_be_had_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(programs: tuple[str, ...], say: object) -> None:
        raise ToolMissingError("no\nnetwork")

    (folder / "test_wireshark.py").write_text("")
    monkeypatch.setattr(tools, "ensure", refuse)
    said: list[str] = []
    fetch_extras(select(["test_wireshark.py"], folder), said.append)
    assert said == ["tshark cannot be had here: test_wireshark.py is skipped"]
