"""What the translation log keeps for how long, and how what is too old makes room, bit by bit.

Single calls, and what was captured and compared of them, go by age, and the oldest ones where the
database takes too many bytes: captures before any call, and where calls that were not served take
more than half, these before others, for strangers make as many as they like. Counts by hours are
kept for 90 days; counts by days, and who has called, for ever.
"""

import time
from collections.abc import Callable
from math import ceil

from sqlalchemy import Connection, Engine, Table, and_, delete, func, select, text

from bridge.record.log.database import ADVISORY_LOCK, writing
from bridge.record.log.ids import TIME_SHIFT
from bridge.record.log.tables import CALLS, CAPTURES, COMPARISONS, CONNECTIONS, DAYS, HOURS
from bridge.record.log.times import DAY, HOUR

HOURS_KEPT = 90 * 24
"""Hours that are counted one by one."""

CONNECTIONS_KEPT = 90
"""Days that failed connections are kept: their networks are whoever's."""

STEP = 500
"""Calls that one step removes at most: who writes meanwhile waits for that long."""

PAGES = 500
"""Pages of the SQLite file that one step gives back to the disk."""

LOOK_EVERY = 5.0
"""Seconds until the next look, where the last one has found nothing to remove."""

RECOUNT_EVERY = 60.0
"""Seconds until calls that were not served are counted again, where the database is too large."""

BYTES_OF_CALL = 800
"""What a call takes, its entries in indexes included: from 400 in SQLite to 1,000 in PostgreSQL."""

TOLD_FOR = 3600.0
"""Seconds that calls which went before their time are told of."""

_ROW_OVERHEAD = 150
"""Bytes that PostgreSQL takes for a call besides its columns: a header, and entries of indexes."""

_SAMPLE = 200
"""Rows by which PostgreSQL's bytes a row are estimated."""


