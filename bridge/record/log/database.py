"""The database of the translation log: opened, made, upgraded, bound to the key of its digests.

What its tables are is in `tables`, how they become that in `upgrading`; `writer` fills them. What
most starts do without, and takes long to import, is imported when it is needed.
"""

import logging
import os
import secrets
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    create_engine,
    event,
    insert,
    inspect,
    make_url,
    select,
    text,
)
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    IntegrityError,
    SQLAlchemyError,
)
from sqlalchemy.pool import NullPool, QueuePool

from bridge.private_file import UnusableFile, read_private
from bridge.record.log.tables import INSTALLATION, METADATA, REVISION
from bridge.record.looking import read_only

BUSY_TIMEOUT = 5.0
"""Seconds to wait for another process that writes to the SQLite file."""

KEY_LENGTH = 32
"""Bytes of the key of digests."""

ADVISORY_LOCK = int.from_bytes(b"HBlg", "big")
"""Of the locks that PostgreSQL keeps for programs, the one of migrations; +1: of retention."""

_APPLICATION_ID = int.from_bytes(b"HBlg", "big")
"""In the header of the SQLite file, so that no other program's is taken for a translation log."""

# Alembic tells of its plugins when it is imported, and of the kind of database at each upgrade.
logging.getLogger("alembic").setLevel(logging.WARNING)

_MAY_PASS = frozenset({"08", "40", "53", "55", "57", "58"})
"""PostgreSQL's classes of errors of connections, rollback, resources, locks, operators, disks."""


class LogError(Exception):
    """The translation log cannot be used. `str()` is one line for the operator, without secrets."""

    setting = "database"
    """Which setting names what is wrong."""


class UnreachableLog(LogError):
    """The server does not answer, or the file is busy: that may be over in a while."""


class WrongKey(LogError):
    """The key of digests cannot be used, or is not the one of this database."""

    setting = "database_key"


def is_server(database: str) -> bool:
    """Tell whether `database` is the URL of a server; else it is the path of an SQLite file."""
    return database.startswith("postgresql://")


def shown(database: str) -> str:
    """Return the name of a database as it may be told: without password and parameters."""
    if not is_server(database):
        return database
    try:
        return url_of(database).set(query={}).render_as_string(hide_password=True)
    except LogError:
        return "postgresql://…"


def url_of(database: str) -> URL:
    try:
        url = make_url(database)
    except (ArgumentError, ValueError):  # whose words have the password
        raise LogError("postgresql://…: this URL cannot be read") from None
    # What follows an @ of the password would be taken for the host's name, and shown.
    if database.partition("?")[0].count("@") > (url.username is not None):
        raise LogError("postgresql://…: this URL cannot be read; @ in a password is written %40")
    return url


def key_file(database: str, file: Path | None) -> Path:
    """Return where the key of digests is: in `file`, or beside the SQLite file.

    Raises:
        WrongKey: there is none by default, for several bridges share the server's database.
    """
    if file is None and is_server(database):
        raise WrongKey("must be set when database is a URL: several bridges share the key")
    return Path(f"{database}.key") if file is None else file


def load_key(database: str, file: Path | None) -> bytes:
    """Return the key of digests; at the first start it is made, for its owner's eyes only.

    Raises:
        WrongKey: it cannot be read, made or used.
    """
    path = key_file(database, file)
    try:
        with suppress(FileNotFoundError):
            return _read_key(path)
        _make_key(path)
        return _read_key(path)
    except OSError as error:
        raise WrongKey(f"{path}: {error.strerror}") from None


