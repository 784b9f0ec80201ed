"""What the translation log answers, against the events that it was told: on SQLite and PostgreSQL."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import Engine, event, insert

from bridge.record.log import finding
from bridge.record.log.answers import Page, State
from bridge.record.log.database import LogError, load_key, open_database, writing
from bridge.record.log.events import OTHERS, CallEvent, Outcome
from bridge.record.log.finding import Filter
from bridge.record.log.ids import TIME_SHIFT
from bridge.record.log.ingest import ingest, ingest_connections, ingest_gap
from bridge.record.log.reports import Log, UnknownIntegration
from bridge.record.log.tables import INTEGRATIONS
from bridge.record.log.times import DAY, HOUR
from tests.support.postgres import running_server
from tests.support.recorded_days import failed_connections, recorded_days

DAYS = 12
NOW = datetime.now(UTC)
EVENTS = list(recorded_days(calls=1500, integrations=25, days=DAYS, until=NOW, seed=3))
BY_ID = {call.id: call for call in EVENTS}
BUSIEST = Counter(call.integration for call in EVENTS).most_common(1)[0][0]
SINCE = EVENTS[len(EVENTS) // 3].id >> TIME_SHIFT
UNTIL = EVENTS[len(EVENTS) // 2].id >> TIME_SHIFT


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A log that has been told of all events."""
    folder = tmp_path_factory.mktemp("log")
    if request.param == "sqlite":
        yield fill(str(folder / "log.sqlite"), folder)
        return
    with running_server() as server:
        yield fill(server.new_database(), folder)


def fill(database: str, folder: Path) -> str:
    engine = open_database(database, load_key(database, folder / "key"))
    with writing(engine) as connection:
        for at in range(0, len(EVENTS), 500):
            ingest(connection, EVENTS[at : at + 500])
        ingest_connections(connection, failed_connections(count=60, days=DAYS, until=NOW))
        ingest_gap(connection, EVENTS[-1].id, 7, SINCE, "full")
    engine.dispose()
    return database


@pytest.fixture
def log(database: str) -> Iterator[Log]:
    log = Log.open(database)
    yield log
    log.close()


