"""The parent's filter: EAPOL and MACsec pass, in and out, and nothing else.

A clsact qdisc with three matchall filters in each direction. They are told from other people's by
their priorities and handle, and outlive us.
"""

from __future__ import annotations

import errno
import sys
from dataclasses import dataclass
from typing import Any, Final

from pyroute2.netlink import NLM_F_CREATE, NLM_F_EXCL

from gateway.dataplane.netlink.link_messages import (
    CLSACT_HANDLE,
    TC_ACT_OK,
    TC_ACT_SHOT,
    TC_H_CLSACT,
    TC_H_EGRESS,
    TC_H_INGRESS,
    RouteMessage,
    filter_message,
    qdisc_message,
)
from gateway.dataplane.netlink.request_socket import RequestSocket
from gateway.errors import DataplaneError
from gateway.mka.registry import ETHERTYPE_EAPOL

ETHERTYPE_MACSEC: Final = 0x88E5
ETH_P_ALL: Final = 0x0003
HANDLE: Final = 0x7173_6777  # "qsgw"
QDISC_KIND: Final = "clsact"
FILTER_KIND: Final = "matchall"
ACTION_KIND: Final = "gact"
DIRECTIONS: Final = {TC_H_INGRESS: "ingress", TC_H_EGRESS: "egress"}


@dataclass(frozen=True, slots=True)
class Rule:
    """One filter. The lowest priority is asked first, and its verdict is final."""

    priority: int
    protocol: int
    action: int


