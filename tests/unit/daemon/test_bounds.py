"""Secrets are wiped, memory is bounded, and a worker that hangs is noticed."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import pytest

from gateway.crypto.secret import Secret
from gateway.daemon.core_loop import AFTER_FAULT
from gateway.daemon.executor import MAX_WAITING
from gateway.daemon.kernel import AUDIT_INTERVAL
from gateway.daemon.supervise import Supervisor
from gateway.errors import DataplaneError
from gateway.ike.commands import AllocateSpi, InstallChild, PpkFetched, Token
from gateway.model import Ppk, Protection
from gateway.protection.inputs import OperatorRekey
from tests.support.memory_site import MemoryGateway, MemorySite
from tests.support.site_config import MOON, SUN
from tests.support.slow_kernel import SlowKernel
from tests.support.virtual_loop import run_virtually


def watch_secrets(gateway: MemoryGateway) -> tuple[list[InstallChild], list[Ppk]]:
    """Every key that passes between core, executor and key source from now on."""
    installs: list[InstallChild] = []
    ppks: list[Ppk] = []
    submit, answer, take = (
        gateway.executor.submit,
        gateway.executor._answer,
        gateway.tunnel.keys.take,
    )

    def submitted(command) -> None:
        if isinstance(command, InstallChild):
            installs.append(command)
        submit(command)

    def answered(item) -> None:
        if isinstance(item, PpkFetched):
            ppks.append(item.ppk)
        answer(item)

    def taken() -> Ppk | None:
        ppk = take()
        if ppk is not None:
            ppks.append(ppk)
        return ppk

    gateway.executor.submit = submitted
    gateway.executor._answer = answered
    gateway.tunnel.keys.take = taken
    return installs, ppks


@pytest.mark.parametrize("verb", ["", "install_sa", "set_policy", "allocate_spi"])
def test_keys_are_wiped_whether_or_not_the_kernel_takes_them(verb: str) -> None:
    async def scenario() -> None:
        async with MemorySite() as site:
            watched = [watch_secrets(site.moon), watch_secrets(site.sun)]
            if verb:
                for gateway in (site.moon, site.sun):
                    gateway.dataplane.refuse(verb, DataplaneError("ENOBUFS"))
            await site.until_both(Protection.HYBRID, 60)
            site.moon.tunnel.feed(OperatorRekey())
            await asyncio.sleep(6)
            for installs, ppks in watched:
                assert len(installs) >= 2
                for command in installs:
                    assert command.inbound.key.wiped
                    assert command.outbound.key.wiped
                assert len(ppks) >= 2
                assert all(ppk.key.wiped for ppk in ppks)

    run_virtually(scenario())


def test_keys_of_commands_that_are_never_carried_out_are_wiped() -> None:
    async def scenario() -> None:
        async with MemorySite(kernel=SlowKernel) as site:
            await site.until_both(Protection.HYBRID, 15)
            installs, _ = watch_secrets(site.moon)
            site.moon._tasks[0].cancel()  # the kernel worker: SIGTERM comes between two steps
            (real,) = [sa for sa in site.moon.dataplane.sas if sa.destination == MOON]
            command = InstallChild(
                token=Token(10**9),
                tunnel="sun",
                inbound=replace(real, key=Secret(bytes(36))),
                outbound=replace(real, key=Secret(bytes(36))),
                local_networks=(),
                remote_networks=(),
            )
            site.moon.executor.submit(command)
            await site.moon.stop()
            late = replace(command, inbound=replace(real, key=Secret(bytes(36))))
            site.moon.executor.submit(late)
            assert installs == [command, late]
            assert all(c.inbound.key.wiped and c.outbound.key.wiped for c in installs)

    run_virtually(scenario())


def test_a_stuck_kernel_worker_starves_the_watchdog_and_an_idle_one_does_not() -> None:
    async def scenario() -> None:
        async with MemorySite(kernel=SlowKernel) as site:
            supervisor = Supervisor(site.moon.clock)
            beat = supervisor.expect_beats("kernel-audit", AUDIT_INTERVAL + 15)
            site.moon._tasks[2].cancel()  # the same, without the watchdog
            audit = asyncio.create_task(site.moon.keeper.audit_for_ever(beat))
            await site.until_both(Protection.HYBRID, 15)
            for _ in range(30):
                await asyncio.sleep(10)
                assert supervisor.stalled() == ()

            site.moon.dataplane.runs.clear()
            site.moon.tunnel.feed(OperatorRekey())
            await asyncio.sleep(40)
            assert supervisor.stalled() == ("kernel-audit",)
            await asyncio.sleep(600)
            assert site.moon.executor._queue.qsize() < 30, "no audits pile up behind it"
            for number in range(2 * MAX_WAITING):
                site.moon.executor.submit(
                    AllocateSpi(
                        token=Token(10**9 + number), tunnel="sun", source=SUN, destination=MOON
                    )
                )
            assert site.moon.executor._queue.qsize() == MAX_WAITING
            site.moon.dataplane.runs.set()
            await site.until(lambda: supervisor.stalled() == (), 60)
            await site.until_both(Protection.HYBRID, 300)
            audit.cancel()

    run_virtually(scenario())


def test_many_rekeys_leave_no_more_behind_than_a_few() -> None:
    async def scenario() -> None:
        async with MemorySite() as site:
            await site.until_both(Protection.HYBRID, 15)
            sizes = []
            endpoint = site.moon.driver.endpoint
            for _ in range(2):
                await asyncio.sleep(900)
                await site.until(lambda: len(endpoint.views()[0].children) == 1)  # none lingers
                sizes.append(
                    [
                        len(site.moon.executor._tasks),
                        len(site.moon.executor._watched),
                        len(site.moon.tunnel.events.live),
                        len(site.moon.tunnel.keys._ledger._open),
                        len(site.sun.tunnel.keys._ledger._open),
                        len(endpoint.views()[0].children),
                        len(endpoint._sessions._by_spi),
                        len(asyncio.all_tasks()),
                    ]
                )
            assert sizes[0] == sizes[1], sizes

    run_virtually(scenario())


def test_a_fault_in_one_exchange_does_not_stop_the_clock(caplog) -> None:
    """An exception out of the core is shown, and the timers of everybody else run on."""
    caplog.set_level(logging.CRITICAL)

    async def scenario() -> None:
        async with MemorySite() as site:
            await site.until_both(Protection.HYBRID, 15)
            faults: list[object] = []
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, context: faults.append(context["exception"]))
            handle_timer = site.moon.driver.endpoint.handle_timer

            def broken(_now: float) -> None:
                raise ZeroDivisionError

            site.moon.driver.endpoint.handle_timer = broken
            await asyncio.sleep(120)
            assert faults
            assert len(faults) <= 120 / AFTER_FAULT + 1
            site.moon.driver.endpoint.handle_timer = handle_timer
            rekeys = site.moon.tunnel.tally.rekeys
            await site.until(lambda: site.moon.tunnel.tally.rekeys > rekeys + 1, 400)
            await asyncio.sleep(10)
            assert len(site.moon.dataplane.sas) == 2

    run_virtually(scenario())
