"""The checks of the slave's side: clauses 5.4 and 6.4 of ETSI GS QKD 014 V1.1.1."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from urllib.parse import quote
from uuid import uuid4

from qkd_adapters.probe.checks import SIZE, MasterSide
from qkd_adapters.probe.findings import Findings, Trait, Verdict
from qkd_adapters.probe.wire import GivenKey, Reply, Wire

CLAUSE = "5.4"
NOT_FOUND = "one or more keys specified are not found on KME"


class SlaveSide:
    """Fetches what the master's side was given. ``master``: its SAE_ID."""

    def __init__(self, wire: Wire, findings: Findings, side: MasterSide, master: str) -> None:
        self._wire = wire
        self._findings = findings
        self._side = side
        self._path = f"/api/v1/keys/{quote(master, safe='')}/dec_keys"

    async def check(self, *, retention: float) -> None:
        """Takes 5 keys, and one more if ``retention`` (seconds to let a key lie) is not 0."""
        await self._check_one()
        await self._check_two()
        await self._check_outstanding()
        await self._check_unknown()
        await self._check_retention(retention)
        self._findings.row(
            "another SAE's key is refused",
            CLAUSE,
            "401",
            "needs the certificate of a third SAE",
            Verdict.NOT_TESTED,
        )

    async def _check_one(self) -> None:
        (key,) = await self._fresh(1) or (None,)
        if key is None:
            return
        reply = await self._fetch([key.key_id])
        by_get = False
        if not reply.keys and reply.status in (404, 405, 501):
            reply, by_get = await self._wire.ask("GET", f"{self._path}?key_ID={key.key_id}"), True
        same = _same(reply, [key])
        self._findings.row(
            "Get key with key IDs gives the master's key",
            CLAUSE,
            "200, the same key",
            (f"by GET {reply.words}" if by_get else reply.words) + _difference(reply, same),
            Verdict.FAIL if not same else Verdict.DEVIATES if by_get else Verdict.PASS,
        )
        if not same:
            return
        again = await self._fetch([key.key_id], by_get=by_get)
        if again.keys:
            self._findings.traits.add(Trait.REPEATABLE_READS)
        self._findings.row(
            "a key is gone once it was given",
            CLAUSE,
            f'400 "{NOT_FOUND}"',
            f"{again.words}, given again" if again.keys else again.words,
            Verdict.PASS if again.status == 400 else Verdict.DEVIATES,
        )

    async def _check_two(self) -> None:
        if self._side.get:
            return
        reply = await self._side.take(number=2, size=SIZE)
        keys = list(reply.keys) or await self._fresh(1)
        fetched = await self._fetch([key.key_id for key in keys])
        same = _same(fetched, keys)
        self._findings.row(
            "several keys in one request",
            "6.4",
            f"200, {len(keys)} keys",
            fetched.words + _difference(fetched, same),
            Verdict.PASS if same and len(keys) == 2 else Verdict.DEVIATES,
        )

    async def _check_outstanding(self) -> None:
        """A key has to wait while its master takes another one."""
        keys = [*await self._fresh(1), *await self._fresh(1)]
        if len(keys) != 2:
            return
        late = _same(await self._fetch([keys[1].key_id], by_get=self._side.get), [keys[1]])
        reply = await self._fetch([keys[0].key_id], by_get=self._side.get)
        same = _same(reply, [keys[0]])
        if late and not same:
            self._findings.traits.add(Trait.ONE_OUTSTANDING)
        self._findings.row(
            "an earlier key can be had after a later one was given",
            CLAUSE,
            "200, the same key",
            reply.words + _difference(reply, same),
            Verdict.PASS if same else Verdict.DEVIATES,
        )

    async def _check_unknown(self) -> None:
        reply = await self._fetch([str(uuid4())], by_get=self._side.get)
        good = reply.status == 400
        self._findings.unknown_key = reply.status
        if not good and reply.status is not None and 400 <= reply.status < 500:
            self._findings.traits.add(Trait.ODD_STATUS)
        self._findings.row(
            "an unknown key_ID is refused",
            "6.4",
            f'400 "{NOT_FOUND}"',
            reply.words,
            Verdict.PASS if good and reply.message == NOT_FOUND else Verdict.DEVIATES,
        )

    async def _check_retention(self, seconds: float) -> None:
        row = self._findings.row
        what, expected = "a key waits for the slave", "200 (the standard gives no time)"
        if not seconds:
            row(what, CLAUSE, expected, "--retention SECONDS tries it", Verdict.NOT_TESTED)
            return
        keys = await self._fresh(1)
        await asyncio.sleep(seconds)
        reply = await self._fetch([key.key_id for key in keys], by_get=self._side.get)
        same = _same(reply, keys)
        if not same:
            self._findings.traits.add(Trait.SHORT_RETENTION)
        row(
            what,
            CLAUSE,
            expected,
            f"after {seconds:g} s {reply.words}",
            Verdict.PASS if same else Verdict.DEVIATES,
        )

    # --- inside ---

    async def _fresh(self, number: int) -> list[GivenKey]:
        reply = await self._side.take(number=number, size=SIZE)
        if not reply.keys:
            self._findings.row(
                "a further key", "5.3", f"200, {number} key", reply.words, Verdict.NOT_TESTED
            )
        return list(reply.keys)

    async def _fetch(self, key_ids: Sequence[str], *, by_get: bool = False) -> Reply:
        """By key_IDs as this KME's partner wrote them."""
        if by_get:
            return await self._wire.ask("GET", f"{self._path}?key_ID={key_ids[0]}")
        body = {"key_IDs": [{"key_ID": key_id} for key_id in key_ids]}
        return await self._wire.ask("POST", self._path, json.dumps(body).encode())


def _same(reply: Reply, keys: Sequence[GivenKey]) -> bool:
    return {(key.canonical, key.digest) for key in reply.keys} == {
        (key.canonical, key.digest) for key in keys
    } and bool(keys)


def _difference(reply: Reply, same: bool) -> str:
    if same or not reply.keys:
        return ""
    return f", {len(reply.keys)} keys that differ"
