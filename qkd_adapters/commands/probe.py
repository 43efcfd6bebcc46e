"""``qsgw-kme probe``: hold a KME against ETSI GS QKD 014 and propose a profile."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from kms_client.tls import TlsFiles
from qkd_adapters.commands.groups import Subparsers
from qkd_adapters.commands.output import print_json


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "probe",
        help="hold any KME against ETSI GS QKD 014 V1.1.1",
        description="Uses up 6 keys, 11 with --second-url, more where the KME gives keys it should "
        "refuse; says how many. Exit code 1: a row fails.",
    )
    parser.add_argument("url", metavar="https://ADDRESS:PORT[/PATH]")
    for name, what in (("ca", "that signs the KME"), ("certificate", "ours"), ("key", "ours")):
        parser.add_argument(f"--{name}", type=Path, required=True, metavar="FILE", help=what)
    parser.add_argument("--peer", required=True, metavar="SAE", help="SAE at the other end")
    parser.add_argument("--second-url", metavar="URL", help="the other end's KME")
    for name in ("ca", "certificate", "key"):
        parser.add_argument(
            f"--second-{name}", type=Path, metavar="FILE", help=f"{name} for --second-url"
        )
    parser.add_argument("--own", metavar="SAE", help="our SAE_ID, if status does not tell")
    parser.add_argument(
        "--retention",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="let a key lie so long before the slave fetches it",
    )
    parser.add_argument("--json", action="store_true")
    parser.set_defaults(run=_probe, parser=parser)


def _probe(arguments: argparse.Namespace) -> int:
    from qkd_adapters.probe.advice import advise  # noqa: PLC0415  (aiohttp takes 160 ms to import)
    from qkd_adapters.probe.findings import Verdict  # noqa: PLC0415  (as above)
    from qkd_adapters.probe.report import table  # noqa: PLC0415  (as above)
    from qkd_adapters.probe.run import Side, probe  # noqa: PLC0415  (as above)

    files = TlsFiles(ca=arguments.ca, certificate=arguments.certificate, key=arguments.key)
    slave = None
    if arguments.second_url is not None:
        if arguments.second_certificate is None or arguments.second_key is None:
            arguments.parser.error("--second-url needs --second-certificate and --second-key")
        slave = Side(
            url=arguments.second_url,
            files=TlsFiles(
                ca=arguments.second_ca or arguments.ca,
                certificate=arguments.second_certificate,
                key=arguments.second_key,
            ),
        )
    findings = asyncio.run(
        probe(
            Side(url=arguments.url, files=files),
            peer=arguments.peer,
            slave=slave,
            own=arguments.own,
            retention=arguments.retention,
        )
    )
    if arguments.json:
        advice = advise(findings)
        print_json(findings.as_json() | {"profile": advice.profile, "notes": list(advice.notes)})
    else:
        print(table(findings))
    return int(findings.count(Verdict.FAIL) > 0)
