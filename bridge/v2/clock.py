"""What time it is by v2's clock, as the `Date` of its answers tells, whatever becomes of our own.

What is timed by it, and with which leeway, is not known here.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from bridge.v2.retry_after import read_http_date

MOST_SKEW = timedelta(days=1)
"""A clock that is further off is no clock."""

GOOD_FOR = timedelta(days=1)
"""How long the machine's count of seconds, which drifts, is as good as being told again."""

# It goes on while a laptop sleeps, where there is such a clock.
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Moment(NamedTuple):
    """A point in time."""

    at: datetime
    """UTC."""
    by_v2: bool
    """Whether v2's clock says so; else the machine's, which somebody may set at any time."""
    steady: float
    """Seconds of a count that nobody sets."""


def machine_time() -> datetime:
    """Return the time by the machine's own clock, UTC."""
    return datetime.now(UTC)


def steady_time() -> float:
    """Return the machine's count of seconds, which goes on evenly whoever sets its clock."""
    return time.clock_gettime(_STEADY)


class V2Clock:
    """v2's clock: the latest `Date`, and the seconds that have passed since."""

    def __init__(
        self,
        machine: Callable[[], datetime] = machine_time,
        steady: Callable[[], float] = steady_time,
    ) -> None:
        """Know nothing yet: until v2 has told the time, `machine` says what it is."""
        self._machine = machine
        self._steady = steady
        self._heard: tuple[str, float] | None = None
        self._known: tuple[datetime, float] | None = None

    def heard(self, date: str | None, came_at: float | None = None) -> None:
        """Take the `Date` of an answer of v2 itself (RFC 9110, section 6.6.1).

        `came_at` is when that began, by the machine's count of seconds; None: just now.
        """
        if date is not None:  # most are never asked for, so not read yet
            self._heard = date, self._steady() if came_at is None else came_at

    def now(self) -> Moment:
        """Return the time by v2's clock if that is known, else by the machine's."""
        steady = self._steady()
        by_v2 = self._at(steady)
        return Moment(self._machine() if by_v2 is None else by_v2, by_v2 is not None, steady)

    def _at(self, steady: float) -> datetime | None:
        self._read()
        if self._known is None:
            return None
        date, told_at = self._known
        since = timedelta(seconds=steady - told_at)
        return date + since if abs(since) <= GOOD_FOR else None

    def _read(self) -> None:
        if self._heard is None:
            return
        (text, told_at), self._heard = self._heard, None
        if (date := read_http_date(text)) is None:
            return
        # Where the machine's clock has leapt, what v2 has said before is still believed.
        believed = [self._machine()]
        if self._known is not None:
            believed.append(self._known[0] + timedelta(seconds=told_at - self._known[1]))
        if any(abs(date - each) <= MOST_SKEW for each in believed):
            self._known = date, told_at
