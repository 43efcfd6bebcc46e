"""Who plays in a world: gateways that dawdle, an honest third one, quick key exchanges."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network
from typing import Any, ClassVar

from gateway.crypto.algorithms import KeMethod
from gateway.crypto.secret import Secret
from gateway.errors import CryptoError
from gateway.ike.commands import (
    ActivateOutbound,
    AllocateSpi,
    CheckCertificates,
    Command,
    Failed,
    FetchPpk,
    InstallChild,
    InstallInbound,
    PpkFetched,
    RemoveSas,
)
from gateway.ike.config import ChildConfig, Connection
from gateway.ike.credentials import SharedKey
from gateway.ike.endpoint import Endpoint
from gateway.model import IpAddress, KeyId, Ppk
from tests.support.ike_pair import SUN, Kernel, SeededRng, Side, child, connection

MARS = ip_address("10.0.34.4")
STRANGER = ip_address("203.0.113.9")
NET, HEALTHY = "net", "healthy"  # connections
ATTACKED = (NET, "scada")  # the tunnels of the first

IKE_CLASSIC = "aes256gcm16-prfsha384-x25519-ecp256-ke1_mlkem1024-ke2_mlkem768"
ESP_HYBRID = "aes256gcm16-x25519-ke1_mlkem768-esn"


# --- a key exchange that is quick, reproducible and as picky as the real ones -----------------

_SIZES = {
    KeMethod.ML_KEM_768: (1184, 1088),
    KeMethod.ML_KEM_1024: (1568, 1568),
    KeMethod.SECP256R1: (64, 64),
    KeMethod.SECP384R1: (96, 96),
}


@dataclass(frozen=True)
class _Half:
    method: KeMethod
    public: bytes

    def finish(self, peer: bytes) -> Secret:
        _check(peer, _SIZES.get(self.method, (32, 32))[1])
        return Secret(hashlib.sha256(self.public + peer).digest())


class PickyKex:
    """Refuses sizes that are wrong and one value in many, as a bad point or key is refused."""

    METHODS: ClassVar = frozenset({KeMethod.X25519, *_SIZES})

    def __init__(self, rng: SeededRng) -> None:
        self._rng = rng

    def supports(self, method: int) -> bool:
        return method in self.METHODS

    def initiate(self, method: KeMethod) -> _Half:
        return _Half(method, self._public(_SIZES.get(method, (32, 32))[0]))

    def respond(self, method: KeMethod, peer: bytes) -> tuple[bytes, Secret]:
        ours, theirs = _SIZES.get(method, (32, 32))
        _check(peer, ours)
        public = self._public(theirs)
        return public, Secret(hashlib.sha256(peer + public).digest())

    def _public(self, size: int) -> bytes:
        return b"\x00" + self._rng.random_bytes(size - 1)


def _check(peer: bytes, size: int) -> None:
    if len(peer) != size or peer[0] == 0xFF:
        raise CryptoError("bad value")


# --- gateways --------------------------------------------------------------------------------


class Gateway(Side):
    """One that may leave commands unanswered, fail them, or answer long after."""

    def __init__(self, name: str, address: IpAddress, endpoint: Endpoint, spi: int) -> None:
        super().__init__(
            name=name,
            address=address,
            connection=connection("sun"),
            endpoint=endpoint,
            kernel=Kernel(name, spi),
            kme={},
        )
        self.temper = "prompt"  # or "hold", "fail"
        self.waiting: list[Any] = []  # commands for the kernel, held back
        self.fetching: list[Any] = []  # those for KME and PKI

    def carry_out(self, command: Command, now: float) -> None:
        kernel = isinstance(
            command, AllocateSpi | InstallInbound | InstallChild | ActivateOutbound | RemoveSas
        )
        slow = kernel or isinstance(command, FetchPpk | CheckCertificates)
        whose = command.connection if isinstance(command, CheckCertificates) else command.tunnel
        if whose == HEALTHY or not slow:
            super().carry_out(command, now)
        elif kernel and self.waiting:
            self.waiting.append(command)  # the kernel's work is done in order
        elif isinstance(command, RemoveSas) or self.temper == "prompt":
            super().carry_out(command, now)
        elif self.temper == "fail":
            self.endpoint.answer(Failed(token=command.token, reason="refused"), now)
        elif kernel:
            self.waiting.append(command)
        else:
            self.fetching.append(command)

    def release(self, index: int, *, well: bool, now: float) -> None:
        """Answer the oldest of the kernel's commands held back, or any of the others."""
        if self.fetching and (index & 1 or not self.waiting):
            command = self.fetching.pop(index % len(self.fetching))
        elif self.waiting:
            command = self.waiting.pop(0)
        else:
            return
        if well or isinstance(command, RemoveSas):
            super().carry_out(command, now)
        else:
            self.endpoint.answer(Failed(token=command.token, reason="refused at last"), now)

    def release_all(self, now: float) -> None:
        while self.waiting or self.fetching:
            self.release(0, well=True, now=now)

    def deliver_key(self, command: FetchPpk, now: float) -> None:
        """The KME knows one key_ID in two, whoever made it up."""
        digest = hashlib.sha256(command.key_id.encode()).digest()
        if digest[0] & 1:
            self.endpoint.answer(Failed(token=command.token, reason="key not found"), now)
            return
        ppk = Ppk(key_id=command.key_id, key=Secret(digest))
        self.handed.append(command.key_id)
        self.endpoint.answer(PpkFetched(token=command.token, ppk=ppk), now)


def key_for(number: int) -> Ppk:
    """A QKD key both ends' KMEs agree on."""
    while True:
        key_id = KeyId(f"00000000-0000-4000-8000-{number:012x}")
        digest = hashlib.sha256(key_id.encode()).digest()
        if not digest[0] & 1:
            return Ppk(key_id=key_id, key=Secret(digest))
        number += 1


def mars_to_sun() -> Connection:
    own = ip_network("10.4.0.0/24")
    made = replace(connection("moon"), local_address=MARS, remote_address=SUN)
    return _healthy(made, child("moon", NET, local_networks=(own,)))


def sun_to_mars() -> Connection:
    theirs = ip_network("10.4.0.0/24")
    made = replace(connection("sun"), remote_address=MARS)
    return _healthy(made, child("sun", NET, remote_networks=(theirs,)))


def _healthy(made: Connection, only: ChildConfig) -> Connection:
    key = SharedKey(key=Secret(b"mars and sun alone know this"))
    made = replace(made, local_auth=key, remote_auth=key)
    return replace(made, name=HEALTHY, children=(replace(only, name=HEALTHY),))
