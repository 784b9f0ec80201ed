"""What each page of the dashboard shows, as values gathered from the log: as JSON, they are the
page's `.json`.

How a page looks is written in its template, and how it is asked for in `pages`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

import msgspec

from bridge.guide.plan import Plan, plan
from bridge.record.log.answers import (
    Bucket,
    CallRow,
    DryRun,
    FailedConnection,
    Hit,
    Integration,
    Page,
    Route,
    State,
)
from bridge.record.log.brownouts import Brownout, Planned, planned
from bridge.record.log.capture import Mode, Rule
from bridge.record.log.comparisons import Score
from bridge.record.log.events import ALL, Outcome
from bridge.record.log.exchange import unpack
from bridge.record.log.finding import Filter
from bridge.record.log.policies import NEVER
from bridge.record.log.reports import Log
from bridge.record.log.times import DAY, HOUR
from bridge.server.admin.dashboard.facts import Facts
from bridge.server.admin.dashboard.sides import Sides, set_out

RANGES: Mapping[int, int] = {1: HOUR, 7: 6 * HOUR, 30: DAY, 90: DAY}
"""Over how many days a chart can look, and the milliseconds of a bar."""

QUIET = (7, 14, 30, 60, 90)
"""After how many days without a call an integration can be taken for gone."""

RECENT_DAYS = 30
"""Over how many days integrations are compared with each other, and attention is called to what
happened: to count alike calls of all integrations takes time in proportion."""

MOST_CHARTED = 6
"""Integrations that are told apart in a chart; the others are counted together."""

MOST_LISTED = 10
"""Rows of a list that is only to be noticed, or has a page of its own."""

ROWS = 50
"""Calls of one page."""


class Captured(msgspec.Struct, frozen=True):
    """A rule by which calls are captured."""

    rule: Rule
    title: str
    """Of the integration; '' where the rule is for all."""


class Series(msgspec.Struct, frozen=True):
    """Counts of one thing, a period after another."""

    key: str
    """An outcome, the id of an integration, or '' for all others."""
    title: str
    values: list[int]


class Timeline(msgspec.Struct, frozen=True):
    """Calls over time: periods of `step` ms from `since` on."""

    since: int
    step: int
    series: list[Series]


class Refusal(msgspec.Struct, frozen=True):
    """Logins that were refused for one reason."""

    reason: str
    calls: int


class Untranslated(msgspec.Struct, frozen=True):
    """A path of v1 that clients ask for, and the bridge does not translate."""

    method: str
    path: str
    calls: int


class Attention(msgspec.Struct, frozen=True):
    """What an operator has to look at."""

    facts: Facts
    refusals: list[Refusal]
    untranslated: list[Untranslated]
    connections: list[FailedConnection]
    """The latest, at most `MOST_LISTED`."""
    connections_in_all: int
    unrecorded: int


class Overview(msgspec.Struct, frozen=True):
    """The first page."""

    now: int
    days: int
    calls: int
    outcomes: dict[str, int]
    by_outcome: Timeline
    by_integration: Timeline
    integrations: list[Integration]
    """The latest of those who called, at most `MOST_LISTED`; what they did in `RECENT_DAYS`."""
    in_all: int
    """Integrations that called in these days."""
    sparks: dict[str, list[int]]
    """By integration, the calls of each of the last `RECENT_DAYS` days."""
    scores: dict[str, Score]
    """Of those in which any answer of v1 was compared with the bridge's, in these days."""
    attention: Attention


class Integrations(msgspec.Struct, frozen=True):
    """All integrations, or those that were asked for."""

    now: int
    state: State | None
    search: str
    integrations: list[Integration]
    in_all: int
    sparks: dict[str, list[int]]
    scores: dict[str, Score]
    """As on the first page."""


class OneIntegration(msgspec.Struct, frozen=True):
    """An integration, what it does, and what it would have to call instead."""

    now: int
    days: int
    integration: Integration
    by_outcome: Timeline
    routes: list[Route]
    plan: Plan
    latest: list[CallRow]
    score: Score
    shadow_percent: int | None
    """Of its GETs that are compared, as was decided for it or all; None: as the settings say."""
    capture: Rule | None
    """In force for it: its own, or the one for all."""


class Calls(msgspec.Struct, frozen=True):
    """Some of the calls that a filter lets through, the latest first."""

    now: int
    filter: Filter
    page: Page
    titles: dict[str, str]
    """Of all integrations, by id."""


class Compared(msgspec.Struct, frozen=True):
    """What comparing v1's answer with the bridge's came to."""

    result: str
    differences: dict[str, int]
    """How often each place is different; of what is incomparable, why it is."""


