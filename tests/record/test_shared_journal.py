"""The journal that bridges share in PostgreSQL: a write is one bridge's at a time, and nobody's twice.

Each `Journal` here is a bridge's, with a session and a life of its own.
"""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, Self

import psycopg
import pytest
from psycopg.rows import dict_row

from bridge.record.journal import Journal, JournalError, keeping, open_journal, postgresql
from bridge.record.journal.inspection import inspecting
from bridge.record.journal.rules import TakenUp, Turn, UnderWay
from bridge.record.log.database import ADVISORY_LOCK
from bridge.v2.writes import Intent, Outcome
from tests.record.support import NOON, WINDOW, Clock, Told, a_write
from tests.support.postgres import Server, running_pooler, running_server

PATIENCE = 60.0

COUNT = "SELECT count(*) AS number FROM intents WHERE outcome IN ('open', 'unknown')"
"""What each transaction ends with before it is committed."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as running:
        yield running


@pytest.fixture
def database(server: Server) -> str:
    return server.new_database()


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "TICK", PATIENCE)  # a bridge does what it is asked to
    monkeypatch.setattr(postgresql, "REFRESH", 0.0)
    monkeypatch.setattr(postgresql, "PAUSE", 0.0)


class Bridges:
    """Journals of one database, by name."""

    def __init__(self, database: str, stack: AsyncExitStack) -> None:
        self.clock = Clock()
        self._database = database
        self._stack = stack

    async def one(self, **more: Any) -> Journal:
        opening = open_journal(
            self._database, window=more.get("window", WINDOW), clock=Told(self.clock)
        )
        return await self._stack.enter_async_context(opening)


@pytest.fixture
async def bridges(database: str) -> AsyncIterator[Bridges]:
    async with AsyncExitStack() as stack:
        yield Bridges(database, stack)


def rows(database: str, asked: str = "SELECT * FROM intents ORDER BY id") -> list[dict[str, Any]]:
    with psycopg.connect(database, row_factory=dict_row) as connection:
        return list(connection.execute(asked.encode()))


def do(database: str, statement: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(statement.encode())


def cut(database: str) -> None:
    """End every session of the database but this one, as an operator or a fault can."""
    do(
        database,
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )


async def begun(journal: Journal, text: str = "Dear Customer", **more: Any) -> Intent:
    return await journal.begin(a_write(text), account_id=1000, request_id="r-1", **more)


async def works(journal: Journal) -> None:
    """Return when it records again."""
    while await journal.check() is not None:
        pass


async def done(journal: Journal) -> None:
    """Return when what was asked for is done, also behind a transaction."""
    await journal.check()
    await journal.check()


def soon() -> float:
    return asyncio.get_running_loop().time() + PATIENCE


def at_once() -> float:
    return asyncio.get_running_loop().time()


class Crashed:
    """A bridge in a process of its own that has begun something, and is killed."""

    def __init__(self, database: str, code: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CRASHING, database, code],
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"
        return self

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def __exit__(self, *_: object) -> None:
        self.kill()
        assert self._process.stdout is not None
        self._process.stdout.close()


_CRASHING = """
import asyncio, sys
from datetime import timedelta
from bridge.record.journal import open_journal
from bridge.record.journal.rules import Turn
from bridge.v2.writes import Outcome
from tests.record.support import a_write

