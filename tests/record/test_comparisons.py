"""Comparisons in the log: kept as calls are, counted for ever, and what can be asked of them."""

from datetime import UTC, datetime

import pytest
from msgspec import structs
from sqlalchemy import Engine, func, select

from bridge.record.log import tables
from bridge.record.log.comparisons import (
    DIFFERENT,
    EQUAL,
    INCOMPARABLE,
    MOST_LATEST,
    Score,
    comparison,
    ingest_comparisons,
    score,
    scores,
)
from bridge.record.log.database import KEY_LENGTH, open_database, writing
from bridge.record.log.events import ALL, CallEvent, Compared, ComparisonEvent
from bridge.record.log.ids import TIME_SHIFT
from bridge.record.log.ingest import ended, ingest
from bridge.record.log.policies import Policy, policies, put
from bridge.record.log.reports import Log
from bridge.record.log.retention import Retention
from bridge.record.log.times import DAY
from bridge.record.log.writer import LogWriter
from tests.record.test_log_writer import NEVER
from tests.support.recorded_days import recorded_days

KEY = b"k" * KEY_LENGTH
BODY = "/invoice-message/body"


def calls(count: int, days: int = 1) -> list[CallEvent]:
    made = recorded_days(calls=count, integrations=3, days=days, until=datetime.now(UTC))
    return [structs.replace(each, route="/invoice/{invoice_id}/messages") for each in made]


def compared(call: CallEvent, result: str = EQUAL, *places: str) -> Compared:
    return Compared(
        ComparisonEvent(
            id=call.id,
            request_id=call.request_id,
            integration=call.integration,
            route=call.route or "",
            result=result,
            differences=dict.fromkeys(places, 1),
        )
    )


def write(engine: Engine, calls: list[CallEvent], *results: Compared) -> None:
    with writing(engine) as connection:
        ingest(connection, calls)
        ingest_comparisons(connection, results)


def test_a_score_counts_by_result_and_place_and_names_the_latest_calls(engine: Engine) -> None:
    made = [structs.replace(each, integration="a" * 12) for each in calls(8)]
    different = [compared(each, DIFFERENT, BODY) for each in made[:4]]
    write(
        engine, made, *different, compared(made[4]), compared(made[5]),
        compared(made[6], INCOMPARABLE, "v1: not-xml"),
    )  # fmt: skip

    with engine.connect() as connection:
        found = score(connection, "a" * 12)
        assert scores(connection) == {"a" * 12: structs.replace(found, places=[])}
        assert comparison(connection, made[0].id) == (DIFFERENT, {BODY: 1})
        assert comparison(connection, made[7].id) is None
    assert (found.equal, found.different, found.incomparable) == (2, 4, 1)
    assert str(found) == "2 of 6 equal; 4 differ at …/body, 1 incomparable"
    first, second = found.places
    assert (first.place, first.calls, first.result) == (BODY, 4, DIFFERENT)
    latest = sorted((each.id for each in made[:4]), reverse=True)[:MOST_LATEST]
    assert [each.id for each in first.latest] == latest
    assert {each.request_id for each in first.latest} <= {each.request_id for each in made}
    assert (second.place, second.calls, second.result) == ("v1: not-xml", 1, INCOMPARABLE)


def test_what_was_not_compared_has_no_score(engine: Engine) -> None:
    write(engine, calls(2))

    with engine.connect() as connection:
        assert scores(connection) == {}
        assert score(connection, "a" * 12) == Score()
    assert str(Score()) == "none compared"


def test_a_score_can_be_that_of_some_days(engine: Engine) -> None:
    made = [structs.replace(each, integration="a" * 12) for each in calls(50, days=5)]
    write(engine, made, *(compared(each) for each in made))
    since = made[25].id >> TIME_SHIFT

    with engine.connect() as connection:
        found = score(connection, "a" * 12, since)
    days = {(each.id >> TIME_SHIFT) // DAY for each in made}
    assert len(days) > 1
    assert found.equal == sum((each.id >> TIME_SHIFT) // DAY >= since // DAY for each in made)


def test_a_comparison_that_is_written_twice_counts_once(engine: Engine) -> None:
    made = calls(3)
    write(engine, made, compared(made[0]))
    with writing(engine) as connection:
        ingest_comparisons(connection, [compared(made[0]), compared(made[1], DIFFERENT, BODY)])

    with engine.connect() as connection:
        total = select(func.sum(tables.COMPARISON_DAYS.c.calls)).where(
            tables.COMPARISON_DAYS.c.path == ""
        )
        assert connection.execute(total).scalar() == 2


def test_it_goes_with_its_call_and_the_counts_stay(engine: Engine) -> None:
    made = calls(60, days=4)
    write(engine, made, *(compared(each) for each in made))

    retention = Retention(days=2, size=1 << 60)
    while retention.step(engine):
        pass

    with engine.connect() as connection:
        ids = set(connection.execute(select(tables.CALLS.c.id)).scalars())
        assert 0 < len(ids) < 60
        assert set(connection.execute(select(tables.COMPARISONS.c.id)).scalars()) == ids
        assert sum(each.equal for each in scores(connection).values()) == 60


def test_the_writer_writes_it_after_its_call(database: str) -> None:
    writer = LogWriter(database, KEY, NEVER)
    made = calls(3)
    for each in made:
        writer.ended([ended(each)])
        assert writer.compared(compared(each, DIFFERENT, BODY))
    writer.turn()
    writer.close()

    engine = open_database(database, KEY)
    with engine.connect() as connection:
        assert sum(each.different for each in scores(connection).values()) == 3
    engine.dispose()


def test_more_than_can_be_written_are_not_taken(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.record.log.writer.MOST_COMPARISONS", 2)
    writer = LogWriter(database, KEY, NEVER)

    assert [writer.compared(compared(each)) for each in calls(3)] == [True, True, False]


def test_a_share_is_decided_and_leaves_the_rest_of_a_policy(database: str) -> None:
    engine = open_database(database, KEY)
    with writing(engine) as connection:
        put(connection, Policy(integration="a" * 12, sunset=5, changed=1))
    log = Log.open(database)
    log.decisions.shadow("a" * 12, 20)
    log.decisions.shadow(ALL, 5)
    log.close()

    with engine.connect() as connection:
        for_all, own = policies(connection)
    engine.dispose()
    assert (for_all.integration, for_all.shadow_percent) == (ALL, 5)
    assert (own.shadow_percent, own.sunset) == (20, 5)
    assert own.changed > 1
