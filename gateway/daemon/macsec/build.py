"""From the checked configuration to the parts of a MACsec link."""

from __future__ import annotations

from gateway.config.macsec import LinkDevice
from gateway.config.schema import MacsecConfig
from gateway.dataplane.macsec_port import SecySpec, SecyState
from gateway.mka.identifiers import KeyIdentifier, MemberId, Sci
from gateway.mka.limits import MI_SIZE
from gateway.mka.registry import Capability, Confidentiality
from gateway.mka.settings import InheritedSas, PortSettings
from gateway.model import PortSecurity, PortState


def secy_spec(config: MacsecConfig | LinkDevice) -> SecySpec:
    """The device as it is made, with the suite that we distribute as key server."""
    return SecySpec(
        link=config.name,
        parent=config.interface,
        device=config.device,
        suite=config.suite,
        encrypt=config.encrypt,
        replay_window=config.replay_window,
        filtered=config.security is PortSecurity.MUST_SECURE,
        addresses=config.addresses,
        mtu=config.mtu,
    )


def port_settings(config: MacsecConfig, sci: Sci) -> PortSettings:
    """``sci``: of the device."""
    return PortSettings(
        interface=config.interface,
        sci=sci,
        priority=config.priority,
        suite=config.suite,
        accepted_suites=config.accept | {config.suite},
        confidentiality=Confidentiality.OFFSET_0 if config.encrypt else Confidentiality.NONE,
        capability=Capability.CONFIDENTIALITY,  # Linux has no confidentiality offsets
        delay_protect=config.delay_protect,
        security=config.security,
        sak_lifetime=config.sak_lifetime,
    )


def inherited(state: SecyState) -> InheritedSas | None:
    """What an earlier run left in use; None where nothing is."""
    sending = next((sa for sa in state.transmit if sa.an == state.encoding_an), None)
    if state.port is not PortState.SECURED or sending is None or not sending.active:
        return None
    return InheritedSas(
        an=sending.an,
        ki=key_identifier(sending.ki),
        suite=state.suite,
        confidentiality=Confidentiality.OFFSET_0 if state.encrypt else Confidentiality.NONE,
        receive=tuple(sa.sci for sa in state.receive if sa.an == sending.an and sa.active),
    )


def key_identifier(octets: bytes) -> KeyIdentifier:
    """From the 16 octets that the kernel has it in."""
    return KeyIdentifier(MemberId(octets[:MI_SIZE]), int.from_bytes(octets[MI_SIZE:], "big"))


def same_keys(one: MacsecConfig, other: MacsecConfig) -> bool:
    """Whether CAKs and SAs made under one hold under the other: what differs is how, not whose."""
    return _keyed_by(one) == _keyed_by(other)


def _keyed_by(config: MacsecConfig) -> tuple[object, ...]:
    return (
        config.interface,
        config.device,
        config.connection,
        config.link,
        config.cak_size,
        config.static,
    )
