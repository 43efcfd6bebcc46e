"""The files of two gateways side by side: what their ends of a MACsec link do not agree on.

Each end refuses what does not fit without a word to the other (802.1X 11.11.2), so that two logs
are needed to see it; here one look does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gateway.config.partial import attempt, readable
from gateway.config.problems import Problems, TableProblems
from gateway.config.schema import GatewayConfig, MacsecConfig, Start, StaticCak, TunnelConfig
from gateway.crypto.secret import Secret
from gateway.ike.credentials import LocalAuth, RemoteAuth, SharedKey
from gateway.mka.limits import PRIORITY_NEVER
from gateway.model import QkdPolicy


@dataclass(frozen=True, slots=True)
class End:
    """A file as far as it could be read, and what is wrong with it."""

    config: GatewayConfig
    problems: Problems

    def connection(self, link: MacsecConfig) -> TunnelConfig | None:
        """The one that gives the link's CAKs, as far as it could be read."""
        found = self.config.tunnels.get(link.connection or "")
        return None if found is None else readable(found, self.problems, found.table)

    def links(self) -> tuple[MacsecConfig, ...]:
        """Those of which can be said whom they lead to."""
        found = []

        def look(link: MacsecConfig) -> None:
            connection = self.connection(link)
            _ = (link.link, link.static, connection and (connection.local_id, connection.remote_id))
            found.append(link)

        for link in self.config.macsec.values():
            attempt(look, readable(link, self.problems, link.table))
        return tuple(found)


def compare(ours: End, theirs: End) -> Problems:
    """What is wrong between the two, told of our tables; theirs are named with their file."""
    found = Problems()
    pairs = list(_pairs(ours, theirs, found))
    for link, other in pairs:
        at = found.at(link.table)
        for check in (_check_caks, _check_key_server, _check_suites, _check_confidentiality):
            attempt(check, at, link, other)
        attempt(_check_addresses, at, link, other)
        connection, back = ours.connection(link), theirs.connection(other)
        if connection is not None and back is not None:
            at = found.at(connection.table)
            attempt(_check_start, at, connection, back)
            attempt(_check_psk, at, connection, back)
            attempt(_check_qkd, at, connection, back)
            attempt(_check_sae, at, connection, theirs)
    if not pairs and not found.errors:
        found.at("macsec").warn("", f"no link in common with {theirs.config.file}")
    return found


def _pairs(ours: End, theirs: End, found: Problems) -> Iterator[tuple[MacsecConfig, MacsecConfig]]:
    """Links that are meant to be one. Those that have no other end are told."""
    met = set()
    for link in ours.links():
        facing = [other for other in theirs.links() if _faces(ours, link, theirs, other)]
        same = [other for other in facing if _one_link(link, other)]
        met |= {other.name for other in same}
        yield from ((link, other) for other in same)
        if facing and not same:
            names = ", ".join(sorted({f'"{other.link}"' for other in facing}))
            text = f'nothing is called "{link.link}" in {theirs.config.file}; it has {names}'
            found.at(link.table).error("link", text)
    for other in theirs.links():
        facing = [link for link in ours.links() if _faces(ours, link, theirs, other)]
        if facing and other.name not in met and other.static is None:
            text = (
                f'{theirs.config.file}: [{other.table}] is called "{other.link}": no link here is'
            )
            found.at("macsec").error("", text)


def _faces(ours: End, link: MacsecConfig, theirs: End, other: MacsecConfig) -> bool:
    """Whether the one's CAKs come from the same IKE SAs as the other's, or are one by hand."""
    if link.static is not None and other.static is not None:
        return link.static.ckn == other.static.ckn
    connection, back = ours.connection(link), theirs.connection(other)
    if connection is None or back is None:
        return False
    there = (connection.local_id.casefold(), connection.remote_id.casefold())
    return there == (back.remote_id.casefold(), back.local_id.casefold())


