"""A kernel that says no: nothing leaks, nothing is left behind, and it is tried again."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from ipaddress import ip_network

import pytest

from gateway.dataplane.memory import MemoryDataPlane
from gateway.dataplane.reconcile import is_pin
from gateway.errors import DataplaneError
from gateway.model import Protection, SaId
from gateway.protection.inputs import OperatorInitiate, OperatorRekey, OperatorTerminate
from tests.support.memory_site import MemorySite
from tests.support.virtual_loop import run_virtually

VERBS = ("allocate_spi", "install_sa", "set_policy", "remove_sa", "remove_policy")


class Stubborn(MemoryDataPlane):
    """Refuses what ``refuses`` says, as often as it says so."""

    refuses: Callable[[str], bool] = staticmethod(lambda _verb: False)

    def _enter(self, verb: str) -> None:
        if self.refuses(verb):
            raise DataplaneError(f"{verb}: No buffer space available (ENOBUFS)", errno.ENOBUFS)
        super()._enter(verb)


def times(verb: str, count: int) -> Callable[[str], bool]:
    left = [count]

    def refuse(asked: str) -> bool:
        if asked != verb or not left[0]:
            return False
        left[0] -= 1
        return True

    return refuse


def kernel() -> Stubborn:
    return Stubborn(now=asyncio.get_running_loop().time, strict=False)


def spotless(gateway) -> bool:
    """One pair of SAs, all policies into it, no reservation: nothing piles up."""
    plane = gateway.dataplane
    pins = {policy.outbound_spi for policy in plane.policies if is_pin(policy)}
    outbound = {sa.spi for sa in plane.sas if sa.destination == gateway.tunnel.remote}
    return len(plane.sas) == 2 and pins == outbound and plane.reservations == ()


@pytest.mark.parametrize(
    ("verb", "count"), [*((verb, 2) for verb in VERBS), ("set_policy", 1), ("set_policy", 3)]
)
@pytest.mark.parametrize("name", ["moon", "sun"])
def test_a_rekey_the_kernel_refuses_is_made_good(name: str, verb: str, count: int) -> None:
    async def scenario() -> None:
        async with MemorySite(kernel=kernel) as site:
            await site.until_both(Protection.HYBRID, 15)
            site.start_traffic(every=0.02)
            getattr(site, name).dataplane.refuses = times(verb, count)
            site.moon.tunnel.feed(OperatorRekey())
            await asyncio.sleep(70)
            await site.until_both(Protection.HYBRID, 60)
            await asyncio.sleep(35)
            assert site.leaked == 0
            # the kernel is asked three times; after that it takes the look of the audit
            assert site.lost <= (60 if (name, verb, count) == ("sun", "set_policy", 3) else 0)
            for gateway in (site.moon, site.sun):
                gateway.check_tasks()
                assert spotless(gateway), gateway.dataplane.sas
                assert "PQC_ONLY" not in gateway.protections()

    run_virtually(scenario())


@pytest.mark.parametrize("verb", VERBS[:3])
@pytest.mark.parametrize("name", ["moon", "sun"])
def test_a_set_up_the_kernel_refuses_is_tried_again(name: str, verb: str) -> None:
    async def scenario() -> None:
        async with MemorySite(kernel=kernel) as site:
            getattr(site, name).dataplane.refuses = times(verb, 3)
            await site.until_both(Protection.HYBRID, 120)
            await asyncio.sleep(40)
            site.send_both_ways()
            assert (site.lost, site.leaked) == (0, 0)
            assert spotless(site.moon)
            assert spotless(site.sun)
            told = getattr(site, name).tunnel.tally.last_error
            assert "ENOBUFS" in str(told) or getattr(site, name).tunnel.tally.failures == 0

    run_virtually(scenario())


@pytest.mark.parametrize("verb", ["remove_sa", "remove_policy"])
def test_terminate_drops_even_where_the_kernel_refuses_to_remove(verb: str) -> None:
    async def scenario() -> None:
        async with MemorySite(kernel=kernel) as site:
            await site.until_both(Protection.HYBRID, 15)
            site.moon.dataplane.refuses = times(verb, 4)
            site.moon.tunnel.feed(OperatorTerminate())
            await asyncio.sleep(0.01)
            for _ in range(5):
                site.send_both_ways()
            assert site.leaked == 0
            assert site.lost == 10
            await asyncio.sleep(30)
            assert site.moon.dataplane.sas == site.sun.dataplane.sas == ()
            assert not [p for p in site.moon.dataplane.policies if p.reqid]

            site.moon.tunnel.feed(OperatorInitiate())
            await site.until_both(Protection.HYBRID, 30)

    run_virtually(scenario())


def test_of_two_subnets_both_move_or_neither() -> None:
    """The second policy of a move is refused: the first must not stay on the new SA alone."""

    async def scenario() -> None:
        two = (ip_network("10.2.0.0/24"), ip_network("10.3.0.0/24"))
        site = MemorySite(kernel=kernel, moon={"remote_subnets": two}, sun={"local_subnets": two})
        async with site:
            await site.until_both(Protection.HYBRID, 15)
            plane = site.moon.dataplane
            moves = []

            def second_move(verb: str) -> bool:
                if verb == "set_policy":
                    moves.append(verb)
                return verb == "set_policy" and len(moves) == 2

            plane.refuses = second_move
            site.moon.tunnel.feed(OperatorRekey())
            await site.until(lambda: len(moves) >= 2, 20)
            await asyncio.sleep(0.5)
            assert len(plane.pins("sun")) == 1
            alive = {sa.spi for sa in plane.sas}
            assert plane.pins("sun") <= alive
            await asyncio.sleep(70)
            assert spotless(site.moon)

    run_virtually(scenario())


def test_lost_events_and_a_flushed_kernel_are_found_by_the_audit() -> None:
    async def scenario() -> None:
        async with MemorySite() as site:
            await site.until_both(Protection.HYBRID, 15)
            plane = site.moon.dataplane
            for sa_id in list(plane._sas):
                del plane._sas[sa_id]
            plane.lose_events()
            took = await site.until(lambda: len(site.moon.happened("child-up")) == 2, 20)
            assert took < 5
            await site.until_both(Protection.HYBRID, 20)
            await asyncio.sleep(10)
            assert spotless(site.moon)
            assert spotless(site.sun)

    run_virtually(scenario())


def test_an_expired_reservation_is_no_lost_sa(caplog) -> None:
    async def scenario() -> None:
        async with MemorySite() as site:
            await site.until_both(Protection.HYBRID, 15)
            plane, tunnel = site.moon.dataplane, site.moon.tunnel
            spi = await plane.allocate_spi(tunnel.remote, tunnel.local, tunnel.reqid)
            caplog.clear()
            plane.expire(SaId(tunnel.local, spi), hard=True)
            await asyncio.sleep(1)
            assert site.moon.protection is Protection.HYBRID
            assert caplog.messages == []

    run_virtually(scenario())


def test_a_kernel_that_refuses_for_long_is_complained_of_once(caplog) -> None:
    async def scenario() -> None:
        async with MemorySite(kernel=kernel) as site:
            await site.until_both(Protection.HYBRID, 15)
            caplog.clear()
            site.moon.dataplane.refuses = lambda verb: verb == "snapshot"
            await asyncio.sleep(55)
            assert len([line for line in caplog.messages if "snapshot" in line]) == 1
            site.moon.dataplane.refuses = lambda _verb: False
            await asyncio.sleep(60)
            assert site.moon.protection is Protection.HYBRID

    run_virtually(scenario())
