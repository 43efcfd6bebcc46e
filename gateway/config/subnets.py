"""What of a configuration is needed to block: subnets of tunnels, devices of MACsec links.

No secret, certificate or KME is looked at, and a table that is wrong costs no other one its
block policies: this is read at boot, when much may be missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from gateway.config import units
from gateway.config.load import named_tables, parse_file, read_table
from gateway.config.macsec import LinkDevice, read_device
from gateway.config.problems import Problems
from gateway.config.tables import MacsecTable
from gateway.errors import ConfigProblem
from gateway.model import EspMode, IpNetwork


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelSubnets:
    tunnel: str
    local: tuple[IpNetwork, ...]
    remote: tuple[IpNetwork, ...]


def read_subnets(path: Path) -> tuple[tuple[TunnelSubnets, ...], tuple[ConfigProblem, ...]]:
    """The subnets of every tunnel that has readable ones, and what is wrong with the others."""
    problems = Problems()
    data = parse_file(path, problems)
    found = []
    tables = named_tables(problems, data, "tunnel")
    for name, own in tables.items():
        table = own
        if own.get("shares") in tables.keys() - {name}:  # what is not its own is that one's
            table = {**tables[own["shares"]], **own}
        local = _networks(problems, name, table, "local")
        remote = _networks(problems, name, table, "remote")
        if local and remote:
            found.append(TunnelSubnets(tunnel=name, local=local, remote=remote))
    return tuple(found), tuple(problems.errors)


def _networks(
    problems: Problems, tunnel: str, table: dict[str, Any], end: str
) -> tuple[IpNetwork, ...]:
    """Those of one end that can be read; in transport mode that is its own address."""
    at = problems.at(f"tunnel.{tunnel}")
    if table.get("mode") == EspMode.TRANSPORT:
        address = at.read(end, units.parse_address, str(table.get(end)))
        return () if at.failed else (ip_network(address),)
    key = f"{end}_subnets"
    texts = table.get(key)
    if not isinstance(texts, list) or not texts or not all(isinstance(one, str) for one in texts):
        at.error(key, "write a list of networks")
        return ()
    networks = at.read_list(key, units.parse_network, texts)
    return tuple(network for network in networks if network is not None)


def read_links(path: Path) -> tuple[tuple[LinkDevice, ...], tuple[ConfigProblem, ...]]:
    """The device of every MACsec link whose interfaces can be read, and what is wrong with it.

    Another value that is wrong is the default; no address that is.
    """
    problems = Problems()
    found = []
    for name, entry in named_tables(problems, parse_file(path, problems), "macsec").items():
        at = problems.at(f"macsec.{name}")
        table = read_table(at, entry, MacsecTable)
        device = None if table is None else read_device(at, name, table)
        if device is not None and device.name and device.interface and device.device:
            found.append(device)
    return tuple(found), tuple(problems.errors)
