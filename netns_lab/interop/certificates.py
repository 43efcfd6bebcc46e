"""X.509 certificates of ``qsgw pki`` at one end or both."""

from __future__ import annotations

from netns_lab.errors import LabError
from netns_lab.interop import wire
from netns_lab.interop.pair import Pair
from netns_lab.interop.proposals import STRONG_ESP, STRONG_IKE
from netns_lab.interop.scenario import Run, scenario
from netns_lab.interop.setup import Setup
from netns_lab.site_files import OUTER

ECDSA, EDDSA, PSK = "ECDSA-P384-SHA384", "Ed25519", "pre-shared key"
"""As our status names what an end showed."""


@scenario("certificates-ecdsa")
async def certificates_ecdsa(run: Run) -> None:
    """P-384, ML-KEM-1024 and a QKD key, ECDSA certificates with CRLs: fragments both ways."""
    large = (wire.IKE_INTERMEDIATE, wire.IKE_AUTH)
    await _certificates(run, "ecdsa-p384", f"{ECDSA} CN=moon", f"{ECDSA} CN=sun", large)


@scenario("certificates-ed25519")
async def certificates_ed25519(run: Run) -> None:
    """P-384, ML-KEM-1024 and a QKD key, Ed25519 certificates with CRLs."""
    large = (wire.IKE_INTERMEDIATE,)  # two such certificates fit into one datagram
    await _certificates(run, "ed25519", f"{EDDSA} CN=moon", f"{EDDSA} CN=sun", large)


async def _certificates(
    run: Run, algorithm: str, ours: str, theirs: str, large: tuple[int, ...]
) -> None:
    """``large``: exchanges that do not fit into one datagram, in either direction."""
    setup = Setup(
        ike=STRONG_IKE, esp=STRONG_ESP, certificates=algorithm, qkd="require", peer_ppk="require"
    )
    async with run.pair(setup) as pair:
        await pair.up("HYBRID")
        await _shown(pair, ours, theirs)
        found = wire.fragments(pair.frames())
        for exchange in large:
            for source in OUTER[4].values():
                if found[source, exchange] < 2:
                    raise LabError(f"no fragments of exchange {exchange} from {source}: {found}")
        run.note(f"{ours}, {theirs}; {found.total()} IKE fragments at isp")


@scenario("certificate-theirs")
async def certificate_theirs(run: Run) -> None:
    """The peer shows an ECDSA certificate, we the pre-shared key."""
    async with run.pair(Setup(certificates="ecdsa-p256", psk_ends=("moon",))) as pair:
        await pair.up("PQC_ONLY")
        await _shown(pair, PSK, "ECDSA-P256-SHA256 CN=sun")


@scenario("certificate-ours")
async def certificate_ours(run: Run) -> None:
    """We show an ECDSA certificate, the peer the pre-shared key."""
    async with run.pair(Setup(certificates="ecdsa-p256", psk_ends=("sun",))) as pair:
        await pair.up("PQC_ONLY")
        await _shown(pair, "ECDSA-P256-SHA256 CN=moon", PSK)


async def _shown(pair: Pair, ours: str, theirs: str) -> None:
    """Both ends agree, and so have proved who they are."""
    ike = (await pair.prove()).ike
    proofs = (ike["local_proof"], ike["remote_proof"])
    if proofs != (ours, theirs):
        raise LabError(f"authenticated as {proofs}, not {(ours, theirs)}")
