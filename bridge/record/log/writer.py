"""The writer of the translation log: a bounded queue that holds up no call, and one thread.

What the rows of a batch are is in `ingest`, what is kept for how long in `retention`.
"""

import asyncio
import secrets
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import structlog
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from bridge.record.log.comparisons import ingest_comparisons
from bridge.record.log.database import (
    LogError,
    UnreachableLog,
    is_of_data,
    is_server,
    load_key,
    open_database,
    reported,
    shown,
    writing,
)
from bridge.record.log.events import Compared, ConnectionEvent, Ended
from bridge.record.log.ids import TIME_SHIFT
from bridge.record.log.ingest import (
    cleaned,
    ingest_connections,
    ingest_ended,
    ingest_gap,
    is_ingested,
)
from bridge.record.log.overheard import Overheard
from bridge.record.log.retention import Retention
from bridge.record.log.times import time_now

LINGER = 0.25
"""Seconds between two looks at what waits: for as long, a call is not in the database yet."""

FEW = 100
"""Calls that are written at the next look. More of them wait for more, for a large batch costs a
call less: what is counted together is written once."""

GATHERED_FOR = 1.0
"""Seconds that they wait at most."""

AT_ONCE = 2000
"""Calls of one batch."""

LET_GO_EVERY = 200
"""Calls after which the thread lets the event loop have the interpreter."""

MOST_WAITING = 20_000
"""Calls that wait for the database; further ones are dropped, and counted."""

MOST_WAITING_BYTES = 64 * 1024 * 1024
"""Bytes of their lines and exchanges, likewise."""

MOST_CONNECTIONS = 5_000
"""Failed connections that wait; they are counted together before they come here."""

MOST_COMPARISONS = 5_000
"""Comparisons that wait."""

MOST_OTHERS_BYTES = 16 * 1024 * 1024
"""Bytes of answers that wait with them; beyond that, a comparison is kept without."""

COMPARED_AT_ONCE = 500
"""Comparisons of one transaction."""

LONGEST_PAUSE = 15.0
"""Seconds until a database that has failed is tried again, at the most."""

TOLD_EVERY = 60.0
"""Seconds between two log lines of a database that goes on failing."""

SLOW = 10.0
"""Seconds after which it is worth a warning that calls still wait."""

WARNED_FOR = 3600.0
"""Seconds that lost calls stay a warning."""

TIDIED_FOR = 0.05
"""Seconds in which a turn removes what is too old, in steps; what waits is written first."""

FLUSH_TIME = 5.0
"""Seconds that a stop waits for what still waits."""

_log = structlog.get_logger("bridge.log")

Keep = Callable[[Connection, int, Overheard], None]
"""Writes the captured exchange of a call, by its id, within the connection's transaction."""


class State(NamedTuple):
    """How the writer fares, since the start."""

    waiting: int
    """Calls that are not in the database yet."""
    written: int
    dropped: int
    """Calls that were served and are not kept."""
    failing_since: float | None
    """Seconds since 1970; None: the database works."""


class _Hook:
    """Work that the thread does again and again."""

    def __init__(self, seconds: float, work: Callable[[Connection], None]) -> None:
        self.seconds = seconds
        self.work = work
        self.due = 0.0


