"""Fixtures for tests that run inside the lab (``qsgw-lab test``)."""

from __future__ import annotations

import re

import pytest

from netns_lab import doctor


@pytest.fixture
def lab_name(request: pytest.FixtureRequest) -> str:
    """Name for this test's lab; a failure leaves its post-mortem in build/failed/NAME."""
    if not doctor.inside():
        pytest.skip("needs the lab: run qsgw-lab test")
    return re.sub(r"[^A-Za-z0-9_.]+", "-", request.node.name).strip("-")
