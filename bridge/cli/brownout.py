"""The commands `brownout` and `sunset`: whose calls are turned away on purpose, when, and who would
be hit by that.
"""

import time
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Annotated

import typer

from bridge.cli.asking import asking
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
from bridge.record.log.answers import DryRun, Hit
from bridge.record.log.brownouts import (
    Brownout,
    Chosen,
    Planned,
    UnusableBrownout,
    of_setting,
    planned,
)
from bridge.record.log.capture import UnusableRule, read_span
from bridge.record.log.events import ALL
from bridge.record.log.policies import NEVER
from bridge.record.log.reports import Log
from bridge.record.log.schedules import Schedule, UnusableSchedule
from bridge.record.log.times import DAY, moment, spelled, time_now
from bridge.resources.routes import is_v1s
from bridge.settings import BrownoutSettings, FileSettings

app = typer.Typer(rich_markup_mode=None)


class _Settings(BrownoutSettings, FileSettings):
    """What these commands go by."""


@app.command()
@with_settings("database")
def brownout(
    given: Given,
    whose: Annotated[
        str | None,
        typer.Argument(
            metavar="[INTEGRATION]",
            help="Whose calls: an id or its beginning, a name, or a label of the book.",
        ),
    ] = None,
    for_all: Annotated[bool, typer.Option("--all", help="Those of all integrations.")] = False,
    span: Annotated[
        str | None, typer.Option("--for", help="From now on, for so long: 30m, 1h; 7d at the most.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            "--at",
            help="When: Tue 10:00-10:15, Mon-Fri 9:00-9:05,15:00-15:05, 2027-03-01 10:00-11:00.",
        ),
    ] = None,
    time_zone: Annotated[
        str | None,
        typer.Option(help="Of --at, such as Europe/Berlin; by default, brownout_time_zone."),
    ] = None,
    calls: Annotated[
        str, typer.Option(help="Which: all, reads, writes, or routes, separated by commas.")
    ] = "all",
    end: Annotated[
        bool, typer.Option("--end", help="End what is on, at once; schedules go on the next time.")
    ] = False,
    remove: Annotated[
        bool, typer.Option("--remove", help="Likewise, and forget what commands have decided.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say who would have been hit last week, only.")
    ] = False,
    json: JSON = False,
) -> None:
    """List when calls are turned away on purpose; begin that, or end it."""
    is_new = span is not None or at is not None
    if (end or remove) and (is_new or dry_run):
        fail("--end and --remove go with neither --for, --at nor --dry-run")
    if whose is not None and for_all:
        fail("name an integration, or --all")
    if time_zone is not None and at is None:
        fail("--time-zone is that of --at")
    settings, now = given.load(_Settings), time_now()
    with asking(given) as log:
        integration = ALL if whose is None else log.find_integration(whose).id
        known = [*_of_setting(settings), *log.decisions.brownouts()]
        if end or remove:
            log.decisions.end_brownouts(integration, now, for_good=remove)
            _tell_ended(planned(known, now), integration)
        elif is_new:
            if whose is None and not for_all and not dry_run:
                fail("name whose calls are to be turned away: --all or INTEGRATION")
            zone = time_zone or settings.brownout_time_zone
            known = [_new(integration, span, at, zone, calls, now)]
            if not dry_run:
                _put(log, known[0], now, settings.repeat_window)
        elif whose is not None and not dry_run:
            fail("say when: --for 30m, or --at 'Tue 10:00-10:15'; or --end")
        if dry_run:
            _show_dry_run(log, known, integration, now, json)
        else:
            _list(log, settings, now, json)


def _of_setting(settings: BrownoutSettings) -> list[Brownout]:
    return of_setting(settings.brownout, settings.brownout_time_zone)


def _new(
    integration: str, span: str | None, at: str | None, time_zone: str, calls: str, now: int
) -> Brownout:
    if span is not None and at is not None:
        fail("--for and --at: one of them")
    try:
        chosen = Chosen(calls)
    except UnusableBrownout as error:
        fail(f"--calls {error}")
    for route in chosen.routes:
        if not is_v1s(route):
            fail(f"--calls: {route} is no path of v1")
    if at is None:
        try:
            until = now + read_span(span or "")
        except UnusableRule as error:
            fail(f"--for {error}")
        return Brownout(integration=integration, calls=str(chosen), since=now, until=until)
    try:
        schedule = Schedule(at, time_zone)
    except UnusableSchedule as error:
        fail(f"{'--time-zone' if 'time zone' in str(error) else '--at'} {error}")
    return Brownout(
        integration=integration,
        calls=str(chosen),
        schedule=schedule.text,
        time_zone=time_zone,
        since=now,
    )


def _put(log: Log, new: Brownout, now: int, window: float) -> None:
    try:
        log.decisions.put_brownout(new, now)
    except UnusableBrownout as error:
        fail(f"{'--for' if new.schedule is None else '--at'} {error}")
    stretch = new.stretch(now)
    if stretch is not None and stretch.end - stretch.begin > window * 1000:
        typer.echo(
            f"harvest-bridge: longer than repeat_window ({window:.0f} s): a write whose outcome "
            "its client was not told, and that it sends again afterwards, is not known as such",
            err=True,
        )


def _tell_ended(before: Sequence[Planned], integration: str) -> None:
    """Say what was on, as far as is known here: a bridge may have a setting by a flag."""
    whose = {ALL, integration}
    ended = [
        each
        for each in before
        if each.is_on and (integration == ALL or each.brownout.integration in whose)
    ]
    for each in ended:
        typer.echo(f"ended: {each}", err=True)
    what = "It is over" if ended else "Nothing was on that is known here; what a bridge has is over"
    typer.echo(f"{what}; bridges hear of it within two seconds.", err=True)


