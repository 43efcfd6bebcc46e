"""Interfaces of this namespace: read, made, changed."""

from __future__ import annotations

import errno
from typing import Any

from pyroute2.netlink import NLM_F_CREATE, NLM_F_EXCL

from gateway.dataplane.macsec_port import IpInterface, SecySpec
from gateway.dataplane.netlink.link_codec import (
    Link,
    decode_address,
    decode_link,
    encode_address_dump,
    encode_encoding_an,
    encode_link_by_index,
    encode_link_by_name,
    encode_link_mtu,
    encode_link_up,
    encode_macsec_port,
    encode_macsec_settings,
    encode_new_address,
    encode_new_macsec,
    encode_new_pair,
)
from gateway.dataplane.netlink.link_messages import REPLY_CLASSES, ROUTE, RouteMessage
from gateway.dataplane.netlink.request_socket import RequestSocket
from gateway.errors import DataplaneError
from gateway.mka.identifiers import Sci


class Links:
    """Through a socket of routing netlink, which ``requests`` gives to others too."""

    def __init__(self) -> None:
        self.requests = RequestSocket(ROUTE, REPLY_CLASSES)

    async def find(self, name: str) -> Link | None:
        request = encode_link_by_name(name)
        try:
            reply = await self.requests.fetch(f"read {name}", RouteMessage.GETLINK, request)
        except DataplaneError as error:
            if error.errno == errno.ENODEV:
                return None
            raise
        return decode_link(reply)

    async def get(self, name: str) -> Link:
        link = await self.find(name)
        if link is None:
            raise DataplaneError(f"there is no interface {name} (ENODEV)", errno.ENODEV)
        return link

    async def addresses(self, link: Link) -> tuple[IpInterface, ...]:
        messages = await self.requests.dump(
            "read addresses", RouteMessage.GETADDR, encode_address_dump
        )
        decoded = (decode_address(message) for message in messages)
        return tuple(address for index, address in decoded if index == link.index)

    async def up(self, link: Link) -> None:
        if not link.up:
            await self._change(f"bring {link.name} up", encode_link_up(link.index))

    async def set_mtu(self, link: Link, mtu: int) -> None:
        if link.mtu != mtu:
            what = f"set the MTU of {link.name} to {mtu}"
            await self._change(what, encode_link_mtu(link.index, mtu))

    async def add_address(self, link: Link, address: IpInterface) -> None:
        """One that is there is no error."""
        what = f"add {address} to {link.name}"
        flags = NLM_F_CREATE | NLM_F_EXCL
        request = encode_new_address(link.index, address)
        try:
            await self.requests.execute(what, RouteMessage.NEWADDR, request, flags)
        except DataplaneError as error:
            if error.errno != errno.EEXIST:
                raise

    async def delete(self, link: Link) -> None:
        """One that is gone is no error."""
        request = encode_link_by_index(link.index)
        try:
            await self.requests.execute(f"delete {link.name}", RouteMessage.DELLINK, request)
        except DataplaneError as error:
            if error.errno != errno.ENODEV:
                raise

    async def make_ethernet(self, name: str) -> Link:
        """One end of a pair, to try things on."""
        flags = NLM_F_CREATE | NLM_F_EXCL
        request = encode_new_pair(name)
        await self.requests.execute(f"make {name} (veth)", RouteMessage.NEWLINK, request, flags)
        return await self.get(name)

    # --- MACsec devices ----------------------------------------------------------------------

    async def make_macsec(self, spec: SecySpec, parent: Link, sci: Sci) -> Link:
        """Down; nothing can pass it."""
        what = f"make the MACsec device {spec.device} on {spec.parent}"
        flags = NLM_F_CREATE | NLM_F_EXCL
        request = encode_new_macsec(spec, parent.index, sci)
        try:
            await self.requests.execute(what, RouteMessage.NEWLINK, request, flags)
        except DataplaneError as error:
            hint = {
                errno.EOPNOTSUPP: "; is the module macsec there?",
                errno.EBUSY: f"; is there another device with SCI {sci} on {spec.parent}, or is it"
                " part of a bridge or bond?",
            }.get(error.errno, "")
            raise DataplaneError(f"{error}{hint}", error.errno) from None
        return await self.get(spec.device)

    async def change_macsec(self, link: Link, spec: SecySpec) -> None:
        request = encode_macsec_settings(link.index, spec)
        await self._change(f"change the MACsec device {link.name}", request)

    async def set_port(self, link: Link, *, clear: bool) -> None:
        what = "unprotected frames" if clear else "protected frames only"
        await self._change(f"{link.name}: {what}", encode_macsec_port(link.index, clear=clear))

    async def encode_with(self, link: Link, an: int) -> None:
        await self._change(f"{link.name}: send with AN {an}", encode_encoding_an(link.index, an))

    async def _change(self, what: str, message: Any) -> None:
        await self.requests.execute(what, RouteMessage.NEWLINK, message)