def _one_link(link: MacsecConfig, other: MacsecConfig) -> bool:
    return link.static is not None or link.link == other.link


# --- the link ----------------------------------------------------------------------------------


def _check_caks(at: TableProblems, link: MacsecConfig, other: MacsecConfig) -> None:
    if link.static is not None and other.static is not None:
        if _known(link.static) and _known(other.static) and link.static.cak != other.static.cak:
            at.error("cak", f"differs from that of [{other.table}] at the other end")
    elif link.cak_size != other.cak_size:
        at.error("cak_bits", f"{8 * link.cak_size} here, {8 * other.cak_size} at the other end")


def _known(static: StaticCak) -> bool:
    """Whether the CAK was read, and is not what stands in for it."""
    return any(static.cak.expose())


def _check_key_server(at: TableProblems, link: MacsecConfig, other: MacsecConfig) -> None:
    if link.priority == other.priority == PRIORITY_NEVER:
        at.error("priority", f"{PRIORITY_NEVER} at both ends: nobody makes a SAK")


def _check_suites(at: TableProblems, link: MacsecConfig, other: MacsecConfig) -> None:
    """With equal priorities either end may be key server."""
    if link.priority <= other.priority and link.suite not in other.accept:
        at.error("suite", f"{link.suite.name} is not accepted at the other end")
    if other.priority <= link.priority and other.suite not in link.accept:
        at.error("accept", f"lacks {other.suite.name}, the suite of the other end")


def _check_confidentiality(at: TableProblems, link: MacsecConfig, other: MacsecConfig) -> None:
    if link.encrypt == other.encrypt:
        return
    if link.encrypt and other.priority <= link.priority:
        at.error("encryption", "the other end does without, which we do not take")
    if other.encrypt and link.priority <= other.priority:
        at.error("encryption", "the other end wants it, and takes nothing less")


def _check_addresses(at: TableProblems, link: MacsecConfig, other: MacsecConfig) -> None:
    theirs = {address.ip for address in other.addresses}
    for address in link.addresses:
        same = [there for there in other.addresses if there.version == address.version]
        if address.ip in theirs:
            at.error("addresses", f"{address.ip} is that of the other end as well")
        elif same and not any(there.ip in address.network for there in same):
            at.warn("addresses", f"{address} reaches no address of the other end")


# --- its connection ----------------------------------------------------------------------------


def _check_start(at: TableProblems, ours: TunnelConfig, theirs: TunnelConfig) -> None:
    if ours.start is theirs.start is Start.RESPOND:
        at.warn("start", '"respond" at both ends: it waits for qsgw initiate')


def _check_psk(at: TableProblems, ours: TunnelConfig, theirs: TunnelConfig) -> None:
    for one, other in (
        (_psk(ours.local_auth), _psk(theirs.remote_auth)),
        (_psk(ours.remote_auth), _psk(theirs.local_auth)),
    ):
        if one is not None and other is not None and one != other:
            at.error("psk", f"differs from that of [{theirs.table}] at the other end")
            return


def _psk(auth: LocalAuth | RemoteAuth) -> Secret | None:
    """None where there is none, or it could not be read."""
    return auth.key if isinstance(auth, SharedKey) and len(auth.key) else None


def _check_qkd(at: TableProblems, ours: TunnelConfig, theirs: TunnelConfig) -> None:
    if {ours.qkd, theirs.qkd} == {QkdPolicy.REQUIRE, QkdPolicy.OFF}:
        at.error("qkd", f'"{ours.qkd}" here, "{theirs.qkd}" at the other end')


def _check_sae(at: TableProblems, ours: TunnelConfig, theirs: End) -> None:
    gateway = readable(theirs.config.gateway, theirs.problems, "gateway")
    if ours.qkd is not QkdPolicy.OFF and ours.peer_sae != gateway.sae_id:
        at.error("peer_sae", f'"{ours.peer_sae}" calls itself "{gateway.sae_id}"')
