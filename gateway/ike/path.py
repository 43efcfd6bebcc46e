"""Where the peer of one IKE SA is: following it through its NAT, and keeping ours open.

A NAT forgets a mapping that is idle, and may give a peer another port at any time. A peer
behind one is followed by every authentic, fresh packet it sends, IKE or ESP (RFC 7296 2.23),
but only from port to port: a tunnel, its policies and its SAs are between two addresses.
"""

from __future__ import annotations

from gateway.ike.child import ChildSa
from gateway.ike.commands import UpdateEncap
from gateway.ike.events import PeerPortChanged
from gateway.ike.limits import NAT_KEEPALIVE_INTERVAL
from gateway.ike.nat import encapsulation
from gateway.ike.outbox import KEEPALIVE, Address, Datagram
from gateway.ike.sa import IkeSa
from gateway.ike.states import ChildState, IkeState
from gateway.model import Role


class Path:
    """Acts on ``sa.local`` and ``sa.remote``; keeps nothing itself."""

    def __init__(self, sa: IkeSa) -> None:
        self._sa = sa

    def used(self) -> None:
        """Something went out to the peer: the NAT in front of us has seen it."""
        sa = self._sa
        # A stranger gets no keepalives: it may have lied about where it is.
        known = sa.role is Role.INITIATOR or sa.established_at is not None
        if sa.nat.local and known and sa.state is not IkeState.CLOSED:
            when = sa.now + NAT_KEEPALIVE_INTERVAL
            sa.env.deadlines.set((self, "keepalive"), when, self._keep_alive)

    def _keep_alive(self, now: float) -> None:
        sa = self._sa
        sa.now = now
        sa.env.outbox.datagrams.append(Datagram(data=KEEPALIVE, local=sa.local, remote=sa.remote))
        self.used()

    def heard(self, local: Address, remote: Address) -> None:
        """An authentic, fresh IKE message came this way."""
        sa = self._sa
        if (local[0], remote[0]) != (sa.local[0], sa.remote[0]):
            return
        floating = sa.role is Role.RESPONDER and sa.established_at is None
        if floating or sa.nat.follows:
            sa.local = local
            self._move(remote)

    def esp_heard(self, child: ChildSa, source: Address) -> None:
        """The same of ESP in UDP: the kernel told of another port than it was given."""
        sa = self._sa
        if source[0] == sa.remote[0] and sa.nat.follows:
            self._move(source)
            update_encap(sa, child)

    def _move(self, remote: Address) -> None:
        sa = self._sa
        if remote == sa.remote:
            return
        sa.remote = remote
        if sa.established_at is not None:
            sa.emit(PeerPortChanged(connection=sa.peering.name, port=remote[1]))
        for tunnel in sa.peering.tunnels.values():
            for child in tunnel.children:
                if child.owner is sa.session:
                    update_encap(sa, child)

    def stop(self) -> None:
        self._sa.env.deadlines.cancel((self, "keepalive"))


def update_encap(sa: IkeSa, child: ChildSa) -> None:
    """Have a child's SAs in the kernel follow to where the IKE SA's peer is."""
    inbound, outbound = encapsulation(sa.nat, sa.local, sa.remote)
    if inbound is None or outbound is None or child.peer_port in (None, sa.remote[1]):
        return
    child.peer_port = sa.remote[1]
    encaps = [(child.inbound, inbound)]
    if child.state is not ChildState.LINGERING:  # then only that half is left
        encaps.append((child.outbound, outbound))
    sa.env.outbox.commands.append(UpdateEncap(tunnel=child.tunnel.name, encaps=tuple(encaps)))
