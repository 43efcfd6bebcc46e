"""Foreign peers: where they are fetched from, and which version they are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from netns_lab import debian
from netns_lab.peers import fetch


def test_mirror_is_the_archive_and_not_its_updates() -> None:
    targets = """\
http://a.example/debian-security/ bookworm-security main
http://a.example/debian/ bookworm-updates main
http://b.example/debian/ bookworm contrib
http://b.example/debian/ bookworm main
"""
    assert fetch.mirror(targets) == "http://b.example/debian/"
    assert fetch.mirror("http://a.example/debian-security/ stable/updates main\n") is None
    assert fetch.mirror("") is None


def test_sources_name_every_suite_and_the_keyring_only_where_there_is_one() -> None:
    plain = fetch.sources("http://a.example/debian/", fetch.NEWEST, None).splitlines()
    assert plain == [f"deb http://a.example/debian/ {suite} main" for suite in fetch.NEWEST]
    signed = fetch.sources("http://a.example/debian/", fetch.NEWEST, Path("/keys.gpg"))
    assert signed.count("[signed-by=/keys.gpg]") == len(fetch.NEWEST)


@pytest.mark.parametrize(
    ("version", "shown"),
    [("6.1.0-2", "6.1.0"), ("1:5.4-1~exp1", "5.4"), ("5.2-2.5", "5.2"), ("7", "7")],
)
def test_version_is_upstreams(version: str, shown: str) -> None:
    assert fetch.upstream(version) == shown


def test_tree_is_present_only_if_it_is_of_these_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QSGW_CACHE", str(tmp_path))
    bundle = fetch.Bundle(name="thing", packages=("thing-daemon", "thing-tools"))
    root = tmp_path / "peers" / "thing"
    assert fetch.present(bundle) is None
    root.mkdir(parents=True)
    stamp = {"packages": list(bundle.packages), "versions": {"thing-daemon": "1.2-3"}}
    root.with_suffix(".json").write_text(json.dumps(stamp))
    assert fetch.present(bundle) == fetch.Tree(name="thing", root=root, version="1.2")
    other = fetch.Bundle(name="thing", packages=("thing-daemon",))
    assert fetch.present(other) is None


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="no Debian host")
def test_a_package_with_files_in_lib_leaves_the_link_to_usr_lib(tmp_path: Path) -> None:
    package, root = tmp_path / "package", tmp_path / "root"
    (package / "DEBIAN").mkdir(parents=True)
    (package / "DEBIAN" / "control").write_text(
        "Package: one\nVersion: 1\nArchitecture: all\nMaintainer: nobody\nDescription: none\n"
    )
    (package / "lib").mkdir()
    (package / "lib" / "loader").write_text("here")
    debian.run(["dpkg-deb", "--build", str(package), str(tmp_path / "one.deb")], tmp_path)
    (root / "usr" / "lib").mkdir(parents=True)
    (root / "lib").symlink_to("usr/lib")
    debian.unpack(tmp_path / "one.deb", root)
    assert (root / "lib").is_symlink()
    assert (root / "usr" / "lib" / "loader").read_text() == "here"
