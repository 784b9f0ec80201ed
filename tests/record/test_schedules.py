"""When a schedule is on, by what clocks say: also on the days on which they are put ahead or back."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.record.log.schedules import DAYS, MINUTES, Schedule, UnusableSchedule
from bridge.record.log.times import DAY, spelled

MINUTE = 60_000

ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Sao_Paulo",  # where midnight was skipped
    "Australia/Lord_Howe",  # where clocks move by half an hour
    "Asia/Kathmandu",
    "Pacific/Apia",  # where a day was skipped
    "Africa/Casablanca",
)


def milliseconds(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def told(schedule: Schedule, now: str) -> tuple[str, str] | None:
    """When it is on next, as it is spelled."""
    found = schedule.stretch(milliseconds(now))
    return found and (spelled(found.begin), spelled(found.end))


# What it says.


@pytest.mark.parametrize(
    ("text", "begin", "end"),
    [
        ("Tue 10:00-10:15", "2027-03-02T10:00:00Z", "2027-03-02T10:15:00Z"),
        ("tuesday 10:00-10:15", "2027-03-02T10:00:00Z", "2027-03-02T10:15:00Z"),
        ("Mon-Fri 10:00-10:05, 15:00-15:10", "2027-03-01T15:00:00Z", "2027-03-01T15:10:00Z"),
        ("Mon,Thu 9:00-9:05", "2027-03-04T09:00:00Z", "2027-03-04T09:05:00Z"),
        ("Sat-Sun 00:00-01:00", "2027-03-06T00:00:00Z", "2027-03-06T01:00:00Z"),
        ("Sun-Mon 11:30-12:30", "2027-03-01T11:30:00Z", "2027-03-01T12:30:00Z"),
        ("Mon 23:50-00:10", "2027-03-01T23:50:00Z", "2027-03-02T00:10:00Z"),
        ("Mon 23:50-24:00; Tue 00:00-00:10", "2027-03-01T23:50:00Z", "2027-03-02T00:10:00Z"),
        ("2027-03-09 10:00-11:00", "2027-03-09T10:00:00Z", "2027-03-09T11:00:00Z"),
        ("2031-01-01 10:00-11:00", "2031-01-01T10:00:00Z", "2031-01-01T11:00:00Z"),
        ("Fri 10:00-10:15; 2027-03-03 8:00-9:00", "2027-03-03T08:00:00Z", "2027-03-03T09:00:00Z"),
        ("daily 12:00-12:01", "2027-03-01T12:00:00Z", "2027-03-01T12:01:00Z"),
    ],
)
def test_it_is_on_when_it_says_so(text: str, begin: str, end: str) -> None:
    assert told(Schedule(text), "2027-03-01T12:00") == (begin, end)


def test_times_are_those_of_its_zone() -> None:
    schedule = Schedule("Tue 10:00-10:15", "Europe/Berlin")

    assert told(schedule, "2027-03-01T12:00") == ("2027-03-02T09:00:00Z", "2027-03-02T09:15:00Z")
    assert told(schedule, "2027-06-28T12:00") == ("2027-06-29T08:00:00Z", "2027-06-29T08:15:00Z")


def test_what_is_past_is_over() -> None:
    assert told(Schedule("2027-02-01 10:00-11:00"), "2027-02-01T11:00") is None


@pytest.mark.parametrize(
    ("text", "begin", "end"),
    [
        # Clocks go from 02:00 to 03:00 on 28 March, which is at 01:00 UTC …
        ("2027-03-28 01:50-03:10", "2027-03-28T00:50:00Z", "2027-03-28T01:10:00Z"),
        ("2027-03-28 01:50-02:10", "2027-03-28T00:50:00Z", "2027-03-28T01:00:00Z"),
        ("2027-03-28 02:50-03:10", "2027-03-28T01:00:00Z", "2027-03-28T01:10:00Z"),
        ("2027-03-28 02:10-02:50", None, None),
        # … and from 03:00 back to 02:00 on 31 October, likewise.
        ("2027-10-31 01:50-02:10", "2027-10-30T23:50:00Z", "2027-10-31T00:10:00Z"),
        ("2027-10-31 02:10-02:50", "2027-10-31T00:10:00Z", "2027-10-31T00:50:00Z"),
        ("2027-10-31 02:50-03:10", "2027-10-31T01:50:00Z", "2027-10-31T02:10:00Z"),
        ("2027-10-31 01:50-03:10", "2027-10-30T23:50:00Z", "2027-10-31T02:10:00Z"),
    ],
)
def test_on_the_days_on_which_clocks_are_changed(
    text: str, begin: str | None, end: str | None
) -> None:
    found = told(Schedule(text, "Europe/Berlin"), "2027-03-20T00:00")

    assert found == (None if begin is None else (begin, end))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must be days and then times"),
        ("10:00-10:15", "must be days and then times"),
        ("Tue", "must be days and then times"),
        ("10:00-10:15 Tue", "must be days and then times"),
        ("Tue 10:00-10:15 Wed 10:00-10:15", "must be days and then times"),
        ("Tue 10:00-10:15;", "must be days and then times"),
        ("Tue 10:00", "'10:00' is no span of time"),
        ("Tue 10:00-10:60", "10:00-10:60 is no span of time"),
        ("Tue 24:00-24:10", "24:00-24:10 is no span of time"),
        ("Tue 10:00-25:00", "10:00-25:00 is no span of time"),
        ("Tue 10:00-10:00", "10:00-10:00 begins and ends at once"),
        ("Tu 10:00-10:15", "'Tu' is no day"),
        ("Di 10:00-10:15", "'Di' is no day"),
        ("2027-02-30 10:00-10:15", "there is no such day: 2027-02-30"),
        ("9999-12-31 10:00-10:15", "is too far away: 9999-12-31"),
        ("daily 00:00-24:00", "is never off"),
        ("Mon-Sun 00:00-12:00; daily 12:00-00:00", "is never off"),
    ],
)
def test_what_makes_no_sense_is_one_line(text: str, said: str) -> None:
    with pytest.raises(UnusableSchedule) as raised:
        Schedule(text)

    assert str(raised.value).startswith(said)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["", "Mars", "Europe", "../etc/passwd", "/etc/passwd", "CET\0"])
def test_a_zone_that_there_is_not_is_one_line(name: str) -> None:
    with pytest.raises(UnusableSchedule, match="must be a time zone of IANA's"):
        Schedule("Tue 10:00-10:15", name)


@given(st.text(alphabet="Tue Mon-Fri 0123456789:-,; \n", max_size=60) | st.text())
def test_whatever_is_read_is_a_schedule_or_one_line(text: str) -> None:
    try:
        Schedule(text)
    except UnusableSchedule as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017 - not every one is wrong


# The laws.

Span = tuple[int, int, int]
"""A weekday, the minute of the day at which it begins, and how many minutes clocks go on."""


def clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def spelled_out(spans: Sequence[Span]) -> str:
    return "; ".join(
        f"{DAYS[day]} {clock(begin)}-{clock((begin + length) % MINUTES)}"
        for day, begin, length in spans
    )


def says_on(spans: Sequence[Span], moment: int, zone: str) -> bool:
    """Tell whether a clock on the wall is within one of the spans."""
    wall = datetime.fromtimestamp(moment / 1000, UTC).astimezone(ZoneInfo(zone))
    minute = wall.weekday() * MINUTES + wall.hour * 60 + wall.minute
    return any((minute - (day * MINUTES + begin)) % (7 * MINUTES) < n for day, begin, n in spans)


def is_changed(moment: int, zone: str) -> bool:
    """Tell whether clocks are changed within a day of then."""
    at = datetime.fromtimestamp(moment / 1000, UTC)
    offsets = {
        (at + timedelta(hours=hours)).astimezone(ZoneInfo(zone)).utcoffset()
        for hours in range(-27, 28)
    }
    return len(offsets) > 1


few = settings(max_examples=50)

SPANS = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, MINUTES - 1), st.integers(1, MINUTES - 1)),
    min_size=1,
    max_size=4,
)
MOMENTS = st.integers(milliseconds("2010-01-01"), milliseconds("2030-01-01")) | st.builds(
    lambda hour, minutes: milliseconds(hour) + minutes * MINUTE,
    st.sampled_from(["2027-03-28T00", "2027-10-31T00", "2011-12-30T00", "2017-10-15T00",
                     "2027-03-14T06", "2027-11-07T05", "2027-04-03T14", "2027-10-02T14"]),
    st.integers(-1500, 1500),
)  # fmt: skip


@few
@given(SPANS, st.sampled_from(ZONES), MOMENTS)
def test_it_is_on_only_when_a_clock_says_so(spans: list[Span], zone: str, now: int) -> None:
    found = Schedule(spelled_out(spans), zone).stretch(now)

    assert found is not None
    assert found.end > max(now, found.begin)
    on = {found.begin, found.end - 1, (found.begin + found.end) // 2}
    assert all(says_on(spans, each, zone) for each in on)


@few
@given(SPANS, st.sampled_from(ZONES), MOMENTS)
def test_it_is_on_whenever_a_clock_says_so_but_in_an_hour_that_comes_twice(
    spans: list[Span], zone: str, now: int
) -> None:
    found = Schedule(spelled_out(spans), zone).stretch(now)

    assert found is not None
    if says_on(spans, now, zone) and not is_changed(now, zone):
        assert found.begin <= now < found.end


@few
@given(SPANS, st.sampled_from(ZONES), MOMENTS)
def test_what_is_on_ends_when_it_was_said_to(spans: list[Span], zone: str, now: int) -> None:
    schedule = Schedule(spelled_out(spans), zone)
    found = schedule.stretch(now)

    assert found is not None
    for at in (found.begin, (found.begin + found.end) // 2, found.end - 1):
        assert Schedule(schedule.text, zone).stretch(at) == found
    behind = schedule.stretch(found.end)
    assert behind is not None
    assert behind.begin > found.end


@few
@given(SPANS, st.sampled_from(ZONES), MOMENTS, MOMENTS)
def test_what_was_asked_before_does_not_matter(
    spans: list[Span], zone: str, earlier: int, now: int
) -> None:
    schedule = Schedule(spelled_out(spans), zone)
    schedule.stretch(earlier)

    assert schedule.stretch(now) == Schedule(schedule.text, zone).stretch(now)


@few
@given(
    st.dates(date(2020, 1, 1), date(2030, 1, 1)),
    st.integers(0, MINUTES - 1),
    st.integers(1, MINUTES - 1),
    st.sampled_from(ZONES),
)
def test_a_date_is_on_once_and_as_long_as_clocks_go(
    day: date, begin: int, length: int, zone: str
) -> None:
    schedule = Schedule(f"{day} {clock(begin)}-{clock((begin + length) % MINUTES)}", zone)
    found = schedule.stretch(milliseconds(f"{day - timedelta(3)}"))

    if found is None:  # clocks skip it
        assert is_changed(milliseconds(f"{day}T12:00"), zone)
        return
    assert schedule.stretch(found.end) is None
    if not is_changed(found.begin, zone):
        assert found.end - found.begin == length * MINUTE


# The latest week.


@few
@given(SPANS, st.sampled_from(ZONES), MOMENTS)
def test_the_latest_week_is_what_was_on_in_it(spans: list[Span], zone: str, now: int) -> None:
    schedule = Schedule(spelled_out(spans), zone)
    expected, at = [], now - 7 * DAY
    while (found := schedule.stretch(at)) is not None and found.begin < now:
        expected.append((max(found.begin, now - 7 * DAY), min(found.end, now)))
        at = found.end

    assert schedule.latest_week(now) == expected


def test_a_date_is_moved_back_into_the_latest_week() -> None:
    schedule = Schedule("2027-03-30 10:00-11:00", "Europe/Berlin")

    (found,) = schedule.latest_week(milliseconds("2027-03-10T12:00"))

    assert spelled(found.begin) == "2027-03-09T09:00:00Z"
