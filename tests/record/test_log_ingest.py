"""How the log's tables are filled: alike in both databases, and however calls come in batches."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, delete, select
from sqlalchemy.exc import SQLAlchemyError

from bridge.record.log import tables
from bridge.record.log.database import KEY_LENGTH, is_of_data, open_database, writing
from bridge.record.log.events import (
    OTHERS,
    CallEvent,
    ConnectionEvent,
    NoteEvent,
    UpstreamCallEvent,
    outcome_of,
)
from bridge.record.log.ids import TIME_SHIFT
from bridge.record.log.ingest import (
    cleaned,
    ended,
    ingest,
    ingest_connections,
    ingest_ended,
    is_ingested,
)
from bridge.record.log.times import DAY, HOUR
from tests.support.recorded_days import recorded_days

KEY = b"k" * KEY_LENGTH

FILLED = (tables.CALLS, tables.HOURS, tables.DAYS, tables.NOTES, tables.INTEGRATIONS)

START = 1_790_000_000_000
"""Some time, in milliseconds since 1970."""

words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
maybe = st.none() | words
milliseconds = st.integers(0, 10_000_000).map(lambda number: number / 8)  # sums of those are exact
upstream = st.builds(
    UpstreamCallEvent,
    method=st.sampled_from(["GET", "POST"]),
    path=words,
    route=words,
    status=st.none() | st.just(200),
    milliseconds=st.none() | milliseconds,
    page=st.none() | st.integers(1, 50),
)
notes = st.builds(
    NoteEvent, code=st.sampled_from(["a", "b"]), subject=words, count=st.integers(1, 9)
)


@st.composite
def calls(draw: st.DrawFn) -> list[CallEvent]:
    """Some calls in the order of time, of few integrations and routes, so that they meet."""
    ids = sorted(draw(st.sets(st.integers(0, 3 * DAY), max_size=30)))
    return [draw(call(((START + time) << TIME_SHIFT) + time % 7)) for time in ids]


def call(id_: int) -> st.SearchStrategy[CallEvent]:
    statuses = st.sampled_from([None, 200, 401, 404, 501])
    return statuses.flatmap(
        lambda status: st.builds(
            CallEvent,
            event=st.sampled_from(["legacy_call", "client_gone"]),
            level=st.just("info"),
            timestamp=st.just(datetime.fromtimestamp((id_ >> TIME_SHIFT) / 1000, UTC)),
            id=st.just(id_),
            request_id=words,
            integration=st.sampled_from(["aaaaaaaaaaaa", "bbbbbbbbbbbb", OTHERS]),
            method=st.sampled_from(["GET", "POST"]),
            route=st.sampled_from([None, "/x", "/y"]),
            path=st.sampled_from([None, "/z/{…}"]),
            dialect=st.sampled_from([None, "classic"]),
            way=maybe,
            account_id=st.none() | st.integers(1, 2**62),
            label=maybe,
            login=maybe,
            is_known=st.booleans(),
            address=maybe,
            user_agent=maybe,
            agent=maybe,
            status=st.just(status),
            outcome=st.just(outcome_of(status)),
            refusal=st.just("wrong-password") if status == 401 else st.none(),
            cause=maybe,
            milliseconds=milliseconds,
            v2_milliseconds=st.none() | milliseconds,
            bytes_in=st.integers(0, 2**40),
            bytes_out=st.integers(0, 2**40),
            upstream=st.lists(upstream, max_size=2).map(tuple),
            notes=st.lists(notes, max_size=3).map(tuple),
        )
    )


class Model:
    """The tables, as they follow from all calls at once; plain and slow."""

    def __init__(self, calls: Sequence[CallEvent]) -> None:
        self.rows: dict[str, dict[Any, dict[str, Any]]] = {
            "calls": {each.id: self._call(each) for each in calls},
            "call_hours": self._periods("hour", HOUR, calls),
            "call_days": self._periods("day", DAY, calls),
            "note_days": self._notes(calls),
            "integrations": self._integrations(calls),
        }

    def _call(self, call: CallEvent) -> dict[str, Any]:
        row = {name: getattr(call, name, None) for name in tables.CALLS.columns.keys()}  # noqa: SIM118
        return row | {
            "client_gone": call.event == "client_gone",
            "upstream": list(msgspec.to_builtins(call.upstream)) or None,
            "notes": list(msgspec.to_builtins(call.notes)) or None,
        }

    def _periods(self, name: str, size: int, calls: Sequence[CallEvent]) -> dict[Any, Any]:
        found = defaultdict(list)
        for each in calls:
            route = each.route if each.route is not None else each.path or ""
            found[
                (each.id >> TIME_SHIFT) // size, each.integration, each.method, route,
                each.dialect or "", each.status or 0, each.refusal or "", each.outcome,
            ].append(each)  # fmt: skip
        keys = (name, "integration", "method", "route", "dialect", "status", "refusal", "outcome")
        return {
            key: dict(zip(keys, key, strict=True))
            | {
                "calls": len(some),
                "v2_calls": sum(len(each.upstream) for each in some),
                "bytes_in": sum(each.bytes_in for each in some),
                "bytes_out": sum(each.bytes_out for each in some),
                "with_notes": sum(bool(each.notes) for each in some),
                "milliseconds": sum(each.milliseconds for each in some),
                "v2_milliseconds": sum(each.v2_milliseconds or 0 for each in some),
            }
            for key, some in found.items()
        }

    def _notes(self, calls: Sequence[CallEvent]) -> dict[Any, Any]:
        made, counts = Counter[Any](), Counter[Any]()
        for each in calls:
            route = each.route if each.route is not None else each.path or ""
            of_call = ((each.id >> TIME_SHIFT) // DAY, each.integration, each.method, route)
            for note in each.notes:
                key = (*of_call, note.code, note.subject)
                made[key] += 1
                counts[key] += note.count
        keys = ("day", "integration", "method", "route", "code", "subject")
        return {
            key: dict(zip(keys, key, strict=True)) | {"calls": made[key], "count": counts[key]}
            for key in made
        }

    def _integrations(self, calls: Sequence[CallEvent]) -> dict[Any, Any]:
        rows: dict[Any, Any] = {}
        who = (
            "account_id", "subdomain", "login", "token", "agent", "network", "way", "is_known",
            "label", "user_agent", "address", "host",
        )  # fmt: skip
        for each in calls:
            time = each.id >> TIME_SHIFT
            known = {name: getattr(each, name) for name in who}
            if each.integration == OTHERS:
                known = dict.fromkeys(who) | {"is_known": False}
            row = rows.setdefault(
                each.integration,
                {"id": each.integration, "first_seen": time, "calls": 0, "state": "unknown",
                 "name": None, "owner": None, "remark": None},
            )  # fmt: skip
            row |= {**known, "last_seen": time, "calls": row["calls"] + 1}
        return rows


def kept(engine: Engine) -> dict[str, dict[Any, dict[str, Any]]]:
    """Return the rows of all tables by their keys, JSON decoded."""
    found: dict[str, dict[Any, dict[str, Any]]] = {}
    with engine.connect() as connection:
        for table in FILLED:
            rows = {}
            for row in connection.execute(select(table)).mappings():
                keys = tuple(row[column.name] for column in table.primary_key.columns)
                columns = dict(row)
                for name in ("upstream", "notes"):
                    if table is tables.CALLS and columns[name] is not None:
                        columns[name] = msgspec.json.decode(columns[name])
                rows[keys if len(keys) > 1 else keys[0]] = columns
            found[table.name] = rows
    return found


def without_defaults(rows: dict[Any, dict[str, Any]]) -> dict[Any, dict[str, Any]]:
    """Return rows of `calls` whose v2 calls have what is their default left out."""
    for row in rows.values():
        row["upstream"] = row["upstream"] and [
            {name: value for name, value in each.items() if value not in {None, False}}
            for each in row["upstream"]
        ]
    return rows


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Engine]:
    if request.param == "sqlite":
        database = str(tmp_path_factory.mktemp("log") / "log.sqlite")
    else:
        database = request.getfixturevalue("postgres_server").new_database()
    engine = open_database(database, KEY)
    yield engine
    engine.dispose()


@pytest.fixture(autouse=True)
def _empty(engine: Engine) -> None:
    empty(engine)


def empty(engine: Engine) -> None:
    with writing(engine) as connection:
        for table in (*FILLED, tables.CONNECTIONS):
            connection.execute(delete(table))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(calls=calls(), cuts=st.sets(st.integers(0, 30)))
def test_whatever_the_batches_the_tables_say_what_happened(
    engine: Engine, calls: list[CallEvent], cuts: set[int]
) -> None:
    empty(engine)
    for start, end in pairwise([0, *sorted(cuts), len(calls)]):
        with writing(engine) as connection:
            ingest(connection, calls[start:end])

    told, expected = kept(engine), Model(calls).rows
    for name in told:
        if name == "calls":
            assert without_defaults(told[name]) == without_defaults(expected[name])
        else:
            assert told[name] == expected[name]


def test_a_day_of_mixed_clients_is_counted(engine: Engine) -> None:
    day = list(recorded_days(calls=3000, integrations=40, days=2))

    for start in range(0, len(day), 700):
        with writing(engine) as connection:
            ingest(connection, day[start : start + 700])

    told, expected = kept(engine), Model(day).rows
    assert told["integrations"] == expected["integrations"]
    assert told["note_days"] == expected["note_days"]
    for name in ("call_hours", "call_days"):
        assert told[name].keys() == expected[name].keys()
        for key, row in told[name].items():
            assert row == pytest.approx(expected[name][key])


def test_what_a_client_makes_up_is_cut_in_keys_and_kept_whole_in_calls(engine: Engine) -> None:
    path, subject = "/" + "p" * 500, "s" * 500
    (made,) = recorded_days(calls=1, integrations=1, days=1)
    noted = (NoteEvent("element-ignored", subject, 1),)
    long = msgspec.structs.replace(made, route=None, path=path, notes=noted)
    with writing(engine) as connection:
        ingest(connection, [long])

    told = kept(engine)
    assert [row["path"] for row in told["calls"].values()] == [path]
    for name in ("call_hours", "call_days", "note_days"):
        assert [row["route"] for row in told[name].values()] == [path[:300]]
    assert [row["subject"] for row in told["note_days"].values()] == [subject[:300]]


def test_batches_that_come_late_leave_the_latest_in_place(engine: Engine) -> None:
    """Of two bridges, one may be slower to write."""
    day = list(recorded_days(calls=400, integrations=5, days=1))
    for batch in (day[200:], day[:200]):
        with writing(engine) as connection:
            ingest(connection, batch)

    assert kept(engine)["integrations"] == Model(day).rows["integrations"]


def test_what_the_operator_says_of_an_integration_stays(engine: Engine) -> None:
    day = list(recorded_days(calls=2, integrations=1, days=1))
    with writing(engine) as connection:
        ingest(connection, day[:1])
        connection.execute(tables.INTEGRATIONS.update().values(name="billing", state="migrating"))
    with writing(engine) as connection:
        ingest(connection, day[1:])

    (row,) = kept(engine)["integrations"].values()
    assert (row["name"], row["state"], row["calls"]) == ("billing", "migrating", 2)


def test_it_can_be_told_whether_a_batch_was_written(engine: Engine) -> None:
    day = [ended(each) for each in recorded_days(calls=20, integrations=2, days=1)]
    with writing(engine) as connection:
        before = is_ingested(connection, day)
        ingest_ended(connection, day)
    with writing(engine) as connection:
        after = is_ingested(connection, day)

    assert (before, after) == (False, True)


@pytest.mark.parametrize(
    "spoil",
    [
        {"cause": "lone \ud800 surrogate"},
        {"user_agent": "nothing \0 here"},
        {"account_id": 2**63},
        {"path": "/" + "x" * 40_000, "route": None},
        {"notes": (NoteEvent("code", "\udfff\0", 1),)},
    ],
    ids=lambda spoil: next(iter(spoil)),
)
def test_what_no_database_takes_is_replaced(engine: Engine, spoil: dict[str, Any]) -> None:
    (made,) = recorded_days(calls=1, integrations=1, days=1)
    call = ended(msgspec.structs.replace(made, **spoil))
    refused = None
    try:
        with writing(engine) as connection:
            ingest_ended(connection, [call])
    except (SQLAlchemyError, UnicodeError, OverflowError) as error:
        refused = is_of_data(error)
        with writing(engine) as connection:
            ingest_ended(connection, [cleaned(call)])

    assert refused is not False
    assert list(kept(engine)["calls"]) == [made.id]


def test_failed_connections_are_counted_by_day(engine: Engine) -> None:
    def failed(time: int, count: int, detail: str) -> ConnectionEvent:
        return ConnectionEvent(
            event="not_http",
            timestamp=datetime.fromtimestamp(time / 1000, UTC),
            network="192.0.2.1",
            reason="bad-head",
            detail=detail,
            count=count,
        )

    day = START // DAY * DAY
    for batch in (
        [failed(day, 1, "a"), failed(day + 5, 2, "b")],
        [failed(day + 9, 4, "c"), failed(day + DAY, 8, "d")],
    ):
        with writing(engine) as connection:
            ingest_connections(connection, batch)

    with engine.connect() as connection:
        rows = connection.execute(select(tables.CONNECTIONS).order_by("day")).all()
    assert [tuple(row)[4:] for row in rows] == [
        (7, "c", day, day + 9),
        (8, "d", day + DAY, day + DAY),
    ]
