"""libreswan's configuration and what whack tells, as text. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping

from netns_lab.errors import LabError
from netns_lab.peers.facts import ChildFacts, PeerSettings, PpkUse, SaFacts

CONNECTION = "qsgw"
"""Name of the one connection a peer has."""

NSS = "/var/lib/ipsec/nss"

_ENCRYPTION = {"aes256gcm16": "aes_gcm256", "aes128gcm16": "aes_gcm128"}
_PRF = {"prfsha256": "sha2_256", "prfsha384": "sha2_384", "prfsha512": "sha2_512"}
_GROUP = {"ecp256": "dh19", "ecp384": "dh20", "x25519": "dh31"}
_KEM = {"mlkem512": "ml_kem_512", "mlkem768": "ml_kem_768", "mlkem1024": "ml_kem_1024"}
_PPK: Mapping[PpkUse, str] = {"off": "no", "prefer": "yes", "require": "insist"}

OUR_WORD: Mapping[str, str] = {
    "CURVE25519": "X25519",
    "DH31": "X25519",
    "DH19": "P-256",
    "DH20": "P-384",
    "ML_KEM_768": "ML-KEM-768",
    "ML_KEM_1024": "ML-KEM-1024",
}
"""libreswan's names of key exchanges, in qsgw's words."""


def ipsec_conf(settings: PeerSettings) -> str:
    """``ipsec.conf`` with one connection."""
    (child,) = settings.children
    lines = [
        "keyexchange=ikev2",
        f"left={settings.local}",
        f"leftid=@{settings.local_id}",
        f"leftsubnet={child.local[0]}",
        "leftupdown=%disabled",
        f"right={settings.remote}",
        f"rightid=@{settings.remote_id}",
        f"rightsubnet={child.remote[0]}",
        "authby=secret",
        f"ike={ike_proposal(settings.ike)}",
        f"esp={esp_proposal(settings.esp)}",
        f"esn={'yes' if settings.esp.endswith('-esn') else 'no'}",
        f"ppk={_PPK[settings.ppk]}",
        "fragmentation=yes",
        "mobike=no",
        f"intermediate={'yes' if '-ke1_' in settings.ike else 'no'}",
        *([f"ppk-ids={settings.ppk_id}"] if settings.ppk_id else []),
        *([f"dpddelay={settings.liveness:g}"] if settings.liveness else []),
        *(["rekey=no"] if not settings.rekey_child else []),
        "auto=add",
    ]
    body = "".join(f"    {line}\n" for line in lines)
    return f"config setup\n    nssdir={NSS}\n\nconn {CONNECTION}\n{body}"


def ipsec_secrets(settings: PeerSettings, ppks: Mapping[str, bytes]) -> str:
    """``ipsec.secrets`` with the pre-shared key and PPKs by key_ID."""
    ends = f"@{settings.local_id} @{settings.remote_id}"
    lines = [f'{ends} : PSK "{settings.psk}"']
    lines += [f'{ends} : PPKS "{key_id}" 0x{key.hex()}' for key_id, key in ppks.items()]
    return "\n".join(lines) + "\n"


def ike_proposal(ours: str) -> str:
    """``aes_gcm256-sha2_512-dh31;addke1=ml_kem_768`` of our words."""
    encryption, prf, group, *rest = ours.split("-")
    words = f"{_ENCRYPTION[encryption]}-{_PRF[prf]}-{_GROUP[group]}"
    return ";".join([words, *(f"addke1={_KEM[word.removeprefix('ke1_')]}" for word in rest)])


def esp_proposal(ours: str) -> str:
    """``aes_gcm256;dh31`` of our words. Raises LabError for what libreswan cannot do."""
    encryption, *rest = ours.removesuffix("-esn").split("-")
    if len(rest) > 1:
        raise LabError("libreswan has no additional key exchange for Child SAs")
    return ";".join([_ENCRYPTION[encryption], *(_GROUP[group] for group in rest)])


# --- what it says --------------------------------------------------------------------------------

_IKE = re.compile(r'^#(\d+): "[^"]+"(?:\[\d+\])? ?\S* ESTABLISHED_IKE_SA ', re.MULTILINE)
_CHILD = re.compile(
    r'^#(\d+): "[^"]+"(?:\[\d+\])? ?\S* ESTABLISHED_CHILD_SA .*?IKE SA #(\d+)', re.MULTILINE
)
_SPIS = re.compile(r'^#(\d+): "[^"]+" esp\.([0-9a-f]+)@\S+ esp\.([0-9a-f]+)@', re.MULTILINE)
_IKE_WORDS = r"#{}: .*\{{cipher=(\S+)_(\d+) integ=n/a prf=(\S+) group=([^\s}}]+)"
_CHILD_WORDS = r"#{}: .*\{{ESP(/ESN)?=>.* xfrm=(\S+?)_(\d+)-NONE(?:-(\S+))? "


def sas(status: str, log: str) -> tuple[SaFacts, ...]:
    """Established IKE SAs by ``whack --status``; their algorithms as its log tells them."""
    spis = {number: (out, into) for number, out, into in _SPIS.findall(status)}
    parents = [(child, parent) for child, parent in _CHILD.findall(status) if child in spis]
    return tuple(
        _ike_sa(number, log, [(child, *spis[child]) for child, of in parents if of == number])
        for number in _IKE.findall(status)
    )


def _ike_sa(number: str, log: str, children: list[tuple[str, str, str]]) -> SaFacts:
    cipher, size, prf, groups = _last(_IKE_WORDS.format(number), log)
    ppk = f"#{number}: PPK AUTH calculated as " in log
    words = [f"{cipher}-{size}", f"PRF_{prf}", *_key_exchanges(groups), *(["PPK"] if ppk else [])]
    return SaFacts(
        number=number,
        established=True,
        initiator=f"#{number}: initiating IKEv2 connection" in log,
        spi_i="",
        spi_r="",
        algorithms="/".join(words),
        ppk=ppk,
        children=tuple(_child(child, out, into, log) for child, out, into in children),
    )


def _child(number: str, spi_out: str, spi_in: str, log: str) -> ChildFacts:
    esn, cipher, size, groups = _last(_CHILD_WORDS.format(number), log)
    words = [f"{cipher}-{size}", *_key_exchanges(groups), *(["ESN"] if esn else [])]
    return ChildFacts(
        name=CONNECTION,
        spi_in=spi_in.zfill(8),
        spi_out=spi_out.zfill(8),
        installed=True,
        algorithms="/".join(words),
    )


def _last(pattern: str, log: str) -> tuple[str, ...]:
    found: list[tuple[str, ...]] = re.findall(pattern, log)
    if not found:
        raise LabError(f"libreswan's log does not tell {pattern!r}")
    return found[-1]


def _key_exchanges(groups: str) -> list[str]:
    """``DH31`` or ``DH31+ML_KEM_768`` in our words."""
    first, *more = groups.split("+") if groups else [""]
    words = [OUR_WORD.get(first, first)] if first else []
    return words + [f"KE{slot}_{OUR_WORD.get(name, name)}" for slot, name in enumerate(more, 1)]
