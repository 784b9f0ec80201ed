"""What can be asked of the translation log: one function a question, for commands and pages alike.

How an answer is shown is not known here; how the tables are filled is in `ingest`.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter
from typing import Any, NamedTuple, Self

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Row,
    and_,
    case,
    false,
    func,
    or_,
    select,
    true,
    update,
)

from bridge.record.log import brownouts, comparisons, dry_run, finding, policies
from bridge.record.log.answers import (
    Bucket,
    CallRow,
    DryRun,
    FailedConnection,
    Hit,
    Integration,
    Noted,
    Page,
    Route,
    State,
)
from bridge.record.log.brownouts import Brownout
from bridge.record.log.comparisons import Score
from bridge.record.log.database import LogError, open_existing, reported, writing
from bridge.record.log.decisions import Decisions
from bridge.record.log.events import ALL, OTHERS, Outcome
from bridge.record.log.finding import Filter
from bridge.record.log.ids import TIME_SHIFT
from bridge.record.log.policies import Policy
from bridge.record.log.tables import (
    CALLS,
    CAPTURES,
    CONNECTIONS,
    DAYS,
    GAPS,
    HOURS,
    INTEGRATIONS,
    NOTES,
)
from bridge.record.log.times import DAY, HOUR, time_now


class UnknownIntegration(LogError):
    """There is no such integration, or more than one."""


class Log:
    """The translation log, opened to be asked, by any thread.

    Every method raises `LogError` where the database does not answer. What is counted is counted by
    whole hours if it is of the latest three days, else by whole days (UTC): a `since` within one
    takes all of it. Of what is older than calls are kept, nothing but such counts is left.
    """

    def __init__(self, engine: Engine, database: str) -> None:
        self._engine = engine
        # All statements of a question see one state, as they do in SQLite: of several looks for
        # calls each goes on where the one before has ended.
        is_server = engine.dialect.name == "postgresql"
        level = {"isolation_level": "REPEATABLE READ"} if is_server else {}
        self._asked = engine.execution_options(**level)
        self._database = database
        self.decisions = Decisions(engine, database)

    @classmethod
    def open(cls, database: str) -> Self:
        """Open the database, a path or a URL, which has to exist.

        Raises:
            LogError: it does not, or is none of the bridge's.
        """
        return cls(open_existing(database), database)

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    @contextmanager
    def _asking(self) -> Iterator[Connection]:
        with reported(self._database), self._asked.connect() as connection:
            yield connection

    def integrations(self, *, since: int, quiet_since: int | None = None) -> list[Integration]:
        """Return who calls, the latest first, with what they did since then.

        What all of them ever did may be years of counts: so much is asked of one alone. With
        `quiet_since`, only those that have not called since then.
        """
        who = true() if quiet_since is None else INTEGRATIONS.c.last_seen < quiet_since
        return self._integrations(who, since, None)

    def integration(self, id_: str, *, since: int | None = None) -> Integration | None:
        """Return who has this id, None if nobody has."""
        found = self._integrations(INTEGRATIONS.c.id == id_, since, id_)
        return found[0] if found else None

    def _integrations(
        self, who: ColumnElement[bool], since: int | None, only: str | None
    ) -> list[Integration]:
        ordered = select(INTEGRATIONS).where(who).order_by(INTEGRATIONS.c.last_seen.desc())
        with self._asking() as connection:
            rows = connection.execute(ordered.limit(MOST_INTEGRATIONS)).all()
            done = _what_they_did(connection, since, only)
            decided = {each.integration: each for each in policies.policies(connection)}
        for_all = decided.get(ALL, Policy())
        return [
            _integration(row, done[row.id], decided.get(row.id, for_all).over(for_all))
            for row in rows
        ]

    def find_integration(self, text: str) -> Integration:
        """Return the one whose name or label is `text`, or whose id begins with it.

        Where that is nobody, it is the one whose title has it. Case does not matter.

        Raises:
            UnknownIntegration: there is none, or more than one.
        """
        wanted = text.strip().casefold()
        with self._asking() as connection:
            rows = connection.execute(select(INTEGRATIONS)).all() if wanted else []
        ids = (
            [row.id for row in rows if wanted in {_folded(row.name), _folded(row.label)}]
            or [row.id for row in rows if row.id.startswith(wanted)]
            or [row.id for row in rows if wanted in _title(row).casefold()]
        )
        if len(ids) > 1:
            raise UnknownIntegration(f"more than one integration is meant: {', '.join(ids[:8])}")
        found = self.integration(ids[0]) if ids else None
        if found is None:
            raise UnknownIntegration("no integration has this id, name or label")
        return found

    def titles(self, ids: Iterable[str]) -> dict[str, str]:
        """Return what to call these integrations, as far as there are such."""
        wanted = select(INTEGRATIONS).where(INTEGRATIONS.c.id.in_(set(ids)))
        with self._asking() as connection:
            return {row.id: _title(row) for row in connection.execute(wanted)}

    def describe(
        self,
        id_: str,
        *,
        name: str | None = None,
        owner: str | None = None,
        state: State | None = None,
        remark: str | None = None,
    ) -> None:
        """Write down what the operator says; None leaves it as it is, '' takes it away.

        Raises:
            UnknownIntegration: nobody has this id.
        """
        said = {"name": name, "owner": owner, "remark": remark}
        values: dict[str, Any] = {
            key: text.strip() or None for key, text in said.items() if text is not None
        }
        if state is not None:
            values["state"] = state.value
        if not values:
            return
        of_it = update(INTEGRATIONS).where(INTEGRATIONS.c.id == id_).values(values)
        with reported(self._database), writing(self._engine) as connection:
            if not connection.execute(of_it).rowcount:
                raise UnknownIntegration("no integration has this id")

    def routes(self, integration: str | None, *, since: int | None = None) -> list[Route]:
        """Return what an integration (None: all together) did, the most frequent first."""
        with self._asking() as connection:
            table = _counts(connection, since, integration)
            c = table.columns
            keys = (c.method, c.route, c.dialect, c.outcome, c.status, c.refusal)
            # Period by period first: to sort all rows at once takes SQLite twice as long.
            each = (
                select(
                    table.period.label("at"),
                    *keys,
                    *(func.sum(c[name]).label(name) for name in _SUMMED),
                )
                .where(table.condition)
                .group_by(table.period, *keys)
                .subquery()
            )
            own = [each.c[key.name] for key in keys]
            calls = func.sum(each.c.calls)
            rows = connection.execute(
                select(
                    *own,
                    *(func.sum(each.c[name]).label(name) for name in _SUMMED),
                    func.min(each.c.at).label("first"),
                    func.max(each.c.at).label("last"),
                )
                .group_by(*own)
                .order_by(calls.desc())
                .limit(MOST_ROUTES)
            ).all()
            latest = {}
            if integration is not None and table.size == DAY:
                latest = _latest_hours(connection, integration, {row.last for row in rows})
        return [
            Route(
                method=row.method,
                route=row.route,
                dialect=row.dialect or None,
                outcome=Outcome(row.outcome),
                status=row.status or None,
                refusal=row.refusal or None,
                calls=int(row.calls),
                v2_calls=int(row.v2_calls),
                milliseconds=row.milliseconds / int(row.calls),
                first_seen=row.first * table.size,
                last_seen=latest.get(tuple(row[: len(keys)]), row.last * table.size),
            )
            for row in rows
        ]

    def notes(self, integration: str | None, *, since: int | None = None) -> list[Noted]:
        """Return what was noted of an integration (None: of all), the most frequent first."""
        c = NOTES.c
        keys = (c.method, c.route, c.code, c.subject)
        calls = func.sum(c.calls)
        with self._asking() as connection:
            days = _periods(connection, c.day, DAY, since, integration is not None)
            of_it = true() if integration is None else c.integration == integration
            rows = connection.execute(
                select(*keys, calls.label("calls"), func.sum(c["count"]).label("times"))
                .where(days, of_it)
                .group_by(*keys)
                .order_by(calls.desc())
                .limit(MOST_ROUTES)
            ).all()
        return [
            Noted(
                method=row.method,
                route=row.route,
                code=row.code,
                subject=row.subject,
                calls=int(row.calls),
                count=int(row.times),
            )
            for row in rows
        ]

    def timeline(
        self, *, by: str, since: int, until: int, step: int, integration: str | None = None
    ) -> list[Bucket]:
        """Return the calls of each period, `by` outcome or integration.

        Periods without calls have no bucket. `step` is in milliseconds, and a multiple of an
        hour; hours are for days, days for months.
        """
        table, size = (HOURS, HOUR) if step % DAY else (DAYS, DAY)
        period: ColumnElement[int] = table.primary_key.columns[0]
        first, last = since // size, -(-until // size)
        within = (
            and_(period.in_(range(first, last)), table.c.integration == integration)
            if integration is not None and last - first <= MOST_PERIODS
            else and_(
                period >= first,
                period < last,
                true() if integration is None else table.c.integration == integration,
            )
        )
        # By the key's own columns, rows come as they are to be counted, and are not sorted.
        bucket = period if step == size else period // (step // size)
        key = table.c[by]
        counted = (
            select(bucket, key, func.sum(table.c.calls))
            .where(within)
            .group_by(bucket, key)
            .order_by(bucket, key)
        )
        with self._asking() as connection:
            return [
                Bucket(since=at * step, by=name, calls=calls)
                for at, name, calls in connection.execute(counted)
            ]

    def calls(self, filter_: Filter, *, before: int | None = None, limit: int = 50) -> Page:
        """Return calls, the latest first, of those whose id is below `before` (None: of all)."""
        with self._asking() as connection:
            rows, go_on = finding.latest(connection, filter_, before, limit)
            return Page(_call_rows(connection, rows), go_on)

    def call(self, id_or_request_id: str) -> CallRow | None:
        """Return the call with this id, or else the latest with this request id."""
        with self._asking() as connection:
            rows: Sequence[Row[Any]] = []
            # An id has 19 digits; Python reads no number of thousands.
            if re.fullmatch("[0-9]{1,19}", id_or_request_id):
                number = int(id_or_request_id)
                if number < 1 << 63:
                    rows = connection.execute(select(CALLS).where(CALLS.c.id == number)).all()
            if not rows:
                of_request = select(CALLS).where(CALLS.c.request_id == id_or_request_id)
                latest = of_request.order_by(CALLS.c.id.desc()).limit(1)
                rows = connection.execute(latest).all()
            return next(iter(_call_rows(connection, rows)), None)

    def dry_run(self, planned: Sequence[Brownout], now: int) -> DryRun:
        """Return who would have been turned away, had these been on in the last seven days."""
        with self._asking() as connection:
            counted = dry_run.count(connection, planned, now)
            hits = _hits(connection, ((*kind, "", calls) for kind, calls in counted.calls.items()))
        return DryRun(
            stretches=counted.stretches,
            is_exact=counted.is_exact,
            since=counted.since,
            calls=sum(each.calls for each in hits),
            writes=sum(each.writes for each in hits),
            hits=hits,
        )

    def turned_away(self, *, since: int) -> list[Hit]:
        """Return whose calls were turned away on purpose since then, the most calls first."""
        c = HOURS.c
        kind = (c.integration, c.method, c.route, c.refusal)
        counted = (
            select(*kind, func.sum(c.calls), func.max(c.hour))
            .where(c.hour >= since // HOUR, c.outcome == Outcome.WITHDRAWN.value)
            .group_by(*kind)
        )
        with self._asking() as connection:
            rows = connection.execute(counted).all()
            latest: defaultdict[str, int] = defaultdict(int)
            for row in rows:
                latest[row.integration] = max(latest[row.integration], row[-1] * HOUR)
            hits = _hits(connection, (tuple(row[:-1]) for row in rows))
        return [msgspec.structs.replace(each, last_seen=latest[each.integration]) for each in hits]

    def scores(self, *, since: int | None = None) -> dict[str, Score]:
        """Return how v1 and the bridge compare, by the integrations of which that is known."""
        with self._asking() as connection:
            return comparisons.scores(connection, since)

    def score(self, integration: str, *, since: int | None = None) -> Score:
        """Return how v1 and the bridge compare for an integration, and where they differ."""
        with self._asking() as connection:
            return comparisons.score(connection, integration, since)

    def comparison(self, id_: int) -> tuple[str, dict[str, int]] | None:
        """Return what comparing a call came to, and what differs; None: it was not compared."""
        with self._asking() as connection:
            return comparisons.comparison(connection, id_)

    def exchange(self, id_: int) -> bytes | None:
        """Return what was captured of a call, for `exchange.unpack`; None: nothing was."""
        with self._asking() as connection:
            kept = select(CAPTURES.c.exchange).where(CAPTURES.c.id == id_)
            found: bytes | None = connection.execute(kept).scalar()
            return found

    def failed_connections(self, *, since: int | None = None) -> list[FailedConnection]:
        """Return the connections that no call came of, the latest first."""
        c = CONNECTIONS.c
        latest = (
            select(CONNECTIONS, c["count"].label("times"))
            .where(true() if since is None else c.day >= since // DAY)
            .where(true() if since is None else c.last_seen >= since)
            .order_by(c.day.desc())
            .limit(MOST_ROUTES)
        )
        with self._asking() as connection:
            rows = connection.execute(latest).all()
        found: dict[tuple[str, str, str], FailedConnection] = {}
        for row in rows:
            key = (row.network, row.event, row.reason)
            later = found.get(key)
            found[key] = FailedConnection(
                network=row.network,
                event=row.event,
                reason=row.reason,
                detail=later.detail if later else row.detail,
                count=row.times + (later.count if later else 0),
                first_seen=row.first_seen,
                last_seen=max(row.last_seen, later.last_seen if later else 0),
            )
        return sorted(found.values(), key=lambda each: -each.last_seen)

    def unrecorded(self, *, since: int | None = None) -> int:
        """Return how many calls were served and not kept."""
        lost = select(func.sum(GAPS.c.calls))
        if since is not None:
            lost = lost.where(GAPS.c.id >= min(since << TIME_SHIFT, (1 << 63) - 1))
        with self._asking() as connection:
            return int(connection.execute(lost).scalar() or 0)


MOST_INTEGRATIONS = 30_000
"""More than a bridge tells apart in a day (docs/log.md, "Who it was")."""
MOST_ROUTES = 10_000
_SUMMED = ("calls", "v2_calls", "milliseconds")
MOST_PERIODS = 1000
"""Periods that are named one by one, so that the key's next column can be used, too."""

