"""The journal in PostgreSQL, which several bridges share: sessions, lives, turns.

The rule of each change is in `rules`. Imported only where the database is a server's.
"""

import os
import re
import socket
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg.rows import DictRow, dict_row

from bridge.record.journal.rules import (
    LEAST_RETENTION,
    Dialect,
    Entry,
    JournalError,
    Statements,
    Store,
    Turn,
    UnderWay,
    entry_of,
)
from bridge.record.log.database import LogError, shown, url_of
from bridge.record.log.postgresql import DEFAULTS
from bridge.v2.clock import Moment

JOURNAL_LOCK = int.from_bytes(b"HBjn", "big")
"""Of the locks that PostgreSQL keeps for programs, the one that a transaction holds: it works alone
then, as the one writer of a file does, and so do the rules."""

_LIVES = JOURNAL_LOCK
"""The class of the locks of lives, which are two numbers, so that they are never those of turns."""

CHANNEL = "harvest_bridge"
"""On which bridges tell each other what they can do without."""

SETTINGS = {
    # A default that the operator has changed would let a transaction look at what was before it.
    "default_transaction_isolation": "read committed",
    "lock_timeout": "5s",
    "statement_timeout": "10s",
    # A bridge that is stopped, in a transaction or not, does not keep the others waiting.
    "idle_in_transaction_session_timeout": "5s",
    "idle_session_timeout": "15s",  # from PostgreSQL 14 on
    # Nor does one whose machine is gone.
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "3",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "15s",
}
"""Of a session. What is not known to a server is left out."""

PAUSE = 0.5
"""Seconds after a failure in which nobody waits for another."""

REFRESH = 2.0
"""Seconds between two looks for what was interrupted."""

GIVE_WAY = 0.25
"""Seconds in which a bridge does not ask for a turn that it has had, and another waits for."""

FORGOTTEN = 60.0
"""Seconds after its call's time in which a bridge has said how a write came out, or never will. It
would be in the way of equal ones elsewhere as long as the bridge lives."""

# A bridge's own session holds the lock of its life as long as it lives, or the server believes so.
_LIVES_YET = f"""
    EXISTS (
        SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND classid = {_LIVES} AND objsubid = 2
            AND objid = CAST({{}} AS oid) AND granted
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    )
"""  # noqa: S608 - of constants
_NOW = "CAST(extract(epoch FROM clock_timestamp()) AS double precision)"

# Of all that hold the lock of a life, only whoever asks may.
_END_EARLIER = f"""
    SELECT pg_terminate_backend(pid) FROM pg_locks
    WHERE locktype = 'advisory' AND classid = {_LIVES} AND objsubid = 2 AND granted
        AND objid = CAST(%s AS oid) AND pid <> pg_backend_pid()
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
""".encode()  # noqa: S608 - of constants

_OTHERS_HERE = f"""
    SELECT pg_backend_pid() AS backend, count(*) AS number FROM pg_locks
    WHERE locktype = 'advisory' AND classid = {_LIVES} AND objsubid = 2 AND granted
        AND objid <> CAST(%s AS oid) AND pid = pg_backend_pid()
""".encode()  # noqa: S608 - of constants

_FORGET_LIVES = f"""
    DELETE FROM lives WHERE id <> :life AND began_at < now() - interval '1 day'
        AND NOT {_LIVES_YET.format("lives.id")}
        AND NOT EXISTS (SELECT 1 FROM intents WHERE outcome = 'open' AND intents.life = lives.id)
"""  # noqa: S608 - of constants

