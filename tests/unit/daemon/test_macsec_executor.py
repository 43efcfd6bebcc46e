"""The MKA core's commands on a device: their order, their answers, and what becomes of keys."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gateway.crypto.secret import Secret
from gateway.daemon.macsec.executor import MacsecWorker, SecyExecutor
from gateway.dataplane.macsec_memory import MemoryMacsec
from gateway.dataplane.macsec_port import SecySpec, SecyState
from gateway.errors import DataplaneError
from gateway.mka.commands import (
    Answer,
    DeleteReceiveSc,
    DeleteSas,
    Done,
    EnableTransmitSa,
    Failed,
    InstallReceiveSa,
    InstallSas,
    ReceiveSa,
    SaKey,
    SetPort,
    Token,
    TransmitSa,
)
from gateway.mka.identifiers import KeyIdentifier, MemberId, Sci
from gateway.mka.registry import CipherSuite, Confidentiality
from gateway.model import PortState

OWN, PEER = Sci(bytes((2, 0, 0, 0, 0, 1))), Sci(bytes((2, 0, 0, 0, 0, 2)))
SPEC = SecySpec(
    link="metro",
    parent="eth1",
    device="macsec-metro",
    suite=CipherSuite.GCM_AES_256,
    encrypt=True,
    replay_window=0,
    filtered=True,
)


def key(number: int, *, suite: CipherSuite = CipherSuite.GCM_AES_256) -> SaKey:
    return SaKey(
        an=number % 4,
        ki=KeyIdentifier(MemberId(bytes(12)), number),
        key=Secret(bytes([number]) * suite.key_size),
        suite=suite,
        confidentiality=Confidentiality.OFFSET_0,
        salt=None,
    )


def install(number: int, **changes: CipherSuite) -> InstallSas:
    return InstallSas(
        token=Token(number),
        key=key(number, **changes),
        transmit=TransmitSa(sci=OWN, ssci=None),
        receive=(ReceiveSa(sci=PEER, lowest_pn=1, ssci=None),),
    )


def wiped(command: InstallSas | InstallReceiveSa) -> bool:
    return repr(command.key.key) == "<Secret wiped>"


class Bench:
    def __init__(self) -> None:
        self.plane = MemoryMacsec()
        self.plane.add_parent("eth1", OWN.mac)
        self.worker = MacsecWorker()
        self.answers: list[Answer] = []
        self.read: list[SecyState | None] = []
        self.refused: list[str | None] = []
        self.executor = SecyExecutor(
            self.plane,
            SPEC,
            enqueue=self.worker.enqueue,
            answer=self.answers.append,
            read_back=self.read.append,
            refused=self.refused.append,
            key_log=None,
        )

    async def start(self) -> asyncio.Task[None]:
        await self.plane.open()
        await self.plane.set_up(SPEC)
        return asyncio.create_task(self.worker.work(lambda: None, 5.0))

    async def state(self) -> SecyState:
        await self.worker.settle()
        state = await self.plane.read(SPEC.device)
        assert state is not None
        return state


@pytest.fixture
async def bench():
    made = Bench()
    work = await made.start()
    yield made
    work.cancel()


async def test_a_sak_goes_in_and_is_answered_and_its_copy_is_wiped(bench: Bench) -> None:
    command = install(1)
    bench.executor.submit(command)
    bench.executor.submit(EnableTransmitSa(token=Token(2), an=1))
    bench.executor.submit(SetPort(state=PortState.SECURED))
    assert not bench.executor.idle
    state = await bench.state()
    assert bench.answers == [Done(token=Token(1)), Done(token=Token(2))]
    assert (state.port, state.encoding_an) == (PortState.SECURED, 1)
    assert [sa.sci for sa in state.receive] == [PEER]
    assert bench.read[0] is not None
    assert bench.read[0].encoding_an == 1
    assert bench.executor.idle
    assert wiped(command)


async def test_receivers_come_before_the_sender(bench: Bench) -> None:
    bench.executor.submit(install(1))
    await bench.state()
    verbs = [call.split()[0] for call in bench.plane.calls]
    assert verbs.index("install_receive_sa") < verbs.index("install_transmit_sa")


@pytest.mark.parametrize("verb", ["install_receive_sa", "install_transmit_sa", "transmit_with"])
async def test_a_refusal_is_a_failed_answer_and_has_the_device_looked_at(
    bench: Bench, verb: str
) -> None:
    bench.plane.refuse(verb, DataplaneError(f"{verb}: no"))
    command = install(1)
    bench.executor.submit(command)
    bench.executor.submit(EnableTransmitSa(token=Token(2), an=1))
    await bench.state()
    failed = [answer for answer in bench.answers if isinstance(answer, Failed)]
    assert failed[0].reason == f"{verb}: no"
    assert bench.refused[0] is None
    assert wiped(command)


async def test_what_is_not_answered_is_told(bench: Bench) -> None:
    bench.executor.submit(install(1))
    bench.plane.refuse("set_port", DataplaneError("no"))
    bench.executor.submit(SetPort(state=PortState.SECURED))
    await bench.state()
    assert bench.refused == ["no"]


async def test_deleting_a_sak_takes_the_receive_sas_of_everybody(bench: Bench) -> None:
    for number in (1, 2):
        bench.executor.submit(install(number))
    late = InstallReceiveSa(
        key=key(1), receive=ReceiveSa(sci=replace(PEER, port=2), lowest_pn=1, ssci=None)
    )
    bench.executor.submit(late)
    bench.executor.submit(DeleteSas(an=1))
    state = await bench.state()
    assert [sa.an for sa in (*state.transmit, *state.receive)] == [2, 2]
    bench.executor.submit(DeleteReceiveSc(sci=PEER))
    state = await bench.state()
    assert not state.receive
    assert wiped(late)


async def test_one_sa_that_resists_keeps_no_other(bench: Bench) -> None:
    bench.executor.submit(install(1))
    await bench.state()
    bench.plane.refuse("remove_receive_sa", DataplaneError("busy"))
    bench.executor.submit(DeleteSas(an=1))
    state = await bench.state()
    assert not state.transmit
    assert bench.refused == ["busy"]


async def test_another_suite_of_the_key_server_makes_the_device_anew(bench: Bench) -> None:
    bench.executor.submit(install(1))
    bench.executor.submit(EnableTransmitSa(token=Token(2), an=1))
    bench.executor.submit(SetPort(state=PortState.SECURED))
    bench.executor.submit(install(2, suite=CipherSuite.GCM_AES_128))
    state = await bench.state()
    assert state.suite is CipherSuite.GCM_AES_128
    assert [sa.an for sa in state.transmit] == [2]
    assert bench.executor.spec.suite is CipherSuite.GCM_AES_128


async def test_after_its_end_nothing_is_done_and_keys_are_wiped(bench: Bench) -> None:
    waiting, later = install(1), install(2)
    bench.executor.submit(waiting)
    bench.executor.close()
    bench.executor.submit(later)
    state = await bench.state()
    assert not state.transmit
    assert bench.answers == []
    for command in (waiting, later):
        assert wiped(command)


async def test_the_worker_beats_while_there_is_nothing_to_do() -> None:
    beats: list[None] = []
    worker = MacsecWorker()
    work = asyncio.create_task(worker.work(lambda: beats.append(None), 0.001))
    await asyncio.sleep(0.02)
    work.cancel()
    assert len(beats) > 2


async def test_work_that_the_kernel_refuses_does_not_end_the_worker() -> None:
    worker, done = MacsecWorker(), asyncio.Event()

    async def refused() -> None:
        raise DataplaneError("no")

    async def fine() -> None:
        done.set()

    work = asyncio.create_task(worker.work(lambda: None, 5.0))
    worker.enqueue(refused)
    worker.enqueue(fine)
    await worker.settle()
    assert done.is_set()
    work.cancel()