RECENT = 3 * DAY
"""Milliseconds for which counts are by the hour."""


def _folded(text: str | None) -> str | None:
    return text.casefold() if text else None


class _Counts(NamedTuple):
    """Where the counts since some time are."""

    columns: Any
    period: ColumnElement[int]
    size: int
    """Milliseconds of a period."""
    condition: ColumnElement[bool]


def _counts(connection: Connection, since: int | None, integration: str | None) -> _Counts:
    is_recent = since is not None and since >= time_now() - RECENT
    table, size = (HOURS, HOUR) if is_recent else (DAYS, DAY)
    c = table.c
    period: ColumnElement[int] = table.primary_key.columns[0]
    of_it = true() if integration is None else c.integration == integration
    when = _periods(connection, period, size, since, integration is not None)
    return _Counts(c, period, size, and_(when, of_it))


def _periods(
    connection: Connection,
    period: ColumnElement[int],
    size: int,
    since: int | None,
    one_by_one: bool,
) -> ColumnElement[bool]:
    """Return the condition for periods since then.

    The tables' keys begin with the period. With all of them named, a database finds the rows of one
    integration without reading those of the others.
    """
    ends = finding.ends_of(connection, period)
    if ends is None:
        return false()
    first, last = ends
    first = first if since is None else max(first, since // size)
    if one_by_one and last - first < MOST_PERIODS:
        return period.in_(range(first, last + 1))
    return period >= first


class _Done:
    """What an integration did."""

    def __init__(self) -> None:
        self.outcomes: defaultdict[str, int] = defaultdict(int)
        self.not_served = 0
        self.routes: defaultdict[str, int] = defaultdict(int)
        self.dialects: set[str] = set()
        self.notes: dict[str, int] = {}


def _what_they_did(
    connection: Connection, since: int | None, only: str | None
) -> defaultdict[str, _Done]:
    done: defaultdict[str, _Done] = defaultdict(_Done)
    table = _counts(connection, since, only)
    c = table.columns
    keys = (c.integration, c.method, c.route, c.dialect, c.outcome)
    passed_well = and_(c.outcome == Outcome.PASSED_THROUGH.value, c.status < 500)
    is_well = or_(c.outcome == Outcome.SERVED.value, passed_well)
    ill = func.sum(case((is_well, 0), else_=c.calls))
    counted = select(*keys, func.sum(c.calls), ill).where(table.condition).group_by(*keys)
    for integration, method, route, dialect, outcome, calls, wrong in connection.execute(counted):
        of_it = done[integration]
        of_it.not_served += int(wrong)
        of_it.outcomes[outcome] += int(calls)
        of_it.routes[f"{method} {route}".rstrip()] += int(calls)
        if dialect:
            of_it.dialects.add(dialect)
    days = _periods(connection, NOTES.c.day, DAY, since, only is not None)
    of_one = true() if only is None else NOTES.c.integration == only
    noted = (
        select(NOTES.c.integration, NOTES.c.code, func.sum(NOTES.c.calls))
        .where(days, of_one)
        .group_by(NOTES.c.integration, NOTES.c.code)
    )
    for integration, code, calls in connection.execute(noted):
        done[integration].notes[code] = int(calls)
    return done


def _integration(row: Row[Any], done: _Done, policy: Policy) -> Integration:
    calls = sum(done.outcomes.values())
    return Integration(
        **dict(zip(_FACTS, _facts_of(row), strict=True)),
        title=_title(row),
        state=State(row.state),
        calls=calls,
        not_served=done.not_served,
        outcomes=_most_first(done.outcomes),
        routes=list(_most_first(done.routes)),
        dialects=sorted(done.dialects),
        notes=_most_first(done.notes),
        answered_by=policy.answered_by,
    )


_FACTS = (
    "id", "account_id", "subdomain", "login", "token", "agent", "network", "way", "is_known",
    "label", "user_agent", "address", "host", "first_seen", "last_seen", "name", "owner", "remark",
)  # fmt: skip
_facts_of = attrgetter(*_FACTS)


def _most_first(counts: dict[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda each: (-each[1], each[0])))


def _title(row: Row[Any]) -> str:
    if named := row.name or row.label:
        return str(named)
    if row.id == OTHERS:
        return "callers that are not told apart"
    account = None if row.account_id is None else f"account {row.account_id}"
    known = (row.subdomain or account, row.agent, row.network)
    return ", ".join(each for each in known if each) or row.id


def _latest_hours(
    connection: Connection, integration: str, days: set[int]
) -> dict[tuple[Any, ...], int]:
    """Return when an integration's routes were called last on these days, in milliseconds."""
    c = HOURS.c
    keys = (c.method, c.route, c.dialect, c.outcome, c.status, c.refusal)
    hours = [
        hour
        for day in sorted(days)[-(MOST_PERIODS // 24) :]
        for hour in range(day * 24, day * 24 + 24)
    ]
    latest = (
        select(*keys, func.max(c.hour))
        .where(c.hour.in_(hours), c.integration == integration)
        .group_by(*keys)
    )
    return {tuple(key): hour * HOUR for *key, hour in connection.execute(latest)}


def _call_rows(connection: Connection, rows: Sequence[Row[Any]]) -> list[CallRow]:
    if not rows:
        return []
    who = select(INTEGRATIONS).where(INTEGRATIONS.c.id.in_({row.integration for row in rows}))
    titles = {row.id: _title(row) for row in connection.execute(who)}
    kept = select(CAPTURES.c.id).where(CAPTURES.c.id.in_([row.id for row in rows]))
    captured = set(connection.execute(kept).scalars())
    return [
        CallRow(
            **{name: getattr(row, name) for name in _COPIED},
            time=row.id >> TIME_SHIFT,
            title=titles.get(row.integration, row.integration),
            outcome=Outcome(row.outcome),
            upstream=msgspec.json.decode(row.upstream) if row.upstream else [],
            notes=msgspec.json.decode(row.notes) if row.notes else [],
            captured=row.id in captured,
        )
        for row in rows
    ]


def _hits(connection: Connection, counted: Iterable[Sequence[Any]]) -> list[Hit]:
    """Gather counts by integration, method, route and refusal."""
    calls: defaultdict[str, Counter[str]] = defaultdict(Counter)
    refusals: defaultdict[str, Counter[str]] = defaultdict(Counter)
    writes: Counter[str] = Counter()
    for integration, method, route, refusal, number in counted:
        calls[integration][f"{method} {route}".rstrip()] += int(number)
        if refusal:
            refusals[integration][refusal] += int(number)
        if method not in brownouts.SAFE:
            writes[integration] += int(number)
    who = select(INTEGRATIONS).where(INTEGRATIONS.c.id.in_(list(calls)))
    rows = {row.id: row for row in connection.execute(who)} if calls else {}
    hits = [
        Hit(
            integration=integration,
            title=_title(rows[integration]) if integration in rows else integration,
            owner=rows[integration].owner if integration in rows else None,
            calls=routes.total(),
            writes=writes[integration],
            routes=_most_first(routes),
            refusals=_most_first(refusals[integration]),
        )
        for integration, routes in calls.items()
    ]
    return sorted(hits, key=lambda each: (-each.calls, each.integration))


_COPIED = tuple(
    column.name for column in CALLS.columns if column.name not in {"outcome", "upstream", "notes"}
)
