"""Log lines for people: what a terminal shows, with colours where there is one.

Whatever a client controls is made harmless: no character in it moves the cursor, colours the rest,
or makes a line of its own.
"""

import os
from collections.abc import Mapping
from typing import TextIO

import structlog
from structlog.dev import BRIGHT, CYAN, DIM, GREEN, MAGENTA, RED, RESET_ALL, YELLOW

from bridge.record.log.events import CallEvent, UpstreamCallEvent

_OF_STATUS: Mapping[int, str] = {2: GREEN, 3: CYAN, 4: YELLOW, 5: RED}

_ROUTE_WIDTH = 34
"""Columns of a route, so that what is behind it stands below each other."""


def wants_colors(stream: TextIO) -> bool:
    """Tell whether a stream is a terminal that shows colours (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def harmless(text: str) -> str:
    """Return text with all that is not printable escaped, as Python's literals have it."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _escaped(each) for each in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode()


class ConsoleForm:
    """Makes lines to be read by somebody, in colours or without."""

    def __init__(self, *, colors: bool) -> None:
        self._colors = colors
        self._renderer = structlog.dev.ConsoleRenderer(
            colors=colors,
            force_colors=colors,
            exception_formatter=structlog.dev.plain_traceback,
        )

    def event(self, event: structlog.typing.EventDict) -> str:
        """Return the line of an event, and below it the traceback that it may have."""
        told = {harmless(name): _harmless_value(value) for name, value in event.items()}
        if isinstance(traceback := event.get("exception"), str):
            told["exception"] = "\n".join(map(harmless, traceback.splitlines()))
        timestamp = str(told.get("timestamp", ""))
        told["timestamp"] = timestamp[11:19]
        rendered = self._renderer(None, "", told)
        assert isinstance(rendered, str)  # noqa: S101 - as structlog has it
        return rendered

    def call(self, call: CallEvent) -> str:
        """Return the line of a legacy call: when, what came of it, whose it was, and why."""
        status = "gone" if call.status is None else str(call.status)
        color = MAGENTA if call.status is None else _OF_STATUS.get(call.status // 100, "")
        spent = f"{call.milliseconds:.0f} ms"
        parts = [
            self._paint(f"{call.timestamp:%H:%M:%S}", DIM),
            self._paint(f"{status:<4}", color),
            self._paint(f"{harmless(call.method):<6}", BRIGHT),
            f"{harmless(call.route or call.path or '-'):<{_ROUTE_WIDTH}}",
            harmless(call.label or call.integration),
            spent,
            self._paint(_upstream(call.upstream), DIM),
            self._paint(_notes(call), YELLOW),
        ]
        if call.event != "legacy_call":
            parts.append(self._paint(harmless(call.event), MAGENTA))
        reasons = [each for each in (call.refusal, call.problem, call.cause) if each]
        parts.append(self._paint(" · ".join(map(harmless, reasons)), color))
        return "  ".join(part for part in parts if part).rstrip()

    def _paint(self, text: str, color: str) -> str:
        return f"{color}{text}{RESET_ALL}" if text and color and self._colors else text


def _upstream(calls: tuple[UpstreamCallEvent, ...]) -> str:
    if not calls:
        return ""
    told = (str(each.status or each.error or "-") for each in calls)
    return harmless(f"v2 {' '.join(told)}")


def _notes(call: CallEvent) -> str:
    told = (
        f"{each.code} {each.subject}" + (f" x{each.count}" if each.count > 1 else "")
        for each in call.notes
    )
    return harmless(", ".join(told))


def _harmless_value(value: object) -> object:
    """Return a value as it may be shown: what is no text is shown by `repr`, which escapes."""
    return harmless(value) if isinstance(value, str) else value
