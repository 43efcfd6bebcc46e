"""strongSwan's configuration and its ``--list-sas``, as text. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from netns_lab.peers import vici
from netns_lab.peers.facts import Child, ChildFacts, PeerSettings, Proof, SaFacts

CONNECTION = "qsgw"
"""Name of the one connection a peer has."""

PLUGINS = (
    "random nonce openssl pem pkcs1 pkcs8 x509 pubkey hmac kdf sha1 sha2 aes gcm "
    "drbg curve25519 constraints revocation kernel-netlink socket-default vici counters"
)

OUR_WORD: Mapping[str, str] = {
    "CURVE_25519": "X25519",
    "ECP_256": "P-256",
    "ECP_384": "P-384",
    "ML_KEM_512": "ML-KEM-512",
    "ML_KEM_768": "ML-KEM-768",
    "ML_KEM_1024": "ML-KEM-1024",
}
"""strongSwan's names of key exchanges, in qsgw's words."""


def daemon_file(settings: PeerSettings) -> str:
    """``strongswan.conf`` for charon-systemd: the log on standard error, little waiting."""
    cookies = "cookie_threshold = 1" if settings.cookies else ""
    return f"""\
charon-systemd {{
  load = {PLUGINS}
  install_routes = no
  retransmit_base = 1.4
  retransmit_timeout = 1.0
  retransmit_tries = 4
  {cookies}
  filelog {{
    stderr {{
      default = 1
      ike = 2
      cfg = 2
      knl = 1
      flush_line = yes
    }}
  }}
}}
swanctl {{
  load = random openssl pem pkcs1 pkcs8 x509 pubkey
}}
"""


def connections_file(settings: PeerSettings) -> str:
    """``swanctl.conf``: one connection, the pre-shared key, PPKs from files of their own."""
    ppk = [] if settings.ppk == "off" else [f"ppk_required = {_yes(settings.ppk == 'require')}"]
    if settings.ppk_id:
        ppk.append(f"ppk_id = {settings.ppk_id}")
    children = [line for child in settings.children for line in _child(child, settings)]
    body = [
        "version = 2",
        f"local_addrs = {settings.local}",
        f"remote_addrs = {settings.remote}",
        f"proposals = {settings.ike}",
        *ppk,
        "fragmentation = yes",
        "mobike = no",
        "keyingtries = 1",
        f"dpd_delay = {settings.liveness:g}s",
        f"rekey_time = {settings.rekey_ike:g}s",
        f"over_time = {LATE_SECONDS:g}s",
        *_block("local", [f"id = {settings.local_id}", *_shows(settings.local_proof)]),
        *_block("remote", [f"id = {settings.remote_id}", *_accepts(settings.remote_proof)]),
        *_block("children", children),
    ]
    secret = [
        f"id-1 = {settings.local_id}",
        f"id-2 = {settings.remote_id}",
        f'secret = "{settings.psk}"',
    ]
    lines = [
        *_block("connections", _block(CONNECTION, body)),
        *_block("secrets", _block("ike-psk", secret)),
        "include conf.d/*.conf",
    ]
    return "\n".join(lines) + "\n"


def ppk_file(key_id: str, key: bytes) -> str:
    """A PPK under its key_ID, to be put where ``connections_file`` includes it."""
    secret = [f"id = {key_id}", f"secret = 0x{key.hex()}"]
    return "\n".join(_block("secrets", _block(f"ppk-{key_id}", secret))) + "\n"


LATE_SECONDS, LATE_FACTOR = 60.0, 20
"""How late a rekey may be, where one is due after seconds or packets: the lab is slow."""

CERTIFICATE = "sun.pem"
"""Its own certificate, in the folder where swanctl looks for such."""


def _shows(proof: Proof) -> list[str]:
    return ["auth = psk"] if proof == "psk" else ["auth = pubkey", f"certs = {CERTIFICATE}"]


def _accepts(proof: Proof) -> list[str]:
    """A certificate is taken only where current CRLs say that it was not revoked."""
    return ["auth = psk"] if proof == "psk" else ["auth = pubkey", "revocation = strict"]


def _child(child: Child, settings: PeerSettings) -> list[str]:
    return _block(
        child.name,
        [
            f"local_ts = {','.join(child.local)}",
            f"remote_ts = {','.join(child.remote)}",
            f"esp_proposals = {settings.esp}",
            f"rekey_time = {settings.rekey_child:g}s",
            f"life_time = {settings.rekey_child + LATE_SECONDS if settings.rekey_child else 0:g}s",
            "rekey_bytes = 0",
            f"rekey_packets = {settings.rekey_packets}",
            f"life_packets = {LATE_FACTOR * settings.rekey_packets}",
            "mode = tunnel",
            "start_action = none",
            "close_action = none",
            "dpd_action = clear",
        ],
    )


def _block(name: str, lines: Sequence[str]) -> list[str]:
    return [f"{name} {{", *(f"  {line}" for line in lines), "}"]


def _yes(value: bool) -> str:
    return "yes" if value else "no"


# --- what it says --------------------------------------------------------------------------------


def sas(text: str) -> tuple[SaFacts, ...]:
    """IKE SAs in the output of ``swanctl --list-sas --pretty``."""
    found = []
    for title, message in vici.messages(text):
        if title.startswith("list-sa event"):
            found += [_sa(sa) for sa in message.values()]
    return tuple(found)


def _sa(sa: vici.Section) -> SaFacts:
    ppk = sa.get("ppk") == "yes"
    words = [_cipher(sa), sa.get("prf-alg", ""), *_key_exchanges(sa), *(["PPK"] if ppk else [])]
    children = tuple(_child_facts(child) for child in sa.get("child-sas", {}).values())
    return SaFacts(
        number=sa["uniqueid"],
        established=sa["state"] == "ESTABLISHED",
        initiator=sa.get("initiator") == "yes",
        spi_i=sa["initiator-spi"],
        spi_r=sa["responder-spi"],
        algorithms="/".join(words),
        ppk=ppk,
        children=children,
    )


def _child_facts(child: vici.Section) -> ChildFacts:
    esn = ["ESN"] if child.get("esn") in ("1", "yes") else []
    return ChildFacts(
        name=child["name"],
        spi_in=child.get("spi-in", ""),
        spi_out=child.get("spi-out", ""),
        installed=child["state"] == "INSTALLED",
        algorithms="/".join([_cipher(child), *_key_exchanges(child), *esn]),
    )


def _cipher(section: vici.Section) -> str:
    name, size = section.get("encr-alg", ""), section.get("encr-keysize")
    return f"{name}-{size}" if size else f"{name}"


def _key_exchanges(section: vici.Section) -> list[str]:
    """The key exchange and the additional ones (RFC 9370), in our words."""
    first = section.get("dh-group", section.get("ke", ""))
    words = [OUR_WORD.get(first, first)] if first else []
    for slot in range(1, 8):
        name = section.get(f"ake{slot}", "")
        if name:
            words.append(f"KE{slot}_{OUR_WORD.get(name, name)}")
    return words
