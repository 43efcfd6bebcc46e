"""The key schedule: from shared secrets, nonces and PPKs to the keys of IKE and Child SAs.

    SKEYSEED    = prf(Ni | Nr, g^ir)                          RFC 7296 2.14
    SKEYSEED(n) = prf(SK_d(n-1), SK(n) | Ni | Nr)             RFC 9370 2.2.2
    SKEYSEED'   = prf+(PPK, SK_d)                             RFC 9867 3.1.1
    {SK_d | SK_ai | SK_ar | SK_ei | SK_er | SK_pi | SK_pr}
                = prf+(SKEYSEED, Ni | Nr | SPIi | SPIr)
    KEYMAT      = prf+(SK_d, SK(0) | Ni | Nr | SK(1) | ...)   RFC 7296 2.17, RFC 9370 2.2.4
    SKEYSEED    = prf(SK_d(old), SK(0) | Ni | Nr | SK(1) | ...)   RFC 7296 2.18, RFC 9370 2.2.4
    exported    = prf+(prf(SK_d, "qsgw key export v1" | SPIi | SPIr),              ours
                       length | length of label | label | context)

With an AEAD there are no SK_ai and SK_ar (RFC 5282 7.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateway.crypto.prf import Prf
from gateway.crypto.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyInputs:
    """What every generation of an IKE SA's keys is derived with."""

    prf: Prf
    encryption_size: int  # octets of SK_ei and of SK_er, salt included
    nonce_i: bytes
    nonce_r: bytes
    spi_i: bytes
    spi_r: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class IkeKeys:
    """One generation of the keys of an IKE SA."""

    sk_d: Secret
    sk_ei: Secret
    sk_er: Secret
    sk_pi: Secret
    sk_pr: Secret

    def wipe(self) -> None:
        for secret in (self.sk_d, self.sk_ei, self.sk_er, self.sk_pi, self.sk_pr):
            secret.wipe()


def initial_keys(inputs: KeyInputs, shared: Secret) -> IkeKeys:
    """Generation 0, after IKE_SA_INIT."""
    # RFC 7296 2.14; HMAC takes the nonces whole, so there is nothing to truncate
    seed = Secret(inputs.prf.compute(inputs.nonce_i + inputs.nonce_r, shared))
    return _expand(inputs, seed)


def additional_keys(inputs: KeyInputs, keys: IkeKeys, shared: Secret) -> IkeKeys:
    """The next generation, after an additional key exchange in IKE_INTERMEDIATE."""
    data = shared.expose() + inputs.nonce_i + inputs.nonce_r  # RFC 9370 2.2.2
    return _expand(inputs, Secret(inputs.prf.compute(keys.sk_d, data)))


def ppk_intermediate_keys(inputs: KeyInputs, keys: IkeKeys, ppk: Secret) -> IkeKeys:
    """The last generation before IKE_AUTH: the PPK goes into every key (RFC 9867 3.1.1)."""
    return _expand(inputs, inputs.prf.plus(ppk, keys.sk_d, inputs.prf.key_size))


def ppk_auth_keys(prf: Prf, keys: IkeKeys, ppk: Secret) -> IkeKeys:
    """The PPK goes into SK_d, SK_pi and SK_pr; SK_ei and SK_er stay (RFC 8784 3)."""
    return IkeKeys(
        sk_d=prf.plus(ppk, keys.sk_d, prf.key_size),
        sk_ei=keys.sk_ei,
        sk_er=keys.sk_er,
        sk_pi=prf.plus(ppk, keys.sk_pi, prf.key_size),
        sk_pr=prf.plus(ppk, keys.sk_pr, prf.key_size),
    )


def fresh_sk_d(prf: Prf, sk_d: Secret, ppk: Secret | None) -> Secret:
    """What stands in SK_d's place when CREATE_CHILD_SA keys a Child SA or a new IKE SA.

    With a fresh PPK, ``SK_d' = prf+(PPK, SK_d)``, for this one SA only; SK_d itself stays as
    it is. This is how qsgw reads RFC 9867 3.2; nobody else's implementation was there to
    test with, so it is used only between peers that both sent our Vendor ID.
    """
    return Secret(sk_d.expose()) if ppk is None else prf.plus(ppk, sk_d, prf.key_size)


def child_keymat(
    prf: Prf, sk_d: Secret, nonces: bytes, shared: Sequence[Secret], size: int
) -> tuple[Secret, Secret]:
    """Keys of one Child SA: exchange initiator's outbound, then its inbound, ``size`` octets each.

    ``shared`` is empty, or SK(0) of the exchange itself followed by one secret for each
    IKE_FOLLOWUP_KE. ``nonces`` is Ni | Nr.
    """
    keymat = prf.plus(sk_d, _created_from(nonces, shared), 2 * size)
    octets = keymat.expose()
    keymat.wipe()
    return Secret(octets[:size]), Secret(octets[size:])


def rekeyed_keys(
    inputs: KeyInputs, prf: Prf, sk_d: Secret, shared: Sequence[Secret], ppk: Secret | None
) -> IkeKeys:
    """The keys of an IKE SA that takes another one's place (RFC 7296 2.18).

    ``inputs`` are of the new one, with the nonces of the exchange; ``prf`` and ``sk_d`` of the
    old one; ``shared`` and ``ppk`` as for a child.
    """
    base = fresh_sk_d(prf, sk_d, ppk)
    seed = Secret(prf.compute(base, _created_from(inputs.nonce_i + inputs.nonce_r, shared)))
    base.wipe()
    return _expand(inputs, seed)


EXPORT: Final = b"qsgw key export v1"
LABEL_MAX: Final = 255  # octets: its length is one octet


def exported_key(
    prf: Prf, sk_d: Secret, spis: bytes, *, label: bytes, context: bytes, length: int
) -> Secret:
    """A key for something other than ESP; ``spis`` is SPIi | SPIr.

    Two steps, as in RFC 8446 7.5: what is exported says nothing of SK_d, nor of another export. The
    length is in it, so that a shorter key is no part of a longer one. ValueError for a label or
    length that cannot be.
    """
    if not 0 < len(label) <= LABEL_MAX or length < 1:
        raise ValueError(f"a label of {len(label)} octets, a key of {length}")
    exporter = Secret(prf.compute(sk_d, EXPORT + spis))
    seed = length.to_bytes(4, "big") + bytes((len(label),)) + label + context
    key = prf.plus(exporter, seed, length)
    exporter.wipe()
    return key


def _created_from(nonces: bytes, shared: Sequence[Secret]) -> bytes:
    """SK(0) | Ni | Nr | SK(1) | ... (RFC 9370 2.2.4)"""
    first = shared[0].expose() if shared else b""
    return first + nonces + b"".join(secret.expose() for secret in shared[1:])


def _expand(inputs: KeyInputs, skeyseed: Secret) -> IkeKeys:
    size, cipher = inputs.prf.key_size, inputs.encryption_size
    seed = inputs.nonce_i + inputs.nonce_r + inputs.spi_i + inputs.spi_r
    stream = inputs.prf.plus(skeyseed, seed, 3 * size + 2 * cipher)
    skeyseed.wipe()
    octets = stream.expose()
    stream.wipe()
    parts: list[Secret] = []
    offset = 0
    for length in (size, cipher, cipher, size, size):
        parts.append(Secret(octets[offset : offset + length]))
        offset += length
    sk_d, sk_ei, sk_er, sk_pi, sk_pr = parts
    return IkeKeys(sk_d=sk_d, sk_ei=sk_ei, sk_er=sk_er, sk_pi=sk_pi, sk_pr=sk_pr)
