"""`harvest-bridge integrations`, `calls`, `show` and `export`: who calls v1, and what was said.

What each call would be in v2 is said by `explain` and `plan`.
"""

import csv
import os
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Annotated, Any

import msgspec
import typer

from bridge.cli.asking import asking, print_places, read_filter, time_option, with_filter
from bridge.cli.terminal import (
    JSON,
    Given,
    fail,
    failing_at,
    print_table,
    printable,
    to_json,
    with_settings,
)
from bridge.guide.notes import meaning_of
from bridge.record.log import har
from bridge.record.log.answers import CallRow, Integration, State
from bridge.record.log.comparisons import Score
from bridge.record.log.exchange import Exchange, Message, unpack
from bridge.record.log.finding import Filter
from bridge.record.log.reports import Log
from bridge.record.log.times import DAY, spelled, time_now

app = typer.Typer(rich_markup_mode=None)

PAGE = 1000
"""Calls that are read at once."""


@app.command()
@with_settings("database")
def integrations(
    given: Given,
    integration: Annotated[
        str | None, typer.Argument(help="One of them: its id, name or label, or a part of it.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            help="Count from then on, and leave out who has not called. Otherwise all are listed, "
            "and 30 days are counted."
        ),
    ] = None,
    quiet_since: Annotated[
        str | None, typer.Option(help="Those that have not called since: 30d, 2026-11-01.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Call it so; '' takes a name away.")] = None,
    owner: Annotated[str | None, typer.Option(help="Who looks after it.")] = None,
    state: Annotated[State | None, typer.Option(help="How far its migration has come.")] = None,
    remark: Annotated[str | None, typer.Option(help="What else is to be known.")] = None,
    json: JSON = False,
) -> None:
    """List who still calls v1; or show one, and write down who it is."""
    said: dict[str, Any] = {"name": name, "owner": owner, "state": state, "remark": remark}
    is_described = any(each is not None for each in said.values())
    start = time_option("since", since)
    quiet = time_option("quiet-since", quiet_since)
    if integration is None and is_described:
        fail("--name, --owner, --state and --remark need to know which integration is meant")
    if integration is not None and quiet is not None:
        fail("--quiet-since is for all integrations, not for one")
    with asking(given) as log:
        if integration is None:
            _list(log, start, quiet, json)
            return
        found = log.find_integration(integration)
        if is_described:
            log.describe(found.id, **said)
        _show_integration(log, log.integration(found.id, since=start) or found, start, json)


USUAL_DAYS = 30
"""Days that an overview counts, unless told otherwise: ever may be years."""


def _list(log: Log, since: int | None, quiet: int | None, json: bool) -> None:
    now = time.time() * 1000
    counted_since = int(now) - USUAL_DAYS * DAY if since is None else since
    found = [
        each
        for each in log.integrations(since=counted_since, quiet_since=quiet)
        if since is None or quiet is not None or each.last_seen >= since
    ]
    scores = log.scores(since=counted_since)
    if json:
        typer.echo(to_json([_with_score(each, scores.get(each.id)) for each in found]))
        return
    # Columns of their own only where anything was compared, or decided.
    head = ("v1 and bridge",) if scores else ()
    whose = ("answered by",) if any(each.answered_by for each in found) else ()
    print_table(
        ("id", "integration", "agent", "from", "first seen", "last seen", "quiet", "calls",
         "errors", "routes", "dialects", "notes", "state", "owner", "credential", *whose, *head),
        (
            (
                each.id, each.title, each.agent or "", each.network or "",
                spelled(each.first_seen), spelled(each.last_seen),
                _days(now - each.last_seen), str(each.calls), str(each.not_served),
                _some(each.routes), ", ".join(each.dialects), _some(each.notes),
                each.state, each.owner or "",
                "accepted" if each.is_known else "never accepted",
                *(each.answered_by or "" for _ in whose),
                *(str(scores.get(each.id, "")) for _ in head),
            )
            for each in found
        ),
        (
            ("integration", "id", "from"), ("first seen", "last seen", "quiet"),
            ("calls", "errors", *head), ("routes", "dialects", "notes"),
            ("state", "owner", "credential", *whose),
        ),
    )  # fmt: skip


