"""Brownouts: times in which calls are turned away on purpose, by a setting and by a table for all
bridges; which are on, and who is told. What becomes of a call is not said here.
"""

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from functools import lru_cache
from threading import Event, Lock
from typing import NamedTuple

import msgspec
import structlog
from sqlalchemy import Connection, delete, func, insert, select

from bridge.record.log.database import LogError
from bridge.record.log.events import ALL
from bridge.record.log.ids import TIME_SHIFT
from bridge.record.log.schedules import Schedule, Stretch, UnusableSchedule
from bridge.record.log.tables import BROWNOUTS
from bridge.record.log.times import DAY, spelled

MOST = 7 * DAY
"""Milliseconds that one that is no schedule may last: it is to be noticed, and to end."""

READ_EVERY = 0.5
"""Seconds between two looks at the table: whatever was decided holds within two."""

LOOKED_WITHIN = 5.0
"""Seconds that a start waits for the first look, should the database hang."""

TOLD_EVERY = 600.0
"""Seconds between two log lines that say what is on."""

_A_DAY = 86400.0
"""Seconds for which it is remembered that one has ended, should the clock be put back."""

_log = structlog.get_logger("bridge.brownouts")


class By(StrEnum):
    """Who has decided."""

    SETTING = "setting"
    COMMAND = "command"


class UnusableBrownout(LogError):
    """A brownout makes no sense; `str()` is one line for the operator."""


# Which calls.

SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""The methods that read (RFC 9110, section 9.2.1)."""

_NONE = "none"
"""In the place of which calls: what is on is over."""


class Chosen:
    """Which calls are meant: `all`, `reads`, `writes`, `/invoices/{invoice_id}/messages` and what
    is below that, `POST /invoices`; or several of these, with commas between.
    """

    def __init__(self, text: str = "all") -> None:
        """Read it.

        Raises:
            UnusableBrownout: it is none of these.
        """
        self._pieces = [" ".join(piece.split()) for piece in text.split(",")]
        for piece in self._pieces:
            method, blank, path = piece.rpartition(" ")
            is_method = not blank or (method.isascii() and method.isalpha() and method.isupper())
            if piece not in _GROUPS and not (path.startswith("/") and is_method):
                raise UnusableBrownout(
                    "must be all, reads, writes, or routes such as /invoice/{invoice_id}/messages "
                    "or POST /invoices"
                )

    def __str__(self) -> str:
        return ", ".join(self._pieces)

    @property
    def routes(self) -> list[str]:
        """The routes that are named, without their methods."""
        return [piece.rpartition(" ")[2] for piece in self._pieces if piece not in _GROUPS]

    def has(self, method: str, route: str) -> bool:
        """Tell whether a call is meant, by its route, or its path as the log has it."""
        return any(_is_meant(piece, method, route) for piece in self._pieces)


_GROUPS: dict[str, Callable[[str], bool]] = {
    "all": lambda _method: True,
    "reads": lambda method: method in SAFE,
    "writes": lambda method: method not in SAFE,
}


def _is_meant(piece: str, method: str, route: str) -> bool:
    if (group := _GROUPS.get(piece)) is not None:
        return group(method)
    wanted, _, path = piece.rpartition(" ")
    return wanted in {"", method} and (route == path or route.startswith(f"{path.rstrip('/')}/"))


_chosen = lru_cache(maxsize=1024)(Chosen)
_scheduled = lru_cache(maxsize=16_384)(Schedule)  # one that is read anew takes 200 microseconds


# What was decided.


class Brownout(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided. Times are milliseconds since 1970, UTC."""

    id: int = 0
    integration: str = ALL
    calls: str = "all"
    """Which, as `Chosen` reads it."""
    schedule: str | None = None
    """None: it is once, from `since` to `until`."""
    time_zone: str = "UTC"
    since: int = 0
    until: int | None = None
    by: By = By.COMMAND

    def stretch(self, now: int) -> Stretch | None:
        """Return when it is on, if it is on now, or else will be; None: it is over."""
        if self.schedule is not None:
            return _scheduled(self.schedule, self.time_zone).stretch(now)
        until = self.until or 0
        return Stretch(self.since, until) if until > now else None

    def latest_week(self, now: int) -> list[Stretch]:
        """Return when it would have been on in the last seven days; once: seven days sooner."""
        if self.schedule is not None:
            return _scheduled(self.schedule, self.time_zone).latest_week(now)
        return [Stretch(self.since - 7 * DAY, min((self.until or 0) - 7 * DAY, now))]

    def has(self, method: str, route: str) -> bool:
        """Tell whether such calls are turned away while it is on."""
        return _chosen(self.calls).has(method, route)


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """A brownout, and when it is on: just now, or the next time."""

    brownout: Brownout
    begin: int
    end: int
    is_on: bool
    but_not: tuple[str, ...] = ()
    """The integrations for which it was ended already."""

    def __str__(self) -> str:
        """Say it in words for an operator."""
        of = self.brownout
        whose = f"of {of.integration}" if of.integration else "of all integrations"
        but = f" but {', '.join(self.but_not)}" if self.but_not else ""
        return f"{of.calls} calls {whose}{but} are turned away until {spelled(self.end)}"


