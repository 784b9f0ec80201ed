"""Which calls are captured: rules in a table, for all bridges, each with an end; and who is told.

What is held of a call is in `bridge.tape`; what is kept of that, in `overheard` and `redaction`.
"""

import re
import time
from collections.abc import Callable, Sequence
from enum import StrEnum

import msgspec
import structlog
from sqlalchemy import Connection, delete, insert, select, update

from bridge.record.log.database import LogError
from bridge.record.log.events import ALL, CallEvent, is_well
from bridge.record.log.overheard import Overheard, OverheardOther
from bridge.record.log.redaction import stand_in, without_addresses
from bridge.record.log.tables import CAPTURE_RULES, CAPTURES
from bridge.record.log.times import DAY, spelled, time_now
from bridge.tape import Tape

MOST = 7 * DAY
"""Milliseconds that a rule may last: what is switched on to look at something is not for ever."""

READ_EVERY = 2.0
"""Seconds between two looks at the rules."""

TOLD_EVERY = 600.0
"""Seconds between two log lines that say what is on."""

_log = structlog.get_logger("bridge.capture")


class Mode(StrEnum):
    """What is kept."""

    OFF = "off"
    """Nothing, though a rule for all says otherwise."""
    ERRORS = "errors"
    """Calls that were not served."""
    ALL = "all"
    """Every call."""


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """What is captured of an integration, or of all. Times are milliseconds since 1970, UTC."""

    integration: str = ALL
    mode: Mode
    raw: bool = False
    """Whether addresses, names and texts are kept as they are."""
    since: int
    until: int

    def __str__(self) -> str:
        """Say it in words for an operator."""
        what = {Mode.ALL: "all calls", Mode.ERRORS: "calls not served", Mode.OFF: "no calls"}
        whose = f"of {self.integration}" if self.integration else "of all integrations"
        how = ", raw: with addresses, names and texts" if self.raw else ""
        return f"{what[self.mode]} {whose} until {spelled(self.until)}{how}"


class UnusableRule(LogError):
    """A rule makes no sense; `str()` is one line for the operator."""


# The table.


def rules(connection: Connection, at: int | None = None) -> list[Rule]:
    """Return the rules in force; the one for all comes first."""
    c = CAPTURE_RULES.c
    since = time_now() if at is None else at
    in_force = select(*CAPTURE_RULES.c).where(c.until > since).order_by(c.integration)
    return [
        Rule(
            integration=row.integration,
            mode=Mode(row.mode),
            raw=row.raw,
            since=row.since,
            until=row.until,
        )
        for row in connection.execute(in_force)
        if row.mode in set(Mode)
    ]


def put(connection: Connection, rule: Rule) -> None:
    """Put a rule in force, in the place of the one that the integration has.

    Off for all ends every rule. Off for one integration ends its own, and keeps it out of the rule
    for all as long as that lasts, and out of one that takes its place meanwhile.

    Raises:
        UnusableRule: it would last for too long, or for no time at all.
    """
    c = CAPTURE_RULES.c
    if rule.mode is Mode.OFF:
        for_all = [each for each in rules(connection, rule.since) if each.integration == ALL]
        if rule.integration == ALL:
            connection.execute(delete(CAPTURE_RULES))
            return
        rule = msgspec.structs.replace(
            rule, raw=False, until=for_all[0].until if for_all else rule.since
        )
    elif not 0 < rule.until - rule.since <= MOST:
        raise UnusableRule(f"must last for at most {MOST // DAY} days, and not for no time")
    connection.execute(
        delete(CAPTURE_RULES).where((c.integration == rule.integration) | (c.until <= rule.since))
    )
    if rule.integration == ALL:
        kept_out = update(CAPTURE_RULES).where(c.mode == Mode.OFF.value)
        connection.execute(kept_out.values(until=rule.until))
    if rule.until > rule.since:
        connection.execute(insert(CAPTURE_RULES).values(**msgspec.to_builtins(rule)))


def keep(connection: Connection, id_: int, overheard: Overheard) -> None:
    """Write what was overheard of the call with this id, within the connection's transaction."""
    if (kept := overheard.packed()) is not None:
        connection.execute(insert(CAPTURES).values(id=id_, exchange=kept))