_SERVERS = Dialect(
    touched_steady="(CASE WHEN touched_life = :life THEN touched_steady END)",
    intended_steady="(CASE WHEN intended_life = :life THEN intended_steady END)",
    is_placed_here=f"(touched_life = :life OR NOT {_LIVES_YET.format('touched_life')})",
    more_columns=", intended_life, touched_life, life, nonce, whose, until",
    more_values=f", :life, :life, :life, :nonce, :whose, {_NOW} + :seconds",
    # What a stranger has under way is in nobody's way but its own, as long as its turn can be held.
    open_elsewhere=f"""(
        outcome = 'open' AND life <> :life
        AND (whose IS NULL OR whose = :credential OR NOT {_LIVES_YET.format("life")})
    )""",
    more_touched=", touched_life = :life",
    more_opened=f", life = :life, nonce = :nonce, whose = :whose, until = {_NOW} + :seconds",
    is_mine="life = :life AND nonce = coalesce(:nonce, nonce)",
    may_settle="(:by_operator OR life = :life OR (:outcome = 'done' AND outcome <> 'done'))",
    # Locks are lost by bridges that live, too: when the server starts anew, or a connection breaks.
    is_interrupted=f"""(
        (life <> :life AND until < {_NOW} AND NOT {_LIVES_YET.format("life")})
        OR (life = :life AND until < {_NOW} - {FORGOTTEN})
    )""",
    more_interrupted=", life = NULL",
    prune_limit="LIMIT 5000",
)

_BEGIN = (
    "BEGIN ISOLATION LEVEL READ COMMITTED; "
    f"SELECT pg_backend_pid() AS backend, pg_advisory_xact_lock({JOURNAL_LOCK})"
).encode()

