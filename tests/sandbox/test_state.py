"""What outlives a restart, and which files are refused."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from bridge.sandbox.app import create_sandbox
from bridge.sandbox.errors import SandboxStateError
from bridge.sandbox.state import open_state

Client = TestClient[web.Request, web.Application]
Start = Callable[..., Awaitable[Client]]
LIST = "/v2/invoices/13150403/messages"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "sandbox.sqlite"


async def _start_on(file: Path) -> None:
    runner = web.AppRunner(create_sandbox(database=str(file)))
    try:
        await runner.setup()
    finally:
        await runner.cleanup()


def _message_count(file: Path) -> int:
    with closing(sqlite3.connect(file)) as connection:
        return int(connection.execute("SELECT count(*) FROM messages").fetchone()[0])


async def _list(client: Client) -> Any:
    return await (await client.get(LIST)).json()


async def test_a_file_outlives_a_restart_and_is_not_seeded_again(start: Start, file: Path) -> None:
    first = await start(database=str(file))
    await first.delete(f"{LIST}/27835209")
    created = await (await first.post(LIST, json={"event_type": "close"})).json()
    await first.delete(f"{LIST}/{created['id']}")
    kept = await (await first.post(LIST, json={"send_me_a_copy": True})).json()
    await first.close()

    second = await start(database=str(file))
    messages = (await _list(second))["invoice_messages"]
    assert [message["id"] for message in messages] == [kept["id"], 27835207]
    assert messages[0] == kept
    reopened = await second.post(LIST, json={"event_type": "re-open"})
    assert reopened.status == 201
    assert (await reopened.json())["id"] == kept["id"] + 1


async def test_memory_starts_afresh(start: Start) -> None:
    first = await start()
    await first.delete(f"{LIST}/27835209")
    await first.close()
    assert (await _list(await start()))["total_entries"] == 2


def test_an_empty_file_is_seeded(file: Path) -> None:
    file.touch()
    asyncio.run(_start_on(file))
    assert _message_count(file) == 4505


async def test_two_that_open_a_new_file_at_once_seed_it_once(file: Path) -> None:
    await asyncio.gather(_start_on(file), _start_on(file))
    assert _message_count(file) == 4505


def test_a_file_that_is_no_database_is_refused(file: Path) -> None:
    file.write_text("Dear Customer,\n" * 100)
    with pytest.raises(SandboxStateError, match="not a database"):
        asyncio.run(_start_on(file))
    assert file.read_text() == "Dear Customer,\n" * 100


def test_another_programs_database_is_refused_and_left_alone(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE messages (id INTEGER PRIMARY KEY)")
    before = file.read_bytes()
    with pytest.raises(SandboxStateError, match="not a sandbox's"):
        asyncio.run(_start_on(file))
    assert file.read_bytes() == before


def test_another_versions_database_is_refused(file: Path) -> None:
    asyncio.run(_start_on(file))
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(SandboxStateError, match="version 99, not 3"):
        asyncio.run(_start_on(file))


def test_a_file_from_before_there_were_payments_is_refused_and_left_alone(file: Path) -> None:
    asyncio.run(_start_on(file))
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA user_version = 1")
    before = file.read_bytes()
    with pytest.raises(SandboxStateError, match="version 1, not 3"):
        asyncio.run(_start_on(file))
    assert file.read_bytes() == before


def test_a_path_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SandboxStateError, match="Cannot open"):
        asyncio.run(_start_on(tmp_path / "no such directory" / "sandbox.sqlite"))


async def test_calls_at_the_same_time_do_not_mix(client: Client) -> None:
    responses = await asyncio.gather(
        *(client.post(LIST, json={"send_me_a_copy": True}) for _ in range(20)),
        *(client.post(LIST, json={"event_type": "close"}) for _ in range(5)),
        *(client.get(LIST) for _ in range(5)),
    )
    statuses = [response.status for response in responses]
    assert statuses[:20] == [201] * 20
    assert sorted(statuses[20:25]) == [201, 422, 422, 422, 422]
    assert statuses[25:] == [200] * 5
    assert (await _list(client))["total_entries"] == 23


async def test_a_cancelled_call_leaves_no_transaction_behind() -> None:
    async with open_state(":memory:") as state:
        for turns in range(8):
            call = asyncio.create_task(state.delete_message(13150403, 27835209))
            for _ in range(turns):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            assert (await state.invoice(13150403)).id == 13150403
