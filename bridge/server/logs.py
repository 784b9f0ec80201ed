"""Log lines on standard error: in which form, from which level on, and the sinks that write them.

How lines get there is in `lines`; how they look to people, in `console`.
"""

import atexit
import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec
import structlog

from bridge.excerpt import excerpt
from bridge.record.log.events import ConnectionEvent, Ended, Sink
from bridge.server.console import ConsoleForm, wants_colors
from bridge.server.lines import Lines
from bridge.settings import LogFormat, LogLevel

_connections = structlog.get_logger("bridge.connections")

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


class _Destination:
    """Where lines go, as structlog's factory of loggers; and what those have to know that go there
    without structlog.
    """

    def __init__(self, lines: Lines, least: int, console: ConsoleForm | None) -> None:
        self.lines = lines
        self.least = least
        """The lowest level that is written."""
        self.console = console
        """What makes the lines, if they are not JSON."""

    def __call__(self, *_arguments: object) -> Lines:
        return self.lines


def configure(
    stream: TextIO = sys.stderr,
    form: LogFormat = LogFormat.AUTO,
    level: LogLevel = LogLevel.INFO,
) -> None:
    """Send every log line of the process, the libraries' too, to `stream`.

    The bridge's own lines go straight there: through the standard library's logging they cost
    three times as much.
    """
    is_console = form is LogFormat.CONSOLE or (form is LogFormat.AUTO and stream.isatty())
    console = ConsoleForm(colors=wants_colors(stream)) if is_console else None
    least = _LEVELS[level]
    render = _encode if console is None else lambda event: _octets(console.event(event))
    shared: list[structlog.typing.Processor] = [
        _add_request_id,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        # Plain tracebacks: the ones with local variables would print tokens.
        structlog.processors.format_exc_info,
        _cut,
    ]
    lines = Lines(stream, lambda count: render(_lost(count)))
    atexit.register(lines.flush)
    handler = _OfLibraries(lines)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                lambda _logger, _method, event: render(event).decode(),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(least, logging.INFO), force=True)
    structlog.configure(
        processors=[*shared, lambda _logger, _method, event: render(event)],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=_Destination(lines, least, console),
    )


_LEVELS: Mapping[str, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def set_level(level: LogLevel) -> None:
    """Write lines from this level on, if `configure` has said where they go."""
    destination = structlog.get_config()["logger_factory"]
    if not isinstance(destination, _Destination):
        return
    destination.least = _LEVELS[level]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(destination.least))
    logging.getLogger().setLevel(max(destination.least, logging.INFO))


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


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


def _lost(count: int) -> dict[str, Any]:
    return {
        "count": count,
        "event": "log_lines_lost",
        "level": "warning",
        "timestamp": datetime.now(UTC),
    }


def problem() -> str | None:
    """Return what is wrong with where lines go now, in a few words; None: nothing."""
    lines = structlog.get_config()["logger_factory"]()
    return lines.problem() if isinstance(lines, Lines) else None


def lost() -> int:
    """Return how many lines nobody will read, since the start."""
    lines = structlog.get_config()["logger_factory"]()
    return lines.lost if isinstance(lines, Lines) else 0


def call_log() -> Sink:
    """Return the sink that writes a line for each legacy call, to where lines go now.

    An event is a line already: structlog's processors would add, one by one, what it knows.
    """
    factory = structlog.get_config()["logger_factory"]
    if not isinstance(factory, _Destination):
        return _through(factory())
    lines, console = factory.lines, factory.console

    def log_calls(calls: Sequence[Ended]) -> None:
        lines.many(
            [
                ended.line if console is None else _octets(console.call(ended.call))
                for ended in calls
                if _LEVELS[ended.call.level] >= factory.least
            ]
        )

    return log_calls


def _through(logger: Any) -> Sink:  # noqa: ANN401 - whatever structlog was told to use
    def log_calls(calls: Sequence[Ended]) -> None:
        for ended in calls:
            logger.info(ended.line)

    return log_calls


def connection_log() -> Callable[[ConnectionEvent], None]:
    """Return the sink that writes a line for connections that have failed."""

    def log_failed(failed: ConnectionEvent) -> None:
        told = {
            name: value
            for name, value in msgspec.structs.asdict(failed).items()
            if value is not None and name not in {"event", "level", "timestamp"}
        }
        _connections.warning(failed.event, **told)

    return log_failed


def started(what: str, host: str, port: int, **details: str) -> None:
    """Write the line that says that something listens."""
    structlog.get_logger("bridge").info("listening", what=what, host=host, port=port, **details)
