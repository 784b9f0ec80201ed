"""How calls are found among millions: by their keys, and by the counts that tell where to look.

What is asked for, and what an answer looks like, is in `reports`.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, Select, and_, func, or_, select, true

from bridge.record.log.events import Outcome
from bridge.record.log.ids import TIME_SHIFT
from bridge.record.log.tables import CALLS, DAYS, HOURS, NOTES
from bridge.record.log.times import DAY, HOUR

FIRST_SLICE = 500
SLICE = 20_000
"""Calls that one statement looks at: few at first, for what is common is found at once."""
MOST_LOOKED_AT = 100_000
"""Calls that are looked at for one page, but for the last slice."""
MOST_HOURS = 48
"""Hours that are looked into for one page."""
MOST_DAYS = 14
"""Days whose counts by the hour are read for one page: of 500 integrations, 100,000 rows a day."""
MOST_NAMED = 200
"""Integrations that are named one by one."""


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which calls; None: any. Times are milliseconds since 1970, `until` excluded."""

    integration: str | None = None
    method: str | None = None
    route: str | None = None
    """A route, or a path without one."""
    status: int | None = None
    outcome: Outcome | None = None
    refusal: str | None = None
    note: str | None = None
    """A code."""
    request_id: str | None = None
    since: int | None = None
    until: int | None = None


class _Stretch(NamedTuple):
    """Where to look: ids from `low` on and below `high`, and what an index can tell apart."""

    low: int
    high: int
    access: ColumnElement[bool] | None
    """None: that is for another page."""


def latest(
    connection: Connection, filter_: Filter, before: int | None, limit: int
) -> tuple[Sequence[Row[Any]], int | None]:
    """Return rows of `calls`, the latest first, and the id below which to go on.

    That is None where there are no more. What is looked at has bounds, so there may be fewer rows
    than `limit`, even none, and yet more to come: where to go on is what has not been looked at.
    """
    low, high = _bounds(connection, filter_, before)
    if low >= high:
        return [], None
    conditions = _conditions(filter_)
    rows: list[Row[Any]] = []
    looked_at = 0
    size = FIRST_SLICE
    for at, stretch in enumerate(_stretches(connection, filter_, low, high)):
        if stretch.access is None or at == MOST_HOURS or looked_at >= MOST_LOOKED_AT:
            return rows, stretch.high
        below = stretch.high
        while below > stretch.low:
            if looked_at >= MOST_LOOKED_AT:
                return rows, below
            ids = (
                select(CALLS.c.id)
                .where(stretch.access, CALLS.c.id >= stretch.low, CALLS.c.id < below)
                .order_by(CALLS.c.id.desc())
                .limit(size)
            )
            found, seen, lowest = _look(connection, ids, conditions, limit + 1 - len(rows))
            below = lowest if seen == size else stretch.low
            rows += found
            if len(rows) > limit:
                return rows[:limit], rows[limit - 1].id
            looked_at += seen
            size = min(4 * size, SLICE)
    return rows, None


def ends_of(connection: Connection, key: ColumnElement[int]) -> tuple[int, int] | None:
    """Return the lowest and the highest value of what begins a key; None: the table is empty."""
    # Each by itself: SQLite reads the whole table for both at once.
    lowest = select(func.min(key)).scalar_subquery()
    highest = select(func.max(key)).scalar_subquery()
    first, last = connection.execute(select(lowest, highest)).one()
    return None if first is None else (first, last)


def _look(
    connection: Connection, slice_: Select[int], conditions: ColumnElement[bool], limit: int
) -> tuple[Sequence[Row[Any]], int, int]:
    """Look at a slice of calls: return those that match, how many there are, and the lowest id."""
    ids = slice_.subquery()
    found = connection.execute(
        select(CALLS)
        .join(ids, ids.c.id == CALLS.c.id)
        .where(conditions)
        .order_by(CALLS.c.id.desc())
        .limit(limit)
    ).all()
    if len(found) == limit:  # the page is full
        return found, 0, 0
    seen, lowest = connection.execute(select(func.count(), func.min(ids.c.id))).one()
    return found, seen, lowest


def _bounds(connection: Connection, filter_: Filter, before: int | None) -> tuple[int, int]:
    ends = ends_of(connection, CALLS.c.id)
    if ends is None:
        return 0, 0
    oldest, newest = ends
    low = oldest if filter_.since is None else max(oldest, filter_.since << TIME_SHIFT)
    high = newest + 1 if before is None else min(newest + 1, before)
    return low, high if filter_.until is None else min(high, filter_.until << TIME_SHIFT)


def _conditions(filter_: Filter) -> ColumnElement[bool]:
    c = CALLS.c
    conditions: list[ColumnElement[bool]] = [
        c[name] == value
        for name in ("integration", "method", "status", "outcome", "refusal", "request_id")
        if (value := getattr(filter_, name)) is not None
    ]
    if filter_.route is not None:
        no_route = and_(c.route.is_(None), c.path == filter_.route)
        conditions.append(or_(c.route == filter_.route, no_route))
    if filter_.note is not None:
        conditions.append(c.notes.contains(f'"code":"{filter_.note}"', autoescape=True))
    return and_(true(), *conditions)


