"""wpa_supplicant's configuration and its ``status``, as text. No I/O."""

from __future__ import annotations

from netns_lab.peers.mka import MkaFacts, MkaSettings

CONTROL = "/run/wpa_supplicant"
"""Folder of its control sockets."""

_MI_SIZE = 24  # hexadecimal digits


def configuration(settings: MkaSettings) -> str:
    """``wpa_supplicant.conf``: one wired network, whose CAK and CKN are agreed by hand."""
    return f"""\
ctrl_interface={CONTROL}
p2p_disabled=1
eapol_version=3
ap_scan=0
network={{
  key_mgmt=NONE
  eapol_flags=0
  macsec_policy=1
  macsec_integ_only={int(not settings.encryption)}
  mka_cak={settings.cak}
  mka_ckn={settings.ckn}
  mka_priority={settings.priority}
}}
"""


def facts(status: str) -> MkaFacts:
    """What ``wpa_cli status`` says; of what it does not say, nothing."""
    said = dict(line.split("=", 1) for line in status.splitlines() if "=" in line)
    return MkaFacts(
        secured=said.get("Secured") == "Yes",
        is_key_server=said.get("is_key_server") == "Yes",
        key_server=sci(said.get("key_server_sci", "")),
        sci=sci(said.get("actor_sci", "")),
        ckn=said.get("ckn", ""),
        live_peers=int(said.get("live_peers", "0")),
    )


def sci(text: str) -> str:
    """``02:00:00:00:00:01@1`` as 16 hexadecimal digits."""
    mac, _, port = text.partition("@")
    return f"{mac.replace(':', '')}{int(port):04x}" if port else ""


def key_id(kernel: str) -> str:
    """It writes the KN in the machine's byte order, little-endian on all that we run on."""
    kn = bytes.fromhex(kernel[_MI_SIZE:])
    return kernel[:_MI_SIZE] + kn[::-1].hex()
