"""Two bridges that share a journal, behind a real front: each write is made once, reads go on.

One bridge is killed with -9 and one is told to stop, again and again; clients send a write again
until they are told 2xx, and others read throughout. `python -m tests.bench.bench_storm` has the long
storms, and PostgreSQL restarted in them.
"""

import asyncio
import os
from pathlib import Path
from random import Random

import pytest

from tests.support.postgres import Server
from tests.support.storm_fronted import RULES, brewing_fronted_storm
from tests.support.storm_sandbox import LONE_INVOICE, Moment
from tests.support.tls_fronts import need

SEED = int(os.environ.get("STORM_SEED", "20080409"))
WRITES = int(os.environ.get("STORM_WRITES", "100"))
PATIENCE = 150 + WRITES // 5

pytestmark = [pytest.mark.timeout(PATIENCE + 30), pytest.mark.storm, pytest.mark.kill]


@pytest.mark.parametrize("kind", ["haproxy", "nginx"])
async def test_killed_and_drained_in_turn_they_lose_none_and_make_none_twice(
    kind: str, tmp_path: Path, postgres_server: Server
) -> None:
    need(kind)
    database = postgres_server.new_database()
    shared = (database, database)
    async with brewing_fronted_storm(kind, tmp_path, SEED, RULES, shared) as storm:
        await storm.within(
            PATIENCE, lambda: storm.rage(Random(SEED), lambda: storm.acknowledged >= WRITES)
        )

        await storm.check()
        assert set(storm.read) == {"200"}
        await storm.settle()


async def test_with_a_journal_each_a_write_is_made_twice(tmp_path: Path) -> None:
    """What all of this is for, and the proof that the storm would tell."""
    need("haproxy")
    async with brewing_fronted_storm(
        "haproxy", tmp_path, SEED, (), (None, None), "--call-timeout=60", crowd=3, readers=0
    ) as storm:
        client = storm.client_alone_on(LONE_INVOICE)
        async with storm.moments.hold(
            lambda occasion: occasion.moment is Moment.APPLIED and occasion.method == "POST"
        ) as applied:
            await storm.bridges[1].kill()
            sending = asyncio.create_task(client.send(next(client.plan.messages())))
            await applied.reached
            await storm.bridges[1].start()
            await storm.bridges[0].kill()
            applied.let_go()
            await sending

        with pytest.raises(AssertionError, match=r"made \[\d+, \d+\]"):
            await storm.check()
