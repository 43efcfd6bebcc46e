"""Commands that are answered, late, or by nobody; deadlines."""

from __future__ import annotations

from ipaddress import ip_address

from gateway.crypto.secret import Secret
from gateway.ike.commands import (
    AllocateSpi,
    Failed,
    FetchPpk,
    PpkFetched,
    RemoveSas,
    SettlePpk,
    SpiAllocated,
    Token,
)
from gateway.ike.deadlines import Deadlines
from gateway.ike.desk import CommandDesk
from gateway.ike.outbox import Outbox
from gateway.model import KeyId, Ppk, SaId

US, THEM = ip_address("10.0.0.1"), ip_address("10.0.0.2")
KEY_ID = KeyId("0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0")


class Bench:
    def __init__(self) -> None:
        self.outbox, self.deadlines = Outbox(), Deadlines()
        self.desk = CommandDesk(self.outbox, self.deadlines)
        self.answers: list[object] = []

    def allocate(self) -> Token:
        token = self.desk.token()
        command = AllocateSpi(token=token, tunnel="net", source=THEM, destination=US)
        self.desk.issue(command, lambda answer, _: self.answers.append(answer), timeout=5, now=0)
        return token

    def fetch(self) -> Token:
        token = self.desk.token()
        command = FetchPpk(token=token, tunnel="net", key_id=KEY_ID)
        self.desk.issue(command, lambda answer, _: self.answers.append(answer), timeout=5, now=0)
        return token


def test_answer_reaches_who_asked():
    bench = Bench()
    first, second = bench.allocate(), bench.allocate()
    bench.desk.answer(SpiAllocated(token=second, spi=7), 1)
    bench.desk.answer(SpiAllocated(token=first, spi=8), 1)
    assert [answer.spi for answer in bench.answers] == [7, 8]
    assert bench.deadlines.next() is None


def test_second_answer_and_unknown_token_are_ignored():
    bench = Bench()
    token = bench.allocate()
    bench.desk.answer(SpiAllocated(token=token, spi=7), 1)
    bench.desk.answer(SpiAllocated(token=token, spi=7), 1)
    bench.desk.answer(SpiAllocated(token=Token(99), spi=7), 1)
    assert len(bench.answers) == 1


def test_no_answer_in_time_is_a_failure():
    bench = Bench()
    token = bench.allocate()
    bench.deadlines.run_due(4.9)
    assert not bench.answers
    bench.deadlines.run_due(5.0)
    assert bench.answers == [Failed(token=token, reason="no answer within 5 s")]


def test_late_spi_is_given_back():
    bench = Bench()
    token = bench.allocate()
    bench.deadlines.run_due(5.0)
    bench.desk.answer(SpiAllocated(token=token, spi=0x1000), 6)
    assert bench.outbox.commands[-1] == RemoveSas(tunnel="net", sa_ids=(SaId(US, 0x1000),))
    assert len(bench.answers) == 1


def test_late_key_is_burned():
    bench = Bench()
    token = bench.fetch()
    bench.desk.abandon(token)
    key = Secret(bytes(32))
    bench.desk.answer(PpkFetched(token=token, ppk=Ppk(key_id=KEY_ID, key=key)), 6)
    (settled,) = [one for one in bench.outbox.commands if isinstance(one, SettlePpk)]
    assert not settled.used
    assert key.wiped
    assert not bench.answers


def test_deadlines_run_in_order_and_once():
    deadlines, ran = Deadlines(), []
    deadlines.set("b", 2.0, lambda now: ran.append(("b", now)))
    deadlines.set("a", 1.0, lambda now: ran.append(("a", now)))
    assert deadlines.next() == 1.0
    deadlines.run_due(3.0)
    deadlines.run_due(3.0)
    assert ran == [("a", 3.0), ("b", 3.0)]
    assert deadlines.next() is None


def test_deadline_set_again_moves():
    deadlines, ran = Deadlines(), []
    deadlines.set("a", 1.0, lambda now: ran.append("early"))
    deadlines.set("a", 5.0, lambda now: ran.append("late"))
    assert deadlines.next() == 5.0
    deadlines.run_due(4.0)
    assert not ran
    deadlines.run_due(5.0)
    assert ran == ["late"]


def test_cancelled_deadline_does_not_run():
    deadlines, ran = Deadlines(), []
    deadlines.set("a", 1.0, ran.append)
    deadlines.cancel("a")
    deadlines.cancel("never set")
    deadlines.run_due(9.0)
    assert not ran


def test_action_may_set_the_same_deadline_again():
    deadlines, ran = Deadlines(), []

    def again(now: float) -> None:
        ran.append(now)
        deadlines.set("a", now + 1, again)

    deadlines.set("a", 1.0, again)
    deadlines.run_due(1.0)
    assert ran == [1.0]
    assert deadlines.next() == 2.0
