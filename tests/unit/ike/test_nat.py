"""NAT detection hashes and what follows from them."""

from __future__ import annotations

import hashlib
from ipaddress import ip_address

from gateway.ike.nat import NatStatus, detect, detection_hash, encapsulation

SPI_I, SPI_R = b"i" * 8, b"r" * 8
US, THEM = (ip_address("10.0.0.1"), 500), (ip_address("2001:db8::2"), 500)


def test_hash_is_sha1_over_spis_address_and_port():
    made = detection_hash(SPI_I, SPI_R, US)
    assert made == hashlib.sha1(SPI_I + SPI_R + bytes((10, 0, 0, 1)) + b"\x01\xf4").digest()
    assert len(detection_hash(SPI_I, SPI_R, THEM)) == 20


def status(source=THEM, destination=US, extra=()) -> NatStatus:
    return detect(
        spi_i=SPI_I,
        spi_r=SPI_R,
        local=US,
        remote=THEM,
        sources=[*extra, detection_hash(SPI_I, SPI_R, source)],
        destinations=[detection_hash(SPI_I, SPI_R, destination)],
    )


def test_no_nat():
    assert status() == NatStatus()
    assert not status().present


def test_peer_behind_nat():
    assert status(source=(THEM[0], 501)) == NatStatus(remote=True)


def test_we_behind_nat():
    assert status(destination=(ip_address("192.0.2.7"), 500)) == NatStatus(local=True)


def test_one_of_several_sources_is_enough():
    assert status(extra=[bytes(20)]) == NatStatus()


def test_peer_without_nat_traversal():
    found = detect(spi_i=SPI_I, spi_r=SPI_R, local=US, remote=THEM, sources=[], destinations=[])
    assert not found.present


def test_encapsulation_mirrors_the_ports():
    local, remote = (US[0], 4500), (THEM[0], 61000)
    inbound, outbound = encapsulation(NatStatus(remote=True), local, remote)
    assert (inbound.source_port, inbound.destination_port) == (61000, 4500)
    assert (outbound.source_port, outbound.destination_port) == (4500, 61000)
    assert encapsulation(NatStatus(), local, remote) == (None, None)
