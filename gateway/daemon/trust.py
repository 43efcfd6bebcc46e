"""The certificates of one tunnel at run time: the peer's are checked, ours is watched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from gateway.config.authentication import ENDS_SOON
from gateway.config.schema import OwnCertificate
from gateway.daemon.bulletin import Bulletin
from gateway.errors import CredentialError
from gateway.ike.identity import Identity
from gateway.model import Severity
from gateway.pki.authorities import AuthorityFiles
from gateway.pki.trust import Anchors, CertificateError, Trusted, validate


@dataclass(frozen=True, slots=True, kw_only=True)
class _Accepted:
    """What the peer showed and proved last, and under which authorities it was good."""

    chain: tuple[bytes, ...]
    identity: Identity
    anchors: Anchors | None = None  # None: to be looked at again in any case


class TunnelTrust:
    """Reads the calendar and the files that the IKE core does not know."""

    def __init__(
        self,
        *,
        tunnel: str,
        authorities: AuthorityFiles | None,
        own: OwnCertificate | None,
        bulletin: Bulletin,
        close: Callable[[str], None],
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """``close`` ends the IKE SAs with the peer and all that is in them, with the reason."""
        self._tunnel = tunnel
        self._authorities = authorities
        self._own = own
        self._bulletin = bulletin
        self._close = close
        self._wall = wall
        self._accepted: _Accepted | None = None

    def check(self, chain: tuple[bytes, ...], identity: Identity) -> Trusted:
        """Raises CertificateError, and CredentialError where CA or CRL files cannot be read."""
        if self._authorities is None:  # a reload has taken them away meanwhile
            raise CertificateError("the peer is no longer to show certificates")
        return validate(chain, identity, self._authorities.current(), self._wall())

    def accept(self, chain: tuple[bytes, ...], identity: Identity) -> None:
        """The peer has proved that these are its own: anybody can show them to ``check``."""
        if chain:
            self._accepted = _Accepted(chain=chain, identity=identity)
            self._bulletin.clear_alarm("peer-not-trusted", self._tunnel)

    def inherit(self, old: TunnelTrust) -> None:
        """The SAs of a tunnel go on under changed settings (a reload)."""
        self._accepted = old._accepted

    def watch(self) -> None:
        """Look at our own certificate, and at the peer's again where CAs or CRLs have changed."""
        self._watch_own()
        self._watch_peer()

    def _watch_own(self) -> None:
        if self._own is None:
            return
        left = self._own.not_after - self._wall()
        if left >= ENDS_SOON:
            self._bulletin.clear_alarm("certificate-expiring", self._tunnel)
            return
        over = left.total_seconds() < 0
        when = "expired" if over else "ends"
        self._bulletin.raise_alarm(
            "certificate-expiring",
            Severity.CRITICAL if over else Severity.WARNING,
            self._tunnel,
            f"our certificate {self._own.subject} ({self._own.file}) {when} on "
            f"{self._own.not_after:%Y-%m-%d}: renew it and reload",
        )

    def _watch_peer(self) -> None:
        """A peer that was revoked, or whose CA is trusted no more, does not keep its SAs.

        One whose certificate has only come to its end does: it proved itself in time.
        """
        accepted = self._accepted
        if accepted is None or self._authorities is None:
            return
        try:
            anchors = self._authorities.current()
            if anchors is accepted.anchors:
                return
            validate(accepted.chain, accepted.identity, anchors, self._wall(), check_dates=False)
        except CredentialError:
            return  # what is to be read cannot be: nothing is known against the peer
        except CertificateError as error:
            self._accepted = None
            self._bulletin.raise_alarm(
                "peer-not-trusted", Severity.CRITICAL, self._tunnel, str(error)
            )
            self._close(f"peer is no longer trusted: {error}")
        else:
            self._accepted = _Accepted(
                chain=accepted.chain, identity=accepted.identity, anchors=anchors
            )
