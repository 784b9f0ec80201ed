"""What time it is by v2's clock, whatever is done to the machine's."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from bridge.v2.clock import GOOD_FOR, MOST_SKEW, V2Clock

NOON = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)


class Machine:
    """A machine's clock, which can be set, and its count of seconds, which cannot."""

    def __init__(self) -> None:
        self.wall = NOON
        self.steady = 1000.0

    def passes(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.steady += seconds


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def clock(machine: Machine) -> V2Clock:
    return V2Clock(machine=lambda: machine.wall, steady=lambda: machine.steady)


def date(moment: datetime) -> str:
    return format_datetime(moment, usegmt=True)


def test_before_v2_has_told_the_time_it_is_the_machines(clock: V2Clock) -> None:
    assert clock.now()[:2] == (NOON, False)


def test_then_it_is_v2s_and_goes_on(clock: V2Clock, machine: Machine) -> None:
    clock.heard(date(NOON + 300 * SECOND))
    machine.passes(10)

    assert clock.now()[:2] == (NOON + 310 * SECOND, True)


@pytest.mark.parametrize("leap", [timedelta(minutes=-5), timedelta(days=4000)])
def test_setting_the_machines_clock_changes_nothing(
    clock: V2Clock, machine: Machine, leap: timedelta
) -> None:
    clock.heard(date(NOON))
    clock.now()
    machine.wall += leap
    machine.passes(10)

    assert clock.now()[:2] == (NOON + 10 * SECOND, True)
    clock.heard(date(NOON + 12 * SECOND))
    assert clock.now()[:2] == (NOON + 12 * SECOND, True)


def test_what_was_said_counts_from_when_it_came(clock: V2Clock, machine: Machine) -> None:
    came_at = machine.steady
    machine.passes(10)
    clock.heard(date(NOON), came_at)

    assert clock.now()[:2] == (NOON + 10 * SECOND, True)


@pytest.mark.parametrize(
    "text",
    [None, "", "yesterday", date(NOON - MOST_SKEW - SECOND), date(NOON + MOST_SKEW + SECOND)],
)
def test_what_is_no_time_is_not_believed(clock: V2Clock, text: str | None) -> None:
    clock.heard(text)

    assert not clock.now().by_v2


def test_what_was_told_too_long_ago_is_not_known(clock: V2Clock, machine: Machine) -> None:
    clock.heard(date(NOON))
    machine.passes(GOOD_FOR.total_seconds())
    assert clock.now().by_v2
    machine.passes(1)

    assert clock.now()[:2] == (machine.wall, False)