async def main():
    async with open_journal(sys.argv[1], window=timedelta(hours=1)) as journal:
        turn = Turn([7, 8], seconds=float(sys.argv[2]))
        assert await journal.take_turn(turn, asyncio.get_running_loop().time())
        await journal.begin(a_write(), account_id=1000, request_id="killed", turn=turn)
        print("ready", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


class TestEqualWrites:
    async def test_what_another_bridge_has_open_is_in_the_way_until_its_time_is_up(
        self, bridges: Bridges
    ) -> None:
        first, second = await bridges.one(), await bridges.one()
        await begun(first, turn=Turn(seconds=20))

        with pytest.raises(UnderWay) as told:
            await begun(second)

        assert 0 < told.value.seconds <= 20

    async def test_it_is_in_the_way_as_long_as_that_bridge_lives(self, bridges: Bridges) -> None:
        first, second = await bridges.one(), await bridges.one()
        intent = await begun(first, turn=Turn(seconds=-1))

        with pytest.raises(UnderWay):
            await begun(second)

        assert await first.settle(intent.id, Outcome.UNKNOWN)
        assert (await begun(second)).id == intent.id

    async def test_but_not_if_that_has_forgotten_it(self, bridges: Bridges) -> None:
        first, second = await bridges.one(), await bridges.one()
        intent = await begun(first, turn=Turn(seconds=-postgresql.FORGOTTEN - 1))
        await first.check()

        again = await begun(second)

        assert (again.id, again.outcome) == (intent.id, Outcome.UNKNOWN)

    @pytest.mark.parametrize("outcome", [Outcome.UNKNOWN, Outcome.ABSENT])
    async def test_a_repetition_is_recognised_whichever_bridge_gets_it(
        self, bridges: Bridges, outcome: Outcome
    ) -> None:
        first, second = await bridges.one(), await bridges.one()
        intent = await begun(first)
        await first.settle(intent.id, outcome)

        again = await begun(second)

        assert (again.id, again.outcome) == (intent.id, outcome)

    async def test_so_is_one_that_was_done_without_its_client_having_been_told(
        self, bridges: Bridges
    ) -> None:
        first, second = await bridges.one(), await bridges.one()
        intent = await begun(first)
        await first.settle(intent.id, Outcome.DONE, 409)

        again = await begun(second)

        assert (again.id, again.outcome, again.made_id) == (intent.id, Outcome.DONE, 409)

    async def test_one_whose_client_was_told_is_over_for_all(self, bridges: Bridges) -> None:
        first, second = await bridges.one(), await bridges.one()
        intent = await begun(first)
        await first.settle(intent.id, Outcome.DONE, 409)
        await first.delivered(intent.id)
        await first.check()

        assert (await begun(second)).id != intent.id

    async def test_two_cannot_have_found_the_same_message(self, bridges: Bridges) -> None:
        first, second = await bridges.one(), await bridges.one()
        one, other = await begun(first, "one"), await begun(second, "other")

        assert await first.settle(one.id, Outcome.DONE, 409, found=True)
        assert not await second.settle(other.id, Outcome.DONE, 409, found=True)

    async def test_what_a_stranger_has_under_way_is_not_in_the_accounts_way(
        self, bridges: Bridges
    ) -> None:
        first, second = await bridges.one(), await bridges.one()
        strange = await begun(first, turn=Turn([5], is_strangers=True, seconds=20))

        assert (await begun(second, turn=Turn([6], seconds=20))).id != strange.id

    async def test_but_it_is_in_its_own(self, bridges: Bridges) -> None:
        """The turn may have been lost with a session."""
        first, second = await bridges.one(), await bridges.one()
        await begun(first, turn=Turn([5], is_strangers=True, seconds=20))
        cut(bridges._database)
        await works(first)

        with pytest.raises(UnderWay):
            await begun(second, turn=Turn([5], seconds=20))

    async def test_a_count_of_seconds_is_compared_within_one_bridge_only(
        self, bridges: Bridges
    ) -> None:
        first, second = await bridges.one(), await bridges.one()
        intent = await begun(first)
        await first.settle(intent.id, Outcome.UNKNOWN)

        again = await begun(second)
        await second.settle(intent.id, Outcome.UNKNOWN)
        own = await begun(first)

        assert (intent.steady, again.steady, own.steady) == (0.0, None, 0.0)


class TestDeath:
    async def test_what_the_dead_left_open_is_unknown_once_its_time_is_up(
        self, bridges: Bridges, database: str
    ) -> None:
        with Crashed(database, "-1") as other:
            journal = await bridges.one()
            with pytest.raises(UnderWay):
                await begun(journal)
            other.kill()
            again = await taken_up(journal)

        (row,) = rows(database)
        assert again.outcome is Outcome.UNKNOWN
        assert (row["outcome"], row["request_id"]) == ("open", "killed")

    async def test_not_before(self, bridges: Bridges, database: str) -> None:
        with Crashed(database, "1000") as other:
            journal = await bridges.one()
            other.kill()
            await journal.take_turn(Turn([7]), soon())  # so it is known to be dead

            with pytest.raises(UnderWay) as told:
                await begun(journal)

        assert 900 < told.value.seconds <= 1000

    async def test_its_turn_is_free(self, bridges: Bridges, database: str) -> None:
        with Crashed(database, "1000") as other:
            journal = await bridges.one()
            assert not await journal.take_turn(Turn([8]), at_once())
            other.kill()

            assert await journal.take_turn(Turn([8]), soon())

    async def test_one_that_stops_leaves_nothing_open(self, database: str) -> None:
        async with open_journal(database, window=WINDOW) as journal:
            await begun(journal, turn=Turn(seconds=1000))

        assert [row["outcome"] for row in rows(database)] == ["unknown"]


class TestTurns:
    async def test_one_bridge_at_a_time_has_it(self, bridges: Bridges) -> None:
        first, second = await bridges.one(), await bridges.one()
        mine, yours = Turn([1, 2]), Turn([2])
        assert await first.take_turn(mine, at_once())
        assert not await second.take_turn(yours, at_once())

        first.give_turn_back(mine)

        assert await second.take_turn(yours, soon())

    async def test_who_gets_a_part_only_keeps_nothing(self, bridges: Bridges) -> None:
        first, second = await bridges.one(), await bridges.one()
        assert await first.take_turn(Turn([2]), at_once())
        assert not await second.take_turn(Turn([1, 2]), at_once())

        assert await first.take_turn(Turn([1]), at_once())

    async def test_who_waits_elsewhere_comes_before_who_has_just_had_it(
        self, bridges: Bridges, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(postgresql, "GIVE_WAY", PATIENCE)
        first, second = await bridges.one(), await bridges.one()
        mine, yours = Turn([1]), Turn([1])
        assert await first.take_turn(mine, at_once())
        assert not await second.take_turn(yours, at_once())
        first.give_turn_back(mine)
        await done(first)

        assert not await first.take_turn(Turn([1]), at_once())
        assert await second.take_turn(yours, at_once())

    async def test_who_has_given_up_is_waited_for_no_more(self, bridges: Bridges) -> None:
        first, second = await bridges.one(), await bridges.one()
        mine, yours = Turn([1]), Turn([1])
        assert await first.take_turn(mine, at_once())
        assert not await second.take_turn(yours, at_once())
        second.give_turn_back(yours)
        await done(second)
        first.give_turn_back(mine)
        await done(first)

        assert await first.take_turn(Turn([1]), at_once())

    async def test_nothing_is_begun_in_a_turn_that_was_lost_to_another(
        self, bridges: Bridges, database: str
    ) -> None:
        first = await bridges.one()
        turn = Turn([3])
        assert await first.take_turn(turn, at_once())
        with psycopg.connect(database, autocommit=True) as other:
            waiting = asyncio.create_task(asyncio.to_thread(_lock, other, 3))
            cut_one(database, but=other.info.backend_pid)
            await waiting

            with pytest.raises(UnderWay):
                await begun(first, turn=turn)

        assert rows(database) == []

    async def test_a_turn_is_taken_again_after_the_server_was_away(
        self, bridges: Bridges, database: str
    ) -> None:
        first, second = await bridges.one(), await bridges.one()
        turn = Turn([3])
        assert await first.take_turn(turn, at_once())
        cut(database)
        await works(first)

        await works(second)
        assert not await second.take_turn(Turn([3]), at_once())
        assert (await begun(first, turn=turn)).outcome is Outcome.OPEN


def _lock(connection: psycopg.Connection[Any], key: int) -> None:
    connection.execute("SELECT pg_advisory_lock(%s)", [key])


def cut_one(database: str, but: int) -> None:
    do(
        database,
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        f"WHERE datname = current_database() AND pid NOT IN (pg_backend_pid(), {but})",
    )


class TestCutConnections:
    async def test_a_life_is_the_same_after_them(self, bridges: Bridges, database: str) -> None:
        journal, other = await bridges.one(), await bridges.one()
        intent = await begun(journal, turn=Turn(seconds=-1))
        cut(database)
        await works(journal)
        await works(other)

        with pytest.raises(UnderWay):
            await begun(other)
        assert await journal.settle(intent.id, Outcome.DONE, 409)
        assert [row["outcome"] for row in rows(database)] == ["done"]

    async def test_a_life_that_a_server_gives_twice_is_one_bridges(
        self, bridges: Bridges, database: str
    ) -> None:
        """As one does that was put back to an earlier state, or took over without the latest."""
        first, second = await bridges.one(), await bridges.one()
        do(database, "DELETE FROM lives; ALTER TABLE lives ALTER id RESTART")
        cut(database)
        await works(second)
        await works(first)

        assert await first.take_turn(Turn([1]), at_once())
        assert not await second.take_turn(Turn([1]), at_once())

    async def test_one_that_nobody_was_using_is_made_anew_unnoticed(
        self, bridges: Bridges, database: str
    ) -> None:
        journal = await bridges.one()
        cut(database)
        assert (await begun(journal)).outcome is Outcome.OPEN

        cut(database)
        assert await journal.take_turn(Turn([1]), at_once())

    async def test_an_outcome_may_be_recorded_twice_if_the_answer_was_lost(
        self, bridges: Bridges, database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        journal = await bridges.one()
        intent = await begun(journal)
        losing(monkeypatch, "COMMIT")

        with pytest.raises(JournalError):
            await journal.settle(intent.id, Outcome.DONE, 409)
        await works(journal)

        assert [row["outcome"] for row in rows(database)] == ["done"]

    @pytest.mark.parametrize("taken_up", [False, True])
    async def test_what_was_begun_by_a_commit_whose_answer_was_lost_is_undone(
        self, bridges: Bridges, database: str, monkeypatch: pytest.MonkeyPatch, taken_up: bool
    ) -> None:
        journal = await bridges.one()
        if taken_up:
            earlier = await begun(journal)
            await journal.settle(earlier.id, Outcome.ABSENT)
        losing(monkeypatch, "COMMIT")

        with pytest.raises(JournalError):
            await begun(journal)
        await works(journal)

        kept = [row["outcome"] for row in rows(database)]
        assert kept == (["absent"] if taken_up else ["not-done"])

    async def test_so_it_is_however_long_the_server_was_away(
        self, bridges: Bridges, database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        journal = await bridges.one()
        losing(monkeypatch, "COMMIT")
        with pytest.raises(JournalError):
            await begun(journal, turn=Turn(seconds=-postgresql.FORGOTTEN - 1))
        await works(journal)

        assert [row["outcome"] for row in rows(database)] == ["not-done"]

    async def test_it_is_undone_though_the_commit_that_undoes_it_is_lost_as_well(
        self, bridges: Bridges, database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Else it would be in the way of equal writes elsewhere for as long as this bridge lives."""
        journal = await bridges.one()
        losing(monkeypatch, "COMMIT")
        with pytest.raises(JournalError):
            await begun(journal)
        losing(monkeypatch, COUNT)
        assert await journal.check() is not None
        await works(journal)

        assert [row["outcome"] for row in rows(database)] == ["not-done"]

    async def test_what_another_has_begun_since_is_not_undone(
        self, bridges: Bridges, database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        journal, other = await bridges.one(), await bridges.one()
        earlier = await begun(journal)
        await journal.settle(earlier.id, Outcome.ABSENT)
        losing(monkeypatch, "COMMIT")
        with pytest.raises(JournalError):
            await begun(journal, turn=Turn(seconds=-1))
        taken = await taken_up(other)
        await works(journal)

        assert taken.id == earlier.id
        assert [row["outcome"] for row in rows(database)] == ["open"]

    async def test_what_v2_said_late_is_recorded_but_nothing_else(
        self, bridges: Bridges, database: str
    ) -> None:
        """A bridge that was stopped for long may go on with what another has taken up."""
        late, other = await bridges.one(), await bridges.one()
        intent = await begun(late)
        do(database, "UPDATE intents SET outcome = 'unknown', life = NULL")
        await begun(other)

        assert await late.settle(intent.id, Outcome.ABSENT)
        assert [row["outcome"] for row in rows(database)] == ["open"]
        assert await late.settle(intent.id, Outcome.DONE, 409)
        assert [row["outcome"] for row in rows(database)] == ["done"]

    async def test_a_loss_at_any_statement_leaves_nothing_half_done(
        self, bridges: Bridges, database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of each write, either nothing is known, or that it was not done, or it is to be had."""
        journal = await bridges.one()
        for number in range(12):
            losing(monkeypatch, "", after=number)
            try:
                intent = await begun(journal, str(number), turn=Turn([9]))
                await journal.settle(intent.id, Outcome.DONE, number + 1)
            except JournalError:
                pass
            await works(journal)
            kept = {(row["outcome"], row["made_id"]) for row in rows(database)[-1:]}
            assert kept <= {("done", number + 1), ("not-done", None), ("done", number)}, number
        assert not [row for row in rows(database) if row["outcome"] in {"open", "unknown"}]


async def taken_up(journal: Journal) -> Intent:
    """Begin what is in nobody's way any more, as soon as the server knows."""
    while True:
        try:
            return await begun(journal, turn=Turn(seconds=20))
        except UnderWay:
            pass


def losing(monkeypatch: pytest.MonkeyPatch, which: str, after: int = 0) -> None:
    """Have the answer to one statement get lost, with the connection, when the server has it."""
    execute = psycopg.Connection.execute
    left = [after]

    def lossy(connection: Any, query: Any, *arguments: Any, **more: Any) -> Any:
        text = query if isinstance(query, str) else bytes(query).decode()
        result = execute(connection, query, *arguments, **more)
        if left and (text == which or not which) and connection.info.dbname.startswith("log_"):
            left[0] -= 1
            if left[0] < 0:
                left.clear()
                connection.close()
                raise psycopg.OperationalError("the connection was lost")
        return result

    monkeypatch.setattr(psycopg.Connection, "execute", lossy)


class TestServer:
    async def test_a_journal_is_opened_while_the_server_is_away_and_mends_itself(
        self, server: Server, database: str
    ) -> None:
        server.stop()
        try:
            async with open_journal(database, window=WINDOW) as journal:
                assert journal.problem() is not None
                with pytest.raises(JournalError):
                    await begun(journal)

                server.start()
                await works(journal)

                assert (await begun(journal)).outcome is Outcome.OPEN
                assert journal.problem() is None
        finally:
            with_server(server)

    async def test_in_the_middle_of_a_write_it_may_start_anew(
        self, bridges: Bridges, server: Server, database: str
    ) -> None:
        journal, other = await bridges.one(), await bridges.one()
        turn = Turn([1], seconds=1000)
        assert await journal.take_turn(turn, at_once())
        intent = await begun(journal, turn=turn)
        server.stop("immediate")
        with pytest.raises(JournalError):
            await journal.settle(intent.id, Outcome.DONE, 409)
        server.start()

        await works(other)
        await works(journal)

        assert [(row["outcome"], row["made_id"]) for row in rows(database)] == [("done", 409)]
        assert not await other.take_turn(Turn([1]), at_once())

    async def test_one_that_is_to_be_read_only_is_not_written_to(
        self, bridges: Bridges, server: Server, database: str
    ) -> None:
        """It may be about to be moved: what is written then, nobody would know of."""
        journal = await bridges.one()
        name = database.rsplit("/", 1)[1]
        do(database, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        cut(database)

        with pytest.raises(JournalError, match="read-only"):
            await begun(journal)
        do(server.url(), f"ALTER DATABASE {name} RESET default_transaction_read_only")
        await works(journal)

    async def test_a_log_that_is_upgraded_is_in_no_writes_way(
        self, bridges: Bridges, database: str
    ) -> None:
        journal = await bridges.one()
        with psycopg.connect(database) as other:
            other.execute("SELECT pg_advisory_xact_lock(%s)", [ADVISORY_LOCK])
            cut_one(database, but=other.info.backend_pid)

            assert (await begun(journal)).outcome is Outcome.OPEN

    async def test_a_newer_bridges_is_refused(self, bridges: Bridges, database: str) -> None:
        await bridges.one()
        do(database, "UPDATE journal_version SET version = 99")

        with pytest.raises(JournalError, match="it is of version 99, and this bridge knows"):
            await bridges.one()

    async def test_another_programs_tables_are_left_alone(
        self, bridges: Bridges, database: str
    ) -> None:
        do(database, "CREATE TABLE intents (id integer)")

        with pytest.raises(JournalError, match='"intents" already exists'):
            await bridges.one()

    async def test_a_password_is_told_nobody(self, server: Server) -> None:
        away = f"postgresql://somebody:s3cret@127.0.0.1:{server.port}/missing"
        async with open_journal(away, window=timedelta(hours=1)) as journal:
            problem = await journal.check()

        assert problem is not None
        assert "s3cret" not in problem

    async def test_what_no_database_takes_is_no_other_ones_business(self, bridges: Bridges) -> None:
        journal = await bridges.one()

        async def too_large() -> Intent:
            return await journal.begin(a_write("x"), account_id=2**64, request_id="r")

        bad, good = await asyncio.gather(too_large(), begun(journal), return_exceptions=True)

        assert isinstance(bad, JournalError)
        assert isinstance(good, Intent)


def with_server(server: Server) -> None:
    """Have it running, whether or not it is."""
    try:
        psycopg.connect(server.url()).close()
    except psycopg.OperationalError:
        server.start()


class TestOperator:
    async def test_lists_who_has_what_and_settles_what_nobody_has(
        self, bridges: Bridges, database: str
    ) -> None:
        journal = await bridges.one()
        live = await begun(journal, "live", turn=Turn(seconds=20))
        lost = await begun(journal, "lost")
        await journal.settle(lost.id, Outcome.UNKNOWN)

        with inspecting(database, take=True) as inspection:
            first, second = inspection.unsettled()
            assert (first.intent.id, inspection.is_in_flight(first)) == (live.id, True)
            assert first.bridge is not None
            assert ", process " in first.bridge
            assert inspection.settle(second, Outcome.ABSENT)

        assert [row["outcome"] for row in rows(database)] == ["open", "absent"]

    async def test_what_was_taken_up_meanwhile_is_left_alone(
        self, bridges: Bridges, database: str
    ) -> None:
        journal = await bridges.one()
        lost = await begun(journal, "lost")
        await journal.settle(lost.id, Outcome.UNKNOWN)

        with inspecting(database, take=True) as inspection:
            (entry,) = inspection.unsettled()
            await begun(journal, "lost")
            with pytest.raises(TakenUp):
                inspection.settle(entry, Outcome.ABSENT)

    def test_a_database_without_a_journal_is_told_and_left_alone(self, database: str) -> None:
        with pytest.raises(JournalError, match="no journal yet"), inspecting(database):
            pass
        assert rows(database, "SELECT 1 FROM pg_tables WHERE schemaname = 'public'") == []


class TestPruning:
    async def test_what_is_settled_goes_after_a_week_and_the_unknown_never(
        self, bridges: Bridges, database: str
    ) -> None:
        first = await bridges.one()
        kept, gone = await begun(first, "kept"), await begun_elsewhere(first)
        await first.settle(kept.id, Outcome.UNKNOWN)
        await first.settle(gone.id, Outcome.DONE, 409)
        await first.delivered(gone.id)
        await first.check()
        bridges.clock.now = NOON + timedelta(days=20)

        await bridges.one()

        assert [row["id"] for row in rows(database)] == [kept.id]


async def begun_elsewhere(journal: Journal) -> Intent:
    write = a_write("gone", invoice_id=7)
    return await journal.begin(write, account_id=1000, request_id="r-2")


class TestPooler:
    @pytest.mark.parametrize("number", [1, 2])
    async def test_in_transaction_mode_it_is_refused(
        self, database: str, number: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if number == 2:  # a second bridge sees what the first has not seen
            monkeypatch.setattr(postgresql, "_has_pooler", lambda *_: False)
        with running_pooler(database, "transaction") as pooled:
            async with AsyncExitStack() as stack:
                for _ in range(number - 1):
                    await stack.enter_async_context(open_journal(pooled, window=WINDOW))

                with pytest.raises(JournalError, match="use its session mode"):
                    await stack.enter_async_context(open_journal(pooled, window=WINDOW))

    async def test_in_session_mode_it_is_used(self, database: str) -> None:
        with running_pooler(database, "session") as pooled:
            async with (
                open_journal(pooled, window=WINDOW) as first,
                open_journal(pooled, window=WINDOW) as second,
            ):
                assert await first.take_turn(Turn([1]), at_once())
                assert not await second.take_turn(Turn([1]), at_once())
                await begun(first, turn=Turn([1], seconds=20))

    async def test_a_session_that_has_become_anothers_holds_no_turn(
        self, bridges: Bridges, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A pooler may put somebody between at any time."""
        journal = await bridges.one()
        monkeypatch.setattr(postgresql, "_BEGIN", b"BEGIN; SELECT 1 AS backend")

        with pytest.raises(JournalError, match="use its session mode"):
            await begun(journal)