_FIRST = (
    """
    CREATE TABLE lives (
        id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        host text NOT NULL,
        pid integer NOT NULL,
        began_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    # Times are microseconds since 1970, but for `until`, which is seconds by the server's clock.
    # `moved_from` is the id that it had in a file.
    """
    CREATE TABLE intents (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        account_id bigint NOT NULL,
        resource text NOT NULL,
        path text NOT NULL,
        fingerprint text NOT NULL,
        likeness bytea NOT NULL,
        intended_at bigint NOT NULL,
        touched_at bigint NOT NULL,
        outcome text NOT NULL,
        made_id bigint,
        delivered boolean NOT NULL,
        request_id text NOT NULL,
        by_v2 boolean NOT NULL,
        touched_by_v2 boolean NOT NULL,
        intended_steady double precision,
        touched_steady double precision,
        intended_life integer,
        touched_life integer,
        life integer,
        nonce bigint,
        whose bigint,
        until double precision,
        moved_from bigint
    )
    """,
    "CREATE INDEX intents_by_write ON intents (account_id, fingerprint)",
    """
    CREATE INDEX intents_by_made ON intents (account_id, resource, made_id)
    WHERE made_id IS NOT NULL
    """,
    "CREATE INDEX intents_unsettled ON intents (id) WHERE outcome IN ('open', 'unknown')",
    "CREATE INDEX intents_by_path ON intents (account_id, path)",
    "CREATE INDEX intents_by_age ON intents (touched_at)",
    "CREATE INDEX intents_unplaced ON intents (id) WHERE NOT touched_by_v2",
    """
    CREATE TABLE accepted (
        account_id bigint NOT NULL,
        token bytea NOT NULL,
        accepted_at bigint NOT NULL,
        PRIMARY KEY (account_id, token)
    )
    """,
)

# What one file has twice, it has for two writes; a row that is there already came with an earlier
# try to move it.
_RECEIVE = """
    INSERT INTO intents (
        account_id, resource, path, fingerprint, likeness, intended_at, touched_at, outcome,
        made_id, delivered, request_id, by_v2, touched_by_v2, moved_from
    )
    SELECT :account_id, :resource, :path, :fingerprint, :likeness, :intended_at, :touched_at,
        :outcome, :made_id, :delivered, :request_id, :by_v2,
        :touched_by_v2, CAST(:id AS bigint)
    WHERE NOT EXISTS (
        SELECT 1 FROM intents AS moved
        WHERE moved.account_id = :account_id AND moved.fingerprint = :fingerprint
            AND moved.request_id = :request_id AND moved.moved_from = :id
    )
"""

_STEPS = (_FIRST,)
"""What makes the tables of each version of those of the version before."""

_LARGEST = 2**63 - 1

_Keys = tuple[Turn, Collection[int]]
"""Some of the keys of a turn."""

_FATAL = frozenset({"3F", "42"})
"""PostgreSQL's classes of errors that waiting does not mend: tables or rights that are amiss."""


@cache
def _translated(statement: str) -> bytes:
    """Return a statement as psycopg takes it."""
    return re.sub(r":(\w+)", r"%(\1)s", statement).encode()


class ServerStore(Store):
    """The journal of a database on a server, and the session of one bridge with it."""

    is_shared = True
    may_have_recorded = True
    _said = Statements(_SERVERS)

    def __init__(self, database: str, retention: timedelta, *, make: bool = True) -> None:
        """Remember the database; nothing is asked of it before it is needed.

        With `make`, one without a journal gets its tables.
        """
        self._make = make
        self.where = shown(database)
        self._parameters = parameters(database)
        self._retention = retention
        self._connection: psycopg.Connection[DictRow] | None = None
        self._backend: int | None = None
        """The server's process that the session is with."""
        self._failed: tuple[float, JournalError] | None = None
        self._life: tuple[int, datetime] | None = None
        """Its number, and when it began by the server's clock."""
        self._turns: set[Turn] = set()
        """Those that calls have, or want."""
        self._give_way: dict[int, float] = {}
        self._refreshed = float("-inf")

    def execute(self, statement: str, given: Mapping[str, object] = {}) -> Any:  # noqa: ANN401
        """Do what a statement says; raises `ValueError` for what no database could take."""
        assert self._connection is not None  # noqa: S101 - it is in a transaction, or just made
        if any(isinstance(each, int) and abs(each) > _LARGEST for each in given.values()):
            raise OverflowError("a number is too large for the database")
        try:
            return self._connection.execute(_translated(statement), given)
        except psycopg.DataError as error:
            if error.sqlstate is not None:
                raise
            raise ValueError(str(error)) from None  # the driver itself has refused it

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Record all changes of the block durably at its end, or none: alone among all bridges.

        Raises:
            JournalError: the server cannot be reached, or has refused it. After a commit whose
                answer was lost they may be on record nevertheless.
        """
        with self._session() as connection:
            try:
                begun = connection.execute(_BEGIN, prepare=False)
            except psycopg.OperationalError:
                if not connection.broken:
                    raise
                # It broke while nobody used it, so there is nothing that could be done twice.
                connection = self._connect()  # noqa: PLW2901
                begun = connection.execute(_BEGIN, prepare=False)
            begun.nextset()
            self._require_own(begun.fetchall())
            yield
            # Of a transaction that has failed, this is a ROLLBACK, and no error.
            if connection.execute("COMMIT", prepare=False).statusmessage != "COMMIT":
                raise JournalError(self.where, "the transaction was rolled back")

    def together(self) -> AbstractContextManager[object]:
        """Have what is executed in the block done in its order, and its results at the end only."""
        assert self._connection is not None  # noqa: S101 - it is in a transaction
        return self._connection.pipeline()

    def reading(self) -> AbstractContextManager[None]:
        """See all of the block at one time, while nobody writes."""
        return self.transaction()

    @contextmanager
    def _session(self) -> Iterator[psycopg.Connection[DictRow]]:
        """Give the session for a block, made anew if there is none; what fails in it, ends it.

        For nobody knows which locks it has then; a new one begins with the right ones.
        """
        try:
            yield self._connect()
        except BaseException as error:
            self._disconnect()
            self._unplaced = True
            if isinstance(error, psycopg.Error | OSError):
                raise JournalError(self.where, _one_line(error)) from error
            raise

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()
            self._connection = None
        for turn in self._turns:
            turn.taken.clear()
            turn.awaited.clear()

    def _connect(self) -> psycopg.Connection[DictRow]:
        if self._connection is not None and not self._connection.closed:
            return self._connection
        self._disconnect()
        if self._failed is not None and time.monotonic() < self._failed[0] + PAUSE:
            raise self._failed[1]
        try:
            self._connection = self._new_session()
        except (psycopg.Error, OSError, JournalError) as error:
            self._disconnect()
            failure = error
            if not isinstance(failure, JournalError):
                failure = JournalError(self.where, _one_line(error))
                failure.__cause__ = error
            self._failed = time.monotonic(), failure
            raise failure from error
        self._failed = None
        return self._connection

    def _new_session(self) -> psycopg.Connection[DictRow]:
        """Connect, and be who this bridge was before anything else: alive, and with its turns."""
        connection = psycopg.connect(**self._parameters, autocommit=True, row_factory=dict_row)
        self._connection = connection
        self._set_up(connection)
        _upgrade(connection, self.where, make=self._make)
        self._live(connection)
        self._require_own_session(connection)
        self._take([(turn, turn.keys) for turn in self._turns])
        return connection

    def _set_up(self, connection: psycopg.Connection[DictRow]) -> None:
        connection.execute(
            "SELECT set_config(given.name, given.value, false) "
            "FROM unnest(%s::text[], %s::text[]) AS given (name, value) "
            "WHERE given.name IN (SELECT name FROM pg_settings)",
            [list(SETTINGS), list(SETTINGS.values())],
        )
        # A commit that does not wait for the disk is none; nor for the replica that takes over.
        connection.execute(
            "SELECT set_config('synchronous_commit', 'on', false) "
            "WHERE current_setting('synchronous_commit') IN ('off', 'local')"
        )

    def _live(self, connection: psycopg.Connection[DictRow]) -> None:
        """Take the lock of this bridge's life, which begins with the first session.

        A session that was lost, should the server not know yet, holds what is ours: it is ended.
        """
        found = None
        if self._life is not None:
            # A database that was put back to an earlier state gives a number twice.
            found = connection.execute(
                "SELECT id, began_at FROM lives WHERE id = %s AND began_at = %s", self._life
            ).fetchone()
        if found is not None:
            connection.execute(_END_EARLIER, [found["id"]])
        else:
            found = connection.execute(
                "INSERT INTO lives (host, pid) VALUES (%s, %s) RETURNING id, began_at",
                [socket.gethostname()[:200], os.getpid()],
            ).fetchone()
            assert found is not None  # noqa: S101 - just inserted
            self._life = found["id"], found["began_at"]
        connection.execute("SELECT pg_advisory_lock(%s, %s)", [_LIVES, found["id"]])

    # Behind a pooler in transaction mode, a statement is done by any of the server's processes, and
    # locks of sessions are nobody's: two bridges could hold one turn.

    def _require_own_session(self, connection: psycopg.Connection[DictRow]) -> None:
        """Make sure, as far as can be seen, that this process of the server is ours alone."""
        assert self._life is not None  # noqa: S101 - it has begun
        others = connection.execute(_OTHERS_HERE, [self._life[0]]).fetchone()
        assert others is not None  # noqa: S101 - one row
        self._backend = others["backend"]
        if others["number"]:
            raise Pooled(self.where)
        if _has_pooler(connection, self._backend):
            with psycopg.connect(**self._parameters, row_factory=dict_row) as other:
                theirs = other.execute("SELECT pg_backend_pid() AS backend").fetchall()
                # It is in a transaction, so nobody else can be given that process meanwhile.
                self._require_own(connection.execute("SELECT pg_backend_pid() AS backend"))
                if theirs[0]["backend"] == self._backend:
                    raise Pooled(self.where)

    def _require_own(self, rows: Iterable[Any]) -> None:
        if any(row["backend"] != self._backend for row in rows):
            raise Pooled(self.where)

    def identity(self) -> Mapping[str, object]:
        """Return what names this bridge among those that share the journal."""
        return {"life": None if self._life is None else self._life[0]}

    def steady_of(self, row: Any) -> float | None:  # noqa: ANN401 - a row
        """Return the count of seconds when it was intended, if that was in this life."""
        return row["intended_steady"] if row["intended_life"] == self.identity()["life"] else None

    def begin_life(self, now: Moment) -> None:
        """Make unknown what is nobody's any more, and forget what is too old."""
        with self.transaction():
            self.refresh(now)
            self.place(now)
            self.prune(now.at - self._retention if now.by_v2 else None)
            self.prune_accepted(now)
            self.execute(_FORGET_LIVES, self.identity())

    def refresh(self, now: Moment) -> None:
        """Make unknown, now and then, what bridges that are gone have left open."""
        if time.monotonic() >= self._refreshed + REFRESH:
            self.interrupt(now)
            self._refreshed = time.monotonic()

    def require_interrupted(self, row: Any) -> None:  # noqa: ANN401 - a row
        """Raise `UnderWay` unless whoever has an intent open is gone, and its time is up."""
        state = self._state_of([row])[row["id"]]
        if state["lives"] or state["left"] >= 0:
            raise UnderWay(self.where, state["left"])

    def _state_of(self, rows: Sequence[Any]) -> Mapping[int, Any]:
        """Return by whom intents are open, whether they live, and the seconds that are left."""
        asked = f"""
            SELECT intents.id, lives.host, lives.pid, intents.until - {_NOW} AS left,
                {_LIVES_YET.format("intents.life")} AS lives
            FROM intents LEFT JOIN lives ON lives.id = intents.life
            WHERE intents.outcome = 'open' AND intents.id = ANY(:ids)
        """  # noqa: S608 - of constants
        found = self.execute(asked, {"ids": [row["id"] for row in rows]}).fetchall()
        return {each["id"]: each for each in found}

    def unsettled(self) -> tuple[Entry, ...]:
        """Return what is open or unknown, oldest first, and which bridge has it."""
        listed = "SELECT * FROM intents WHERE outcome IN ('open', 'unknown') ORDER BY id"
        rows = self.execute(listed).fetchall()
        states = self._state_of([row for row in rows if row["outcome"] == "open"])
        return tuple(_entry(row, states.get(row["id"])) for row in rows)

    def probe(self) -> None:
        """Learn whether something can be written."""
        self.execute("UPDATE journal_version SET version = version")

    # Turns are locks of the session, whatever becomes of transactions.

    def take_turns(self, turns: Sequence[Turn]) -> list[bool]:
        """Take all keys of a turn, or none, and let the others know that they are waited for."""
        with self._session() as connection:
            self._turns.update(turns)
            try:
                self._take_or_wait(turns)
            except psycopg.OperationalError:
                if not connection.broken:
                    raise
                # What was locked in a session that is broken is locked no more.
                self._connect()
                self._take_or_wait(turns)
            return [turn.taken.issuperset(turn.keys) for turn in turns]

    def _take_or_wait(self, turns: Sequence[Turn]) -> None:
        now = time.monotonic()
        wanted = []
        for turn in turns:
            missing = [key for key in turn.keys if key not in turn.taken]
            if not any(self._give_way.get(key, now) > now for key in missing):
                wanted.append((turn, missing))
        self._take(wanted)
        self._wait_no_more([turn for turn, missing in wanted if turn.taken.issuperset(missing)])
        missed = [each for each in wanted if not each[0].taken.issuperset(each[1])]
        waiting = [(turn, set(missing) - turn.taken) for turn, missing in missed]
        self._give([(turn, turn.taken.intersection(missing)) for turn, missing in missed])
        self._wait(waiting)

    def _take(self, wanted: Sequence[_Keys]) -> None:
        for (turn, key), taken in self._locks("pg_try_advisory_lock(key)", wanted):
            if taken:
                turn.taken.add(key)

    def _give(self, those: Sequence[_Keys]) -> Sequence[int]:
        """Give keys back; return for which of them somebody else waits."""
        said = self._locks(
            # In this order, and both: what AND leaves out is the planner's to choose.
            "CASE pg_advisory_unlock(key) WHEN TRUE THEN pg_try_advisory_xact_lock(~key) END",
            those,
        )
        for (turn, key), _ in said:
            turn.taken.discard(key)
        if any(alone is None for _, alone in said):
            raise Pooled(self.where)  # what we have locked is locked by somebody else
        return [key for (_, key), alone in said if not alone]

    def _locks(
        self, function: LiteralString, those: Sequence[_Keys]
    ) -> Sequence[tuple[tuple[Turn, int], Any]]:
        """Call a function for all keys, in one statement; return what it says of each."""
        each = [(turn, key) for turn, keys in those for key in sorted(keys)]
        if not each:
            return []
        asked = f"""
            SELECT pg_backend_pid() AS backend, number, {function} AS said
            FROM unnest(CAST(:keys AS bigint[])) WITH ORDINALITY AS given (key, number)
        """  # noqa: S608 - of constants
        rows = self.execute(asked, {"keys": [key for _, key in each]}).fetchall()
        self._require_own(rows)
        return [(each[row["number"] - 1], row["said"]) for row in rows]

    # Whoever waits for a key shares the lock beside it, `~key`, so that others can see it.

    def _wait(self, those: Sequence[_Keys]) -> None:
        new = [(turn, set(keys) - turn.awaited) for turn, keys in those]
        for (turn, key), shared in self._locks("pg_try_advisory_lock_shared(~key)", new):
            if shared:
                turn.awaited.add(key)

    def _wait_no_more(self, turns: Sequence[Turn]) -> None:
        self._locks("pg_advisory_unlock_shared(~key)", [(turn, turn.awaited) for turn in turns])
        for turn in turns:
            turn.awaited.clear()

    def give_turns_back(self, turns: Sequence[Turn]) -> None:
        """Let others have turns, or stop to wait for them; who waits elsewhere comes next."""
        self._turns.difference_update(turns)
        if self._connection is None or self._connection.closed:
            return
        with self._session():
            self._wait_no_more(turns)
            waited_for = self._give([(turn, turn.taken) for turn in turns])
            now = time.monotonic()
            self._give_way = {key: end for key, end in self._give_way.items() if end > now}
            self._give_way |= dict.fromkeys(waited_for, now + GIVE_WAY)

    def require_turn(self, turn: Turn) -> None:
        """Raise `UnderWay` unless a turn is held: a session that was lost has lost it."""
        if missing := [key for key in turn.keys if key not in turn.taken]:
            self._take([(turn, missing)])
            if not turn.taken.issuperset(missing):
                raise UnderWay(self.where, 1)

    def tell(self, told: Sequence[str]) -> None:
        """Tell those who listen, at all bridges that share the journal."""
        with self._session() as connection:
            connection.execute(
                "SELECT pg_notify(%s, said) FROM unnest(%s::text[]) AS said", [CHANNEL, list(told)]
            )

    def receive(
        self, intents: Sequence[Mapping[str, Any]], accepted: Sequence[Mapping[str, Any]]
    ) -> int:
        """Take over what a file knows that no bridge has; return how many writes that were."""
        with self.transaction():
            number = 0
            for row in intents:
                outcome = "unknown" if row["outcome"] == "open" else row["outcome"]
                truths = {name: bool(row[name]) for name in ("delivered", "by_v2", "touched_by_v2")}
                given = {**row, **truths, "outcome": outcome}
                number += self.execute(_RECEIVE, given).rowcount
            for row in accepted:
                self.execute(self._said.accept, {**row, "now": row["accepted_at"]})
        return number

    def end_life(self, now: Moment) -> None:
        """Make unknown what this bridge was cut off in, so that nobody waits for it."""
        if self._connection is not None and not self._connection.closed:
            with suppress(JournalError), self.transaction():
                self._touch(self._said.give_up, now, nonce=None)

    def close(self) -> None:
        """Let go of the session, and with it of all that it holds."""
        self._disconnect()


@contextmanager
def opened_server(database: str, now: Moment, retention: timedelta) -> Iterator[ServerStore]:
    """Open the journal of a database as one of its bridges, until the end of the block.

    A server that is not to be reached is tried again whenever the journal is used.

    Raises:
        JournalError: waiting would not help.
    """
    store = ServerStore(database, retention)
    try:
        try:
            store.begin_life(now)
        except JournalError as error:
            if is_fatal(error):
                raise
            store.problem_at_start = error
        yield store
    finally:
        store.close()


@contextmanager
def receiving(database: str) -> Iterator[ServerStore]:
    """Open the journal of a database, made if need be, for what a file knows."""
    with closing(ServerStore(database, LEAST_RETENTION)) as store:
        yield store


@contextmanager
def inspected_server(database: str) -> Iterator[ServerStore]:
    """Open the journal of a database as an operator, until the end of the block."""
    with closing(ServerStore(database, LEAST_RETENTION, make=False)) as store:
        yield store


def is_fatal(error: JournalError) -> bool:
    """Tell whether what keeps a journal from being opened is not mended by waiting."""
    cause = error.__cause__
    if isinstance(cause, psycopg.Error):
        return cause.sqlstate is not None and cause.sqlstate[:2] in _FATAL
    return isinstance(error, Pooled | WrongTables)


class Pooled(JournalError):
    """Sessions with the server are not kept: what is locked in one would be anybody's."""

    def __init__(self, where: Path | str) -> None:
        super().__init__(
            where, "a pooler gives this bridge's sessions to others: use its session mode"
        )


class WrongTables(JournalError):
    """The database's tables are not those of a journal that this bridge knows."""


def _upgrade(connection: psycopg.Connection[DictRow], where: Path | str, *, make: bool) -> None:
    """Make the tables what they are to be. They have steps of their own, not those of the log:
    an SQLite log has none of them, and a write is not to wait for what takes long to import.
    """
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [JOURNAL_LOCK])
        if not make:
            found = connection.execute("SELECT to_regclass('journal_version') AS found").fetchone()
            if found is None or found["found"] is None:
                raise WrongTables(where, "it has no journal yet: start a bridge with it first")
        connection.execute("CREATE TABLE IF NOT EXISTS journal_version (version int NOT NULL)")
        row = connection.execute("SELECT version FROM journal_version").fetchone()
        version = 0 if row is None else row["version"]
        if version > len(_STEPS):
            told = f"it is of version {version}, and this bridge knows {len(_STEPS)} only"
            raise WrongTables(where, told)
        if version == len(_STEPS):
            return
        for step in _STEPS[version:]:
            for statement in step:
                connection.execute(statement)
        connection.execute("DELETE FROM journal_version")
        connection.execute("INSERT INTO journal_version VALUES (%s)", [len(_STEPS)])


def _has_pooler(connection: psycopg.Connection[DictRow], backend: int | None) -> bool:
    """Tell whether who has answered to us is not who does what we ask for."""
    return connection.info.backend_pid != backend


def parameters(database: str) -> dict[str, Any]:
    """Return how to connect to a database; raises `JournalError` if its URL cannot be read."""
    try:
        url = url_of(database)
    except LogError as error:
        raise JournalError("postgresql://…", error) from None
    given = {**url.translate_connect_args(username="user", database="dbname"), **url.query}
    return {**DEFAULTS, "application_name": "harvest-bridge journal", **given}


def _entry(row: Any, state: Any) -> Entry:  # noqa: ANN401 - rows
    entry = entry_of(row)
    if state is None:
        return entry
    return Entry(
        entry.intent,
        entry.touched_at,
        entry.request_id,
        bridge=None if state["host"] is None else f"{state['host']}, process {state['pid']}",
        in_flight=bool(state["lives"] or state["left"] >= 0),
    )


def _one_line(error: object) -> str:
    # libpq tells on further lines what it thinks could be done, and names each address it tried.
    return " ".join(str(error).split())[:300]
