"""What the process logs, for a test to read; and what it may log, by its sources."""

import ast
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
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


_LEVELS = {"info": "info", "warning": "warning", "error": "error", "exception": "error"}


def events() -> Iterator[tuple[str, str]]:
    """Yield each event of the sources that is no call and no failed connection, with its level."""
    yield "log_lines_lost", "warning"  # which is written around all loggers
    for path in Path(logs.__file__).parents[1].rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(ast.Attribute(logger, method), [event, *_]) if (
                    method in _LEVELS and re.search(r"_log$|get_logger\(", ast.unparse(logger))
                ):
                    for each in ast.walk(event):
                        if isinstance(each, ast.Constant):
                            yield str(each.value), _LEVELS[method]
