"""Our gateway with many tunnels, set up one by one over its control socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

from netns_lab import control
from netns_lab.errors import LabError
from netns_lab.lab import Lab
from netns_lab.readiness import wait_until
from netns_lab.site_files import Table, toml
from tests.bench import rate_site as site
from tests.bench.rate_keys import KeyNetwork
from tests.bench.rate_site import Side, Terms

START_SECONDS = 120.0
FILL_SECONDS = 150.0


class Ours:
    maker = "qsgw"

    def __init__(self, lab: Lab, side: Side, terms: Terms, keys: KeyNetwork | None) -> None:
        self._lab = lab
        self._side = side
        self._terms = terms
        self._keys = keys
        self._folder = lab.run_dir / side
        self._socket = self._folder / "control.sock"
        self._name = f"qsgwd-{side}"
        self._asking: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    @property
    def pid(self) -> int:
        return self._lab.daemons[self._name].pid

    async def start(self) -> None:
        self._folder.mkdir(exist_ok=True)
        secret = self._folder / "psk"
        secret.touch(mode=0o600)
        secret.write_text(self._terms.psk + "\n")
        config = self._folder / "qsgw.toml"
        config.write_text(self._file())
        command = ["qsgwd", "--config", str(config)]
        await self._lab.start(self._side, command, name=self._name, timeout=START_SECONDS)
        if self._terms.ppk:
            await wait_until(self._filled, FILL_SECONDS, "a QKD key for each tunnel", interval=4.0)
        self._asking = await asyncio.open_unix_connection(str(self._socket))

    async def stop(self) -> None:
        if self._asking is not None:
            self._asking[1].close()
        if self._name in self._lab.daemons:
            await self._lab.daemons[self._name].stop()
        for what in ("state", "policy"):
            (await self._lab.run(self._side, ["ip", "xfrm", what, "flush"])).check()

    async def follow(self) -> AsyncIterator[int]:
        reader, writer = await asyncio.open_unix_connection(str(self._socket))
        writer.write(json.dumps({"schema": control.SCHEMA, "verb": "monitor"}).encode() + b"\n")
        await reader.readline()
        return self._ups(reader, writer)

    async def _ups(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> AsyncIterator[int]:
        try:
            while line := await reader.readline():
                event = json.loads(line)["event"]
                if event["type"] == "child-up":
                    yield int(event["tunnel"][1:])
                elif event["type"] == "exchange-failed":
                    raise LabError(f"{self._name}: {event['tunnel']}: {event['text']}")
            raise LabError(f"{self._name} ended\n{self._lab.daemons[self._name].log_tail()}")
        finally:
            writer.close()

    async def begin(self, number: int) -> None:
        assert self._asking is not None
        reader, writer = self._asking
        request = {"schema": control.SCHEMA, "verb": "initiate", "tunnel": site.name(number)}
        writer.write(json.dumps(request).encode() + b"\n")
        answer = json.loads(await reader.readline())
        if "error" in answer:
            raise LabError(f"{self._name}: {answer['error']}")

    async def agreed(self) -> list[str]:
        tunnels = (await control.snapshot(self._socket))["tunnels"]
        return [
            tunnel["ike"]["proposal"]
            for tunnel in tunnels
            if tunnel["ike"] and any(child["in_kernel"] for child in tunnel["children"])
        ]

    async def key_ids(self) -> dict[int, str]:
        """Which QKD key each tunnel will use next as initiator."""
        tunnels = (await control.snapshot(self._socket))["tunnels"]
        return {int(tunnel["name"][1:]): tunnel["keys"]["key_ids"][0] for tunnel in tunnels}

    async def _filled(self) -> bool:
        tunnels = (await control.snapshot(self._socket))["tunnels"]
        return all(tunnel["keys"]["pool"] for tunnel in tunnels)

    def _file(self) -> str:
        tables: dict[str, Table] = {
            "gateway": {
                "name": self._side,
                "listen": site.addresses(self._side),
                "sae_id": self._side,
                "control_socket": str(self._socket),
            }
        }
        qkd: Table = {"qkd": "off"}
        if self._terms.ppk and self._keys is not None:
            tables["kme.near"] = self._keys.table(self._side)
            qkd = {
                "qkd": "require",
                "kmes": ("near",),
                "peer_sae": site.other(self._side),
                "pool_target": 1,
                "key_reserve": 0,
            }
        for number in range(site.COUNT):
            tables[f"tunnel.{site.name(number)}"] = {**self._tunnel(number), **qkd}
        return toml(tables)

    def _tunnel(self, number: int) -> Table:
        here, there = self._side, site.other(self._side)
        return {
            "local": site.address(here, number),
            "remote": site.address(there, number),
            "local_id": f"{here}.example",
            "remote_id": f"{there}.example",
            "psk": "psk",
            "local_subnets": (site.network(here, number),),
            "remote_subnets": (site.network(there, number),),
            "start": "respond",
            "ike": (site.IKE,),
            "esp": (site.ESP,),
        }
