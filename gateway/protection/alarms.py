"""Which alarms stand, as a function of what is so; raised and cleared by comparison."""

from __future__ import annotations

from gateway.model import Protection, QkdPolicy, Severity
from gateway.protection.facts import TunnelFacts
from gateway.protection.table import State

FOLLOWED = ("blocked", "tunnel-down")
"""Raised again, with the new text, when the reason changes."""


def standing_alarms(facts: TunnelFacts, shown: Protection) -> dict[str, tuple[Severity, str]]:
    """Alarm id -> severity and text, for one tunnel that shows this protection.

    Loss and suspicion stand until QKD was healthy for a whole dwell, and ``blocked`` until
    the tunnel is up again, so a link that comes and goes raises one alarm, not many. The text
    of ``blocked`` and ``tunnel-down`` follows what was found out last.
    """
    alarms: dict[str, tuple[Severity, str]] = {}
    reason = facts.last_reason
    # Without tunnels nothing is known here of traffic: what the IKE SA's keys protect goes on.
    what = facts.settings.what
    effect = "there is no IKE SA" if facts.settings.childless else "traffic is dropped"
    if facts.settings.qkd is not QkdPolicy.OFF:
        if facts.quantum.loss_noted:
            alarms["qkd-loss"] = (Severity.WARNING, facts.quantum.reason)
        if facts.quantum.suspicion_noted:
            alarms["qkd-suspect"] = (Severity.CRITICAL, facts.quantum.reason)
        if shown is Protection.PQC_ONLY:
            alarms["pqc-only"] = (Severity.WARNING, f"no QKD key in the {what}: {reason}")
    if shown is Protection.CLASSICAL:
        text = "no protection against quantum computers"
        if facts.state is State.HYBRID:
            text = f"no ML-KEM in the {what}: against quantum computers it has the QKD key alone"
        alarms["classical"] = (Severity.WARNING, text)
    if facts.state is State.STOPPED:
        return alarms
    if facts.held_back:
        alarms["blocked"] = (Severity.CRITICAL, f"{effect}: {facts.trouble}")
    elif facts.state is State.DOWN and facts.troubled:
        alarms["tunnel-down"] = (Severity.CRITICAL, f"{effect}: {facts.trouble}")
    return alarms
