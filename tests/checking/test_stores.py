"""What is told of journal and database, which are left as they are."""

import asyncio
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from bridge.checking.findings import Finding
from bridge.checking.stores import check_database, check_journal
from bridge.record.log.database import load_key, open_database
from bridge.settings import Settings
from tests.support.legacy import LegacyClient
from tests.support.running import LOOPBACK, empty_log, running_service
from tests.support.writing import HELLO, SEND, XML


def settings(folder: Path, **given: Any) -> Settings:
    files = {"journal": folder / "journal.sqlite", "database": str(folder / "log.sqlite")}
    needed = {"contact": "ops@acme.dev", "auth": "bearer", "account_id": 1, **files}
    return Settings(**{**needed, **given})


def told(found: Iterator[Finding]) -> list[tuple[str, str]]:
    """The verdicts, and what is said behind the name of the store."""
    return [(each.verdict, each.told.partition(": ")[2]) for each in found]


def look(made: Settings) -> dict[str, list[tuple[str, str]]]:
    return {"journal": told(check_journal(made)), "database": told(check_database(made))}


def files(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """All that somebody could have changed in a folder, but for what readers note in a `-shm`."""
    return {
        each.name: (each.stat().st_mtime_ns, each.stat().st_mode, each.read_bytes())
        for each in folder.iterdir()
        if not each.name.endswith("-shm")
    }


def test_before_the_first_start_nothing_is_wrong_and_nothing_is_made(tmp_path: Path) -> None:
    found = look(settings(tmp_path))

    assert found == {
        "journal": [("ok", "is made at the first start")],
        "database": [("ok", "its tables are made at the first start")],
    }
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("setting", ["journal", "database"])
def test_a_folder_that_is_missing_is_wrong(tmp_path: Path, setting: str) -> None:
    made = settings(tmp_path, **{setting: str(tmp_path / "none" / "file")})

    assert [verdict for verdict, _ in look(made)[setting]] == ["wrong"]


async def written(client: LegacyClient) -> Any:
    return await client.call("POST", SEND, body=HELLO, headers=XML)


async def test_a_bridge_that_starts_meanwhile_does_not_notice(sandbox: str, tmp_path: Path) -> None:
    """No lock is taken that another would find."""
    made = settings(tmp_path)
    kept = {"journal": made.journal, "database": empty_log(tmp_path), "account_id": 1000}
    async with running_service(sandbox, **kept):
        pass
    looking = asyncio.to_thread(lambda: [look(made) for _ in range(50)])
    looks = asyncio.create_task(looking)
    async with running_service(sandbox, **kept):
        assert len(await looks) == 50


async def test_what_a_bridge_left_that_has_ended_is_left(sandbox: str, tmp_path: Path) -> None:
    made = settings(tmp_path)
    kept = {"journal": made.journal, "database": empty_log(tmp_path), "account_id": 1000}
    async with running_service(sandbox, **kept) as (_, client):
        assert (await written(client)).status == 201
    before = files(tmp_path)

    found = look(made)

    assert files(tmp_path) == before
    assert found["journal"] == [("ok", "can be used; all writes are settled")]


async def test_what_a_killed_bridge_left_is_read_and_left(sandbox: str, tmp_path: Path) -> None:
    living, dead = tmp_path / "living", tmp_path / "dead"
    living.mkdir()
    kept = {"journal": living / "journal.sqlite", "database": empty_log(living), "account_id": 1000}
    async with running_service(sandbox, **kept) as (_, client):
        assert (await written(client)).status == 201
        shutil.copytree(living, dead)
    with closing(sqlite3.connect(dead / "journal.sqlite")) as journal:
        journal.execute("UPDATE intents SET outcome = 'open'")
        journal.commit()
        shutil.copytree(dead, tmp_path / "left")
    left = tmp_path / "left"
    before = files(left), {each.name for each in left.iterdir()}

    found = look(settings(left))

    assert (files(left), {each.name for each in left.iterdir()}) == before
    assert found["journal"] == [("warning", "writes whose outcome is not known: 1")]


def test_files_of_other_programs_are_told(tmp_path: Path) -> None:
    for name in ("journal.sqlite", "log.sqlite"):
        with closing(sqlite3.connect(tmp_path / name)) as other:
            other.execute("CREATE TABLE things (id)")

    found = look(settings(tmp_path))

    assert [verdict for verdict, _ in found["journal"]] == ["wrong"]
    assert [verdict for verdict, _ in found["database"]] == ["wrong"]


class TestDatabase:
    @pytest.fixture
    def made(self, database: str, tmp_path: Path) -> Settings:
        """A log of each kind, made with a key of its own."""
        made = settings(tmp_path, database=database, database_key=tmp_path / "key")
        open_database(database, load_key(database, made.database_key)).dispose()
        return made

    def test_a_good_one_is_told_with_its_size(self, made: Settings) -> None:
        ((verdict, said),) = told(check_database(made))

        assert verdict == "ok"
        assert f"of {made.calls_kept_bytes} bytes" in said

    @pytest.mark.parametrize("key", ["another", "none"])
    def test_another_key_is_wrong(self, made: Settings, key: str) -> None:
        assert made.database_key is not None
        made.database_key.unlink()
        if key == "another":
            load_key(made.database, made.database_key)

        found = [*check_database(made)]

        assert found[0].verdict == "wrong"
        assert "another key" in found[0].told

    def test_a_full_one_is_warned_of(self, made: Settings) -> None:
        full = made.model_copy(update={"calls_kept_bytes": 1000})

        assert [verdict for verdict, _ in told(check_database(full))] == ["warning"]


class TestServer:
    @pytest.fixture
    def made(self, postgres: str, tmp_path: Path) -> Settings:
        load_key(postgres, tmp_path / "key")
        return settings(tmp_path, database=postgres, database_key=tmp_path / "key")

    def test_an_empty_one_gets_its_tables_at_the_first_start(self, made: Settings) -> None:
        assert [found[0][0] for found in look(made).values()] == ["ok", "ok"]

    async def test_the_bridges_that_share_it_are_counted(
        self, made: Settings, sandbox: str
    ) -> None:
        kept = {"database": made.database, "database_key": made.database_key, "account_id": 1000}
        async with running_service(sandbox, **kept), running_service(sandbox, **kept):
            found = await asyncio.to_thread(look, made)

        ((verdict, said),) = found["journal"]
        assert (verdict, said) == ("ok", "can be used; bridges that do: 2")

    async def test_rights_that_are_lacking_are_named(self, made: Settings, sandbox: str) -> None:
        kept = {"database": made.database, "database_key": made.database_key, "account_id": 1000}
        async with running_service(sandbox, **kept):
            pass
        with psycopg.connect(made.database, autocommit=True) as owner:
            owner.execute("DROP ROLE IF EXISTS reader")
            owner.execute("CREATE ROLE reader LOGIN")
            owner.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
        reading = made.model_copy(
            update={"database": made.database.replace("postgres@", "reader@")}
        )

        found = look(reading)

        assert [found[name][0][0] for name in found] == ["wrong", "wrong"]
        assert "intents" in found["journal"][0][1]
        assert "calls" in found["database"][0][1]

    async def test_a_file_that_was_not_moved_is_wrong_and_is_left(
        self, sandbox: str, made: Settings, tmp_path: Path
    ) -> None:
        """A bridge would not start: the same write sent again would be a second mail."""
        async with running_service(sandbox, account_id=1000, journal=made.journal) as (_, client):
            await written(client)
        before = files(tmp_path)

        first, *_ = check_journal(made)

        assert (first.verdict, first.told.partition(": ")[2]) == (
            "wrong",
            "writes that it knows of and the database does not: 1",
        )
        assert "journal --move" in first.mend
        assert files(tmp_path) == before

    def test_one_that_is_down_is_told_without_its_password(self, tmp_path: Path) -> None:
        url = f"postgresql://bridge:s3cret@{LOOPBACK}:1/calls"
        made = settings(tmp_path, database=url, database_key=tmp_path / "key")

        found = [*check_database(made), *check_journal(made)]

        assert [each.verdict for each in found] == ["wrong", "wrong"]
        assert "s3cret" not in str(found)


@pytest.mark.parametrize("setting", ["journal", "database"])
def test_a_pipe_is_not_waited_for(tmp_path: Path, setting: str) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    found = look(settings(tmp_path, **{setting: pipe if setting == "journal" else str(pipe)}))

    assert found[setting] == [("wrong", "it is not a regular file")]
