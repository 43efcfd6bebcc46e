"""Certificates and servers on loopback for the tests of the KME client."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import pytest
import pytest_asyncio
from aiohttp import web

from kms_client.etsi014 import KmeClient
from kms_client.tls import TlsFiles
from tests.support.pki import Authority, make_authority


@dataclass(frozen=True)
class Pki:
    ca: Authority
    foreign: Authority  # nobody trusts it
    server: TlsFiles
    sae: TlsFiles


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    directory = tmp_path_factory.mktemp("pki")
    ca = make_authority(directory, "lab")
    return Pki(
        ca=ca,
        foreign=make_authority(directory, "foreign"),
        server=ca.issue("kme", hosts=("127.0.0.1", "localhost")),
        sae=ca.issue("moon"),
    )


@pytest.fixture(scope="session")
def expired_ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("old"), "old", days=-1)


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """As a KME has it: mutual TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cafile=files.ca)
    context.load_cert_chain(files.certificate, files.key)
    return context


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
RawHandler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Serve = Callable[..., Awaitable[str]]


@pytest_asyncio.fixture
async def serve(pki: Pki) -> AsyncIterator[Serve]:
    """``await serve(handler)``: an aiohttp server with TLS; returns its URL."""
    runners: list[web.AppRunner] = []

    async def start(
        handler: Handler, *, files: TlsFiles | None = None, host: str = "127.0.0.1"
    ) -> str:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
        await runner.setup()
        runners.append(runner)
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_context(files or pki.server))
        await site.start()
        return f"https://{host}:{runner.addresses[0][1]}"

    yield start
    for runner in runners:
        await runner.cleanup()


@pytest_asyncio.fixture
async def serve_raw(pki: Pki) -> AsyncIterator[Serve]:
    """``await serve_raw(handler)``: bare streams, for servers that break HTTP or TLS."""
    servers: list[asyncio.Server] = []

    async def start(handler: RawHandler, *, tls: bool = True) -> str:
        async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await handler(reader, writer)
            except (OSError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

        context = server_context(pki.server) if tls else None
        server = await asyncio.start_server(guarded, "127.0.0.1", 0, ssl=context)
        servers.append(server)
        return f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    yield start
    for server in servers:
        server.close()


@pytest_asyncio.fixture
async def connect(pki: Pki) -> AsyncIterator[Callable[..., KmeClient]]:
    """``connect(url)``: a client called "primary", closed at the end of the test."""
    clients: list[KmeClient] = []

    def make(url: str, *, tls: TlsFiles | None = None, timeout: float = 3.0) -> KmeClient:
        client = KmeClient(name="primary", url=url, tls=tls or pki.sae, timeout=timeout)
        clients.append(client)
        return client

    yield make
    for client in clients:
        await client.close()


@pytest.fixture
def serve_with_alerts(pki: Pki) -> Iterator[Callable[[], str]]:
    """``serve_with_alerts()``: a server on OpenSSL alone; asyncio's sends no TLS alerts."""
    listeners: list[tuple[socket.socket, threading.Thread]] = []

    def serve_one(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        connection.settimeout(3)
        with connection, suppress(OSError):
            server_context(pki.server).wrap_socket(
                connection, server_side=True, suppress_ragged_eofs=False
            )

    def start() -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        thread = threading.Thread(target=serve_one, args=(listener,))
        thread.start()
        listeners.append((listener, thread))
        return f"https://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for listener, thread in listeners:
        thread.join(3)
        listener.close()
