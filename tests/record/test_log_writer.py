"""The log's writer: what waits, what is lost and told, and what a database that fails does to it.

Turns are taken by hand here; a writer with its thread is in tests/server/test_log_faults.py.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection, Table, func, select, text

from bridge.record.log import tables
from bridge.record.log.database import (
    KEY_LENGTH,
    LogError,
    load_key,
    open_database,
    open_existing,
    writing,
)
from bridge.record.log.events import ConnectionEvent, Ended
from bridge.record.log.ingest import ended, ingest_ended
from bridge.record.log.overheard import Overheard
from bridge.record.log.retention import Retention
from bridge.record.log.writer import LogWriter, open_log_writer
from bridge.tape import Room, Tape
from tests.support.logged import Logged, logging
from tests.support.postgres import running_server
from tests.support.recorded_days import UNTIL, recorded_days

KEY = b"k" * KEY_LENGTH

NEVER = Retention(days=36_500, size=1 << 60)


def day(calls: int) -> list[Ended]:
    return [ended(each) for each in recorded_days(calls=calls, integrations=9, days=1)]


def writer_of(database: str, **also: Any) -> LogWriter:
    return LogWriter(database, KEY, NEVER, **also)


def count(database: str, what: Any) -> int:
    """Return how many rows a table has, or the sum of a column."""
    engine = open_existing(database)
    with engine.connect() as connection:
        counted = func.count() if isinstance(what, Table) else func.coalesce(func.sum(what), 0)
        source = what if isinstance(what, Table) else what.table
        found: int = connection.execute(select(counted).select_from(source)).scalar_one()
    engine.dispose()
    return found


@pytest.fixture
def log() -> Iterator[Logged]:
    with logging() as stream:
        yield stream


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite gives up at once where another has locked the file."""
    monkeypatch.setattr("bridge.record.log.database.BUSY_TIMEOUT", 0.0)


class Locked:
    """Another program, which keeps an SQLite file to itself."""

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("BEGIN IMMEDIATE")

    def let_go(self) -> None:
        self._connection.close()


async def test_what_is_told_is_kept_at_the_latest_at_the_stop(
    database: str, tmp_path: Path
) -> None:
    async with open_log_writer(database, tmp_path / "key", days=36_500, size=1 << 60) as writer:
        for each in day(2500):
            writer.ended([each])

    assert count(database, tables.CALLS) == count(database, tables.HOURS.c.calls) == 2500
    assert writer.state()[:3] == (0, 2500, 0)
    assert writer.problem() is None


def test_failed_connections_are_kept(database: str) -> None:
    writer = writer_of(database)
    writer.failed(
        ConnectionEvent(
            event="not_http", timestamp=UNTIL, network="192.0.2.1", reason="bad-head", count=7
        )
    )
    writer.turn()
    writer.close()

    assert count(database, tables.CONNECTIONS.c.count) == 7


def test_exchanges_are_handed_over_with_their_calls(database: str) -> None:
    kept = []
    overheard = Overheard(Tape(Room(), "http", "x", "/", {}), method="GET")

    def keep(_: Connection, id_: int, exchange: Overheard) -> None:
        kept.append((id_, exchange))

    writer = writer_of(database, keep=keep)
    calls = day(3)
    for each in (calls[0], calls[1]._replace(exchange=overheard), calls[2]):
        writer.ended([each])
    writer.turn()
    writer.close()

    assert kept == [(calls[1].call.id, overheard)]


