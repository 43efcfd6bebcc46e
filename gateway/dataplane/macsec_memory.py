"""MACsec in memory: the kernel's rules without a kernel, and a watch over ours.

What the kernel would carry out although it must not happen, a SAK whose packet numbers begin
anew, is a mistake of the caller: it raises InvariantViolation, which nothing catches.

The content outlives ``close``, as in a kernel: a second daemon can be started on it. Two of these
are joined by ``hears``: whether a frame that the other sends now comes in here.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

from gateway.crypto.secret import Secret
from gateway.dataplane.macsec_port import (
    InterfaceChanged,
    InterfaceEventsLost,
    IpInterface,
    MacsecEvent,
    ParentState,
    ReceiveSaSpec,
    SecySaState,
    SecySpec,
    SecyState,
    TransmitSaSpec,
)
from gateway.dataplane.macsec_rules import (
    check_sa,
    check_spec,
    device_mtu,
    leftover,
    next_pn_for,
    port_state,
)
from gateway.dataplane.memory import InvariantViolation
from gateway.errors import DataplaneError
from gateway.mka.identifiers import Sci
from gateway.mka.registry import CipherSuite
from gateway.model import MacsecCounters, PortState

FRAME_SIZE = 100  # octets, for the counters
_NO_COUNTS = dict.fromkeys(MacsecCounters.__dataclass_fields__, 0)


@dataclass(slots=True, kw_only=True)
class _Sa:
    an: int
    ki: bytes
    key: Secret
    ssci: int | None
    salt: bytes | None
    pn: int
    active: bool

    def state(self, sci: Sci) -> SecySaState:
        return SecySaState(sci=sci, an=self.an, ki=self.ki, active=self.active, pn=self.pn)


@dataclass(slots=True, kw_only=True)
class _Device:
    spec: SecySpec
    index: int
    sci: Sci
    mtu: int
    addresses: set[IpInterface] = field(default_factory=set)
    protect: bool = True
    strict: bool = True
    encoding_an: int = 0
    transmit: dict[int, _Sa] = field(default_factory=dict)
    channels: dict[Sci, dict[int, _Sa]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=_NO_COUNTS.copy)

    @property
    def sender(self) -> _Sa | None:
        """The SA that frames leave with."""
        sa = self.transmit.get(self.encoding_an)
        return sa if sa is not None and sa.active else None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryFrame:
    """A frame on the link. Unprotected where ``sci`` is None."""

    sci: Sci | None
    suite: CipherSuite
    encrypted: bool
    an: int = 0
    pn: int = 0
    secret: bytes = b""  # digest of key, SSCI and salt: who has others cannot validate it


class MemoryMacsec:
    """Implements ``gateway.dataplane.macsec_port.MacsecPlane``, with inspectors beside it."""

    def __init__(self) -> None:
        self.parents: dict[str, ParentState] = {}
        self.filters: set[str] = set()  # names of parents that have one
        self.calls: list[str] = []  # verbs that change something, in order
        self._devices: dict[str, _Device] = {}
        self._used: set[bytes] = set()  # digests of what was ever sent with
        self._open = False
        self._next_index = 1
        self._refusals: dict[str, DataplaneError] = {}
        self._events: asyncio.Queue[MacsecEvent | None] = asyncio.Queue()

    # --- the interfaces there are, and what happens to them ----------------------------------

    def add_parent(
        self,
        name: str,
        mac: bytes,
        *,
        mtu: int = 1500,
        running: bool = True,
        addresses: tuple[IpInterface, ...] = (),
    ) -> None:
        """An interface, plugged in."""
        self.parents[name] = ParentState(
            index=self._new_index(), mac=mac, mtu=mtu, running=running, addresses=addresses
        )
        self.emit(InterfaceChanged(name))

    def change_parent(
        self,
        name: str,
        *,
        mac: bytes | None = None,
        mtu: int | None = None,
        running: bool | None = None,
    ) -> None:
        """What is not given stays."""
        known = self.parents[name]
        self.parents[name] = replace(
            known,
            mac=known.mac if mac is None else mac,
            mtu=known.mtu if mtu is None else mtu,
            running=known.running if running is None else running,
        )
        self.emit(InterfaceChanged(name))

    def remove_parent(self, name: str) -> None:
        """Unplugged: its devices go with it, and its filter."""
        for device in [d for d, held in self._devices.items() if held.spec.parent == name]:
            self.vanish(device)
        del self.parents[name]
        self.filters.discard(name)
        self.emit(InterfaceChanged(name))

    def vanish(self, device: str) -> None:
        """Somebody else deletes the device."""
        self._wipe(self._devices.pop(device))
        self.emit(InterfaceChanged(device))

    def set_next_pn(self, device: str, an: int, pn: int) -> None:
        """As if so many frames had left."""
        self._devices[device].transmit[an].pn = pn

    def emit(self, event: MacsecEvent) -> None:
        self._events.put_nowait(event)

    def lose_events(self) -> None:
        self.emit(InterfaceEventsLost())

    def refuse(self, verb: str, error: DataplaneError) -> None:
        """Let the next call of this verb of the port fail."""
        self._refusals[verb] = error

    # --- the port ----------------------------------------------------------------------------

    async def open(self) -> None:
        self._open = True
        self._events = asyncio.Queue()

    async def close(self) -> None:
        self._open = False
        self._events.put_nowait(None)

    async def parent(self, name: str) -> ParentState:
        self._enter("parent")
        return self._parent(name)

    async def set_up(self, spec: SecySpec) -> SecyState:
        self._enter("set_up", spec.device)
        check_spec(spec)
        parent = self._parent(spec.parent)
        mtu = device_mtu(spec, parent)
        if spec.device in self.parents:
            raise DataplaneError(f"{spec.device} is there and no MACsec device", errno.EEXIST)
        if spec.filtered:
            self.filters.add(spec.parent)
        else:
            self.filters.discard(spec.parent)
        sci = Sci(parent.mac, spec.port)
        held = self._devices.get(spec.device)
        if held is not None and not _same(held, spec, sci):
            self.vanish(spec.device)
            held = None
        if held is None:
            if any((d.spec.parent, d.sci) == (spec.parent, sci) for d in self._devices.values()):
                raise DataplaneError(
                    f"{spec.device}: {spec.parent} has a device with SCI {sci}", errno.EBUSY
                )
            held = _Device(spec=spec, index=self._new_index(), sci=sci, mtu=mtu)
            self._devices[spec.device] = held
        held.spec, held.mtu, held.protect, held.strict = spec, mtu, True, True
        held.addresses.update(spec.addresses)
        if not parent.running:
            self.parents[spec.parent] = replace(parent, running=True)
        self.emit(InterfaceChanged(spec.device))
        return self._state(held)

    async def take_down(self, device: str, parent: str) -> None:
        self._enter("take_down", device)
        if device in self._devices:
            self.vanish(device)
        self.filters.discard(parent)

    async def read(self, device: str) -> SecyState | None:
        self._enter("read")
        held = self._devices.get(device)
        return None if held is None else self._state(held)

    async def set_port(self, device: str, state: PortState) -> None:
        self._enter("set_port", device)
        held = self._device(device)
        held.protect = held.strict = state is not PortState.CLEAR

    async def install_transmit_sa(self, device: str, sa: TransmitSaSpec) -> None:
        self._enter("install_transmit_sa", device)
        held = self._device(device)
        check_sa(device, held.spec.suite, sa)
        old = leftover(device, (other.state(held.sci) for other in held.transmit.values()), sa)
        if old is not None:
            held.transmit.pop(old.an).key.wipe()
        new = _sa(sa, pn=1, active=False)
        used = _secret(held.sci, new)
        if used in self._used:
            raise InvariantViolation(f"{device}: SAK {sa.ki} would use packet numbers again")
        self._used.add(used)
        held.transmit[sa.an] = new

    async def transmit_with(self, device: str, an: int) -> None:
        self._enter("transmit_with", device)
        held = self._device(device)
        if an not in held.transmit:
            raise DataplaneError(f"{device}: no transmit SA with AN {an} (ENODEV)", errno.ENODEV)
        held.transmit[an].active = True
        held.encoding_an = an

    async def remove_transmit_sa(self, device: str, an: int) -> None:
        self._enter("remove_transmit_sa", device)
        if device in self._devices and (sa := self._devices[device].transmit.pop(an, None)):
            sa.key.wipe()

    async def install_receive_sa(self, device: str, sa: ReceiveSaSpec) -> None:
        self._enter("install_receive_sa", device)
        held = self._device(device)
        check_sa(device, held.spec.suite, sa)
        if sa.sci == held.sci:
            raise DataplaneError(f"{device}: {sa.sci} is our own channel", errno.EINVAL)
        channel = held.channels.setdefault(sa.sci, {})
        old = leftover(device, (other.state(sa.sci) for other in channel.values()), sa)
        if old is not None:
            channel.pop(old.an).key.wipe()
        pn = next_pn_for(sa.lowest_pn, held.spec.replay_window, xpn=held.spec.suite.xpn)
        channel[sa.an] = _sa(sa, pn=pn, active=True)

    async def raise_lowest_pn(self, device: str, sci: Sci, an: int, lowest_pn: int) -> None:
        self._enter("raise_lowest_pn", device)
        held = self._devices.get(device)
        sa = held.channels.get(sci, {}).get(an) if held is not None else None
        if held is not None and sa is not None:
            window, xpn = held.spec.replay_window, held.spec.suite.xpn
            sa.pn = max(sa.pn, next_pn_for(lowest_pn, window, xpn=xpn))

    async def remove_receive_sa(self, device: str, sci: Sci, an: int) -> None:
        self._enter("remove_receive_sa", device)
        channels = self._devices[device].channels if device in self._devices else {}
        if sa := channels.get(sci, {}).pop(an, None):
            sa.key.wipe()

    async def remove_receive_channel(self, device: str, sci: Sci) -> None:
        self._enter("remove_receive_channel", device)
        if device in self._devices:
            for sa in self._devices[device].channels.pop(sci, {}).values():
                sa.key.wipe()

    async def events(self) -> AsyncIterator[MacsecEvent]:
        while (event := await self._events.get()) is not None:
            yield event

    # --- frames ------------------------------------------------------------------------------

    def addresses(self, device: str) -> set[IpInterface]:
        return self._devices[device].addresses

    def send(self, device: str) -> MemoryFrame | None:
        """A frame given to the device; what leaves the parent, None where nothing does."""
        held = self._devices.get(device)
        if held is None or not self.parents[held.spec.parent].running:
            return None
        if not held.protect:
            held.counts["out_untagged"] += 1
            plain = MemoryFrame(sci=None, suite=held.spec.suite, encrypted=False)
            return plain if held.spec.parent not in self.filters else None
        sa = held.sender
        if sa is None:
            return None
        frame = MemoryFrame(
            sci=held.sci,
            suite=held.spec.suite,
            encrypted=held.spec.encrypt,
            an=sa.an,
            pn=sa.pn,
            secret=_secret(held.sci, sa),
        )
        sa.pn += 1
        if sa.pn == 1 << (64 if held.spec.suite.xpn else 32):
            sa.active = False  # 802.1AE 10.5.2: no number is left
        held.counts["out_packets"] += 1
        held.counts["out_octets"] += FRAME_SIZE
        return frame

    def take_in(self, device: str, frame: MemoryFrame) -> bool:
        """A frame comes from the link; whether the device hands it up."""
        held = self._devices.get(device)
        if held is None or not self.parents[held.spec.parent].running:
            return False
        if frame.sci is None:
            if held.spec.parent in self.filters:
                return False
            return self._count(held, taken=not held.strict, ok="in_untagged", bad="in_no_tag")
        may_pass = not (held.strict or frame.encrypted)
        channel = held.channels.get(frame.sci)
        if channel is None:
            return self._count(held, taken=may_pass, ok="in_unknown_sci", bad="in_no_sci")
        sa = channel.get(frame.an)
        if sa is None or not sa.active:
            return self._count(held, taken=may_pass, ok="in_unused_sa", bad="in_not_using_sa")
        if frame.suite is not held.spec.suite or frame.secret != _secret(frame.sci, sa):
            return self._count(held, taken=may_pass, ok="in_invalid", bad="in_not_valid")
        if frame.pn < sa.pn - held.spec.replay_window:  # 802.1AE 10.6.2, 10.6.5
            held.counts["in_late"] += 1
            return False
        sa.pn = max(sa.pn, frame.pn + 1)
        held.counts["in_ok"] += 1
        held.counts["in_octets"] += FRAME_SIZE
        return True

    def hears(self, other: MemoryMacsec, *, device: str = "", from_device: str = "") -> bool:
        """Whether a frame that ``other`` sends now is handed up here. Counts at both ends.

        Without names: the only device of each.
        """
        frame = other.send(from_device or other.only_device())
        return frame is not None and self.take_in(device or self.only_device(), frame)

    def only_device(self) -> str:
        """Empty where there is none."""
        names = list(self._devices)
        if len(names) > 1:
            raise ValueError(f"which of {', '.join(names)}?")
        return names[0] if names else ""

    # -----------------------------------------------------------------------------------------

    def _enter(self, verb: str, device: str = "") -> None:
        if not self._open:
            raise DataplaneError(f"{verb}: the MACsec plane is not open", errno.EBADF)
        refusal = self._refusals.pop(verb, None)
        if refusal is not None:
            raise refusal
        if device:
            self.calls.append(f"{verb} {device}")

    def _new_index(self) -> int:
        self._next_index += 1
        return self._next_index

    def _parent(self, name: str) -> ParentState:
        if name not in self.parents:
            raise DataplaneError(f"there is no interface {name} (ENODEV)", errno.ENODEV)
        return self.parents[name]

    def _device(self, name: str) -> _Device:
        if name not in self._devices:
            raise DataplaneError(f"there is no MACsec device {name} (ENODEV)", errno.ENODEV)
        return self._devices[name]

    def _count(self, held: _Device, *, taken: bool, ok: str, bad: str) -> bool:
        held.counts[ok if taken else bad] += 1
        return taken

    def _wipe(self, held: _Device) -> None:
        for sas in (held.transmit, *held.channels.values()):
            for sa in sas.values():
                sa.key.wipe()

    def _state(self, held: _Device) -> SecyState:
        return SecyState(
            index=held.index,
            parent=self.parents[held.spec.parent].index,
            sci=held.sci,
            suite=held.spec.suite,
            mtu=held.mtu,
            running=True,
            encrypt=held.spec.encrypt,
            port=port_state(
                protects=held.protect, strict=held.strict, sends=held.sender is not None
            ),
            encoding_an=held.encoding_an,
            filtered=held.spec.parent in self.filters,
            transmit=tuple(sa.state(held.sci) for sa in _by_an(held.transmit)),
            receive=tuple(
                sa.state(sci) for sci, sas in held.channels.items() for sa in _by_an(sas)
            ),
            receive_channels=tuple(held.channels),
            counters=MacsecCounters(**held.counts),
        )


def _same(held: _Device, spec: SecySpec, sci: Sci) -> bool:
    return (held.spec.parent, held.sci, held.spec.suite) == (spec.parent, sci, spec.suite)


def _by_an(sas: dict[int, _Sa]) -> list[_Sa]:
    return [sas[an] for an in sorted(sas)]


def _sa(spec: TransmitSaSpec | ReceiveSaSpec, *, pn: int, active: bool) -> _Sa:
    return _Sa(
        an=spec.an,
        ki=spec.ki.encode(),
        key=Secret(spec.key.expose()),  # a kernel copies; the caller wipes its own
        ssci=spec.ssci,
        salt=spec.salt,
        pn=pn,
        active=active,
    )


def _secret(sci: Sci, sa: _Sa) -> bytes:
    """What a sender and a receiver of one channel have in common."""
    parts = (sci.encode(), sa.key.expose(), repr(sa.ssci).encode(), sa.salt or b"")
    return hashlib.sha256(b"|".join(parts)).digest()
