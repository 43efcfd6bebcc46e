"""docs/detection.md says what the code does."""

from __future__ import annotations

from qkd_adapters.detection.alarms import CATALOGUE
from tests.validate import attacks

PAGE = attacks.ROOT / "docs" / "detection.md"


def test_the_catalogue_is_that_of_the_code() -> None:
    rows = {
        cells[0]: cells[1:4]
        for line in PAGE.read_text().splitlines()
        if line.startswith("| QKD-")
        for cells in [[cell.strip() for cell in line.strip("|").split("|")]]
    }
    assert rows == {
        kind.value: [entry.name, entry.severity.name.lower(), "yes" if entry.secrecy else "no"]
        for kind, entry in CATALOGUE.items()
    }


def test_the_table_in_the_docs_is_of_this_code() -> None:
    assert not attacks.is_stale(PAGE), "run `make attack-matrix`"
