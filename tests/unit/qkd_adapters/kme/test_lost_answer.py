"""An enc_keys answer that is lost on the way costs one key and nothing else, end to end."""

from __future__ import annotations

from contextlib import asynccontextmanager

from kms_client.errors import NoKeyError
from kms_client.failover import KmeGroup
from kms_client.pool import KeyPool, PoolSettings
from qkd_adapters.kme.faults import Fault
from qkd_adapters.link.messages import Direction
from tests.support.kme_lab import KmeLab, eventually

MOON_TO_SUN = Direction("moon", "sun")


@asynccontextmanager
async def pool_of(lab: KmeLab, on_change):
    group = KmeGroup([lab.client("moon")])
    settings = PoolSettings(target=4, low_water=1, retry_min=0.01)
    pool = KeyPool(group, peer_sae="sun", settings=settings, on_change=on_change)
    pool.start()
    try:
        yield pool
    finally:
        await pool.stop()
        await group.close()


async def test_a_lost_answer_costs_one_key_and_nothing_else(lab: KmeLab) -> None:
    faults = lab.kmes["kme-moon"].faults
    moon, sun = lab.kmes["kme-moon"].store, lab.kmes["kme-sun"].store
    failures: list[str] = []

    def lose_one_answer_only() -> None:
        error = pool.stock().last_error
        if error is not None and not failures:
            failures.append(error)
            faults.command([Fault.LOST_ANSWER, "off"])

    async with pool_of(lab, lose_one_answer_only) as pool:
        await eventually(lambda: pool.stock().ready == 4 and pool.stock().stored_at_kme is not None)
        faults.command([Fault.LOST_ANSWER, "on"])
        keys = [pool.take() for _ in range(3)]
        await eventually(lambda: pool.stock().ready == 4)
        assert "closed the connection without an answer" in failures[0]
        assert pool.stock().last_error is None
        assert moon.account(MOON_TO_SUN).delivered_master == 4 + 1 + 3

        keys += [pool.take() for _ in range(4)]
        wanted = [key for key in keys if key is not None]
        assert len({key.key_id for key in wanted}) == 7
        peer = KmeGroup([lab.client("sun")])
        for key in wanted:
            (same,) = await peer.dec_keys("moon", [key.key_id])
            assert same.key == key.key
        assert sun.account(MOON_TO_SUN).delivered_slave == 7
        await peer.close()
    assert lab.same_stores()


async def test_nothing_is_asked_for_twice_while_every_answer_is_lost(lab: KmeLab) -> None:
    """The negative twin: keys go on being consumed, one for each try, and none arrives."""
    lab.kmes["kme-moon"].faults.command([Fault.LOST_ANSWER, "on"])
    client = lab.client("moon")
    group = KmeGroup([client])
    for tries in (1, 2, 3):
        try:
            await group.enc_keys("sun")
        except NoKeyError:
            pass
        else:
            raise AssertionError("the answer was to be lost")
        account = lab.kmes["kme-moon"].store.account(MOON_TO_SUN)
        assert account.delivered_master == tries
    await group.close()
