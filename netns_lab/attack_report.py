"""What the attack demonstration measured: its report, its table for people, its verdict."""

from __future__ import annotations

from dataclasses import dataclass

from netns_lab.report import Check, TrialReport

SCHEMA = 1
REPLACED_SECONDS = 2.0
"""Within so long of the alarm the SAs a suspicion taints have to be replaced at both ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """One attack on one link, from its start until the tunnel was as before.

    ``expected``: the alarm it has to raise; None where the link cannot see it. Times in
    seconds. What did not happen, and was not to, is None.
    """

    attack: str
    link: str
    tunnel: str
    expected: str | None
    raised: tuple[str, ...]  # identifiers of all alarms while it lasted
    text: str  # of the expected alarm
    suspicion: bool  # the keys made meanwhile are tainted, not just missing
    blocks_to_alarm: int | None  # from the first block under attack on
    seconds_to_alarm: float | None
    quarantined: int  # keys withdrawn, both KMEs together
    fell_back_to: str | None  # protection at both gateways
    seconds_to_fall_back: float | None  # from the alarm; a loss uses up stored keys first
    seconds_to_return: float | None  # from the end of the attack to HYBRID
    keys_while_unseen: int = 0  # QKD keys that went into SAs while nothing was noticed

    @property
    def holds(self) -> bool:
        if self.expected is None:
            return not self.raised and self.fell_back_to is None and self.keys_while_unseen > 0
        in_time = self.seconds_to_fall_back is not None and (
            not self.suspicion or self.seconds_to_fall_back <= REPLACED_SECONDS
        )
        return (
            self.raised == (self.expected,)
            and self.fell_back_to == "PQC_ONLY"
            and in_time
            and (self.quarantined > 0 or not self.suspicion)
            and self.seconds_to_return is not None
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackReport(TrialReport):
    episodes: tuple[Episode, ...]
    protection: dict[str, tuple[str, ...]]  # tunnel -> what both gateways showed, in order
    packets_sent: int
    packets_lost: int
    keys_made: dict[str, int]  # link -> 256-bit keys both devices handed to their KMEs
    qkd_keys_reused: int
    plaintext_packets_seen: int
    packets_at_isp: dict[str, int]
    esp_sas_decrypted: int
    esp_decrypted_by_scapy: bool
    xfrm_errors: int

    def checks(self) -> list[Check]:
        """Everything the demonstration promises, in the order of the table."""
        sent, lost = self.packets_sent, self.packets_lost
        made = ", ".join(f"{link} {count}" for link, count in self.keys_made.items())
        return [
            *(
                Check(f"{each.link}: {each.attack}", told(each), each.holds)
                for each in self.episodes
            ),
            Check("packets sent / lost", f"{sent} / {lost}", sent > 0 and lost == 0),
            Check("keys made of light", made, all(self.keys_made.values())),
            Check("QKD keys reused", str(self.qkd_keys_reused), self.qkd_keys_reused == 0),
            Check(
                "plaintext seen at isp",
                f"{self.plaintext_packets_seen} packets",
                self.plaintext_packets_seen == 0 and self.packets_at_isp.get("esp", 0) > 0,
            ),
            Check(
                "ESP decrypted by scapy",
                f"{self.esp_sas_decrypted} SAs, with the keys both ends claim",
                self.esp_decrypted_by_scapy,
            ),
            Check("XFRM errors", str(self.xfrm_errors), self.xfrm_errors == 0),
            Check(
                "key bytes in artifacts",
                f"{self.key_bytes_in_artifacts} ({self.keys_searched_for} keys searched for)",
                self.key_bytes_in_artifacts == 0 and self.keys_searched_for > 0,
            ),
        ]  # fmt: skip


def told(episode: Episode) -> str:
    """One episode in a line."""
    if episode.expected is None:
        return (
            f"no alarm; {episode.keys_while_unseen} more keys went into SAs "
            "that an eavesdropper knows"
        )
    blocks = "?" if episode.blocks_to_alarm is None else str(episode.blocks_to_alarm)
    text = f"{', '.join(episode.raised) or 'no alarm'} after {blocks} blocks"
    if episode.suspicion:
        text += f", {episode.quarantined} keys withdrawn"
    if episode.seconds_to_fall_back is not None:
        text += f", {episode.fell_back_to} {episode.seconds_to_fall_back:.2f} s later"
    if episode.seconds_to_return is not None:
        text += f", HYBRID {episode.seconds_to_return:.1f} s after its end"
    return text
