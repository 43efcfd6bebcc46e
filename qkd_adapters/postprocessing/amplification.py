"""The last step: the final hash, and its bits divided into authentication key and named keys."""

from __future__ import annotations

from dataclasses import dataclass

from kms_client.secret import Secret
from qkd_adapters.postprocessing import toeplitz
from qkd_adapters.postprocessing.naming import key_id
from qkd_adapters.postprocessing.outcome import NamedKey
from qkd_adapters.postprocessing.settings import Settings
from qkd_adapters.postprocessing.wire import Bits, pack, unpack

# Pads of 128 bits in two directions.
AUTH_UNIT = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Divided:
    authentication: Secret
    keys: tuple[NamedKey, ...]
    remainder: int  # bits too few for a key, gone


def seed_octets(count: int) -> int:
    return (toeplitz.seed_bits(count) + 7) // 8


def auth_share(secret_bits: int, *, left: int, settings: Settings) -> int:
    """Bits of a block that become authentication key, so that both directions have their reserve.

    At most half of the block, so that a slow link gives keys from the first; but what the next
    block's tags cost in any case. ``left``: what both directions have now, together.
    """
    wanted = max(0, 2 * settings.auth_reserve - left)
    most = min(secret_bits, max(secret_bits // 2, 8 * AUTH_UNIT))
    return min(-(-wanted // AUTH_UNIT), most // AUTH_UNIT) * AUTH_UNIT


def amplify(
    bits: Bits, *, seed: bytes, secret_bits: int, auth_bits: int, settings: Settings, block: int
) -> Divided:
    """``seed``: ``seed_octets`` of them; what is over in the last octet is not looked at."""
    count = toeplitz.seed_bits(len(bits))
    spare = -count % 8
    matrix = unpack(seed, count + spare)[:count]
    final = toeplitz.hash_key(bits, matrix, secret_bits)
    bits[...] = 0
    authentication = Secret(pack(final[:auth_bits]))
    size = settings.key_bits
    whole = (secret_bits - auth_bits) // size
    keys = tuple(
        NamedKey(
            key_id=key_id(settings.link, block, seed, index),
            key=Secret(pack(final[auth_bits + index * size : auth_bits + (index + 1) * size])),
        )
        for index in range(whole)
    )
    final[...] = 0
    return Divided(
        authentication=authentication,
        keys=keys,
        remainder=secret_bits - auth_bits - whole * size,
    )
