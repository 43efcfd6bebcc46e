"""What an operator may ask of a MACsec link."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from gateway.config.schema import StaticCak
from gateway.control.protocol import ExitCode
from gateway.crypto.secret import Secret
from gateway.daemon.macsec.link import MacsecLink
from gateway.daemon.operator import Operator
from gateway.errors import ControlError
from gateway.model import Protection
from tests.support.macsec_site import LINK, MacsecSite
from tests.support.virtual_loop import run_virtually


def test_rekey_gives_a_new_cak_and_loses_nothing() -> None:
    async def scenario() -> None:
        async with MacsecSite() as site:
            await site.until_links(Protection.HYBRID)
            await asyncio.sleep(30)
            before = site.link_of("moon").caks.newest
            site.start_frames()
            assert await Operator(site.moon).rekey(LINK) == "sun: rekeying"
            await asyncio.sleep(15)
            after = site.link_of("moon").caks.newest
            assert before is not None
            assert after is not None
            assert after.ckn != before.ckn
            assert site.link_of("moon").events.tally.cak_rollovers == 1
            assert site.deaf == []

    run_virtually(scenario())


def test_a_new_sak_is_the_key_servers_to_make() -> None:
    async def scenario() -> None:
        async with MacsecSite() as site:
            await site.until_links(Protection.HYBRID)
            await asyncio.sleep(30)
            ends = {name: site.link_of(name) for name in ("moon", "sun")}
            operators = {"moon": Operator(site.moon), "sun": Operator(site.sun)}
            (server,) = (name for name, link in ends.items() if _is_server(link))
            (member,) = ends.keys() - {server}
            assert "makes the SAKs" in await _refused(operators[member].rekey_sak(LINK))
            assert await operators[server].rekey_sak(LINK) == f"{LINK}: a new SAK is made"
            await asyncio.sleep(15)
            for link in ends.values():
                assert (link.events.tally.sak_rollovers, link.events.tally.cak_rollovers) == (1, 0)

    run_virtually(scenario())


def _is_server(link: MacsecLink) -> bool:
    return link.station is not None and link.station.is_key_server


async def _refused(asked: Awaitable[str], code: ExitCode = ExitCode.FAILED) -> str:
    with pytest.raises(ControlError) as error:
        await asked
    assert error.value.exit_code == code
    return str(error.value)


def test_what_is_the_connections_to_do() -> None:
    async def scenario() -> None:
        async with MacsecSite() as site:
            moon = Operator(site.moon)
            for asked in (moon.terminate(LINK), moon.initiate(LINK), moon.rekey_ike(LINK)):
                told = await _refused(asked)
                assert told == f"{LINK} is a MACsec link, and is ruled by sun"
            told = await _refused(moon.rekey_sak("sun"), ExitCode.NOT_FOUND)
            assert told == f"no MACsec link named sun (there are: {LINK})"

    run_virtually(scenario())


def test_a_cak_agreed_by_hand_is_not_rekeyed() -> None:
    static = StaticCak(ckn=b"moon", cak=Secret(bytes(range(32))))

    async def scenario() -> None:
        async with MacsecSite(macsec={"connection": None, "static": static}) as site:
            await site.until_links(Protection.CLASSICAL)
            moon = Operator(site.moon)
            assert "agreed by hand" in await _refused(moon.rekey(LINK))
            told = await _refused(moon.terminate(LINK))
            assert told == f"{LINK} is a MACsec link, and has no connection"

    run_virtually(scenario())
