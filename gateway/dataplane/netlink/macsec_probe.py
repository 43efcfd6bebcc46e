"""What this kernel can of MACsec, found by trying. For ``qsgw doctor``."""

from __future__ import annotations

import asyncio
import ctypes
import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from gateway.crypto.secret import Secret
from gateway.dataplane.macsec_port import SecySpec, TransmitSaSpec
from gateway.dataplane.macsec_rules import SALT_SIZE
from gateway.dataplane.netlink.links import Links
from gateway.dataplane.netlink.macsec import MacsecNetlink
from gateway.dataplane.netlink.parent_filter import ParentFilter
from gateway.dataplane.netlink.probe import ProbeResult
from gateway.errors import DataplaneError, StartupError
from gateway.mka.identifiers import NO_MEMBER, KeyIdentifier
from gateway.mka.registry import CipherSuite

CLONE_NEWNET: Final = 0x4000_0000  # linux/sched.h
TRIAL_PARENT: Final = "probe0"
TRIAL_DEVICE: Final = "macsec-probe"
TRIAL_WINDOW: Final = 64


async def probe_macsec() -> list[ProbeResult]:
    """Try the parent's filter, and each suite on a device, in a network namespace of its own.

    Nothing is changed in ours. Never raises for what is missing.
    """
    # The namespace is the thread's, and ends with it.
    with ThreadPoolExecutor(max_workers=1) as thread:
        return await asyncio.get_running_loop().run_in_executor(thread, _probe_apart)


def _probe_apart() -> list[ProbeResult]:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        why = os.strerror(ctypes.get_errno())
        return [_missing("MACsec", f"no network namespace to try it in: {why} (CAP_SYS_ADMIN?)")]
    return asyncio.run(_probe_here())


async def _probe_here() -> list[ProbeResult]:
    plane, links = MacsecNetlink(), Links()
    try:
        await plane.open()
        await links.requests.open()
        parent = await links.make_ethernet(TRIAL_PARENT)
    except (StartupError, DataplaneError) as error:
        return [_missing("MACsec", str(error))]
    else:
        results = [ProbeResult("MACsec", True, "module and capability are there")]
        results.append(await _probe_filter(ParentFilter(links.requests), parent.index))
        return results + [await _probe_suite(plane, suite) for suite in CipherSuite]
    finally:
        await plane.close()
        links.requests.close()


async def _probe_filter(parent_filter: ParentFilter, index: int) -> ProbeResult:
    feature = "MACsec: filter of the parent"
    try:
        await parent_filter.ensure(index, TRIAL_PARENT)
        stands = await parent_filter.stands(index)
        await parent_filter.remove(index, TRIAL_PARENT)
    except DataplaneError as error:
        return _missing(feature, str(error))
    return ProbeResult(feature, stands, "clsact, matchall, gact" if stands else "not read back")


async def _probe_suite(plane: MacsecNetlink, suite: CipherSuite) -> ProbeResult:
    feature = f"MACsec {suite.name.replace('_', '-')}"
    spec = SecySpec(
        link="probe",
        parent=TRIAL_PARENT,
        device=TRIAL_DEVICE,
        suite=suite,
        encrypt=True,
        replay_window=TRIAL_WINDOW,
        filtered=False,
    )
    sa = TransmitSaSpec(
        an=0,
        key=Secret(secrets.token_bytes(suite.key_size)),
        ki=KeyIdentifier(NO_MEMBER, suite & 0xFF),
        ssci=1 if suite.xpn else None,
        salt=bytes(SALT_SIZE) if suite.xpn else None,
    )
    try:
        await plane.set_up(spec)
        await plane.install_transmit_sa(TRIAL_DEVICE, sa)
    except DataplaneError as error:
        return _missing(feature, str(error))
    finally:
        sa.key.wipe()
    return ProbeResult(feature, True, "device and SA accepted")


def _missing(feature: str, why: str) -> ProbeResult:
    return ProbeResult(feature, False, why)