class OneCall(msgspec.Struct, frozen=True):
    """A call, with both sides if it was captured."""

    now: int
    call: CallRow
    compared: Compared | None
    sides: Sides | None
    capture: Rule | None
    """In force for its integration."""


class Verdict(StrEnum):
    """Whether an integration stands in the way of switching the bridge off."""

    CALLS = "calls"
    """It has called within the days that were asked for."""
    QUIET = "quiet"
    """It has not."""
    RETURNED = "returned"
    """It is said to be done, and has called."""
    DONE = "done"
    """It is said to be done, and is quiet."""
    STRANGER = "stranger"
    """No credential of it was ever accepted: it may be anybody."""


class Judged(msgspec.Struct, frozen=True):
    """An integration, and what it means for switching off."""

    integration: Integration
    quiet_days: int
    verdict: Verdict


class SwitchOff(msgspec.Struct, frozen=True):
    """Can it be switched off?"""

    now: int
    quiet: int
    """The days without a call that were asked for."""
    can: bool
    because: list[str]
    """The reasons, in words, the weightiest first."""
    integrations: list[Judged]


class PlannedOf(msgspec.Struct, frozen=True):
    """A brownout that is on or to come."""

    planned: Planned
    title: str
    """Of the integration; '' where it is of all."""


class SunsetOf(msgspec.Struct, frozen=True):
    """From when on an integration's calls are 410."""

    integration: str
    title: str
    """Likewise."""
    sunset: int


class Brownouts(msgspec.Struct, frozen=True):
    """When calls are turned away on purpose, and whose."""

    now: int
    planned: list[PlannedOf]
    """What is on, and then what is to come, the soonest first."""
    dry_run: DryRun | None
    """Who would have been hit last week by the first of them; None: there is none."""
    turned_away: list[Hit]
    """Whose calls were, in `RECENT_DAYS`."""
    sunsets: list[SunsetOf]


def overview(log: Log, now: int, days: int, facts: Facts) -> Overview:
    """Gather the first page: the last `days`, which is one of `RANGES`."""
    since, until, step = _span(now, days)
    outcomes = log.timeline(by="outcome", since=since, until=until, step=step)
    by_integration = log.timeline(by="integration", since=since, until=until, step=step)
    called = {each.by for each in by_integration}
    known = _told_apart(log.integrations(since=_span(now, RECENT_DAYS)[0]))
    titles = {each.id: each.title for each in known}
    listed = [each for each in known if each.id in called][:MOST_LISTED]
    return Overview(
        now=now,
        days=days,
        calls=sum(each.calls for each in outcomes),
        outcomes=_sums(outcomes),
        by_outcome=_by_outcome(outcomes, since, until, step),
        by_integration=_by_most(by_integration, titles, since, until, step),
        integrations=listed,
        in_all=len(called),
        sparks=_sparks(log, now, listed, by_integration if step == DAY else None),
        scores=log.scores(since=_span(now, RECENT_DAYS)[0]),
        attention=_attention(log, _span(now, min(days, RECENT_DAYS))[0], facts),
    )


def integrations(log: Log, now: int, state: State | None, search: str) -> Integrations:
    """Gather all integrations: those in a state, and with a text in what is known of them."""
    recently = _span(now, RECENT_DAYS)[0]
    known = _told_apart(log.integrations(since=recently))
    wanted = [
        each
        for each in known
        if (state is None or each.state == state) and search.casefold() in _text(each)
    ]
    sparks, scores = _sparks(log, now, wanted), log.scores(since=recently)
    return Integrations(now, state, search, wanted, len(known), sparks, scores)


def integration(log: Log, now: int, id_: str, days: int) -> OneIntegration | None:
    """Gather what there is on an integration; None: there is no such one."""
    since, until, step = _span(now, days)
    found = log.integration(id_, since=since)
    if found is None:
        return None
    buckets = log.timeline(by="outcome", since=since, until=until, step=step, integration=found.id)
    routes = log.routes(found.id, since=since)
    return OneIntegration(
        now=now,
        days=days,
        integration=found,
        by_outcome=_by_outcome(buckets, since, until, step),
        routes=routes,
        plan=plan(found, routes, log.notes(found.id, since=since)),
        latest=log.calls(Filter(integration=found.id), limit=MOST_LISTED).rows,
        score=log.score(found.id, since=since),
        shadow_percent=_shadow_percent(log, found.id),
        capture=_rule(log, found.id),
    )


