"""A glance at a journal from outside: what `harvest-bridge check` tells of it. Nothing is written.

To list what is in it, and to settle that, is the business of `inspection`.
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from sqlalchemy import inspect, text

from bridge.record.journal.moving import OF_USE, times_of_use
from bridge.record.journal.postgresql import JOURNAL_LOCK
from bridge.record.journal.sqlite import LOCKED_BYTE, reported, require_readable
from bridge.record.log.database import lacking_rights, looking_at
from bridge.record.looking import is_held, read_only


@dataclass(frozen=True, slots=True)
class Glance:
    """What is seen of a journal without touching it."""

    bridges: int
    """That run with it."""
    unsettled: int
    """Writes whose outcome is not known, but for those that a bridge is making."""
    lacking: Sequence[str] = ()
    """Tables of a server's that this user may not read and write."""


def glance_at_file(path: Path) -> Glance:
    """Look at the journal at `path`, which a bridge may be using, and leave it as it is.

    Raises:
        JournalError: it cannot be read, or is no journal that this bridge knows.
    """
    with reported(path):
        in_use = is_held(path, LOCKED_BYTE)
        with closing(read_only(path)) as connection:
            require_readable(connection, path)
            counts = dict(
                connection.execute(
                    "SELECT outcome, count(*) FROM intents WHERE outcome IN ('open', 'unknown') "
                    "GROUP BY outcome"
                ).fetchall()
            )
    return Glance(int(in_use), counts.get("unknown", 0) + (0 if in_use else counts.get("open", 0)))


def writes_not_moved(path: Path, window: timedelta) -> int:
    """Return how many writes a file knows of that a bridge with a server has to know, too.

    With any, such a bridge does not start (`moving.require_moved`).

    Raises:
        JournalError: the file cannot be read, or is no journal that this bridge knows.
    """
    with reported(path), closing(read_only(path)) as connection:
        require_readable(connection, path)
        (number,) = connection.execute(OF_USE, times_of_use(window)).fetchone()
    return int(number)


_TABLES = ("accepted", "intents", "journal_version", "lives")
_BRIDGES = """
    SELECT count(DISTINCT objid) FROM pg_locks
    WHERE locktype = 'advisory' AND classid = CAST(:lock AS oid) AND objsubid = 2 AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_UNSETTLED = """
    SELECT count(*) FROM intents WHERE outcome = 'unknown'
        OR (outcome = 'open' AND until < extract(epoch FROM clock_timestamp()))
"""


def glance_at_server(database: str) -> Glance | None:
    """Look at the journal in a server's database and leave it as it is; None: there is none yet.

    Raises:
        LogError: it cannot be read.
    """
    with looking_at(database) as connection:
        if not inspect(connection).has_table("journal_version"):
            return None
        if lacking := lacking_rights(connection, _TABLES):
            return Glance(0, 0, lacking)
        bridges = connection.execute(text(_BRIDGES), {"lock": JOURNAL_LOCK}).scalar_one()
        return Glance(bridges, connection.execute(text(_UNSETTLED)).scalar_one())
