"""The kernel's MACsec as the gateway's data plane."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Final

from gateway.dataplane.macsec_port import (
    MacsecEvent,
    ParentState,
    ReceiveSaSpec,
    SecySpec,
    SecyState,
    TransmitSaSpec,
)
from gateway.dataplane.macsec_rules import (
    check_sa,
    check_spec,
    device_mtu,
    installed_already,
    leftover,
    next_pn_for,
    port_state,
)
from gateway.dataplane.netlink.link_codec import MACSEC_KIND, Link
from gateway.dataplane.netlink.link_monitor import LinkEvents
from gateway.dataplane.netlink.links import Links
from gateway.dataplane.netlink.macsec_codec import (
    ICV_SIZE,
    Secy,
    decode_secy,
    encode_add_channel,
    encode_add_receive_sa,
    encode_add_transmit_sa,
    encode_dump,
    encode_family_request,
    encode_next_pn,
    encode_permission_trial,
    encode_remove_channel,
    encode_remove_sa,
    encode_sa_active,
)
from gateway.dataplane.netlink.macsec_messages import (
    GENERIC,
    GENL_ID_CTRL,
    family_message,
    macsec_reply,
)
from gateway.dataplane.netlink.parent_filter import ParentFilter
from gateway.dataplane.netlink.request_socket import RequestSocket
from gateway.errors import DataplaneError, StartupError
from gateway.mka.identifiers import Sci
from gateway.mka.registry import CipherSuite
from gateway.model import PortState

SAKS_REMEMBERED: Final = 1024  # of a SAK a minute, 17 hours


class MacsecNetlink:
    """MACsec devices of this network namespace. Implements ``gateway.dataplane.macsec_port``."""

    def __init__(self) -> None:
        self._links = Links()
        self._filter = ParentFilter(self._links.requests)
        self._requests = RequestSocket(GENERIC, {GENL_ID_CTRL: family_message})
        self._family = 0  # number of the generic netlink family
        self._events = LinkEvents()
        self._sent_with: deque[tuple[Sci, bytes]] = deque(maxlen=SAKS_REMEMBERED)

    async def open(self) -> None:
        """StartupError says what is missing: the module macsec, or CAP_NET_ADMIN."""
        try:
            await self._links.requests.open()
            await self._requests.open()
            await self._resolve()
            await self._require_capability()
            await self._events.open()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        self._events.close()
        self._requests.close()
        self._links.requests.close()

    # --- devices -----------------------------------------------------------------------------

    async def parent(self, name: str) -> ParentState:
        link = await self._links.get(name)
        return _parent_state(link, await self._links.addresses(link))

    async def set_up(self, spec: SecySpec) -> SecyState:
        check_spec(spec)
        parent = await self._links.get(spec.parent)
        if len(parent.mac) != 6:
            raise DataplaneError(f"{spec.parent} is no Ethernet interface", errno.EINVAL)
        mtu = device_mtu(spec, _parent_state(parent))
        device = await self._links.find(spec.device)
        if device is not None and device.kind != MACSEC_KIND:
            raise DataplaneError(f"{spec.device} is there and no MACsec device", errno.EEXIST)
        if spec.filtered:
            await self._filter.ensure(parent.index, spec.parent)
        else:
            await self._filter.remove(parent.index, spec.parent)
        await self._links.up(parent)
        device = await self._make_or_adopt(spec, parent, device)
        await self._links.set_mtu(device, mtu)
        for address in spec.addresses:
            await self._links.add_address(device, address)
        await self._links.up(device)
        state = await self.read(spec.device)
        if state is None:
            raise DataplaneError(f"{spec.device} is gone again (ENODEV)", errno.ENODEV)
        return state

    async def _make_or_adopt(self, spec: SecySpec, parent: Link, device: Link | None) -> Link:
        sci = Sci(parent.mac, spec.port)
        if device is not None:
            secy = await self._secy(device)
            same = (parent.index, sci, spec.suite, ICV_SIZE)
            if secy is not None and (device.below, secy.sci, secy.suite, secy.icv_size) == same:
                await self._links.change_macsec(device, spec)
                return device
            await self._links.delete(device)
        return await self._links.make_macsec(spec, parent, sci)

    async def take_down(self, device: str, parent: str) -> None:
        link = await self._links.find(device)
        if link is not None and link.kind == MACSEC_KIND:
            await self._links.delete(link)
        below = await self._links.find(parent)
        if below is not None:
            await self._filter.remove(below.index, parent)

    async def read(self, device: str) -> SecyState | None:
        link = await self._links.find(device)
        secy = await self._secy(link) if link is not None else None
        if link is None or secy is None:
            return None
        if secy.suite is None or link.below is None:
            raise DataplaneError(f"{device} is not a MACsec device like ours", errno.EINVAL)
        return SecyState(
            index=link.index,
            parent=link.below,
            sci=secy.sci,
            suite=secy.suite,
            mtu=link.mtu,
            running=link.up,
            encrypt=secy.encrypt,
            port=port_state(protects=secy.protects, strict=secy.strict, sends=_sends(secy)),
            encoding_an=secy.encoding_an,
            filtered=await self._filter.stands(link.below),
            transmit=secy.transmit,
            receive=secy.receive,
            receive_channels=secy.channels,
            counters=secy.counters,
        )

    async def set_port(self, device: str, state: PortState) -> None:
        await self._links.set_port(await self._links.get(device), clear=state is PortState.CLEAR)

    # --- our own channel ---------------------------------------------------------------------

    async def install_transmit_sa(self, device: str, sa: TransmitSaSpec) -> None:
        """Refused for a SAK that was here before, even where the SA or the device is gone since."""
        link, secy, suite = await self._require(device)
        check_sa(device, suite, sa)
        mark = (secy.sci, sa.ki.encode())
        if mark in self._sent_with:
            raise installed_already(device, sa)
        if leftover(device, secy.transmit, sa) is not None:
            await self.remove_transmit_sa(device, sa.an)
        what = f"{device}: add the transmit SA with AN {sa.an}"
        await self._add_sa(what, encode_add_transmit_sa(link.index, sa, xpn=suite.xpn))
        self._sent_with.append(mark)

    async def transmit_with(self, device: str, an: int) -> None:
        """First active, then in use: between the two, the AN before it still sends."""
        link = await self._links.get(device)
        what = f"{device}: activate the transmit SA with AN {an}"
        await self._execute(what, encode_sa_active(link.index, an, active=True))
        await self._links.encode_with(link, an)

    async def remove_transmit_sa(self, device: str, an: int) -> None:
        link = await self._links.find(device)
        if link is not None:
            await self._remove_sa(f"{device}: the transmit SA with AN {an}", link.index, an)

    # --- channels of peers -------------------------------------------------------------------

    async def install_receive_sa(self, device: str, sa: ReceiveSaSpec) -> None:
        link, secy, suite = await self._require(device)
        check_sa(device, suite, sa)
        if sa.sci == secy.sci:
            raise DataplaneError(f"{device}: {sa.sci} is our own channel", errno.EINVAL)
        held = [other for other in secy.receive if other.sci == sa.sci]
        if leftover(device, held, sa) is not None:
            await self.remove_receive_sa(device, sa.sci, sa.an)
        if sa.sci not in secy.channels:
            request = encode_add_channel(link.index, sa.sci)
            await self._execute(f"{device}: add the channel {sa.sci}", request)
        next_pn = next_pn_for(sa.lowest_pn, secy.window, xpn=suite.xpn)
        request = encode_add_receive_sa(link.index, sa, next_pn=next_pn, xpn=suite.xpn)
        await self._add_sa(f"{device}: add the receive SA of {sa.sci} with AN {sa.an}", request)

    async def raise_lowest_pn(self, device: str, sci: Sci, an: int, lowest_pn: int) -> None:
        """The kernel sets what it is told, so it is read first.

        Frames that come in between may be taken once more, as if the window were larger by as
        many.
        """
        try:
            link, secy, suite = await self._require(device)
        except DataplaneError as error:
            if error.errno == errno.ENODEV:
                return
            raise
        next_pn = next_pn_for(lowest_pn, secy.window, xpn=suite.xpn)
        for sa in secy.receive:
            if (sa.sci, sa.an) == (sci, an) and sa.pn < next_pn:
                request = encode_next_pn(link.index, sci, an, next_pn=next_pn, xpn=suite.xpn)
                await self._unless_gone(f"{device}: raise the lowest PN of {sci}", request)

    async def remove_receive_sa(self, device: str, sci: Sci, an: int) -> None:
        link = await self._links.find(device)
        if link is not None:
            what = f"{device}: the receive SA of {sci} with AN {an}"
            await self._remove_sa(what, link.index, an, sci)

    async def remove_receive_channel(self, device: str, sci: Sci) -> None:
        link = await self._links.find(device)
        if link is not None:
            request = encode_remove_channel(link.index, sci)
            await self._unless_gone(f"{device}: remove the channel {sci}", request)

    def events(self) -> AsyncIterator[MacsecEvent]:
        return self._events.events()

    # -----------------------------------------------------------------------------------------

    async def _resolve(self) -> None:
        """The number of the family; asking for it loads the module."""
        try:
            reply = await self._requests.fetch("find MACsec", GENL_ID_CTRL, encode_family_request())
        except DataplaneError as error:
            raise StartupError(
                f"no MACsec in this kernel (is the module macsec there?): {error}"
            ) from error
        self._family = reply.get_attr("CTRL_ATTR_FAMILY_ID")
        self._requests.learn(self._family, macsec_reply)

    async def _require_capability(self) -> None:
        try:
            await self._execute("open MACsec", encode_permission_trial())
        except DataplaneError as error:
            if error.errno == errno.EPERM:
                raise StartupError(
                    "the capability CAP_NET_ADMIN is missing (MACsec asks for it in the initial"
                    f" user namespace): {error}"
                ) from error

    async def _secy(self, link: Link) -> Secy | None:
        what = f"read the MACsec device {link.name}"
        messages = await self._requests.dump(what, self._family, encode_dump)
        decoded = (decode_secy(message) for message in messages)
        return next((secy for secy in decoded if secy.index == link.index), None)

    async def _require(self, device: str) -> tuple[Link, Secy, CipherSuite]:
        link = await self._links.get(device)
        secy = await self._secy(link)
        if secy is None or secy.suite is None:
            raise DataplaneError(f"there is no MACsec device {device} (ENODEV)", errno.ENODEV)
        return link, secy, secy.suite

    async def _execute(self, what: str, message: Any) -> None:
        await self._requests.execute(what, self._family, message)

    async def _add_sa(self, what: str, message: Any) -> None:
        try:
            await self._execute(what, message)
        except DataplaneError as error:
            missing = "; are the modules gcm, ctr, ghash and aes (gcm(aes)) there?"
            hint = missing if error.errno == errno.ENOENT else ""
            raise DataplaneError(f"{error}{hint}", error.errno) from None

    async def _remove_sa(self, what: str, index: int, an: int, sci: Sci | None = None) -> None:
        """The kernel deletes no SA that is active."""
        request = encode_sa_active(index, an, active=False, sci=sci)
        if await self._unless_gone(f"stop {what}", request):
            await self._unless_gone(f"remove {what}", encode_remove_sa(index, an, sci=sci))

    async def _unless_gone(self, what: str, message: Any) -> bool:
        """Whether what the request is about is there."""
        try:
            await self._execute(what, message)
        except DataplaneError as error:
            if error.errno == errno.ENODEV:
                return False
            raise
        return True


def _parent_state(link: Link, addresses: tuple[Any, ...] = ()) -> ParentState:
    return ParentState(
        index=link.index, mac=link.mac, mtu=link.mtu, running=link.running, addresses=addresses
    )


def _sends(secy: Secy) -> bool:
    encoding = (sa for sa in secy.transmit if sa.an == secy.encoding_an)
    return secy.operational and any(sa.active for sa in encoding)
