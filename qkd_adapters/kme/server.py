"""The ETSI GS QKD 014 V1.1.1 server of one KME: HTTP in front of store and link agent."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from qkd_adapters.errors import (
    EventStreamError,
    ForeignKeyError,
    KmeStartupError,
    NotEnoughKeysError,
    QuarantinedKeyError,
    UnknownKeyError,
)
from qkd_adapters.kme.agent import LinkAgent
from qkd_adapters.kme.config import KmeSettings
from qkd_adapters.kme.etsi014 import (
    RefusedError,
    container,
    parse_dec_get,
    parse_dec_post,
    parse_enc_get,
    parse_enc_post,
)
from qkd_adapters.kme.events import EVENTS, EventStreams, link_report
from qkd_adapters.kme.faults import (
    CONTAINER_FAULTS,
    SLOW_ANSWER,
    Fault,
    FaultSwitches,
    unsynchronised,
)
from qkd_adapters.kme.identity import SaeDirectory
from qkd_adapters.kme.quirks import PREFIX, Quirks
from qkd_adapters.kme.skip import SkipResources
from qkd_adapters.kme.store import DeliveredKey
from qkd_adapters.link.messages import BLOCK_BITS, Direction
from qkd_adapters.logs import EventLog

# How long dec_keys waits for the peer KME's notice of a key it does not know yet. Seconds.
NOTICE_WAIT = 1.0
API = "/api/v1/keys/{sae}"
MAX_BODY = 64 * 1024  # octets; 128 key ids are 7 kB

_log = EventLog("qsgw_kme.server")
_Handler = Callable[[web.Request, str], Awaitable[web.StreamResponse]]


def server_context(settings: KmeSettings) -> ssl.SSLContext:
    """TLS 1.3, client certificates mandatory. Raises KmeStartupError naming the file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.num_tickets = 0  # no resumption: every connection shows its certificate
    try:
        context.load_verify_locations(cafile=settings.ca)
    except (OSError, ssl.SSLError) as error:
        raise KmeStartupError(f"CA certificates {settings.ca}: {_reason(error)}") from error
    try:
        # An encrypted key fails at once; without a password OpenSSL would ask on the terminal.
        context.load_cert_chain(settings.certificate, settings.key, password="")
    except (OSError, ssl.SSLError) as error:
        raise KmeStartupError(
            f"certificate {settings.certificate} with key {settings.key}: {_reason(error)}"
        ) from error
    return context


def _reason(error: OSError) -> str:
    return getattr(error, "reason", None) or error.strerror or str(error)


