"""What the translation log takes: a million calls into each store, then every question. See README.

Run it as `python -m tests.bench.bench_log`, with `sqlite` or `postgresql` for one store.
"""

import argparse
import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from time import perf_counter, process_time, thread_time
from typing import NamedTuple

from sqlalchemy import Engine, text

from bridge.record.log.database import is_server, load_key, open_database, writing
from bridge.record.log.events import Ended, Outcome
from bridge.record.log.finding import Filter
from bridge.record.log.ingest import ended, ingest_connections, ingest_ended
from bridge.record.log.reports import Log
from bridge.record.log.retention import Retention
from bridge.record.log.times import DAY, HOUR
from bridge.record.log.writer import AT_ONCE, LogWriter
from tests.bench.pages import timed_pages
from tests.bench.reports import say
from tests.support.postgres import running_server
from tests.support.recorded_days import failed_connections, recorded_days

ROUNDS = 5
BUSY_CALLS = 2_000
"""Calls a second while pauses of the event loop are measured."""
BUSY_SECONDS = 5.0
OF_A_CALL = 0.0003
"""Seconds of Python that each of those calls takes besides."""


class Filling(NamedTuple):
    """How calls got into a store."""

    calls: int
    microseconds: float
    """Of the writer's thread a call: CPU time of this process, not of the server's."""
    seconds: float
    size: int


def _fill(engine: Engine, database: str, calls: int, integrations: int, days: int) -> Filling:
    until = datetime.now(UTC)
    made = recorded_days(calls=calls, integrations=integrations, days=days, until=until)
    cpu = wall = 0.0
    while batch := [ended(call) for call in islice(made, AT_ONCE)]:
        before, started = thread_time(), perf_counter()
        with writing(engine) as connection:
            ingest_ended(connection, batch)
        cpu, wall = cpu + thread_time() - before, wall + perf_counter() - started
    with writing(engine) as connection:
        ingest_connections(connection, failed_connections(count=5_000, days=days, until=until))
    return Filling(calls, cpu / calls * 1e6, wall, _size(engine, database))


def _size(engine: Engine, database: str) -> int:
    with engine.connect() as connection:
        if is_server(database):
            size = text("SELECT pg_database_size(current_database())")
            return int(connection.execute(size).scalar_one())
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.exec_driver_sql("BEGIN")
    return Path(database).stat().st_size


def _questions(log: Log) -> dict[str, Callable[[], object]]:
    """Return every question, in the form that pages and commands ask it."""
    now = int(time.time() * 1000)
    month, quarter = now - 30 * DAY, now - 90 * DAY
    everybody = sorted(log.integrations(since=0), key=lambda each: each.calls)
    busiest, quietest = everybody[-1].id, everybody[0].id
    latest = log.calls(Filter()).rows[0]

    def asked(**filter_: object) -> Callable[[], object]:
        return lambda: log.calls(Filter(**filter_))  # type: ignore[arg-type]

    return {
        "integrations, 90 days": lambda: log.integrations(since=quarter),
        "integrations, 30 days": lambda: log.integrations(since=month),
        "integrations, quiet for 30 days": lambda: log.integrations(since=month, quiet_since=month),
        "one integration, 30 days": lambda: log.integration(busiest, since=month),
        "find an integration": lambda: log.find_integration(busiest[:10]),
        "routes of all, 90 days": lambda: log.routes(None, since=quarter),
        "routes of all, 30 days": lambda: log.routes(None, since=month),
        "routes of one, ever": lambda: log.routes(busiest),
        "notes of all, 90 days": lambda: log.notes(None, since=quarter),
        "notes of one, 30 days": lambda: log.notes(busiest, since=month),
        "timeline by outcome, 60 days by days": lambda: log.timeline(
            by="outcome", since=now - 60 * DAY, until=now, step=DAY
        ),
        "timeline by integration, 60 days by days": lambda: log.timeline(
            by="integration", since=now - 60 * DAY, until=now, step=DAY
        ),
        "timeline by integration, 7 days by hours": lambda: log.timeline(
            by="integration", since=now - 7 * DAY, until=now, step=HOUR
        ),
        "timeline by outcome, 7 days by hours": lambda: log.timeline(
            by="outcome", since=now - 7 * DAY, until=now, step=HOUR
        ),
        "timeline of one, 60 days by days": lambda: log.timeline(
            by="outcome", since=now - 60 * DAY, until=now, step=DAY, integration=busiest
        ),
        "latest calls": asked(),
        "calls of one": asked(integration=busiest),
        "calls of the quietest": asked(integration=quietest),
        "calls refused": asked(outcome=Outcome.REFUSED),
        "calls refused, by reason": asked(refusal="wrong-password"),
        "calls of one that failed": asked(integration=busiest, outcome=Outcome.FAILED),
        "calls with a status": asked(status=502),
        "calls of a route": asked(route="/account/who_am_i"),
        "calls of an untranslated path": asked(route="/daily/{…}/{…}"),
        "calls with a note": asked(note="body-dropped"),
        "calls with a note nobody has": asked(note="double-slash"),
        "calls of one, with a note": asked(integration=busiest, note="body-dropped"),
        "calls of a day long ago": asked(since=now - 50 * DAY, until=now - 49 * DAY),
        "a call by its id": lambda: log.call(str(latest.id)),
        "a call by its request id": lambda: log.call(latest.request_id),
        "a call by a request id of none": lambda: log.call("0" * 32),
        "failed connections, ever": log.failed_connections,
        "unrecorded, ever": log.unrecorded,
    }