def existing_key(path: Path) -> bytes | None:
    """Return the key of digests in a file, None if there is no such file; raises as `load_key`."""
    try:
        return _read_key(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise WrongKey(f"{path}: {error.strerror}") from None


def _read_key(path: Path) -> bytes:
    try:
        read = read_private(path, 4 * KEY_LENGTH)
    except UnusableFile as error:
        raise WrongKey(str(error)) from None
    with suppress(ValueError):
        if len(key := bytes.fromhex(read.decode("ascii"))) == KEY_LENGTH:
            return key
    raise WrongKey(f"{path}: it is no key of digests, which has {2 * KEY_LENGTH} hex digits")


def _make_key(path: Path) -> None:
    # Under another name first: who starts at the same time finds either no key or a whole one.
    new = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(f"{secrets.token_hex(KEY_LENGTH)}\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(new, path)
    finally:
        new.unlink(missing_ok=True)


def key_check(key: bytes) -> str:
    """Return what tells a key from others, and nothing else about it."""
    return blake2b(b"harvest-bridge translation log", key=key, digest_size=16).hexdigest()


def open_database(database: str, key: bytes) -> Engine:
    """Open a database to write to it; a new one gets its tables, one of an older bridge new ones.

    Several bridges may do so at once: each waits for the other.

    Raises:
        UnreachableLog: the server does not answer, or somebody else keeps the file locked.
        WrongKey: its digests are made with another key.
        LogError: it cannot be used, or is none of a translation log, or a newer bridge has had it.
    """
    with reported(database):
        if not is_server(database):
            _prepare_file(database)
        engine = _engine(database)
        try:
            with writing(engine) as connection:
                _upgrade(connection, database)
                _claim(connection, key, database)
        except BaseException:
            engine.dispose()
            raise
        return engine


def open_existing(database: str) -> Engine:
    """Open a database that a bridge has made, to ask it.

    Raises:
        UnreachableLog: the server does not answer.
        LogError: there is none, or none of this version.
    """
    with reported(database):
        if not is_server(database):
            _require_file(database)
        engine = _engine(database)
        try:
            with engine.connect() as connection:
                _require_latest(connection, database)
        except BaseException:
            engine.dispose()
            raise
        return engine


class Glance(NamedTuple):
    """What is seen of a database without touching it."""

    revision: str | None
    """Of its tables; None: it has none yet."""
    is_latest: bool
    key_check: str | None
    size: int
    """Bytes that its tables take."""
    lacking: Sequence[str]
    """Tables of a server's that this user may not read and write, or `CREATE`."""


def glance(database: str) -> Glance:
    """Look at a database that bridges may be writing to, and leave it as it is.

    Raises:
        UnreachableLog: the server does not answer.
        LogError: it cannot be read, is none of a translation log, or a newer bridge has had it.
    """
    with looking_at(database) as connection:
        return _glance(connection, database)


@contextmanager
def looking_at(database: str) -> Iterator[Connection]:
    """Open a database for the block, to read only; what goes wrong in it is a `LogError`."""
    with reported(database):
        engine = (
            _engine(database)
            if is_server(database)
            else create_engine(
                "sqlite://", creator=lambda: read_only(Path(database)), poolclass=NullPool
            )
        )
        try:
            with engine.connect() as connection:
                if is_server(database):
                    connection.execute(text("SET TRANSACTION READ ONLY"))
                yield connection
        finally:
            engine.dispose()


def lacking_rights(connection: Connection, tables: Sequence[str]) -> Sequence[str]:
    """Return which of a server's tables this user may not read and write."""
    lacking = text(
        "SELECT name FROM unnest(CAST(:names AS text[])) AS name WHERE EXISTS ("
        "SELECT 1 FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS one "
        "WHERE NOT has_table_privilege(name, one))"
    )
    return connection.execute(lacking, {"names": list(tables)}).scalars().all()


def may_make_tables(connection: Connection) -> bool:
    """Tell whether this user may make tables in a server's schema."""
    may = text("SELECT has_schema_privilege(current_schema(), 'CREATE')")
    return bool(connection.execute(may).scalar())


def _glance(connection: Connection, database: str) -> Glance:
    revision = _revision(connection)
    if revision is not None:
        _refuse_newer(revision, database)
    check = connection.execute(select(INSTALLATION.c.key_check)).scalar() if revision else None
    if not is_server(database):
        if revision is None and inspect(connection).get_table_names():
            raise LogError(f"{database}: it is another program's database, no translation log")
        pages, free, page = (
            connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("page_count", "freelist_count", "page_size")
        )
        return Glance(revision, revision == REVISION, check, (pages - free) * page, ())
    size = connection.execute(
        text(
            "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class "
            "WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace"
        )
    ).scalar_one()
    if revision == REVISION:
        lacking = lacking_rights(connection, [table.name for table in METADATA.sorted_tables])
    else:  # then tables are made, or changed
        lacking = () if may_make_tables(connection) else ("CREATE",)
    return Glance(revision, revision == REVISION, check, int(size), lacking)


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Record all changes of the block at its end, or none; SQLite's one writer is this from now."""
    with engine.connect().execution_options(immediate=True) as connection, connection.begin():
        yield connection


@contextmanager
def reported(database: str) -> Iterator[None]:
    """Raise what goes wrong with the database in the block as `LogError`, in one line."""
    try:
        yield
    except DBAPIError as error:
        told = f"{shown(database)}: {_one_line(error.orig)}"
        raise (UnreachableLog if may_pass(error) else LogError)(told) from None
    except sqlite3.Error as error:
        told = f"{shown(database)}: {_one_line(error)}"
        raise (UnreachableLog if "locked" in str(error) else LogError)(told) from None
    except (SQLAlchemyError, ValueError) as error:
        raise LogError(f"{shown(database)}: {type(error).__name__}") from None
    except OSError as error:
        raise LogError(f"{shown(database)}: {error.strerror}") from None


def may_pass(error: DBAPIError) -> bool:
    """Tell whether what went wrong may be over in a while."""
    if isinstance(error.orig, sqlite3.Error):
        return error.orig.sqlite_errorname.startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))
    state = getattr(error.orig, "sqlstate", None)
    return error.connection_invalidated or state is None or state[:2] in _MAY_PASS


