"""Comparisons of what v1 answers with what the bridge does: how they are kept, and the scores.

Which calls are compared, and how, is not said here.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Table, func, insert, select, true
from sqlalchemy.dialects import postgresql, sqlite

from bridge.record.log.capture import keep_other
from bridge.record.log.events import Compared, ComparisonEvent
from bridge.record.log.ids import TIME_SHIFT
from bridge.record.log.tables import CALLS, COMPARISON_DAYS, COMPARISONS
from bridge.record.log.times import DAY
from bridge.score import MOST_NAMED
from bridge.score import score as told_score

EQUAL, DIFFERENT, INCOMPARABLE = "equal", "different", "incomparable"

MOST_LOOKED_AT = 500
"""Of the latest comparisons that were not equal, those among which calls are looked for."""

MOST_LATEST = 3
"""Calls that are named of a place."""

MOST_PLACES = 500
"""Places of one integration."""


class Differing(msgspec.Struct, frozen=True, kw_only=True):
    """A call whose answers differ."""

    id: int
    request_id: str | None
    """None: of the call itself nothing is kept any more."""
    time: int
    """Milliseconds since 1970, UTC."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where answers to the calls of a route differ; or why they could not be compared."""

    result: str
    """`different` or `incomparable`."""
    place: str
    route: str
    calls: int
    latest: list[Differing]
    """Calls of it that are kept, the latest first."""


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """How v1's answers to an integration's calls compare with the bridge's."""

    equal: int = 0
    different: int = 0
    incomparable: int = 0
    differing: dict[str, int] = {}
    """How many calls differ at the places with the most of them, whatever their route."""
    differing_places: int = 0
    """How many places there are in all."""
    places: list[Place] = []
    """The most frequent first; only where one integration is asked for."""

    @property
    def compared(self) -> int:
        """How many calls were compared."""
        return self.equal + self.different

    def __str__(self) -> str:
        """Say it in short: `4,210 of 4,213 equal; 3 differ at …/body`."""
        if self.compared:
            told = told_score(self.equal, self.compared, self.differing, self.differing_places)
        else:
            told = "none compared"
        return f"{told}, {self.incomparable:,} incomparable" if self.incomparable else told


# What is written.


def ingest_comparisons(connection: Connection, compared: Sequence[Compared]) -> None:
    """Write comparisons, and count them, within the transaction of `connection`.

    Those that are written already are left alone.
    """
    ids = [each.comparison.id for each in compared]
    known = set(
        connection.execute(select(COMPARISONS.c.id).where(COMPARISONS.c.id.in_(ids))).scalars()
    )
    fresh = {each.comparison.id: each for each in compared if each.comparison.id not in known}
    if not fresh:
        return
    connection.execute(insert(COMPARISONS), [_row(each.comparison) for each in fresh.values()])
    _count(connection, [each.comparison for each in fresh.values()])
    for each in fresh.values():
        if each.other is not None:
            keep_other(connection, each.comparison.id, each.other)


def _row(comparison: ComparisonEvent) -> dict[str, object]:
    told = comparison.differences
    return {
        "id": comparison.id,
        "integration": comparison.integration,
        "result": comparison.result,
        "differences": msgspec.json.encode(told).decode() if told else None,
    }


