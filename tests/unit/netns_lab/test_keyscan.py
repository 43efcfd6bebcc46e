"""A planted key is found in every form; what is no key is not."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from netns_lab.keyscan import KeyScanner, files_below, recorded_keys

KEY = bytes.fromhex("9f1c" * 4 + "00ff" * 4 + "a7e3" * 8)

FORMS: dict[str, Callable[[bytes], bytes]] = {
    "raw": lambda key: key,
    "hex": lambda key: key.hex().encode(),
    "HEX": lambda key: key.hex().upper().encode(),
    "base64": base64.b64encode,
    "base64url": base64.urlsafe_b64encode,
    "json": lambda key: json.dumps({"key": base64.b64encode(key).decode()}).encode(),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("before", [0, 1, 70_001])
def test_a_planted_key_is_found(tmp_path: Path, form: str, before: int) -> None:
    file = tmp_path / "artifact"
    file.write_bytes(b"x" * before + FORMS[form](KEY) + b"y" * 40)
    findings = KeyScanner([bytes(range(32)), KEY]).scan([file])
    assert {finding.file for finding in findings} == {file}
    assert KEY.hex() not in repr(findings)


def test_nothing_is_found_where_there_is_nothing(tmp_path: Path) -> None:
    file = tmp_path / "artifact"
    file.write_bytes(KEY[:-1] + b"." + KEY[1:] + KEY[::-1].hex().encode())
    (tmp_path / "empty").touch()
    assert KeyScanner([KEY]).scan(files_below([tmp_path])) == []


def test_without_keys_nothing_is_found(tmp_path: Path) -> None:
    (tmp_path / "artifact").write_bytes(KEY)
    assert KeyScanner([]).scan(files_below([tmp_path])) == []


def test_a_key_so_short_that_chance_would_find_it_is_refused() -> None:
    with pytest.raises(ValueError, match="chance"):
        KeyScanner([b"short"])


def test_recorded_keys_come_from_the_links_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"6ba7b810-9dad-41d1-80b4-00c04fd430c8 {KEY.hex()}\n\n")
    assert recorded_keys([file, tmp_path / "none"]) == [KEY]


def test_folders_are_searched_to_the_bottom(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(KEY)
    assert len(KeyScanner([KEY]).scan(files_below([tmp_path]))) == 1
