"""One probe from beginning to end."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from kms_client.tls import TlsFiles, client_context
from qkd_adapters.probe.checks import MasterSide
from qkd_adapters.probe.findings import Findings, Verdict
from qkd_adapters.probe.slave import SlaveSide
from qkd_adapters.probe.wire import Wire

TIMEOUT = 10.0  # seconds for a request; some KMEs relay a key before they answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A KME and the SAE that asks it."""

    url: str
    files: TlsFiles


async def probe(
    master: Side,
    *,
    peer: str,
    slave: Side | None = None,
    own: str | None = None,
    retention: float = 0.0,
) -> Findings:
    """Ask as the SAE of ``master`` for keys shared with ``peer``, and as ``slave`` for the same.

    ``own``: our SAE_ID, as the slave's KME knows it; by default what Status says. ``retention``:
    seconds to let one key lie. Raises TlsMaterialError.
    """
    findings = Findings(url=master.url, second_url=slave.url if slave else None, peer=peer)
    context = client_context(master.files)
    wire = Wire(master.url, context, timeout=TIMEOUT)
    bare = Wire(master.url, _without_certificate(master.files), timeout=TIMEOUT)
    wires = [wire, bare]
    side = MasterSide(wire, findings, peer)
    try:
        if not await side.check_connection(bare):
            return findings
        await side.check_keys()
        await side.check_refusals()
        name = own or str(side.status.get("master_SAE_ID", ""))
        if slave is None or not name or not findings.keys:
            findings.row(
                "Get key with key IDs",
                "5.4",
                "the same keys",
                _why_not(slave, name),
                Verdict.NOT_TESTED,
            )
            return findings
        wires.append(Wire(slave.url, client_context(slave.files), timeout=TIMEOUT))
        await SlaveSide(wires[-1], findings, side, name).check(retention=retention)
    finally:
        for each in wires:
            await each.close()
    return findings


def _why_not(slave: Side | None, name: str) -> str:
    if slave is None:
        return "--second-url with the slave's certificate tries it"
    return "no key was given" if name else "--own with our SAE_ID is needed: there is no status"


def _without_certificate(files: TlsFiles) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=files.ca)