def _with_score(integration: Integration, score: Score | None) -> dict[str, object]:
    told = msgspec.structs.asdict(integration)
    return told if score is None else {**told, "score": score}


def _days(milliseconds: float) -> str:
    return f"{max(0, int(milliseconds // DAY))} d"


MOST_NAMED = 3


def _some(names: Collection[str]) -> str:
    """Name the first of them: a row is for an overview."""
    more = len(names) - MOST_NAMED
    named = ", ".join(islice(names, MOST_NAMED))
    return f"{named}, and {more} more" if more > 0 else named


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in counts.items())


def _show_integration(log: Log, found: Integration, since: int | None, json: bool) -> None:
    routes, notes = log.routes(found.id, since=since), log.notes(found.id, since=since)
    score = log.score(found.id, since=since)
    is_compared = score != Score()
    if json:
        told = _with_score(found, score if is_compared else None)
        typer.echo(to_json({**told, "at_routes": routes, "noted": notes}))
        return
    facts = msgspec.structs.asdict(found)
    for key in ("first_seen", "last_seen"):
        facts[key] = spelled(facts[key])
    for key in ("outcomes", "notes"):
        facts[key] = _counted(facts[key])
    del facts["routes"]
    facts["dialects"] = ", ".join(found.dialects)
    if is_compared:
        facts["v1 and bridge"] = str(score)
    _print_facts(facts)
    typer.echo()
    print_table(
        ("method", "route", "dialect", "status", "outcome", "refusal", "calls", "v2 calls",
         "mean ms", "first day", "last hour"),
        (
            (
                each.method, each.route, each.dialect or "", _status(each.status), each.outcome,
                each.refusal or "", str(each.calls), str(each.v2_calls),
                f"{each.milliseconds:.0f}", spelled(each.first_seen)[:10],
                spelled(each.last_seen),
            )
            for each in routes
        ),
    )  # fmt: skip
    if notes:
        typer.echo()
        print_table(
            ("note", "on", "method", "route", "calls", "times", "meaning"),
            (
                (
                    each.code, each.subject, each.method, each.route, str(each.calls),
                    str(each.count), meaning_of(each.code),
                )
                for each in notes
            ),
        )  # fmt: skip
    if score.places:
        typer.echo()
        print_places(score)


def _status(status: int | None) -> str:
    return "none" if status is None else str(status)


def _print_facts(facts: Mapping[str, Any]) -> None:
    """Print what is known, and nothing of what is not."""
    print_table(
        ("what", "is"),
        (
            (name.replace("_", " "), _text(value))
            for name, value in facts.items()
            if value not in (None, "", [], {})
        ),
    )


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.1f}" if isinstance(value, float) else str(value)


@app.command()
@with_settings("database")
@with_filter
def calls(
    given: Given,
    asked: Mapping[str, Any],
    limit: Annotated[int, typer.Option(min=1, help="The most to list.")] = 50,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with calls as they end, of all bridges.")
    ] = False,
    json: JSON = False,
) -> None:
    """List legacy calls, the latest first; or follow them."""
    with asking(given) as log:
        filter_ = read_filter(log, asked)
        if not follow:
            _print_calls(_latest(log, filter_, limit), json)
            return
        if filter_.until is not None:
            fail("--follow and --until: one of them")
        _follow(log, filter_, limit, json)


def _latest(log: Log, filter_: Filter, limit: int) -> Iterator[CallRow]:
    return islice(_matching(log, filter_, min(limit, PAGE)), limit)


def _matching(log: Log, filter_: Filter, at_once: int = PAGE) -> Iterator[CallRow]:
    """Return all calls that match, the latest first, some at a time."""
    before: int | None = None
    while True:
        page = log.calls(filter_, before=before, limit=at_once)
        yield from page.rows
        if page.before is None:
            return
        before = page.before


LATE = 15_000
"""Milliseconds after which a call that has ended is surely in the database: several bridges write,
some later than others, so that what is new is not what has the highest ids."""

POLL = 1.0
"""Seconds between two looks."""


