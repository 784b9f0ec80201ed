"""From a file to a server: what the file knows is copied, once, and the file put aside.

And what keeps a bridge from beginning with a server while a file still knows of writes.
"""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from bridge.record.journal.rules import CLAIM_MARGIN, JournalError, microseconds
from bridge.record.journal.sqlite import FileStore, is_locked, locked, reported
from bridge.v2.clock import MOST_SKEW, V2Clock

_INTENTS = "SELECT * FROM intents WHERE outcome <> 'not-done' ORDER BY id"

# A write of which a client may come again, or that a look might still take for another's.
OF_USE = """
    SELECT count(*) AS number FROM intents
    WHERE outcome IN ('open', 'unknown')
        OR (touched_at >= :since AND (outcome = 'absent' OR (outcome = 'done' AND NOT delivered)))
        OR (touched_at >= :lately AND outcome = 'done')
"""


def times_of_use(window: timedelta) -> Mapping[str, int]:
    """Return what `OF_USE` has to be given, for writes that are repeated within `window`."""
    now = V2Clock().now().at - MOST_SKEW
    return {"since": microseconds(now - window), "lately": microseconds(now - CLAIM_MARGIN)}


def require_moved(path: Path, window: timedelta) -> None:
    """Make sure that no file at `path` knows what a bridge with another journal has to know.

    Raises:
        JournalError: it does, or it cannot be read.
    """
    if not path.exists():
        return
    with reported(path):
        store = FileStore(path, upgrade=not is_locked(path))
        try:
            number = store.execute(OF_USE, times_of_use(window)).fetchone()["number"]
        finally:
            store.close()
    if number:
        raise JournalError(
            path,
            f"it knows of {number} writes that the database does not: stop the bridge that has it, "
            "and move them by `harvest-bridge journal --move`",
        )


def move(path: Path, database: str) -> tuple[int, Path]:
    """Copy what the journal at `path` knows to a server, in one transaction, and rename the file.

    Returns how many writes were copied, and the file's new name. Should the command be killed
    before the file has it, the next one copies nothing twice.

    Raises:
        JournalError: a bridge has the file, it cannot be read, or the server not be written to.
    """
    from bridge.record.journal.postgresql import receiving  # noqa: PLC0415 - psycopg

    with reported(path):
        if not path.exists():
            raise JournalError(path, "there is no such file")
        aside = path.with_name(f"{path.name}.moved")
        if aside.exists():
            raise JournalError(path, f"{aside} is in the way: put that elsewhere")
        with locked(path) as free:
            if not free:
                raise JournalError(path, "it is in use by a bridge: stop that first")
            store = FileStore(path)
            try:
                intents: list[Mapping[str, Any]] = [
                    dict(row) for row in store.execute(_INTENTS).fetchall()
                ]
                accepted = [dict(row) for row in store.execute("SELECT * FROM accepted").fetchall()]
            finally:
                store.close()  # which moves what is in its -wal into it
            with receiving(database) as server:
                number = server.receive(intents, accepted)
            path.rename(aside)
    return number, aside