def calls(log: Log, now: int, filter_: Filter, before: int | None) -> Calls:
    """Gather some of the calls that the filter lets through."""
    known = _told_apart(log.integrations(since=now))
    known.sort(key=lambda each: each.title.casefold())
    titles = {each.id: each.title for each in known}
    page = log.calls(filter_, before=before, limit=ROWS)
    rows = [
        msgspec.structs.replace(each, title=titles.get(each.integration, each.title))
        for each in page.rows
    ]
    return Calls(now, filter_, msgspec.structs.replace(page, rows=rows), titles)


def call(log: Log, now: int, id_: str) -> OneCall | None:
    """Gather what there is on a call; None: there is no such one."""
    found = log.call(id_)
    if found is None:
        return None
    kept = log.exchange(found.id) if found.captured else None
    sides = None if kept is None else set_out(unpack(kept), found.route)
    compared = log.comparison(found.id)
    return OneCall(
        now,
        found,
        None if compared is None else Compared(*compared),
        sides,
        _rule(log, found.integration),
    )


def captured(log: Log) -> list[Captured]:
    """Gather whose calls are captured, which every page says."""
    found = []
    for rule in log.decisions.capture_rules():
        if rule.mode is not Mode.OFF:
            whose = None if rule.integration == ALL else log.integration(rule.integration)
            found.append(Captured(rule, rule.integration if whose is None else whose.title))
    return found


def browned_out(log: Log, now: int, setting: Sequence[Brownout]) -> list[PlannedOf]:
    """Gather what is on or to come: by setting, and by command."""
    found = planned([*setting, *log.decisions.brownouts()], now)
    titles = log.titles(each.brownout.integration for each in found) if found else {}
    return [PlannedOf(each, _title(titles, each.brownout.integration)) for each in found]


def brownouts(log: Log, now: int, setting: Sequence[Brownout]) -> Brownouts:
    """Gather when calls are turned away on purpose, and whose."""
    found = browned_out(log, now, setting)
    sunsets = {each.integration: each.sunset or NEVER for each in log.decisions.policies()}
    titles = log.titles(sunsets)
    return Brownouts(
        now=now,
        planned=found,
        dry_run=log.dry_run([found[0].planned.brownout], now) if found else None,
        turned_away=log.turned_away(since=now - RECENT_DAYS * DAY),
        sunsets=[
            SunsetOf(each, _title(titles, each), at) for each, at in sunsets.items() if at < NEVER
        ],
    )


def _title(titles: Mapping[str, str], integration: str) -> str:
    return titles.get(integration, integration)


def _rule(log: Log, integration: str) -> Rule | None:
    rules = {rule.integration: rule for rule in log.decisions.capture_rules()}
    return rules.get(integration) or rules.get(ALL)


def _shadow_percent(log: Log, integration: str) -> int | None:
    decided = {each.integration: each.shadow_percent for each in log.decisions.policies()}
    own = decided.get(integration)
    return decided.get(ALL) if own is None else own