def _follow(log: Log, filter_: Filter, limit: int, json: bool) -> None:
    # What is beyond the limit is no news. Looked at first: what comes meanwhile is not missed.
    known = _late(log, filter_)
    fresh = list(_latest(log, filter_, limit))[::-1]
    seen = {row.id for row in (*known, *fresh)}
    while True:
        if json:
            for row in fresh:
                typer.echo(to_json(row))
        else:
            for row in fresh:
                typer.echo("\t".join(map(printable, _cells(row))))
        sys.stdout.flush()
        time.sleep(POLL)
        found = _late(log, filter_)
        fresh = [row for row in reversed(found) if row.id not in seen]
        seen = {row.id for row in found}


def _late(log: Log, filter_: Filter) -> list[CallRow]:
    """Return those of the latest calls among which there may be more before long."""
    since = max(time_now() - LATE, filter_.since or 0)
    return list(_matching(log, msgspec.structs.replace(filter_, since=since)))


_CALL_HEAD = ("time", "id", "integration", "method", "route", "status", "outcome", "ms", "v2",
              "notes")  # fmt: skip


def _cells(row: CallRow) -> tuple[str, ...]:
    return (
        spelled(row.time), str(row.id), row.title, row.method, row.route or row.path or "",
        _status(row.status), row.refusal or row.outcome, f"{row.milliseconds:.0f}",
        str(len(row.upstream)), ", ".join(sorted({str(each["code"]) for each in row.notes})),
    )  # fmt: skip


def _print_calls(rows: Iterator[CallRow], json: bool) -> None:
    if json:
        for row in rows:
            typer.echo(to_json(row))
        return
    print_table(
        _CALL_HEAD,
        map(_cells, rows),
        (
            ("time", "id"), ("integration", "notes"), ("method", "route"),
            ("status", "outcome"), ("ms", "v2"),
        ),
    )  # fmt: skip


@app.command()
@with_settings("database")
def show(
    given: Given,
    id_: Annotated[str, typer.Argument(metavar="ID", help="A call's id, or its X-Request-Id.")],
    json: JSON = False,
) -> None:
    """Show all that is known of one legacy call."""
    with asking(given) as log:
        row = log.call(id_)
        if row is None:
            fail("there is no such call, or it is older than calls are kept")
        kept = log.exchange(row.id)
        exchange = None if kept is None else _unpacked(kept)
        compared = log.comparison(row.id)
        if json:
            told = {**msgspec.structs.asdict(row), "exchange": exchange and _as_texts(exchange)}
            if compared is not None:
                told["compared"] = dict(zip(("result", "differences"), compared, strict=True))
            typer.echo(to_json(told))
            return
        _show_call(row)
        if compared is not None:
            result, differences = compared
            typer.echo()
            typer.echo(printable(f"v1 and bridge: {result}"))
            for place, count in differences.items():
                typer.echo(printable(f"    {place} ({count})"))
        if exchange is not None:
            _show_exchange(exchange)


def _unpacked(kept: bytes) -> Exchange:
    with failing_at(ValueError):
        return unpack(kept)


def _as_texts(exchange: Exchange) -> Any:  # noqa: ANN401 - JSON
    """Return both sides with their bodies as texts."""

    def told(value: Any) -> Any:  # noqa: ANN401
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        if isinstance(value, list | tuple):
            return [told(each) for each in value]
        return (
            {key: told(each) for key, each in value.items()} if isinstance(value, dict) else value
        )

    return told(msgspec.to_builtins(exchange, builtin_types=(bytes,)))


def _show_exchange(exchange: Exchange) -> None:
    _show_message("v1", f"{exchange.method} {exchange.url}", exchange.request)
    for each in exchange.upstream:
        _show_message(f"v2, {each.started:.0f} ms on", f"{each.method} {each.url}", each.request)
        _show_message("v2's answer", _status(each.status), each.answer)
    _show_message("the answer", _status(exchange.status), exchange.answer)
    if (other := exchange.other) is not None:
        whose = "v1" if other.side == "v1" else "the bridge"
        _show_message(f"{whose} would have answered", str(other.status), other.answer)