def planned(known: Sequence[Brownout], now: int) -> list[Planned]:
    """Return what is on, or will be, the soonest first."""
    ends = [each for each in known if each.calls == _NONE]
    found = []
    for each in known:
        if each.calls == _NONE or (stretch := each.stretch(now)) is None:
            continue
        # What had begun when its end was decided is over; the next time it is on again.
        ended = {end.integration for end in ends if stretch.begin <= end.since < stretch.end}
        if ended & {ALL, each.integration}:
            if (stretch := each.stretch(stretch.end)) is None:
                continue
            ended = set()
        found.append(
            Planned(
                brownout=each,
                begin=stretch.begin,
                end=stretch.end,
                is_on=stretch.begin <= now,
                but_not=tuple(sorted(ended)) if each.integration == ALL else (),
            )
        )
    return sorted(found, key=lambda each: (each.begin, each.end))


def of_setting(schedule: str | None, time_zone: str) -> list[Brownout]:
    """Return the one that the settings decide, if they do."""
    if schedule is None:
        return []
    return [Brownout(schedule=schedule, time_zone=time_zone, by=By.SETTING)]


# The table.


def brownouts(connection: Connection) -> list[Brownout]:
    """Return what is in the table, in the order in which it was decided."""
    return [
        Brownout(
            id=row.id,
            integration=row.integration,
            calls=row.calls,
            schedule=row.schedule,
            time_zone=row.time_zone or "UTC",
            since=row.since,
            until=row.until,
        )
        for row in connection.execute(select(*BROWNOUTS.c).order_by(BROWNOUTS.c.id))
        if _is_sound(row.calls, row.schedule, row.time_zone)
    ]


def _is_sound(calls: str, schedule: str | None, time_zone: str | None) -> bool:
    """Tell whether a row can be read: a bridge of another version may have written it."""
    try:
        if calls != _NONE:
            _chosen(calls)
        if schedule is not None:
            _scheduled(schedule, time_zone or "UTC")
    except (UnusableBrownout, UnusableSchedule):
        return False
    return True


def put(connection: Connection, brownout: Brownout, now: int) -> None:
    """Put one in force, and forget those that are over.

    Raises:
        UnusableBrownout: it would last for too long, for no time, or is over already.
    """
    _chosen(brownout.calls)
    if brownout.schedule is None and not 0 < (brownout.until or 0) - brownout.since <= MOST:
        raise UnusableBrownout(f"must last for at most {MOST // DAY} days, and not for no time")
    if brownout.stretch(now) is None:
        raise UnusableBrownout("is over already")
    over = [
        each.id
        for each in brownouts(connection)
        if (each.until or 0) <= now and each.stretch(now) is None
    ]
    connection.execute(delete(BROWNOUTS).where(BROWNOUTS.c.id.in_(over)))
    _insert(connection, brownout, now)


def end(connection: Connection, integration: str, now: int) -> None:
    """End what is on for an integration, or for all; what has a schedule is on again the next time.

    So is what the settings have begun: that an end was decided stands in the table. What was begun
    by a clock that is ahead of `now` is ended, too.
    """
    c = BROWNOUTS.c
    begun = select(func.max(c.since)).where(c.schedule.is_(None), c.calls != _NONE)
    since = max(now, connection.execute(begun).scalar() or now)
    over = Brownout(integration=integration, calls=_NONE, since=since, until=since + MOST)
    _insert(connection, over, now)


def remove(connection: Connection, integration: str, now: int) -> None:
    """End what is on, and forget what was decided by command for an integration, or at all."""
    c = BROWNOUTS.c
    its_own = c.integration == integration if integration else c.calls != _NONE
    connection.execute(delete(BROWNOUTS).where(its_own, c.calls != _NONE))
    end(connection, integration, now)


def _insert(connection: Connection, brownout: Brownout, now: int) -> None:
    values = msgspec.to_builtins(brownout)
    del values["by"]
    values["id"] = now << TIME_SHIFT | secrets.randbits(TIME_SHIFT)
    connection.execute(insert(BROWNOUTS).values(values))


# The brownouts in a process.


class _On(msgspec.Struct, frozen=True):
    """What is on, and until when at most by the clock that nobody puts back."""

    planned: Planned
    latest: float


class _Seen(NamedTuple):
    """What was on, of what was known, at a look that is good from then until something changes."""

    known: tuple[Brownout, ...]
    since: int
    until: float
    on: tuple[_On, ...]


