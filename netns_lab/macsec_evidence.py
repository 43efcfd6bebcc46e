"""The MACsec link by both gateways and both kernels: one SAK, the same at four places."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from netns_lab import metro
from netns_lab.errors import LabError
from netns_lab.readiness import wait_until
from netns_lab.site import Site
from netns_lab.site_files import GATEWAYS, Gateway, peer

Json = dict[str, Any]

_ERRORS = (
    # of the device
    "OutPktsUntagged",
    "InPktsUntagged",
    "OutPktsTooLong",
    "InPktsBadTag",
    "InPktsUnknownSCI",
    "InPktsNoSCI",
    "InPktsOverrun",
    # of a receive channel
    "InPktsUnchecked",
    "InPktsInvalid",
    "InPktsLate",
    "InPktsNotValid",
    "InPktsNotUsingSA",
    "InPktsUnusedSA",
)
"""Counters that stay 0. Not among them InPktsNoTag: Linux counts EAPOL frames there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelSecy:
    """A MACsec device as iproute2 shows it. KIs as 32 hexadecimal digits."""

    strict: bool  # protects all that leaves, takes in nothing else
    encrypts: bool
    suite: str
    sci: str  # 16 hexadecimal digits
    sending: int  # AN
    transmit: Mapping[int, str]  # AN -> KI, active ones
    receive: Mapping[tuple[str, int], str]  # SCI and AN -> KI, active ones
    errors: Mapping[str, int]  # those above zero
    octets_in: int


def kernel_secy(text: str) -> KernelSecy:
    """From ``ip -json -s macsec show DEVICE``."""
    found: Json = next(iter(json.loads(text)))
    channels = found.get("rx_sc", [])
    counted = [found, *channels]
    errors = {name: sum(each.get(name, 0) for each in counted) for name in _ERRORS}
    return KernelSecy(
        strict=found["protect"] and found["validate"] == "strict",
        encrypts=found["encrypt"],
        suite=found["cipher_suite"],
        sci=_sci(found),
        sending=found["encoding_sa"],
        transmit=_active(found),
        receive={
            (_sci(channel), an): ki
            for channel in channels
            for an, ki in _active(channel).items()
            if channel["active"]
        },
        errors={name: count for name, count in errors.items() if count},
        octets_in=sum(
            channel["InOctetsValidated"] + channel["InOctetsDecrypted"] for channel in channels
        ),
    )


def _sci(entry: Json) -> str:
    return str(entry["sci"]).removeprefix("0x").rjust(16, "0")


def _active(entry: Json) -> dict[int, str]:
    return {sa["an"]: sa["key"] for sa in entry.get("sa_list", []) if sa["active"]}


async def kernel(site: Site, gateway: Gateway) -> KernelSecy:
    """The gateway's MACsec device. Raises LabError where it is not there."""
    command = ["ip", "-json", "-s", "macsec", "show", metro.DEVICE]
    return kernel_secy((await site.lab.run(gateway, command)).check().stdout)


# --- agreement -----------------------------------------------------------------------------------


def ki_octets(ki: str) -> str:
    """Status says MI.KN, kernels have the 16 octets; here in hexadecimal."""
    mi, _, kn = ki.partition(".")
    return f"{mi}{int(kn):08x}"


def sending(view: Json) -> Json | None:
    """The SAK that a gateway says it sends with."""
    return next((sak for sak in view["saks"] if sak["transmits"]), None)


def disagreement(views: Mapping[Gateway, Json], kernels: Mapping[Gateway, KernelSecy]) -> str:
    """What is not the same at both gateways and in both kernels; "" where all is."""
    saks = {gateway: sending(view) for gateway, view in views.items()}
    for gateway in GATEWAYS:
        sak, secy, far = saks[gateway], kernels[gateway], kernels[peer(gateway)]
        if sak is None or views[gateway]["port"] != "secured":
            return f"{gateway} sends with no SAK, its port is {views[gateway]['port']}"
        ki, an = ki_octets(sak["ki"]), sak["an"]
        if not sak["in_kernel"]:
            return f"{gateway} did not read its SAK back"
        if not secy.strict or secy.encrypts != sak["encrypted"]:
            return f"{gateway}'s kernel does not protect as it should"
        if secy.suite != sak["suite"].replace("_", "-"):
            return f"{gateway} says {sak['suite']}, its kernel {secy.suite}"
        if (secy.sending, secy.transmit.get(an)) != (an, ki):
            return f"{gateway} sends with {ki} AN {an}, its kernel with AN {secy.sending}"
        if far.receive.get((secy.sci, an)) != ki:
            return f"{peer(gateway)}'s kernel does not receive {ki} AN {an} from {gateway}"
    moon, sun = saks["moon"], saks["sun"]
    if moon is None or sun is None or moon["ki"] != sun["ki"]:
        return f"moon sends with {moon}, sun with {sun}"
    if views["moon"]["protection"] != views["sun"]["protection"]:
        return "the gateways show different protection"
    return ""


async def disagreement_now(site: Site) -> str:
    views = {gateway: await site.macsec(gateway) for gateway in GATEWAYS}
    kernels = {gateway: await kernel(site, gateway) for gateway in GATEWAYS}
    return disagreement(views, kernels)


async def wait_agreed(site: Site, protection: str, within: float = 30.0) -> dict[Gateway, Json]:
    """Return both views when both gateways show it and both kernels bear out one SAK."""
    seen = ""

    async def reached() -> dict[Gateway, Json]:
        nonlocal seen
        views = {gateway: await site.macsec(gateway) for gateway in GATEWAYS}
        shown = {view["protection"] for view in views.values()}
        if shown != {protection}:
            seen = str({g: f"{v['protection']} ({v['reason']})" for g, v in views.items()})
            return {}
        seen = await disagreement_now(site)
        return {} if seen else views

    try:
        return await wait_until(reached, within, f"{protection} on the MACsec link", interval=0.2)
    except LabError as error:
        raise LabError(f"{error}; {seen}") from error


async def wait_shown(
    site: Site, *wanted: str, within: float = 30.0, at: tuple[Gateway, ...] = GATEWAYS
) -> None:
    """Return when the link's protection is one of ``wanted`` at every gateway of ``at``."""
    seen: dict[Gateway, str] = {}

    async def reached() -> bool:
        for gateway in at:
            view = await site.macsec(gateway)
            seen[gateway] = f"{view['protection']} ({view['reason']})"
        return all(text.split(" ")[0] in wanted for text in seen.values())

    try:
        await wait_until(reached, within, " or ".join(wanted), interval=0.1)
    except LabError as error:
        raise LabError(f"{error}; {seen}") from error
