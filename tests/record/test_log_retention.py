"""What the log keeps for how long: by age, by size, and by one bridge at a time."""

import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from sqlalchemy import Engine, func, insert, select, text

from bridge.record.log import tables
from bridge.record.log.database import ADVISORY_LOCK, KEY_LENGTH, open_database, writing
from bridge.record.log.events import Outcome
from bridge.record.log.ids import TIME_SHIFT
from bridge.record.log.ingest import ingest, ingest_connections
from bridge.record.log.retention import Retention
from bridge.record.log.times import DAY, HOUR
from tests.support.recorded_days import UNTIL, failed_connections, recorded_days

KEY = b"k" * KEY_LENGTH
EVER = 1 << 60
NOW = UNTIL.timestamp()


@pytest.fixture
def engine(database: str) -> Any:
    engine = open_database(database, KEY)
    yield engine
    engine.dispose()


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.record.log.retention.LOOK_EVERY", 0.0)


def fill(engine: Engine, calls: int, days: int) -> None:
    made = list(recorded_days(calls=calls, integrations=20, days=days))
    with writing(engine) as connection:
        ingest(connection, made)
        connection.execute(
            insert(tables.CAPTURES), [{"id": each.id, "exchange": b"both"} for each in made[::2]]
        )


def keep(engine: Engine, **how: Any) -> int:
    """Let retention do all it has to, and return in how many steps."""
    retention = Retention(**{"days": 36_500, "size": EVER, "clock": lambda: NOW, **how})
    steps = 0
    while retention.step(engine):
        steps += 1
    return steps


def rows(engine: Engine, what: Any) -> Any:
    with engine.connect() as connection:
        return connection.execute(select(what)).scalar_one()


def used(engine: Engine) -> int:
    if engine.dialect.name == "sqlite":
        return int(
            rows(engine, text("page_count * page_size FROM pragma_page_count, pragma_page_size"))
        )
    return int(rows(engine, text(
        "sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' "
        "AND relnamespace = 'public'::regnamespace"
    )))  # fmt: skip


def oldest(engine: Engine, table: Any) -> datetime:
    return datetime.fromtimestamp((rows(engine, func.min(table.c.id)) >> TIME_SHIFT) / 1000, UTC)


def count(engine: Engine, table: Any) -> Any:
    return rows(engine, func.count(table.primary_key.columns[0]))


def test_calls_and_captures_go_when_they_are_too_old(engine: Engine) -> None:
    fill(engine, 2400, days=20)

    steps = keep(engine, days=5)

    assert steps == 4  # in steps of 500, and a look that finds nothing
    assert 595 < count(engine, tables.CALLS) < 605
    assert 295 < count(engine, tables.CAPTURES) < 305
    for table in (tables.CALLS, tables.CAPTURES):
        assert (UNTIL - oldest(engine, table)).total_seconds() <= 5 * DAY / 1000


def test_what_is_counted_and_who_has_called_stays(engine: Engine) -> None:
    fill(engine, 1000, days=20)
    keep(engine, days=1)

    assert rows(engine, func.sum(tables.DAYS.c.calls)) == 1000
    assert rows(engine, func.sum(tables.HOURS.c.calls)) == 1000
    assert rows(engine, func.sum(tables.INTEGRATIONS.c.calls)) == 1000


def test_hours_are_kept_for_90_days_and_days_for_ever(engine: Engine) -> None:
    fill(engine, 300, days=120)
    with writing(engine) as connection:
        ingest_connections(connection, failed_connections(count=50, days=120))

    keep(engine)

    now = int(NOW * 1000)
    assert rows(engine, func.min(tables.HOURS.c.hour)) >= now // HOUR - 90 * 24
    assert rows(engine, func.min(tables.DAYS.c.day)) <= now // DAY - 119
    assert rows(engine, func.min(tables.CONNECTIONS.c.day)) >= now // DAY - 90


def test_an_sqlite_file_stays_within_its_bound(tmp_path: Path) -> None:
    path, size = tmp_path / "log", 3_000_000
    engine = open_database(str(path), KEY)
    largest = 0
    made = list(recorded_days(calls=16_000, integrations=20, days=10))
    for start in range(0, len(made), 1000):
        with writing(engine) as connection:
            ingest(connection, made[start : start + 1000])
        keep(engine, size=size)
        largest = max(largest, path.stat().st_size)
    left, latest = count(engine, tables.CALLS), rows(engine, func.max(tables.CALLS.c.id))
    engine.dispose()

    assert largest < 1.5 * size  # a batch more, and what it leaves free
    assert path.stat().st_size < 1.1 * size
    assert left > 1000
    assert latest == made[-1].id


