"""For whom a certificate speaks: IKE identities and the names in it (RFC 4945 3.1)."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from cryptography import x509

from gateway.ike.identity import Identity, distinguished_name, same_name
from gateway.ike.registry import IdType
from gateway.pki.files import subject_of


def why_not(certificate: x509.Certificate, identity: Identity) -> str | None:
    """Why this certificate does not speak for the identity; None where it does.

    A distinguished name is the subject, anything else stands in subjectAltName. A common name
    that looks like a host name counts for nothing (RFC 4945 3.1, RFC 6125).
    """
    if identity.type == IdType.DER_ASN1_DN:
        name = distinguished_name(identity.data)
        if name is not None and same_name(name, certificate.subject):
            return None
        return f"identity {identity} is not the subject of certificate {subject_of(certificate)}"
    if any(identity.matches(one) for one in alternative_names(certificate)):
        return None
    return f"identity {identity} is not in the subjectAltName of certificate " + (
        subject_of(certificate)
    )


def alternative_names(certificate: x509.Certificate) -> tuple[Identity, ...]:
    """What stands in subjectAltName, of the kinds an identity can have."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    found = (_identity(name) for name in extension.value)
    return tuple(one for one in found if one is not None)


def _identity(name: x509.GeneralName) -> Identity | None:
    match name:
        case x509.DNSName(value=value) if value.isascii():
            return Identity(type=IdType.FQDN, data=value.encode("ascii"))
        case x509.RFC822Name(value=value) if value.isascii():
            return Identity(type=IdType.RFC822_ADDR, data=value.encode("ascii"))
        case x509.IPAddress(value=IPv4Address() as address):
            return Identity(type=IdType.IPV4_ADDR, data=address.packed)
        case x509.IPAddress(value=IPv6Address() as address):
            return Identity(type=IdType.IPV6_ADDR, data=address.packed)
        case _:
            return None


def own_identity(certificate: x509.Certificate) -> Identity:
    """Who we are where the operator does not say: the first name, or else the subject."""
    names = alternative_names(certificate)
    return names[0] if names else Identity.of_name(certificate.subject)
