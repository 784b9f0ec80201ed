"""A translation log that cannot be written while a bridge serves: no client notices."""

import asyncio
import json
import os
import re
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
import pytest
from sqlalchemy import func, select

from bridge.record.log import tables
from bridge.record.log.database import LogError, open_existing
from bridge.server.service import Service
from tests.support.legacy import LegacyClient
from tests.support.postgres import Server, running_server
from tests.support.running import LOOPBACK, running_service

LIST = "/invoice/1420/messages"
PAYMENTS = "/invoices/1420/payments"
PAYMENT = b"<payment><amount>1.5</amount><paid-at>2027-03-01T12:00:00Z</paid-at></payment>"
XML = {"Content-Type": "application/xml"}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.record.log.database.BUSY_TIMEOUT", 0.01)
    monkeypatch.setattr("bridge.record.log.writer.LINGER", 0.01)
    monkeypatch.setattr("bridge.record.log.writer.LONGEST_PAUSE", 0.05)


@pytest.fixture
def server() -> Iterator[Server]:
    with running_server() as server:
        yield server


async def ready(service: Service) -> dict[str, Any]:
    url = f"http://{LOOPBACK}:{service.admin_port}/readyz"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        told: dict[str, Any] = await response.json()
        return told


async def until(service: Service, is_so: Callable[[str], bool]) -> str:
    """Ask until what readiness says of the database is so, and return it; '' is that it works."""
    told: str | None = None
    while told is None or not is_so(told):
        told = (await ready(service))["warnings"].get("database", "")
    return told


def counts(told: str) -> tuple[int, int]:
    """Return how many calls wait, and how many are lost."""
    found = re.search("([0-9]+) calls wait, ([0-9]+) are lost", told)
    return (int(found[1]), int(found[2])) if found else (0, 0)


async def read_and_write(client: LegacyClient, *, written: int = 201) -> None:
    answer = await client.get(LIST)
    assert answer.status == 200
    answer = await client.call("POST", PAYMENTS, body=PAYMENT, headers=XML)
    assert answer.status == written


def recorded(database: str) -> int:
    engine = open_existing(database)
    with engine.connect() as connection:
        calls: int = connection.execute(select(func.count(tables.CALLS.c.id))).scalar_one()
    engine.dispose()
    return calls


@asynccontextmanager
async def serving(
    sandbox: str, database: str, tmp_path: Path
) -> AsyncIterator[tuple[Service, LegacyClient]]:
    async with running_service(
        sandbox, account_id=1000, database=database, database_key=tmp_path / "key"
    ) as service:
        yield service