def _count(connection: Connection, comparisons: Iterable[ComparisonEvent]) -> None:
    counts: Counter[tuple[int, str, str, str, str]] = Counter()
    for each in comparisons:
        key = ((each.id >> TIME_SHIFT) // DAY, each.integration, each.route, each.result)
        for place in ("", *each.differences):
            counts[*key, place] += 1
    new = _insert(connection, COMPARISON_DAYS)
    connection.execute(
        new.on_conflict_do_update(
            index_elements=list(COMPARISON_DAYS.primary_key.columns),
            set_={"calls": COMPARISON_DAYS.c.calls + new.excluded.calls},
        ),
        # In the order of their keys: so two bridges wait for each other, and neither for ever.
        [
            dict(zip(("day", "integration", "route", "result", "path"), key, strict=True))
            | {"calls": calls}
            for key, calls in sorted(counts.items())
        ],
    )


def _insert(connection: Connection, table: Table) -> Any:  # noqa: ANN401 - of two classes alike
    is_postgresql = connection.dialect.name == "postgresql"
    return postgresql.insert(table) if is_postgresql else sqlite.insert(table)


# What is asked.


def scores(connection: Connection, since: int | None = None) -> dict[str, Score]:
    """Return the score of each integration of which anything was compared, by whole days (UTC)."""
    c = COMPARISON_DAYS.c
    counted = (
        select(c.integration, c.result, func.sum(c.calls))
        .where(_since(since), c.path == "")
        .group_by(c.integration, c.result)
    )
    found: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for integration, result, calls in connection.execute(counted):
        found[integration][result] = int(calls)
    differing = _differing(connection, _since(since))
    return {
        integration: _score(counts, *differing.get(integration, ({}, 0)))
        for integration, counts in found.items()
    }


def score(connection: Connection, integration: str, since: int | None = None) -> Score:
    """Return the score of one integration, with the places that differ."""
    c = COMPARISON_DAYS.c
    counted = (
        select(c.result, c.path, c.route, func.sum(c.calls))
        .where(_since(since), c.integration == integration)
        .group_by(c.result, c.path, c.route)
        .order_by(func.sum(c.calls).desc(), c.path, c.route)
    )
    counts: Counter[str] = Counter()
    places: list[tuple[str, str, str, int]] = []
    for result, path, route, calls in connection.execute(counted):
        if path:
            places.append((result, path, route, int(calls)))
        else:
            counts[result] += int(calls)
    latest = _latest(connection, integration) if places else {}
    told = [
        Place(
            result=result,
            place=place,
            route=route,
            calls=calls,
            latest=latest.get((result, place, route), []),
        )
        for result, place, route, calls in places[:MOST_PLACES]
    ]
    differing = _differing(connection, _since(since) & (c.integration == integration))
    one = _score(counts, *differing.get(integration, ({}, 0)))
    return msgspec.structs.replace(one, places=told)


def comparison(connection: Connection, id_: int) -> tuple[str, dict[str, int]] | None:
    """Return the result of comparing a call, and what differs; None: it was not compared."""
    of_call = select(COMPARISONS.c.result, COMPARISONS.c.differences)
    row = connection.execute(of_call.where(COMPARISONS.c.id == id_)).first()
    return None if row is None else (row.result, _read(row.differences))


def _since(since: int | None) -> ColumnElement[bool]:
    return true() if since is None else COMPARISON_DAYS.c.day >= since // DAY


def _differing(
    connection: Connection, which: ColumnElement[bool]
) -> dict[str, tuple[dict[str, int], int]]:
    """Return of each integration the places at which most calls differ, and how many there are."""
    c = COMPARISON_DAYS.c
    at_places = (
        select(c.integration, c.path, func.sum(c.calls).label("calls"))
        .where(which, c.path != "", c.result == DIFFERENT)
        .group_by(c.integration, c.path)
        .subquery()
    )
    of_one = at_places.c.integration
    by_calls = (at_places.c.calls.desc(), at_places.c.path)
    ranked = select(
        at_places,
        func.row_number().over(partition_by=of_one, order_by=by_calls).label("rank"),
        func.count().over(partition_by=of_one).label("places"),
    ).subquery()
    found: defaultdict[str, dict[str, int]] = defaultdict(dict)
    in_all: dict[str, int] = {}
    for row in connection.execute(select(ranked).where(ranked.c.rank <= MOST_NAMED)):
        found[row.integration][row.path] = int(row.calls)
        in_all[row.integration] = int(row.places)
    return {integration: (found[integration], in_all[integration]) for integration in found}


def _score(
    counts: dict[str, int] | Counter[str], differing: dict[str, int], differing_places: int
) -> Score:
    return Score(
        equal=counts.get(EQUAL, 0),
        different=counts.get(DIFFERENT, 0),
        incomparable=counts.get(INCOMPARABLE, 0),
        differing=differing,
        differing_places=differing_places,
    )


def _latest(
    connection: Connection, integration: str
) -> dict[tuple[str, str, str], list[Differing]]:
    """Return the latest calls of each place, by result, place and route."""
    c = COMPARISONS.c
    found: defaultdict[tuple[str, str, str], list[Differing]] = defaultdict(list)
    for result in (DIFFERENT, INCOMPARABLE):
        of_it = (
            select(c.id, c.differences, CALLS.c.request_id, CALLS.c.route)
            .select_from(COMPARISONS.outerjoin(CALLS, CALLS.c.id == c.id))
            .where(c.integration == integration, c.result == result)
            .order_by(c.id.desc())
            .limit(MOST_LOOKED_AT)
        )
        for row in connection.execute(of_it):
            for place in _read(row.differences):
                calls = found[result, place, row.route or ""]
                if len(calls) < MOST_LATEST:
                    calls.append(
                        Differing(id=row.id, request_id=row.request_id, time=row.id >> TIME_SHIFT)
                    )
    return found


def _read(differences: str | None) -> dict[str, int]:
    return msgspec.json.decode(differences, type=dict[str, int]) if differences else {}
