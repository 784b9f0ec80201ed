"""Who would have been turned away in the last seven days by a brownout, counted from the log.

Exactly, as long as single calls are kept: whole hours are counted already. Of what is older, whole
hours are all there is, and the counts are the most that it can have been.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Select, func, select

from bridge.record.log.brownouts import Brownout
from bridge.record.log.events import ALL, Outcome
from bridge.record.log.ids import TIME_SHIFT
from bridge.record.log.schedules import Stretch
from bridge.record.log.tables import CALLS, HOURS, INTEGRATIONS
from bridge.record.log.times import HOUR

Kind = tuple[str, str, str]
"""Integration, method, and route; or the path, where there is no route."""


class Counted(msgspec.Struct, frozen=True):
    """What would have been turned away."""

    stretches: list[Stretch]
    """When it would have been on."""
    calls: dict[Kind, int]
    is_exact: bool
    """False: so many at the most."""
    since: int | None
    """When the log begins, milliseconds since 1970; None: it is empty."""


def count(connection: Connection, brownouts: Sequence[Brownout], now: int) -> Counted:
    """Count the calls that would have been turned away, had these been on in the last seven days.

    Left out are calls that would not have come so far: without a good credential, or to a part of
    v1 that nobody answers.
    """
    accepted = select(INTEGRATIONS.c.id).where(INTEGRATIONS.c.is_known)
    known = set(connection.execute(accepted).scalars())
    oldest = connection.execute(select(func.min(CALLS.c.id))).scalar()
    kept_since = now if oldest is None else oldest >> TIME_SHIFT
    began = connection.execute(select(func.min(HOURS.c.hour))).scalar()
    calls: Counter[Kind] = Counter()
    roughly: dict[int, set[Brownout]] = {}
    on = [(each, stretch) for each in brownouts for stretch in each.latest_week(now)]

    def add(meant: set[Brownout], found: Iterator[tuple[Kind, int]]) -> bool:
        is_any = False
        for (integration, method, route), number in found:
            if integration in known and any(
                each.integration in {ALL, integration} and each.has(method, route) for each in meant
            ):
                calls[integration, method, route] += number
                is_any = True
        return is_any

    for begin, end in pairwise(sorted({at for _, stretch in on for at in stretch})):
        meant = {each for each, stretch in on if stretch.begin <= begin < stretch.end}
        first, last = -(-begin // HOUR), end // HOUR
        edges = [(begin, end)] if first > last else [(begin, first * HOUR), (last * HOUR, end)]
        if first < last:
            add(meant, _by_hours(connection, range(first, last)))
        for since, until in edges:
            if since >= kept_since:
                add(meant, _one_by_one(connection, since, until))
            else:
                for hour in range(since // HOUR, -(-until // HOUR)):
                    roughly.setdefault(hour, set()).update(meant)
    rough = [add(meant, _by_hours(connection, [hour])) for hour, meant in roughly.items()]
    return Counted(
        stretches=sorted({stretch for _, stretch in on}),
        calls=dict(calls),
        is_exact=not any(rough),
        since=None if began is None else began * HOUR,
    )


def _by_hours(connection: Connection, hours: Sequence[int]) -> Iterator[tuple[Kind, int]]:
    c = HOURS.c
    kind = (c.integration, c.method, c.route)
    counted = (
        select(*kind, func.sum(c.calls))
        .where(c.hour >= hours[0], c.hour <= hours[-1], *_came_so_far(c.status, c.outcome))
        .group_by(*kind)
    )
    return _read(connection, counted)


def _one_by_one(connection: Connection, since: int, until: int) -> Iterator[tuple[Kind, int]]:
    if since >= until:
        return iter(())
    c = CALLS.c
    kind = (c.integration, c.method, func.coalesce(c.route, c.path, ""))
    counted = (
        select(*kind, func.count())
        .where(
            c.id >= since << TIME_SHIFT,
            c.id < until << TIME_SHIFT,
            *_came_so_far(func.coalesce(c.status, 0), c.outcome),
        )
        .group_by(*kind)
    )
    return _read(connection, counted)


def _came_so_far(
    status: ColumnElement[int], outcome: ColumnElement[str]
) -> Sequence[ColumnElement[bool]]:
    return status != 401, outcome != Outcome.UNTRANSLATED.value


def _read(connection: Connection, counted: Select[Any]) -> Iterator[tuple[Kind, int]]:
    for integration, method, route, number in connection.execute(counted):
        yield (integration, method, route), int(number)
