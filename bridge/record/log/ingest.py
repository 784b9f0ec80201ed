"""From events to rows: how the tables of the translation log are filled, one batch at a time.

A batch goes into a temporary table first; from there each database counts by itself, with the
interpreter let go. When a batch is written, and what becomes of one that cannot be, is in `writer`.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from importlib import import_module
from operator import attrgetter
from typing import Any

import msgspec
from sqlalchemy import Connection, Table, insert, select

from bridge.record.log import tables
from bridge.record.log.events import OTHERS, CallEvent, ConnectionEvent, Ended, line_of
from bridge.record.log.ids import TIME_SHIFT
from bridge.record.log.times import DAY, HOUR

ROWS_AT_ONCE = 50
"""Rows of one statement to SQLite: between two, the interpreter is asked for again."""

_WHO = ("account_id", "subdomain", "login", "token", "agent", "network", "way", "is_known",
        "label")  # fmt: skip
"""What `integrations` has of a call besides its row in `calls`."""

_CALLS = tuple(column.name for column in tables.CALLS.columns)
_TYPES = {
    "id": "bigint PRIMARY KEY", "status": "integer", "account_id": "bigint",
    "bytes_in": "bigint", "bytes_out": "bigint", "client_gone": "boolean", "is_known": "boolean",
    **dict.fromkeys(
        ("milliseconds", "v2_milliseconds", "waiting_milliseconds", "translation_milliseconds"),
        "double precision",
    ),
    **dict.fromkeys(("upstream", "notes"), "json"),
}  # fmt: skip
_BATCH = (*_CALLS, *_WHO)

_json = msgspec.json.Encoder()


def ended(call: CallEvent) -> Ended:
    """Return what sinks are told of a call, without an exchange."""
    return Ended(call, line_of(call))


def cleaned(ended: Ended) -> Ended:
    """Return a call without what no database takes as text, or as a number."""
    call = msgspec.convert(_cleaned(msgspec.to_builtins(ended.call)), CallEvent)
    return Ended(call, line_of(call), ended.exchange)


def _cleaned(value: Any) -> Any:  # noqa: ANN401 - whatever JSON can be
    match value:
        case str():
            return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
        case int() if abs(value) >= 1 << 63:
            return None
        case dict():
            return {name: _cleaned(each) for name, each in value.items()}
        case list() | tuple():
            return [_cleaned(each) for each in value]
        case _:
            return value


def ingest(connection: Connection, calls: Sequence[CallEvent]) -> None:
    """Write calls that have ended, and count them, within the transaction of `connection`."""
    ingest_ended(connection, [ended(call) for call in calls])


def ingest_ended(connection: Connection, calls: Sequence[Ended]) -> None:
    """Write calls that have ended, and count them, within the transaction of `connection`.

    In which batches they come makes no difference to the tables.
    """
    if not calls:
        return
    is_sqlite = connection.dialect.name == "sqlite"
    prepare, clear, count = _statements(connection.dialect.name)
    connection.exec_driver_sql(prepare)
    if is_sqlite:
        _fill_sqlite(connection, calls)
    else:
        lines = b"[" + b",".join(each.line for each in calls) + b"]"
        connection.exec_driver_sql(_FILL_POSTGRESQL, (lines.decode(),))
    for statement in count:
        connection.exec_driver_sql(statement)
    connection.exec_driver_sql(clear)


def is_ingested(connection: Connection, calls: Sequence[Ended]) -> bool:
    """Tell whether a batch has been written, by a transaction whose end was not heard of."""
    first = select(tables.CALLS.c.id).where(tables.CALLS.c.id == calls[0].call.id)
    return connection.execute(first).first() is not None


def ingest_connections(connection: Connection, events: Iterable[ConnectionEvent]) -> None:
    """Count connections that failed, within the transaction of `connection`."""
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for event in events:
        time = int(event.timestamp.timestamp() * 1000)
        key = (time // DAY, event.network, event.event, event.reason)
        row = rows.setdefault(key, {"count": 0, "first_seen": time})
        row |= {"detail": event.detail, "last_seen": time, "count": row["count"] + event.count}
    if not rows:
        return
    table = tables.CONNECTIONS
    new = _insert(connection, table)
    connection.execute(
        new.on_conflict_do_update(
            index_elements=list(table.primary_key.columns),
            set_={
                "count": table.c.count + new.excluded.count,
                "detail": new.excluded.detail,
                "last_seen": new.excluded.last_seen,
            },
        ),
        [
            dict(zip(("day", "network", "event", "reason"), key, strict=True)) | row
            for key, row in sorted(rows.items())
        ],
    )


def ingest_gap(connection: Connection, id_: int, calls: int, since: int, reason: str) -> None:
    """Write down that so many calls since then were served and not kept."""
    row = {"id": id_, "calls": calls, "since": since, "reason": reason}
    connection.execute(insert(tables.GAPS), row)


def _insert(connection: Connection, table: Table) -> Any:  # noqa: ANN401 - of two classes alike
    # The one in use is imported already; to import the other as well takes long.
    return import_module(f"sqlalchemy.dialects.{connection.dialect.name}").insert(table)


# SQLite takes values: on versions before 3.45, to read the JSON takes it four times as long.

_as_they_are = attrgetter(
    *(name for name in _BATCH if name not in {"client_gone", "upstream", "notes"})
)
_FILLED = (*(name for name in _BATCH if name not in {"client_gone", "upstream", "notes"}),
           "client_gone", "upstream", "notes")  # fmt: skip


def _fill_sqlite(connection: Connection, calls: Sequence[Ended]) -> None:
    for start in range(0, len(calls), ROWS_AT_ONCE):
        values: list[Any] = []
        some = calls[start : start + ROWS_AT_ONCE]
        for each in some:
            call = each.call
            values += _as_they_are(call)
            values.append(call.event == "client_gone")
            values.append(_json.encode(call.upstream).decode() if call.upstream else None)
            values.append(_json.encode(call.notes).decode() if call.notes else None)
        connection.exec_driver_sql(_fill_of(len(some)), tuple(values))


@cache
def _fill_of(rows: int) -> str:
    row = f"({', '.join('?' * len(_FILLED))})"
    return f"INSERT INTO batch ({', '.join(_FILLED)}) VALUES {', '.join([row] * rows)}"


# PostgreSQL takes the events as they stand in the log: it reads JSON fast, and on its own time.


def _of_json(name: str) -> str:
    match name:
        case "client_gone":
            return "coalesce(event, '') = 'client_gone'"
        case "is_known":
            return "coalesce(is_known, false)"
        case "bytes_in" | "bytes_out":
            return f"coalesce({name}, 0)"
        case "upstream" | "notes":
            return f"CASE WHEN json_array_length({name}) > 0 THEN {name} END"
        case _:
            return name


def _typed(names: Iterable[str]) -> str:
    return ", ".join(f"{name} {_TYPES.get(name, 'text')}" for name in names)


_FILL_POSTGRESQL = f"""
    INSERT INTO batch ({", ".join(_BATCH)})
    SELECT {", ".join(map(_of_json, _BATCH))}
    FROM json_to_recordset(%s::json) AS each (
        {_typed(name for name in _BATCH if name != "client_gone").replace(" PRIMARY KEY", "")},
        event text
    )
