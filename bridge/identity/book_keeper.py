"""Holds the credential book that is in force, and reads it again when its files change.

What a book may say is in `bridge.identity.book`.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import structlog

from bridge.identity.book import Book, BookError, load
from bridge.identity.files import Signatures, watching

INTERVAL = 1.0
"""Seconds between two looks at the files."""

_log = structlog.get_logger("bridge.book")


@dataclass(frozen=True, slots=True)
class BookState:
    """How the book stands; nothing here is secret."""

    loaded_at: datetime
    """When the book in force was read first, UTC."""
    credentials: int
    error: str | None = None
    """Why the files as they are now are not in force; None when they are. Names no login."""


class BookKeeper:
    """The book in force: always a whole one, and the last good one.

    As an async context manager, it looks after it until the end of the block.
    """

    book: Book
    """The book in force. Ask for it anew with each call, and once only in one call."""
    state: BookState

    def __init__(
        self,
        path: Path,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Read a book for the first time; raises `BookError` if it cannot be used.

        Args:
            path: where the book is; a link is followed each time.
            now: answers the time of day, for the state.
            sleep: waits that many seconds.
        """
        self._path = path
        self._now = now
        self._reading = asyncio.Lock()
        self._seen: Signatures = {}
        self._take(load(path, os.environ, self._seen), now())
        self._watching = watching(
            lambda: self._seen,
            self.reload,
            lambda: _log.exception("book_not_looked_at", path=str(path)),
            INTERVAL,
            sleep,
        )

    async def __aenter__(self) -> Self:
        await self._watching.__aenter__()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._watching.__aexit__(None, None, None)

    def warning(self) -> str | None:
        """Return why the next start would fail, None if it would not."""
        if self.state.error is None:
            return None
        return f"{self.state.error}; the one of {self.state.loaded_at.isoformat()} is in force"

    async def reload(self) -> BookState:
        """Read the files now, changed or not, and return what came of it; for SIGHUP.

        That is done in a thread: the event loop goes on.
        """
        async with self._reading:
            seen: Signatures = {}
            try:
                book = await asyncio.to_thread(load, self._path, os.environ, seen)
            except BookError as error:
                self.state = replace(self.state, error=error.unnamed)
                _log.error(
                    "book_broken",
                    error=error.unnamed,
                    in_force_since=self.state.loaded_at.isoformat(),
                    credentials=self.state.credentials,
                )
            else:
                was_broken, is_same = self.state.error is not None, book == self.book
                if was_broken or not is_same:
                    since = self.state.loaded_at if is_same else self._now()
                    self._take(book, since, **({"good_again": True} if was_broken else {}))
            self._seen = seen
            return self.state

    def _take(self, book: Book, since: datetime, **told: bool) -> None:
        self.book = book
        self.state = BookState(since, len(book.entries))
        _log.info("book_loaded", path=str(self._path), credentials=len(book.entries), **told)
