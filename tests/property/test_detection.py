"""Whatever the counts: the detection keeps its books in order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from qkd_adapters.detection.alarms import CATALOGUE, AlarmBook, AlarmKind, Finding
from qkd_adapters.detection.detector import LinkDetector, LinkState
from qkd_adapters.detection.telemetry import Level, Monitor
from tests.support.link_telemetry import MEANS, baseline, block

COUNTS = st.integers(min_value=0, max_value=10**8)


@st.composite
def levels(draw: st.DrawFn, name: str) -> Level:
    sent = draw(COUNTS)
    clicks = draw(st.integers(0, sent))
    tested = draw(st.integers(0, clicks))
    tested_x = draw(st.integers(0, clicks - tested))
    return Level(
        name=name,
        mean_photons=MEANS[name],
        sent=sent,
        clicks=clicks,
        tested_z=tested,
        errors_z=draw(st.integers(0, tested)),
        tested_x=tested_x,
        errors_x=draw(st.integers(0, tested_x)),
    )


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_no_counts_break_the_detector(data: st.DataObject) -> None:
    rng = np.random.default_rng(1)
    detector = LinkDetector(baseline())
    standing: set[AlarmKind] = set()
    for number in range(data.draw(st.integers(1, 12))):
        seen = replace(
            block(number, rng),
            levels=tuple(data.draw(levels(name)) for name in MEANS),
            detector_clicks=data.draw(st.tuples(COUNTS, COUNTS, COUNTS, COUNTS)),
            double_clicks=data.draw(COUNTS),
            arrival_std=data.draw(st.floats(0, 1e5)),
            receiver=Monitor(sync_offset=data.draw(st.floats(-1e6, 1e6))),
        )
        verdict = detector.observe(seen)
        new = {alarm.kind for alarm in verdict.raised}
        assert not new & standing
        standing = (standing | new) - {alarm.kind for alarm in verdict.cleared}
        assert standing == {alarm.kind for alarm in verdict.active}
        suspect = any(CATALOGUE[kind].secrecy for kind in standing)
        assert suspect == (verdict.state is LinkState.SUSPECT)
        assert suspect == (verdict.suspect_since_block is not None)
        if verdict.suspect_since_block is not None:
            assert verdict.suspect_since_block <= number


@settings(max_examples=50, deadline=None)
@given(shown=st.lists(st.sets(st.sampled_from(list(AlarmKind)), max_size=4), max_size=50))
def test_raised_and_cleared_take_turns(shown: list[set[AlarmKind]]) -> None:
    book = AlarmBook()
    standing: set[AlarmKind] = set()
    for number, kinds in enumerate(shown):
        findings = [Finding(kind=kind, text="", since_block=number) for kind in sorted(kinds)]
        changes = book.update(number, findings)
        raised = {alarm.kind for alarm in changes.raised}
        cleared = {alarm.kind for alarm in changes.cleared}
        assert raised <= kinds
        assert not raised & standing
        assert cleared <= standing - kinds
        standing = (standing | raised) - cleared
        assert standing == {alarm.kind for alarm in book.active}