"""


@cache
def _statements(dialect: str) -> tuple[str, str, tuple[str, ...]]:
    """Return what makes the table of a batch, what empties it, and what counts what is in it."""
    columns, calls = _typed(_BATCH), ", ".join(_CALLS)
    if dialect == "sqlite":
        columns = columns.replace("bigint PRIMARY", "integer PRIMARY")
        clear = "DELETE FROM batch"
        length, elements = "json_array_length({})", "json_each({})"
        field = "json_extract(element.value, '$.{}')"
        count_of = field
    else:
        clear = "TRUNCATE batch"
        length, elements = "json_array_length({})", "json_array_elements({})"
        field = "(element.value ->> '{}')"
        count_of = f"{field}::bigint"
    route = "substr(coalesce(b.route, b.path, ''), 1, 300)"
    keys = {
        "integration": "b.integration",
        "method": "b.method",
        "route": route,
        "dialect": "coalesce(b.dialect, '')",
        "status": "coalesce(b.status, 0)",
        "refusal": "coalesce(b.refusal, '')",
    }
    sums = {
        "calls": "count(*)",
        "v2_calls": f"sum(coalesce({length.format('b.upstream')}, 0))",
        "bytes_in": "sum(b.bytes_in)",
        "bytes_out": "sum(b.bytes_out)",
        "with_notes": "count(b.notes)",
        "milliseconds": "sum(b.milliseconds)",
        "v2_milliseconds": "sum(coalesce(b.v2_milliseconds, 0.0))",
    }
    note_keys = {
        **{name: keys[name] for name in ("integration", "method", "route")},
        "code": field.format("code"),
        "subject": f"substr({field.format('subject')}, 1, 300)",
    }
    note_sums = {"calls": "count(*)", "count": f"sum({count_of.format('count')})"}
    time = f"(b.id >> {TIME_SHIFT})"
    return (
        f"CREATE TEMP TABLE IF NOT EXISTS batch ({columns})",
        clear,
        (
            f"INSERT INTO calls ({calls}) SELECT {calls} FROM batch",
            _counted(
                "call_hours",
                {"hour": f"{time} / {HOUR}", **keys},
                sums,
                {"outcome": "min(b.outcome)"},
            ),
            _counted(
                "call_days", {"day": f"{time} / {DAY}", **keys}, sums, {"outcome": "min(b.outcome)"}
            ),
            _counted(
                "note_days",
                {"day": f"{time} / {DAY}", **note_keys},
                note_sums,
                source=f"batch AS b CROSS JOIN {elements.format('b.notes')} AS element",
            ),
            _seen(time),
        ),
    )


def _counted(
    table: str,
    keys: dict[str, str],
    sums: dict[str, str],
    others: dict[str, str] | None = None,
    source: str = "batch AS b",
) -> str:
    """Return what adds a batch to a table of counts.

    Rows are locked in the order of their keys: so two bridges wait for each other, and neither
    for ever.
    """
    names = [*keys, *sums, *(others or {})]
    values = [*keys.values(), *sums.values(), *(others or {}).values()]
    places = ", ".join(str(number) for number in range(1, len(keys) + 1))
    return f"""
        INSERT INTO {table} ({", ".join(names)})
        SELECT {", ".join(values)} FROM {source} WHERE true
        GROUP BY {places} ORDER BY {places}
        ON CONFLICT ({", ".join(keys)}) DO UPDATE SET
            {", ".join(f"{name} = {table}.{name} + excluded.{name}" for name in sums)}
    """


def _seen(time: str) -> str:
    """Return what notes who has called, as of the latest call of each in a batch."""
    who = [*_WHO, "user_agent", "address", "host"]
    # What is not told apart has nothing in common.
    values = [f"CASE WHEN b.integration <> '{OTHERS}' THEN b.{name} END" for name in who]
    values[who.index("is_known")] = f"b.is_known AND b.integration <> '{OTHERS}'"
    latest = ", ".join(
        f"{name} = CASE WHEN excluded.last_seen >= integrations.last_seen "
        f"THEN excluded.{name} ELSE integrations.{name} END"
        for name in who
    )
    return f"""
        INSERT INTO integrations (id, {", ".join(who)}, first_seen, last_seen, calls)
        SELECT b.integration, {", ".join(values)},
            g.first >> {TIME_SHIFT}, {time}, g.calls
        FROM batch AS b JOIN (
            SELECT integration, min(id) AS first, max(id) AS last, count(*) AS calls
            FROM batch GROUP BY integration
        ) AS g ON g.last = b.id
        WHERE true ORDER BY b.integration
        ON CONFLICT (id) DO UPDATE SET {latest},
            first_seen = CASE WHEN excluded.first_seen < integrations.first_seen
                THEN excluded.first_seen ELSE integrations.first_seen END,
            last_seen = CASE WHEN excluded.last_seen > integrations.last_seen
                THEN excluded.last_seen ELSE integrations.last_seen END,
            calls = integrations.calls + excluded.calls
    """
