"""The MACsec data plane against a real kernel. iproute2 and raw sockets are the witnesses."""

from __future__ import annotations

import contextlib
import subprocess
from dataclasses import replace

import pytest

from gateway.errors import StartupError
from gateway.mka.registry import CipherSuite
from tests.support.macsec_contract import CONTRACT, MacsecPair, receive_sa, transmit_sa
from tests.support.macsec_link import (
    DEVICE,
    PARENT,
    Station,
    frame_passes,
    make_link,
    make_stations,
    remove_stations,
)

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def namespaces():
    try:
        stations = make_stations()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespaces: {getattr(error, 'stderr', '') or error}")
    yield stations
    remove_stations(stations)


@pytest.fixture
async def stations(namespaces):
    """Both planes open, a new link, both ends of it down."""
    a, b = namespaces
    with contextlib.suppress(subprocess.CalledProcessError):
        a.ip("link", "del", PARENT)
    make_link(a, b)
    for station in namespaces:
        try:
            await station.plane.open()
        except StartupError as error:
            pytest.skip(str(error))
    yield namespaces
    for station in namespaces:
        await station.plane.close()


@pytest.fixture
def pair(stations):
    a, b = stations

    async def hears() -> bool:
        return await frame_passes(a, b, source=DEVICE, sink=DEVICE)

    return MacsecPair(a=a.plane, b=b.plane, spec_a=a.spec, spec_b=b.spec, hears=hears)


async def both_ways(
    a: Station, b: Station, *, number: int = 1, an: int = 0, suite=CipherSuite.GCM_AES_256
) -> None:
    """One SAK between them, as MKA would install it; not in use yet."""
    for station, peer, ssci in ((a, b, 1), (b, a, 2)):
        sa = transmit_sa(number, an=an, suite=suite)
        sa = replace(sa, ssci=ssci if suite.xpn else None)
        state = await station.plane.read(DEVICE)
        await peer.plane.install_receive_sa(DEVICE, receive_sa(sa, state.sci))
        await station.plane.install_transmit_sa(DEVICE, sa)


async def use(a: Station, b: Station, an: int) -> None:
    for station in (a, b):
        await station.plane.transmit_with(DEVICE, an)


async def up(a: Station, b: Station, **changes) -> None:
    for station in (a, b):
        await station.plane.set_up(replace(station.spec, **changes))


@pytest.mark.parametrize("rule", CONTRACT, ids=lambda rule: rule.__name__)
async def test_the_contract_of_every_plane(pair, rule):
    await rule(pair)


@pytest.mark.parametrize("window", [64])
@pytest.mark.parametrize(
    "rule", [rule for rule in CONTRACT if "pn" in rule.__name__ or "begins" in rule.__name__]
)
async def test_the_contract_with_a_replay_window(pair, rule, window):
    pair.spec_a = replace(pair.spec_a, replay_window=window)
    pair.spec_b = replace(pair.spec_b, replay_window=window)
    await rule(pair)
