"""From events to rows: how the tables of the translation log are filled, one batch at a time.

Calls are inserted as they are. What is counted of them is counted here, once for both databases,
and added to what the tables have. When a batch is written, and what becomes of one that cannot be,
is in `writer`.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import chain
from operator import add, attrgetter
from typing import Any

import msgspec
from sqlalchemy import Connection, Dialect, Table, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from bridge.record.log import tables
from bridge.record.log.events import (
    CLIENT_GONE,
    OTHERS,
    CallEvent,
    ConnectionEvent,
    Ended,
    NoteEvent,
    line_of,
)
from bridge.record.log.ids import TIME_SHIFT
from bridge.record.log.times import DAY, HOUR

ROWS_AT_ONCE = 200
"""Rows of one statement to SQLite, and calls that are counted in one go: between two, the event
loop may have the interpreter."""

_LONGEST_IN_A_KEY = 300
"""Characters of what a client makes up: an index of PostgreSQL takes 2,704 bytes of a key."""

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
    if not is_sqlite:
        lines = b"[" + b",".join(each.line for each in calls) + b"]"
        connection.exec_driver_sql(_CALLS_OF_LINES, (lines.decode(),))
    counts = _Counts()
    for start in range(0, len(calls), ROWS_AT_ONCE):
        some = [each.call for each in calls[start : start + ROWS_AT_ONCE]]
        if is_sqlite:
            _insert_calls(connection, some)
        else:
            time.sleep(0)
        counts.add(some)
    write = _add_values if is_sqlite else _add_json
    for table, rows in counts.rows():
        write(connection, table, rows)


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
    is_postgresql = connection.dialect.name == "postgresql"
    return postgresql.insert(table) if is_postgresql else sqlite.insert(table)


# What is counted.


@dataclass(slots=True)
class _Alike:
    """Calls that are counted together: a row of `call_hours` and `call_days`, without its key."""

    calls: int = 0
    v2_calls: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    with_notes: int = 0
    milliseconds: float = 0.0
    v2_milliseconds: float = 0.0

    def plus(self, other: "_Alike") -> "_Alike":
        return _Alike(*map(add, _sums_of(self), _sums_of(other)))


_sums_of = attrgetter(*_Alike.__slots__)


@dataclass(slots=True)
class _Seen:
    """The calls of an integration."""

    latest: CallEvent
    first: int
    calls: int = 0


_Key = tuple[Any, ...]
_Row = tuple[Any, ...]

_WHO = ("account_id", "subdomain", "login", "token", "agent", "network", "way", "is_known",
        "label", "user_agent", "address", "host")  # fmt: skip
_who_of = attrgetter(*_WHO)
_NOBODY = tuple(False if name == "is_known" else None for name in _WHO)
"""What is not told apart has nothing in common."""


class _Counts:
    """What a batch adds to the tables of counts."""

    def __init__(self) -> None:
        self._hours: dict[_Key, _Alike] = {}
        self._notes: dict[_Key, list[int]] = {}
        self._seen: dict[str, _Seen] = {}

    def add(self, calls: Iterable[CallEvent]) -> None:
        for call in calls:
            time_, integration = call.id >> TIME_SHIFT, call.integration
            route = call.path or "" if call.route is None else call.route
            route = route[:_LONGEST_IN_A_KEY]
            key = (
                time_ // HOUR, integration, call.method, route, call.dialect or "",
                call.status or 0, call.refusal or "", call.outcome,
            )  # fmt: skip
            alike = self._hours.get(key)
            if alike is None:
                alike = self._hours[key] = _Alike()
            alike.calls += 1
            alike.v2_calls += len(call.upstream)
            alike.bytes_in += call.bytes_in
            alike.bytes_out += call.bytes_out
            alike.milliseconds += call.milliseconds
            alike.v2_milliseconds += call.v2_milliseconds or 0.0
            if call.notes:
                alike.with_notes += 1
                self._add_notes((time_ // DAY, integration, call.method, route), call.notes)
            seen = self._seen.get(integration)
            if seen is None:
                seen = self._seen[integration] = _Seen(call, call.id)
            seen.calls += 1
            if call.id > seen.latest.id:
                seen.latest = call
            elif call.id < seen.first:
                seen.first = call.id

    def _add_notes(self, of_call: _Key, notes: Iterable[NoteEvent]) -> None:
        for note in notes:
            key = (*of_call, note.code, note.subject[:_LONGEST_IN_A_KEY])
            sums = self._notes.setdefault(key, [0, 0])
            sums[0] += 1
            sums[1] += note.count

    def rows(self) -> Iterator[tuple[Table, list[_Row]]]:
        """Return the rows of each table, in the order of their keys.

        So two bridges wait for each other, and neither for ever.
        """
        yield tables.HOURS, _sorted(self._hours)
        days: dict[_Key, _Alike] = {}
        for (hour, *rest), alike in self._hours.items():
            key = (hour * HOUR // DAY, *rest)
            known = days.get(key)
            days[key] = alike if known is None else known.plus(alike)
        yield tables.DAYS, _sorted(days)
        yield tables.NOTES, [(*key, *sums) for key, sums in sorted(self._notes.items())]
        yield (
            tables.INTEGRATIONS,
            [
                (
                    integration,
                    *(_NOBODY if integration == OTHERS else _who_of(seen.latest)),
                    seen.first >> TIME_SHIFT,
                    seen.latest.id >> TIME_SHIFT,
                    seen.calls,
                )
                for integration, seen in sorted(self._seen.items())
            ],
        )


def _sorted(counted: Mapping[_Key, _Alike]) -> list[_Row]:
    return [(*key, *_sums_of(counted[key])) for key in sorted(counted)]


def _keys(table: Table) -> tuple[str, ...]:
    return tuple(column.name for column in table.primary_key.columns)


_COLUMNS = {
    tables.HOURS: (*_keys(tables.HOURS), *_Alike.__slots__),
    tables.DAYS: (*_keys(tables.DAYS), *_Alike.__slots__),
    tables.NOTES: (*_keys(tables.NOTES), "calls", "count"),
    tables.INTEGRATIONS: ("id", *_WHO, "first_seen", "last_seen", "calls"),
}
"""What there is of a table in the rows of `_Counts`."""


@cache
def _on_conflict(table: Table) -> str:
    """Return what a row changes in one that is there: sums, and who calls as of the latest call."""
    later = "excluded.last_seen >= integrations.last_seen"
    earlier = "excluded.first_seen < integrations.first_seen"
    changes = {
        name: f"{table.name}.{name} + excluded.{name}"
        for name in _COLUMNS[table]
        if name not in _keys(table)
    }
    if table is tables.INTEGRATIONS:
        for name in (*_WHO, "last_seen"):
            changes[name] = f"CASE WHEN {later} THEN excluded.{name} ELSE integrations.{name} END"
        changes["first_seen"] = (
            f"CASE WHEN {earlier} THEN excluded.first_seen ELSE integrations.first_seen END"
        )
    return f"ON CONFLICT ({', '.join(_keys(table))}) DO UPDATE SET " + ", ".join(
        f"{name} = {value}" for name, value in changes.items()
    )


# SQLite takes values: on versions before 3.45, to read JSON takes it four times as long.


def _json_of(some: Sequence[msgspec.Struct]) -> str | None:
    return _json.encode(some).decode() if some else None


_READ: dict[str, Callable[[CallEvent], Any]] = {
    **{column.name: attrgetter(column.name) for column in tables.CALLS.columns},
    "client_gone": lambda call: int(call.event == CLIENT_GONE),
    "upstream": lambda call: _json_of(call.upstream),
    "notes": lambda call: _json_of(call.notes),
}


def _insert_calls(connection: Connection, calls: Sequence[CallEvent]) -> None:
    # To give SQLite a NULL takes four times as long as a text, and half of the columns are NULL.
    nothing = [None] * len(calls)
    columns = {
        name: column
        for name, read in _READ.items()
        if (column := list(map(read, calls))) != nothing
    }
    values = tuple(chain.from_iterable(zip(*columns.values(), strict=True)))
    connection.exec_driver_sql(_insert_values("calls", tuple(columns), len(calls)), values)


def _add_values(connection: Connection, table: Table, rows: Sequence[_Row]) -> None:
    for start in range(0, len(rows), ROWS_AT_ONCE):
        some = rows[start : start + ROWS_AT_ONCE]
        into = _insert_values(table.name, _COLUMNS[table], len(some))
        connection.exec_driver_sql(
            f"{into} {_on_conflict(table)}", tuple(chain.from_iterable(some))
        )


@lru_cache(maxsize=256)
def _insert_values(table: str, columns: tuple[str, ...], rows: int) -> str:
    row = f"({', '.join('?' * len(columns))})"
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES {', '.join([row] * rows)}"


# PostgreSQL takes JSON, calls as they stand in the log: it reads that fast, and on its own time.

_POSTGRESQL: Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]


def _add_json(connection: Connection, table: Table, rows: Sequence[_Row]) -> None:
    if not rows:
        return
    named = [dict(zip(_COLUMNS[table], row, strict=True)) for row in rows]
    connection.exec_driver_sql(_add_json_to(table), (_json.encode(named).decode(),))


@cache
def _add_json_to(table: Table) -> str:
    columns = {name: name for name in _COLUMNS[table]}
    return f"{_insert_json(table, columns)} {_on_conflict(table)}"


def _insert_json(table: Table, columns: Mapping[str, str], *more: str) -> str:
    """Return what inserts the objects of an array, each column by an expression of its fields."""
    fields = [f"{name} {_type_of(table, name)}" for name in columns if name != "client_gone"]
    return f"""
        INSERT INTO {table.name} ({", ".join(columns)}) SELECT {", ".join(columns.values())}
        FROM json_to_recordset(%s::json) AS each ({", ".join((*fields, *more))})
    """


def _type_of(table: Table, column: str) -> str:
    if table is tables.CALLS and column in {"upstream", "notes"}:
        return "json"
    return table.columns[column].type.compile(_POSTGRESQL)


_CALLS_OF_LINES = _insert_json(
    tables.CALLS,
    {column.name: column.name for column in tables.CALLS.columns}
    # What is equal to its default is not in a line.
    | {name: f"coalesce({name}, 0)" for name in ("bytes_in", "bytes_out")}
    | {
        name: f"CASE WHEN json_array_length({name}) > 0 THEN {name} END"
        for name in ("upstream", "notes")
    }
    | {"client_gone": f"event = '{CLIENT_GONE}'"},
    "event text",
)
