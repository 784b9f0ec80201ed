"""The journal as an SQLite file: which files are one, its rows, and the rule of each change.

For one thread, and one transaction at a time. The thread and who waits for it are in `journal`, a
look from outside in `inspection`.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from bridge.v2.writes import Intent, Outcome, Write

BUSY_TIMEOUT = 5.0
"""Seconds to wait for another process that writes to the file."""

CLAIM_MARGIN = timedelta(minutes=10)
"""How much older than an intent a message may be and still be taken for what the intent made.

A look allows for clocks that differ, so it may see what an equal write made shortly before. Beyond
that it cannot, and the same id is another thing: a sandbox that starts afresh uses them again.
"""

LEAST_RETENTION = timedelta(days=7)
"""How long settled intents are kept, whatever the window, but for what was not done."""

# Written into the file's header, so that no other program's database is taken for a journal.
_APPLICATION_ID = int.from_bytes(b"HBjn", "big")
_SCHEMA_VERSION = 1

_SCHEMA = (
    # AUTOINCREMENT, because the id of a deleted intent must not come back as another's. Times are
    # microseconds since 1970.
    """
    CREATE TABLE intents (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        account_id INTEGER NOT NULL,
        resource TEXT NOT NULL,
        path TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        likeness BLOB NOT NULL,
        intended_at INTEGER NOT NULL,
        touched_at INTEGER NOT NULL,
        outcome TEXT NOT NULL,
        made_id INTEGER,
        delivered INTEGER NOT NULL,
        request_id TEXT NOT NULL
    )
    """,
    "CREATE INDEX intents_by_write ON intents (account_id, fingerprint)",
    """
    CREATE INDEX intents_by_made ON intents (account_id, resource, made_id)
    WHERE made_id IS NOT NULL
    """,
    "CREATE INDEX intents_unsettled ON intents (id) WHERE outcome IN ('open', 'unknown')",
    "CREATE INDEX intents_by_age ON intents (touched_at)",
)

_INSERT = """
    INSERT INTO intents (
        account_id, resource, path, fingerprint, likeness, intended_at, touched_at, outcome,
        delivered, request_id
    ) VALUES (
        :account_id, :resource, :path, :fingerprint, :likeness, :now, :now, 'open', 0, :request_id
    )
"""
_FIND_EARLIER = """
    SELECT * FROM intents
    WHERE account_id = :account_id AND fingerprint = :fingerprint AND touched_at >= :since
        AND (outcome IN ('unknown', 'absent') OR (outcome = 'done' AND NOT delivered))
        AND NOT (:sets_state AND EXISTS (
            SELECT 1 FROM intents AS later
            WHERE later.account_id = intents.account_id AND later.path = intents.path
                AND later.id > intents.id AND later.outcome = 'done'
        ))
    ORDER BY id DESC LIMIT 1
"""
_TAKE_UP = """
    UPDATE intents
    SET outcome = CASE outcome WHEN 'done' THEN 'done' ELSE 'open' END, touched_at = :now
    WHERE id = :id
"""
_PUT_BACK = """
    UPDATE intents SET outcome = :outcome, touched_at = :now WHERE id = :id AND outcome = 'open'
"""
_INTERRUPT = "UPDATE intents SET outcome = 'unknown', touched_at = :now WHERE outcome = 'open'"
_FIND_CLAIM = """
    SELECT 1 FROM intents AS other JOIN intents AS mine
        ON other.account_id = mine.account_id AND other.resource = mine.resource
    WHERE mine.id = :id AND other.id <> :id AND other.made_id = :made_id
        AND other.touched_at > mine.intended_at - :margin
"""
_SETTLE = """
    UPDATE intents SET outcome = :outcome, made_id = :made_id, touched_at = :now WHERE id = :id
"""
_STILL_THE_SAME = """
    SELECT 1 FROM intents WHERE id = :id AND outcome = :outcome AND touched_at = :touched_at
"""
_DELIVER = """
    UPDATE intents SET delivered = 1, touched_at = :now WHERE id = :id AND outcome = 'done'
"""
_UNSETTLED = "SELECT * FROM intents WHERE outcome IN ('open', 'unknown') ORDER BY id"
# What an equal write has made must stay known for as long as a look might take it for another's.
# What was not done is of no use to anybody, and strangers whom v2 refuses can cause much of it.
_PRUNE = """
    DELETE FROM intents
    WHERE outcome = 'not-done' OR (
        touched_at < :before AND outcome NOT IN ('open', 'unknown') AND NOT EXISTS (
            SELECT 1 FROM intents AS unsettled
            WHERE unsettled.outcome IN ('open', 'unknown')
                AND unsettled.account_id = intents.account_id
                AND unsettled.path = intents.path
                AND unsettled.intended_at - :margin <= intents.touched_at
        )
    )
