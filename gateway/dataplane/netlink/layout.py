"""How our netlink messages are laid out, on pyroute2's netlink core.

Fields are packed without alignment, so padding is explicit. A message class must never be derived
from another one (pyroute2 would reuse the parent's compiled attribute map): what they share is
tuples of fields.
"""

from __future__ import annotations

import struct
from itertools import groupby
from typing import Any, Final, NamedTuple

Fields = tuple[tuple[str, str], ...]
"""Names and formats of struct; a leading ``>`` is network order."""

_ALIGNMENT: Final = 4  # octets: NLMSG_ALIGNTO, NLA_ALIGNTO


class NetlinkFamily(NamedTuple):
    """A protocol of netlink(7)."""

    number: int
    name: str  # for messages
    module: str  # that has it


class Layout:
    """Fields in a row, without alignment. Values that are not given are zero."""

    __slots__ = ("_runs", "size")

    def __init__(self, fields: Fields) -> None:
        # A struct has one byte order, so there is one for each run of fields in the same.
        self._runs = [
            (
                struct.Struct((">" if big else "=") + "".join(fmt.lstrip(">") for _, fmt in run)),
                {name: _zero(fmt) for name, fmt in run if not fmt.endswith("x")},
            )
            for big, run in _runs(fields)
        ]
        self.size = sum(layout.size for layout, _ in self._runs)  # octets

    def pack(self, values: dict[str, Any]) -> bytes:
        get = dict.get  # pyroute2's messages are dictionaries with a slow one of their own
        return b"".join(
            layout.pack(*(get(values, name, zero) for name, zero in zeros.items()))
            for layout, zeros in self._runs
        )

    def unpack(self, data: bytes, offset: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for layout, names in self._runs:
            values.update(zip(names, layout.unpack_from(data, offset), strict=True))
            offset += layout.size
        return values


def _runs(fields: Fields) -> list[tuple[bool, list[tuple[str, str]]]]:
    """Neighbours of one byte order, each with whether it is the network's."""
    return [(big, list(run)) for big, run in groupby(fields, key=lambda field: field[1][0] == ">")]


def _zero(fmt: str) -> bytes | int:
    return bytes(struct.calcsize(fmt)) if fmt.endswith("s") else 0


def declare(base: Any, name: str, fields: Fields, attributes: Any = (), **nested: Any) -> Any:
    """A message or attribute class of pyroute2 with these fields in front of its attributes."""
    layout = Layout(fields)
    if layout.size % _ALIGNMENT:
        raise ValueError(f"{name} has {layout.size} octets")

    # In place of pyroute2's own, which take one field at a time: ten times as long for a policy.
    def ft_encode(self: Any, offset: int) -> tuple[int, int]:
        self.data += layout.pack(self)
        return offset + layout.size, 0

    def ft_decode(self: Any, offset: int) -> None:
        self.update(layout.unpack(self.data, offset))
        if self.nla_map:
            self.decode_nlas(offset + layout.size)

    body = {"fields": fields, "ft_encode": ft_encode, "ft_decode": ft_decode, **nested}
    if attributes:
        body["nla_map"] = attributes
    return type(name, (base,), body)
