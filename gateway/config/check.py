"""What must hold between the keys of a configuration, and between its tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gateway.config.meetings import meetings
from gateway.config.partial import attempt, readable
from gateway.config.problems import Problems, TableProblems, did_you_mean
from gateway.config.schema import GatewaySettings, KmeConfig, Start, TunnelConfig
from gateway.config.units import parse_address
from gateway.model import EspMode, IpAddress, IpNetwork, QkdPolicy

if TYPE_CHECKING:
    from gateway.ike.proposals import ProposalSpec
    from gateway.ike.registry import KeMethod


def check_config(
    gateway: GatewaySettings | None,
    tunnels: Mapping[str, TunnelConfig],
    kmes: Mapping[str, KmeConfig],
    *,
    kme_names: frozenset[str],
    problems: Problems,
) -> None:
    """Add what is wrong to ``problems``, as far as values that could not be read allow.

    ``kme_names`` are all KMEs the file names, those with errors of their own included.
    """
    ours = readable(gateway, problems, "gateway")
    read = {
        name: readable(one, problems, one.table, f"tunnel.{one.connection}")
        for name, one in tunnels.items()
    }
    for name, tunnel in read.items():
        at = problems.at(tunnels[name].table)
        if tunnels[name].shares is None:
            attempt(_check_local, at, tunnel, ours)
            attempt(_check_addresses, at, tunnel)
            attempt(_check_identities, at, tunnel)
            attempt(_check_fragment_size, at, tunnel)
        if not tunnels[name].childless:
            attempt(_check_networks, at, tunnel)
        attempt(_check_own_traffic, at, tunnel)
        attempt(_check_kmes, at, tunnel, kme_names)
        attempt(_check_peer_sae, at, tunnel, ours)
        attempt(_check_reserve, at, tunnel)
        attempt(_check_rekey_times, at, tunnel)
        attempt(_check_times, at, tunnel)
        attempt(_check_proposals, at, tunnel)
        for kme, table in kmes.items():
            kme_read = readable(table, problems, f"kme.{kme}")
            attempt(_check_key_traffic, at, tunnel, kme, kme_read)
    for first, second in meetings(read):
        at = problems.at(tunnels[second].table)
        attempt(_check_pair, at, read[first], read[second], first)
        attempt(_check_same_ends, at, read[first], read[second], first)
    _check_reqids(tunnels, problems)
    if not problems.errors:
        for name in kmes.keys() - {name for tunnel in tunnels.values() for name in tunnel.kmes}:
            problems.at(f"kme.{name}").warn("", "no tunnel names this KME in its kmes")


def _check_local(at: TableProblems, tunnel: TunnelConfig, gateway: GatewaySettings) -> None:
    if tunnel.local not in gateway.listen:
        known = ", ".join(str(address) for address in gateway.listen)
        at.error("local", f"{tunnel.local} is not in [gateway] listen ({known})")


def _check_addresses(at: TableProblems, tunnel: TunnelConfig) -> None:
    if tunnel.local.version != tunnel.remote.version:
        at.error(
            "remote",
            f"{tunnel.remote} is IPv{tunnel.remote.version} and local {tunnel.local} is "
            f"IPv{tunnel.local.version}: both ends of a tunnel are of one version",
        )
    if tunnel.local == tunnel.remote:
        at.error("remote", f"{tunnel.remote} is our own address")


def _check_fragment_size(at: TableProblems, tunnel: TunnelConfig) -> None:
    from gateway.ike.cutting import SMALLEST  # noqa: PLC0415  only when a file is checked
    from gateway.ike.limits import FRAGMENT_SIZE_MAX  # noqa: PLC0415  as above

    smallest = SMALLEST[tunnel.local.version]
    if not smallest <= tunnel.fragment_size <= FRAGMENT_SIZE_MAX:
        at.error(
            "fragment_size",
            f"{tunnel.fragment_size} is not between {smallest} octets, which every "
            f"IPv{tunnel.local.version} path takes, and {FRAGMENT_SIZE_MAX}",
        )


def _check_networks(at: TableProblems, tunnel: TunnelConfig) -> None:
    for key, networks in (
        ("local_subnets", tunnel.local_subnets),
        ("remote_subnets", tunnel.remote_subnets),
    ):
        for first, second in combinations(networks, 2):
            if _overlap(first, second):
                at.error(key, f"{second} overlaps {first}: one of them is enough")
    versions = {n.version for n in tunnel.local_subnets}
    if versions.isdisjoint(n.version for n in tunnel.remote_subnets):
        at.error("remote_subnets", "local_subnets and remote_subnets share no IP version")
    for network in set(tunnel.local_subnets) & set(tunnel.remote_subnets):
        at.error("remote_subnets", f"{network} is on both sides")


def _check_own_traffic(at: TableProblems, tunnel: TunnelConfig) -> None:
    """Policies know no interfaces: they also catch what never was to leave the own link.

    IPv6 needs IP packets to find a neighbour (RFC 4861), where IPv4 has ARP.
    """
    if _contains(tunnel.local_subnets, tunnel.local) and _contains(
        tunnel.remote_subnets, tunnel.remote
    ):
        more = "; on one link they cannot find each other then" if tunnel.local.version == 6 else ""
        if more or tunnel.mode is EspMode.TUNNEL:
            at.warn(
                "remote_subnets",
                f"both gateways' own addresses ({tunnel.local}, {tunnel.remote}) lie inside the "
                f"tunnel{more}",
            )
    for selector in _selectors(tunnel):
        if selector.local != selector.remote and _overlap(selector.local, selector.remote):
            more = ", neighbour discovery included" if selector.local.version == 6 else ""
            at.warn(
                "remote_subnets",
                f"{selector.remote} overlaps {selector.local} of local_subnets: traffic between "
                f"hosts there and this gateway is taken for the tunnel's and lost{more}",
            )


def _check_kmes(at: TableProblems, tunnel: TunnelConfig, known: frozenset[str]) -> None:
    for name in tunnel.kmes:
        if name not in known:
            at.error("kmes", f"there is no [kme.{name}]{did_you_mean(name, known)}")
    if len(set(tunnel.kmes)) != len(tunnel.kmes):
        at.error("kmes", "names a KME twice")
    if tunnel.qkd is not QkdPolicy.OFF and not tunnel.kmes:
        at.error("kmes", f'qkd = "{tunnel.qkd}" needs at least one KME; or write qkd = "off"')


def _check_peer_sae(at: TableProblems, tunnel: TunnelConfig, gateway: GatewaySettings) -> None:
    if tunnel.qkd is QkdPolicy.OFF:
        return
    if not tunnel.peer_sae:
        at.error("peer_sae", f'qkd = "{tunnel.qkd}" needs the SAE_ID of the peer')
    elif tunnel.peer_sae == gateway.sae_id:
        at.error("peer_sae", f'"{tunnel.peer_sae}" is our own [gateway] sae_id')


def _check_reserve(at: TableProblems, tunnel: TunnelConfig) -> None:
    if tunnel.qkd is not QkdPolicy.OFF and tunnel.key_reserve >= tunnel.pool_target:
        at.error(
            "key_reserve",
            f"{tunnel.key_reserve} of pool_target = {tunnel.pool_target} keys kept back leaves "
            "none to use: make it smaller",
        )


def _check_rekey_times(at: TableProblems, tunnel: TunnelConfig) -> None:
    if tunnel.rekey_min > tunnel.rekey_max:
        at.error(
            "rekey_min",
            f"{tunnel.rekey_min:g} s is more than rekey_max = {tunnel.rekey_max:g} s",
        )


def _check_times(at: TableProblems, tunnel: TunnelConfig) -> None:
    if tunnel.idle_timeout is not None and tunnel.start is Start.INITIATE:
        at.error(
            "idle_timeout",
            'a tunnel with start = "initiate" would be set up again at once: write start = "trap"',
        )
    if tunnel.liveness == 0:
        at.warn(
            "liveness",
            "a peer that is gone is noticed only when it does not answer a rekey, after up to "
            f"{tunnel.rekey_max:g} s; traffic is lost until then",
        )
    if tunnel.degraded_max is not None and tunnel.qkd is not QkdPolicy.PREFER:
        at.warn("degraded_max", f'has no meaning with qkd = "{tunnel.qkd}"')


def _check_identities(at: TableProblems, tunnel: TunnelConfig) -> None:
    from gateway.ike.identity import Identity  # noqa: PLC0415  only when a file is checked

    for key, text in (("local_id", tunnel.local_id), ("remote_id", tunnel.remote_id)):
        if text:  # else it stands in a certificate that could not be read
            at.read(key, Identity.parse, text)
    if tunnel.local_id and tunnel.local_id.casefold() == tunnel.remote_id.casefold():
        at.error("remote_id", f'"{tunnel.remote_id}" is also local_id: each end has its own')


def _check_proposals(at: TableProblems, tunnel: TunnelConfig) -> None:
    """Every proposal must parse, and hold ML-KEM unless the operator allows otherwise."""
    from gateway.ike.proposals import ProposalSpec  # noqa: PLC0415  only when a file is checked
    from gateway.ike.registry import ProtocolId  # noqa: PLC0415  as above

    for key, texts, protocol in (
        ("ike", tunnel.ike, ProtocolId.IKE),
        ("esp", tunnel.esp, ProtocolId.ESP),
    ):
        if key == "ike" and tunnel.shares is not None:
            continue
        for text in texts:
            try:
                spec = ProposalSpec.parse(text, protocol)
            except ValueError as error:
                at.error(key, str(error))
                continue
            _check_available(at, key, text, spec)
            _check_key_exchanges(at, key, text, spec, allow_classical=tunnel.allow_classical)
        if len(set(texts)) != len(texts):
            at.error(key, "names a proposal twice")


def _check_key_exchanges(
    at: TableProblems, key: str, text: str, spec: ProposalSpec, *, allow_classical: bool
) -> None:
    """ECDH first, a KEM in an additional key exchange (RFC 9370), none of it optional."""
    if any(_is_kem(method) for method in spec.key_exchanges):
        at.error(
            key,
            f'"{text}": a KEM goes into an additional key exchange, beside an elliptic curve: '
            "x25519-ke1_mlkem768",
        )
        return
    for _, methods in spec.additional:
        if all(_is_kem(method) for method in methods):
            return
    if not spec.key_exchanges and key == "esp":
        missing = "no key exchange, so rekeys bring no fresh ML-KEM secret: add x25519-ke1_mlkem768"
    else:
        missing = "no ML-KEM that is always used: add ke1_mlkem768"
    message = f'"{text}" has {missing}'
    if allow_classical:
        at.warn(key, f"{message} (allow_classical)")
    else:
        at.error(key, f"{message}, or write allow_classical = true for a legacy peer")


def _check_available(at: TableProblems, key: str, text: str, spec: ProposalSpec) -> None:
    from gateway.crypto import kem_oqs  # noqa: PLC0415  as below
    from gateway.crypto.kex import SystemKex  # noqa: PLC0415  only when a file is checked
    from gateway.ike.registry import KeMethod  # noqa: PLC0415  as above

    system = SystemKex()
    wanted = {*spec.key_exchanges, *(method for _, slot in spec.additional for method in slot)}
    for method in sorted(wanted - {KeMethod.NONE}):
        if not system.supports(method):
            reason = kem_oqs.problem(method)  # everything else is always there
            at.error(key, f'"{text}": {method.name} is not available here: {reason}')


def _is_kem(method: KeMethod) -> bool:
    return method.name.startswith(("ML_KEM", "FRODOKEM", "HQC"))


def _check_key_traffic(at: TableProblems, tunnel: TunnelConfig, name: str, kme: KmeConfig) -> None:
    """Requests to a KME must not need the tunnel that waits for their answer."""
    try:
        address = parse_address(urlsplit(kme.url).hostname or "")
    except ValueError:
        return
    if name in tunnel.kmes and _contains(tunnel.remote_subnets, address):
        at.warn(
            "remote_subnets",
            f"KME {name} ({address}) lies behind this tunnel, whose keys it delivers",
        )


def _check_pair(at: TableProblems, first: TunnelConfig, second: TunnelConfig, name: str) -> None:
    for selector, other in _overlaps(first, second):
        text = f"{selector} overlaps {other} of [tunnel.{name}]"
        if selector != other and (selector.inside(other) or other.inside(selector)):
            at.warn("remote_subnets", f"{text}: the narrower one wins")
        else:
            at.error("remote_subnets", f"{text}: traffic can take only one tunnel")


def _check_same_ends(
    at: TableProblems, first: TunnelConfig, second: TunnelConfig, name: str
) -> None:
    if first.connection == second.connection:
        _check_shared(at, first, second, name)
    elif (first.local, first.remote) == (second.local, second.remote):
        if first.childless or second.childless:
            at.error("remote", f"{second.local} to {second.remote} is [{first.table}] already")
            return
        at.error(
            "remote",
            f"{second.local} to {second.remote} is [tunnel.{name}] already: put all subnets "
            f'into one tunnel, or write shares = "{first.connection}" for one with a policy of '
            "its own",
        )


def _check_reqids(tunnels: Mapping[str, TunnelConfig], problems: Problems) -> None:
    from gateway.dataplane.reconcile import reqid_for  # noqa: PLC0415  as above

    first_with: dict[int, str] = {}
    for name, tunnel in tunnels.items():
        first = first_with.setdefault(reqid_for(name), tunnel.table)
        if first != tunnel.table:
            text = f"its kernel reqid collides with [{first}]: rename one"
            problems.at(tunnel.table).error("", text)


def _check_shared(at: TableProblems, first: TunnelConfig, second: TunnelConfig, name: str) -> None:
    """A QKD key for the IKE SA is looked up before it is known for which tunnel it is."""
    if QkdPolicy.OFF in (first.qkd, second.qkd):
        return
    for key in ("kmes", "peer_sae"):
        if getattr(first, key) != getattr(second, key):
            at.error(key, f"differs from that of [tunnel.{name}] in the same IKE SA")


@dataclass(frozen=True, slots=True)
class _Selector:
    """A pair of networks of one IP version: what a kernel policy selects on."""

    local: IpNetwork
    remote: IpNetwork

    def overlaps(self, other: _Selector) -> bool:
        return _overlap(self.local, other.local) and _overlap(self.remote, other.remote)

    def inside(self, other: _Selector) -> bool:
        return _subnet(self.local, other.local) and _subnet(self.remote, other.remote)

    def __str__(self) -> str:
        return f"{self.local} to {self.remote}"


def _overlaps(first: TunnelConfig, second: TunnelConfig) -> Iterator[tuple[_Selector, _Selector]]:
    """Selectors of ``second``, each with one of ``first`` that it overlaps."""
    for selector in _selectors(second):
        for other in _selectors(first):
            if selector.overlaps(other):
                yield selector, other


def _selectors(tunnel: TunnelConfig) -> Iterator[_Selector]:
    for local in tunnel.local_subnets:
        for remote in tunnel.remote_subnets:
            if local.version == remote.version:
                yield _Selector(local, remote)


def _overlap(first: IpNetwork, second: IpNetwork) -> bool:
    return first.version == second.version and first.overlaps(second)


def _subnet(inner: IpNetwork, outer: IpNetwork) -> bool:
    return _overlap(inner, outer) and inner.prefixlen >= outer.prefixlen


def _contains(networks: tuple[IpNetwork, ...], address: IpAddress) -> bool:
    return any(address in network for network in networks)
