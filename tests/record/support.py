"""Writes to put on record, and a clock that a test sets."""

import sqlite3
from contextlib import AbstractAsyncContextManager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bridge.record.journal import Journal, open_journal
from bridge.v2.clock import Moment, V2Clock
from bridge.v2.wire import V2Request
from bridge.v2.writes import Intent, Write

WINDOW = timedelta(hours=24)
NOON = datetime(2026, 3, 1, 12, 0, 0, 250, tzinfo=UTC)


class Clock:
    """Stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.now = NOON

    def advance(self, by: timedelta) -> None:
        self.now += by


class Told(V2Clock):
    """v2's clock, which shows just what another does."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def now(self) -> Moment:
        steady = (self._clock.now - NOON).total_seconds()
        return Moment(self._clock.now, by_v2=True, steady=steady)


def a_write(text: str = "Dear Customer", *, invoice_id: int = 1420) -> Write:
    request = V2Request("POST", f"/invoices/{invoice_id}/messages", body=text.encode())
    return Write("invoice-messages", request, b"like " + text.encode())


def opened(
    path: Path | str, clock: Clock, window: timedelta = WINDOW
) -> AbstractAsyncContextManager[Journal]:
    return open_journal(path, window=window, clock=Told(clock))


async def begun(journal: Journal, text: str = "Dear Customer", **more: int) -> Intent:
    return await journal.begin(
        a_write(text, invoice_id=more.get("invoice_id", 1420)),
        account_id=more.get("account_id", 1000),
        request_id="r-1",
    )


def as_of_version_1(path: Path) -> None:
    """Make a journal what it was: it said nothing of whose clock it used, nor of tokens."""
    with closing(sqlite3.connect(path)) as connection:
        for column in ("by_v2", "touched_by_v2", "intended_steady", "touched_steady"):
            connection.execute(f"ALTER TABLE intents DROP COLUMN {column}")
        connection.execute("DROP TABLE accepted")
        connection.execute("PRAGMA user_version = 1")