def _list(log: Log, settings: BrownoutSettings, now: int, json: bool) -> None:
    found = planned([*_of_setting(settings), *log.decisions.brownouts()], now)
    if json:
        typer.echo(to_json(found))
        return
    if not found:
        typer.echo("No brownout is on or to come.")
        return
    print_table(
        ("integration", "calls", "is", "begin", "end", "but not", "schedule", "by"),
        (
            (
                each.brownout.integration or "all",
                each.brownout.calls,
                "on" if each.is_on else "to come",
                spelled(each.begin),
                spelled(each.end),
                ", ".join(each.but_not),
                _schedule(each.brownout),
                each.brownout.by,
            )
            for each in found
        ),
    )


def _schedule(of: Brownout) -> str:
    return "once" if of.schedule is None else f"{of.schedule} ({of.time_zone})"


def _show_dry_run(
    log: Log, known: Sequence[Brownout], integration: str, now: int, json: bool
) -> None:
    asked = [each.brownout for each in planned(known, now)]
    if integration != ALL:
        asked = [each for each in asked if each.integration in {ALL, integration}]
    if not asked:
        fail("no brownout is on or to come: say --for 30m, or --at 'Tue 10:00-10:15'")
    found = log.dry_run(asked, now)
    if integration != ALL:
        found = _of_one(found, integration)
    if json:
        typer.echo(to_json(found))
        return
    for each in asked:
        of = f"of {each.integration}" if each.integration else "of all integrations"
        typer.echo(f"{_schedule(each)}: {each.calls} calls {of}")
    for stretch in found.stretches:
        typer.echo(f"last week: {spelled(stretch.begin)} to {spelled(stretch.end)}")
    at_most = "" if found.is_exact else "at most "
    typer.echo(
        f"{at_most}{found.calls} calls of {len(found.hits)} integrations would have been turned "
        f"away, {at_most}{found.writes} of them writes"
    )
    if found.since is None or any(each.begin < found.since for each in found.stretches):
        begins = "is empty" if found.since is None else f"begins at {spelled(found.since)}"
        typer.echo(f"the log {begins}: of what was before, it knows nothing")
    if found.hits:
        typer.echo()
        _print_hits(found.hits)


def _of_one(found: DryRun, integration: str) -> DryRun:
    hits = [each for each in found.hits if each.integration == integration]
    return DryRun(
        stretches=found.stretches,
        is_exact=found.is_exact,
        since=found.since,
        calls=sum(each.calls for each in hits),
        writes=sum(each.writes for each in hits),
        hits=hits,
    )


def _print_hits(hits: Sequence[Hit]) -> None:
    print_table(
        ("id", "integration", "owner", "calls", "writes", "routes"),
        (
            (
                each.integration,
                each.title,
                each.owner or "",
                str(each.calls),
                str(each.writes),
                ", ".join(f"{route} ({count})" for route, count in each.routes.items()),
            )
            for each in hits
        ),
        (("integration", "id", "owner"), ("calls", "writes"), ("routes",)),
    )


@app.command()
@with_settings("database")
def sunset(
    given: Given,
    said: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[INTEGRATION] [DAY]",
            help="Whose: an id or its beginning, a name, or a label; and the first day of 410s.",
        ),
    ] = None,
    for_all: Annotated[
        bool, typer.Option("--all", help="That of all integrations without one of their own.")
    ] = False,
    never: Annotated[
        bool, typer.Option("--never", help="None: not for this integration, or not for all.")
    ] = False,
    as_all: Annotated[
        bool, typer.Option("--as-all", help="None of its own: that of all holds for it.")
    ] = False,
    json: JSON = False,
) -> None:
    """List from which day on whose calls are 410; or say so."""
    words = said or []
    with asking(given) as log:
        if words or for_all or never or as_all:
            if len(words) != (not for_all) + (not never and not as_all) or (never and as_all):
                fail("name whose (--all or INTEGRATION), and when: DAY, --never or --as-all")
            whose = ALL if for_all else log.find_integration(words[0]).id
            forgets = as_all or (never and for_all)
            log.decisions.put_sunset(
                whose, None if forgets else NEVER if never else _day(words[-1])
            )
        _list_sunsets(log, json)


def _day(text: str) -> int:
    with failing_at(UnusableSchedule):
        try:
            day = date.fromisoformat(text)
        except ValueError:
            raise UnusableSchedule(f"{printable(text)!r} is no day such as 2027-06-30") from None
    first = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return (first - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def _list_sunsets(log: Log, json: bool) -> None:
    known = {
        each.integration: each.sunset
        for each in log.decisions.policies()
        if each.sunset is not None
    }
    if json:
        typer.echo(to_json([{"integration": id_, "sunset": at} for id_, at in known.items()]))
        return
    if not known:
        typer.echo("No sunset was decided.")
        return
    now = time.time() * 1000
    titles = log.titles(known)
    print_table(
        ("id", "integration", "sunset", "calls"),
        (
            (
                id_ or "all",
                titles.get(id_, ""),
                "never" if at >= NEVER else f"{moment(at):%Y-%m-%d}",
                _from_when_on(at, now),
            )
            for id_, at in known.items()
        ),
    )


def _from_when_on(sunset: int, now: float) -> str:
    if sunset >= NEVER:
        return "answered"
    return "410" if sunset <= now else f"410 in {max(1, round((sunset - now) / DAY))} d"
