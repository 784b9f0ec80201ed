"""When a schedule such as `Tue 10:00-10:15` is on. Pure; what is done then, and to whom, is not
known here.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from bridge.record.log.times import DAY, moment

MINUTES = 24 * 60
"""Of a day, as its clocks tell it."""

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

DAILY = "daily"

BEFORE, BEHIND = 8, 15
"""Days around a moment in which stretches are looked for. What is weekly has one in each week, but
where clocks skip its time, and none that is longer than a week."""

_SPAN = re.compile(r"([0-9]{1,2}):([0-9]{2})-([0-9]{1,2}):([0-9]{2})")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_YEARS = range(2000, 3000)


class UnusableSchedule(ValueError):
    """A schedule, or a time zone, makes no sense; `str()` is one line for the operator."""


class Stretch(NamedTuple):
    """A time without a gap in which a schedule is on, in milliseconds since 1970, UTC."""

    begin: int
    end: int
    """The first millisecond in which it is off."""


class _Rule(NamedTuple):
    """Spans of the clock, on some days."""

    weekdays: frozenset[int]
    dates: tuple[date, ...]
    spans: tuple[tuple[int, int], ...]
    """Minutes since the day began, by its clocks; an end on the next day is beyond `MINUTES`."""


class Schedule:
    """When something is on, by what clocks say in a time zone.

    It begins and ends when clocks there say so. Where they say so twice, for they are put back, it
    takes place once, and as short as can be; of two that are equally short, it is the first. Where
    they never say so, for they are put ahead, that is the moment at which they are: what would lie
    in the skipped hour altogether does not take place.
    """

    def __init__(self, text: str, time_zone: str = "UTC") -> None:
        """Read `Tue 10:00-10:15`, `Mon-Fri 10:00-10:05, 15:00-15:10` or `2027-03-01 10:00-11:00`.

        Several of them have semicolons between. `daily` is each day. An end that is not behind its
        begin is on the next day.

        Raises:
            UnusableSchedule: it is none of these, or never off; or there is no such time zone.
        """
        self.text = " ".join(text.split())
        self.time_zone = time_zone
        self._rules = tuple(_rule(each) for each in self.text.split(";"))
        self._zone = zone(time_zone)
        if len(set(_minutes_of_a_week(self._rules))) == 7 * MINUTES:
            raise UnusableSchedule("is never off")
        self._found: tuple[int, Stretch | None] = (0, None)
        """When was looked, and the stretch that is good from then on until its end."""

    def __str__(self) -> str:
        """Say it in words for an operator."""
        return f"{self.text} ({self.time_zone})"

    def stretch(self, now: int) -> Stretch | None:
        """Return the stretch that is on now, or else the next one; None: there is none to come."""
        at, found = self._found
        if now < at or found is None or found.end <= now:
            found = self._look(now)
            self._found = (now, found)
        return found

    def latest_week(self, now: int) -> list[Stretch]:
        """Return when it would have been on in the last seven days.

        What is on at a date is moved back by whole weeks, as far as it takes.
        """
        weekly = [
            rule._replace(dates=(), weekdays=rule.weekdays | {day.weekday() for day in rule.dates})
            for rule in self._rules
        ]
        days = self._days_around(now, range(-BEFORE, 2))
        return [
            Stretch(max(each.begin, now - 7 * DAY), min(each.end, now))
            for each in self._stretches(weekly, days)
            if each.begin < now and each.end > now - 7 * DAY
        ]

    def _look(self, now: int) -> Stretch | None:
        days = self._days_around(now, range(-BEFORE, BEHIND + 1))
        last = max(days)
        days.update(day for rule in self._rules for day in rule.dates if day > last)
        found = self._stretches(self._rules, days)
        return next((each for each in found if each.end > now), None)

    def _days_around(self, now: int, days: Iterable[int]) -> set[date]:
        today = moment(now).astimezone(self._zone).date()
        return {today + timedelta(each) for each in days}

    def _stretches(self, rules: Sequence[_Rule], days: Iterable[date]) -> Iterator[Stretch]:
        """Yield the stretches of these days in the order of time; those that touch are one."""
        found = sorted(
            stretch
            for day in days
            for rule in rules
            if day.weekday() in rule.weekdays or day in rule.dates
            for span in rule.spans
            if (stretch := self._placed(day, *span)) is not None
        )
        begin = end = 0
        for each in found:
            if each.begin > end:
                if end:
                    yield Stretch(begin, end)
                begin, end = each
            end = max(end, each.end)
        if end:
            yield Stretch(begin, end)

    def _placed(self, day: date, begin: int, end: int) -> Stretch | None:
        """Return when clocks tell a span of a day; None: they skip it."""
        midnight = datetime.combine(day, time())
        pairs = [
            Stretch(earlier, later)
            for earlier in self._moments(midnight + timedelta(minutes=begin))
            for later in self._moments(midnight + timedelta(minutes=end))
            if earlier < later
        ]
        return min(pairs, key=lambda each: (each.end - each.begin, each.begin), default=None)

    def _moments(self, wall: datetime) -> Sequence[int]:
        """Return when clocks say this: once or twice; or when they skip it."""
        # PEP 495: there are two offsets around the moment at which clocks are changed.
        offsets = {wall.replace(tzinfo=self._zone, fold=fold).utcoffset() for fold in (0, 1)}
        both = sorted((wall - (offset or timedelta())).replace(tzinfo=UTC) for offset in offsets)
        if len(both) == 1:
            return [_milliseconds(both[0])]
        told = [each for each in both if each.astimezone(self._zone).replace(tzinfo=None) == wall]
        return [*map(_milliseconds, told)] or [self._leap(*both)]

    def _leap(self, before: datetime, behind: datetime) -> int:
        """Return when clocks are put ahead between two moments."""
        offset = behind.astimezone(self._zone).utcoffset()
        early, late = _milliseconds(before) // 1000, _milliseconds(behind) // 1000
        while late - early > 1:
            middle = (early + late) // 2
            is_behind = moment(middle * 1000).astimezone(self._zone).utcoffset() == offset
            early, late = (early, middle) if is_behind else (middle, late)
        return late * 1000


def zone(name: str) -> ZoneInfo:
    """Return the time zone that IANA calls so.

    Raises:
        UnusableSchedule: there is none.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # the latter: it is the name of a folder
        raise UnusableSchedule("must be a time zone of IANA's such as Europe/Berlin") from None


