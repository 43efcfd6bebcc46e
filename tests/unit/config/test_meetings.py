"""Which tunnels are compared: no pair that has something in common is missed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from itertools import combinations

from gateway.config.meetings import meetings
from gateway.config.partial import readable
from gateway.config.problems import Problems
from gateway.model import IpAddress, IpNetwork


@dataclass(frozen=True)
class Tunnel:
    connection: str
    local: IpAddress
    remote: IpAddress
    remote_subnets: tuple[IpNetwork, ...]


def drawn(number: int, rng: random.Random) -> Tunnel:
    nets = [ip_network((rng.randrange(1 << 32), rng.choice((0, 8, 23, 24, 32))), strict=False)]
    nets += [ip_network(f"10.{rng.randrange(4)}.{rng.randrange(4)}.0/24") for _ in range(2)]
    nets.append(ip_network(f"2001:db8:{rng.randrange(30)}::/{rng.choice((47, 48, 64))}", False))
    return Tunnel(
        connection=rng.choice((f"t{number}", "t0")) if number % 5 == 0 else f"t{number}",
        local=ip_address("192.0.2.1"),
        remote=ip_address(f"198.51.100.{rng.randrange(200)}"),
        remote_subnets=tuple(rng.sample(nets, 2)),
    )


def common(one: Tunnel, other: Tunnel) -> bool:
    return (
        one.connection == other.connection
        or (one.local, one.remote) == (other.local, other.remote)
        or any(
            a.version == b.version and a.overlaps(b)
            for a in one.remote_subnets
            for b in other.remote_subnets
        )
    )


def test_all_that_have_something_in_common_and_no_others_in_order() -> None:
    rng = random.Random(5)
    for _ in range(20):
        tunnels = {f"t{number}": drawn(number, rng) for number in range(25)}
        expected = [
            (one, other)
            for one, other in combinations(tunnels, 2)
            if common(tunnels[one], tunnels[other])
        ]
        assert expected
        assert meetings(tunnels) == expected  # type: ignore[arg-type]


def test_what_could_not_be_read_hides_nothing_else() -> None:
    rng = random.Random(6)
    first = drawn(1, rng)
    second = Tunnel(first.connection, first.local, first.remote, ())
    problems = Problems()
    problems.at("tunnel.b").error("remote_subnets", "is wrong")
    tunnels = {"a": first, "b": readable(second, problems, "tunnel.b")}
    assert meetings(tunnels) == [("a", "b")]  # type: ignore[arg-type]
