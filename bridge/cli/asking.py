"""What the commands have in common that ask the translation log: its opening, filters and times.

What can be asked is in `bridge.record.log.reports`; what a command shows, in its own module.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import update_wrapper
from inspect import Parameter, signature
from typing import Annotated, Any

import typer

from bridge.cli.terminal import Given, fail, failing_at, print_table
from bridge.record.log.comparisons import Score
from bridge.record.log.database import LogError
from bridge.record.log.events import Outcome
from bridge.record.log.finding import Filter
from bridge.record.log.reports import Log
from bridge.record.log.times import spelled
from bridge.settings import FileSettings, where


@contextmanager
def asking(given: Given) -> Iterator[Log]:
    """Open the translation log that the settings name; what goes wrong ends the command."""
    database = given.load(FileSettings).database
    try:
        log = Log.open(database)
    except LogError as error:
        fail(f"{error.setting}: {error} {where(error.setting)}")
    with failing_at(LogError), closing(log):
        yield log


_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def read_time(text: str, now: float | None = None) -> int:
    """Read a point in time, in milliseconds since 1970: `30d` ago, or a day or time in ISO 8601.

    Without a zone, it is UTC.

    Raises:
        ValueError: it is neither, or none that a call can have been made at.
    """
    if ago := re.fullmatch(r"([0-9]{1,6})([mhdw])", text):
        span = timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        moment = (time.time() if now is None else now) - span.total_seconds()
    else:
        when = datetime.fromisoformat(text)
        moment = (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    if moment < 0:
        raise ValueError("before 1970")
    return int(moment * 1000)


def time_option(name: str, text: str | None) -> int | None:
    """Read the value of a flag that is a time; what is wrong with it ends the command."""
    if text is None:
        return None
    try:
        return read_time(text)
    except (ValueError, OverflowError):
        fail(f"--{name}: must be a time such as 30d, 12h, 2026-11-01 or 2026-11-01T12:00Z")


_FILTERS: Mapping[str, tuple[Any, str]] = {
    "integration": (str, "Whose: an id, a name or a label of the book, or a part of it."),
    "method": (str, "Such as POST."),
    "status": (int, "The answer's, such as 404."),
    "outcome": (Outcome, "What became of them."),
    "route": (str, "Such as /invoice/{invoice_id}/messages; or a path that has none."),
    "refusal": (str, "Why the caller was refused, by code, such as wrong-password."),
    "note": (str, "With such a note, by code, such as element-ignored."),
    "since": (str, "Not before: 30d, 12h, 2026-11-01, 2026-11-01T12:00Z."),
    "until": (str, "Before: likewise."),
}


def with_filter(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command a flag for each part of a filter, and these as its argument `asked`."""

    def run(*arguments: Any, **named: Any) -> None:  # noqa: ANN401 - the command's own
        asked = {name: named.pop(name) for name in _FILTERS}
        command(*arguments, asked=asked, **named)

    own = [each for each in signature(command).parameters.values() if each.name != "asked"]
    flags = [
        Parameter(
            name,
            Parameter.KEYWORD_ONLY,
            annotation=Annotated[type_ | None, typer.Option(f"--{name}", help=told)],
            default=None,
        )
        for name, (type_, told) in _FILTERS.items()
    ]
    update_wrapper(run, command)
    setattr(run, "__signature__", signature(command).replace(parameters=[*own, *flags]))  # noqa: B010
    return run


def read_filter(log: Log, asked: Mapping[str, Any]) -> Filter:
    """Return the filter that the flags make up; what is wrong with one ends the command."""
    given = dict(asked)
    for name in ("since", "until"):
        given[name] = time_option(name, given[name])
    if given["method"] is not None:
        given["method"] = given["method"].upper()
    if given["integration"] is not None:
        given["integration"] = log.find_integration(given["integration"]).id
    return Filter(**given)


def print_places(score: Score) -> None:
    """Print where answers differ, with the latest calls for `harvest-bridge show`."""
    print_table(
        ("differs at", "route", "result", "calls", "latest", "its call"),
        (
            (
                each.place, each.route, each.result, str(each.calls),
                spelled(each.latest[0].time) if each.latest else "",
                ", ".join(call.request_id or str(call.id) for call in each.latest),
            )
            for each in score.places
        ),
        (("differs at", "route"), ("result", "calls"), ("latest", "its call")),
    )  # fmt: skip
