"""The token of the admin side: where it comes from, and how another takes its place.

What it is asked for is not known here.
"""

import asyncio
import os
from contextlib import AbstractAsyncContextManager

import structlog

from bridge.identity.book import BookError, read_token
from bridge.identity.files import Signatures, watching
from bridge.secret import Secret

_log = structlog.get_logger("bridge.admin")

SHORTEST = 16
"""Characters of a token: if they are random, nobody finds it by trying."""

INTERVAL = 1.0
"""Seconds between two looks at its file."""


class UnusableToken(Exception):
    """The token cannot be used; `str()` is one line for the operator, without it."""


class TokenKeeper:
    """The token in force: the last good one of its file, or that of the environment."""

    token: Secret

    def __init__(self, reference: str) -> None:
        """Read the token that `reference`, `env:NAME` or `file:/path`, leads to.

        Raises:
            UnusableToken: there is none, it is too short, or others have access to its file.
        """
        self._reference = reference
        self._error: str | None = None
        self._seen: Signatures = {}
        self.token = _read(reference, self._seen)

    def warning(self) -> str | None:
        """Return why the next start would fail, None if it would not."""
        return self._error and f"{self._error}; the one before is in force"

    async def reload(self) -> str:
        """Read it again; return "unchanged", "changed" or "broken": the old one stays."""
        seen: Signatures = {}
        try:
            token = await asyncio.to_thread(_read, self._reference, seen)
        except UnusableToken as error:
            self._error = str(error)
            _log.error("admin_token_broken", reason=str(error), in_force="the one before")
            return "broken"
        finally:
            self._seen = seen
        self._error = None
        if token == self.token:
            return "unchanged"
        self.token = token
        _log.info("admin_token_changed")
        return "changed"

    def watching(self, interval: float = INTERVAL) -> AbstractAsyncContextManager[None]:
        """Look at its file until the end of the block, and read it again when it has changed."""
        return watching(
            lambda: self._seen,
            self.reload,
            lambda: _log.exception("admin_token_not_looked_at"),
            interval,
        )


def _read(reference: str, seen: Signatures) -> Secret:
    try:
        token = read_token(reference, os.environ, seen)
    except BookError as error:
        raise UnusableToken(str(error)) from None
    if len(token.reveal()) < SHORTEST:
        raise UnusableToken(f"{reference} has fewer than {SHORTEST} characters")
    return token