class TestADatabaseThatFails:
    def test_gets_what_waited_when_it_works_again(self, tmp_path: Path, log: Logged) -> None:
        path = str(tmp_path / "log")
        writer = writer_of(path)
        writer.turn()
        other = Locked(path)
        for each in day(1200):
            writer.ended([each])
        writer.turn()
        while_locked = writer.problem()
        other.let_go()
        writer.turn()
        writer.close()

        assert while_locked == f"{path}: database is locked; 1200 calls wait, 0 are lost"
        assert writer.problem() is None
        assert count(path, tables.CALLS) == 1200
        assert count(path, tables.GAPS) == 0
        assert [each["reason"] for each in log.lines("translation_log_fails")] == [
            f"{path}: database is locked"
        ]
        (recovery,) = log.lines("translation_log_works_again")
        assert recovery["lost"] == 0

    @pytest.mark.parametrize("bound", ["MOST_WAITING", "MOST_WAITING_BYTES"])
    def test_loses_what_finds_no_room_and_tells_how_many(
        self, tmp_path: Path, bound: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls = day(50)
        room = {"MOST_WAITING": 10, "MOST_WAITING_BYTES": 20 * len(calls[0].line)}[bound]
        monkeypatch.setattr(f"bridge.record.log.writer.{bound}", room)
        path = str(tmp_path / "log")
        writer = writer_of(path)
        writer.turn()
        other = Locked(path)
        for each in calls:
            writer.ended([each])
        writer.turn()
        waiting, _, lost, since = writer.state()
        other.let_go()
        writer.turn()
        writer.close()

        assert 0 < waiting < 50
        assert waiting + lost == 50
        assert since is not None
        assert count(path, tables.CALLS) == waiting
        assert count(path, tables.GAPS.c.calls) == lost
        assert writer.problem() == (
            f"more calls came than could be written; 0 calls wait, {lost} are lost"
        )

    def test_has_no_call_twice_if_the_end_of_a_transaction_was_not_heard_of(
        self, database: str
    ) -> None:
        calls = day(10)
        writer = writer_of(database)
        for each in calls:
            writer.ended([each])
        engine = open_database(database, KEY)
        with writing(engine) as connection:
            ingest_ended(connection, calls)
        engine.dispose()
        writer._fail("the connection was lost")
        writer.turn()
        writer.close()

        assert count(database, tables.CALLS) == count(database, tables.DAYS.c.calls) == 10

    def test_loses_none_of_a_batch_of_which_a_part_may_have_been_written(
        self, database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls = day(10)
        calls[7] = ended(msgspec.structs.replace(calls[7].call, cause="nothing \0 \ud800"))
        writer = writer_of(database)
        transaction, ends = writer._transaction, iter((False, True))

        @contextmanager
        def unheard() -> Iterator[Connection]:
            with transaction() as connection:
                yield connection
            if not next(ends, True):
                raise LogError("the connection was lost")

        monkeypatch.setattr(writer, "_transaction", unheard)
        for each in calls:
            writer.ended([each])
        writer.turn()
        writer.turn()
        writer.turn()
        writer.close()

        assert count(database, tables.CALLS) == count(database, tables.DAYS.c.calls) == 10
        assert writer.state().written == 10

    def test_is_tried_again_ever_more_seldom(self, tmp_path: Path) -> None:
        path = str(tmp_path / "log")
        writer = writer_of(path)
        writer.turn()
        other = Locked(path)
        writer.ended([day(1)[0]])
        pauses = []
        for _ in range(12):
            writer.turn()
            pauses.append(writer._pause)
        other.let_go()
        writer.turn()
        writer.close()

        assert pauses == sorted(pauses)
        assert pauses[0] < 1.0
        assert pauses[-1] == 15.0
        assert writer._pause == 0.25

    def test_is_told_of_once_a_minute(self, tmp_path: Path, log: Logged) -> None:
        path = str(tmp_path / "log")
        writer = writer_of(path)
        writer.turn()
        other = Locked(path)
        writer.ended([day(1)[0]])
        for _ in range(5):
            writer.turn()
        other.let_go()
        writer.close()

        assert len(log.lines("translation_log_fails")) == 1


class TestACallThatNoDatabaseTakes:
    def spoilt(self, call: Ended, **values: Any) -> Ended:
        return ended(msgspec.structs.replace(call.call, **values))

    def test_is_cleaned_and_keeps_no_other_back(self, database: str) -> None:
        calls = day(9)
        calls[4] = self.spoilt(calls[4], cause="lone \ud800, nothing \0")
        writer = writer_of(database)
        for each in calls:
            writer.ended([each])
        writer.turn()
        writer.close()

        assert count(database, tables.CALLS) == 9
        assert writer.problem() is None

    def test_is_lost_alone_where_that_does_not_help(self, database: str, log: Logged) -> None:
        calls = day(9)
        calls[4] = self.spoilt(calls[4], id=calls[3].call.id)
        writer = writer_of(database)
        for each in calls:
            writer.ended([each])
        writer.turn()
        writer.close()

        assert count(database, tables.CALLS) == 8
        assert count(database, tables.HOURS.c.calls) == 8
        assert count(database, tables.GAPS.c.calls) == 1
        assert [line["cause"] for line in log.lines("call_not_recorded")] == ["IntegrityError"]


class TestAFile:
    @pytest.mark.parametrize("how", ["remove", "replace"])
    def test_that_is_gone_is_begun_anew_and_nothing_is_lost(self, tmp_path: Path, how: str) -> None:
        path = tmp_path / "log"
        writer = writer_of(str(path))
        calls = day(20)
        for each in calls[:10]:
            writer.ended([each])
        writer.turn()
        for file in tmp_path.glob("log*"):
            file.rename(tmp_path / f"old-{file.name}")
        if how == "replace":
            path.touch()
        for each in calls[10:]:
            writer.ended([each])
        writer.turn()
        told = writer.problem()
        writer.turn()
        writer.close()

        assert told == f"{path}: it was removed or replaced; 10 calls wait, 0 are lost"
        assert count(str(path), tables.CALLS) == 10
        assert count(str(tmp_path / "old-log"), tables.CALLS) == 10

    def test_that_is_full_takes_no_more_and_what_waits_is_kept(self, tmp_path: Path) -> None:
        path = str(tmp_path / "log")
        writer = writer_of(path)
        writer.turn()
        assert writer._engine is not None
        with writer._engine.connect() as connection:
            pages = connection.execute(text("PRAGMA page_count")).scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        for each in day(500):
            writer.ended([each])
        writer.turn()
        told = writer.problem()
        with writer._engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
        writer.turn()
        writer.close()

        assert told == f"{path}: database or disk is full; 500 calls wait, 0 are lost"
        assert count(path, tables.CALLS) == 500

    def test_that_cannot_be_used_ends_the_start(self, tmp_path: Path) -> None:
        (tmp_path / "log").write_bytes(b"no database" * 1000)

        with pytest.raises(LogError, match="not a database"):
            writer_of(str(tmp_path / "log")).start()


class TestAServer:
    def test_that_does_not_answer_at_the_start_is_tried_again(self) -> None:
        with running_server() as server:
            url = server.new_database()
            server.stop()
            writer = writer_of(url)
            for each in day(5):
                writer.ended([each])
            writer.turn()
            told = writer.problem()
            server.start()
            writer.turn()
            writer.turn()
            writer.close()

            assert told is not None
            assert told.startswith(url)
            assert told.endswith("5 calls wait, 0 are lost")
            assert count(url, tables.CALLS) == 5

    def test_that_is_restarted_loses_nothing(self) -> None:
        with running_server() as server:
            url = server.new_database()
            writer = writer_of(url)
            calls = day(30)
            for at, each in enumerate(calls):
                if at == 10:
                    server.stop("immediate")
                if at == 20:
                    server.start()
                writer.ended([each])
                writer.turn()
            writer.turn()
            writer.close()

            assert count(url, tables.CALLS) == count(url, tables.DAYS.c.calls) == 30


class TestWorkOfOthers:
    def test_is_done_while_calls_come_faster_than_they_are_written(self, database: str) -> None:
        more = iter(day(50))
        overheard = Overheard(Tape(Room(), "http", "x", "/", {}), method="GET")
        written: list[int] = []

        def tell(*_: object) -> None:
            for each in islice(more, 1):
                writer.ended([each._replace(exchange=overheard)])

        writer = writer_of(database, keep=tell)
        writer.every(0.0, lambda _: written.append(writer.state().written))
        tell()
        writer.turn()
        writer.close()

        assert len(written) == 1
        assert written[0] < 50

    def test_is_done_again_and_again_with_a_connection(self, database: str) -> None:
        seen: list[object] = []

        def look(connection: Connection) -> None:
            seen.append(connection.execute(select(tables.CAPTURE_RULES)).all())

        writer = writer_of(database)
        writer.every(0.0, look)
        writer.turn()
        writer.turn()
        writer.close()

        assert seen == [[], []]

    @pytest.mark.parametrize("error", [KeyError("mine"), LogError("the database's")])
    def test_that_fails_does_not_end_the_writer(self, database: str, error: Exception) -> None:
        def fail(_: Connection) -> None:
            raise error

        writer = writer_of(database)
        writer.every(0.0, fail)
        writer.turn()
        writer.ended([day(1)[0]])
        writer.turn()
        writer.close()

        assert count(database, tables.CALLS) == 1

    async def test_is_done_from_the_first_turn_on_also_while_the_database_fails(
        self, tmp_path: Path
    ) -> None:
        """Whoever has to say something by the clock does not wait for a database."""
        database, said = str(tmp_path / "log.sqlite"), threading.Event()
        open_database(database, load_key(database, tmp_path / "key")).dispose()
        other = Locked(database)
        async with open_log_writer(
            database,
            tmp_path / "key",
            days=1,
            size=1 << 60,
            prepare=lambda writer: writer.at_each_turn(said.set),
        ) as writer:
            assert await asyncio.to_thread(said.wait)
            assert writer.state().failing_since is not None
            other.let_go()
