"""Two KMEs and the emulated link between them, in this process, over real TLS and sockets.

    async with KmeLab(tmp_path) as lab:
        await lab.filled()
        answer = await lab.post("moon", "sun/enc_keys", {"number": 2})

The directory must be short: Unix socket paths end at 107 octets.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from kms_client.etsi014 import KmeClient
from kms_client.tls import TlsFiles
from qkd_adapters.address import UnixAddress
from qkd_adapters.kme.config import KeySettings, KmeSettings, SaeSettings, default_certificate_names
from qkd_adapters.kme.service import Kme
from qkd_adapters.kme.store import KeyStore
from qkd_adapters.link.messages import Direction
from qkd_adapters.link.server import LinkServer
from qkd_adapters.link.source import EmulatedSource
from qkd_adapters.pki import KmeName, make_pki

PATIENCE = 10.0  # seconds until a condition that must come about has failed
DEFAULT_KEYS = KeySettings(
    min_size=64, max_size=1024, max_per_request=8, max_count=8, max_sae_ids=2, lifetime=3600.0
)
# SAE -> its KME. Mars is a second gateway at sun's site.
SITES = {"moon": "kme-moon", "sun": "kme-sun", "mars": "kme-sun"}
PEERS = {"moon": ("sun", "mars"), "sun": ("moon",), "mars": ("moon",)}


def available_ids(store: KeyStore, direction: Direction) -> frozenset[str]:
    """key_IDs that the master SAE can have now."""
    return frozenset(store._queues[direction].available)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    body: bytes
    content_type: str
    json: Any


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait for something that other tasks bring about."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.002)


class KmeLab:
    def __init__(
        self,
        directory: Path,
        *,
        keys: KeySettings = DEFAULT_KEYS,
        rate: float = 2000.0,
        clock: Callable[[], float] = time.monotonic,
        link_clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.directory = directory
        self.pki = directory / "pki"
        self.keys = keys
        self.clock = clock
        self.link_clock = link_clock
        self.rate = rate
        self.kmes: dict[str, Kme] = {}
        self.source: EmulatedSource
        self.link: LinkServer | None = None
        self._sessions: dict[str, aiohttp.ClientSession] = {}

    async def __aenter__(self) -> Self:
        make_pki(
            self.pki,
            kmes=[KmeName(name=kme, addresses=("127.0.0.1",)) for kme in set(SITES.values())],
            saes=[*SITES, "stranger"],
            force=False,
        )
        await self.start_link()
        for kme in ("kme-moon", "kme-sun"):
            await self.start_kme(kme)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for session in self._sessions.values():
            await session.close()
        for name in list(self.kmes):
            await self.stop_kme(name)
        await self.stop_link()

    # --- processes ---

    async def start_link(self) -> None:
        self.source = EmulatedSource(rate=self.rate, clock=self.link_clock)
        self.link = LinkServer(
            name="moon-sun",
            sides=(("kme-moon", self._address("kme-moon")), ("kme-sun", self._address("kme-sun"))),
            source=self.source,
            clock=self.link_clock,
        )
        await self.link.start()

    async def stop_link(self) -> None:
        if self.link is not None:
            await self.link.stop()
            self.link = None

    async def start_kme(self, name: str) -> None:
        self.kmes[name] = Kme(self.settings(name), clock=self.clock)
        await self.kmes[name].start()

    async def stop_kme(self, name: str) -> None:
        await self.kmes.pop(name).stop()

    async def restart_kme(self, name: str) -> None:
        await self.stop_kme(name)
        await self.start_kme(name)

    def settings(self, name: str) -> KmeSettings:
        other = {"kme-moon": "kme-sun", "kme-sun": "kme-moon"}[name]
        return KmeSettings(
            kme_id=name,
            listen=(("127.0.0.1", 0),),
            ca=self.pki / "ca.pem",
            certificate=self.pki / f"{name}.pem",
            key=self.pki / f"{name}.key",
            control_socket=self.directory / f"{name}.ctl",
            link=self._address(name),
            peer_kme=other,
            keys=self.keys,
            saes=tuple(
                SaeSettings(
                    sae_id=sae,
                    peers=PEERS[sae],
                    certificate_names=default_certificate_names(sae),
                )
                for sae, site in SITES.items()
                if site == name
            ),
        )

    def _address(self, kme: str) -> UnixAddress:
        return UnixAddress(path=str(self.directory / f"{kme}.link"))

    # --- requests ---

    def url(self, kme: str) -> str:
        """What a gateway writes as the URL of this KME."""
        return f"https://127.0.0.1:{self.kmes[kme].port}"

    def client_context(self, sae: str | None, pki: Path | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.pki / "ca.pem")
        if sae is not None:
            directory = pki or self.pki
            context.load_cert_chain(directory / f"{sae}.pem", directory / f"{sae}.key")
        return context

    async def request(
        self, sae: str, method: str, path: str, *, kme: str | None = None, **arguments: Any
    ) -> Answer:
        """One request with this SAE's certificate, by default to its own KME."""
        if sae not in self._sessions:
            connector = aiohttp.TCPConnector(ssl=self.client_context(sae), force_close=True)
            self._sessions[sae] = aiohttp.ClientSession(connector=connector)
        url = f"{self.url(kme or SITES[sae])}/api/v1/keys/{path}"
        async with self._sessions[sae].request(method, url, **arguments) as response:
            body = await response.read()
            is_json = response.content_type == "application/json"
            return Answer(
                status=response.status,
                body=body,
                content_type=response.content_type,
                json=_lenient_json(body) if is_json else None,
            )

    async def get(self, sae: str, path: str, *, kme: str | None = None, **query: Any) -> Answer:
        return await self.request(sae, "GET", path, kme=kme, params=query)

    async def post(
        self, sae: str, path: str, body: Any = None, *, kme: str | None = None
    ) -> Answer:
        return await self.request(sae, "POST", path, kme=kme, json={} if body is None else body)

    async def fetch(self, slave: str, master: str, key_ids: list[str]) -> Answer:
        """dec_keys by POST."""
        body = {"key_IDs": [{"key_ID": key_id} for key_id in key_ids]}
        return await self.post(slave, f"{master}/dec_keys", body)

    def client(self, sae: str, *, timeout: float = 3.0) -> KmeClient:
        """Our own client with this SAE's certificate at its KME; the caller closes it."""
        tls = TlsFiles(
            ca=self.pki / "ca.pem",
            certificate=self.pki / f"{sae}.pem",
            key=self.pki / f"{sae}.key",
        )
        return KmeClient(name=SITES[sae], url=self.url(SITES[sae]), tls=tls, timeout=timeout)

    # --- stores ---

    def ids(self, kme: str, master: str = "moon", slave: str = "sun") -> frozenset[str]:
        return available_ids(self.kmes[kme].store, Direction(master, slave))

    def same_stores(self) -> bool:
        return all(
            self.ids("kme-moon", *direction) == self.ids("kme-sun", *direction)
            for direction in self.kmes["kme-moon"].store.directions
        )

    async def filled(self) -> None:
        """Until every queue is at its bound on both sides."""
        await eventually(
            lambda: (
                all(
                    kme.store.stored(direction) == self.keys.max_count
                    for kme in self.kmes.values()
                    for direction in kme.store.directions
                )
                and self.same_stores()
            )
        )

    async def connected(self) -> None:
        """Until both KMEs know that the other is there."""
        await eventually(lambda: all(kme.agent.expects_notices() for kme in self.kmes.values()))


def _lenient_json(body: bytes) -> Any:
    import json

    try:
        return json.loads(body)
    except ValueError:
        return None