class Retention:
    """Removes what need not be kept; of several bridges, one at a time does."""

    def __init__(self, *, days: int, size: int, clock: Callable[[], float] = time.time) -> None:
        """Keep calls for so many `days`, in a database of about `size` bytes.

        `clock` answers seconds since 1970.
        """
        self._days = days
        self._size = size
        self._clock = clock
        self._next = 0.0
        self._recount = 0.0
        self._too_many = "", 0
        """The most frequent outcome but `served`, and how many calls of it are too many."""
        self._cut_until = float("-inf")
        """Until when it is told that calls go before their time."""
        self._kept = 0.0
        """Days back to the oldest call, when one went before its time."""
        self._surplus: tuple[int, int] | None = None
        """Captures and calls of PostgreSQL that have still to go, by the estimate of this look.

        None: it is not made. What is removed shows in the next estimate only after a while.
        """

    def keep(self, *, days: int, size: int) -> None:
        """Keep calls for so many days and bytes from now on, and look soon."""
        self._days, self._size, self._next = days, size, 0.0

    def problem(self) -> str | None:
        """Return, in a few words, that calls go before their time; None: they do not."""
        if time.monotonic() >= self._cut_until:
            return None
        return f"calls_kept_bytes is used up: the oldest call is {self._kept:.1f} days old"

    def step(self, engine: Engine) -> bool:
        """Remove a little, if it is time to look; tell whether there may be more."""
        if time.monotonic() < self._next:
            return False
        with writing(engine) as connection:
            more = _is_ours(connection) and (
                self._remove_old(connection) or self._make_room(connection)
            )
        if not more:
            self._surplus = None
            self._next = time.monotonic() + LOOK_EVERY
        return more

    def _remove_old(self, connection: Connection) -> bool:
        now = int(self._clock() * 1000)
        return (
            _remove_calls(connection, STEP, (now - self._days * DAY) << TIME_SHIFT)
            or _remove_period(connection, HOURS, now // HOUR - HOURS_KEPT)
            or _remove_period(connection, CONNECTIONS, now // DAY - CONNECTIONS_KEPT)
        )

    def _make_room(self, connection: Connection) -> bool:
        if connection.dialect.name == "sqlite":
            used, free, page = (
                connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
                for name in ("page_count", "freelist_count", "page_size")
            )
            if (used - free) * page > self._size:
                return _remove_captures(connection, STEP) or self._cut(connection, STEP)
            if used * page > self._size and free:
                # Each of its rows, which have no columns, gives one page back.
                file = connection.connection.driver_connection
                file.execute(f"PRAGMA incremental_vacuum({PAGES})").fetchall()  # type: ignore[union-attr]
                return True
            return False
        if self._surplus is None:
            self._surplus = _surplus(connection, self._size)
        captures, calls = self._surplus
        if step := min(captures, STEP):
            self._surplus = captures - step, calls
            _remove_captures(connection, step)
            return True
        step = min(calls, STEP)
        self._surplus = captures, calls - step
        return step > 0 and self._cut(connection, step)

    def _cut(self, connection: Connection, most: int) -> bool:
        """Remove calls before their time; tell whether there were any."""
        if time.monotonic() >= self._recount:
            self._recount = time.monotonic() + RECOUNT_EVERY
            self._too_many = _too_many(connection, self._size // 2)
        outcome, number = self._too_many
        if number > 0:
            self._too_many = outcome, number - most
            removed = _remove_of_outcome(connection, most, outcome)
        else:
            removed = _remove_calls(connection, most)
        oldest = connection.execute(select(func.min(CALLS.c.id))).scalar()
        if removed and oldest is not None:
            self._kept = (self._clock() * 1000 - (oldest >> TIME_SHIFT)) / DAY
            self._cut_until = time.monotonic() + TOLD_FOR
        return removed


def _is_ours(connection: Connection) -> bool:
    if connection.dialect.name == "sqlite":
        return True
    ours = text("SELECT pg_try_advisory_xact_lock(:id)")
    return bool(connection.execute(ours, {"id": ADVISORY_LOCK + 1}).scalar())


_OF_CALLS = (CALLS, CAPTURES, COMPARISONS)
"""Tables with at most one row a call, by its id."""


def _remove_calls(connection: Connection, most: int, below: int | None = None) -> bool:
    """Remove the oldest calls, with all that is kept of them; tell whether there were any."""
    oldest = select(CALLS.c.id).order_by(CALLS.c.id).limit(most)
    if below is not None:
        oldest = oldest.where(CALLS.c.id < below)
    last = connection.execute(select(func.max(oldest.subquery().c.id))).scalar()
    if last is None:
        return False
    for table in _OF_CALLS:
        connection.execute(delete(table).where(table.c.id <= last))
    return True


def _too_many(connection: Connection, size: int) -> tuple[str, int]:
    """Return the most frequent outcome but `served`, and how many of its calls have to go for all
    that were not served to take no more than `size` bytes.
    """
    numbers = connection.execute(
        select(CALLS.c.outcome, func.count())
        .where(CALLS.c.outcome != "served")
        .group_by(CALLS.c.outcome)
    )
    counts: dict[str, int] = {outcome: int(number) for outcome, number in numbers}
    most = max(counts, key=counts.__getitem__, default="")
    return most, min(counts.get(most, 0), sum(counts.values()) - size // BYTES_OF_CALL)


def _remove_of_outcome(connection: Connection, most: int, outcome: str) -> bool:
    """Remove the oldest calls with an outcome but `served`; tell whether there were any."""
    # The second half is what the index is restricted to: SQLite wants to see it.
    of_it = and_(CALLS.c.outcome == outcome, CALLS.c.outcome != "served")
    oldest = select(CALLS.c.id).where(of_it).order_by(CALLS.c.id).limit(most)
    ids = list(connection.execute(oldest).scalars())
    for table in _OF_CALLS:
        connection.execute(delete(table).where(table.c.id.in_(ids)))
    return bool(ids)


def _remove_captures(connection: Connection, most: int) -> bool:
    """Remove the oldest captures, for calls are worth more; tell whether there were any."""
    oldest = select(CAPTURES.c.id).order_by(CAPTURES.c.id).limit(most)
    return connection.execute(delete(CAPTURES).where(CAPTURES.c.id.in_(oldest))).rowcount > 0


def _remove_period(connection: Connection, table: Table, below: int) -> bool:
    """Remove the oldest hour or day of a table, if it lies before one; tell whether it does."""
    period = next(iter(table.primary_key.columns))
    oldest = connection.execute(select(func.min(period))).scalar()
    if oldest is None or oldest >= below:
        return False
    connection.execute(delete(table).where(period == oldest))
    return True


def _surplus(connection: Connection, size: int) -> tuple[int, int]:
    """Return how many captures and calls PostgreSQL has to lose to take no more than `size` bytes.

    Its files do not shrink when rows go: room is used again. So what counts is an estimate of what
    the rows take, not how large the files are.
    """
    files = select(func.sum(func.pg_total_relation_size(text("c.oid")))).select_from(
        text("pg_class c WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace")
    )
    total = connection.execute(files).scalar() or 0
    if total <= size:
        return 0, 0
    calls = _kept_calls(connection)
    of_call = _ROW_OVERHEAD + _bytes_of_one(connection, "calls", "pg_column_size(t.*)")
    captures = connection.execute(select(func.count()).select_from(CAPTURES)).scalar_one()
    of_capture = _bytes_of_one(connection, "captures", "pg_column_size(t.exchange)")
    if calls:
        compared = connection.execute(select(func.count()).select_from(COMPARISONS)).scalar_one()
        of_call += (
            compared
            / calls
            * (_ROW_OVERHEAD + _bytes_of_one(connection, "comparisons", "pg_column_size(t.*)"))
        )
    counted = connection.execute(
        text("SELECT sum(pg_total_relation_size(oid)) FROM unnest(:names ::regclass[]) AS oid"),
        {
            "names": [
                "call_hours",
                "call_days",
                "note_days",
                "comparison_days",
                "integrations",
                "failed_connections",
            ]
        },
    ).scalar()
    taken = calls * of_call + captures * of_capture + int(counted or 0)
    over = max(0.0, taken - size)
    first = min(captures, over / of_capture) if of_capture else 0.0
    return ceil(first), int(max(0.0, over - first * of_capture) / of_call)


def _kept_calls(connection: Connection) -> int:
    """Return how many calls there are, but for some of the oldest hour, by what is counted.

    The server's statistics may be twice too high for a while, or nothing after a crash.
    """
    oldest = connection.execute(select(func.min(CALLS.c.id))).scalar()
    if oldest is None:
        return 0
    hour, day = (oldest >> TIME_SHIFT) // HOUR, (oldest >> TIME_SHIFT) // DAY
    of_its_day = select(func.coalesce(func.sum(HOURS.c.calls), 0)).where(
        HOURS.c.hour >= hour, HOURS.c.hour < (day + 1) * 24
    )
    since = select(func.coalesce(func.sum(DAYS.c.calls), 0)).where(DAYS.c.day > day)
    return int(connection.execute(of_its_day).scalar_one()) + int(
        connection.execute(since).scalar_one()
    )


def _bytes_of_one(connection: Connection, table: str, size: str) -> float:
    """Return about how many bytes a row has."""
    sample = f"SELECT * FROM {table} ORDER BY id DESC LIMIT {_SAMPLE}"
    of_one = connection.execute(text(f"SELECT avg({size}) FROM ({sample}) AS t")).scalar()
    return float(of_one or 0)
