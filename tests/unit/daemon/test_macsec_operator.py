"""What an operator may ask of a MACsec link."""

from __future__ import annotations

import asyncio

import pytest

from gateway.config.schema import StaticCak
from gateway.control.protocol import ExitCode
from gateway.crypto.secret import Secret
from gateway.daemon.operator import Operator
from gateway.errors import ControlError
from gateway.model import Protection
from tests.support.macsec_site import LINK, MacsecSite
from tests.support.virtual_loop import run_virtually

BY_HAND = {"connection": None, "static": StaticCak(ckn=b"x", cak=Secret(bytes(32)))}


def at(site: MacsecSite, name: str = "moon") -> Operator:
    return Operator(getattr(site, name))  # has roster and links, which is all that is needed


def test_rekey_is_of_what_gives_the_caks() -> None:
    async def scenario() -> None:
        async with MacsecSite(rekey_max=3600.0) as site:
            await site.until_links(Protection.HYBRID, 30)
            await asyncio.sleep(5)
            site.start_frames()
            assert await at(site).rekey(LINK) == "sun: rekeying"
            await asyncio.sleep(8)
            assert site.link_of("sun").events.tally.cak_rollovers_hybrid == 1
            assert site.deaf == []

    run_virtually(scenario())


def test_a_new_sak_is_for_the_key_server_to_make() -> None:
    async def scenario() -> None:
        async with MacsecSite(rekey_max=3600.0) as site:
            with pytest.raises(ControlError, match="there is no key server"):
                await at(site).rekey_sak(LINK)
            await site.until_links(Protection.HYBRID, 30)
            await asyncio.sleep(8)
            ckns = [cak.ckn for cak in (await site.view("sun")).caks]
            site.start_frames()
            assert await at(site).rekey_sak(LINK) == f"{LINK}: a new SAK is made"
            with pytest.raises(ControlError, match="02:00:00:00:00:01/1 is key server"):
                await at(site, "sun").rekey_sak(LINK)
            await asyncio.sleep(8)
            assert site.link_of("sun").events.tally.sak_rollovers == 1
            assert [cak.ckn for cak in (await site.view("sun")).caks] == ckns
            assert site.deaf == []

    run_virtually(scenario())


def test_what_cannot_be_asked_says_why() -> None:
    async def scenario() -> None:
        async with MacsecSite(macsec=BY_HAND) as site:
            with pytest.raises(ControlError, match="agreed by hand"):
                await at(site).rekey(LINK)
            for ask in (at(site).initiate, at(site).terminate, at(site).rekey_ike):
                with pytest.raises(ControlError, match="has no connection"):
                    await ask(LINK)
            with pytest.raises(ControlError, match=f"there are: {LINK}") as caught:
                await at(site).rekey_sak("mars")
            assert caught.value.exit_code == ExitCode.NOT_FOUND
        async with MacsecSite() as site:
            with pytest.raises(ControlError, match="is ruled by sun"):
                await at(site).terminate(LINK)

    run_virtually(scenario())
