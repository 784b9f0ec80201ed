"""From events to rows: how the tables of the translation log are filled, one batch at a time.

When a batch is written, and what becomes of one that cannot be, is written in `writer`.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Table, insert
from sqlalchemy.dialects import postgresql, sqlite

from bridge.record.log import tables
from bridge.record.log.events import CallEvent

HOUR = 3600 * 1000
DAY = 24 * HOUR
TIME_SHIFT = 22
"""Bits of an id below its milliseconds."""

_json = msgspec.json.Encoder()

_COLUMNS = tuple(column.name for column in tables.CALLS.columns)


def ingest(connection: Connection, calls: Sequence[CallEvent]) -> None:
    """Write calls that have ended, and count them, within the transaction of `connection`."""
    if not calls:
        return
    connection.execute(insert(tables.CALLS), [_row(call) for call in calls])
    _count(connection, calls)


def _row(call: CallEvent) -> dict[str, Any]:
    row = {name: getattr(call, name, None) for name in _COLUMNS}
    row["client_gone"] = call.event == "client_gone"
    row["upstream"] = _json.encode(call.upstream).decode() if call.upstream else None
    row["notes"] = _json.encode(call.notes).decode() if call.notes else None
    return row


def _count(connection: Connection, calls: Sequence[CallEvent]) -> None:
    hours: defaultdict[tuple[Any, ...], list[float]] = defaultdict(lambda: [0] * 7)
    notes: defaultdict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0, 0])
    seen: dict[str, dict[str, Any]] = {}
    for call in calls:
        time = call.id >> TIME_SHIFT
        route = call.route or call.path or ""
        key = (
            time // HOUR, call.integration, call.method, route, call.dialect or "",
            call.status or 0, call.refusal or "", call.outcome,
        )  # fmt: skip
        counts = hours[key]
        for at, value in enumerate((
            1, len(call.upstream), call.bytes_in, call.bytes_out, bool(call.notes),
            call.milliseconds, call.v2_milliseconds or 0.0,
        )):  # fmt: skip
            counts[at] += value
        for note in call.notes:
            noted = notes[
                time // DAY, call.integration, call.method, route, note.code, note.subject
            ]
            noted[0] += 1
            noted[1] += note.count
        known = seen.get(call.integration)
        seen[call.integration] = {
            **{name: getattr(call, name) for name in _WHO},
            "id": call.integration,
            "first_seen": known["first_seen"] if known else time,
            "last_seen": time,
            "calls": known["calls"] + 1 if known else 1,
        }
    names = ("calls", "v2_calls", "bytes_in", "bytes_out", "with_notes", "milliseconds",
             "v2_milliseconds")  # fmt: skip
    keys = ("integration", "method", "route", "dialect", "status", "refusal", "outcome")
    for table, period, size in ((tables.HOURS, "hour", 1), (tables.DAYS, "day", 24)):
        summed: defaultdict[tuple[Any, ...], list[float]] = defaultdict(lambda: [0] * 7)
        for (hour, *rest), counts in hours.items():
            sums = summed[hour // size, *rest]
            for at, count in enumerate(counts):
                sums[at] += count
        rows = [
            dict(zip((period, *keys, *names), (*key, *counts), strict=True))
            for key, counts in summed.items()
        ]
        _add(connection, table, rows, names)
    note_keys = ("day", "integration", "method", "route", "code", "subject")
    _add(connection, tables.NOTES, [
        dict(zip((*note_keys, "calls", "count"), (*key, *counts), strict=True))
        for key, counts in notes.items()
    ], ("calls", "count"))  # fmt: skip
    _add(connection, tables.INTEGRATIONS, list(seen.values()), ("calls",), (*_LATEST, "last_seen"))


_WHO = ("account_id", "subdomain", "login", "token", "agent", "network", "way", "is_known",
        "label", "user_agent", "address", "host")  # fmt: skip
_LATEST = ("way", "is_known", "label", "user_agent", "address", "host")


def _add(
    connection: Connection,
    table: Table,
    rows: list[dict[str, Any]],
    summed: Sequence[str],
    latest: Sequence[str] = (),
) -> None:
    """Insert rows; where one with the same key is there, add the sums and take the latest."""
    if not rows:
        return
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(table)
    new = statement.excluded
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=list(table.primary_key.columns),
            set_={
                **{name: table.c[name] + new[name] for name in summed},
                **{name: new[name] for name in latest},
            },
        ),
        rows,
    )
