"""The journal on real files: what is on record after which event, and which files are refused."""

import asyncio
import os
import random
import resource
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from bridge.record.journal import Journal, JournalError, open_journal
from bridge.record.journal import keeping as journal_module
from bridge.record.journal import rules as rules_module
from bridge.record.journal import sqlite as store_module
from bridge.record.journal.rules import ACCEPTED_RETENTION, CLAIM_MARGIN
from bridge.v2.clock import V2Clock
from bridge.v2.writes import Intent, Outcome
from tests.record.support import NOON, WINDOW, Clock, a_write, as_of_version_1, begun, opened
from tests.support.postgres import Server, running_server

SECOND = timedelta(seconds=1)
NOON_BY_V2 = NOON.replace(microsecond=0)
"""`Date` has whole seconds."""
PATIENCE = 60
"""Seconds until a process counts as hanging."""


Where = Path | str


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as running:
        yield running


in_a_file = pytest.mark.parametrize("path", ["sqlite"], indirect=True)
"""Of such a class, what is done to a file, or what only its one bridge may do."""


class InBothStores:
    """Tests of rules, which a file keeps to, and a server."""

    @pytest.fixture(params=["sqlite", "postgresql"])
    def path(self, request: pytest.FixtureRequest, tmp_path: Path) -> Where:
        if request.param == "sqlite":
            return tmp_path / "journal.sqlite"
        server: Server = request.getfixturevalue("server")
        return server.new_database()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def rows(path: Where) -> list[dict[str, Any]]:
    """Every row, read beside the journal."""
    if isinstance(path, str):
        with psycopg.connect(path, row_factory=dict_row) as server:
            return server.execute("SELECT * FROM intents ORDER BY id").fetchall()
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute("SELECT * FROM intents ORDER BY id")]


def outcomes(path: Where) -> list[str]:
    return [row["outcome"] for row in rows(path)]


def refusal(path: Path) -> str:
    """Why the journal at `path` cannot be opened: one line that names it."""

    async def attempt() -> None:
        async with opened(path, Clock()):
            pass

    with pytest.raises(JournalError) as refused:
        asyncio.run(attempt())
    said = str(refused.value)
    assert said.startswith(f"the journal {path}: ")
    assert "\n" not in said
    return said.removeprefix(f"the journal {path}: ")


def made(path: Path, intents: int = 0) -> None:
    """Make a journal with so many intents."""

    async def make() -> None:
        async with opened(path, Clock()) as journal:
            for each in range(intents):
                await begun(journal, str(each))

    asyncio.run(make())


def move(path: Path) -> Path:
    return path.rename(path.with_name("elsewhere"))


class TestBegin(InBothStores):
    async def test_an_intent_is_on_record_before_begin_returns(
        self, path: Where, clock: Clock
    ) -> None:
        async with opened(path, clock) as journal:
            write = a_write()
            intent = await journal.begin(write, account_id=1000, request_id="r-7")

            (row,) = rows(path)

        assert intent == Intent(
            id=row["id"],
            account_id=1000,
            resource="invoice-messages",
            path="/invoices/1420/messages",
            likeness=write.likeness,
            intended_at=NOON,
            outcome=Outcome.OPEN,
            by_v2=True,
        )
        assert (row["outcome"], row["fingerprint"], row["request_id"]) == (
            "open",
            write.fingerprint,
            "r-7",
        )
        assert (row["delivered"], row["made_id"]) == (0, None)

    @in_a_file
    async def test_nothing_of_the_body_is_in_any_file(self, path: Path, clock: Clock) -> None:
        async with opened(path, clock) as journal:
            write = replace(a_write("s3cret jane@acme.example"), likeness=b"digest")
            await journal.begin(write, account_id=1000, request_id="r")

            kept = b"".join(each.read_bytes() for each in path.parent.iterdir())

        assert b"digest" in kept
        assert b"s3cret" not in kept
        assert b"acme" not in kept

    async def test_one_that_is_being_made_is_never_taken_up(
        self, path: Where, clock: Clock
    ) -> None:
        async with opened(path, clock) as journal:
            first, second = await begun(journal), await begun(journal)

        assert first.id != second.id
        assert second.outcome is Outcome.OPEN

    @pytest.mark.parametrize("outcome", [Outcome.UNKNOWN, Outcome.ABSENT])
    async def test_one_that_may_be_sent_again_is_taken_up_and_open_from_then_on(
        self, path: Where, clock: Clock, outcome: Outcome
    ) -> None:
        async with opened(path, clock) as journal:
            first = await begun(journal)
            await journal.settle(first.id, outcome)
            clock.advance(WINDOW)
            again = await begun(journal)

            assert again == replace(first, outcome=outcome)
            assert again.intended_at == NOON
            assert outcomes(path) == ["open"]
            assert (await begun(journal)).id != first.id

    async def test_one_that_is_done_but_was_not_told_is_taken_up_and_stays_done(
        self, path: Where, clock: Clock
    ) -> None:
        async with opened(path, clock) as journal:
            first = await begun(journal)
            await journal.settle(first.id, Outcome.DONE, 409)
            clock.advance(WINDOW)
            again = [await begun(journal) for _ in range(2)]

        assert again == [replace(first, outcome=Outcome.DONE, made_id=409)] * 2
        assert outcomes(path) == ["done"]

    async def test_having_been_told_of_a_failure_says_nothing_of_what_is_done_later(
        self, path: Where, clock: Clock
    ) -> None:
        async with opened(path, clock) as journal:
            first = await begun(journal)
            await journal.settle(first.id, Outcome.ABSENT)
            await journal.delivered(first.id)
            again = await begun(journal)
            await journal.settle(again.id, Outcome.DONE, 409)

            assert (await begun(journal)).id == first.id

    async def test_whoever_asks_again_and_again_is_never_a_new_one(
        self, path: Where, clock: Clock
    ) -> None:
        async with opened(path, clock) as journal:
            first = await begun(journal)
            await journal.settle(first.id, Outcome.DONE, 409)
            for _ in range(5):
                clock.advance(WINDOW)
                assert (await begun(journal)).id == first.id

    @pytest.mark.parametrize(
        "outcome",
        [
            pytest.param((Outcome.DONE, 409), id="done-and-told"),
            pytest.param((Outcome.NOT_DONE, None), id="not-done"),
        ],
    )
    async def test_one_that_is_over_is_not_taken_up(
        self, path: Where, clock: Clock, outcome: tuple[Outcome, int | None]
    ) -> None:
        async with opened(path, clock) as journal:
            first = await begun(journal)
            await journal.settle(first.id, *outcome)
            await journal.delivered(first.id)

            assert (await begun(journal)).outcome is Outcome.OPEN
            assert len(rows(path)) == 2

    async def test_beyond_the_window_it_is_another_write(self, path: Where, clock: Clock) -> None:
        async with opened(path, clock) as journal:
            first = await begun(journal)
            await journal.settle(first.id, Outcome.UNKNOWN)
            clock.advance(WINDOW + timedelta(microseconds=1))

            assert (await begun(journal)).id != first.id
            assert outcomes(path) == ["unknown", "open"]

    @pytest.mark.parametrize(
        "other", [{"account_id": 7}, {"invoice_id": 7}, {"text": "Dear Sir"}], ids=str
    )
    async def test_another_account_or_write_has_nothing_to_do_with_it(
        self, path: Where, clock: Clock, other: dict[str, Any]
    ) -> None:
        async with opened(path, clock) as journal:
            first = await begun(journal)
            await journal.settle(first.id, Outcome.UNKNOWN)

            assert (await begun(journal, **other)).outcome is Outcome.OPEN

    async def test_of_several_the_newest_is_taken_up(self, path: Where, clock: Clock) -> None:
        async with opened(path, clock) as journal:
            first, second = await begun(journal), await begun(journal)
            await journal.settle(second.id, Outcome.ABSENT)
            clock.advance(SECOND)
            await journal.settle(first.id, Outcome.UNKNOWN)

            assert [(await begun(journal)).id for _ in range(2)] == [second.id, first.id]


