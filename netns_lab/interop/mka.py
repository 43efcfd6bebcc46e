"""MACsec links keyed by MKA, with a CAK that is agreed by hand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from netns_lab.interop.mka_pair import MkaPair, MkaSetup
from netns_lab.interop.scenario import MKA_BOTH, Role, Run, Skipped, scenario

PEERS = ("wpa_supplicant",)
REKEYS = 3
SAK_LIFETIME = "7s"  # 6 s is the least

Play = Callable[[Run], Awaitable[None]]


def _mka(name: str, roles: tuple[Role, ...] = MKA_BOTH) -> Callable[[Play], Play]:
    return scenario(name, peers=PEERS, roles=roles)


@_mka("mka-128")
async def cak_128(run: Run) -> None:
    """A CAK of 128 bits, GCM-AES-128, traffic both ways."""
    await _traffic(run, MkaSetup())


@_mka("mka-256")
async def cak_256(run: Run) -> None:
    """A CAK of 256 bits, GCM-AES-128, traffic both ways."""
    await _traffic(run, MkaSetup(cak_bits=256))


async def _traffic(run: Run, setup: MkaSetup) -> None:
    async with run.link(setup) as pair:
        await pair.prove()
        async with pair.traffic():
            await pair.prove()


@_mka("mka-gcm-256", ("key-server",))
async def gcm_256(run: Run) -> None:
    """A CAK of 256 bits, and we distribute SAKs for GCM-AES-256."""
    setup = MkaSetup(cak_bits=256, suite="gcm-aes-256")
    async with run.link(setup) as pair:
        if reason := await pair.unfit():
            raise Skipped(f"wpa_supplicant {pair.peer.version} cannot: {reason}")
        await pair.prove()
        async with pair.traffic():
            await pair.prove()


@_mka("mka-integrity")
async def integrity(run: Run) -> None:
    """Integrity without encryption, as both are configured."""
    await _traffic(run, MkaSetup(encryption=False))


@_mka("mka-delay-protect")
async def delay_protect(run: Run) -> None:
    """Delay protection at our end: MKPDUs twice a second, with lowest acceptable PNs."""
    async with run.link(MkaSetup(ours={"delay_protect": True})) as pair:
        found = await pair.prove()
        async with pair.traffic():
            await pair.prove()
            await pair.late_packet_numbers(ours=run.role == "key-server")
            await pair.prove(unlike=found)
        run.note("1 SAK after the first")


@_mka("mka-rekey-pn")
async def rekey_pn(run: Run) -> None:
    """The key server's packet numbers run out, traffic running: a new SAK."""
    await _rekey(run, ours=run.role == "key-server")


@_mka("mka-rekey-pn-member")
async def rekey_pn_member(run: Run) -> None:
    """The member's packet numbers run out, traffic running: the key server makes a new SAK."""
    await _rekey(run, ours=run.role == "member")


async def _rekey(run: Run, *, ours: bool) -> None:
    """``ours``: it is our packet number that is late."""
    async with run.link(MkaSetup()) as pair:
        found = await pair.prove()
        async with pair.traffic():
            for _ in range(REKEYS):
                await pair.late_packet_numbers(ours=ours)
                found = await pair.prove(unlike=found)
        run.note(f"{REKEYS} SAKs after the first")


@_mka("mka-rekey-timer")
async def rekey_timer(run: Run) -> None:
    """A SAK is replaced after its time (sak_lifetime), traffic running."""
    if run.role == "member":
        raise Skipped("wpa_supplicant as key server has no lifetime of a SAK")
    async with run.link(MkaSetup(ours={"sak_lifetime": SAK_LIFETIME})) as pair:
        found = await pair.prove()
        async with pair.traffic():
            for _ in range(REKEYS):
                found = await pair.prove(unlike=found)
        run.note(f"{REKEYS} SAKs after the first, each after {SAK_LIFETIME}")


@_mka("mka-we-crash")
async def we_crash(run: Run) -> None:
    """Our daemon is killed and started again; SAs stay in the kernel meanwhile."""
    await _outage(run, lambda pair: pair.restart_ours(kill=True))


@_mka("mka-we-restart")
async def we_restart(run: Run) -> None:
    """Our daemon is stopped and started; SAs stay in the kernel meanwhile (on_stop = "keep")."""
    await _outage(run, lambda pair: pair.restart_ours(kill=False))


@_mka("mka-peer-restarts")
async def peer_restarts(run: Run) -> None:
    """The peer's daemon is stopped and started; its device goes with it."""

    async def restart(pair: MkaPair) -> None:
        await pair.peer.stop()
        await pair.peer.start()

    await _outage(run, restart)


@_mka("mka-peer-crashes")
async def peer_crashes(run: Run) -> None:
    """The peer's daemon is killed; its operator deletes the device it left, and starts it."""

    async def crash(pair: MkaPair) -> None:
        await pair.peer.daemon.kill()
        await pair.peer.clear_kernel()
        await pair.peer.start()

    await _outage(run, crash)


async def _outage(run: Run, act: Callable[[MkaPair], Awaitable[None]]) -> None:
    async with run.link(MkaSetup()) as pair:
        found = await pair.prove()
        async with pair.outage():
            await act(pair)
            await pair.prove(unlike=found)


@_mka("mka-link-cut")
async def link_cut(run: Run) -> None:
    """Nothing gets through for a while: both ends notice, nothing leaks, and it comes back."""

    async def cut(pair: MkaPair) -> None:
        await pair.lab.cut("moon", "sun")
        await pair.nobody_live()
        await pair.lab.heal("moon", "sun")

    await _outage(run, cut)


@_mka("mka-wrong-cak")
async def wrong_cak(run: Run) -> None:
    """The ends have different CAKs under one CKN: no SA, nothing passes, and we say why."""
    async with run.link(MkaSetup(same_cak=False)) as pair:
        await pair.refused("wrong ICV", "the CAK differs")


@_mka("mka-wrong-ckn")
async def wrong_ckn(run: Run) -> None:
    """The ends have different CKNs: no SA, nothing passes, and we say why."""
    async with run.link(MkaSetup(same_ckn=False)) as pair:
        await pair.refused(pair.peer.settings.ckn, "which is not ours")
