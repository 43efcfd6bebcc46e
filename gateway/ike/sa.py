"""One IKE SA as the exchanges see it: what was agreed, the keys, the children."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.crypto.prf import Prf
from gateway.crypto.secret import Secret
from gateway.crypto.signatures import VerifyKey
from gateway.ike.auth import IntAuth
from gateway.ike.auth_hints import AuthHints
from gateway.ike.channel import Channel
from gateway.ike.child import ChildSa, Origin, PeerSession
from gateway.ike.collision import OwnRekey, Rival
from gateway.ike.commands import RecordIkeKeys
from gateway.ike.config import Connection
from gateway.ike.downgrade import Offers
from gateway.ike.environment import Environment
from gateway.ike.events import Event, PpkNotUsed
from gateway.ike.identity import Identity
from gateway.ike.keymat import IkeKeys, KeyInputs
from gateway.ike.limits import DELETED_EARLY_MAX
from gateway.ike.nat import NatStatus
from gateway.ike.outbox import Address
from gateway.ike.peering import Peering
from gateway.ike.ppk import HeldPpk
from gateway.ike.proposals import Chosen
from gateway.ike.states import IKE_TRANSITIONS, IkeInput, IkeState, step
from gateway.ike.tunnel import Tunnel
from gateway.ike.views import IkeFacts
from gateway.ike.window import RequestWindow, ResponseWindow
from gateway.model import KeyId, Mixed, PpkMethod, Role

if TYPE_CHECKING:
    from gateway.ike.flows.key_exchange import Pending

KeyPolicy = Tunnel | Peering
"""Whose ``mode`` says what to insist on about QKD keys, and who looks them up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerTraits:
    """What both sides said they can do in IKE_SA_INIT."""

    fragmentation: bool = False  # RFC 7383
    intermediate: bool = False  # RFC 9242
    ppk_intermediate: bool = False  # RFC 9867
    ppk_auth: bool = False  # RFC 8784
    qsgw: bool = False  # the peer sent our Vendor ID
    childless: bool = False  # RFC 6023; only a responder says so
    signature_hashes: tuple[int, ...] | None = None  # RFC 7427; None: not announced


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerProof:
    """What the peer's AUTH is checked with, learned from its certificates or configured."""

    key: VerifyKey | None = None  # None: the pre-shared key
    subject: str = ""  # of its certificate


