"""What the process logs, for a test to read."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from typing import Any

import structlog

from bridge.server import logs


class Logged(StringIO):
    """The lines of the log."""

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Return every line about `event`, parsed."""
        told = (json.loads(line) for line in self.getvalue().splitlines())
        return [line for line in told if line["event"] == event]


@contextmanager
def logging() -> Iterator[Logged]:
    """Collect what is logged until the end of the block."""
    stream = Logged()
    logs.configure(stream)
    # Loggers that are kept would still write here after the end of the block.
    structlog.configure(cache_logger_on_first_use=False)
    try:
        yield stream
    finally:
        structlog.reset_defaults()
