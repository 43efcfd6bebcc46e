"""``qsgw pki``: certificates for gateways and for the clients of KMEs. Needs no daemon."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from gateway.control.protocol import SCHEMA, ExitCode
from gateway.control.text import clean
from gateway.errors import ControlError

ALGORITHMS = ("ecdsa-p256", "ecdsa-p384", "ed25519", "rsa-3072", "ml-dsa-65", "ml-dsa-87")
USAGES = ("ike", "kme-client", "kme-server")
DEFAULT_ALGORITHM = "ecdsa-p384"
CA_DAYS, LEAF_DAYS, CRL_DAYS = 3650, 365, 30


def add_parser(
    parser: argparse.ArgumentParser,
    common: Callable[[argparse.ArgumentParser], None],
) -> None:
    """``common`` adds the options every verb has."""
    actions = parser.add_subparsers(metavar="ACTION", required=True, parser_class=type(parser))

    def action(name: str, summary: str) -> argparse.ArgumentParser:
        added = actions.add_parser(name, help=summary, description=summary)
        common(added)
        return added

    init = action("init", "make a CA and its CRL")
    _folder(init)
    _algorithm(init, default=DEFAULT_ALGORITHM)
    init.add_argument("--name", default="qsgw CA", help="common name of the CA")
    init.add_argument("--intermediate", action="store_true", help="with an intermediate CA below")
    _days(init, CA_DAYS)
    _force(init)
    init.set_defaults(run=run_init)

    issue = action("issue", "make a key and a certificate")
    issue.add_argument("name", metavar="NAME", help="common name, and name of the files")
    _folder(issue)
    _algorithm(issue, default=None)
    issue.add_argument(
        "--san",
        action="append",
        default=[],
        metavar="TYPE:VALUE",
        help="subjectAltName: DNS:, IP:, email: or URI:; may be repeated",
    )
    issue.add_argument("--subject", metavar="DN", help="instead of CN=NAME, e.g. CN=sun,O=Example")
    issue.add_argument("--usage", choices=USAGES, default="ike", help="what it is for (ike)")
    _days(issue, LEAF_DAYS)
    _force(issue)
    issue.set_defaults(run=run_issue)

    revoke = action("revoke", "put a certificate on the CRL")
    revoke.add_argument("target", metavar="NAME|FILE")
    _folder(revoke)
    revoke.set_defaults(run=run_revoke)

    crl = action("crl", "sign the CRLs again, before they are out of date")
    _folder(crl)
    _days(crl, CRL_DAYS)
    crl.set_defaults(run=run_crl)

    show = action("show", "show certificates, CRLs and kinds of keys in a file")
    show.add_argument("file", metavar="FILE")
    show.set_defaults(run=run_show)


def _folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", default=".", metavar="DIR", help="folder of the PKI (.)")


def _algorithm(parser: argparse.ArgumentParser, default: str | None) -> None:
    parser.add_argument(
        "--algorithm",
        choices=ALGORITHMS,
        default=default,
        metavar="NAME",
        help=f"{', '.join(ALGORITHMS)} ({default or 'as the CA'})",
    )


def _days(parser: argparse.ArgumentParser, default: int) -> None:
    parser.add_argument("--days", type=int, default=default, help=f"how long it lasts ({default})")


def _force(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--force", action="store_true", help="overwrite what is there")


def run_init(arguments: argparse.Namespace) -> int:
    from gateway.pki import site  # noqa: PLC0415  heavy
    from kms_client.certificates import KeyAlgorithm  # noqa: PLC0415

    made = site.init(
        Path(arguments.out),
        name=arguments.name,
        algorithm=KeyAlgorithm(arguments.algorithm),
        intermediate=arguments.intermediate,
        days=_checked(arguments.days),
        force=arguments.force,
    )
    return _made(arguments, made)


def run_issue(arguments: argparse.Namespace) -> int:
    from cryptography import x509  # noqa: PLC0415  heavy

    from gateway.pki import site  # noqa: PLC0415
    from kms_client.certificates import KeyAlgorithm  # noqa: PLC0415

    try:
        names = tuple(site.alternative_name(text) for text in arguments.san)
        subject = arguments.subject and x509.Name.from_rfc4514_string(arguments.subject)
    except ValueError as error:
        raise ControlError(str(error) or "--subject is not a DN", ExitCode.USAGE) from error
    order = site.Order(
        name=arguments.name,
        algorithm=arguments.algorithm and KeyAlgorithm(arguments.algorithm),
        days=_checked(arguments.days),
        alternatives=names,
        subject=subject or None,
        usage=arguments.usage,
    )
    return _made(arguments, site.issue(Path(arguments.out), order, force=arguments.force))


def run_revoke(arguments: argparse.Namespace) -> int:
    from gateway.pki import site  # noqa: PLC0415  heavy

    return _made(arguments, (site.revoke(Path(arguments.out), arguments.target),))


def run_crl(arguments: argparse.Namespace) -> int:
    from gateway.pki import site  # noqa: PLC0415  heavy

    made = site.renew_crls(Path(arguments.out), days=_checked(arguments.days))
    if not made:
        raise ControlError(f"{arguments.out}: there is no CA")
    return _made(arguments, made)


def run_show(arguments: argparse.Namespace) -> int:
    from gateway.pki.show import lines, show  # noqa: PLC0415  heavy

    entries = show(Path(arguments.file))
    if arguments.json:
        print(json.dumps({"schema": SCHEMA, "file": arguments.file, "entries": entries}))
        return ExitCode.OK
    for entry in entries:
        print("\n".join(clean(line) for line in lines(entry)))
    return ExitCode.OK


def _checked(days: int) -> int:
    if not 1 <= days <= 10 * CA_DAYS:
        raise ControlError(f"--days {days}: 1 to {10 * CA_DAYS}", ExitCode.USAGE)
    return days


def _made(arguments: argparse.Namespace, paths: tuple[Path, ...]) -> int:
    if arguments.json:
        print(json.dumps({"schema": SCHEMA, "files": [str(path) for path in paths]}))
    else:
        for path in paths:
            print(path)
    return ExitCode.OK