class KmeServer:
    """Handlers of the resources. Who asks is in the certificate; whom for, in the URL."""

    def __init__(
        self, settings: KmeSettings, agent: LinkAgent, faults: FaultSwitches, quirks: Quirks
    ) -> None:
        self._settings = settings
        self._quirks = quirks
        self._agent = agent
        self._store = agent.store
        self._faults = faults
        self._directory = SaeDirectory(settings.saes)
        self.events = EventStreams(agent)

    def application(self) -> web.Application:
        app = web.Application(
            client_max_size=MAX_BODY, middlewares=[self._quirks.middleware, self._outermost]
        )
        for base in (API, PREFIX + API):  # which of them answers is decided by the quirks
            # allow_head: a HEAD would consume keys and deliver none.
            app.router.add_get(f"{base}/status", self._as(self._status), allow_head=False)
            for name, handler in (("enc_keys", self._enc_keys), ("dec_keys", self._dec_keys)):
                app.router.add_get(f"{base}/{name}", self._as(handler), allow_head=False)
                app.router.add_post(f"{base}/{name}", self._as(handler))
        skip = SkipResources(self._settings, self._agent, self._faults, self._await_notices)
        skip.add_to(app.router)
        app.router.add_get(f"{EVENTS}/{{sae}}", self._as(self._events), allow_head=False)
        app.on_shutdown.append(self.events.close)
        return app

    # --- around every request ---

    @web.middleware
    async def _outermost(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        """Every error is an ETSI 014 Error object."""
        try:
            return await handler(request)
        except RefusedError as refusal:
            return _json(refusal.body(), refusal.status)
        except web.HTTPException as error:
            response = _json(RefusedError(error.status, error.reason).body(), error.status)
            if "Allow" in error.headers:
                response.headers["Allow"] = error.headers["Allow"]
            return response
        except ConnectionError:
            raise
        except Exception as error:  # noqa: BLE001  (a fault of ours is the client's 503, with no details)
            _log.failure("request-failed", error, path=request.path)
            return _json(RefusedError(503, "internal error of the KME").body(), 503)

    def _as(self, handler: _Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """Identify the caller, check the pair, account for refusals."""

        async def run(request: web.Request) -> web.StreamResponse:
            caller = self._directory.identify(request.get_extra_info("peercert"))
            if caller is None:
                _log.warning("unknown-certificate", remote=request.remote)
                raise RefusedError(401, "the certificate is not that of an SAE of this KME")
            other = request.match_info["sae"]
            if (caller, other) not in self._settings.pairs:
                _log.warning("unknown-pair", sae=caller, other=other)
                raise RefusedError(401, "this SAE shares no keys with the SAE in the path")
            try:
                return await handler(request, caller)
            except RefusedError as refusal:
                direction = Direction(caller, other)
                if request.path.endswith("/dec_keys"):
                    direction = Direction(other, caller)
                self._store.account(direction).refused[refusal.status] += 1
                _log.info(
                    "refused",
                    sae=caller,
                    other=other,
                    method=request.method,
                    resource=request.path.rpartition("/")[2],
                    status=refusal.status,
                    reason=refusal.message,
                )
                raise

        return run

    # --- the resources ---

    async def _status(self, request: web.Request, caller: str) -> web.StreamResponse:
        """Get status."""
        limits = self._settings.keys
        direction = Direction(caller, request.match_info["sae"])
        answer = {
            "source_KME_ID": self._settings.kme_id,
            "target_KME_ID": self._settings.peer_kme,
            "master_SAE_ID": direction.master,
            "slave_SAE_ID": direction.slave,
            "key_size": BLOCK_BITS,
            "stored_key_count": self._store.stored(direction),
            "max_key_count": limits.max_count,
            "max_key_per_request": limits.max_per_request,
            "max_key_size": limits.max_size,
            "min_key_size": limits.min_size,
            "max_SAE_ID_count": limits.max_sae_ids,
            "status_extension": {
                "qsgw_link": link_report(self._agent, direction),
                "qsgw_accounting": self._store.account(direction).as_json(),
            },
        }
        return _json(msgspec.json.encode(answer))

    async def _events(self, request: web.Request, caller: str) -> web.StreamResponse:
        """Our own: what the link does, told as it happens."""
        try:
            return await self.events.serve(request, caller)
        except EventStreamError as error:
            raise RefusedError(503, str(error)) from error

    async def _enc_keys(self, request: web.Request, caller: str) -> web.StreamResponse:
        """Get key: we are asked by the master SAE."""
        limits = self._settings.keys
        await self._fail_before()
        if request.method == "POST":
            wanted = parse_enc_post(await request.read(), limits)
        else:
            wanted = parse_enc_get(request.query, limits)
        wanted = self._quirks.wanted(wanted)
        direction = Direction(caller, request.match_info["sae"])
        for slave in wanted.additional:
            if slave == direction.slave or (caller, slave) not in self._settings.pairs:
                raise RefusedError(400, "unknown additional_slave_SAE_ID", {"SAE_ID": slave})
        try:
            keys = self._store.take(
                direction, count=wanted.number, size=wanted.size, additional=wanted.additional
            )
        except NotEnoughKeysError as error:
            raise RefusedError(
                503,
                "not enough keys",
                {"available": error.available, "number": error.needed},
            ) from error
        _log.info(
            "enc_keys", master=caller, slave=direction.slave, count=len(keys), size=wanted.size
        )
        if self._faults.is_on(Fault.DESYNCHRONISED):
            keys = unsynchronised(keys)
        return await self._deliver(request, keys)

    async def _dec_keys(self, request: web.Request, caller: str) -> web.StreamResponse:
        """Get key with key IDs: we are asked by a slave SAE."""
        await self._fail_before()
        if request.method == "POST":
            key_ids = parse_dec_post(await request.read(), self._settings.keys)
        else:
            key_ids = parse_dec_get(request.query)
        direction = Direction(request.match_info["sae"], caller)
        again = self._quirks.read_before(direction, key_ids)
        if again is not None:
            return await self._deliver(request, again)
        await self._await_notices(direction, key_ids)
        self._quirks.forget(self._store, direction)
        if self._faults.is_on(Fault.EXPIRED):
            self._store.forget_awaiting(direction)
        try:
            keys = self._store.fetch(direction, key_ids)
        except ForeignKeyError as error:
            raise RefusedError(
                401, "one or more keys belong to another pair of SAEs", *_ids(error)
            ) from error
        except QuarantinedKeyError as error:
            raise RefusedError(
                400,
                "one or more keys were quarantined: the link was suspect when they were made",
                *_ids(error),
            ) from error
        except UnknownKeyError as error:
            raise RefusedError(
                400, "one or more keys specified are not found on KME", *_ids(error)
            ) from error
        _log.info("dec_keys", master=direction.master, slave=caller, count=len(keys))
        self._quirks.remember(direction, keys)
        return await self._deliver(request, keys)

    async def _await_notices(self, direction: Direction, key_ids: tuple[str, ...]) -> None:
        """The master may have its key before its KME's notice has reached us."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + NOTICE_WAIT
        while self._store.unannounced(direction, key_ids) and self._agent.expects_notices():
            remaining = give_up - loop.time()
            if remaining <= 0:
                return
            await self._agent.wait_news(remaining)

    # --- answers, and what can go wrong with them ---

    async def _fail_before(self) -> None:
        if self._faults.is_on(Fault.SLOW):
            await _pause(SLOW_ANSWER)
        if self._faults.is_on(Fault.UNAVAILABLE):
            raise RefusedError(503, "the KME is not available")

    async def _deliver(
        self, request: web.Request, keys: tuple[DeliveredKey, ...]
    ) -> web.StreamResponse:
        answer: dict[str, Any] = container(keys)
        self._quirks.dress(answer)
        for fault, spoil in CONTAINER_FAULTS.items():
            if self._faults.is_on(fault):
                spoil(answer)
        body = msgspec.json.encode(answer)
        if self._faults.is_on(Fault.LOST_ANSWER):
            return _hang_up(request, web.Response())
        if self._faults.is_on(Fault.GARBAGE):
            return _json(b"\xff\x00 this is not JSON")
        if self._faults.is_on(Fault.TRUNCATED):
            response = web.StreamResponse(headers={"Content-Type": "application/json"})
            response.content_length = len(body)
            await response.prepare(request)
            await response.write(body[: len(body) // 2])
            return _hang_up(request, response)
        return _json(body)


async def _pause(seconds: float) -> None:
    await asyncio.sleep(seconds)


def _hang_up(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """End the connection in the middle of the exchange; what is left of it goes nowhere."""
    if request.transport is not None:
        request.transport.close()
    return response


def _ids(error: UnknownKeyError) -> tuple[dict[str, str], ...]:
    return tuple({"key_ID": key_id} for key_id in error.key_ids)


def _json(body: bytes, status: int = 200) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json")