class LogWriter:
    """Takes what the translation log is told, and writes it as the database lets it.

    The event loop appends and the thread takes; each has counters of its own, so that neither
    waits for the other.
    """

    def __init__(
        self, database: str, key: bytes, retention: Retention, keep: Keep | None = None
    ) -> None:
        """Write to a database; nothing happens before `start`."""
        self.key = key
        """The key of digests."""
        self._database = database
        self._retention = retention
        self._keep = keep
        self._hooks: list[_Hook] = []
        self._at_each_turn: list[Callable[[], None]] = []
        self._thread = threading.Thread(target=self._run, name="translation log", daemon=True)
        self._stop = threading.Event()
        self._calls: deque[Ended] = deque()
        self._connections: deque[ConnectionEvent] = deque()
        self._comparisons: deque[Compared] = deque()
        # The event loop's counters.
        self._bytes_taken = 0
        self._others_taken = 0
        self._dropped = 0
        self._dropped_at = 0.0
        # The thread's own.
        self._bytes_done = 0
        self._others_done = 0
        self._written = 0
        self._refused = 0
        """Calls that the database does not take at all."""
        self._gaps = 0
        """Of the calls that are not kept, those that `unrecorded` tells of."""
        self._batch: list[Ended] = []
        self._in_doubt = False
        """Whether the batch may have been written by a transaction whose end was not heard of."""
        self._tried = 0
        """Calls of the batch, from the first on, that this transaction had; 0: there was none."""
        self._engine: Engine | None = None
        self._file: object = None
        """Which file was opened."""
        self._pause = LINGER
        self._failing_since: float | None = None
        self._reason = ""
        self._told_at = 0.0
        self._is_cutting = False
        """Whether it has been told that calls go before their time."""
        self._idle_at = time.monotonic()
        """When nothing waited, or something was written, the last time."""

    # The sinks: they append, and nothing else.

    def ended(self, calls: Sequence[Ended]) -> None:
        """Take calls that have ended."""
        for ended in calls:
            size = _size(ended)
            waiting = self._bytes_taken - self._bytes_done
            if len(self._calls) >= MOST_WAITING or waiting + size > MOST_WAITING_BYTES:
                self._dropped += 1
                self._dropped_at = time.monotonic()
            else:
                self._bytes_taken += size
                self._calls.append(ended)

    def failed(self, event: ConnectionEvent) -> None:
        """Take connections that have failed."""
        if len(self._connections) < MOST_CONNECTIONS:
            self._connections.append(event)

    def compared(self, compared: Compared) -> bool:
        """Take a comparison; tell whether there was room."""
        if len(self._comparisons) >= MOST_COMPARISONS:
            return False
        size = _size_of_other(compared)
        if size and self._others_taken - self._others_done + size > MOST_OTHERS_BYTES:
            compared, size = compared._replace(other=None), 0
        self._others_taken += size
        self._comparisons.append(compared)
        return True

    # What others want of it.

    def every(self, seconds: float, work: Callable[[Connection], None]) -> None:
        """Have `work` done with a connection every so many seconds, by the writer's thread.

        It has a transaction of its own. An exception of it is logged, and it is tried again.
        """
        self._hooks.append(_Hook(seconds, work))

    def at_each_turn(self, work: Callable[[], None]) -> None:
        """Have `work`, which must not raise, done after each turn, also if the database fails."""
        self._at_each_turn.append(work)

    def state(self) -> State:
        """Return how it fares."""
        waiting = len(self._calls) + len(self._batch)
        return State(waiting, self._written, self._dropped + self._refused, self._failing_since)

    def keep_calls(self, *, days: int, size: int) -> None:
        """Keep calls for so many days and bytes from now on (`Retention`)."""
        self._retention.keep(days=days, size=size)

    def problem(self) -> str | None:
        """Return, in a few words, what keeps calls from being recorded; None: nothing."""
        state, now = self.state(), time.monotonic()
        counts = f"{state.waiting} calls wait, {state.dropped} are lost"
        if state.failing_since is not None:
            return f"{self._reason}; {counts}"
        if state.waiting and now - self._idle_at > SLOW:
            return f"{shown(self._database)} is slow; {counts}"
        if state.dropped and now - self._dropped_at < WARNED_FOR:
            return f"more calls came than could be written; {counts}"
        return self._retention.problem()

    def start(self) -> None:
        """Open the database, and begin to write.

        What may pass, such as a server that does not answer, is tried again.

        Raises:
            LogError: the database cannot be used.
        """
        try:
            self._open()
        except UnreachableLog as error:
            self._fail(str(error))
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, for a while, and end."""
        self._stop.set()
        self._thread.join(FLUSH_TIME)
        if waiting := self.state().waiting:
            reason = self._reason or f"{shown(self._database)} is slow"
            _log.error("calls_not_recorded", count=waiting, reason=reason)

    # The thread.

    def _run(self) -> None:
        # Not after a pause: what bridges tell each other holds from the start.
        while not self._stop.is_set():
            if self._is_worth_a_turn():
                self.turn()
            for work in self._at_each_turn:
                work()
            self._stop.wait(self._pause)
        self._write_what_waits()
        while self._has_work() and self._failing_since is None:
            self._write_what_waits()
        self.close()

    def _is_worth_a_turn(self) -> bool:
        waiting = len(self._calls)
        gathered = time.monotonic() - self._idle_at >= GATHERED_FOR
        return waiting <= FEW or waiting >= AT_ONCE or gathered

    def turn(self) -> None:
        """Do what is due: the thread's work, again and again."""
        self._write_what_waits()
        self._do_hooks()
        self._tidy()

    def close(self) -> None:
        """Let go of the database."""
        if self._engine is not None:
            self._engine.dispose()

    def _write_what_waits(self) -> None:
        """Write what waits, or until the database fails.

        What comes meanwhile is for the next turn: other work has to be done as well.
        """
        for _ in range(1 + -(-len(self._calls) // AT_ONCE)):
            if not self._has_work():
                break
            if not self._attempt(self._write_some):
                return
            self._idle_at = time.monotonic()
        self._idle_at = time.monotonic()
        if self._failing_since is not None:
            self._attempt(self._probe)

    def _has_work(self) -> bool:
        waits = self._calls or self._batch or self._connections or self._comparisons
        return bool(waits or self._untold())

    def _do_hooks(self) -> None:
        for hook in self._hooks:
            now = time.monotonic()
            if now >= hook.due and self._failing_since is None:
                hook.due = now + hook.seconds
                self._attempt(lambda work=hook.work: self._do(work))  # type: ignore[misc]

    def _tidy(self) -> None:
        end = time.monotonic() + TIDIED_FOR
        more = True
        while more and self._failing_since is None and time.monotonic() < end:
            more = self._attempt(lambda: self._retention.step(self._open()))
        if (cut := self._retention.problem()) is not None and not self._is_cutting:
            _log.warning("calls_make_room", reason=cut)
        self._is_cutting = cut is not None

    def _attempt(self, work: Callable[[], bool]) -> bool:
        """Do some work with the database, and note how that went.

        Returns:
            What the work returned; False if it failed.
        """
        try:
            with reported(self._database):
                result = work()
        except LogError as error:
            self._fail(str(error))
        except Exception as error:  # noqa: BLE001 - the thread has to live, whatever comes
            self._fail(f"{shown(self._database)}: {type(error).__name__}")
        else:
            self._work_again()
            return result
        return False

    def _fail(self, reason: str) -> None:
        self._in_doubt = True
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = time.time()
            self._told_at = 0.0
        if not self._told_at or now - self._told_at > TOLD_EVERY:
            self._told_at = now
            state = self.state()
            _log.error(
                "translation_log_fails", reason=reason, waiting=state.waiting, lost=state.dropped
            )
        self._reason = reason
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        if self._engine is not None and _identity(self._database) != self._file:
            self._engine.dispose()
            self._engine = None

    def _work_again(self) -> None:
        self._pause = LINGER
        if self._failing_since is None:
            return
        seconds = round(time.time() - self._failing_since, 1)
        self._failing_since, self._reason = None, ""
        state = self.state()
        _log.warning(
            "translation_log_works_again",
            seconds=seconds,
            waiting=state.waiting,
            lost=state.dropped,
        )

    # What it does with the database.

    def _open(self) -> Engine:
        if self._engine is None:
            self._engine = open_database(self._database, self.key)
            self._file = _identity(self._database)
        return self._engine

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with writing(self._open()) as connection:
            yield connection
            # SQLite would go on to write to a file that has no name any more.
            if _identity(self._database) != self._file:
                raise LogError(f"{self._database}: it was removed or replaced")

    def _probe(self) -> bool:
        with self._transaction():
            return True

    def _do(self, work: Callable[[Connection], None]) -> bool:
        try:
            with self._open().connect() as connection, connection.begin():
                work(connection)
        except (SQLAlchemyError, LogError):
            raise
        except Exception as error:  # noqa: BLE001 - nothing is wrong with the database
            _log.error("translation_log_work_fails", cause=type(error).__name__)
        return True

    def _untold(self) -> int:
        return self._dropped + self._refused - self._gaps

    def _write_some(self) -> bool:
        compared = 0
        if not self._batch:
            # Their calls have come before them, and are written before them.
            compared = len(self._comparisons) if len(self._calls) <= AT_ONCE else 0
            for _ in range(min(len(self._calls), AT_ONCE)):
                ended = self._calls.popleft()
                if ended.exchange is not None:
                    ended.exchange.packed()  # before others have to wait for the transaction
                self._batch.append(ended)
        if self._connections:
            self._write_connections()
        if self._batch:
            self._write_first(self._tried or len(self._batch))
        self._write_comparisons(compared)
        if untold := self._untold():
            self._write_gap(untold)
        return True

    def _write_first(self, count: int) -> None:
        """Write the first calls of the batch, by halves where the database does not take one."""
        part = self._batch[:count]
        self._tried = count
        try:
            self._write(part)
        except (SQLAlchemyError, UnicodeError, OverflowError) as error:
            if not is_of_data(error):
                raise
            if count > 1:
                self._write_first(count // 2)
                self._write_first(count - count // 2)
                return
            self._write_cleaned(part[0])
        self._in_doubt = False
        self._tried = 0
        del part
        while count > 0:
            some = min(count, LET_GO_EVERY)
            self._bytes_done += sum(map(_size, self._batch[:some]))
            del self._batch[:some]
            count -= some
            time.sleep(0)  # to let go of many calls takes a while, too

    def _write(self, calls: list[Ended]) -> None:
        with self._transaction() as connection:
            if not (self._in_doubt and is_ingested(connection, calls)):
                ingest_ended(connection, calls)
                for each in calls:
                    if each.exchange is not None and self._keep is not None:
                        self._keep(connection, each.call.id, each.exchange)
        self._written += len(calls)

    def _write_cleaned(self, ended: Ended) -> None:
        try:
            self._write([cleaned(ended)])
        except (SQLAlchemyError, UnicodeError, OverflowError) as error:
            if not is_of_data(error):
                raise
            self._refused += 1
            self._dropped_at = time.monotonic()
            _log.error("call_not_recorded", id=ended.call.id, cause=type(error).__name__)

    def _write_connections(self) -> None:
        events = list(self._connections)
        try:
            with self._transaction() as connection:
                ingest_connections(connection, events)
        except (SQLAlchemyError, UnicodeError) as error:
            if not is_of_data(error):
                raise
            _log.error("connections_not_recorded", count=len(events), cause=type(error).__name__)
        for _ in events:
            self._connections.popleft()

    def _write_comparisons(self, count: int) -> None:
        while count > 0:
            # One by one: to go through a deque while the event loop appends is an error.
            some = [self._comparisons[at] for at in range(min(count, COMPARED_AT_ONCE))]
            try:
                with self._transaction() as connection:
                    ingest_comparisons(connection, some)
            except (SQLAlchemyError, UnicodeError) as error:
                if not is_of_data(error):
                    raise
                _log.error("comparisons_not_recorded", count=len(some), cause=type(error).__name__)
            for each in some:
                self._comparisons.popleft()
                self._others_done += _size_of_other(each)
            count -= len(some)

    def _write_gap(self, calls: int) -> None:
        at = time_now()
        since = at if self._failing_since is None else int(self._failing_since * 1000)
        reason = self._reason or "more calls came than could be written"
        with self._transaction() as connection:
            ingest_gap(
                connection, at << TIME_SHIFT | secrets.randbits(TIME_SHIFT), calls, since, reason
            )
        self._gaps += calls
        if self._failing_since is None:
            _log.warning("calls_not_recorded", count=calls, reason=reason)


@asynccontextmanager
async def open_log_writer(  # noqa: PLR0913 - what is written, for how long, and what besides
    database: str,
    key_file: Path | None = None,
    *,
    days: int,
    size: int,
    keep: Keep | None = None,
    prepare: Callable[[LogWriter], None] = lambda _writer: None,
) -> AsyncIterator[LogWriter]:
    """Open the translation log for the block; at its end, what waits is written.

    `days` and `size` are what is kept (`Retention`), `keep` writes captured exchanges. `prepare`
    says what the thread does besides, from its first turn on.

    Raises:
        LogError: the database or the key of digests cannot be used.
    """
    key = load_key(database, key_file)
    writer = LogWriter(database, key, Retention(days=days, size=size), keep)
    prepare(writer)
    await asyncio.to_thread(writer.start)
    try:
        yield writer
    finally:
        await asyncio.to_thread(writer.stop)


def _size(ended: Ended) -> int:
    """Return the bytes that a call takes while it waits, about."""
    size = 2 * len(ended.line)
    if ended.exchange is not None:
        size += ended.exchange.size
    return size


def _size_of_other(compared: Compared) -> int:
    return 0 if compared.other is None else compared.other.size


def _identity(database: str) -> object:
    """Return what tells whether a file is still the one that was opened."""
    if is_server(database):
        return None
    with suppress(OSError):
        status = Path(database).stat()
        return status.st_dev, status.st_ino
    return "none"
