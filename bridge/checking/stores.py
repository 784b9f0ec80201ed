"""The journal of writes and the translation log: whether a bridge could use them as they are."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from bridge.checking.findings import Finding, ok, warning, wrong
from bridge.record.journal.glance import (
    Glance,
    glance_at_file,
    glance_at_server,
    writes_not_moved,
)
from bridge.record.journal.rules import JournalError
from bridge.record.log.database import (
    LogError,
    UnreachableLog,
    existing_key,
    is_server,
    key_check,
    key_file,
    shown,
)
from bridge.record.log.database import glance as glance_at_log
from bridge.record.looking import is_writable
from bridge.settings import Settings, where

FULL = 0.9
"""Of `calls_kept_bytes`, what is soon all of it."""

MAKE_WRITABLE = "give this user a folder to write to: mkdir, chown, or mount it writable"


def check_journal(settings: Settings) -> Iterator[Finding]:
    """Tell whether the journal can be used, whether a bridge does, and what is not settled."""
    if is_server(settings.database):
        yield from _check_not_moved(settings)
        yield from _check_shared_journal(settings.database)
        return
    name, path = "journal", settings.journal
    try:
        seen = glance_at_file(path) if path.exists() else None
    except JournalError as error:
        yield wrong(name, str(error), f"put it right {where('journal')}")
        return
    if why := _why_not_writable(path):
        yield wrong(name, why, MAKE_WRITABLE)
    elif seen is None:
        yield ok(name, f"{path}: is made at the first start")
    else:
        yield from _unsettled(str(path), seen)
        if seen.bridges:
            told = f"{path}: a bridge runs with it"
            mend = "if that is not the one that you mean: each has its own journal"
            yield warning(name, told, mend)
        elif not seen.unsettled:
            yield ok(name, f"{path}: can be used; all writes are settled")


def _why_not_writable(path: Path) -> str | None:
    if not path.parent.is_dir():
        return f"{path}: there is no folder {path.parent}"
    return None if is_writable(path) else f"{path}: this user cannot write to it"


def _check_not_moved(settings: Settings) -> Iterator[Finding]:
    path = settings.journal
    if not path.exists():
        return
    try:
        number = writes_not_moved(path, timedelta(seconds=settings.repeat_window))
    except JournalError as error:
        yield wrong("journal", str(error), f"put it right {where('journal')}")
        return
    if number:
        told = f"{path}: writes that it knows of and the database does not: {number}"
        mend = "stop the bridge that has it, then `harvest-bridge journal --move`"
        yield wrong("journal", told, mend)


def _check_shared_journal(database: str) -> Iterator[Finding]:
    try:
        seen = glance_at_server(database)
    except LogError as error:
        yield wrong("journal", str(error), f"see to the server {where('database')}")
        return
    if seen is None:
        yield ok("journal", f"{shown(database)}: is made at the first start")
    elif seen.lacking:
        told = f"{shown(database)}: this user lacks rights: {', '.join(seen.lacking)}"
        yield wrong("journal", told, GRANT)
    else:
        yield from _unsettled(shown(database), seen)
        yield ok("journal", f"{shown(database)}: can be used; bridges that do: {seen.bridges}")


def _unsettled(journal: str, seen: Glance) -> Iterator[Finding]:
    if seen.unsettled:
        told = f"{journal}: writes whose outcome is not known: {seen.unsettled}"
        yield warning("journal", told, "settle them: `harvest-bridge journal --reconcile`")


def check_database(settings: Settings) -> Iterator[Finding]:
    """Tell whether the translation log can be used, is this key's, and how full it is."""
    name, database = "database", settings.database
    try:
        key_path = key_file(database, settings.database_key)
        key = existing_key(key_path)
        seen = glance_at_log(database) if is_server(database) or Path(database).exists() else None
    except UnreachableLog as error:
        yield wrong(name, str(error), f"see to the server {where('database')}")
        return
    except LogError as error:
        yield wrong(name, str(error), f"put it right {where(error.setting)}")
        return
    if not is_server(database) and (why := _why_not_writable(Path(database))):
        yield wrong(name, why, MAKE_WRITABLE)
        return
    if key is None and not is_writable(key_path):
        yield wrong(name, f"{key_path}: no such key, and none can be made", MAKE_WRITABLE)
        return
    if seen is None or seen.revision is None:
        if seen is not None and seen.lacking:
            yield wrong(name, f"{shown(database)}: no right to make tables", GRANT_CREATE)
            return
        yield ok(name, f"{shown(database)}: its tables are made at the first start")
        return
    if seen.key_check is not None and (key is None or key_check(key) != seen.key_check):
        told = f"{shown(database)}: its digests are made with another key than {key_path}"
        yield wrong(name, told, f"put that key back, or begin a new database {where('database')}")
    if seen.lacking:
        told = f"{shown(database)}: this user lacks rights: {', '.join(seen.lacking)}"
        mend = GRANT_CREATE if seen.lacking == ["CREATE"] else GRANT
        yield wrong(name, told, mend)
    share = seen.size / settings.calls_kept_bytes
    told = f"{shown(database)}: {seen.size} of {settings.calls_kept_bytes} bytes"
    if share > FULL:
        mend = f"the oldest calls go before their time: give more {where('calls_kept_bytes')}"
        yield warning(name, told, mend)
    else:
        revision = "" if seen.is_latest else ", of an older bridge: upgraded at the next start"
        yield ok(name, f"{told}{revision}")


GRANT = "GRANT SELECT, INSERT, UPDATE, DELETE on them to it"
GRANT_CREATE = "GRANT CREATE on its schema to the user, for the start that makes them"