RULES: Final = (
    Rule(81, ETHERTYPE_EAPOL, TC_ACT_OK),
    Rule(82, ETHERTYPE_MACSEC, TC_ACT_OK),
    Rule(83, ETH_P_ALL, TC_ACT_SHOT),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A filter as read back. ``rule`` None: not one that could be ours."""

    priority: int
    handle: int
    protocol: int
    rule: Rule | None


class ParentFilter:
    """Of any interface of this namespace, through the socket of routing netlink."""

    def __init__(self, requests: RequestSocket) -> None:
        self._requests = requests

    async def ensure(self, index: int, name: str) -> None:
        """Make it be there, whatever part of it there was."""
        await self._ensure_qdisc(index, name)
        for parent, direction in DIRECTIONS.items():
            found = await self._filters(index, parent)
            for rule in RULES:  # what passes comes before the rule that drops
                await self._ensure_rule(index, parent, rule, found, f"{name} {direction}")

    async def remove(self, index: int, name: str) -> None:
        """Ours only; the qdisc when nothing is left in it."""
        if not await self._has_qdisc(index):
            return
        empty = True
        for parent, direction in DIRECTIONS.items():
            ours = [f for f in await self._filters(index, parent) if f.handle == HANDLE]
            for found in reversed(ours):  # the rule that drops goes first: nothing is cut off
                await self._delete(index, parent, found, f"{name} {direction}")
            empty = empty and not await self._filters(index, parent)
        if empty:
            await self._tolerate(
                f"remove the qdisc {QDISC_KIND} of {name}",
                RouteMessage.DELQDISC,
                encode_qdisc(index),
            )

    async def stands(self, index: int) -> bool:
        """Whether all of it is there, as read back."""
        if not await self._has_qdisc(index):
            return False
        for parent in DIRECTIONS:
            rules = [f.rule for f in await self._filters(index, parent) if f.handle == HANDLE]
            if [rule for rule in rules if rule is not None] != list(RULES):
                return False
        return True

    # -----------------------------------------------------------------------------------------

    async def _has_qdisc(self, index: int) -> bool:
        qdiscs = await self._requests.dump("read qdiscs", RouteMessage.GETQDISC, qdisc_message)
        return any(
            qdisc["index"] == index and qdisc.get_attr("TCA_KIND") == QDISC_KIND for qdisc in qdiscs
        )

    async def _ensure_qdisc(self, index: int, name: str) -> None:
        if await self._has_qdisc(index):
            return
        what = f"add the qdisc {QDISC_KIND} to {name}"
        flags = NLM_F_CREATE | NLM_F_EXCL
        try:
            await self._requests.execute(what, RouteMessage.NEWQDISC, encode_qdisc(index), flags)
        except DataplaneError as error:
            hint = {
                errno.ENOENT: "is the module sch_ingress there?",
                errno.EEXIST: "there is another ingress qdisc; it has no egress side",
            }.get(error.errno, "")
            raise _explained(error, hint) from None

    async def _filters(self, index: int, parent: int) -> list[Found]:
        """By priority."""

        def request() -> Any:
            return encode_filter(index, parent)

        messages = await self._requests.dump("read filters", RouteMessage.GETTFILTER, request)
        return [found for message in messages if (found := decode_filter(message)) is not None]

    async def _ensure_rule(
        self, index: int, parent: int, rule: Rule, there: list[Found], where: str
    ) -> None:
        for found in there:
            if found.priority != rule.priority:
                continue
            if found.handle != HANDLE:
                raise DataplaneError(
                    f"{where}: priority {rule.priority} is taken by a filter that is not ours",
                    errno.EEXIST,
                )
            if found.rule == rule:
                return
            await self._delete(index, parent, found, where)
        message = encode_filter(index, parent, rule, with_action=True)
        try:
            await self._requests.execute(
                f"add a filter to {where}", RouteMessage.NEWTFILTER, message, NLM_F_CREATE
            )
        except DataplaneError as error:
            missing = "are the modules cls_matchall and act_gact there?"
            raise _explained(error, missing if error.errno == errno.ENOENT else "") from None

    async def _delete(self, index: int, parent: int, found: Found, where: str) -> None:
        rule = Rule(found.priority, found.protocol, TC_ACT_OK)
        message = encode_filter(index, parent, rule)
        message["attrs"] = [("TCA_KIND", FILTER_KIND)]
        await self._tolerate(f"remove a filter of {where}", RouteMessage.DELTFILTER, message)

    async def _tolerate(self, what: str, message_type: RouteMessage, message: Any) -> None:
        try:
            await self._requests.execute(what, message_type, message)
        except DataplaneError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV):  # gone
                raise


# --- messages --------------------------------------------------------------------------------


def encode_qdisc(index: int) -> Any:
    message = qdisc_message()
    message.update(index=index, handle=CLSACT_HANDLE, parent=TC_H_CLSACT)
    message["attrs"] = [("TCA_KIND", QDISC_KIND)]
    return message


def encode_filter(
    index: int, parent: int, rule: Rule | None = None, *, with_action: bool = False
) -> Any:
    message = filter_message()
    message.update(index=index, parent=parent)
    if rule is not None:
        message["handle"] = HANDLE
        message["info"] = rule.priority << 16 | _network_order(rule.protocol)
    if rule is not None and with_action:
        parameters = {"attrs": [("TCA_GACT_PARMS", {"action": rule.action})]}
        action = [("TCA_ACT_KIND", ACTION_KIND), ("TCA_ACT_OPTIONS", parameters)]
        options = {"attrs": [("TCA_MATCHALL_ACT", [{"attrs": action}])]}
        message["attrs"] = [("TCA_KIND", FILTER_KIND), ("TCA_OPTIONS", options)]
    return message


def decode_filter(message: Any) -> Found | None:
    """None for what the kernel sends besides: one message per priority, without a filter."""
    if message.get_attr("TCA_CHAIN"):  # only chain 0 is asked
        return None
    if not message["handle"]:
        return None
    priority, protocol = message["info"] >> 16, _network_order(message["info"] & 0xFFFF)
    action = _action(message)
    return Found(
        priority=priority,
        handle=message["handle"],
        protocol=protocol,
        rule=None if action is None else Rule(priority, protocol, action),
    )


def _action(message: Any) -> int | None:
    """The verdict of a filter that takes everything and does just one thing."""
    if message.get_attr("TCA_KIND") != FILTER_KIND:
        return None
    options = message.get_attr("TCA_OPTIONS")
    actions = options.get_attr("TCA_MATCHALL_ACT") if options is not None else None
    if not actions or len(actions) != 1 or actions[0].get_attr("TCA_ACT_KIND") != ACTION_KIND:
        return None
    gact = actions[0].get_attr("TCA_ACT_OPTIONS")
    parameters = gact.get_attr("TCA_GACT_PARMS") if gact is not None else None
    return None if parameters is None else int(parameters["action"])


def _network_order(number: int) -> int:
    return int.from_bytes(number.to_bytes(2, "big"), sys.byteorder)


def _explained(error: DataplaneError, hint: str) -> DataplaneError:
    return DataplaneError(f"{error}; {hint}" if hint else str(error), error.errno)
