"""The checks of the master's side, and what both sides need: ETSI GS QKD 014 V1.1.1."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from qkd_adapters.probe.findings import Findings, Trait, Verdict
from qkd_adapters.probe.wire import GivenKey, IdForm, Reply, Wire

STRINGS = ("source_KME_ID", "target_KME_ID", "master_SAE_ID", "slave_SAE_ID")
INTEGERS = (
    "key_size",
    "stored_key_count",
    "max_key_count",
    "max_key_per_request",
    "max_key_size",
    "min_key_size",
    "max_SAE_ID_count",
)
SIZE = 256  # bits; what qsgw asks for
STRANGER = "qsgw-probe-unknown-sae"
EXTENSION = {"qsgw_probe": 1}  # 6.2: a vendor's prefix that ends with an underscore


class MasterSide:
    """Asks as the master SAE. What it was given waits for the slave's side in ``given``."""

    def __init__(self, wire: Wire, findings: Findings, peer: str) -> None:
        self._wire = wire
        self._findings = findings
        self._peer = peer
        self.status: Mapping[str, Any] = {}
        self.given: list[GivenKey] = []
        self.get = False  # POST does not work

    def path(self, resource: str, sae: str | None = None) -> str:
        return f"/api/v1/keys/{quote(sae or self._peer, safe='')}/{resource}"

    # --- connection and status (5.1, 5.2, 6.1) ---

    async def check_connection(self, without_certificate: Wire) -> bool:
        """Whether it is worth going on."""
        row = self._findings.row
        reply = await self._wire.ask("GET", self.path("status"))
        if reply.status is None:
            row("HTTPS with mutual TLS", "5.1", "an answer", reply.words, Verdict.FAIL)
            return False
        row(
            "HTTPS with TLS 1.2 or higher",
            "5.1",
            "TLSv1.2 or TLSv1.3",
            await self._wire.tls_version(),
            Verdict.PASS,
        )
        bare = await without_certificate.ask("GET", self.path("status"))
        refused = bare.status is None or bare.status in (401, 403)
        row(
            "a client without a certificate is refused",
            "5.1",
            "no connection, or 401",
            bare.words,
            Verdict.PASS if refused else Verdict.FAIL,
        )
        self._check_status(reply)
        return True

    def _check_status(self, reply: Reply) -> None:
        row, traits = self._findings.row, self._findings.traits
        if reply.status != 200 or reply.json is None:
            row("Get status answers", "5.2", "200 and Status", reply.words, Verdict.FAIL)
            if reply.status in (404, 405, 501):
                traits.add(Trait.NO_STATUS)
            return
        row("Get status answers", "5.2", "200 and Status", reply.words, Verdict.PASS)
        self.status = reply.json
        missing = [name for name in (*STRINGS, *INTEGERS) if name not in self.status]
        row(
            "Status has all members",
            "6.1",
            "11 members",
            "lacks " + ", ".join(missing) if missing else "all",
            Verdict.DEVIATES if missing else Verdict.PASS,
        )
        wrong = [name for name in STRINGS if not isinstance(self.status.get(name, ""), str)]
        wrong += [name for name in INTEGERS if type(self.status.get(name, 0)) is not int]
        row(
            "members of Status have their types",
            "6.1",
            "strings and integers",
            "wrong: " + ", ".join(wrong) if wrong else "all",
            Verdict.DEVIATES if wrong else Verdict.PASS,
        )
        ids = [self.status.get(name) for name in ("master_SAE_ID", "slave_SAE_ID")]
        if any(isinstance(each, int) or str(each).isdecimal() for each in ids):
            traits.add(Trait.INTEGER_SAE_IDS)
        row(
            "Status is about the SAE in the path",
            "5.2",
            f"slave_SAE_ID {self._peer}",
            str(self.status.get("slave_SAE_ID")),
            Verdict.PASS
            if str(self.status.get("slave_SAE_ID")) == self._peer
            else Verdict.DEVIATES,
        )
        self._check_content_type(reply)

    def _check_content_type(self, reply: Reply) -> None:
        good = reply.content_type == "application/json"
        self._findings.row(
            "Content-Type",
            "5.1",
            "application/json",
            reply.content_type,
            Verdict.PASS if good else Verdict.DEVIATES,
        )

    # --- Get key (5.3, 6.2, 6.3) ---

    async def check_keys(self) -> None:
        """Takes 5 keys of a KME that keeps to the standard."""
        first = await self.take(number=1, size=SIZE)
        if first.status in (404, 405, 501) and not first.keys:
            self.get = True
            first = await self.take(number=1, size=SIZE)
            if first.keys:
                self._findings.traits.add(Trait.GET_ONLY)
        self._row_keys("Get key by POST", first, 1, self.get)
        if not first.keys:
            return
        self._check_container(first)
        if not self.get:
            by_get = await self._ask_for_keys("GET", {"number": 1, "size": SIZE})
            self._row_keys("Get key by GET", by_get, 1, False)
            if by_get.status in (404, 405, 501):
                self._findings.traits.add(Trait.POST_ONLY)
        two = await self.take(number=2, size=SIZE)
        self._row_keys("as many keys as asked for", two, 2, False)
        if len(two.keys) == 1:
            self._findings.traits.add(Trait.FEWER_KEYS)
        await self._check_size()

    def _row_keys(self, requirement: str, reply: Reply, number: int, odd: bool) -> None:
        keys = f"{number} key" + ("s" if number > 1 else "")
        count = len(reply.keys)
        got = f"{reply.words}, {count} key" + ("" if count == 1 else "s")
        if odd:
            got = f"POST is not taken; by GET {got}"
        verdict = Verdict.PASS
        if not count:
            verdict = Verdict.FAIL
        if odd or ((number > 1 or "GET" in requirement) and count != number):
            verdict = Verdict.DEVIATES
        self._findings.row(requirement, "5.3", f"200, {keys}", got, verdict)

    def _check_container(self, reply: Reply) -> None:
        key, row = reply.keys[0], self._findings.row
        traits = self._findings.traits
        match key.form:
            case IdForm.UPPER:
                traits.add(Trait.UPPER_KEY_IDS)
            case IdForm.HEX:
                traits.add(Trait.HEX_KEY_IDS)
            case _:
                pass
        verdict = Verdict.PASS if key.form is IdForm.UUID else Verdict.DEVIATES
        verdict = Verdict.FAIL if key.form is IdForm.OTHER else verdict
        row("key_ID is a UUID", "6.3", IdForm.UUID.value, key.form.value, verdict)
        if key.bits is not None and not key.standard_base64:
            traits.add(Trait.ANY_BASE64)
        row(
            "key is base64",
            "6.3",
            "RFC 4648 4, padded",
            "as expected"
            if key.standard_base64
            else "no base64"
            if key.bits is None
            else "another alphabet, no padding or line breaks",
            Verdict.PASS
            if key.standard_base64
            else Verdict.FAIL
            if key.bits is None
            else Verdict.DEVIATES,
        )
        good = key.bits == SIZE and not key.zero
        row(
            "key has the size asked for",
            "6.3",
            f"{SIZE} bits",
            "all zero" if key.zero else f"{key.bits} bits",
            Verdict.PASS if good else Verdict.FAIL,
        )

    async def _check_size(self) -> None:
        """Another size than the usual one, of those that Status allows."""
        low, high = self.status.get("min_key_size", SIZE), self.status.get("max_key_size", SIZE)
        other = next(
            (
                size
                for size in (512, 128, 1024)
                if type(low) is int and type(high) is int and low <= size <= high
            ),
            None,
        )
        if other is None:
            self._findings.row(
                "another size", "6.2", "keys of it", "Status allows one only", Verdict.NOT_TESTED
            )
            reply = await self.take(number=1, size=2 * SIZE)
            if reply.keys and reply.keys[0].bits == SIZE:
                self._findings.traits.add(Trait.IGNORES_SIZE)
            self._findings.row(
                "a size that Status excludes is refused",
                "6.1",
                "400",
                f"{reply.words}, {[key.bits for key in reply.keys]} bits",
                Verdict.PASS if reply.status == 400 else Verdict.DEVIATES,
            )
            return
        reply = await self.take(number=1, size=other)
        bits = [key.bits for key in reply.keys]
        if bits and bits[0] != other:
            self._findings.traits.add(Trait.IGNORES_SIZE)
        self._findings.row(
            "another size",
            "6.2",
            f"200, {other} bits",
            f"{reply.words}, {bits} bits",
            Verdict.PASS if bits == [other] else Verdict.DEVIATES,
        )

    # --- refusals (5.3, 6.2, 6.5) ---

    async def check_refusals(self) -> None:
        """What has to be refused, and with which words. Takes no key where it is."""
        if self.get:
            self._findings.row(
                "refusals", "6.2", "by POST", "POST is not taken", Verdict.NOT_TESTED
            )
            return
        await self._refused(
            "size that is no multiple of 8",
            {"number": 1, "size": SIZE + 1},
            "size shall be a multiple of 8",
        )
        await self._refused(
            "unknown extension_mandatory",
            {"number": 1, "size": SIZE, "extension_mandatory": [EXTENSION]},
            "not all extension_mandatory parameters are supported",
        )
        limit = self.status.get("max_key_per_request")
        if type(limit) is int and limit < 1000:
            await self._refused("more than max_key_per_request", {"number": limit + 1}, None)
        optional = await self._ask_for_keys(
            "POST", {"number": 1, "size": SIZE, "extension_optional": [EXTENSION]}
        )
        handled = optional.message == "not all extension_optional request options handled"
        self._findings.row(
            "unknown extension_optional",
            "6.2",
            "200, or 400 in the standard's words",
            optional.words,
            Verdict.PASS if optional.keys or handled else Verdict.DEVIATES,
        )
        broken = await self._count(await self._wire.ask("POST", self.path("enc_keys"), b"{"))
        self._row_refusal("a body that is not JSON", broken, (400,), None)
        stranger = await self._wire.ask("GET", self.path("status", STRANGER))
        self._row_refusal("an SAE that is not there", stranger, (400, 401), None)

    async def _refused(self, what: str, body: Mapping[str, Any], words: str | None) -> None:
        self._row_refusal(what, await self._ask_for_keys("POST", body), (400,), words)

    def _row_refusal(
        self, what: str, reply: Reply, statuses: tuple[int, ...], words: str | None
    ) -> None:
        expected = " or ".join(str(status) for status in statuses)
        if words is not None:
            expected += f' "{words}"'
        got = reply.words + (f", {len(reply.keys)} keys given" if reply.keys else "")
        good = reply.status in statuses and (words is None or reply.message == words)
        if reply.status == 400 and reply.message is None:
            good, got = False, f"{got}, no Error object (6.5)"
        self._findings.row(
            f"{what} is refused", "6.2", expected, got, Verdict.PASS if good else Verdict.DEVIATES
        )

    # --- inside ---

    async def take(self, *, number: int, size: int) -> Reply:
        """Keys for the slave's side to fetch."""
        reply = await self._ask_for_keys(
            "GET" if self.get else "POST", {"number": number, "size": size}
        )
        self.given += reply.keys
        return reply

    async def _ask_for_keys(self, method: str, request: Mapping[str, Any]) -> Reply:
        path = self.path("enc_keys")
        if method == "GET":
            return await self._count(await self._wire.ask("GET", f"{path}?{urlencode(request)}"))
        body = json.dumps(request).encode()
        return await self._count(await self._wire.ask("POST", path, body))

    async def _count(self, reply: Reply) -> Reply:
        self._findings.keys += len(reply.keys)
        self._findings.lost += reply.status is None
        return reply
