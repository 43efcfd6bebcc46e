"""Requests to the generic netlink family "macsec", and what its dump says, in our terms."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from gateway.dataplane.macsec_port import ReceiveSaSpec, SecySaState, TransmitSaSpec
from gateway.dataplane.netlink.macsec_messages import (
    CTRL_CMD_GETFAMILY,
    MACSEC_FAMILY,
    MACSEC_VERSION,
    VALIDATE_STRICT,
    MacsecCommand,
    family_message,
    macsec_request,
)
from gateway.mka.identifiers import Sci
from gateway.mka.registry import CipherSuite, cipher_suite
from gateway.model import MacsecCounters

ICV_SIZE: Final = 16  # octets, 802.1AE 14.5; the kernel's default

_SECY_COUNTERS: Final = {
    "out_untagged": "OUT_PKTS_UNTAGGED",
    "in_untagged": "IN_PKTS_UNTAGGED",
    "in_no_tag": "IN_PKTS_NO_TAG",
    "in_bad_tag": "IN_PKTS_BAD_TAG",
    "in_unknown_sci": "IN_PKTS_UNKNOWN_SCI",
    "in_no_sci": "IN_PKTS_NO_SCI",
    "in_overrun": "IN_PKTS_OVERRUN",
}
_CHANNEL_COUNTERS: Final = {
    "in_ok": ("IN_PKTS_OK",),
    "in_octets": ("IN_OCTETS_VALIDATED", "IN_OCTETS_DECRYPTED"),
    "in_not_using_sa": ("IN_PKTS_NOT_USING_SA",),
    "in_unused_sa": ("IN_PKTS_UNUSED_SA",),
    "in_not_valid": ("IN_PKTS_NOT_VALID",),
    "in_invalid": ("IN_PKTS_INVALID",),
    "in_late": ("IN_PKTS_LATE",),
    "in_delayed": ("IN_PKTS_DELAYED",),
    "in_unchecked": ("IN_PKTS_UNCHECKED",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Secy:
    """One device in the dump."""

    index: int
    sci: Sci
    suite: CipherSuite | None  # None: one that is not known here
    icv_size: int  # octets
    encoding_an: int
    window: int
    protects: bool
    strict: bool
    operational: bool  # the kernel would send: the encoding SA is there and active
    encrypt: bool
    transmit: tuple[SecySaState, ...]
    receive: tuple[SecySaState, ...]
    channels: tuple[Sci, ...]
    counters: MacsecCounters


# --- requests --------------------------------------------------------------------------------


def encode_family_request() -> Any:
    """What number the family has in this kernel."""
    message = family_message()
    message["cmd"], message["version"] = CTRL_CMD_GETFAMILY, 1
    message["attrs"] = [("CTRL_ATTR_FAMILY_NAME", MACSEC_FAMILY)]
    return message


def encode_dump() -> Any:
    """All devices."""
    return _request(MacsecCommand.GET_TXSC)


def encode_permission_trial() -> Any:
    """Wrong in itself: refused with EPERM where a capability lacks, else with EINVAL."""
    return _request(MacsecCommand.ADD_RXSC)


def encode_add_transmit_sa(index: int, sa: TransmitSaSpec, *, xpn: bool) -> Any:
    """Not active: nothing is sent with it."""
    config = _new_sa(sa, pn=1, active=False, xpn=xpn)
    return _request(MacsecCommand.ADD_TXSA, index, sa=config)


def encode_add_receive_sa(index: int, sa: ReceiveSaSpec, *, next_pn: int, xpn: bool) -> Any:
    config = _new_sa(sa, pn=next_pn, active=True, xpn=xpn)
    return _request(MacsecCommand.ADD_RXSA, index, sci=sa.sci, sa=config)


def encode_sa_active(index: int, an: int, *, active: bool, sci: Sci | None = None) -> Any:
    """Without ``sci``: of our own channel."""
    command = MacsecCommand.UPD_TXSA if sci is None else MacsecCommand.UPD_RXSA
    config = [("MACSEC_SA_ATTR_AN", an), ("MACSEC_SA_ATTR_ACTIVE", int(active))]
    return _request(command, index, sci=sci, sa=config)


def encode_next_pn(index: int, sci: Sci, an: int, *, next_pn: int, xpn: bool) -> Any:
    config = [("MACSEC_SA_ATTR_AN", an), ("MACSEC_SA_ATTR_PN", _pn(next_pn, xpn=xpn))]
    return _request(MacsecCommand.UPD_RXSA, index, sci=sci, sa=config)


def encode_remove_sa(index: int, an: int, *, sci: Sci | None = None) -> Any:
    """Refused with EBUSY as long as the SA is active."""
    command = MacsecCommand.DEL_TXSA if sci is None else MacsecCommand.DEL_RXSA
    return _request(command, index, sci=sci, sa=[("MACSEC_SA_ATTR_AN", an)])


def encode_add_channel(index: int, sci: Sci) -> Any:
    message = _request(MacsecCommand.ADD_RXSC, index)
    channel = [("MACSEC_RXSC_ATTR_SCI", sci.encode()), ("MACSEC_RXSC_ATTR_ACTIVE", 1)]
    message["attrs"].append(("MACSEC_ATTR_RXSC_CONFIG", {"attrs": channel}))
    return message


def encode_remove_channel(index: int, sci: Sci) -> Any:
    """With all SAs in it, active or not."""
    return _request(MacsecCommand.DEL_RXSC, index, sci=sci)


def _request(
    command: MacsecCommand,
    index: int | None = None,
    *,
    sci: Sci | None = None,
    sa: list[tuple[str, Any]] | None = None,
) -> Any:
    message = macsec_request()
    message["cmd"], message["version"] = command, MACSEC_VERSION
    if index is not None:
        message["attrs"].append(("MACSEC_ATTR_IFINDEX", index))
    if sci is not None:
        channel = {"attrs": [("MACSEC_RXSC_ATTR_SCI", sci.encode())]}
        message["attrs"].append(("MACSEC_ATTR_RXSC_CONFIG", channel))
    if sa is not None:
        message["attrs"].append(("MACSEC_ATTR_SA_CONFIG", {"attrs": sa}))
    return message


def _new_sa(
    sa: TransmitSaSpec | ReceiveSaSpec, *, pn: int, active: bool, xpn: bool
) -> list[tuple[str, Any]]:
    config: list[tuple[str, Any]] = [
        ("MACSEC_SA_ATTR_AN", sa.an),
        ("MACSEC_SA_ATTR_ACTIVE", int(active)),
        ("MACSEC_SA_ATTR_PN", _pn(pn, xpn=xpn)),
        ("MACSEC_SA_ATTR_KEYID", sa.ki.encode()),
    ]
    if xpn:
        config += [("MACSEC_SA_ATTR_SSCI", sa.ssci), ("MACSEC_SA_ATTR_SALT", sa.salt)]
    return [*config, ("MACSEC_SA_ATTR_KEY", sa.key.expose())]


def _pn(number: int, *, xpn: bool) -> bytes:
    return number.to_bytes(8 if xpn else 4, sys.byteorder)


# --- what the dump says ----------------------------------------------------------------------


def decode_secy(message: Any) -> Secy:
    secy = message.get_attr("MACSEC_ATTR_SECY")
    sci = Sci.decode(secy.get_attr("MACSEC_SECY_ATTR_SCI"))
    channels = {
        Sci.decode(channel.get_attr("MACSEC_RXSC_ATTR_SCI")): channel
        for channel in message.get_attr("MACSEC_ATTR_RXSC_LIST") or ()
    }
    return Secy(
        index=message.get_attr("MACSEC_ATTR_IFINDEX"),
        sci=sci,
        suite=cipher_suite(secy.get_attr("MACSEC_SECY_ATTR_CIPHER_SUITE")),
        icv_size=secy.get_attr("MACSEC_SECY_ATTR_ICV_LEN"),
        encoding_an=secy.get_attr("MACSEC_SECY_ATTR_ENCODING_SA"),
        # Not sent where replay protection is off; then nothing is late.
        window=secy.get_attr("MACSEC_SECY_ATTR_WINDOW", 0xFFFF_FFFF),
        protects=bool(secy.get_attr("MACSEC_SECY_ATTR_PROTECT")),
        strict=secy.get_attr("MACSEC_SECY_ATTR_VALIDATE") == VALIDATE_STRICT,
        operational=bool(secy.get_attr("MACSEC_SECY_ATTR_OPER")),
        encrypt=bool(secy.get_attr("MACSEC_SECY_ATTR_ENCRYPT")),
        transmit=_sas(sci, message.get_attr("MACSEC_ATTR_TXSA_LIST")),
        receive=tuple(
            sa
            for sci, channel in channels.items()
            for sa in _sas(sci, channel.get_attr("MACSEC_RXSC_ATTR_SA_LIST"))
        ),
        channels=tuple(channels),
        counters=_counters(message, channels.values()),
    )


def _sas(sci: Sci, listed: Iterable[Any] | None) -> tuple[SecySaState, ...]:
    return tuple(
        SecySaState(
            sci=sci,
            an=sa.get_attr("MACSEC_SA_ATTR_AN"),
            ki=sa.get_attr("MACSEC_SA_ATTR_KEYID"),
            active=bool(sa.get_attr("MACSEC_SA_ATTR_ACTIVE")),
            pn=int.from_bytes(sa.get_attr("MACSEC_SA_ATTR_PN"), sys.byteorder),
        )
        for sa in listed or ()
    )


def _counters(message: Any, channels: Iterable[Any]) -> MacsecCounters:
    sent = message.get_attr("MACSEC_ATTR_TXSC_STATS")
    secy = message.get_attr("MACSEC_ATTR_SECY_STATS")
    received = [channel.get_attr("MACSEC_RXSC_ATTR_STATS") for channel in channels]

    def total(holders: Iterable[Any], prefix: str, names: Iterable[str]) -> int:
        numbers = (holder.get_attr(prefix + name, 0) for holder in holders for name in names)
        return sum(numbers)

    out, into = "MACSEC_TXSC_STATS_ATTR_OUT_", "MACSEC_RXSC_STATS_ATTR_"
    counted = {
        "out_packets": total((sent,), out, ("PKTS_PROTECTED", "PKTS_ENCRYPTED")),
        "out_octets": total((sent,), out, ("OCTETS_PROTECTED", "OCTETS_ENCRYPTED")),
    }
    counted |= {
        name: secy.get_attr(f"MACSEC_SECY_STATS_ATTR_{theirs}", 0)
        for name, theirs in _SECY_COUNTERS.items()
    }
    counted |= {name: total(received, into, theirs) for name, theirs in _CHANNEL_COUNTERS.items()}
    return MacsecCounters(**counted)