class TestClocks(InBothStores):
    """The machine's clock may be wrong, and be put right between a write and its repetition."""

    @pytest.fixture
    def machine(self) -> Clock:
        return Clock()

    @pytest.fixture
    def v2(self, machine: Clock) -> V2Clock:
        """Started an hour before, by a count of seconds that is not told by the machine's clock."""
        self.steady = 3600.0
        return V2Clock(machine=lambda: machine.now, steady=lambda: self.steady)

    async def test_an_intent_has_the_time_by_v2s_clock(self, path: Where, v2: V2Clock) -> None:
        v2.heard("Sun, 01 Mar 2026 11:55:00 GMT")
        async with open_journal(path, window=WINDOW, clock=v2) as journal:
            intent = await begun(journal)

        assert (intent.intended_at, intent.by_v2) == (NOON_BY_V2 - 300 * SECOND, True)

    async def test_one_that_was_before_v2_told_it_gets_it_then(
        self, path: Where, machine: Clock, v2: V2Clock
    ) -> None:
        async with open_journal(path, window=WINDOW, clock=v2) as journal:
            first = await begun(journal)
            machine.advance(timedelta(minutes=-5))
            self.steady += 10
            v2.heard("Sun, 01 Mar 2026 12:00:10 GMT")
            await journal.settle(first.id, Outcome.UNKNOWN)
            again = await begun(journal)

        assert (first.intended_at, first.by_v2) == (NOON, False)
        assert again == replace(first, outcome=Outcome.UNKNOWN, intended_at=NOON_BY_V2, by_v2=True)

    @in_a_file
    async def test_one_that_was_never_recorded_gives_its_time_to_no_other(
        self, path: Path, v2: V2Clock
    ) -> None:
        async with open_journal(path, window=WINDOW, clock=v2) as journal:
            moved = move(path)
            with pytest.raises(JournalError):
                await begun(journal)
            moved.rename(path)
            self.steady += 60
            v2.heard("Sun, 01 Mar 2026 12:01:00 GMT")
            intent = await begun(journal)
            await journal.settle(intent.id, Outcome.UNKNOWN)

            assert (await begun(journal)).intended_at == NOON_BY_V2 + 60 * SECOND

    @pytest.mark.parametrize("outcome", [None, Outcome.UNKNOWN, Outcome.ABSENT])
    @pytest.mark.parametrize("told", ["before", "after"])
    @pytest.mark.parametrize("slow", [timedelta(minutes=20), timedelta(days=4000)])
    async def test_one_of_an_earlier_life_that_v2_told_no_time_may_be_repeated(
        self,
        path: Where,
        machine: Clock,
        v2: V2Clock,
        outcome: Outcome | None,
        told: str,
        slow: timedelta,
    ) -> None:
        machine.advance(-slow)
        async with open_journal(path, window=10 * SECOND, clock=v2) as journal:
            first = await begun(journal)
            if outcome is not None:
                await journal.settle(first.id, outcome)
        machine.advance(slow)
        if told == "before":
            v2.heard("Sun, 01 Mar 2026 12:00:00 GMT")
        async with open_journal(path, window=10 * SECOND, clock=v2) as journal:
            v2.heard("Sun, 01 Mar 2026 12:00:00 GMT")

            assert (await begun(journal)).id == first.id

    async def test_that_window_ends_too(self, path: Where, v2: V2Clock) -> None:
        async with open_journal(path, window=10 * SECOND, clock=v2) as journal:
            first = await begun(journal)
            await journal.settle(first.id, Outcome.ABSENT)
        async with open_journal(path, window=10 * SECOND, clock=v2) as journal:
            v2.heard("Sun, 01 Mar 2026 12:00:00 GMT")
            await begun(journal, "another")
            self.steady += 11

            assert (await begun(journal)).id != first.id

    async def test_in_one_life_a_window_needs_no_clock(
        self, path: Where, machine: Clock, v2: V2Clock
    ) -> None:
        async with open_journal(path, window=10 * SECOND, clock=v2) as journal:
            first = await begun(journal)
            await journal.settle(first.id, Outcome.ABSENT)
            self.steady += 10
            machine.advance(timedelta(minutes=20))
            assert (await begun(journal)).id == first.id
            await journal.settle(first.id, Outcome.ABSENT)
            self.steady += 11

            assert (await begun(journal)).id != first.id

    async def test_what_an_earlier_life_made_by_no_known_clock_is_still_its_own(
        self, path: Where, machine: Clock, v2: V2Clock
    ) -> None:
        machine.advance(timedelta(minutes=-20))
        async with open_journal(path, window=WINDOW, clock=v2) as journal:
            first = await begun(journal)
            await journal.settle(first.id, Outcome.DONE, 409)
            await journal.delivered(first.id)
        machine.advance(timedelta(minutes=20))
        async with open_journal(path, window=WINDOW, clock=v2) as journal:
            second = await begun(journal)

            assert not await journal.settle(second.id, Outcome.DONE, 409, found=True)

    @pytest.mark.parametrize("leap", [10 * WINDOW, -10 * WINDOW])
    async def test_a_leap_of_the_machines_moves_no_window(
        self, path: Where, machine: Clock, v2: V2Clock, leap: timedelta
    ) -> None:
        v2.heard("Sun, 01 Mar 2026 12:00:00 GMT")
        async with open_journal(path, window=WINDOW, clock=v2) as journal:
            first = await begun(journal)
            await journal.settle(first.id, Outcome.UNKNOWN)
            machine.advance(leap)
            assert (await begun(journal)).id == first.id
            await journal.settle(first.id, Outcome.UNKNOWN)
            self.steady += WINDOW.total_seconds() - 1
            v2.heard("Mon, 02 Mar 2026 11:59:59 GMT")
            assert (await begun(journal)).id == first.id
            await journal.settle(first.id, Outcome.UNKNOWN)
            self.steady += WINDOW.total_seconds() + 2
            v2.heard("Tue, 03 Mar 2026 12:00:01 GMT")

            assert (await begun(journal)).id != first.id

    async def test_a_leap_ahead_deletes_nothing(
        self, path: Where, machine: Clock, v2: V2Clock
    ) -> None:
        """What was absent, or done and not told, is needed when its client comes again."""
        async with open_journal(path, window=WINDOW, clock=v2) as journal:
            first = await begun(journal)
            await journal.settle(first.id, Outcome.ABSENT)
        machine.advance(timedelta(days=4000))
        async with open_journal(path, window=WINDOW, clock=v2) as journal:
            await begun(journal, "another")

            assert outcomes(path) == ["absent", "open"]

    async def test_what_is_old_is_deleted_once_v2_has_told_the_time(
        self, path: Where, machine: Clock, v2: V2Clock
    ) -> None:
        v2.heard("Sun, 01 Mar 2026 12:00:00 GMT")
        async with open_journal(path, window=WINDOW, clock=v2) as journal:
            first = await begun(journal)
            await journal.settle(first.id, Outcome.ABSENT)
        v2 = V2Clock(machine=lambda: machine.now, steady=lambda: self.steady)
        machine.advance(timedelta(days=8))
        async with open_journal(path, window=WINDOW, clock=v2) as journal:
            await begun(journal, "one")
            assert outcomes(path) == ["absent", "open"]
            v2.heard("Mon, 09 Mar 2026 12:00:00 GMT")
            await begun(journal, "another")

            assert outcomes(path) == ["open", "open"]


