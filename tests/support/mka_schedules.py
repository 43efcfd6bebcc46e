"""What may happen to members of a LAN and to their frames, drawn from a seed.

    python -m tests.support.mka_schedules COUNT [SEED]

plays that many schedules and prints what did not end with one SAK, or broke a rule of the LAN.
"""

from __future__ import annotations

import random
import sys
import time
import traceback
from dataclasses import dataclass

from gateway.mka import limits
from gateway.mka.identifiers import MemberId
from gateway.mka.participant import Participant
from gateway.mka.registry import CipherSuite
from gateway.model import PortState
from tests.support.mka_lan import Lan, lan

TROUBLE = 25.0  # seconds in which things happen
QUIET = 30.0  # seconds without: life time, retire and transmit delay, and to spare
KINDS = (
    *("restart", "restart-keep", "cut", "deaf", "join"),
    *("equal-mi", "mn-end", "kn-end", "pn-end", "request"),
    *("fail", "mute", "new-cak", "drop-cak"),
)


def happen(one: Lan, who: int, what: str) -> None:
    """One thing to one member, or between it and the others; where it cannot be, nothing."""
    who %= len(one.members)
    member = one.members[who]
    participant = _newest(one, who)
    match what:
        case "restart":
            one.restart(who)
        case "restart-keep":
            one.restart(who, keep=member.secy.sak is not None)
        case "cut":
            one.cut = lambda source, target: who in (source, target)
        case "deaf":
            one.cut = lambda source, target: target == who
        case "join":
            one.cut = lambda source, target: False
        case "equal-mi" if participant is not None:
            other = _newest(one, (who + 1) % len(one.members))
            if other is not None and not other.kn:  # two SAKs with one KI are not told apart
                participant.mi = MemberId(bytes(other.mi))
        case "mn-end" if participant is not None:
            participant.mn = max(participant.mn, limits.MN_MAX - 2)
        case "kn-end" if participant is not None:
            participant.kn = max(participant.kn, limits.KN_MAX - 1)
        case "pn-end":
            for sak in member.port.view().saks:
                an, end = sak.an, 2**64 if sak.suite.xpn else 2**32
                one.act(who, lambda port, an=an, end=end: port.transmit_pn(an, end - 9, one.now))
        case "request":
            one.act(who, lambda port: port.request_sak("asked", one.now))
        case "fail":
            member.secy.fail += 1
        case "mute":
            member.secy.mute += 1
        case "new-cak":
            number = 1 + max(number for each in one.members for number, _ in each.caks)
            for index in range(len(one.members)):
                delay = one.random.choice((0.0, 0.0, 0.3, 4.0)) * one.random.random()
                one.at(delay, lambda index=index: _add_up_to(one, index, number))
        case "drop-cak" if len(member.caks) > 1:
            one.remove_cak(who, member.caks[0][1])


def _add_up_to(one: Lan, index: int, number: int) -> None:
    """One after the other: IKE SAs replace each other in the same order at both ends."""
    last = max(had for had, _ in one.members[index].caks)
    for each in range(last + 1, number + 1):
        one.add_cak(index, each, b"cak %d" % each)


def _newest(one: Lan, who: int) -> Participant | None:
    return next(reversed(one.members[who].port._participants.values()), None)


def calm(one: Lan) -> None:
    """No more trouble."""
    one.cut, one.loss, one.jitter = (lambda source, target: False), 0.0, 0.002
    for member in one.members:
        member.secy.fail = member.secy.mute = 0


def in_the_clear(one: Lan) -> bool:
    return any(member.secy.port is PortState.CLEAR for member in one.members)


@dataclass(frozen=True)
class Schedule:
    seed: str
    members: int
    suite: CipherSuite
    delay_protect: bool
    loss: float
    jitter: float  # seconds
    happens: tuple[tuple[float, int, str], ...]  # when, to whom, what

    @classmethod
    def draw(cls, seed: str) -> Schedule:
        rng = random.Random(seed)
        happens = [
            (rng.uniform(0.0, TROUBLE - 4.0), rng.randrange(4), rng.choice(KINDS))
            for _ in range(rng.choice((0, 1, 2, 3, 5, 8, 12)))
        ]
        return cls(
            seed=seed,
            members=rng.randint(2, 4),
            suite=rng.choice(tuple(CipherSuite)),
            delay_protect=rng.random() < 0.3,
            loss=rng.choice((0.0, 0.1, 0.4, 0.7)),
            jitter=rng.choice((0.002, 0.5, 3.0, 7.0)),
            happens=tuple(sorted(happens)),
        )

    def play(self) -> None:
        """AssertionError where members do not end with one SAK that stays."""
        suite = self.suite
        change = {
            "suite": suite,
            "accepted_suites": frozenset({suite}),
            "delay_protect": self.delay_protect,
        }
        options = {"seed": self.seed, "loss": self.loss, "jitter": self.jitter}
        one = lan(self.members, change=change, **options)
        for when, who, what in self.happens:
            one.at(when, lambda who=who, what=what: happen(one, who, what))
        one.run(TROUBLE)
        calm(one)
        one.run(QUIET)
        assert one.one_sak(), [str(member.port.view()) for member in one.members]
        assert not in_the_clear(one)
        before = one.saks()
        one.run(QUIET)
        assert one.saks() == before, "it does not stay"


def main(count: int, seed: str) -> int:
    """How many failed."""
    begun, failed = time.monotonic(), 0
    for number in range(count):
        schedule = Schedule.draw(f"{seed}/{number}")
        try:
            schedule.play()
        except Exception:  # noqa: BLE001  whatever escapes is what we look for
            failed += 1
            sys.stdout.write(f"{schedule}\n{traceback.format_exc()}\n")
            sys.stdout.flush()
    seconds = time.monotonic() - begun
    sys.stdout.write(f"{count} schedules, seed {seed}, {failed} failed, {seconds:.0f} s\n")
    return failed


if __name__ == "__main__":
    sys.exit(bool(main(int(sys.argv[1]), (sys.argv[2:] or [str(int(time.time()))])[0])))