def _rule(text: str) -> _Rule:
    words = text.replace(",", " ").split()
    spans = [word for word in words if ":" in word]
    days = words[: len(words) - len(spans)]
    if not days or not spans or any(":" in word for word in days):
        raise UnusableSchedule(
            "must be days and then times, such as Tue 10:00-10:15, Mon-Fri 9:00-9:05,15:00-15:05 "
            "or 2027-03-01 10:00-11:00, several with a semicolon between"
        )
    dates = tuple(_date(word) for word in days if _DATE.fullmatch(word))
    weekdays = frozenset(
        day for word in days if not _DATE.fullmatch(word) for day in _weekdays(word)
    )
    return _Rule(weekdays, dates, tuple(map(_span, spans)))


def _date(word: str) -> date:
    try:
        day = date.fromisoformat(word)
    except ValueError:
        raise UnusableSchedule(f"there is no such day: {word}") from None
    if day.year not in _YEARS:
        raise UnusableSchedule(f"is too far away: {word}")
    return day


def _weekdays(word: str) -> Iterator[int]:
    if word.casefold() == DAILY:
        yield from range(7)
        return
    first, dash, last = word.partition("-")
    begin = _weekday(first)
    length = (_weekday(last) - begin) % 7 if dash else 0
    for day in range(begin, begin + length + 1):
        yield day % 7


def _weekday(word: str) -> int:
    wanted = word.casefold()
    for number, name in enumerate(DAYS):
        if len(wanted) >= 3 and name.casefold().startswith(wanted):
            return number
    raise UnusableSchedule(f"{word[:20]!r} is no day: say Mon, Tue, …, daily or 2027-03-01")


def _span(word: str) -> tuple[int, int]:
    found = _SPAN.fullmatch(word)
    if found is None:
        raise UnusableSchedule(f"{word[:20]!r} is no span of time: say 10:00-10:15")
    hours, minutes, to_hours, to_minutes = map(int, found.groups())
    begin, end = 60 * hours + minutes, 60 * to_hours + to_minutes
    if minutes > 59 or to_minutes > 59 or begin >= MINUTES or end > MINUTES:
        raise UnusableSchedule(f"{word} is no span of time: days have 24 hours of 60 minutes")
    if begin == end:
        raise UnusableSchedule(f"{word} begins and ends at once")
    return begin, end if end > begin else end + MINUTES


def _minutes_of_a_week(rules: Iterable[_Rule]) -> Iterator[int]:
    for rule in rules:
        for day in rule.weekdays:
            for begin, end in rule.spans:
                for minute in range(begin, end):
                    yield (day * MINUTES + minute) % (7 * MINUTES)


def _milliseconds(when: datetime) -> int:
    return (when - _EPOCH) // timedelta(milliseconds=1)