def test_an_sqlite_file_shrinks_if_it_may_take_less(tmp_path: Path) -> None:
    engine = open_database(str(tmp_path / "log"), KEY)
    fill(engine, 8000, days=5)
    keep(engine, size=2_000_000)
    engine.dispose()

    assert (tmp_path / "log").stat().st_size <= 2_000_000


@pytest.mark.parametrize("served_first", [True, False])
def test_a_flood_of_refused_calls_makes_room_before_those_that_were_served(
    engine: Engine, served_first: bool
) -> None:
    made = list(recorded_days(calls=9000, integrations=20, days=5))
    calls = [
        structs.replace(each, outcome=Outcome.SERVED, refusal=None, status=200)
        if (at < 3000) is served_first and at % 3000 < 500
        else structs.replace(each, outcome=Outcome.REFUSED, refusal="no-credential", status=401)
        for at, each in enumerate(made)
    ]
    served = [each.id for each in calls if each.outcome == Outcome.SERVED]
    with writing(engine) as connection:
        ingest(connection, calls)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))
    size = used(engine) * 3 // 5
    keep(engine, size=size)

    is_served = tables.CALLS.c.outcome == "served"
    with engine.connect() as connection:
        ids = select(tables.CALLS.c.id).where(is_served).order_by(tables.CALLS.c.id)
        left = connection.execute(ids).scalars().all()
    assert left == served
    assert 0 < count(engine, tables.CALLS) - len(served) < 9000 - len(served)


def test_that_calls_go_before_their_time_is_told(engine: Engine) -> None:
    fill(engine, 8000, days=5)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))
    retention = Retention(days=30, size=used(engine) * 3 // 4, clock=lambda: NOW)
    before = retention.problem()
    while retention.step(engine):
        pass

    days = (UNTIL - oldest(engine, tables.CALLS)).total_seconds() * 1000 / DAY
    assert before is None
    assert retention.problem() == (
        f"calls_kept_bytes is used up: the oldest call is {days:.1f} days old"
    )


def test_captures_make_room_before_any_call(engine: Engine) -> None:
    made = list(recorded_days(calls=2000, integrations=20, days=5))
    with writing(engine) as connection:
        ingest(connection, made)
        connection.execute(
            insert(tables.CAPTURES),
            [{"id": each.id, "exchange": random.Random(each.id).randbytes(4000)} for each in made],
        )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))
    keep(engine, size=6_000_000)

    assert count(engine, tables.CALLS) == 2000
    assert 0 < count(engine, tables.CAPTURES) < 2000
    assert rows(engine, func.max(tables.CAPTURES.c.id)) == made[-1].id


@pytest.mark.parametrize(
    "statistics", ["true", "pg_stat_reset()"], ids=["as they are", "lost in a crash"]
)
def test_postgresql_loses_no_more_than_it_has_to(postgres: str, statistics: str) -> None:
    """Its files do not shrink: were they what is looked at, all would go."""
    engine = open_database(postgres, KEY)
    fill(engine, 8000, days=5)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
        files = connection.execute(
            text("SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' "
                 "AND relnamespace = 'public'::regnamespace")
        ).scalar_one()  # fmt: skip
        connection.execute(text(f"SELECT {statistics}"))
    keep(engine, size=int(files * 0.6))
    left, latest = count(engine, tables.CALLS), rows(engine, func.max(tables.CALLS.c.id))
    engine.dispose()

    assert 1500 < left < 6000
    assert latest == max(each.id for each in recorded_days(calls=8000, integrations=20, days=5))


def test_one_bridge_at_a_time_does_it(postgres: str) -> None:
    engine = open_database(postgres, KEY)
    fill(engine, 50, days=20)
    with engine.connect() as other:
        other.execute(text("SELECT pg_advisory_xact_lock(:id)"), {"id": ADVISORY_LOCK + 1})
        while_another_does = keep(engine, days=1)
    afterwards = keep(engine, days=1)
    engine.dispose()

    assert (while_another_does, afterwards) == (0, 1)


def test_nothing_to_remove_is_looked_for_now_and_then(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.record.log.retention.LOOK_EVERY", 3600.0)
    retention = Retention(days=1, size=EVER, clock=lambda: NOW)
    first = retention.step(engine)
    fill(engine, 50, days=20)

    assert (first, retention.step(engine)) == (False, False)
    assert count(engine, tables.CALLS) == 50


def test_what_is_kept_can_change_while_it_runs(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.record.log.retention.LOOK_EVERY", 3600.0)
    retention = Retention(days=36_500, size=EVER, clock=lambda: NOW)
    fill(engine, 50, days=20)
    while retention.step(engine):
        pass
    before = count(engine, tables.CALLS)

    retention.keep(days=1, size=EVER)
    while retention.step(engine):
        pass

    assert (before, count(engine, tables.CALLS) < 50) == (50, True)
