"""Holds the credential book that is in force, and reads it again when its files change.

What a book may say is in `bridge.identity.book`.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from bridge.identity.book import Book, BookError, PrivateFiles, load
from bridge.masking import without_addresses
from bridge.signatures import Signature, signature

INTERVAL = 1.0
"""Seconds between two looks at the files."""

_log = structlog.get_logger("bridge.book")

Signatures = Mapping[Path, Signature | None]


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class BookState:
    """How the book stands; nothing here is secret."""

    loaded_at: datetime
    """When the book in force was read, UTC."""
    credentials: int
    error: str | None = None
    """Why the files as they are now are not in force; None when they are."""
    error_at: datetime | None = None
    """When that was noticed, UTC."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """What came of reading the files once, and what they looked like."""

    outcome: Book | BookError
    seen: Signatures


class BookKeeper:
    """The book in force: always a whole one, and the last good one.

    A change counts once the files have looked the same in two looks on end, so that a writer who
    takes his time is not read half-way; it is in force two intervals after it was made, at the
    latest. Files are read in a thread: the event loop goes on.

    As an async context manager it reads the book, then looks after it until the end of the block.
    """

    def __init__(
        self,
        path: Path,
        *,
        environ: Mapping[str, str] = os.environ,
        interval: float = INTERVAL,
        now: Callable[[], datetime] = _utc_now,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Keep the book at `path`.

        Args:
            path: where the book is; a link is followed each time.
            environ: where `env:` tokens are; it does not change while a process runs.
            interval: seconds between two looks.
            now: answers the time of day, for the state.
            sleep: waits that many seconds.
        """
        self._path = path
        self._environ = environ
        self._interval = interval
        self._now = now
        self._sleep = sleep
        self._reading = asyncio.Lock()
        self._book: Book | None = None
        self._state: BookState | None = None
        self._seen: Signatures = {}
        """What the files looked like when they were read last."""
        self._changed: Signatures | None = None
        """What they looked like a look ago, if that was different."""
        self._watching: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Read the book, and begin to look after it.

        Raises:
            BookError: it cannot be used; there is no good one to hold on to yet.
        """
        reading = await asyncio.to_thread(self._read)
        if isinstance(reading.outcome, BookError):
            raise reading.outcome
        self._seen = reading.seen
        self._take(reading.outcome)
        self._watching = asyncio.create_task(self._watch(), name="book-keeper")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop looking."""
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching

    @property
    def book(self) -> Book:
        """The book in force. Ask for it anew with each call, and once only in one call."""
        if self._book is None:
            raise RuntimeError("the book has not been read yet")
        return self._book

    @property
    def state(self) -> BookState:
        """How the book stands."""
        if self._state is None:
            raise RuntimeError("the book has not been read yet")
        return self._state

    async def reload(self) -> BookState:
        """Read the files now, changed or not, and return what came of it; for SIGHUP."""
        async with self._reading:
            await self._reload()
        return self.state

    async def look(self) -> None:
        """Look at the files once, and read them if they have changed and come to rest."""
        async with self._reading:
            current = await asyncio.to_thread(_signatures, tuple(self._seen))
            if current == self._seen:
                self._changed = None
            elif current == self._changed:
                await self._reload()
            else:
                self._changed = current

    async def _watch(self) -> None:
        while True:
            await self._sleep(self._interval)
            try:
                await self.look()
            except Exception:  # noqa: BLE001 - whatever it is, the next look may fare better
                _log.exception("book_not_looked_at", path=str(self._path))

    async def _reload(self) -> None:
        reading = await asyncio.to_thread(self._read)
        self._seen, self._changed = reading.seen, None
        if isinstance(reading.outcome, BookError):
            self._keep_old(str(reading.outcome))
        else:
            self._take(reading.outcome)

    def _read(self) -> _Reading:
        files = PrivateFiles()
        outcome: Book | BookError
        try:
            outcome = load(self._path, self._environ, files)
        except BookError as error:
            outcome = error
        return _Reading(outcome, files.seen)

    def _take(self, book: Book) -> None:
        before = self._state
        self._book = book
        self._state = BookState(self._now(), len(book.entries))
        _log.info(
            "book_loaded",
            path=str(self._path),
            credentials=len(book.entries),
            **({"good_again": True} if before is not None and before.error else {}),
        )

    def _keep_old(self, error: str) -> None:
        self._state = replace(self.state, error=error, error_at=self._now())
        _log.error(
            "book_broken",
            # It names the login, so that its owner finds it; a log must not.
            error=without_addresses(error),
            in_force_since=self.state.loaded_at.isoformat(),
            credentials=self.state.credentials,
        )


def _signatures(paths: tuple[Path, ...]) -> Signatures:
    return {path: signature(path) for path in paths}
