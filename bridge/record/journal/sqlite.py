"""The journal as an SQLite file: whose it is, and that nobody else writes to it.

The rule of each change is in `rules`.
"""

import errno
import fcntl
import os
import sqlite3
import struct
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from bridge.record.journal.rules import Dialect, JournalError, Statements, Store
from bridge.v2.clock import Moment

BUSY_TIMEOUT = 5.0
"""Seconds to wait for another process that writes to the file."""

# Written into the file's header, so that no other program's database is taken for a journal.
_APPLICATION_ID = int.from_bytes(b"HBjn", "big")

_FIRST = (
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

_SECOND = (
    # Whether intended_at is by v2's clock.
    "ALTER TABLE intents ADD COLUMN by_v2 INTEGER NOT NULL DEFAULT 0",
    # Of a credential that v2 has accepted, the SHA-256 of its token.
    """
    CREATE TABLE accepted (
        account_id INTEGER NOT NULL,
        token BLOB NOT NULL,
        accepted_at INTEGER NOT NULL,
        PRIMARY KEY (account_id, token)
    ) WITHOUT ROWID
    """,
)

_THIRD = (
    # Whether touched_at is by v2's clock.
    "ALTER TABLE intents ADD COLUMN touched_by_v2 INTEGER NOT NULL DEFAULT 0",
    # The count of seconds at intended_at and touched_at; null where an earlier life counted.
    "ALTER TABLE intents ADD COLUMN intended_steady REAL",
    "ALTER TABLE intents ADD COLUMN touched_steady REAL",
)

_STEPS = (_FIRST, _SECOND, _THIRD)
"""What makes a journal of each version of one of the version before; an empty file is of none."""

_VERSION = len(_STEPS)

_FILES = Dialect(
    # Counts of an earlier life are taken out of it when one begins.
    touched_steady="touched_steady",
    intended_steady="intended_steady",
    is_placed_here="TRUE",
    more_columns="",
    more_values="",
    open_elsewhere="FALSE",
    more_touched="",
    more_opened="",
    is_mine="TRUE",
    may_settle="TRUE",
    is_interrupted="TRUE",
    more_interrupted="",
    prune_limit="",
)

_PIECE = 1024 * 1024
"""Bytes that are read at once."""


@contextmanager
def reported(path: Path | str) -> Iterator[None]:
    """Raise what goes wrong with the file at `path` in the block as `JournalError`."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise JournalError(path, error) from None


class FileStore(Store):
    """An open journal file."""

    is_shared = False
    may_have_recorded = False
    _said = Statements(_FILES)

    def __init__(self, path: Path, *, make: bool = False, upgrade: bool = True) -> None:
        """Open the journal at `path`; an empty file becomes one, as with `make` does no file.

        With `upgrade`, an older bridge's journal becomes one of this version, which the older one
        does not open any more.

        Raises:
            JournalError: there is no such file, it cannot be opened or made, or is no journal.
        """
        with reported(path):
            if make:
                make_file(path)
            status = path.stat()
            if status.st_nlink > 1:
                # Each name would have a -wal of its own, and what is in one is not in the other.
                raise JournalError(path, f"it has {status.st_nlink} names (hard links): leave one")
            # With isolation_level None the module begins no transactions of its own.
            uri = f"{path.resolve(strict=True).as_uri()}?mode=rw"
            connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT)
            try:
                _prepare(connection, path, upgrade=upgrade)
            except BaseException:
                connection.close()
                raise
        connection.row_factory = sqlite3.Row
        self._connection = connection
        self._execute = connection.execute
        self._path = self.where = path
        self._files = path, _beside(path, "-wal")
        self._in_place = [*map(_identity, self._files)]
        self._reading: int | None = None
        """The file, for a bridge to read. To close it drops SQLite's locks, so that comes last."""
        self._kept: _Kept | None = None
        """How the files of a bridge are while nobody else changes them."""

    def begin_life(self, now: Moment, retention: timedelta) -> None:
        """Make the file ready for the one bridge that holds its lock, and find out what ails it.

        Every open intent is an earlier life's, and becomes unknown; others are pruned. A file that
        cannot be written, or is damaged, is a `JournalError` or an `sqlite3.Error`.
        """
        self._execute("PRAGMA journal_mode = WAL")
        damage = self._execute("PRAGMA quick_check(1)").fetchone()[0]
        if damage != "ok":
            raise JournalError(self._path, f"it is damaged: {damage}")
        self._in_place = [*map(_identity, self._files)]
        with self.transaction():
            self._execute(
                "UPDATE intents SET intended_steady = NULL, touched_steady = NULL "
                "WHERE touched_steady IS NOT NULL"
            )
            self.interrupt(now)
            self.place(now)
            self.prune(now.at - retention if now.by_v2 else None)
            self.prune_accepted(now)
            self.probe()
        # From here on, what is in the -wal gets to the file when `checkpoint` says so.
        self._reading = os.open(self._path, os.O_RDONLY)
        self._kept = self._as_they_are()

    def checkpoint(self) -> None:
        """Move what is in the -wal into the file, so that it need not grow for ever."""
        self._require_in_place()
        try:
            self._execute("PRAGMA wal_checkpoint(PASSIVE)")
        finally:
            self._kept = self._as_they_are()

    def close(self) -> None:
        """Close the file; the last to do so moves what is in its -wal into it."""
        self._connection.close()
        if self._reading is not None:
            os.close(self._reading)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Record all changes of the block durably at its end, or none.

        Raises:
            sqlite3.Error: they cannot be recorded.
            JournalError: the file is not the one that was opened any more, or not as it was left.
        """
        self._execute("BEGIN IMMEDIATE")
        try:
            yield
            self._require_in_place()
            self._execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # some failures end it by themselves
                self._execute("ROLLBACK")
            self._unplaced = True
            raise

    def probe(self) -> None:
        """Write something that changes nothing, to learn whether that is possible."""
        self._execute(f"PRAGMA user_version = {_VERSION}")

    def execute(self, statement: str, given: Mapping[str, object] = {}) -> sqlite3.Cursor:
        """Do what a statement says; `given` are its named parameters."""
        return self._execute(statement, given)

    def _require_in_place(self) -> None:
        # SQLite would go on writing to a file that nobody finds after a restart, or that is not
        # what it has in its memory.
        if self._in_place != [*map(_identity, self._files)]:
            raise JournalError(
                self._path, "it has been removed or replaced: put it back, or restart the bridge"
            )
        if not self._as_left():
            raise JournalError(
                self._path,
                "it has been cut, or written to by another program: put it right, and restart the "
                "bridge",
            )

    def _as_left(self) -> bool:
        """Tell whether nobody else has changed the files: a -wal is overwritten, but never cut."""
        if (kept := self._kept) is None:
            return True
        file, wal = (each.stat() for each in self._files)
        if file.st_size != kept.size or wal.st_size < kept.wal_size:
            return False
        if file.st_mtime_ns != kept.written_at:
            # Not so by SQLite's change counter: with a -wal, that stays as it is.
            if self._checksum() != kept.checksum:
                return False
            self._kept = kept._replace(written_at=file.st_mtime_ns)
        return True

    def _as_they_are(self) -> "_Kept":
        file, wal = (each.stat() for each in self._files)
        return _Kept(file.st_size, file.st_mtime_ns, self._checksum(), wal.st_size)

    def _checksum(self) -> int:
        assert self._reading is not None  # noqa: S101 - asked by a bridge only
        checksum = position = 0
        while piece := os.pread(self._reading, _PIECE, position):
            checksum = crc32(piece, checksum)
            position += len(piece)
        return checksum


class _Kept(NamedTuple):
    """How the files of a bridge are, which alone moves anything into the file."""

    size: int
    written_at: int
    """When the file was written to, in nanoseconds. A `touch` changes that, too."""
    checksum: int
    wal_size: int


@contextmanager
def opened_file(path: Path, now: Moment, retention: timedelta) -> Iterator[FileStore]:
    """Open the journal at `path` as the one bridge that has it, until the end of the block."""
    # Before SQLite has it: of two that make a file at once, one would find the other in its way
    # just when there is no waiting.
    with locked(path) as free:
        if not free:
            raise JournalError(
                path, "it is in use by another bridge, or by `harvest-bridge journal --reconcile`"
            )
        with closing(FileStore(path, make=True)) as store:
            store.begin_life(now, retention)
            yield store


def make_file(path: Path) -> None:
    """Make an empty file at `path`, for its owner alone, if there is none."""
    if not path.exists():  # to open and close one that SQLite has open would drop its locks
        # SQLite would make it readable to others; its -wal and -shm take after it.
        os.close(os.open(path.resolve(), os.O_RDWR | os.O_CREAT, 0o600))


@contextmanager
def locked(path: Path, how: int = os.O_RDWR | os.O_CREAT) -> Iterator[bool]:
    """Hold the locks that make the journal at `path` one bridge's; yields whether they were free.

    One is on a file beside it, for whoever finds another journal at this path; one on the journal
    itself, for whoever has found it by another name. The system drops both with the process,
    whatever ends that. `how` is for opening the file beside it.

    Raises:
        JournalError: there is and could be no file at `path`.
        OSError: a file cannot be opened or made.
    """
    if not path.parent.is_dir():
        raise JournalError(path, f"there is no directory {path.parent}")
    if path.exists() and not path.is_file():
        raise JournalError(path, "it is not a regular file")
    handle = os.open(_beside(path, "-lock"), how, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        if how & os.O_CREAT:
            make_file(path)
        with _locked_itself(path) as free:
            yield free
    finally:
        os.close(handle)


_HELD: set[tuple[int, int]] = set()
"""The journals that this process holds the lock on."""

_OFD_SETLK: int | None = getattr(fcntl, "F_OFD_SETLK", None)

LOCKED_BYTE = 2**63 - 2
"""The last one. SQLite's own locks are on other bytes: neither is in the other's way."""

_LAST_BYTE = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, LOCKED_BYTE, 1, 0)
"""A `struct flock`."""


@contextmanager
def _locked_itself(path: Path) -> Iterator[bool]:
    """Hold the lock on the file at `path` itself; yields whether it was free.

    It is one of the file that is open, not of the process (Linux, `fcntl(2)`, "Open file
    description locks"), so that nobody drops it by closing another. To close this one drops those
    of the process, which are SQLite's: so that comes last, and is never done beside an open one.
    """
    if (identity := _identity(path)) is None or _OFD_SETLK is None:
        yield True
        return
    if identity in _HELD:
        yield False
        return
    _HELD.add(identity)
    try:
        handle = os.open(path, os.O_RDWR)
        try:
            yield _take(handle, _OFD_SETLK)
        finally:
            os.close(handle)
    finally:
        _HELD.discard(identity)


def _take(handle: int, command: int) -> bool:
    try:
        fcntl.fcntl(handle, command, _LAST_BYTE)
    except OSError as error:
        if error.errno in {errno.EAGAIN, errno.EACCES}:
            return False
        if error.errno != errno.EINVAL:  # no such locks here: the other one has to do
            raise
    return True


def is_locked(path: Path) -> bool:
    """Tell whether somebody holds a lock of the journal at `path`; makes no file."""
    try:
        with locked(path, os.O_RDWR) as free:
            return not free
    except FileNotFoundError:
        with _locked_itself(path) as free:
            return not free


def _prepare(connection: sqlite3.Connection, path: Path, *, upgrade: bool) -> None:
    connection.execute("PRAGMA synchronous = FULL")
    # macOS answers a plain fsync before the drive has written; elsewhere this says nothing.
    connection.execute("PRAGMA fullfsync = ON")
    # The file itself is written to when its bridge says so, and by nobody else.
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    # Of two processes that open a new file at once, the second waits here and finds it made.
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application != _APPLICATION_ID and (application or version or tables):
            raise JournalError(path, "it is a database, but not a journal")
        if version > _VERSION:
            raise JournalError(
                path, f"it is of version {version}, and this bridge knows {_VERSION} only"
            )
        if version < _VERSION and not upgrade:
            raise JournalError(path, "an older bridge runs with it: restart that first")
        for statement in chain.from_iterable(_STEPS[version:]):
            connection.execute(statement)
        if version < _VERSION:
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {_VERSION}")


def require_readable(connection: sqlite3.Connection, path: Path) -> None:
    """Raise `JournalError` unless what is open is a journal that a bridge would open."""
    if (names := path.stat().st_nlink) > 1:
        raise JournalError(path, f"it has {names} names (hard links): leave one")
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != _APPLICATION_ID:
        raise JournalError(path, "it is a database, but not a journal")
    if version > _VERSION:
        raise JournalError(
            path, f"it is of version {version}, and this bridge knows {_VERSION} only"
        )


def _beside(path: Path, suffix: str) -> Path:
    real = path.resolve()
    return real.with_name(f"{real.name}{suffix}")


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what tells whether a file is still the one that was opened."""
    with suppress(OSError):
        status = path.stat()
        return status.st_dev, status.st_ino
    return None