def _show_message(whose: str, line: str, message: Message | None) -> None:
    typer.echo()
    typer.echo(printable(f"{whose}: {line}"))
    if message is None:
        return
    for name, value in message.headers:
        typer.echo(printable(f"    {name}: {value}"))
    for text in message.body.decode("utf-8", "replace").splitlines():
        typer.echo(f"    {printable(text)}")
    if message.left_out is not None:
        typer.echo(f"    ({message.left_out}: {message.size} bytes in all)")


def _show_call(row: CallRow) -> None:
    facts = msgspec.structs.asdict(row)
    facts["time"] = spelled(row.time)
    facts["integration"] = f"{row.integration} ({row.title})"
    facts["outcome"] = str(row.outcome)
    for name in ("title", "upstream", "notes"):
        del facts[name]
    _print_facts(facts)
    if row.upstream:
        typer.echo()
        print_table(
            ("v2 call", "status", "ms", "page", "event", "error", "shared"),
            (
                (
                    f"{each['method']} {each['path']}", _of(each, "status"),
                    _of(each, "milliseconds"), _of(each, "page"), _of(each, "event"),
                    _of(each, "error"), "yes" if each.get("shared") else "",
                )
                for each in row.upstream
            ),
        )  # fmt: skip
    if row.notes:
        typer.echo()
        print_table(
            ("note", "on", "times", "meaning"),
            (
                (
                    str(each["code"]), str(each["subject"]), str(each["count"]),
                    meaning_of(str(each["code"])),
                )
                for each in row.notes
            ),
        )  # fmt: skip


def _of(call: Mapping[str, object], name: str) -> str:
    value = call.get(name)
    return "" if value is None else _text(value)


@app.command()
@with_settings("database")
@with_filter
def export(
    given: Given,
    asked: Mapping[str, Any],
    json: Annotated[bool, typer.Option("--json", help="JSON, one call a line.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV with a head.")] = False,
    as_har: Annotated[
        bool, typer.Option("--har", help="HAR 1.2: both sides of those that were captured.")
    ] = False,
) -> None:
    """Write legacy calls to standard output, as many as there are."""
    formats: Mapping[Callable[[Log, Iterator[CallRow]], None], bool] = {
        _write_json: json,
        _write_csv: as_csv,
        _write_har: as_har,
    }
    wanted = [write for write, is_wanted in formats.items() if is_wanted]
    if len(wanted) != 1:
        fail("one of --json, --csv and --har has to be given")
    with asking(given) as log, _writing():
        wanted[0](log, _matching(log, read_filter(log, asked)))


@contextmanager
def _writing() -> Iterator[None]:
    """End the command in one line where standard output takes no more."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has seen enough
        raise
    except OSError as error:
        # What is still to be written would be tried again at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        fail(f"standard output: {error.strerror}")


def _write_json(_log: Log, rows: Iterator[CallRow]) -> None:
    for row in rows:
        sys.stdout.write(f"{to_json(row)}\n")


def _write_har(log: Log, rows: Iterator[CallRow]) -> None:
    output = typer.get_binary_stream("stdout")
    for part in har.write(_captured(log, rows)):
        output.write(part)


def _captured(log: Log, rows: Iterator[CallRow]) -> Iterator[har.Captured]:
    for row in rows:
        # It may be gone since the call was listed: what was captured makes room first.
        if row.captured and (kept := log.exchange(row.id)) is not None:
            title = f"{row.method} {row.route or row.path or ''}"
            yield har.Captured(row.id, row.request_id, title, row.integration, _unpacked(kept))


def _write_csv(_log: Log, rows: Iterator[CallRow]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\r\n")  # RFC 4180, section 2
    writer.writerow(CallRow.__struct_fields__)
    for row in rows:
        cells = {**msgspec.structs.asdict(row), "time": spelled(row.time)}
        for name in ("upstream", "notes"):
            cells[name] = to_json(cells[name]) if cells[name] else ""
        writer.writerow(["" if each is None else _harmless(each) for each in cells.values()])


def _harmless(value: object) -> object:
    """Return the value of a cell such that no spreadsheet takes a text for a formula, and that it
    does nothing to a terminal.
    """
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
