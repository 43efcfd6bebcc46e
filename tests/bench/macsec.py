"""MKA in memory, in virtual time: how soon, how much CPU, how many frames a rollover costs.

The LAN is that of the tests: ports without I/O, a SecY each that has keys and no cryptography,
one clock that jumps. CPU is that of this process, the LAN's own share included. The real kernel's
part is measured by ``make demo-macsec``.
"""

from __future__ import annotations

import random
import time

from gateway.mka.limits import HELLO_TIME, LIFE_TIME
from tests.bench.figures import Figure, quantile
from tests.support.mka_lan import Lan, lan
from tests.support.mka_traffic import Traffic

RUNS = 100  # of each number of members
STEP = 0.01  # seconds
LINKS = 100
IDLE = 600.0  # seconds
ROLLOVERS = 1000
SPACING = LIFE_TIME + 0.5  # seconds from one rollover to the next


def _link_up(members: int, number: int) -> float:
    """Hello Times from the link's coming up until all use one SAK. They spoke before, unheard."""
    seed = f"bench {members} {number}"
    rng = random.Random(seed)
    one = lan(members, seed=seed)
    one.cut = lambda source, target: True
    for index in range(members):
        one.at(rng.uniform(0.0, HELLO_TIME), lambda index=index: one.restart(index))
    one.run(2 * HELLO_TIME)
    one.cut = lambda source, target: False
    begun = one.now
    while not one.one_sak():
        one.run(STEP)
    return (one.now - begun) / HELLO_TIME


def _convergence() -> list[Figure]:
    figures = []
    for members in (2, 3, 4):
        times = [_link_up(members, number) for number in range(RUNS)]
        figures.append(
            Figure(
                name=f"MKA, link up to one SAK, {members} members",
                value=quantile(times, 0.5),
                unit="hello times",
                note=f"median of {RUNS}; 90 % {quantile(times, 0.9):.2f}, most {max(times):.2f}",
            )
        )
    return figures


def _idle() -> list[Figure]:
    """As many ports as a gateway with so many links has; their peers are the other half of them."""
    lans = [lan(2, seed=number) for number in range(LINKS // 2)]
    for one in lans:
        one.run(20.0)
        _poll(one)
    begun = time.process_time()
    for one in lans:
        one.run(IDLE)
    spent = time.process_time() - begun
    begun = time.process_time()
    views = [member.port.view() for one in lans for member in one.members]
    shown = time.process_time() - begun
    assert len(views) == LINKS
    return [
        Figure(
            name=f"MKA, {LINKS} idle links",
            value=100 * spent / IDLE,
            unit="% of a core",
            note=f"{1e3 * spent / LINKS * 3600 / IDLE:.0f} ms CPU per link and hour",
        ),
        Figure(name=f"MKA, views of {LINKS} links", value=1e3 * shown, unit="ms CPU"),
    ]


def _poll(one: Lan) -> None:
    """The packet numbers, read from the SecY each Hello Time as the daemon does."""

    def read() -> None:
        for index, member in enumerate(one.members):
            an = member.secy.encoding
            one.act(index, lambda port, an=an: port.transmit_pn(an or 0, 1, one.now))
        one.at(HELLO_TIME, read)

    one.at(HELLO_TIME, read)


def _saks() -> Figure:
    one = lan(seed="bench")
    one.run(10.0)
    traffic = Traffic(one)
    keys = set()
    for _ in range(ROLLOVERS):
        one.act(0, lambda port: port.request_sak("bench", one.now))
        one.run(SPACING)
        keys.update(one.saks())
    return _lost("SAK", len(keys), traffic)


def _caks() -> Figure:
    """The second end has each new CAK up to a second after the first."""
    one = lan(seed="bench")
    one.run(10.0)
    traffic = Traffic(one)
    keys = set()
    for number in range(2, ROLLOVERS + 2):
        for index in range(2):
            delay = one.random.random() * index
            one.at(delay, lambda n=number, i=index: one.add_cak(i, n, b"cak %d" % n))
        one.run(SPACING)
        keys.update(one.saks())
    return _lost("CAK", len(keys), traffic)


def _lost(what: str, rollovers: int, traffic: Traffic) -> Figure:
    if rollovers != ROLLOVERS:
        raise RuntimeError(f"{rollovers} {what} rollovers instead of {ROLLOVERS}")
    return Figure(
        name=f"frames lost in {ROLLOVERS} {what} rollovers",
        value=traffic.lost,
        unit="",
        aim=0,
        note=f"of {traffic.sent} both ways, up to 100 ms on the way",
    )


def run() -> list[Figure]:
    return [*_convergence(), *_idle(), _saks(), _caks()]