def keep_other(connection: Connection, id_: int, other: OverheardOther) -> None:
    """Write what the other side answered beside what is kept of the call, if anything is."""
    of_call = CAPTURES.c.id == id_
    kept = connection.execute(select(CAPTURES.c.exchange).where(of_call)).scalar()
    if kept is not None and (with_other := other.added_to(kept)) is not None:
        connection.execute(update(CAPTURES).where(of_call).values(exchange=with_other))


_SPAN = re.compile(r"([0-9]{1,6})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600}


def read_span(text: str) -> int:
    """Read `90s`, `30m`, `1h` or `2d` as milliseconds.

    Raises:
        UnusableRule: it is none of these.
    """
    if (span := _SPAN.fullmatch(text)) is None:
        raise UnusableRule("must be a span of time such as 30m, 1h or 2d")
    return int(span[1]) * _SECONDS[span[2]] * 1000


# The rules in a process.


class Capture:
    """The rules in force as a bridge knows them. A rule ends by its time, whatever the database.

    The writer's thread has the rules read; the event loop asks what they say.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """Capture nothing yet. `clock` answers seconds since 1970."""
        self._clock = clock
        self._rules: dict[str, Rule] = {}
        self._until = 0
        """When the last rule ends that captures something; 0: there is none."""
        self._told: dict[str, Rule] = {}
        """What was announced, and not yet that it is over."""
        self._told_at = 0.0

    def is_on(self) -> bool:
        """Tell whether anything is captured, of whomever."""
        return self._until != 0 and self._until > self._clock() * 1000

    def in_force(self) -> list[Rule]:
        """Return the rules in force that capture something."""
        now = self._clock() * 1000
        known = self._rules.values()
        return [each for each in known if each.until > now and each.mode is not Mode.OFF]

    def warning(self) -> str | None:
        """Return what is captured, in one line; None: nothing."""
        return "; ".join(map(str, self.in_force())) or None

    def rule(self, integration: str) -> Rule | None:
        """Return the rule by which calls of an integration are captured, None if they are not."""
        now = self._clock() * 1000
        for whose in (integration, ALL):
            found = self._rules.get(whose)
            if found is not None and found.until > now:
                return None if found.mode is Mode.OFF else found
        return None

    def kept(self, tape: Tape, call: CallEvent) -> Overheard | None:
        """Return what is to be kept of a call that has ended, None if that is nothing."""
        rule = self.rule(call.integration)
        if rule is None or (rule.mode is Mode.ERRORS and is_well(call.outcome, call.status)):
            return None
        # Where no route is known, path and host are whatever the client made up.
        return Overheard(
            tape,
            method=call.method,
            raw=rule.raw,
            host=call.host,
            path=call.path or (None if call.route else "/{…}"),
            status=call.status,
            milliseconds=call.milliseconds,
            http=call.http,
            shared_with=call.shared_with,
        )

    def quoted(self, integration: str, words: str) -> str | None:
        """Return what the log may tell of v2's own words to an integration."""
        rule = self.rule(integration)
        if rule is None:
            return None
        return without_addresses(words) if rule.raw else stand_in(words)

    # In the writer's thread.

    def read(self, connection: Connection) -> None:
        """Read the rules, and announce what is on, what has changed and what has ended."""
        self.take(rules(connection, int(self._clock() * 1000)))

    def take(self, known: Sequence[Rule]) -> None:
        """Put these rules in force, and announce them."""
        self._rules = {rule.integration: rule for rule in known}
        self._until = max((rule.until for rule in self.in_force()), default=0)
        self._announce()

    def _announce(self) -> None:
        on = {rule.integration: rule for rule in self.in_force()}
        for integration, rule in self._told.items():
            if integration not in on:
                _log.warning("capture_ended", **_facts(rule))
        now = self._clock()
        is_due = now - self._told_at >= TOLD_EVERY
        for integration, rule in on.items():
            if is_due or self._told.get(integration) != rule:
                _log.warning("capture_on", **_facts(rule))
        if is_due:
            self._told_at = now
        self._told = on


def _facts(rule: Rule) -> dict[str, object]:
    return {
        "integration": rule.integration or "all",
        "mode": rule.mode.value,
        "raw": rule.raw,
        "until": spelled(rule.until),
    }
