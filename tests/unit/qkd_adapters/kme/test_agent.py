"""What a KME makes of its link's reports: since when it is suspect, and what is news."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import pytest

from qkd_adapters.kme.agent import LinkAgent
from qkd_adapters.link.messages import LinkState, Quarantine, decode_from_link, frame


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


class Told:
    """An agent, its clock, and how often it had something new to tell."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.agent = LinkAgent(
            kme="kme-moon",
            peer="kme-sun",
            pairs=(("moon", "sun"),),
            max_count=8,
            lifetime=3600.0,
            clock=self.clock,
        )
        self.news = 0
        self.agent.on_change(self._count)
        self.agent.established(lambda _: None)

    def _count(self) -> None:
        self.news += 1

    def state(self, state: str, age: float | None = None, *alarms: str) -> int:
        """How often this was told on."""
        before = self.news
        message = LinkState(
            state=state,
            since="then",
            alarms=alarms,
            key_rate=1.0,
            peer_connected=True,
            suspect_age=age,
        )
        self.agent.handle(decode_from_link(frame(message)[4:]))
        return self.news - before


def test_heartbeats_are_no_news_and_changes_are() -> None:
    told = Told()
    assert told.state("up") == 1
    assert told.state("up") == 0
    assert told.state("suspect", 3.0, "QBER") == 1
    assert told.state("suspect", 5.0, "QBER") == 0
    assert told.state("suspect", 7.0, "QBER", "gain") == 1
    assert told.state("up") == 1
    told.agent.handle(Quarantine(key_ids=("a",)))
    assert told.news == 5
    told.agent.lost("gone")
    assert told.news == 6


def test_the_age_grows_by_our_own_clock_between_reports() -> None:
    told = Told()
    told.state("up")
    assert told.agent.suspect_age is None
    told.state("suspect", 30.0)
    told.clock.now += 1.5
    assert told.agent.suspect_age == 31.5


def test_the_earliest_moment_named_counts_while_the_suspicion_lasts() -> None:
    """A report is late by its way here, so a later one may name the moment better."""
    told = Told()
    told.state("suspect", 30.0)
    told.clock.now += 2.0
    told.state("suspect", 31.0)  # says 29 s before the first: delayed
    assert told.agent.suspect_age == 32.0
    told.state("suspect", 100.0)  # found to have begun earlier
    assert told.agent.suspect_age == 100.0
    told.state("up")
    told.state("suspect", 1.0)
    assert told.agent.suspect_age == 1.0


def test_a_link_that_cannot_tell_was_good_when_it_last_said_so() -> None:
    told = Told()
    told.state("up")
    told.clock.now += 10.0
    told.state("down")
    told.clock.now += 10.0
    told.state("suspect")
    assert told.agent.suspect_age == 20.0


def test_never_heard_good_and_no_age_is_not_known() -> None:
    told = Told()
    told.state("suspect")
    assert told.agent.suspect_age is None


@pytest.mark.parametrize("age", [-1.0, float("nan"), float("inf")])
def test_an_age_that_cannot_be_ends_the_connection(age: float) -> None:
    told = Told()
    with pytest.raises(msgspec.ValidationError):
        told.state("suspect", age)