def is_of_data(error: Exception) -> bool:
    """Tell whether a database refuses what it was given, and would again."""
    if isinstance(error, DataError | IntegrityError | UnicodeError | OverflowError):
        return True
    # PostgreSQL's class of limits, such as that of a key's length, is one of operation to psycopg.
    state = getattr(getattr(error, "orig", None), "sqlstate", None)
    return state is not None and state.startswith("54")


def _one_line(error: object) -> str:
    # libpq tells on further lines what it thinks could be done, and names each address it tried.
    return " ".join(str(error).split())[:300]


def _engine(database: str) -> Engine:
    if is_server(database):
        from bridge.record.log.postgresql import server_engine  # noqa: PLC0415

        return server_engine(url_of(database))
    # A file that is gone is not made again unnoticed.
    uri = f"{Path(database).resolve().as_uri()}?mode=rw"
    engine = create_engine(
        "sqlite://",
        creator=lambda: _connect(uri),
        poolclass=QueuePool,
        hide_parameters=True,
    )
    event.listen(engine, "begin", _begin)
    return engine


def _connect(uri: str) -> sqlite3.Connection:
    # With isolation_level None the module begins no transactions of its own.
    connection = sqlite3.connect(
        uri, uri=True, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
    )
    try:
        # In WAL mode, NORMAL can lose the latest calls by a power cut, and damages nothing.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("PRAGMA cache_size = -16384")
        connection.execute("PRAGMA journal_size_limit = 16777216")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _begin(connection: Connection) -> None:
    immediate = connection.get_execution_options().get("immediate")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def _require_file(database: str) -> None:
    with Path(database).open("rb"):
        pass


def _prepare_file(database: str) -> None:
    """Make the file if there is none; whatever is in it has to be a translation log."""
    path = Path(database)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    with path.open("r+b"):
        pass
    with closing(_connect(f"{path.resolve().as_uri()}?mode=rw")) as connection:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and application != _APPLICATION_ID:
            raise LogError(f"{database}: it is another program's database, no translation log")
        if not tables:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        _use_wal(connection)


def _use_wal(connection: sqlite3.Connection) -> None:
    end = time.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            # SQLite does not wait for another process here, as it does elsewhere.
            if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return


def _revision(connection: Connection) -> str | None:
    """Return which revision of the tables a database has, None if it has no tables of ours."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _require_latest(connection: Connection, database: str) -> None:
    if (revision := _revision(connection)) == REVISION:
        return
    if revision is None:
        what = "it is no translation log"
    else:
        _refuse_newer(revision, database)
        what = "an older bridge made it"
    raise LogError(f"{shown(database)}: {what}: start the bridge with it first")


def _refuse_newer(revision: str | None, database: str) -> None:
    from bridge.record.log.upgrading import is_known  # noqa: PLC0415

    if not is_known(revision):
        raise LogError(f"{shown(database)}: a newer bridge has had it: this one is too old for it")


def _upgrade(connection: Connection, database: str) -> None:
    if is_server(database):
        connection.execute(text("SELECT pg_advisory_xact_lock(:id)"), {"id": ADVISORY_LOCK})
    if (revision := _revision(connection)) == REVISION:
        return
    from bridge.record.log.upgrading import upgrade  # noqa: PLC0415

    _refuse_newer(revision, database)
    upgrade(connection)
    if not is_server(database):
        connection.exec_driver_sql(f"PRAGMA application_id = {_APPLICATION_ID}")


def _claim(connection: Connection, key: bytes, database: str) -> None:
    """Bind the database to the key of its digests, or find out that it is bound to another one."""
    check = connection.execute(select(INSTALLATION.c.key_check)).scalar()
    if check is None:
        connection.execute(insert(INSTALLATION), {"key_check": key_check(key)})
    elif check != key_check(key):
        raise WrongKey(
            f"{shown(database)}: its digests are made with another key: put that back, "
            "or begin a new database"
        )
