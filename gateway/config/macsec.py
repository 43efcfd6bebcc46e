"""Reads ``[macsec.NAME]``: a layer-2 link, its device, and where its CAKs come from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Interface, IPv6Interface
from typing import Final

from gateway.config import units
from gateway.config.credentials import CredentialReader
from gateway.config.files import read_cak
from gateway.config.problems import TableProblems
from gateway.config.schema import MacsecConfig, StaticCak
from gateway.config.tables import MacsecTable, Suite
from gateway.crypto.secret import Secret
from gateway.mka.limits import LIFE_TIME
from gateway.mka.registry import CipherSuite
from gateway.model import PortSecurity

SUITES: Final = {suite: CipherSuite[suite.name] for suite in Suite}
CAK_BITS: Final = 256  # unless the table says otherwise
_SAMPLE_CAK: Final = 32  # octets of what stands in for one that exists only inside the service


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkDevice:
    """What the kernel has to know of a link, without anybody's keys."""

    name: str
    interface: str
    device: str
    addresses: tuple[IPv4Interface | IPv6Interface, ...]
    mtu: int | None
    suite: CipherSuite
    encrypt: bool
    security: PortSecurity
    replay_window: int


def read_device(at: TableProblems, name: str, table: MacsecTable) -> LinkDevice:
    """Values with errors are None, or left out of the addresses."""
    return LinkDevice(
        name=at.read("", units.parse_name, name),
        interface=at.read("interface", units.parse_interface, table.interface),
        device=at.read("device", partial(_device, name), table.device or ""),
        addresses=tuple(
            one
            for one in at.read_list("addresses", units.parse_interface_address, table.addresses)
            if one is not None
        ),
        mtu=table.mtu,
        suite=SUITES[table.suite],
        encrypt=table.encryption,
        security=table.security,
        replay_window=table.replay_window,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MacsecReader:
    credentials: CredentialReader

    def read(self, at: TableProblems, name: str, table: MacsecTable) -> MacsecConfig:
        self._check_keys(at, table)
        device = read_device(at, name, table)
        return MacsecConfig(
            name=device.name,
            interface=device.interface,
            device=device.device,
            addresses=device.addresses,
            mtu=device.mtu,
            connection=table.connection,
            link=at.read("link", units.parse_name, table.link or name),
            cak_size=(table.cak_bits or CAK_BITS) // 8,
            static=self._static(at, table),
            priority=table.priority,
            suite=device.suite,
            accept=frozenset(SUITES[suite] for suite in table.accept or (table.suite,)),
            encrypt=device.encrypt,
            security=device.security,
            delay_protect=table.delay_protect,
            replay_window=device.replay_window,
            sak_lifetime=at.read("sak_lifetime", _sak_lifetime, table.sak_lifetime),
        )

    def _check_keys(self, at: TableProblems, table: MacsecTable) -> None:
        """CAKs come from a connection or are agreed by hand, and which other keys go with that."""
        static = {key: getattr(table, key) for key in ("cak", "ckn")}
        if table.connection is not None:
            for key in (key for key, value in static.items() if value is not None):
                at.error(key, "connection gives the CAKs; leave one of them out")
            if table.allow_classical:
                text = f"has no meaning here: it is that of [connection.{table.connection}]"
                at.warn("allow_classical", text)
            return
        if at.has("connection"):
            return
        if static == {"cak": None, "ckn": None} and not any(map(at.has, static)):
            at.error("connection", "this key is missing; or give cak and ckn, agreed by hand")
            return
        for key in (key for key, value in static.items() if value is None and not at.has(key)):
            at.error(key, "this key is missing: cak and ckn belong together")
        for key in ("link", "cak_bits"):
            if getattr(table, key) is not None:
                at.warn(key, "has no meaning with a CAK that is agreed by hand")
        if not table.allow_classical and not at.has("allow_classical"):
            at.error(
                "allow_classical",
                "a CAK that is agreed by hand has neither ML-KEM nor QKD: write connection, or "
                "allow_classical = true for a peer of another make",
            )
        elif table.allow_classical:
            at.warn(
                "cak",
                "is never renewed, and has neither ML-KEM nor QKD: the link is CLASSICAL "
                "(allow_classical)",
            )

    def _static(self, at: TableProblems, table: MacsecTable) -> StaticCak | None:
        cak = self.credentials.secret(at, "cak", table.cak, read_cak)
        ckn = at.read_optional("ckn", units.parse_ckn, table.ckn)
        if table.connection is not None or ckn is None:
            return None
        return StaticCak(ckn=ckn, cak=cak or Secret(bytes(_SAMPLE_CAK)))


def _device(name: str, text: str) -> str:
    if text:
        return units.parse_interface(text)
    try:
        return units.parse_interface(f"macsec-{name}")
    except ValueError as error:
        raise ValueError(f"is missing, and {error}") from None


def _sak_lifetime(text: str) -> float | None:
    seconds = units.parse_duration(text)
    if 0 < seconds < LIFE_TIME:
        raise ValueError(f'"{text}": less than {LIFE_TIME:g} s; "0" is as long as its numbers last')
    return seconds or None
