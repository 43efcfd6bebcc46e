"""All that can happen to a MACsec link, at random and at once; then calm, and it is as it was."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

import pytest

from gateway.errors import DataplaneError
from gateway.model import PortState, Protection
from gateway.protection.inputs import OperatorInitiate, OperatorRekey, OperatorTerminate
from tests.support.macsec_site import DEVICE, LINK, MacsecSite
from tests.support.memory_lan import PARENT
from tests.support.virtual_loop import run_virtually

NAMES = ("moon", "sun")
STORM = 120.0  # seconds
CALM = 240.0  # seconds after which it must be well again, back-offs of IKE included
VERBS = ("set_up", "read", "set_port", "install_transmit_sa", "install_receive_sa", "transmit_with")


class Storm:
    def __init__(self, site: MacsecSite, seed: int) -> None:
        self.site = site
        self.dice = random.Random(seed)
        self.log: list[tuple[float, str, str]] = []
        self.leaks: list[tuple[float, str]] = []

    async def rage(self) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + STORM
        actions = [getattr(self, name) for name in dir(self) if name.startswith("do_")]
        while loop.time() < end:
            await asyncio.sleep(self.dice.choice((0.0, 0.05, 0.5, 3.0, 8.0)))
            name, action = self.dice.choice(NAMES), self.dice.choice(actions)
            self.log.append((round(loop.time(), 2), name, action.__name__))
            await action(name)

    async def watch(self) -> None:
        """Whatever happens, nothing leaves unprotected."""
        while True:
            for name in NAMES:
                frame = self.plane(name).send(DEVICE)
                if frame is not None and frame.sci is None:
                    self.leaks.append((asyncio.get_running_loop().time(), name))
            await asyncio.sleep(0.02)

    async def calm(self) -> None:
        site = self.site
        site.wire.loses = lambda _data: False
        site.lan.loses = lambda _name, _frame: False
        for name in NAMES:
            plane = site.lan.planes[name]
            plane._refusals.clear()
            if PARENT not in plane.parents:
                plane.add_parent(PARENT, bytes((2, 0, 0, 0, 1, NAMES.index(name))))
            plane.change_parent(PARENT, running=True, mtu=1500)
            await site.reload(name, macsec={LINK: {}})
            getattr(site, name).tunnel.feed(OperatorInitiate())

    def plane(self, name: str):
        return self.site.lan.planes[name]

    async def do_restart(self, name: str) -> None:
        await self.site.restart(name)

    async def do_rekey(self, name: str) -> None:
        getattr(self.site, name).tunnel.feed(OperatorRekey())

    async def do_new_sak(self, name: str) -> None:
        self.site.link_of(name).new_sak()

    async def do_terminate(self, name: str) -> None:
        getattr(self.site, name).tunnel.feed(OperatorTerminate())
        await asyncio.sleep(0.3)
        getattr(self.site, name).tunnel.feed(OperatorInitiate())

    async def do_vanish(self, name: str) -> None:
        if self.plane(name).only_device():
            self.plane(name).vanish(DEVICE)

    async def do_unplug(self, name: str) -> None:
        plane = self.plane(name)
        if PARENT in plane.parents:
            mac = plane.parents[PARENT].mac
            plane.remove_parent(PARENT)
            await asyncio.sleep(self.dice.choice((0.0, 1.0, 7.0)))
            plane.add_parent(PARENT, mac)

    async def do_change_parent(self, name: str) -> None:
        if PARENT in self.plane(name).parents:
            self.plane(name).change_parent(
                PARENT,
                mtu=self.dice.choice((1400, 1500, 9000)),
                running=self.dice.random() < 0.7,
            )

    async def do_other_mac(self, name: str) -> None:
        if PARENT in self.plane(name).parents:
            mac = bytes((2, 0, 0, NAMES.index(name), 7, self.dice.randrange(256)))
            self.plane(name).change_parent(PARENT, mac=mac)

    async def do_refuse(self, name: str) -> None:
        self.plane(name).refuse(self.dice.choice(VERBS), DataplaneError("device or resource busy"))

    async def do_cut_management(self, _name: str) -> None:
        share = self.dice.choice((0.0, 0.3, 1.0))
        self.site.wire.loses = lambda _data: self.dice.random() < share

    async def do_cut_link(self, _name: str) -> None:
        share = self.dice.choice((0.0, 0.3, 1.0))
        self.site.lan.loses = lambda _sender, _frame: self.dice.random() < share

    async def do_reload(self, name: str) -> None:
        given = self.dice.choice(({"priority": 3}, {"link": "other"}, {"delay_protect": True}, {}))
        links = {} if self.dice.random() < 0.2 else {LINK: given}
        await self.site.reload(name, macsec=links)
        if not links:
            await self.site.reload(name, macsec={LINK: {}})

    async def do_quantum(self, _name: str) -> None:
        self.dice.choice((self.site.link.cut, self.site.link.heal))()

    async def do_tamper(self, name: str) -> None:
        plane = self.plane(name)
        with suppress(DataplaneError):  # a refusal that was meant for the daemon
            state = await plane.read(DEVICE)
            if state is not None:
                await plane.remove_transmit_sa(DEVICE, state.encoding_an)


def storm(seed: int) -> None:
    random.seed(seed)  # of jitters

    async def scenario() -> None:
        async with MacsecSite() as site:
            await site.until_links(Protection.HYBRID, 30)
            weather = Storm(site, seed)
            watching = asyncio.create_task(weather.watch())
            await weather.rage()
            await weather.calm()
            site.link.heal()
            try:
                await site.until_links(Protection.HYBRID, CALM)
                await asyncio.sleep(20)
                site.start_frames()
                await asyncio.sleep(100)
                assert site.deaf == [], f"{site.deaf[:2]} to {site.deaf[-1]}"
            except AssertionError as error:
                raise AssertionError(f"{error}; seed {seed}: {weather.log}") from error
            watching.cancel()
            assert weather.leaks == []
            for name in NAMES:
                view = await site.view(name)
                assert view.port is PortState.SECURED
                assert len(view.saks) <= 2
                assert len(view.caks) <= 2
                assert site.alarms(name) == set()

    run_virtually(scenario())


@pytest.mark.parametrize("seed", range(6))
def test_after_a_storm(seed: int) -> None:
    storm(seed)
