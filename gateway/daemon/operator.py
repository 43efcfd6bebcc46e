"""What the operator may ask over the control socket (``control.server.ControlHandler``)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from gateway.control.protocol import ExitCode
from gateway.daemon.macsec.links import MacsecLinks
from gateway.daemon.roster import Roster
from gateway.daemon.tunnel import Tunnel
from gateway.errors import ControlError
from gateway.model import Protection, Snapshot, StatusEvent
from gateway.protection.inputs import OperatorInitiate, OperatorRekey, OperatorTerminate


class Application(Protocol):
    """The daemon as seen from here."""

    @property
    def roster(self) -> Roster: ...

    @property
    def links(self) -> MacsecLinks: ...

    async def snapshot(self) -> Snapshot: ...

    async def reload(self) -> str: ...

    def subscribe(self) -> AsyncIterator[StatusEvent]: ...


class Operator:
    """Hands requests to the tunnels' policies; the policy has the last word."""

    def __init__(self, application: Application) -> None:
        self._application = application

    async def snapshot(self) -> Snapshot:
        return await self._application.snapshot()

    async def initiate(self, tunnel: str) -> str:
        found = self._find(tunnel)
        found.feed(OperatorInitiate())
        policy = found.protection
        match policy.protection:
            case Protection.DOWN:
                return f"{tunnel}: setting up"
            case Protection.BLOCKED:
                return f"{tunnel}: blocked, set up when QKD keys can be used: {policy.reason}"
            case _:
                return f"{tunnel}: is up already ({policy.protection})"

    async def terminate(self, tunnel: str) -> str:
        self._find(tunnel).feed(OperatorTerminate())
        return f"{tunnel}: closing; it stays down until it is initiated"

    async def rekey(self, tunnel: str) -> str:
        """Of a MACsec link: the connection that gives its CAKs."""
        link = self._application.links.links.get(tunnel)
        if link is not None:
            if link.config.connection is None:
                raise ControlError(f"{tunnel}: a CAK that was agreed by hand is not rekeyed here")
            return await self.rekey(link.config.connection)
        found = self._find(tunnel)
        policy = found.protection
        if policy.protection in (Protection.DOWN, Protection.BLOCKED):
            raise ControlError(
                f"{tunnel}: there is no SA to rekey: {policy.protection}, {policy.reason}"
            )
        found.feed(OperatorRekey())
        return f"{tunnel}: rekeying"

    async def rekey_ike(self, tunnel: str) -> str:
        found = self._find(tunnel)
        policy = found.protection
        if policy.protection in (Protection.DOWN, Protection.BLOCKED):
            raise ControlError(
                f"{tunnel}: there is no IKE SA to rekey: {policy.protection}, {policy.reason}"
            )
        found.rekey_ike()
        return f"{tunnel}: rekeying the IKE SA"

    async def rekey_sak(self, link: str) -> str:
        links = self._application.links.links
        found = links.get(link)
        if found is None:
            known = ", ".join(sorted(links)) or "none"
            raise ControlError(
                f"no MACsec link named {link} (there are: {known})", exit_code=ExitCode.NOT_FOUND
            )
        if not found.new_sak():
            server = found.key_server
            whose = "there is no key server" if server is None else f"{server} is key server"
            raise ControlError(f"{link}: {whose}; only the key server makes SAKs")
        return f"{link}: a new SAK is made"

    async def reload(self) -> str:
        return await self._application.reload()

    def subscribe(self) -> AsyncIterator[StatusEvent]:
        return self._application.subscribe()

    def _find(self, name: str) -> Tunnel:
        tunnel = self._application.roster.tunnels.get(name)
        link = self._application.links.links.get(name)
        if link is not None:
            connection = link.config.connection
            whose = "has no connection" if connection is None else f"is ruled by {connection}"
            raise ControlError(f"{name} is a MACsec link, and {whose}")
        if tunnel is None:
            known = ", ".join(sorted(self._application.roster.tunnels)) or "none"
            raise ControlError(
                f"no tunnel named {name} (there are: {known})", exit_code=ExitCode.NOT_FOUND
            )
        return tunnel
