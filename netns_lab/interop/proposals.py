"""What is negotiated: algorithms, cookies, fragments, address families."""

from __future__ import annotations

from netns_lab.errors import LabError
from netns_lab.interop.scenario import Run, scenario
from netns_lab.interop.setup import Setup
from netns_lab.readiness import wait_until

COOKIE_SECONDS = 5.0  # until the capture is on disk
STRONG_IKE = "aes256gcm16-prfsha384-ecp384-ke1_mlkem1024"
STRONG_ESP = "aes256gcm16-ecp384-ke1_mlkem1024-esn"


@scenario("p384-mlkem1024")
async def p384_mlkem1024(run: Run) -> None:
    """P-384 and ML-KEM-1024, whose messages travel in fragments both ways."""
    async with run.pair(Setup(ike=STRONG_IKE, esp=STRONG_ESP)) as pair:
        await pair.up("PQC_ONLY")
        found = await pair.prove()
        if not found.ike["fragmentation"]:
            raise LabError("no fragmentation was agreed on")
        fragments = pair.peer.log.read_text().count("received fragment #")
        if fragments < 2:
            raise LabError(f"the peer saw {fragments} fragments")
        run.note(f"the peer received {fragments} fragments")


@scenario("nothing-in-common")
async def nothing_in_common(run: Run) -> None:
    """One end knows ML-KEM-768 only, the other ML-KEM-1024 only: refused, with the reason."""
    async with run.pair(Setup(peer_ike=STRONG_IKE)) as pair:
        if not pair.we_initiate:
            said = await pair.peer_initiates()
            if "NO_PROP" not in said:
                raise LabError(f"the peer was not told why: {said}")
        await pair.refused()


@scenario("without-esn")
async def without_esn(run: Run) -> None:
    """32-bit sequence numbers, where the peer wants those."""
    async with run.pair(Setup(esp="aes256gcm16-x25519-ke1_mlkem768")) as pair:
        await pair.up("PQC_ONLY")
        found = await pair.prove()
        if found.child["esn"]:
            raise LabError("ESN, though nobody offered it")


@scenario("ipv6-outside")
async def ipv6_outside(run: Run) -> None:
    """IPv6 between the gateways."""
    async with run.pair(Setup(outer=6)) as pair:
        await pair.up("PQC_ONLY")
        await pair.prove()


@scenario("cookies-theirs", roles=("initiator",))
async def cookies_theirs(run: Run) -> None:
    """The peer has a half-open IKE SA already and asks us for a cookie."""
    async with run.pair(Setup(peer={"cookies": True})) as pair:
        await pair.up("PQC_ONLY")
        await pair.prove()
        await pair.site.act("moon", "terminate")
        await pair.shown("DOWN")
        await pair.stray_requests("sun", 1)
        await pair.site.act("moon", "initiate")
        await pair.shown("PQC_ONLY")
        await pair.prove()
        await wait_until(pair.cookies_asked, COOKIE_SECONDS, "a cookie asked for at isp")


@scenario("cookies-ours", roles=("responder",))
async def cookies_ours(run: Run) -> None:
    """We have half-open IKE SAs from the peer's address and ask it for a cookie."""
    async with run.pair(Setup()) as pair:
        await pair.up("PQC_ONLY")
        await pair.prove()
        await pair.peer.terminate()
        await pair.shown("DOWN")
        await pair.stray_requests("moon", 3)
        await pair.up("PQC_ONLY")
        await pair.prove()
        await wait_until(pair.cookies_asked, COOKIE_SECONDS, "a cookie asked for at isp")