@pytest.fixture
def small_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that a few thousand calls reach."""
    for name, size in {
        "FIRST_SLICE": 7,
        "SLICE": 40,
        "MOST_LOOKED_AT": 90,
        "MOST_HOURS": 5,
        "MOST_DAYS": 2,
    }.items():
        monkeypatch.setattr(finding, name, size)


def matches(call: CallEvent, asked: Filter) -> bool:
    """Tell whether a call is asked for, as its filter is documented."""
    when = call.id >> TIME_SHIFT
    return all(
        (
            asked.integration in {None, call.integration},
            asked.method in {None, call.method},
            asked.route in {None, call.route or call.path},
            asked.status in {None, call.status},
            asked.outcome in {None, call.outcome},
            asked.refusal in {None, call.refusal},
            asked.request_id in {None, call.request_id},
            asked.note is None or asked.note in {note.code for note in call.notes},
            asked.since is None or when >= asked.since,
            asked.until is None or when < asked.until,
        )
    )


def pages(log: Log, asked: Filter, limit: int) -> Iterator[Sequence[int]]:
    """Walk all pages, and return the ids on each."""
    before = None
    while True:
        page = log.calls(asked, before=before, limit=limit)
        yield [row.id for row in page.rows]
        if page.before is None:
            return
        assert before is None or page.before < before, "a walk that does not go on"
        before = page.before


FILTERS = {
    "all": Filter(),
    "an integration": Filter(integration=BUSIEST),
    "nobody": Filter(integration="ffffffffffff"),
    "what failed": Filter(outcome=Outcome.FAILED),
    "what was served": Filter(outcome=Outcome.SERVED),
    "a status": Filter(status=502),
    "a common status": Filter(status=200),
    "a status of served writes": Filter(status=201),
    "a method": Filter(method="DELETE"),
    "a method that nobody used": Filter(method="PUT"),
    "a route": Filter(route="/invoice/{invoice_id}/messages"),
    "a path without a route": Filter(route="/clients/{…}"),
    "a refusal": Filter(refusal="wrong-password"),
    "a note": Filter(note="body-dropped"),
    "a note that is none": Filter(note='x" OR 1=1 --%_'),
    "a note of an integration": Filter(note="element-dropped", integration=BUSIEST),
    "a status of an integration": Filter(status=200, integration=BUSIEST),
    "an outcome of a method": Filter(outcome=Outcome.MISSING, method="GET"),
    "a request id": Filter(request_id=EVENTS[634].request_id),
    "a time": Filter(since=SINCE, until=UNTIL),
    "a status at a time": Filter(status=201, since=SINCE, until=UNTIL),
    "a time before all": Filter(until=1),
    "a time after all": Filter(since=int(NOW.timestamp() * 1000) + DAY),
}


@pytest.mark.parametrize("asked", FILTERS.values(), ids=FILTERS)
def test_walking_the_pages_finds_what_a_filter_asks_for_the_latest_first(
    log: Log, asked: Filter
) -> None:
    wanted = [call.id for call in reversed(EVENTS) if matches(call, asked)]

    assert [id_ for page in pages(log, asked, 400) for id_ in page] == wanted


@pytest.mark.usefixtures("small_looks")
@pytest.mark.parametrize("asked", FILTERS.values(), ids=FILTERS)
def test_what_one_page_looks_at_is_bounded_and_nothing_is_left_out(log: Log, asked: Filter) -> None:
    wanted = [call.id for call in reversed(EVENTS) if matches(call, asked)]
    found = list(pages(log, asked, 11))

    assert [id_ for page in found for id_ in page] == wanted
    assert max(map(len, found)) <= 11


@pytest.mark.usefixtures("small_looks")
def test_a_rare_call_is_found_without_reading_what_is_between(log: Log) -> None:
    counts = Counter(call.status for call in EVENTS)
    rare = next(status for status, count in reversed(counts.most_common()) if count < 15)

    page = log.calls(Filter(status=rare), limit=1)

    assert [row.status for row in page.rows] == [rare]


def test_a_call_says_all_that_its_event_says_of_it(log: Log) -> None:
    told = next(call for call in EVENTS if call.upstream and call.notes)
    row = log.call(str(told.id))

    assert row is not None
    assert log.call(told.request_id) == row
    assert row.time == told.id >> TIME_SHIFT
    assert row.title
    assert row.upstream == msgspec.json.decode(msgspec.json.encode(told.upstream))
    assert row.notes == msgspec.json.decode(msgspec.json.encode(told.notes))
    same = set(row.__struct_fields__) & set(told.__struct_fields__) - {"upstream", "notes"}
    assert {name: getattr(row, name) for name in same} == {
        name: getattr(told, name) for name in same
    }


def test_a_page_is_of_one_moment_whatever_comes_while_it_is_looked_for(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finding, "FIRST_SLICE", 10)
    key = load_key(postgres, tmp_path / "key")
    log, writer = Log.open(fill(postgres, tmp_path)), open_database(postgres, key)
    late = iter([msgspec.structs.replace(EVENTS[-1], id=EVENTS[-5].id + 1)])

    def write_late(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "count(*)" in statement and (call := next(late, None)) is not None:
            with writing(writer) as connection:
                ingest(connection, [call])

    event.listen(log._engine, "before_cursor_execute", write_late)
    page = log.calls(Filter(), limit=40)
    log.close()
    writer.dispose()

    assert next(late, None) is None
    assert [row.id for row in page.rows] == [call.id for call in EVENTS[: -40 - 1 : -1]]


@pytest.mark.parametrize("id_", ["1", "99999999999999999999999", "nobody's", "", "-1", "²"])
def test_a_call_that_is_not_there(log: Log, id_: str) -> None:
    assert log.call(id_) is None


@pytest.mark.parametrize("days", [None, DAYS + 5, 4, 1, 0], ids=str)
def test_integrations_are_counted_by_what_they_did(log: Log, days: int | None) -> None:
    since = 0 if days is None else int((NOW - timedelta(days=days)).timestamp() * 1000)
    counted = EVENTS if days is None else [call for call in EVENTS if counts(call, since)]
    found = log.integrations(since=since)

    assert [each.last_seen for each in found] == sorted(
        (each.last_seen for each in found), reverse=True
    )
    assert {each.id for each in found} == {call.integration for call in EVENTS}
    for each in found:
        own = [call for call in counted if call.integration == each.id]
        ever = [call.id >> TIME_SHIFT for call in EVENTS if call.integration == each.id]
        noted = Counter(code for call in own for code in {note.code for note in call.notes})
        assert (each.first_seen, each.last_seen) == (min(ever), max(ever))
        assert each.calls == len(own)
        assert each.outcomes == Counter(call.outcome for call in own)
        assert each.not_served == sum(call.outcome != "served" for call in own)
        assert set(each.routes) == {f"{call.method} {call.route or call.path}" for call in own}
        assert each.dialects == sorted({call.dialect for call in own if call.dialect})
        if days is None:
            assert each.notes == noted
        assert log.integration(each.id, since=since) == each


def counts(call: CallEvent, since: int) -> bool:
    """Tell whether a call is of a period that is counted: hours of late, else days."""
    is_recent = since >= time.time_ns() // 1_000_000 - 3 * DAY
    size = HOUR if is_recent else DAY
    return (call.id >> TIME_SHIFT) // size >= since // size


@pytest.mark.parametrize("years", [10, 200, 7000])
def test_nothing_was_in_a_time_to_come(log: Log, years: int) -> None:
    since = int(time.time() + years * 365.25 * 24 * 3600) * 1000

    assert {each.calls for each in log.integrations(since=since)} == {0}
    assert log.integration(BUSIEST, since=since) is not None
    assert log.routes(BUSIEST, since=since) == log.routes(None, since=since) == []
    assert log.notes(BUSIEST, since=since) == log.notes(None, since=since) == []
    assert log.calls(Filter(since=since)) == Page([], None)
    assert log.failed_connections(since=since) == []
    assert log.unrecorded(since=since) == 0


def test_as_many_integrations_are_listed_as_a_bridge_tells_apart(tmp_path: Path) -> None:
    database = str(tmp_path / "log")
    engine = open_database(database, load_key(database, None))
    everybody = [
        {"id": f"{at:012x}", "is_known": True, "first_seen": at, "last_seen": at, "calls": 1}
        for at in range(1, 21_001)
    ]
    with writing(engine) as connection:
        connection.execute(insert(INTEGRATIONS), everybody)
    log = Log(engine, database)
    found = log.integrations(since=0, quiet_since=20_501)
    log.close()

    assert [each.last_seen for each in found] == [*range(20_500, 0, -1)]


def test_who_is_quiet(log: Log) -> None:
    since = int((NOW - timedelta(days=2)).timestamp() * 1000)
    last = {call.integration: call.id >> TIME_SHIFT for call in EVENTS}

    quiet = {each.id for each in log.integrations(since=0, quiet_since=since)}

    assert quiet == {id_ for id_, time in last.items() if time < since}
    assert quiet


@pytest.mark.parametrize("integration", [BUSIEST, None])
def test_routes_are_counted_by_what_came_of_them(log: Log, integration: str | None) -> None:
    own = [call for call in EVENTS if integration in {None, call.integration}]
    found = log.routes(integration)

    assert {
        (each.method, each.route, each.dialect, each.status, each.refusal): (
            each.outcome, each.calls, each.v2_calls,
        )
        for each in found
    } == {
        key: (calls[0].outcome, len(calls), sum(len(call.upstream) for call in calls))
        for key, calls in grouped(own).items()
    }  # fmt: skip
    assert [each.calls for each in found] == sorted((each.calls for each in found), reverse=True)
    size = DAY if integration is None else HOUR
    for each in found:
        calls = grouped(own)[each.method, each.route, each.dialect, each.status, each.refusal]
        times = [call.id >> TIME_SHIFT for call in calls]
        assert each.first_seen == min(times) // DAY * DAY
        assert each.last_seen == max(times) // size * size
        mean = sum(call.milliseconds for call in calls) / len(calls)
        assert each.milliseconds == pytest.approx(mean)


def grouped(calls: Sequence[CallEvent]) -> dict[tuple[object, ...], list[CallEvent]]:
    found: dict[tuple[object, ...], list[CallEvent]] = {}
    for call in calls:
        key = (call.method, call.route or call.path, call.dialect, call.status, call.refusal)
        found.setdefault(key, []).append(call)
    return found


@pytest.mark.parametrize("integration", [BUSIEST, None])
def test_notes_are_counted_by_calls_and_by_times(log: Log, integration: str | None) -> None:
    calls: Counter[tuple[str, ...]] = Counter()
    times: Counter[tuple[str, ...]] = Counter()
    for call in EVENTS:
        if integration in {None, call.integration}:
            for note in call.notes:
                key = (call.method, call.route or "", note.code, note.subject)
                calls[key] += 1
                times[key] += note.count

    found = log.notes(integration)

    assert {
        (each.method, each.route, each.code, each.subject): (each.calls, each.count)
        for each in found
    } == {key: (calls[key], times[key]) for key in calls}


@pytest.mark.parametrize("step", [HOUR, 6 * HOUR, DAY])
@pytest.mark.parametrize("by", ["outcome", "integration"])
@pytest.mark.parametrize("integration", [BUSIEST, None])
def test_a_timeline_has_the_calls_of_each_period(
    log: Log, by: str, step: int, integration: str | None
) -> None:
    until = int(NOW.timestamp() * 1000)
    since = (until - 5 * DAY) // step * step
    wanted: Counter[tuple[int, str]] = Counter()
    for call in EVENTS:
        when = call.id >> TIME_SHIFT
        if when >= since and integration in {None, call.integration}:
            wanted[when // step * step, getattr(call, by)] += 1

    found = log.timeline(by=by, since=since, until=until, step=step, integration=integration)

    assert {(each.since, each.by): each.calls for each in found} == wanted
    assert [each.since for each in found] == sorted(each.since for each in found)


def test_what_an_operator_says_of_an_integration_stays_until_it_is_taken_back(log: Log) -> None:
    log.describe(BUSIEST, name="The cron job", owner=" Bob ", state=State.CONTACTED)
    log.describe(BUSIEST, remark="asks <script>")
    told = log.integration(BUSIEST)

    assert told is not None
    assert (told.name, told.owner, told.state, told.remark, told.title) == (
        "The cron job", "Bob", State.CONTACTED, "asks <script>", "The cron job",
    )  # fmt: skip
    assert log.find_integration("the CRON job").id == BUSIEST

    log.describe(BUSIEST, name="", owner="", state=State.UNKNOWN, remark="")
    told = log.integration(BUSIEST)
    assert told is not None
    assert (told.name, told.owner, told.state, told.remark) == (None, None, State.UNKNOWN, None)


def test_an_integration_is_found_by_the_beginning_of_its_id_and_by_its_label(log: Log) -> None:
    labelled = next(each for each in log.integrations(since=0) if each.label)

    assert log.find_integration(labelled.id[:8]).id == labelled.id
    assert labelled.label is not None
    assert log.find_integration(labelled.label.upper()).id == labelled.id


@pytest.mark.parametrize("text", ["", "zz", "nobody", "%", "_"])
def test_an_integration_that_is_not_there(log: Log, text: str) -> None:
    with pytest.raises(UnknownIntegration, match="no integration"):
        log.find_integration(text)


def test_the_beginning_of_several_ids_names_none_of_them(log: Log) -> None:
    first = Counter(each.id[0] for each in log.integrations(since=0)).most_common(1)[0][0]

    with pytest.raises(UnknownIntegration, match="more than one"):
        log.find_integration(first)


def test_nobody_is_described_who_is_not_there(log: Log) -> None:
    with pytest.raises(UnknownIntegration):
        log.describe("ffffffffffff", name="x")


def test_failed_connections_of_all_days_are_counted_together(log: Log) -> None:
    told = list(failed_connections(count=60, days=DAYS, until=NOW))
    wanted: Counter[tuple[str, str, str]] = Counter()
    for each in told:
        wanted[each.network, each.event, each.reason] += each.count

    found = log.failed_connections()

    assert {(each.network, each.event, each.reason): each.count for each in found} == wanted
    assert all(each.first_seen <= each.last_seen for each in found)
    assert [each.last_seen for each in found] == sorted(
        (each.last_seen for each in found), reverse=True
    )


def test_calls_that_are_not_on_record_are_counted(log: Log) -> None:
    assert log.unrecorded() == 7
    assert log.unrecorded(since=(EVENTS[-1].id >> TIME_SHIFT) + 1) == 0


def test_callers_that_are_not_told_apart_have_a_title_that_says_so(tmp_path: Path) -> None:
    database = str(tmp_path / "log.sqlite")
    engine = open_database(database, load_key(database, None))
    with writing(engine) as connection:
        ingest(connection, [msgspec.structs.replace(EVENTS[0], integration=OTHERS, label=None)])
    engine.dispose()

    log = Log.open(database)
    assert [each.title for each in log.integrations(since=0)] == ["callers that are not told apart"]
    log.close()


def test_an_empty_log_has_no_answers_and_no_errors(tmp_path: Path) -> None:
    database = str(tmp_path / "log.sqlite")
    open_database(database, load_key(database, None)).dispose()
    log = Log.open(database)

    assert log.integrations(since=0) == []
    assert [*log.routes(None), *log.notes("x"), *log.failed_connections()] == []
    assert log.timeline(by="outcome", since=0, until=DAY, step=HOUR) == []
    assert log.calls(Filter(status=200)) == log.calls(Filter())
    assert log.calls(Filter()).rows == []
    assert log.unrecorded() == 0
    log.close()


def test_there_has_to_be_a_log(tmp_path: Path) -> None:
    with pytest.raises(LogError):
        Log.open(str(tmp_path / "none.sqlite"))
    assert not list(tmp_path.iterdir())


def calls_of(asked: Filter, log: Log) -> object:
    return log.calls(asked)


QUESTIONS: dict[str, Callable[[Log], object]] = {
    "integrations": lambda log: log.integrations(since=0),
    "an integration": lambda log: log.integration(BUSIEST),
    "its routes": lambda log: log.routes(BUSIEST),
    "its notes": lambda log: log.notes(BUSIEST),
    "its timeline": lambda log: log.timeline(
        by="outcome", since=SINCE, until=UNTIL, step=HOUR, integration=BUSIEST
    ),
    "a timeline": lambda log: log.timeline(by="integration", since=SINCE, until=UNTIL, step=DAY),
    "a call": lambda log: log.call(str(EVENTS[5].id)),
    **{f"calls: {name}": partial(calls_of, asked) for name, asked in FILTERS.items()},
}


@pytest.mark.parametrize("ask", QUESTIONS.values(), ids=QUESTIONS)
def test_no_question_reads_all_calls_and_none_of_an_integration_the_counts_of_all(
    tmp_path_factory: pytest.TempPathFactory,
    ask: Callable[[Log], object],
    request: pytest.FixtureRequest,
) -> None:
    """SQLite says of each statement what it would read."""
    log = planned_log(tmp_path_factory)
    scanned: set[str] = set()

    def explain(connection, cursor, statement, parameters, context, many):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
        if statement.startswith("SELECT"):
            plan = cursor.connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            scanned.update(row[3] for row in plan if row[3].startswith("SCAN "))

    engine: Engine = log._engine  # the statements are what is looked at
    event.listen(engine, "before_cursor_execute", explain)
    try:
        ask(log)
    finally:
        event.remove(engine, "before_cursor_execute", explain)
        log.close()

    name = request.node.callspec.id
    assert not any(each.startswith("SCAN calls") for each in scanned), scanned
    if name.startswith(("its", "an integration")):
        assert not any(each.startswith(("SCAN call_", "SCAN note_")) for each in scanned), scanned


def planned_log(factory: pytest.TempPathFactory) -> Log:
    folder = factory.mktemp("planned")
    database = str(folder / "log.sqlite")
    engine = open_database(database, load_key(database, None))
    with writing(engine) as connection:
        ingest(connection, EVENTS[:200])
    engine.dispose()
    return Log.open(database)