class TestSettle(InBothStores):
    async def test_what_was_made_is_on_record(self, path: Where, clock: Clock) -> None:
        async with opened(path, clock) as journal:
            intent = await begun(journal)
            assert await journal.settle(intent.id, Outcome.DONE, 409)

            assert [(row["outcome"], row["made_id"]) for row in rows(path)] == [("done", 409)]

    async def test_two_equal_writes_cannot_have_found_the_same_message(
        self, path: Where, clock: Clock
    ) -> None:
        async with opened(path, clock) as journal:
            first, second = await begun(journal), await begun(journal)

            found = await asyncio.gather(
                *(
                    journal.settle(each.id, Outcome.DONE, 409, found=True)
                    for each in (first, second)
                )
            )

            assert found == [True, False]
            assert outcomes(path) == ["done", "open"]
            assert await journal.settle(second.id, Outcome.DONE, 410, found=True)

    async def test_what_was_found_may_be_found_again(self, path: Where, clock: Clock) -> None:
        async with opened(path, clock) as journal:
            intent = await begun(journal)
            for _ in range(2):
                assert await journal.settle(intent.id, Outcome.DONE, 409, found=True)

    async def test_what_v2_says_itself_is_always_recorded(self, path: Where, clock: Clock) -> None:
        async with opened(path, clock) as journal:
            first, second = await begun(journal), await begun(journal)
            await journal.settle(first.id, Outcome.DONE, 409, found=True)

            assert await journal.settle(second.id, Outcome.DONE, 409)

            assert outcomes(path) == ["done", "done"]

    @pytest.mark.parametrize(
        ("later", "free"),
        [(CLAIM_MARGIN - SECOND, False), (CLAIM_MARGIN, True)],
        ids=["within-the-margin", "beyond-it"],
    )
    async def test_an_id_that_was_used_long_before_is_another_thing(
        self, path: Where, clock: Clock, later: timedelta, free: bool
    ) -> None:
        async with opened(path, clock) as journal:
            first = await begun(journal)
            await journal.settle(first.id, Outcome.DONE, 409)
            await journal.delivered(first.id)
            clock.advance(later)
            second = await begun(journal)

            assert await journal.settle(second.id, Outcome.DONE, 409, found=True) is free

    async def test_another_accounts_ids_are_its_own(self, path: Where, clock: Clock) -> None:
        async with opened(path, clock) as journal:
            first, second = await begun(journal), await begun(journal, account_id=7)
            await journal.settle(first.id, Outcome.DONE, 409)

            assert await journal.settle(second.id, Outcome.DONE, 409, found=True)

    async def test_an_intent_that_is_not_there_is_told(self, path: Where, clock: Clock) -> None:
        async with opened(path, clock) as journal:
            with pytest.raises(JournalError, match="it has no intent 7"):
                await journal.settle(7, Outcome.ABSENT)

            assert journal.problem() is None

    async def test_what_settles_nothing_is_refused(self, path: Where, clock: Clock) -> None:
        async with opened(path, clock) as journal:
            intent = await begun(journal)
            with pytest.raises(ValueError, match="not settled"):
                await journal.settle(intent.id, Outcome.OPEN)
            with pytest.raises(ValueError, match="not settled"):
                await journal.settle(intent.id, Outcome.DONE, found=True)

    async def test_the_unsettled_are_listed_oldest_first(self, path: Where, clock: Clock) -> None:
        async with opened(path, clock) as journal:
            made = [await begun(journal, str(each)) for each in range(4)]
            await journal.settle(made[1].id, Outcome.UNKNOWN)
            await journal.settle(made[2].id, Outcome.ABSENT)

            listed = await journal.unsettled()

        assert listed == (made[0], replace(made[1], outcome=Outcome.UNKNOWN), made[3])