async def test_a_file_that_is_locked_gets_its_calls_later(sandbox: str, tmp_path: Path) -> None:
    database = str(tmp_path / "log")
    async with serving(sandbox, database, tmp_path) as (service, client):
        with closing(sqlite3.connect(database, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            await read_and_write(client)
            told = await until(service, bool)
            await read_and_write(client)
            journal = (await ready(service))["checks"]["journal"]
        await until(service, lambda told: not told)

    assert told.startswith(f"{database}: database is locked; ")
    assert journal == "ok"
    assert recorded(database) == 4


async def test_calls_that_find_no_room_are_counted(
    sandbox: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.record.log.writer.MOST_WAITING", 3)
    database = str(tmp_path / "log")
    async with serving(sandbox, database, tmp_path) as (service, client):
        with closing(sqlite3.connect(database, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            for _ in range(4):
                await read_and_write(client)
            told = await until(service, lambda told: sum(counts(told)) == 8)
        await until(service, lambda told: told.startswith("more calls came"))

    waiting, lost = counts(told)
    assert lost >= 1
    assert recorded(database) == waiting
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT sum(calls) FROM unrecorded").fetchall() == [(lost,)]


async def test_a_file_that_was_removed_is_begun_anew(sandbox: str, tmp_path: Path) -> None:
    database = str(tmp_path / "log")
    async with serving(sandbox, database, tmp_path) as (service, client):
        for suffix in ("", "-wal", "-shm"):
            Path(f"{database}{suffix}").unlink()  # noqa: ASYNC240 - at once
        await read_and_write(client)
        journal = (await ready(service))["checks"]["journal"]

    assert journal == "ok"
    assert recorded(database) == 2


async def test_a_folder_that_is_gone_is_waited_for(sandbox: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    database = str(folder / "log")
    async with serving(sandbox, database, tmp_path) as (service, client):
        folder.rename(tmp_path / "elsewhere")
        await read_and_write(client)
        told = await until(service, lambda told: "directory; 2 calls wait" in told)
        (tmp_path / "elsewhere").rename(folder)
        await until(service, lambda told: not told)

    assert told == f"{database}: No such file or directory; 2 calls wait, 0 are lost"
    assert recorded(database) == 2


async def test_a_server_that_is_not_there_at_the_start_is_waited_for(
    sandbox: str, tmp_path: Path, server: Server
) -> None:
    database = server.new_database()
    server.stop()
    async with serving(sandbox, database, tmp_path) as (service, client):
        told = await until(service, bool)
        await read_and_write(client, written=503)  # for the server keeps the journal, too
        server.start()
        await until(service, lambda told: not told)

    assert told.startswith(f"{database}: ")
    assert recorded(database) == 2


async def test_a_server_that_is_restarted_gets_its_calls(
    sandbox: str, tmp_path: Path, server: Server
) -> None:
    database = server.new_database()
    async with serving(sandbox, database, tmp_path) as (service, client):
        await read_and_write(client)
        server.stop("immediate")
        await read_and_write(client, written=503)
        await until(service, bool)
        server.start()
        await client.get(LIST)
        await client.get(LIST)
        await until(service, lambda told: not told)

    assert recorded(database) == 6


async def test_a_server_that_says_nothing_holds_up_neither_calls_nor_the_stop(
    sandbox: str, tmp_path: Path, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.record.log.writer.FLUSH_TIME", 0.1)
    monkeypatch.setattr("bridge.record.log.writer.SLOW", 0.0)
    with psycopg.connect(postgres) as other:
        async with serving(sandbox, postgres, tmp_path) as (service, client):
            other.execute("LOCK TABLE calls")
            await read_and_write(client)
            told = await until(service, bool)
            await read_and_write(client)

    assert " is slow; " in told


async def test_two_bridges_write_to_one_database(
    sandbox: str, tmp_path: Path, postgres: str
) -> None:
    async with (
        serving(sandbox, postgres, tmp_path) as (_, first),
        serving(sandbox, postgres, tmp_path) as (_, second),
    ):
        await asyncio.gather(*(client.get(LIST) for client in [first, second] * 40))

    engine = open_existing(postgres)
    with engine.connect() as connection:
        rows = connection.execute(
            select(tables.INTEGRATIONS.c.calls, tables.INTEGRATIONS.c.login)
        ).all()
        counted = connection.execute(select(func.sum(tables.HOURS.c.calls))).scalar_one()
    engine.dispose()
    assert [row.calls for row in rows] == [80]  # one key, so one integration
    assert recorded(postgres) == counted == 80


async def test_a_bridge_with_another_key_is_refused(
    sandbox: str, tmp_path: Path, database: str
) -> None:
    async with serving(sandbox, database, tmp_path):
        pass
    (tmp_path / "key").unlink()

    with pytest.raises(LogError, match="its digests are made with another key"):
        async with serving(sandbox, database, tmp_path):
            pass


@pytest.mark.kill
async def test_a_bridge_that_is_killed_leaves_whole_batches(
    sandbox: str, tmp_path: Path, postgres: str
) -> None:
    arguments = {
        "account-id": "1000", "auth": "token-as-password", "contact": "x@example.com",
        "upstream": sandbox, "port": "0", "admin-port": "0", "journal": tmp_path / "journal",
        "database": postgres, "database-key": tmp_path / "key",
    }  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bridge", "serve",
        *(f"--{name}={text}" for name, text in arguments.items()),
        env={name: text for name, text in os.environ.items() if "HARVEST_BRIDGE" not in name},
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    async for line in process.stderr:
        said = json.loads(line)
        if said.get("what") == "bridge":
            break
    async with (
        serving(sandbox, postgres, tmp_path) as (_, other),
        LegacyClient(LOOPBACK, said["port"]) as client,
    ):
        while recorded(postgres) < 20:
            await asyncio.gather(client.get(LIST), other.get(LIST))
        process.send_signal(signal.SIGKILL)
        await process.communicate()
        await other.get(LIST)

    engine = open_existing(postgres)
    with engine.connect() as connection:
        counted = [
            connection.execute(select(func.sum(column))).scalar_one()
            for column in (tables.HOURS.c.calls, tables.DAYS.c.calls, tables.INTEGRATIONS.c.calls)
        ]
    engine.dispose()
    assert set(counted) == {recorded(postgres)}
