"""What v2 has told a token to wait, told by one bridge to the others of a database.

Nothing rests on it: a bridge that does not hear of it is told by v2 itself.
"""

import asyncio
import os
import select
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress

import psycopg
import structlog

from bridge.record.journal.postgresql import CHANNEL, parameters

LONGEST = 3600.0
"""Seconds that v2 makes anybody wait; what says more is none of ours."""

MOST_AT_ONCE = 1000
"""Keys that are handed on together."""

PAUSES = (0.5, 1, 2, 5, 10)
"""Seconds between two tries to listen; the last one again and again."""

Key = tuple[int, bytes]
"""An account, and the digest of a token."""

Heard = Callable[[Key, float], None]

_log = structlog.get_logger("bridge.throttles")


def said(key: Key, seconds: float) -> str:
    """Return what is told of a token that has to wait: its account, its digest, and the seconds."""
    account_id, digest = key
    return f"429 {account_id} {digest.hex()} {seconds:.3f}"


def read(told: str) -> tuple[Key, float] | None:
    """Return what `said` has told; None: anybody may say anything there, and this is not it."""
    try:
        what, account_id, digest, seconds = told.split(" ")
        key, wait = (int(account_id), bytes.fromhex(digest)), float(seconds)
    except ValueError:
        return None
    is_ours = what == "429" and 0 < key[0] < 2**63 and len(key[1]) == 32 and 0 < wait <= LONGEST
    return (key, wait) if is_ours else None


class _Listener:
    """A thread with a connection of its own, which only listens."""

    def __init__(self, database: str, heard: Heard) -> None:
        self._parameters = parameters(database)
        self._heard = heard
        self._loop = asyncio.get_running_loop()
        self._stop_reading, self._stop = os.pipe()
        self.thread = threading.Thread(target=self._run, name="throttles", daemon=True)

    def stop(self) -> None:
        os.write(self._stop, b".")

    def close(self) -> None:
        os.close(self._stop)
        os.close(self._stop_reading)

    def _run(self) -> None:
        failures = 0
        while True:
            try:
                with psycopg.connect(**self._parameters, autocommit=True) as connection:
                    connection.execute(f"LISTEN {CHANNEL}".encode())
                    failures = 0
                    if self._listen(connection):
                        return
            except (psycopg.Error, OSError) as error:
                if failures == 0:
                    _log.info("throttles_not_shared", error=type(error).__name__)
            pause = PAUSES[min(failures, len(PAUSES) - 1)]
            failures += 1
            if self._is_stopped(pause):
                return

    def _is_stopped(self, seconds: float) -> bool:
        return bool(select.select([self._stop_reading], [], [], seconds)[0])

    def _listen(self, connection: psycopg.Connection) -> bool:
        """Hand on what is heard until told to stop: true; or until the connection breaks."""
        while True:
            ready, _, _ = select.select([self._stop_reading, connection.fileno()], [], [])
            if self._stop_reading in ready:
                return True
            waits: dict[Key, float] = {}
            for notice in connection.notifies(timeout=0):
                if (one := read(notice.payload)) is not None and len(waits) < MOST_AT_ONCE:
                    waits[one[0]] = max(one[1], waits.get(one[0], 0.0))
            if waits:
                with suppress(RuntimeError):  # the loop has been closed
                    self._loop.call_soon_threadsafe(self._hand_on, waits)

    def _hand_on(self, waits: Mapping[Key, float]) -> None:
        for key, seconds in waits.items():
            self._heard(key, seconds)


@asynccontextmanager
async def hearing(database: str, heard: Heard) -> AsyncIterator[None]:
    """Call `heard` in the event loop with what other bridges tell, until the end of the block."""
    listener = _Listener(database, heard)
    listener.thread.start()
    try:
        yield
    finally:
        listener.stop()
        await asyncio.to_thread(listener.thread.join)
        listener.close()
