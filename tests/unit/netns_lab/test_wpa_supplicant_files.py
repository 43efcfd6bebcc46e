"""wpa_supplicant's configuration and status as text."""

from __future__ import annotations

from netns_lab.peers import wpa_supplicant_files as files
from netns_lab.peers.mka import MkaFacts, MkaSettings

SETTINGS = MkaSettings(
    interface="moon",
    address="10.9.3.2/30",
    routes=(("10.1.0.0/24", "10.9.3.1"),),
    cak="0a" * 16,
    ckn="6d6f",
    priority=32,
)

STATUS = """\
bssid=01:80:c2:00:00:03
wpa_state=COMPLETED
PAE KaY status=Active
Authenticated=No
Secured=Yes
Is Key Server=No
actor_sci=de:1a:98:f1:91:2f@1
key_server_sci=ca:73:ba:0e:ca:03@1
ckn=96437a93ccf10d9dfe347846cce52c7d
live_peers=1
is_key_server=Yes
"""


def test_the_file_has_what_both_ends_agreed_and_repr_does_not_tell_the_cak() -> None:
    lines = [line.strip() for line in files.configuration(SETTINGS).splitlines()]
    assert {"mka_cak=" + "0a" * 16, "mka_ckn=6d6f", "mka_priority=32"} <= set(lines)
    assert "macsec_integ_only=0" in lines
    assert "0a0a" not in repr(SETTINGS)


def test_status_is_read_and_the_participant_says_who_is_key_server() -> None:
    assert files.facts(STATUS) == MkaFacts(
        secured=True,
        is_key_server=True,  # "Is Key Server" is never Yes
        key_server="ca73ba0eca030001",
        sci="de1a98f1912f0001",
        ckn="96437a93ccf10d9dfe347846cce52c7d",
        live_peers=1,
    )


def test_a_status_before_there_is_a_participant_says_nothing() -> None:
    said = files.facts("wpa_state=INACTIVE\nuuid=7803cf73\n")
    assert (said.secured, said.live_peers, said.key_server) == (False, 0, "")


def test_its_kernel_has_the_key_number_the_other_way_round() -> None:
    assert files.key_id("a4ecaad9839ac5e0c9c19e9e" + "01000000") == (
        "a4ecaad9839ac5e0c9c19e9e" + "00000001"
    )
