"""Who would have been turned away, against the calls of recorded days: on SQLite and PostgreSQL."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import delete

from bridge.record.log.answers import DryRun
from bridge.record.log.brownouts import Brownout
from bridge.record.log.database import load_key, open_database, writing
from bridge.record.log.events import ALL, CallEvent, Outcome
from bridge.record.log.ids import TIME_SHIFT
from bridge.record.log.ingest import ingest
from bridge.record.log.reports import Log
from bridge.record.log.tables import CALLS
from bridge.record.log.times import DAY, HOUR
from tests.support.recorded_days import recorded_days

UNTIL = datetime(2027, 3, 1, 12, 34, 56, tzinfo=UTC)
NOW = int(UNTIL.timestamp() * 1000)
EVENTS = list(recorded_days(calls=2000, integrations=25, days=9, until=UNTIL, seed=5))
BUSIEST = Counter(call.integration for call in EVENTS if call.is_known).most_common(1)[0][0]


def fill(database: str, folder: Path) -> str:
    engine = open_database(database, load_key(database, folder / "key"))
    with writing(engine) as connection:
        ingest(connection, EVENTS)
    engine.dispose()
    return database


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("log")
    if request.param == "sqlite":
        yield fill(str(folder / "log.sqlite"), folder)
    else:
        server = request.getfixturevalue("postgres_server")
        yield fill(server.new_database(), folder)


@pytest.fixture
def log(database: str) -> Iterator[Log]:
    log = Log.open(database)
    yield log
    log.close()


def scheduled(text: str, whose: str = ALL, calls: str = "all") -> Brownout:
    return Brownout(integration=whose, schedule=text, calls=calls, time_zone="Europe/Berlin")


def would_be_hit(brownouts: list[Brownout]) -> list[CallEvent]:
    """Go through the calls one by one."""
    on = {each: each.latest_week(NOW) for each in brownouts}
    return [
        call
        for call in EVENTS
        if call.is_known
        and call.status != 401
        and call.outcome != Outcome.UNTRANSLATED
        and any(
            each.integration in {ALL, call.integration}
            and each.has(call.method, call.route or call.path or "")
            and any(stretch.begin <= call.id >> TIME_SHIFT < stretch.end for stretch in on[each])
            for each in brownouts
        )
    ]


def by_route(found: DryRun) -> dict[str, dict[str, int]]:
    return {each.integration: each.routes for each in found.hits}


BROWNOUTS = {
    "minutes": [scheduled("daily 10:10-10:50")],
    "over an hour's end": [scheduled("daily 9:50-10:20")],
    "whole hours": [scheduled("Mon-Fri 9:00-17:00")],
    "hours and minutes": [scheduled("Mon-Fri 8:50-17:10, 20:00-21:30; Sat 23:45-02:15")],
    "an integration's": [scheduled("daily 00:00-23:00", BUSIEST)],
    "writes": [scheduled("daily 00:00-23:00", calls="writes")],
    "a route": [scheduled("daily 00:00-23:00", calls="GET /invoice, /invoices")],
    "from now on": [Brownout(since=NOW, until=NOW + 3 * HOUR)],
    "a date to come": [scheduled("2027-04-07 8:30-11:45")],
    "two at once": [scheduled("daily 9:00-12:30", calls="reads"), scheduled("daily 10:45-15:00")],
}


@pytest.mark.parametrize("brownouts", BROWNOUTS.values(), ids=BROWNOUTS)
def test_those_are_named_whose_calls_came_at_such_a_time(
    log: Log, brownouts: list[Brownout]
) -> None:
    found, expected = log.dry_run(brownouts, NOW), would_be_hit(brownouts)

    assert expected
    assert found.is_exact
    assert (found.calls, found.writes) == (
        len(expected),
        sum(call.method != "GET" for call in expected),
    )
    routes: dict[str, Counter[str]] = {}
    for call in expected:
        counted = routes.setdefault(call.integration, Counter())
        counted[f"{call.method} {call.route or call.path}"] += 1
    assert by_route(found) == routes
    assert [each.calls for each in found.hits] == sorted(
        (counted.total() for counted in routes.values()), reverse=True
    )


def test_they_are_called_by_their_names(log: Log) -> None:
    named = next(each for each in log.integrations(since=0) if each.id == BUSIEST)
    (found,) = log.dry_run([scheduled("daily 00:00-23:00", BUSIEST)], NOW).hits

    assert found.title == named.title


def test_of_calls_that_are_not_kept_it_is_so_many_at_the_most(tmp_path: Path) -> None:
    database = fill(str(tmp_path / "log.sqlite"), tmp_path)
    engine = open_database(database, load_key(database, tmp_path / "key"))
    with writing(engine) as connection:
        connection.execute(delete(CALLS).where(CALLS.c.id < (NOW - 2 * DAY) << TIME_SHIFT))
    engine.dispose()
    log = Log.open(database)
    brownouts, whole = [scheduled("daily 9:50-10:20")], [scheduled("daily 9:00-11:00")]
    found, at_most = log.dry_run(brownouts, NOW), log.dry_run(whole, NOW)
    late = log.dry_run([scheduled("Sun 9:50-10:20")], NOW)
    log.close()

    assert not found.is_exact
    assert len(would_be_hit(brownouts)) <= found.calls <= at_most.calls
    assert at_most.is_exact  # hours are counted for ever
    assert late.is_exact
    assert late.calls == len(would_be_hit([scheduled("Sun 9:50-10:20")]))


def test_an_empty_log_knows_nobody(tmp_path: Path) -> None:
    database = str(tmp_path / "log.sqlite")
    open_database(database, load_key(database, None)).dispose()
    log = Log.open(database)
    found = log.dry_run([scheduled("daily 9:50-10:20")], NOW)
    log.close()

    assert (found.hits, found.since) == ([], None)
