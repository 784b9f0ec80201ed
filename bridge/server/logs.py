"""JSON lines on standard error: how a line looks, and the sink that writes one a legacy call.

How lines get there is in `lines`.
"""

import atexit
import json
import logging
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec
import structlog

from bridge.excerpt import excerpt
from bridge.record.log.events import Ended, Sink
from bridge.server.lines import Lines

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""That of the legacy call which is being served: each line that is logged meanwhile has it."""

_LONGEST = 16 * 1024
"""Characters of a text in a line: room for a traceback, however much its error says."""

_encoder = msgspec.json.Encoder(enc_hook=str)


def _encode(event: Mapping[str, Any]) -> bytes:
    try:
        return _encoder.encode(event)
    except UnicodeEncodeError:  # a header is what bytes it likes, and in Python's text even then
        return json.dumps(event, default=str).encode()


class _OfLibraries(logging.Handler):
    """Takes what libraries log."""

    def __init__(self, lines: Lines) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.msg(self.format(record).encode())
        except Exception:  # noqa: BLE001 - as the standard library has it
            self.handleError(record)


def configure(stream: TextIO = sys.stderr) -> None:
    """Send every log line of the process, the libraries' too, to `stream` as JSON.

    The bridge's own lines go straight there: through the standard library's logging they cost
    three times as much.
    """
    shared: list[structlog.typing.Processor] = [
        _add_request_id,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        # Plain tracebacks: the ones with local variables would print tokens.
        structlog.processors.format_exc_info,
        _cut,
    ]
    lines = Lines(stream, _lost)
    atexit.register(lines.flush)
    handler = _OfLibraries(lines)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(serializer=_text),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    structlog.configure(
        processors=[*shared, _render],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: lines,
    )


def _add_request_id(
    _logger: Any,  # noqa: ANN401 - as structlog has it
    _method: str,
    event: structlog.typing.EventDict,
) -> structlog.typing.EventDict:
    if (request_id := REQUEST_ID.get()) is not None:
        event.setdefault("request_id", request_id)
    return event


def _cut(
    _logger: Any,  # noqa: ANN401
    _method: str,
    event: structlog.typing.EventDict,
) -> structlog.typing.EventDict:
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = excerpt(value, _LONGEST)
    return event


def _render(_logger: Any, _method: str, event: structlog.typing.EventDict) -> bytes:  # noqa: ANN401
    return _encode(event)


def _text(event: structlog.typing.EventDict, **_options: Any) -> str:  # noqa: ANN401
    return _encode(event).decode()


def _lost(count: int) -> bytes:
    return _encode(
        {
            "count": count,
            "event": "log_lines_lost",
            "level": "warning",
            "timestamp": datetime.now(UTC),
        }
    )


def problem() -> str | None:
    """Return what is wrong with where lines go now, in a few words; None: nothing."""
    lines = structlog.get_config()["logger_factory"]()
    return lines.problem() if isinstance(lines, Lines) else None


def call_log() -> Sink:
    """Return the sink that writes a line for each legacy call, to where lines go now.

    An event is a line already: structlog's processors would add, one by one, what it knows.
    """
    logger = structlog.get_config()["logger_factory"]()

    def log_call(ended: Ended) -> None:
        logger.info(ended.line)

    return log_call


def started(what: str, host: str, port: int, **details: str) -> None:
    """Write the line that says that something listens."""
    structlog.get_logger("bridge").info("listening", what=what, host=host, port=port, **details)