def switch_off(log: Log, now: int, quiet: int) -> SwitchOff:
    """Judge whether the bridge can be switched off: after `quiet` days without a call."""
    since = now - quiet * DAY
    judged = [
        Judged(each, (now - each.last_seen) // DAY, _verdict(each, since))
        for each in _told_apart(log.integrations(since=since))
    ]
    judged.sort(key=lambda each: each.integration.last_seen, reverse=True)
    because = _because(log, judged, now, quiet)
    return SwitchOff(
        now=now,
        quiet=quiet,
        can=not because,
        because=because or [f"Nobody who is known has called for {_days(quiet)}."],
        integrations=judged,
    )


def _because(log: Log, judged: Sequence[Judged], now: int, quiet: int) -> list[str]:
    """Return what speaks against switching off."""
    if not judged:
        return ["Nobody has called yet, so nothing is known."]
    since = now - quiet * DAY
    found = Counter(each.verdict for each in judged)
    known = len(judged) - found[Verdict.STRANGER]
    calling = found[Verdict.CALLS] + found[Verdict.RETURNED]
    because = []
    if calling:
        because.append(
            f"{calling:,} of {_counted(known, 'known integration')} called in the last "
            f"{_days(quiet)}."
        )
    if found[Verdict.RETURNED]:
        because.append(
            f"{_counted(found[Verdict.RETURNED], 'integration')} marked as done called all the "
            "same."
        )
    age = (now - min(each.integration.first_seen for each in judged)) // DAY
    if age < quiet:
        begins = _days(age) if age else "less than a day"
        because.append(
            f"The log begins {begins} ago: it cannot know who has been quiet for longer."
        )
    if unrecorded := log.unrecorded(since=since):
        because.append(
            f"{_counted(unrecorded, 'call')} could not be recorded in that time, so nobody knows "
            "who made them."
        )
    return because


def _verdict(integration: Integration, since: int) -> Verdict:
    if not integration.is_known:
        return Verdict.STRANGER
    is_done = integration.state is State.DONE
    if integration.last_seen >= since:
        return Verdict.RETURNED if is_done else Verdict.CALLS
    return Verdict.DONE if is_done else Verdict.QUIET


def _attention(log: Log, since: int, facts: Facts) -> Attention:
    routes = log.routes(None, since=since)
    connections = log.failed_connections(since=since)
    refusals: Counter[str] = Counter()
    untranslated: Counter[tuple[str, str]] = Counter()
    for each in routes:
        if each.refusal and each.outcome is not Outcome.WITHDRAWN:
            refusals[each.refusal] += each.calls
        if each.outcome is Outcome.UNTRANSLATED:
            untranslated[each.method, each.route] += each.calls
    # What is captured, or turned away, stands at the top of every page already.
    told = {"capture", "brownout"}
    warnings = {name: said for name, said in facts.warnings.items() if name not in told}
    return Attention(
        facts=msgspec.structs.replace(facts, warnings=warnings),
        refusals=[Refusal(*each) for each in refusals.most_common()],
        untranslated=[
            Untranslated(method, path, count)
            for (method, path), count in untranslated.most_common(MOST_LISTED)
        ],
        connections=connections[:MOST_LISTED],
        connections_in_all=len(connections),
        unrecorded=log.unrecorded(since=since),
    )


def _span(now: int, days: int) -> tuple[int, int, int]:
    """Return where the last days begin and end, and the step of a chart: this day, or of one day
    this hour, is the last. All that is counted on a page is of whole ones, and so agrees.
    """
    whole = HOUR if days == 1 else DAY
    until = (now // whole + 1) * whole
    return until - days * DAY, until, RANGES[days]


def _sums(buckets: Iterable[Bucket]) -> dict[str, int]:
    sums: Counter[str] = Counter()
    for each in buckets:
        sums[each.by] += each.calls
    return dict(sums.most_common())


def _by_outcome(buckets: Iterable[Bucket], since: int, until: int, step: int) -> Timeline:
    values = _values(buckets, since, until, step)
    series = [Series(each, each, values[each]) for each in Outcome if each in values]
    return Timeline(since, step, series)


def _by_most(
    buckets: Sequence[Bucket], titles: Mapping[str, str], since: int, until: int, step: int
) -> Timeline:
    """Tell those with the most calls apart."""
    charted = list(_sums(buckets))[:MOST_CHARTED]
    others = [
        msgspec.structs.replace(each, by=each.by if each.by in charted else "") for each in buckets
    ]
    values = _values(others, since, until, step)
    series = [Series(each, titles.get(each, each), values[each]) for each in charted]
    if "" in values:
        series.append(Series("", "all others", values[""]))
    return Timeline(since, step, series)


def _values(buckets: Iterable[Bucket], since: int, until: int, step: int) -> dict[str, list[int]]:
    values: dict[str, list[int]] = {}
    for each in buckets:
        counts = values.setdefault(each.by, [0] * ((until - since) // step))
        at = (each.since - since) // step
        if 0 <= at < len(counts):
            counts[at] += each.calls
    return values


def _sparks(
    log: Log, now: int, integrations: Sequence[Integration], known: Sequence[Bucket] | None = None
) -> dict[str, list[int]]:
    """Return the calls of each of the latest days; `known` are those of more days, if there are."""
    since, until, _ = _span(now, RECENT_DAYS)
    if known is None:
        known = log.timeline(by="integration", since=since, until=until, step=DAY)
    values = _values(known, since, until, DAY)
    return {each.id: values.get(each.id, [0] * RECENT_DAYS) for each in integrations}


def _told_apart(integrations: Sequence[Integration]) -> list[Integration]:
    """Add the beginning of its id to each title that several have, such as two logins of one
    client on one machine.
    """
    titles = Counter(each.title for each in integrations)
    return [
        each
        if titles[each.title] == 1
        else msgspec.structs.replace(each, title=f"{each.title} ({each.id[:6]})")
        for each in integrations
    ]


def _text(integration: Integration) -> str:
    """Return all that is searched, in one text."""
    known = (
        integration.title, integration.id, integration.name, integration.label, integration.owner,
        integration.subdomain, integration.agent, integration.network, integration.remark,
    )  # fmt: skip
    return " ".join(each for each in known if each).casefold()


def _days(count: int) -> str:
    return _counted(count, "day")


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"
