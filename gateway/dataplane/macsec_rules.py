"""Rules of a SecY that hold whatever carries them out."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import Final

from gateway.dataplane.macsec_port import (
    MACSEC_OVERHEAD,
    ParentState,
    ReceiveSaSpec,
    SecySaState,
    SecySpec,
    TransmitSaSpec,
)
from gateway.errors import DataplaneError
from gateway.mka.registry import CipherSuite
from gateway.model import PortState

ASSOCIATION_NUMBERS: Final = 4  # 802.1AE 9.5: two bits
SALT_SIZE: Final = 12  # octets, 802.1AEbw 14.7
DEVICE_NAME_MAX: Final = 15  # octets, IFNAMSIZ - 1 in linux/if.h
XPN_WINDOW_MAX: Final = (1 << 30) - 1  # 802.1AEbw 10.7.8: a quarter of the lower half


def port_state(*, protects: bool, strict: bool, sends: bool) -> PortState:
    """What passes, from whether frames leave protected, others are dropped, and an SA sends."""
    if not (protects and strict):
        return PortState.CLEAR
    return PortState.SECURED if sends else PortState.BLOCKED


def next_pn_for(lowest_pn: int, window: int, *, xpn: bool) -> int:
    """The next expected packet number with which ``lowest_pn`` is the lowest acceptable one.

    802.1AE 10.6.5: that is the next expected one less the replay window.
    """
    if lowest_pn <= 1:
        return 1
    return min(lowest_pn + window, (1 << (64 if xpn else 32)) - 1)


def device_mtu(spec: SecySpec, parent: ParentState) -> int:
    """Octets. DataplaneError where more is asked for than the parent carries with the overhead."""
    largest = parent.mtu - MACSEC_OVERHEAD
    if spec.mtu is not None and spec.mtu > largest:
        raise DataplaneError(
            f"{spec.device}: an MTU of {spec.mtu} does not fit into {spec.parent}, which has"
            f" {parent.mtu}; MACsec takes {MACSEC_OVERHEAD}: {largest} is the most",
            errno.ERANGE,
        )
    return spec.mtu if spec.mtu is not None else largest


def check_spec(spec: SecySpec) -> None:
    """DataplaneError for what no kernel takes."""
    if not 0 < len(spec.device.encode()) <= DEVICE_NAME_MAX:
        raise DataplaneError(f"{spec.device}: a device name has 1 to 15 octets", errno.EINVAL)
    if spec.suite.xpn and spec.replay_window > XPN_WINDOW_MAX:
        raise DataplaneError(
            f"{spec.device}: with XPN a replay window is at most {XPN_WINDOW_MAX}", errno.EINVAL
        )


def check_sa(device: str, suite: CipherSuite, sa: TransmitSaSpec | ReceiveSaSpec) -> None:
    """DataplaneError for an SA that does not go with the suite."""
    wrong = ""
    if not 0 <= sa.an < ASSOCIATION_NUMBERS:
        wrong = f"there is no AN {sa.an}"
    elif len(sa.key) != suite.key_size:
        wrong = f"{suite.name} needs a key of {suite.key_size} octets, not {len(sa.key)}"
    elif suite.xpn and (sa.ssci is None or sa.salt is None or len(sa.salt) != SALT_SIZE):
        wrong = f"{suite.name} needs an SSCI and a salt of {SALT_SIZE} octets"
    if wrong:
        raise DataplaneError(f"{device}: {wrong}", errno.EINVAL)


def leftover(
    device: str, held: Iterable[SecySaState], sa: TransmitSaSpec | ReceiveSaSpec
) -> SecySaState | None:
    """What stands in the slot of a new SA of this channel and has to go first.

    DataplaneError where its SAK is in the channel already: installed anew, packet numbers would
    begin at 1 once more, and GCM falls when one is used twice under a key.
    """
    found = None
    for other in held:
        if other.ki == sa.ki.encode():
            raise installed_already(device, sa)
        if other.an == sa.an:
            found = other
    return found


def installed_already(device: str, sa: TransmitSaSpec | ReceiveSaSpec) -> DataplaneError:
    """For a SAK that a channel has, or had."""
    return DataplaneError(f"{device}: SAK {sa.ki} was installed already; never twice", errno.EEXIST)
