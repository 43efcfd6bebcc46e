"""The kernel's IPsec (XFRM) as the gateway's data plane."""

from __future__ import annotations

import errno
import secrets
from collections.abc import AsyncIterator
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from gateway.crypto.secret import Secret
from gateway.dataplane.netlink.monitor import EventSocket
from gateway.dataplane.netlink.request_socket import RequestSocket
from gateway.dataplane.netlink.xfrm_codec import (
    SPI_MIN,
    decode_policy,
    decode_sa,
    encode_encap,
    encode_policy,
    encode_policy_id,
    encode_sa,
    encode_sa_id,
    encode_spi_request,
    is_our_sa,
    policy_label,
    sa_label,
)
from gateway.dataplane.netlink.xfrm_messages import (
    AEAD_KEY_SIZE,
    REPLY_CLASSES,
    XFRM,
    XfrmMessage,
    dump_request,
)
from gateway.dataplane.port import KernelEvent
from gateway.errors import DataplaneError, StartupError
from gateway.model import (
    Direction,
    IpAddress,
    KernelSnapshot,
    PolicySpec,
    SaId,
    SaSpec,
    SaState,
    UdpEncap,
)

# RFC 5737 and RFC 3849: addresses that no traffic has, for trying things out.
TRIAL_ADDRESSES: Final[dict[int, tuple[IpAddress, IpAddress]]] = {
    4: (IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")),
    6: (IPv6Address("2001:db8::1"), IPv6Address("2001:db8::2")),
}
TRIAL_REQID: Final = 0x51

_BAD_DIRECTION: Final = 3  # neither in nor out


class XfrmDataPlane:
    """SAs and policies of this network namespace. Implements ``gateway.dataplane.port``.

    ``ipv6``: whether a tunnel has IPv6 outer addresses, so that ``open`` asks for ESP there too.
    """

    def __init__(self, *, ipv6: bool = False) -> None:
        self._versions = (4, 6) if ipv6 else (4,)
        self._requests = RequestSocket(XFRM, REPLY_CLASSES)
        self._events = EventSocket()
        self._sa_direction = False

    async def open(self) -> None:
        """Open the sockets and try an SA. StartupError says what is missing."""
        try:
            await self.open_sockets()
            for version in self._versions:
                await self._require_esp(version)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close the sockets; SAs and policies stay. Ends ``events()``."""
        self._events.close()
        self._requests.close()

    @property
    def knows_sa_direction(self) -> bool:
        """The kernel checks the direction of SAs (XFRMA_SA_DIR, Linux 6.10)."""
        return self._sa_direction

    async def allocate_spi(self, source: IpAddress, destination: IpAddress, reqid: int) -> int:
        request = encode_spi_request(source, destination, reqid, with_direction=self._sa_direction)
        reply = await self._requests.fetch(
            f"reserve an SPI for {source} -> {destination}", XfrmMessage.ALLOCSPI, request
        )
        spi: int = reply["spi"]
        return spi

    async def install_sa(self, sa: SaSpec) -> None:
        """Inbound: fills its reservation, or comes anew where that has expired (30 s).

        Of an SA in use UPDSA changes lifetimes and encapsulation alone (xfrm_state_update).
        """
        what = f"install {sa.direction.value} {sa_label(sa.sa_id)} for {sa.tunnel}"
        if sa.direction is Direction.INBOUND:
            try:
                await self._put_sa(what, XfrmMessage.UPDSA, sa)
            except DataplaneError as error:
                if error.errno != errno.ESRCH:
                    raise
            else:
                return
        await self._put_sa(what, XfrmMessage.NEWSA, sa)

    async def _put_sa(self, what: str, message_type: XfrmMessage, sa: SaSpec) -> None:
        message = encode_sa(sa, with_direction=self._sa_direction)
        await self._requests.execute(what, message_type, message)

    async def update_encap(self, sa_id: SaId, encap: UdpEncap) -> None:
        """Key, counters and replay window stay: see ``encode_encap``."""
        what = f"update the ports of {sa_label(sa_id)}"
        try:
            known = await self._requests.fetch(what, XfrmMessage.GETSA, encode_sa_id(sa_id))
            message = encode_encap(known, encap, secrets.token_bytes(AEAD_KEY_SIZE))
            await self._requests.execute(what, XfrmMessage.UPDSA, message)
        except DataplaneError as error:
            if error.errno != errno.ESRCH:  # gone
                raise

    async def remove_sa(self, sa_id: SaId) -> None:
        await self._remove(f"remove {sa_label(sa_id)}", XfrmMessage.DELSA, encode_sa_id(sa_id))

    async def set_policy(self, policy: PolicySpec) -> None:
        await self._requests.execute(
            f"set {policy_label(policy)}", XfrmMessage.UPDPOLICY, encode_policy(policy)
        )

    async def remove_policy(self, policy: PolicySpec) -> None:
        await self._remove(
            f"remove {policy_label(policy)}", XfrmMessage.DELPOLICY, encode_policy_id(policy)
        )

    async def _remove(self, what: str, message_type: XfrmMessage, message: object) -> None:
        try:
            await self._requests.execute(what, message_type, message)
        except DataplaneError as error:
            if error.errno not in (errno.ESRCH, errno.ENOENT):  # SA, policy: already gone
                raise

    async def read_sa(self, sa_id: SaId) -> SaState | None:
        try:
            reply = await self._requests.fetch(
                f"read {sa_label(sa_id)}", XfrmMessage.GETSA, encode_sa_id(sa_id)
            )
        except DataplaneError as error:
            if error.errno == errno.ESRCH:
                return None
            raise
        return decode_sa(reply)

    async def snapshot(self) -> KernelSnapshot:
        """SAs with a reqid of ours, policies with a priority and mark of ours."""
        sas = await self._requests.dump("read SAs", XfrmMessage.GETSA, dump_request)
        policies = await self._requests.dump("read policies", XfrmMessage.GETPOLICY, dump_request)
        decoded = (decode_policy(message) for message in policies)
        return KernelSnapshot(
            sas=tuple(decode_sa(message) for message in sas if is_our_sa(message)),
            policies=tuple(policy for policy in decoded if policy is not None),
        )

    def events(self) -> AsyncIterator[KernelEvent]:
        return self._events.events()

    # --- what this kernel can ----------------------------------------------------------------

    async def open_sockets(self) -> None:
        """``open`` without trying an SA: policies and reservations work without ESP too."""
        await self._requests.open()
        self._sa_direction = await self._try_sa_direction()
        await self._events.open()

    async def _try_sa_direction(self) -> bool:
        """Ask for an SA that is not there, with a direction that does not exist.

        A kernel that knows XFRMA_SA_DIR objects to it, an older one skips it and finds no SA.
        """
        message = encode_sa_id(SaId(TRIAL_ADDRESSES[4][1], SPI_MIN))
        message["attrs"] = [("XFRMA_SA_DIR", _BAD_DIRECTION)]
        try:
            await self._requests.fetch("open XFRM", XfrmMessage.GETSA, message)
        except DataplaneError as error:
            if error.errno == errno.EPERM:
                raise StartupError(
                    "the capability CAP_NET_ADMIN is missing (or this network namespace is not"
                    f" ours): {error}"
                ) from error
            return error.errno in (errno.ERANGE, errno.EINVAL)
        return False

    async def try_esp(self, version: int) -> None:
        """Put an SA in like those we use, both ways, and take it out. DataplaneError if not."""
        ours, peer = TRIAL_ADDRESSES[version]
        spi = await self.allocate_spi(peer, ours, TRIAL_REQID)
        for direction, source, destination in (
            (Direction.INBOUND, peer, ours),
            (Direction.OUTBOUND, ours, peer),
        ):
            sa = SaSpec(
                tunnel="trial",
                direction=direction,
                spi=spi,
                source=source,
                destination=destination,
                reqid=TRIAL_REQID,
                key=Secret(secrets.token_bytes(AEAD_KEY_SIZE)),
            )
            try:
                await self.install_sa(sa)
            finally:
                await self.remove_sa(sa.sa_id)

    async def _require_esp(self, version: int) -> None:
        try:
            await self.try_esp(version)
        except DataplaneError as error:
            raise StartupError(
                f"this kernel cannot do IPsec over IPv{version} as needed: {error}"
                f"{_missing_module(error, version)}"
            ) from error


def _missing_module(error: DataplaneError, version: int) -> str:
    match error.errno:
        case errno.EPROTONOSUPPORT:
            return f"; is the module esp{version} there?"
        case errno.ENOSYS | errno.ENOENT:
            return "; are the modules gcm, ctr, ghash and aes (rfc4106(gcm(aes))) there?"
        case _:
            return ""