def _stretches(connection: Connection, filter_: Filter, low: int, high: int) -> Iterator[_Stretch]:
    """Return where calls that match may be, the latest first."""
    if filter_.request_id is not None:
        yield _Stretch(low, high, CALLS.c.request_id == filter_.request_id)
        return
    named = [name for name in _COUNTED if getattr(filter_, name) is not None]
    if not named or named == ["integration"]:
        of_it = true() if not named else CALLS.c.integration == filter_.integration
        yield _Stretch(low, high, of_it)
        return
    if named == ["outcome"] and filter_.outcome is not Outcome.SERVED:
        yield _Stretch(low, high, _not_served([str(filter_.outcome)]))
        return
    for at, (day, cells) in enumerate(_days(connection, filter_, low, high)):
        if at == MOST_DAYS and filter_.integration is None:
            _, behind = _ids_of_hour(day * 24 + 23)
            yield _Stretch(low, min(behind, high), None)
            return
        for hour, integrations, outcomes in _hours(connection, filter_, day, cells):
            first, behind = _ids_of_hour(hour)
            first, behind = max(first, low), min(behind, high)
            if first < behind:
                yield _Stretch(first, behind, _access(integrations, outcomes))


_COUNTED = ("integration", "method", "route", "status", "outcome", "refusal", "note")
"""What the counts by hour and day know of a call."""


def _access(integrations: set[str], outcomes: set[str]) -> ColumnElement[bool]:
    """Return the condition that leaves the least to look at, of those with an index."""
    if Outcome.SERVED not in outcomes:
        return _not_served(sorted(outcomes))
    if len(integrations) > MOST_NAMED:
        return true()
    return CALLS.c.integration.in_(sorted(integrations))


def _not_served(outcomes: list[str]) -> ColumnElement[bool]:
    # The second half is what the index is restricted to: SQLite wants to see it.
    return and_(CALLS.c.outcome.in_(outcomes), CALLS.c.outcome != "served")


def _ids_of_hour(hour: int) -> tuple[int, int]:
    return hour * HOUR << TIME_SHIFT, (hour + 1) * HOUR << TIME_SHIFT


_Cells = set[tuple[str, str, str]]
"""Integrations, methods and routes whose calls of a day have the note that is asked for."""


def _days(
    connection: Connection, filter_: Filter, low: int, high: int
) -> Iterator[tuple[int, _Cells | None]]:
    """Return the days that have such calls, the latest first."""
    table = DAYS if filter_.note is None else NOTES
    first, last = (low >> TIME_SHIFT) // DAY, (high - 1 >> TIME_SHIFT) // DAY
    within = and_(table.c.day >= first, table.c.day <= last)
    matching = _counted(table, filter_)
    if filter_.note is None:
        days = select(table.c.day).where(within, matching).distinct().order_by(table.c.day.desc())
        for day in connection.execute(days).scalars().all():
            yield day, None
        return
    c = NOTES.c
    noted = select(c.day, c.integration, c.method, c.route).where(within, matching).distinct()
    by_day: defaultdict[int, _Cells] = defaultdict(set)
    for day, *cell in connection.execute(noted):
        by_day[day].add((cell[0], cell[1], cell[2]))
    yield from sorted(by_day.items(), reverse=True)


def _hours(
    connection: Connection, filter_: Filter, day: int, cells: _Cells | None
) -> Iterator[tuple[int, set[str], set[str]]]:
    """Return the hours that may have such calls, with whose and which outcomes these are."""
    c = HOURS.c
    # Named one by one, so that the key's next column can be used, too.
    within = c.hour.in_(range(day * 24, day * 24 + 24))
    keys = select(c.hour, c.integration, c.method, c.route, c.outcome)
    noted = true() if cells is None else c.with_notes > 0
    integrations: defaultdict[int, set[str]] = defaultdict(set)
    outcomes: defaultdict[int, set[str]] = defaultdict(set)
    matching = keys.where(within, _counted(HOURS, filter_), noted).distinct()
    for hour, integration, method, route, outcome in connection.execute(matching):
        if cells is None or (integration, method, route) in cells:
            integrations[hour].add(integration)
            outcomes[hour].add(outcome)
    for hour in sorted(integrations, reverse=True):
        yield hour, integrations[hour], outcomes[hour]


def _counted(table: Any, filter_: Filter) -> ColumnElement[bool]:  # noqa: ANN401
    """Return the condition on the rows of counts, as far as these know what is asked for."""
    names = {"note": "code"}
    return and_(
        true(),
        *(
            table.c[column] == value
            for name in _COUNTED
            if (value := getattr(filter_, name)) is not None
            and (column := names.get(name, name)) in table.c
        ),
    )