class TestOpening:
    async def test_what_an_earlier_life_left_open_is_unknown(
        self, path: Path, clock: Clock
    ) -> None:
        async with opened(path, clock) as journal:
            first = await begun(journal)
        clock.advance(2 * WINDOW)  # counted from the restart on: nobody could have asked before

        async with opened(path, clock) as journal:
            assert outcomes(path) == ["unknown"]
            assert await begun(journal) == replace(first, outcome=Outcome.UNKNOWN)

    async def test_only_its_owner_can_read_any_of_its_files(self, path: Path, clock: Clock) -> None:
        before = os.umask(0)
        try:
            async with opened(path, clock) as journal:
                await begun(journal)
                modes = {
                    each.name.removeprefix(path.name): stat.S_IMODE(each.stat().st_mode)
                    for each in path.parent.iterdir()
                }
        finally:
            os.umask(before)

        assert modes == dict.fromkeys(["", "-wal", "-shm", "-lock"], 0o600)

    async def test_every_commit_waits_for_the_disk(
        self, path: Path, clock: Clock, statements: list[str]
    ) -> None:
        async with opened(path, clock) as journal:
            await begun(journal)

        assert "PRAGMA synchronous = FULL" in statements
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)

    async def test_a_name_that_would_be_a_uri_is_just_a_name(
        self, tmp_path: Path, clock: Clock
    ) -> None:
        path = tmp_path / "100% journal?mode=memory#1"
        async with opened(path, clock) as journal:
            await begun(journal)

        assert outcomes(path) == ["open"]

    def test_an_empty_file_becomes_a_journal(self, path: Path) -> None:
        path.touch()
        made(path, intents=1)

        assert outcomes(path) == ["open"]

    def test_a_directory_that_is_not_there_is_told(self, tmp_path: Path) -> None:
        missing = tmp_path / "missing"
        assert refusal(missing / "journal") == f"there is no directory {missing}"

    def test_a_directory_is_no_journal(self, tmp_path: Path) -> None:
        assert refusal(tmp_path) == "it is not a regular file"

    def test_a_file_that_is_no_database_is_refused_and_left_alone(self, path: Path) -> None:
        path.write_text("Dear Customer,\n" * 1000)

        assert refusal(path) == "file is not a database"
        assert path.read_text() == "Dear Customer,\n" * 1000

    def test_another_programs_database_is_refused_and_left_alone(self, path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE intents (id INTEGER PRIMARY KEY)")
        before = path.read_bytes()

        assert refusal(path) == "it is a database, but not a journal"
        assert path.read_bytes() == before

    def test_a_newer_bridges_journal_is_refused(self, path: Path) -> None:
        made(path)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA user_version = 99")

        assert refusal(path) == "it is of version 99, and this bridge knows 3 only"

    async def test_an_older_bridges_journal_goes_on_as_it_was(
        self, path: Path, clock: Clock
    ) -> None:
        async with opened(path, clock) as journal:
            first = await begun(journal)
            await journal.settle(first.id, Outcome.UNKNOWN)
        as_of_version_1(path)

        async with opened(path, clock) as journal:
            again = await begun(journal)
            assert again == replace(first, outcome=Outcome.UNKNOWN, by_v2=False)
            assert (await begun(journal, "another")).by_v2
        async with opened(path, clock):
            assert outcomes(path) == ["unknown", "unknown"]

    def test_a_damaged_one_is_refused(self, path: Path) -> None:
        made(path, intents=200)
        octets = bytearray(path.read_bytes())
        octets[4096 * 2 + 100 : 4096 * 8] = b"\xff" * (4096 * 6 - 100)
        path.write_bytes(octets)

        said = refusal(path)

        assert "damaged" in said or "malformed" in said

    async def test_one_that_another_holds_is_refused(self, path: Path, clock: Clock) -> None:
        async with opened(path, clock) as journal:
            intent = await begun(journal)

            assert (await asyncio.to_thread(refusal, path)).startswith(
                "it is in use by another bridge"
            )
            assert outcomes(path) == ["open"]
            assert await journal.settle(intent.id, Outcome.DONE, 409)

        async with opened(path, clock):
            pass

    async def test_a_link_to_it_has_the_same_lock(
        self, path: Path, clock: Clock, tmp_path: Path
    ) -> None:
        link = tmp_path / "link"
        link.symlink_to(path)
        async with opened(path, clock):
            assert "in use" in await asyncio.to_thread(refusal, link)

    @pytest.mark.parametrize("name", ["journal.sqlite", "link"])
    async def test_so_it_has_without_the_file_beside_it(
        self, path: Path, clock: Clock, name: str
    ) -> None:
        """That may be cleaned away, and lies beside another name of it in any case."""
        async with opened(path, clock) as journal:
            await begun(journal)
            path.with_name(f"{path.name}-lock").unlink()
            if name == "link":
                path.with_name(name).hardlink_to(path)

            said = await asyncio.to_thread(in_process, "try_to_open", path.with_name(name))
            assert "it is in use by another bridge" in said
            assert "in use" in await asyncio.to_thread(refusal, path.with_name(name))
            await begun(journal, "another")

            assert outcomes(path) == ["open", "open"]

    def test_one_of_two_names_is_refused(self, path: Path) -> None:
        """SQLite would keep a -wal beside each, and in one not know of the other."""
        made(path)
        path.with_name("link").hardlink_to(path)

        assert refusal(path) == "it has 2 names (hard links): leave one"

    async def test_of_two_that_make_it_at_once_one_has_it(self, path: Path, clock: Clock) -> None:
        release = asyncio.Event()

        async def attempt() -> str:
            try:
                async with opened(path, clock):
                    await release.wait()
                    return "had it"
            except JournalError as error:
                release.set()
                return str(error)

        first, second = sorted(await asyncio.gather(attempt(), attempt()))

        assert first == "had it"
        assert "in use" in second

    def test_two_processes_cannot_have_it(self, path: Path) -> None:
        with writing(path) as process:
            next_line(process)

            assert "in use" in refusal(path)


class TestRetention(InBothStores):
    KEPT = timedelta(days=7)

    async def prepare(self, path: Where, clock: Clock, window: timedelta = WINDOW) -> None:
        async with opened(path, clock, window) as journal:
            for position, outcome in enumerate([Outcome.DONE, Outcome.ABSENT, Outcome.UNKNOWN], 1):
                intent = await begun(journal, outcome, invoice_id=position)
                await journal.settle(intent.id, outcome)

    async def left(self, path: Where, clock: Clock, window: timedelta = WINDOW) -> list[str]:
        async with opened(path, clock, window):
            return outcomes(path)

    async def test_what_is_settled_goes_after_a_week_and_the_unknown_never(
        self, path: Where, clock: Clock
    ) -> None:
        await self.prepare(path, clock)
        clock.advance(self.KEPT)
        assert len(await self.left(path, clock)) == 3

        clock.advance(SECOND)

        assert await self.left(path, clock) == ["unknown"]
        clock.advance(1000 * self.KEPT)
        assert await self.left(path, clock) == ["unknown"]

    async def test_a_long_window_keeps_it_for_two(self, path: Where, clock: Clock) -> None:
        window = timedelta(days=30)
        await self.prepare(path, clock, window)
        clock.advance(2 * window)
        assert len(await self.left(path, clock, window)) == 3

        clock.advance(SECOND)

        assert await self.left(path, clock, window) == ["unknown"]

    async def test_what_was_not_done_goes_at_once(self, path: Where, clock: Clock) -> None:
        """Whoever is refused by v2 can have as much of it written down as they like."""
        async with opened(path, clock) as journal:
            await journal.settle((await begun(journal)).id, Outcome.NOT_DONE)

        assert await self.left(path, clock) == []

    async def test_it_goes_while_the_bridge_runs_too(
        self, path: Where, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(journal_module, "PRUNE_EVERY", 3)
        await self.prepare(path, clock)
        async with opened(path, clock) as journal:
            clock.advance(self.KEPT + SECOND)
            for each in range(3):
                await begun(journal, str(each))

            assert outcomes(path) == ["unknown", "open", "open", "open"]

    async def test_ids_of_the_deleted_do_not_come_back(self, path: Where, clock: Clock) -> None:
        async with opened(path, clock) as journal:
            old = await begun(journal)
            await journal.settle(old.id, Outcome.NOT_DONE)
        clock.advance(self.KEPT + SECOND)
        async with opened(path, clock) as journal:
            assert rows(path) == []

            assert (await begun(journal)).id > old.id

    @in_a_file
    async def test_what_a_look_could_still_mistake_stays(self, path: Path, clock: Clock) -> None:
        """An old unknown must not be given the message of an equal write that was done since."""
        async with opened(path, clock) as journal:
            unknown, done = await begun(journal), await begun(journal)
            await journal.settle(unknown.id, Outcome.UNKNOWN)
            await journal.settle(done.id, Outcome.DONE, 409)
        clock.advance(self.KEPT + SECOND)

        async with opened(path, clock) as journal:
            assert not await journal.settle(unknown.id, Outcome.DONE, 409, found=True)
            await journal.settle(unknown.id, Outcome.ABSENT)
        clock.advance(self.KEPT + SECOND)
        assert await self.left(path, clock) == []


Connect = Callable[..., sqlite3.Connection]


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What SQLite is told by connections that are made from now on."""
    told: list[str] = []
    trace(monkeypatch, told.append)
    return told


def trace(monkeypatch: pytest.MonkeyPatch, told: Callable[[str], object]) -> None:
    connect: Connect = sqlite3.connect

    def traced(*arguments: Any, **more: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **more)
        connection.set_trace_callback(told)
        return connection

    monkeypatch.setattr(sqlite3, "connect", traced)


class Busy:
    """Another program that holds the file's write lock."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("BEGIN IMMEDIATE")

    def end(self) -> None:
        self.connection.close()


class TestGrouping:
    async def test_all_that_waits_is_recorded_with_one_commit(
        self, path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told: list[str] = []
        waiting = threading.Event()

        def tell(statement: str) -> None:
            told.append(statement)
            waiting.set()

        monkeypatch.setattr(store_module, "BUSY_TIMEOUT", PATIENCE)
        trace(monkeypatch, tell)
        async with opened(path, clock) as journal:
            busy = Busy(path)
            told.clear()
            waiting.clear()
            first = asyncio.create_task(begun(journal, "first"))
            await asyncio.to_thread(waiting.wait, PATIENCE)
            others = [asyncio.create_task(begun(journal, str(each))) for each in range(49)]
            await asyncio.sleep(0)  # each has asked now
            busy.end()
            intents = await asyncio.gather(first, *others)

        assert told.count("COMMIT") == 2
        assert len({intent.id for intent in intents}) == 50
        assert [intent.id for intent in intents] == sorted(intent.id for intent in intents)

    async def test_a_delivery_rides_along(
        self, path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, statements: list[str]
    ) -> None:
        monkeypatch.setattr(journal_module, "LINGER", PATIENCE)
        async with opened(path, clock) as journal:
            intent = await begun(journal)
            await journal.settle(intent.id, Outcome.DONE, 409)
            statements.clear()
            await journal.delivered(intent.id)

            again = await begun(journal)

            assert statements.count("COMMIT") == 1
            assert again.id != intent.id
            assert [row["delivered"] for row in rows(path)] == [1, 0]

    async def test_a_delivery_does_not_wait_for_company_for_ever(
        self, path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        committed = threading.Event()

        def tell(statement: str) -> None:
            if statement == "COMMIT":
                committed.set()

        trace(monkeypatch, tell)
        async with opened(path, clock) as journal:
            intent = await begun(journal)
            committed.clear()
            await journal.delivered(intent.id)

            assert await asyncio.to_thread(committed.wait, PATIENCE)

    async def test_one_that_cannot_be_recorded_does_not_take_the_others_along(
        self, path: Path, clock: Clock
    ) -> None:
        async with opened(path, clock) as journal:
            good, bad, odd = await asyncio.gather(
                begun(journal, "good"),
                begun(journal, "bad", account_id=2**63),
                journal.begin(a_write(), account_id=1, request_id="\ud800"),
                return_exceptions=True,
            )

            assert isinstance(good, Intent)
            assert isinstance(bad, JournalError)
            assert isinstance(odd, JournalError)
            assert journal.problem() is None
            assert len(rows(path)) == 1


class TestClosing:
    async def test_what_was_asked_for_is_done_first(
        self, path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(journal_module, "LINGER", PATIENCE)
        async with opened(path, clock) as journal:
            intent = await begun(journal)
            asking = [
                asyncio.create_task(journal.settle(intent.id, Outcome.DONE, 409)),
                *(asyncio.create_task(begun(journal, str(each))) for each in range(20)),
            ]
            await asyncio.sleep(0)  # each has asked now
            await journal.delivered(intent.id)

        assert all(task.done() for task in asking)
        assert [(row["outcome"], row["delivered"]) for row in rows(path)] == [
            ("done", 1),
            *[("open", 0)] * 20,
        ]

    async def test_nothing_is_left_in_side_files(self, path: Path, clock: Clock) -> None:
        async with opened(path, clock) as journal:
            await begun(journal)

        assert {each.name for each in path.parent.iterdir()} == {path.name, f"{path.name}-lock"}

    async def test_a_closed_one_says_so(self, path: Path, clock: Clock) -> None:
        async with opened(path, clock) as journal:
            pass

        with pytest.raises(JournalError, match="closed"):
            await begun(journal)
        with pytest.raises(JournalError, match="closed"):
            await journal.delivered(1)

    async def test_it_is_closed_when_its_opening_was_given_up(
        self, path: Path, clock: Clock
    ) -> None:
        async def open_and_wait() -> None:
            async with opened(path, clock):
                await asyncio.Event().wait()

        for turns in range(4):
            task = asyncio.create_task(open_and_wait())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        async with opened(path, clock):
            pass


class TestCancelledCallers(InBothStores):
    async def cancelled(self, journal: Journal, turns: int) -> bool:
        """Cancel a begin after so many turns of the loop; tell whether it was in time."""
        call = asyncio.create_task(begun(journal))
        for _ in range(turns):
            await asyncio.sleep(0)
        call.cancel()
        (result,) = await asyncio.gather(call, return_exceptions=True)
        return isinstance(result, asyncio.CancelledError)

    async def test_the_journal_goes_on(self, path: Where, clock: Clock) -> None:
        async with opened(path, clock) as journal:
            for turns in range(10):
                await self.cancelled(journal, turns)
                await begun(journal, str(turns))

    async def test_an_intent_that_nobody_has_is_not_open(self, path: Where, clock: Clock) -> None:
        async with opened(path, clock) as journal:
            assert await self.cancelled(journal, 1)
            assert await journal.unsettled() == ()
            assert outcomes(path) == ["not-done"]

    async def test_one_that_had_been_taken_up_is_as_it_was(self, path: Where, clock: Clock) -> None:
        async with opened(path, clock) as journal:
            intent = await begun(journal)
            await journal.settle(intent.id, Outcome.ABSENT)

            assert await self.cancelled(journal, 1)

            assert (await begun(journal)) == replace(intent, outcome=Outcome.ABSENT)

    async def test_a_settling_is_recorded_nevertheless(self, path: Where, clock: Clock) -> None:
        async with opened(path, clock) as journal:
            intent = await begun(journal)
            call = asyncio.create_task(journal.settle(intent.id, Outcome.DONE, 409))
            await asyncio.sleep(0)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)

        assert outcomes(path) == ["done"]

    @in_a_file
    async def test_what_was_never_recorded_is_not_withdrawn_from_another(
        self, path: Path, clock: Clock
    ) -> None:
        """A rolled-back intent's id is the next one's."""
        async with opened(path, clock) as journal:
            moved = move(path)
            assert await self.cancelled(journal, 1)
            with pytest.raises(JournalError):
                await begun(journal, "other")
            moved.rename(path)

            await begun(journal, "other")

            assert outcomes(path) == ["open"]


CHANGES: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: os.truncate(path, 4096),
    "emptied": lambda path: os.truncate(path, 0),
    "overwritten": lambda path: path.write_bytes(path.with_name("backup").read_bytes()),
    "a bit of it": lambda path: path.write_bytes(path.read_bytes()[:-1] + b"x"),
    "its wal cut": lambda path: os.truncate(path.with_name(f"{path.name}-wal"), 4096),
}
"""What may be done to a journal in place."""


class TestFailures:
    async def fails(self, journal: Journal) -> str:
        with pytest.raises(JournalError) as failure:
            await begun(journal, "another")
        assert journal.problem() == str(failure.value)
        return str(failure.value)

    async def test_a_file_that_another_program_holds(
        self, path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(store_module, "BUSY_TIMEOUT", 0)
        async with opened(path, clock) as journal:
            busy = Busy(path)
            assert await self.fails(journal) == f"the journal {path}: database is locked"
            busy.end()

            await begun(journal)

            assert journal.problem() is None

    @pytest.mark.parametrize("which", ["", "-wal"])
    async def test_a_file_that_is_moved_away(self, path: Path, clock: Clock, which: str) -> None:
        async with opened(path, clock) as journal:
            first = await begun(journal)
            here = path.with_name(path.name + which)
            moved = move(here)
            assert "removed or replaced" in await self.fails(journal)
            here.touch()
            assert "removed or replaced" in await self.fails(journal)
            moved.rename(here)

            assert await journal.settle(first.id, Outcome.DONE, 409)
            assert journal.problem() is None
            assert outcomes(path) == ["done"]

    @pytest.mark.parametrize("how", CHANGES)
    async def test_a_file_that_another_program_has_changed_in_place(
        self, path: Path, clock: Clock, how: str
    ) -> None:
        await asyncio.to_thread(made, path.with_name("backup"))
        async with opened(path, clock) as journal:
            for each in range(10):
                await begun(journal, str(each))
            CHANGES[how](path)

            await self.fails(journal)
            await self.fails(journal)

    async def test_a_file_that_has_only_been_touched_is_as_it_was(
        self, path: Path, clock: Clock
    ) -> None:
        async with opened(path, clock) as journal:
            await begun(journal)
            os.utime(path, ns=(0, 0))
            await begun(journal, "another")

            assert journal.problem() is None

    async def test_what_it_moves_into_the_file_itself_is_no_such_change(
        self, path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, statements: list[str]
    ) -> None:
        monkeypatch.setattr(journal_module, "CHECKPOINT_EVERY", 7)
        async with opened(path, clock) as journal:
            for each in range(100):
                await begun(journal, str(each))
            with closing(sqlite3.connect(path)) as reader:
                assert reader.execute("SELECT count(*) FROM intents").fetchone() == (100,)
            await begun(journal, "last")

            assert journal.problem() is None
            assert statements.count("PRAGMA wal_checkpoint(PASSIVE)") >= 100 // 7
            assert path.with_name(f"{path.name}-wal").stat().st_size < 500_000

    async def test_a_file_that_is_full(
        self, path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        connections: list[sqlite3.Connection] = []
        connect: Connect = sqlite3.connect

        def remembered(*arguments: Any, **more: Any) -> sqlite3.Connection:
            # The test speaks to it only while the journal's thread waits for something to do.
            connections.append(connect(*arguments, **more, check_same_thread=False))
            return connections[-1]

        monkeypatch.setattr(sqlite3, "connect", remembered)
        async with opened(path, clock) as journal:
            intent = await begun(journal)
            (connection,) = connections
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            connection.execute(f"PRAGMA max_page_count = {pages}")
            large = replace(a_write("large"), likeness=b"x" * 100_000)
            with pytest.raises(JournalError, match="full"):
                await journal.begin(large, account_id=1000, request_id="r")
            assert journal.problem() == f"the journal {path}: database or disk is full"

            assert await journal.settle(intent.id, Outcome.DONE, 409)

            assert journal.problem() is None
            connection.execute("PRAGMA max_page_count = 1000000")
            await journal.begin(large, account_id=1000, request_id="r")

        assert outcomes(path) == ["done", "open"]

    async def test_it_notices_by_itself_that_the_cause_is_gone(
        self, path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A bridge that is not ready gets no calls that would show it."""
        monkeypatch.setattr(store_module, "BUSY_TIMEOUT", 0)
        monkeypatch.setattr(journal_module, "RETRY", 0.01)
        committed = threading.Event()
        trace(monkeypatch, lambda told: committed.set() if told == "COMMIT" else None)
        async with opened(path, clock) as journal:
            busy = Busy(path)
            await self.fails(journal)
            committed.clear()
            busy.end()

            assert await asyncio.to_thread(committed.wait, PATIENCE)

            await journal.unsettled()  # it is over, and so is what made it known
            assert journal.problem() is None

    async def test_a_settling_that_failed_is_made_good(
        self, path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Left open, it would not be taken up, and the client's next try would be a second mail."""
        monkeypatch.setattr(store_module, "BUSY_TIMEOUT", 0)
        async with opened(path, clock) as journal:
            said, found, told = [await begun(journal, each) for each in ("said", "found", "told")]
            await journal.settle(told.id, Outcome.DONE, 410)
            busy = Busy(path)
            for intent, made_id, looked in ((said, 409, True), (found, 410, True)):
                with pytest.raises(JournalError):
                    await journal.settle(intent.id, Outcome.DONE, made_id, found=looked)
            await journal.delivered(told.id)
            await self.fails(journal)
            busy.end()

            again = [await begun(journal, each) for each in ("said", "found", "told")]

        assert again[:2] == [
            replace(said, outcome=Outcome.DONE, made_id=409),
            replace(found, outcome=Outcome.UNKNOWN),
        ]
        assert again[2].id != told.id

    async def test_an_operation_that_can_never_be_made_good_does_not_stand_in_the_way(
        self, path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(store_module, "BUSY_TIMEOUT", 0)
        async with opened(path, clock) as journal:
            busy = Busy(path)
            with pytest.raises(JournalError):
                await journal.settle(7, Outcome.ABSENT)
            busy.end()

            await begun(journal)

            assert journal.problem() is None

    def test_a_disk_that_is_full(self, path: Path) -> None:
        assert in_process("disk_full", path) == "full, then again on record"
        assert outcomes(path)[-1] == "open"

    def test_a_file_that_may_only_be_read(self) -> None:
        directory = Path(tempfile.mkdtemp())  # tmp_path is closed to all but its owner
        try:
            assert in_process("read_only", directory / "journal.sqlite") == (
                "the journal journal.sqlite: Permission denied"
            )
        finally:
            shutil.rmtree(directory)


class TestAccepted:
    async def kept(self, path: Path, clock: Clock) -> frozenset[tuple[int, bytes]]:
        async with opened(path, clock) as journal:
            return journal.accepted

    async def test_what_v2_accepts_is_known_to_the_next_life(
        self, path: Path, clock: Clock
    ) -> None:
        async with opened(path, clock) as journal:
            for account_id, token in ((1, b"a"), (1, b"b"), (2, b"a"), (1, b"a")):
                journal.note_accepted(account_id, token)
            journal.note_refused(1, b"b")
            journal.note_refused(3, b"a")

        assert await self.kept(path, clock) == {(1, b"a"), (2, b"a")}

    async def test_it_is_forgotten_some_time_after_it_was_accepted_last(
        self, path: Path, clock: Clock
    ) -> None:
        for _ in range(2):
            async with opened(path, clock) as journal:
                journal.note_accepted(1, b"a")
            clock.advance(ACCEPTED_RETENTION)
        assert await self.kept(path, clock) == {(1, b"a")}
        clock.advance(SECOND)

        assert await self.kept(path, clock) == set()

    async def test_only_the_latest_are_kept_where_there_are_many(
        self, path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rules_module, "MOST_ACCEPTED", 2)
        async with opened(path, clock) as journal:
            for token in (b"a", b"b", b"c", b"a"):
                journal.note_accepted(1, token)
                clock.advance(SECOND)

        assert await self.kept(path, clock) == {(1, b"c"), (1, b"a")}

    async def test_a_journal_of_a_bridge_that_kept_none_goes_on(
        self, path: Path, clock: Clock
    ) -> None:
        async with opened(path, clock) as journal:
            await begun(journal)
        as_of_version_1(path)

        assert await self.kept(path, clock) == set()
        assert outcomes(path) == ["unknown"]

    async def test_it_waits_for_no_disk_and_fails_nobody(
        self, path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(store_module, "BUSY_TIMEOUT", 0)
        async with opened(path, clock) as journal:
            busy = Busy(path)
            journal.note_accepted(1, b"a")
            await journal.check()
            busy.end()
        journal.note_accepted(1, b"b")

        assert await self.kept(path, clock) == set()


class TestCheck:
    """What readiness asks: a journal that nobody uses does not know how it stands."""

    async def test_says_nothing_where_something_can_be_recorded(
        self, path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told: list[str] = []
        trace(monkeypatch, told.append)
        async with opened(path, clock) as journal:
            del told[:]

            assert await journal.check() is None
            assert told[-1] == "COMMIT"

        assert rows(path) == []

    async def test_finds_out_what_is_wrong_and_when_it_is_over(
        self, path: Path, clock: Clock
    ) -> None:
        async with opened(path, clock) as journal:
            assert journal.problem() is None
            moved = move(path)
            assert "removed or replaced" in (await journal.check() or "")
            moved.rename(path)

            assert await journal.check() is None

    def test_finds_a_disk_that_is_full(self, path: Path) -> None:
        assert in_process("idle_on_a_full_disk", path) == "ok, then full, then ok"


def in_process(which: str, path: Path) -> str:
    """Return the last line of a function of this module, in a process of its own: it spoils it."""
    code = f"from tests.record import test_journal; test_journal.{which}({str(path)!r})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def idle_on_a_full_disk(name: str) -> None:
    """Ask a journal how it stands before, while and after no file may grow."""

    async def ask(path: Path) -> None:
        async with opened(path, Clock()) as journal:
            said = [await journal.check()]
            length = path.with_name(f"{path.name}-wal").stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (length, resource.RLIM_INFINITY))
            assert journal.problem() is None
            said.append(await journal.check())
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
            said.append(await journal.check())
            sys.stdout.write(", then ".join("full" if each else "ok" for each in said))

    asyncio.run(ask(Path(name)))


def try_to_open(name: str) -> None:
    """Open a journal as another bridge would."""
    sys.stdout.write(refusal(Path(name)))


def disk_full(name: str) -> None:
    """Write until no file may grow any more, then lift that limit."""

    async def fill(path: Path) -> None:
        async with opened(path, Clock()) as journal:
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
            with suppress(JournalError):
                for each in range(10_000):
                    await begun(journal, str(each))
            assert journal.problem() is not None
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
            await begun(journal, "last")
            assert journal.problem() is None

    asyncio.run(fill(Path(name)))
    sys.stdout.write("full, then again on record")


def read_only(name: str) -> None:
    """Open a journal as a user who may read it, and no more."""
    path = Path(name)

    async def use(path: Path) -> None:
        async with opened(path, Clock()) as journal:
            await begun(journal)

    asyncio.run(use(path))
    path.chmod(0o444)
    path.with_name(f"{path.name}-lock").chmod(0o666)
    path.parent.chmod(0o555)
    os.chdir(path.parent)
    if os.geteuid() == 0:
        os.seteuid(65534)
    try:
        asyncio.run(use(Path(path.name)))
    except JournalError as error:
        sys.stdout.write(str(error))
    if os.getuid() == 0:
        os.seteuid(0)
    path.parent.chmod(0o755)


# A crash.


@contextmanager
def writing(path: Path, callers: int = 1) -> Iterator[subprocess.Popen[str]]:
    """Have a process write into the journal, and kill it at the end of the block."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.record.crashing", str(path), str(callers)],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def next_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "it ended by itself"
    return line


class TestCrash:
    @pytest.mark.parametrize("callers", [1, 8])
    @pytest.mark.parametrize("seed", range(3))
    def test_what_was_on_record_before_a_kill_is_there_after_it(
        self, path: Path, seed: int, callers: int
    ) -> None:
        wanted = random.Random(seed).randrange(1, 400)
        with writing(path, callers) as process:
            lines = [next_line(process) for _ in range(wanted)]
            process.kill()
            assert process.stdout is not None
            lines += process.stdout
        told = [line.split() for line in lines]
        begun_ids = {int(each[1]) for each in told if len(each) == 3 and each[0] == "begun"}
        done = {int(each[1]): int(each[2]) for each in told if len(each) == 3 and each[0] == "done"}

        made(path)

        kept = {row["id"]: row for row in rows(path)}
        assert begun_ids <= kept.keys()
        assert {id_: kept[id_]["made_id"] for id_ in done} == done
        assert {kept[id_]["outcome"] for id_ in done} <= {"done"}
        assert {row["outcome"] for row in kept.values()} <= {"done", "unknown"}
