"""Wireshark opens a capture of a site with the gateways' key log, and nothing without it."""

from __future__ import annotations

import pytest

from netns_lab import evidence, wireshark
from netns_lab.site import Site
from netns_lab.site_files import GATEWAYS, SiteOptions, TunnelOptions

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(
        not wireshark.available(),
        reason="tshark is not here: python -m netns_lab.tools tshark fetches it into .cache",
    ),
]

IKE_AUTH, CREATE_CHILD_SA, IKE_INTERMEDIATE = 35, 36, 43  # RFC 7296 3.1, RFC 9242
KE, IDI, IDR, AUTH, SA, NONCE, TSI, TSR = 34, 35, 36, 39, 33, 40, 44, 45

TUNNEL = TunnelOptions(rekey_min="1h", restore_dwell="1h")
OPTIONS = SiteOptions(moon=TUNNEL, sun=TUNNEL, mqtt=False)


async def test_ike_and_esp_open_with_the_key_log_and_not_without(lab_name: str) -> None:
    async with Site.prepared(lab_name, OPTIONS) as site:
        await evidence.start_capture(site.lab)
        await site.start()
        await site.wait_protection("HYBRID")
        await evidence.start_traffic(site.lab)
        await site.act("moon", "rekey")
        assert await evidence.reachable(site.lab)
        await evidence.stop_traffic(site.lab)
        await evidence.stop_capture(site.lab)
        capture = site.lab.capture_dir / "isp.pcap"

        for gateway in GATEWAYS:
            seen = wireshark.ike_messages(capture, site.key_log(gateway))
            inside = {
                exchange: [
                    one.payloads[1:] for one in seen if one.exchange == exchange and one.opened
                ]
                for exchange in (IKE_AUTH, CREATE_CHILD_SA)
            }
            assert any({IDI, AUTH, SA, TSI, TSR} <= set(one) for one in inside[IKE_AUTH])
            assert any({IDR, AUTH, SA, TSI, TSR} <= set(one) for one in inside[IKE_AUTH])
            assert any({SA, NONCE, KE, TSI, TSR} <= set(one) for one in inside[CREATE_CHILD_SA])
            assert wireshark.marked_packets(capture, site.key_log(gateway)) > 10

            first = wireshark.ike_messages(capture, site.key_log(gateway) / "generation-0")
            opened = [one for one in first if one.exchange == IKE_INTERMEDIATE and one.opened]
            assert len(opened) >= 2
            assert all(KE in one.payloads for one in opened)

        # The twin: Wireshark as it comes.
        empty = site.lab.run_dir / "no-keys"
        empty.mkdir()
        bare = wireshark.ike_messages(capture, empty)
        assert len(bare) == len(seen)
        assert any(one.encrypted for one in bare)
        assert not any(one.opened for one in bare)
        assert wireshark.marked_packets(capture, empty) == 0