def _timed(log: Log) -> dict[str, float]:
    """Return the median of the milliseconds that each question takes."""
    took = {}
    for name, ask in _questions(log).items():
        rounds = []
        for _ in range(ROUNDS):
            started = perf_counter()
            ask()
            rounds.append(perf_counter() - started)
        took[name] = median(rounds) * 1000
    return took


async def _busy(tell: Callable[[Ended], None], calls: list[Ended]) -> list[float]:
    """Take up calls at a steady pace, and return how late each began, in milliseconds."""
    late = []
    started = perf_counter()
    for number in range(int(BUSY_CALLS * BUSY_SECONDS)):
        due = started + number / BUSY_CALLS
        while (now := perf_counter()) < due:  # noqa: ASYNC110 - it is the clock that is waited for
            await asyncio.sleep(due - now)
        late.append((now - due) * 1000)
        end = thread_time() + OF_A_CALL
        while thread_time() < end:
            pass
        tell(calls[number])
    return late


def _pauses(database: str, folder: Path) -> None:
    """Compare an event loop that tells a writer of its calls with one that tells nobody."""
    calls = [
        ended(call)
        for call in recorded_days(
            calls=int(BUSY_CALLS * BUSY_SECONDS * ROUNDS), integrations=500, days=1
        )
    ]
    each = int(BUSY_CALLS * BUSY_SECONDS)
    writer = LogWriter(
        database, load_key(database, folder / "key"), Retention(days=60, size=1 << 40)
    )
    writer.start()
    for number in range(ROUNDS):
        for name, tell in (
            ("nobody", lambda _: None),
            ("the writer", lambda each: writer.ended([each])),
        ):
            before = process_time()
            late = asyncio.run(_busy(tell, calls[number * each : (number + 1) * each]))
            spent = (process_time() - before) / each * 1e6
            p99 = quantiles(late, n=100)[-1]
            say(
                f"told to {name}: {spent:.0f} µs of CPU time a call; late by {median(late):.2f} ms "
                f"(median), {p99:.2f} (p99), {max(late):.2f} (most)"
            )
    writer.stop()
    say("")


def _measure(name: str, database: str, folder: Path, options: argparse.Namespace) -> None:
    key = load_key(database, folder / "key")
    engine = open_database(database, key)
    filling = _fill(engine, database, options.calls, options.integrations, options.days)
    say(
        f"## {name}: {filling.calls:,} calls of {options.integrations} integrations in "
        f"{options.days} days",
        f"{filling.size / filling.calls:.0f} bytes a call; {filling.microseconds:.1f} µs of the "
        f"writer's CPU time a call, {filling.calls / filling.seconds:,.0f} calls a second",
        "",
    )
    log = Log.open(database)
    for question, milliseconds in _timed(log).items():
        say(f"| {question} | {milliseconds:.1f} |")
    log.close()
    for page, milliseconds in asyncio.run(timed_pages(database, ROUNDS)).items():
        say(f"| the page {page} | {milliseconds:.1f} |")
    engine.dispose()
    say("")
    if options.pauses:
        _pauses(database, folder)


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_log", description=__doc__)
    parser.add_argument("store", nargs="*", choices=["sqlite", "postgresql", []], default=[])
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--integrations", type=int, default=500)
    parser.add_argument("--days", type=int, default=60)
    parser.add_argument("--pauses", action="store_true", help="of an event loop, measured as well")
    parser.add_argument("--folder", type=Path, help="for the SQLite file")
    options = parser.parse_args()
    stores = options.store or ["sqlite", "postgresql"]
    with TemporaryDirectory(dir=options.folder) as made:
        folder = Path(made)
        if "sqlite" in stores:
            _measure("SQLite", str(folder / "log.sqlite"), folder, options)
        if "postgresql" in stores:
            with running_server() as server:
                _measure("PostgreSQL", server.new_database(), folder, options)


if __name__ == "__main__":
    main()