"""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class JournalError(Exception):
    """The journal cannot be used, or an operation was not recorded.

    `str()` is one line for the operator: the file and what is wrong with it.
    """

    def __init__(self, path: Path, what: object) -> None:
        if isinstance(what, OSError):
            what = what.strerror
        super().__init__(f"the journal {path}: {' '.join(str(what).split())}")


@contextmanager
def reported(path: Path) -> Iterator[None]:
    """Raise what goes wrong with the file at `path` in the block as `JournalError`."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise JournalError(path, error) from None


class TakenUp(Exception):
    """An intent is no longer as it was listed: its client came again, or another has settled it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An intent that is open or unknown, as an operator sees it."""

    intent: Intent
    touched_at: datetime
    """When something was last recorded of it, UTC."""
    request_id: str
    """That of the legacy call which intended it first, as in the log."""


class Store:
    """An open journal file. What changes it has to stand in a `transaction`."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        """Use `connection`, which `open` or `create` has prepared."""
        self._connection = connection
        self._path = path
        self._wal = _wal(path)
        self._in_place = self._identities()

    @classmethod
    def create(cls, path: Path) -> Self:
        """Open the journal at `path`, which is made where there is no file or an empty one.

        Raises:
            JournalError: it cannot be opened or made, or is no journal.
        """
        with reported(path):
            if not path.exists():
                # SQLite would make it readable to others; its -wal and -shm take after it.
                os.close(os.open(path.resolve(), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        return cls.open(path)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the journal at `path`; an empty file becomes one.

        Raises:
            JournalError: there is no such file, it cannot be opened, or is no journal.
        """
        require_place(path)
        with reported(path):
            real = path.resolve(strict=True)
            # With isolation_level None the module begins no transactions of its own.
            connection = sqlite3.connect(
                f"{real.as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=BUSY_TIMEOUT
            )
            try:
                _prepare(connection, path)
                connection.row_factory = sqlite3.Row
                return cls(connection, path)
            except BaseException:
                connection.close()
                raise

    def begin_life(self, now: datetime, retention: timedelta) -> None:
        """Make the file ready for the one bridge that holds its lock, and find out what ails it.

        Every open intent is an earlier life's, and becomes unknown. Settled ones older than
        `retention` are deleted.

        Raises:
            sqlite3.Error: the file cannot be written, or is damaged.
            JournalError: likewise.
        """
        self._connection.execute("PRAGMA journal_mode = WAL")
        damage = self._connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if damage != "ok":
            raise JournalError(self._path, f"it is damaged: {damage}")
        self._in_place = self._identities()
        with self.transaction():
            self.interrupt(now)
            self.prune(now - retention)
            self.probe()

    def close(self) -> None:
        """Close the file; the last to do so moves what is in its -wal into it."""
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Record all changes of the block durably at its end, or none.

        Raises:
            sqlite3.Error: they cannot be recorded.
            JournalError: the file that is open is not the one at its path any more.
        """
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._require_in_place()
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # some failures end it by themselves
                self._connection.execute("ROLLBACK")
            raise

    def probe(self) -> None:
        """Write something that changes nothing, to learn whether that is possible."""
        self._connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")

    def begin(  # noqa: PLR0913 - the facts of an intent
        self,
        write: Write,
        *,
        account_id: int,
        request_id: str,
        now: datetime,
        window: timedelta,
        take_up: bool = True,
    ) -> Intent | None:
        """Put the intent to make `write` on record, or take up an earlier one of the same write.

        One is taken up that was touched within `window` and is unknown, absent, or done without
        its client having been told; the newest, and returned as it was found. On record an unknown
        or absent one is open from then on, since it may be sent again. A change of state that
        something else was done after is left alone.

        Unless it may be taken up, nothing is recorded where there is such an intent: None.
        """
        given = {
            "account_id": account_id,
            "fingerprint": write.fingerprint,
            "since": _microseconds(now - window),
            "now": _microseconds(now),
            "resource": write.resource,
            "path": write.request.path,
            "likeness": write.likeness,
            "request_id": request_id,
            "sets_state": write.sets_state,
        }
        for row in self._connection.execute(_FIND_EARLIER, given).fetchall():
            if not take_up:
                return None
            earlier = _entry(row).intent
            self._connection.execute(_TAKE_UP, {"id": earlier.id, "now": given["now"]})
            return earlier
        inserted = self._connection.execute(_INSERT, given)
        assert inserted.lastrowid is not None  # noqa: S101 - one was inserted
        return Intent(
            id=inserted.lastrowid,
            account_id=account_id,
            resource=write.resource,
            path=write.request.path,
            likeness=write.likeness,
            intended_at=now,
            outcome=Outcome.OPEN,
        )

    def put_back(self, intent_id: int, outcome: Outcome, now: datetime) -> None:
        """Give an intent that is still open the outcome that it has without having been sent."""
        self._connection.execute(
            _PUT_BACK, {"id": intent_id, "outcome": outcome, "now": _microseconds(now)}
        )

    def interrupt(self, now: datetime) -> None:
        """Make every open intent unknown."""
        self._connection.execute(_INTERRUPT, {"now": _microseconds(now)})

    def settle(
        self, intent_id: int, outcome: Outcome, made_id: int | None, now: datetime, *, found: bool
    ) -> bool:
        """Record how an intent came out, and tell whether that was possible.

        It is not, and nothing changes, where `made_id` was only found by looking and is what
        another intent has made already, settled later than `CLAIM_MARGIN` before this one.

        Raises:
            JournalError: there is no such intent.
        """
        given = {
            "id": intent_id,
            "outcome": outcome,
            "made_id": made_id,
            "now": _microseconds(now),
            "margin": CLAIM_MARGIN // _MICROSECOND,
        }
        if found and self._connection.execute(_FIND_CLAIM, given).fetchone():
            return False
        if self._connection.execute(_SETTLE, given).rowcount == 0:
            raise JournalError(self._path, f"it has no intent {intent_id}")
        return True

    def require_same(self, entry: Entry) -> None:
        """Make sure that nothing has been recorded of an intent since it was listed.

        Raises:
            TakenUp: something has.
        """
        listed = {
            "id": entry.intent.id,
            "outcome": entry.intent.outcome,
            "touched_at": _microseconds(entry.touched_at),
        }
        if not self._connection.execute(_STILL_THE_SAME, listed).fetchone():
            raise TakenUp

    def deliver(self, intent_id: int, now: datetime) -> None:
        """Record that the client has been told what was made.

        What it was told of an intent that is not done says nothing of what comes out later.
        """
        self._connection.execute(_DELIVER, {"id": intent_id, "now": _microseconds(now)})

    def unsettled(self) -> tuple[Entry, ...]:
        """Return what is open or unknown, oldest first."""
        return tuple(map(_entry, self._connection.execute(_UNSETTLED)))

    def prune(self, before: datetime) -> None:
        """Delete what was settled and last touched before that time, and is of no more use."""
        given = {"before": _microseconds(before), "margin": CLAIM_MARGIN // _MICROSECOND}
        self._connection.execute(_PRUNE, given)

    def _require_in_place(self) -> None:
        # SQLite would go on writing to a file that nobody finds after a restart.
        if self._identities() != self._in_place:
            raise JournalError(
                self._path, "it has been removed or replaced: put it back, or restart the bridge"
            )

    def _identities(self) -> tuple[tuple[int, int] | None, ...]:
        """Return what tells whether the files are still those that were opened."""
        return _identity(self._path), _identity(self._wal)


def require_place(path: Path) -> None:
    """Make sure that there is, or could be, a file at `path`.

    Raises:
        JournalError: something else is there, or not even a directory for it.
    """
    if not path.parent.is_dir():
        raise JournalError(path, f"there is no directory {path.parent}")
    if path.exists() and not path.is_file():
        raise JournalError(path, "it is not a regular file")


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("PRAGMA synchronous = FULL")
    # macOS answers a plain fsync before the drive has written; elsewhere this says nothing.
    connection.execute("PRAGMA fullfsync = ON")
    # Of two processes that open a new file at once, the second waits here and finds it made.
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if (application, version) == (_APPLICATION_ID, _SCHEMA_VERSION):
            return
        if application == _APPLICATION_ID:
            raise JournalError(
                path, f"it is of version {version}, and this bridge knows {_SCHEMA_VERSION} only"
            )
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application or version or tables:
            raise JournalError(path, "it is a database, but not a journal")
        for statement in _SCHEMA:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")


def _wal(path: Path) -> Path:
    real = path.resolve()
    return real.with_name(f"{real.name}-wal")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _entry(row: sqlite3.Row) -> Entry:
    intent = Intent(
        id=row["id"],
        account_id=row["account_id"],
        resource=row["resource"],
        path=row["path"],
        likeness=row["likeness"],
        intended_at=_time(row["intended_at"]),
        outcome=Outcome(row["outcome"]),
        made_id=row["made_id"],
    )
    return Entry(intent, _time(row["touched_at"]), row["request_id"])


def _microseconds(time: datetime) -> int:
    return (time - _EPOCH) // _MICROSECOND


def _time(microseconds: int) -> datetime:
    return _EPOCH + microseconds * _MICROSECOND