class Brownouts:
    """What is on as a bridge knows it. All end by their time, whatever the database.

    The writer's thread has the table read, and says what is on; the event loop asks. While the
    database is away, what was read last holds, and of the settings, what they say.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.time,
        elapsed: Callable[[], float] = time.monotonic,
        window: float = 0.0,
    ) -> None:
        """Turn nobody away yet.

        `clock` answers seconds since 1970. It may be put back: what is on ends by `elapsed`, too.
        `window` are the seconds in which a repeated write is known as one.
        """
        self._clock = clock
        self._elapsed = elapsed
        self._window = window
        self._setting: list[Brownout] = []
        self._decided: list[Brownout] | None = None
        """By command; None: it is not known."""
        self._known: tuple[Brownout, ...] = ()
        self._gathering = Lock()
        self._seen = _Seen(self._known, 0, 0, ())
        self._latest: dict[tuple[Brownout, int], float] = {}
        """By brownout and when it began."""
        self._told: dict[Brownout, Planned] = {}
        """What was announced, and not yet that it is over."""
        self._told_at = 0.0
        self.looked = Event()
        """Whether the table was looked at, or could not be."""

    def now(self) -> int:
        """Return the time by which brownouts are judged."""
        return int(self._clock() * 1000)

    @property
    def are_any(self) -> bool:
        """Whether anything is on, or may be some time."""
        return bool(self._known)

    def go_by(self, schedule: str | None, time_zone: str) -> None:
        """Take what the settings say, a schedule that can be read."""
        self._setting = of_setting(schedule, time_zone)
        self._gather()

    def of_settings(self) -> Sequence[Brownout]:
        """Return those that the settings decide."""
        return self._setting

    def turns_away(self, integration: str, method: str, route: str) -> Planned | None:
        """Return the brownout in which a call is not answered just now; None: there is none.

        Of several, the one that ends last.
        """
        found = [
            each.planned
            for each in self._on_now()
            if each.planned.brownout.integration in {ALL, integration}
            and integration not in each.planned.but_not
            and each.planned.brownout.has(method, route)
        ]
        return max(found, key=lambda each: each.end, default=None)

    def in_force(self) -> list[Planned]:
        """Return what is on."""
        return [each.planned for each in self._on_now()]

    def warning(self) -> str | None:
        """Return what is on, in one line; None: nothing."""
        told = [*map(str, self.in_force())]
        if self._decided is None:
            told.append("what was decided by command is not known: the database did not answer yet")
        return "; ".join(told) or None

    def _on_now(self) -> Iterator[_On]:
        now, elapsed, seen = self.now(), self._elapsed(), self._seen
        if seen.known is not self._known or not seen.since <= now < seen.until:
            self._seen = seen = self._look(now, elapsed)
        return (each for each in seen.on if elapsed < each.latest)

    def _look(self, now: int, elapsed: float) -> _Seen:
        # Two threads may do so at once: what either has seen is of what it knew.
        known, until, on = self._known, float("inf"), []
        for each in planned(known, now):
            until = min(until, each.end if each.is_on else each.begin)
            if each.is_on:
                latest = self._latest.setdefault(
                    (each.brownout, each.begin), elapsed + (each.end - now) / 1000
                )
                on.append(_On(each, latest))
        return _Seen(known, now, until, tuple(on))

    def _gather(self) -> None:
        with self._gathering:  # what one thread decides, the other must not forget
            self._known = (*self._setting, *(self._decided or ()))

    # In the writer's thread.

    def read(self, connection: Connection) -> None:
        """Read the table."""
        self.take(brownouts(connection))

    def take(self, decided: Sequence[Brownout]) -> None:
        """Put what was decided by command in force."""
        if decided != self._decided:
            self._decided = list(decided)
            self._gather()

    def announce(self) -> None:
        """Say what is on, what has changed and what has ended; and if that is not known."""
        now = self._elapsed()
        is_due = not self._told_at or now - self._told_at >= TOLD_EVERY
        on = {each.brownout: each for each in self.in_force()}
        for brownout, before in self._told.items():
            if brownout not in on:
                _log.warning("brownout_ended", **self._facts(before))
        for brownout, each in on.items():
            if is_due or self._told.get(brownout) != each:
                _log.warning("brownout_on", **self._facts(each))
        if is_due:
            self._told_at = now
            if self._decided is None:
                _log.error("brownouts_unknown", reason="the database did not answer yet")
            self._latest = {key: at for key, at in self._latest.items() if at > now - _A_DAY}
        self._told = on
        self.looked.set()

    def _facts(self, planned: Planned) -> dict[str, object]:
        of = planned.brownout
        facts: dict[str, object] = {
            "integration": of.integration or "all",
            "calls": of.calls,
            "since": spelled(planned.begin),
            "until": spelled(planned.end),
            "by": of.by.value,
        }
        if of.schedule is not None:
            facts["schedule"] = f"{of.schedule} ({of.time_zone})"
        if planned.but_not:
            facts["but_not"] = list(planned.but_not)
        if planned.end - planned.begin > self._window * 1000:
            facts["longer_than_repeat_window"] = True
        return facts
