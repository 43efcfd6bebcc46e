"""QKD keys for the bench: an emulated link and a KME on each host, and what takes keys from
them for a daemon that speaks no ETSI 014.

    python -m tests.bench.rate_keys PKI SIDE [KEY_ID...]     prints {key_ID: key in hexadecimal}
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from kms_client.etsi014 import MAX_NUMBER, KmeClient
from kms_client.tls import TlsFiles
from netns_lab.lab import Lab
from netns_lab.site_files import Table, toml
from tests.bench import rate_site as site
from tests.bench.rate_site import SIDES, Side

_PORT = 8443
_STORE = 2 * site.COUNT  # keys per direction
_RATE = 2000.0  # keys per second: the link is no bottleneck


class KeyNetwork:
    """One for a pairing: keys are used once."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self._lab = lab
        self._folder = folder

    async def start(self) -> None:
        self._folder.mkdir()
        names = [word for side in SIDES for word in ("--kme", f"kme-{side}:127.0.0.1")]
        command = ["qsgw-kme", "pki", "--out", str(self._pki), "--sae", *SIDES, *names]
        (await self._lab.run("moon", command)).check()
        link = self._write("link", self._link_file())
        await self._lab.start("moon", ["qsgw-kme", "link", "--config", link], name="link")
        for side in SIDES:
            config = self._write(f"kme-{side}", self._kme_file(side))
            command = ["qsgw-kme", "serve", "--config", config]
            await self._lab.start(side, command, name=f"kme-{side}")

    async def stop(self) -> None:
        for name in ("kme-moon", "kme-sun", "link"):
            await self._lab.daemons[name].stop()

    def table(self, side: Side) -> Table:
        """``[kme.NAME]`` of the gateway at ``side``."""
        return {
            "url": f"https://127.0.0.1:{_PORT}",
            "ca": str(self._pki / "ca.pem"),
            "certificate": str(self._pki / f"{side}.pem"),
            "key": str(self._pki / f"{side}.key"),
        }

    async def take(self, side: Side, key_ids: Sequence[str] = ()) -> dict[str, str]:
        """The keys of ``key_ids`` as slave SAE, or as many new ones as there are tunnels."""
        command = [sys.executable, "-m", "tests.bench.rate_keys", str(self._pki), side, *key_ids]
        done = (await self._lab.run(side, command, timeout=60.0)).check()
        taken: dict[str, str] = json.loads(done.stdout)
        return taken

    @property
    def _pki(self) -> Path:
        return self._folder / "pki"

    def _write(self, name: str, text: str) -> str:
        path = self._folder / f"{name}.toml"
        path.write_text(text)
        return str(path)

    def _link_file(self) -> str:
        tables: dict[str, Table] = {
            "link": {
                "name": "link",
                "rate": _RATE,
                "control_socket": str(self._folder / "link.ctl"),
            }
        }
        for side in SIDES:
            tables[f"side.kme-{side}"] = {"listen": f"unix:{self._folder}/{side}.sock"}
        return toml(tables)

    def _kme_file(self, side: Side) -> str:
        peer = site.other(side)
        return toml(
            {
                "kme": {
                    "id": f"kme-{side}",
                    "listen": (f"127.0.0.1:{_PORT}",),
                    "ca": str(self._pki / "ca.pem"),
                    "certificate": str(self._pki / f"kme-{side}.pem"),
                    "key": str(self._pki / f"kme-{side}.key"),
                    "control_socket": str(self._folder / f"{side}.ctl"),
                },
                "link": {
                    "connect": f"unix:{self._folder}/{side}.sock",
                    "peer_kme": f"kme-{peer}",
                },
                "keys": {"max_count": _STORE, "max_per_request": MAX_NUMBER},
                f"sae.{side}": {"peers": (peer,)},
            }
        )


async def _take(pki: Path, side: Side, key_ids: Sequence[str]) -> dict[str, str]:
    tls = TlsFiles(ca=pki / "ca.pem", certificate=pki / f"{side}.pem", key=pki / f"{side}.key")
    client = KmeClient(name="near", url=f"https://127.0.0.1:{_PORT}", tls=tls, timeout=20.0)
    peer = site.other(side)
    taken: dict[str, str] = {}
    wanted = len(key_ids) or site.COUNT
    try:
        while len(taken) < wanted:
            number = min(MAX_NUMBER, wanted - len(taken))
            if key_ids:
                keys = await client.dec_keys(peer, key_ids[len(taken) : len(taken) + number])
            else:
                keys = await client.enc_keys(peer, number=number)
            taken |= {key.key_id: key.key.expose().hex() for key in keys}
    finally:
        await client.close()
    return taken


def main() -> None:
    pki, side, *key_ids = sys.argv[1:]
    at: Side = "moon" if side == "moon" else "sun"
    json.dump(asyncio.run(_take(Path(pki), at, key_ids)), sys.stdout)


if __name__ == "__main__":
    main()
