"""Ends that restart, crash or cannot be reached."""

from __future__ import annotations

from netns_lab.interop.pair import Pair
from netns_lab.interop.scenario import Run, scenario
from netns_lab.interop.setup import Setup

LIVELY = Setup(tunnel={"liveness": "2s"}, peer={"liveness": 2.0}, outage=True)
NOTICED_SECONDS = 60.0


@scenario("peer-restarts")
async def peer_restarts(run: Run) -> None:
    """The peer's daemon is restarted: it says goodbye, and the tunnel comes back."""
    async with run.pair(LIVELY) as pair:
        await pair.up("PQC_ONLY")
        found = await pair.prove()
        async with pair.outage():
            await pair.peer.restart()
            await _again(pair)
            await pair.prove(unlike=found, unlike_ike=found)


@scenario("peer-crashes")
async def peer_crashes(run: Run) -> None:
    """The peer's daemon is killed and started again: liveness finds out."""
    async with run.pair(LIVELY) as pair:
        await pair.up("PQC_ONLY")
        found = await pair.prove()
        async with pair.outage():
            await pair.peer.daemon.kill()
            await pair.shown("DOWN", within=NOTICED_SECONDS)
            await pair.no_traffic()
            await pair.clear_peer()
            await pair.peer.start()
            await _again(pair)
            await pair.prove(unlike=found, unlike_ike=found)


@scenario("we-restart")
async def we_restart(run: Run) -> None:
    """Our daemon is restarted and takes over from what is in the kernel."""
    async with run.pair(LIVELY) as pair:
        await pair.up("PQC_ONLY")
        found = await pair.prove()
        async with pair.outage():
            await pair.site.gateway("moon").stop()
            await pair.site.start_gateway("moon")
            await pair.prove(unlike=found, unlike_ike=found)


@scenario("link-cut")
async def link_cut(run: Run) -> None:
    """Nothing gets through for a while: both ends notice, nothing leaks, and it comes back."""
    async with run.pair(LIVELY) as pair:
        await pair.up("PQC_ONLY")
        found = await pair.prove()
        async with pair.outage():
            await pair.lab.cut("moon", "isp")
            await pair.shown("DOWN", within=NOTICED_SECONDS)
            await pair.peer_notices(within=NOTICED_SECONDS)
            await pair.no_traffic()
            await pair.lab.heal("moon", "isp")
            await _again(pair)
            await pair.prove(unlike=found, unlike_ike=found)


async def _again(pair: Pair) -> None:
    """Up once more: by ourselves where we are the initiator, else by the peer's operator."""
    await pair.up("PQC_ONLY", within=NOTICED_SECONDS)