@dataclass(slots=True, kw_only=True, eq=False)
class IkeSa:
    """Flows read and fill this; ``session`` drives them."""

    env: Environment
    peering: Peering
    tunnel: Tunnel | None  # whose Child SA is made with it; responder: not before IKE_AUTH
    role: Role
    state: IkeState
    local: Address
    remote: Address
    spi_i: bytes
    spi_r: bytes
    origin: Origin
    now: float  # set by the session at every entry
    established_at: float | None = None
    announced: bool = False  # IkeEstablished or IkeRekeyed was emitted
    session: PeerSession | None = None  # what drives it
    living: bool = False  # its liveness is watched

    # IKE_SA_INIT
    nonce_i: bytes = b""
    nonce_r: bytes = b""
    init_request: bytes = b""
    init_demands: tuple[bytes, bytes] = (b"", b"")  # cookie and KE method it already meets
    init_response: bytes = b""
    agreed: Chosen | None = None
    peer: PeerTraits = field(default_factory=PeerTraits)
    nat: NatStatus = field(default_factory=NatStatus)
    heard: Offers = frozenset()  # what the peer's message offered
    missing: tuple[str, ...] = ()  # what it lacked: see ike.downgrade

    # keys
    keys_now: IkeKeys | None = None
    generation: int = 0  # of keys_now
    channel: Channel | None = None
    int_auth: IntAuth = field(default_factory=IntAuth)
    intermediates: int = 0  # IKE_INTERMEDIATE exchanges done
    ppk: HeldPpk | None = None
    ppk_method: PpkMethod | None = None  # set once the PPK is mixed in
    key_id: KeyId | None = None  # of the PPK that is mixed in
    ppk_inherited: bool = False  # it came in with the SK_d of the IKE SA this one was rekeyed from

    # IKE_AUTH: what the peer can check, and how each side proved who it is, for people
    hints: AuthHints = field(default_factory=AuthHints)
    remote_id: Identity | None = None  # as the peer spelt it in its ID payload
    local_proof: str = ""
    remote_proof: str = ""
    remote_certificates: tuple[bytes, ...] = ()  # what the peer's proof rests on

    # messages
    requests: RequestWindow = field(default_factory=RequestWindow)
    responses: ResponseWindow = field(default_factory=ResponseWindow)
    datagram_max: int | None = None  # octets of IP; smaller than configured: see ``cutting``

    # children
    children: list[ChildSa] = field(default_factory=list)
    waiting_child: ChildSa | None = None  # to be activated when the initiator speaks next
    pending: dict[bytes, Pending] = field(default_factory=dict)  # by IKE_FOLLOWUP_KE link
    own_rekey: OwnRekey | None = None  # while we are replacing this IKE SA
    # SPIs the peer deleted before we had its answer that names them; see rekey_child
    deleted_early: deque[int] = field(default_factory=lambda: deque(maxlen=DELETED_EARLY_MAX))
    initial_contact: bool = False  # received
    asked_for: Tunnel | None = None  # what the peer's request under work is about, once known

    @property
    def connection(self) -> Connection:
        return self.peering.connection

    @property
    def policy(self) -> KeyPolicy:
        """Whose word counts about QKD keys until the IKE SA is established."""
        return self.tunnel or self.peering

    @property
    def owner(self) -> PeerSession:
        if self.session is None:
            raise RuntimeError("no session drives this IKE SA")
        return self.session

    @property
    def chosen(self) -> Chosen:
        if self.agreed is None:
            raise RuntimeError("no proposal is chosen yet")
        return self.agreed

    @property
    def keys(self) -> IkeKeys:
        if self.keys_now is None:
            raise RuntimeError("no keys yet")
        return self.keys_now

    @property
    def prf(self) -> Prf:
        if self.chosen.prf is None:
            raise RuntimeError("an IKE SA has a PRF")
        return Prf(self.chosen.prf)

    @property
    def key_inputs(self) -> KeyInputs:
        return KeyInputs(
            prf=self.prf,
            encryption_size=self.chosen.key_size,
            nonce_i=self.nonce_i,
            nonce_r=self.nonce_r,
            spi_i=self.spi_i,
            spi_r=self.spi_r,
        )

    @property
    def takes_fresh_ppk(self) -> bool:
        """Whether a Child SA may be keyed with a PPK of its own (RFC 9867 3.2)."""
        return self.peer.qsgw and self.peer.ppk_intermediate

    @property
    def shares_ppk(self) -> bool:
        """Whether the PPK in SK_d is the only one a Child SA made in it can ever have."""
        return self.ppk_method is not None and not self.takes_fresh_ppk

    @property
    def our_spi(self) -> bytes:
        return self.spi_i if self.role is Role.INITIATOR else self.spi_r

    @property
    def key_exchanges(self) -> tuple[str, ...]:
        return () if self.agreed is None else self.agreed.key_exchanges

    @property
    def mixed(self) -> Mixed:
        """What was mixed for this IKE SA: a PPK that came with the old SK_d does not count."""
        fresh = not self.ppk_inherited
        return Mixed(
            key_exchanges=self.key_exchanges,
            key_id=self.key_id if fresh else None,
            ppk_method=self.ppk_method if fresh else None,
        )

    @property
    def intermediates_due(self) -> int:
        """How many IKE_INTERMEDIATE exchanges come before IKE_AUTH."""
        # RFC 9867 3.1: one at least where USE_PPK_INT was agreed
        return max(len(self.chosen.additional), int(self.peer.ppk_intermediate))

    @property
    def label(self) -> str:
        """What was agreed, for people."""
        if self.agreed is None:
            return ""
        return str(self.agreed) + ("/PPK" if self.ppk_method is not None else "")

    def happened(self, what: IkeInput) -> None:
        self.state = step(IKE_TRANSITIONS, self.state, what)

    def first_keys(self, keys: IkeKeys) -> None:
        """From here on messages are protected."""
        self.keys_now = keys
        self.channel = Channel(
            self.role,
            self.chosen.encryption,
            keys,
            memory=self.env.fragments.share(self.remote[0]),
            fragments=self.peer.fragmentation,
        )
        self._record(keys)

    def rotate(self, keys: IkeKeys) -> None:
        """The next generation of keys, in force from the next message on."""
        if self.channel is None or self.keys_now is None:
            raise RuntimeError("no keys yet")
        self.channel.rotate(keys)
        self.keys_now.wipe()
        self.keys_now = keys
        self.generation += 1
        self._record(keys)

    def _record(self, keys: IkeKeys) -> None:
        """For the lab's key log alone; without its switch no key leaves this SA."""
        if self.env.record_keys:
            self.env.outbox.commands.append(
                RecordIkeKeys(
                    tunnel=self.peering.name,
                    spi_i=self.spi_i,
                    spi_r=self.spi_r,
                    generation=self.generation,
                    encryption=self.chosen.encryption,
                    sk_ei=Secret(keys.sk_ei.expose()),  # copies: these are wiped elsewhere
                    sk_er=Secret(keys.sk_er.expose()),
                )
            )

    def ppk_mixed(self, held: HeldPpk, method: PpkMethod) -> None:
        """The key is in our keys; what is left of it here is wiped."""
        held.key.wipe()
        self.ppk = held
        self.ppk_method = method
        self.key_id = held.key_id

    def emit(self, event: Event) -> None:
        self.env.outbox.events.append(event)

    def ppk_not_used(self, policy: KeyPolicy, key_id: KeyId | None, reason: str) -> None:
        self.emit(PpkNotUsed(tunnel=policy.name, key_id=key_id, reason=reason))

    def abandon_pending(self, reason: str, tunnel: Tunnel | None = None) -> None:
        """SAs whose IKE_FOLLOWUP_KE is still to come will not come up.

        All, or the Child SAs of one tunnel.
        """
        for pending in tuple(self.pending.values()):
            if tunnel is None or pending.tunnel is tunnel:
                self.drop_pending(pending, reason)

    def drop_pending(self, dropped: Rival | None, reason: str) -> None:
        """The same for one of them; nothing happens if it is not there any more."""
        for link, pending in tuple(self.pending.items()):
            if pending is dropped:
                self.env.deadlines.cancel(("followup", link))
                del self.pending[link]
                pending.abandon(reason)

    def line(self) -> list[PeerSession]:
        """Its session, and those that are left of what it was rekeyed from or to."""
        return [one for one in self.peering.sessions if one.origin is self.origin]

    def line_children(self) -> list[ChildSa]:
        """Its children, and those it handed on when it was rekeyed."""
        return [child for session in self.line() for child in session.children]

    def child_by_outbound(self, spi: int) -> ChildSa | None:
        """The child a peer names by its own inbound SPI."""
        return next((child for child in self.children if child.spi_out == spi), None)

    def children_of(self, tunnel: Tunnel) -> list[ChildSa]:
        """Oldest first."""
        return [child for child in self.children if child.tunnel is tunnel]

    def current_child(self, tunnel: Tunnel) -> ChildSa | None:
        """The tunnel's newest child here that can carry traffic."""
        return next((one for one in reversed(self.children_of(tunnel)) if one.usable), None)

    def facts(self) -> IkeFacts:
        return IkeFacts(
            spi_i=self.spi_i,
            spi_r=self.spi_r,
            role=self.role,
            state=self.state.value,
            local=self.local,
            remote=self.remote,
            proposal=self.label,
            key_exchanges=self.key_exchanges,
            ppk_method=self.ppk_method,
            key_id=self.key_id,
            mixed=self.mixed,
            established_at=self.established_at,
            nat=self.nat.present,
            fragmentation=self.peer.fragmentation,
            peer_is_qsgw=self.peer.qsgw,
            local_id=self.connection.local_id,
            remote_id=self.remote_id,
            local_proof=self.local_proof,
            remote_proof=self.remote_proof,
        )
