"""Small pure parts of the lab: package plans, links, keys in dumps, the kernel's words, jobs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from netns_lab import doctor, tools
from netns_lab.artifacts import without_keys
from netns_lab.doctor import Diagnosis, Feature
from netns_lab.errors import ToolMissingError
from netns_lab.job import Job, command_script, environment_script, variables
from netns_lab.uml.launcher import idle_ticks, idlest

PLAN = """\
NOTE: This is only a simulation!
Inst libmosquitto1 (2.0.11-1.2+deb12u2 Debian:12.15/oldstable [amd64])
Inst libc6 [2.36-9+deb12u10] (2.36-9+deb12u13 Debian:12.15/oldstable [amd64])
Inst mosquitto (2.0.11-1.2+deb12u2 Debian:12.15/oldstable [amd64])
Conf mosquitto (2.0.11-1.2+deb12u2 Debian:12.15/oldstable [amd64])
"""


def test_only_what_the_host_lacks_is_downloaded() -> None:
    assert tools.missing_in_plan(PLAN) == ["libmosquitto1", "mosquitto"]
    assert tools.missing_in_plan("mosquitto is already the newest version.\n") == []


def test_links_that_lead_out_of_the_unpacked_tree_lead_into_it(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "sbin").mkdir()
    (tmp_path / "bin/kmod").write_text("program")
    (tmp_path / "sbin/modprobe").symlink_to("/bin/kmod")
    (tmp_path / "sbin/outside").symlink_to("/no/such/file")
    tools.relink(tmp_path)
    assert (tmp_path / "sbin/modprobe").read_text() == "program"
    assert (tmp_path / "sbin/outside").readlink() == Path("/no/such/file")


def test_a_tool_that_cannot_be_had_names_the_command_for_root(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("QSGW_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(tools, "SYSTEM_PATH", "")
    with pytest.raises(ToolMissingError, match="run as root: apt-get install iproute2 mosquitto"):
        tools.ensure(("tc", "mosquitto", "ip"), lambda _: None)


@pytest.mark.parametrize(
    "line",
    [
        "\taead rfc4106(gcm(aes)) 0x00aaBB 128",
        "\tauth-trunc hmac(sha256) 0x00aaBB 128",
        "\tenc cbc(aes) 0x00aaBB",
    ],
)
def test_keys_are_blotted_out_of_dumps(line: str) -> None:
    text = f"src 10.0.0.1 dst 10.0.0.2\n\tproto esp spi 0x00000100 reqid 1\n{line}\n"
    clean = without_keys(text)
    assert "00aaBB" not in clean
    assert "spi 0x00000100" in clean
    assert "<key>" in clean


@pytest.mark.parametrize(
    ("stderr", "words"),
    [
        ("Error: Unknown device type.\n", "Unknown device type"),
        ("RTNETLINK answers: Operation not permitted\n", "Operation not permitted"),
        (
            "Error: Specified qdisc kind is unknown.\nWe have an error\n",
            "Specified qdisc kind is unknown",
        ),
        ("unshare: unshare failed: Operation not permitted\n", "unshare: unshare failed: "),
        ("", "no answer"),
    ],
)
def test_the_kernels_own_words(stderr: str, words: str) -> None:
    assert doctor.kernel_words(stderr).startswith(words)


def features(**works: bool) -> tuple[Feature, ...]:
    return tuple(
        Feature(name=name, works=good, answer="ok" if good else "Unknown device type")
        for name, good in works.items()
    )


def test_the_host_serves_only_if_it_lacks_nothing() -> None:
    assert doctor.choose(features(veth=True, macsec=True))[0] == "host"
    assert doctor.choose(features(veth=True, macsec=False)) == (
        "uml",
        "the host's kernel lacks macsec",
    )


def test_the_diagnosis_for_people_and_for_programs() -> None:
    diagnosis = Diagnosis(
        runs_on="uml",
        reason="the host's kernel lacks macsec",
        host=features(veth=True, macsec=False),
        uml=features(veth=True, macsec=True),
    )
    assert doctor.report(diagnosis).splitlines() == [
        "feature  host                 uml",
        "veth     ok                   ok",
        "macsec   Unknown device type  ok",
        "",
        "The lab will run in user-mode Linux, rootless: the host's kernel lacks macsec.",
    ]
    assert json.loads(doctor.as_json(diagnosis))["schema"] == 1
    assert doctor.healthy(diagnosis)


def test_a_job_reaches_the_shell_word_for_word(tmp_path: Path) -> None:
    words = ("printf", "%s\\n", "two words", "$HOME", "it's", "")
    job = Job(command=words, directory=tmp_path, writable=())
    script = environment_script({"ODD": "a 'b' $c"}) + command_script(job)
    done = subprocess.run(["sh", "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["two words", "$HOME", "it's", ""]


def test_a_job_knows_where_it_is_and_whose_code_it_runs() -> None:
    values = variables("uml")
    assert values["QSGW_LAB_INSIDE"] == "1"
    assert values["QSGW_LAB_KERNEL"] == "uml"
    assert Path(values["PYTHONPATH"], "netns_lab", "job.py").is_file()


STAT = """\
cpu  30 0 30 700 0 0 0 0 0 0
cpu0 10 0 10 100 0 0 0 0 0 0
cpu1 10 0 10 200 0 0 0 0 0 0
cpu2 10 0 10 400 0 0 0 0 0 0
intr 1 2 3
"""


def test_the_lab_kernel_goes_where_there_is_most_room() -> None:
    before = idle_ticks(STAT, {0, 1})
    assert before == {0: 100, 1: 200}  # not the sum, and not a CPU we may not use
    assert idlest(before, {0: 120, 1: 201}) == 0
    assert idlest(before, {0: 100, 1: 201}) == 1
    assert idlest(before, before) in {0, 1}
