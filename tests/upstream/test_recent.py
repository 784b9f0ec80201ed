"""How many calls were made of late, by a clock that is moved by hand."""

import pytest

from bridge.upstream.recent import MOST_KEYS, RecentCalls
from tests.support.clocks import HandClock

WINDOW = 15


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def recent(clock: HandClock) -> RecentCalls:
    return RecentCalls(clock, WINDOW)


def test_nobody_has_made_a_call_yet(recent: RecentCalls) -> None:
    assert recent.of("one") == 0


def test_calls_are_counted_by_key(recent: RecentCalls, clock: HandClock) -> None:
    for _ in range(3):
        recent.add("one")
        clock.advance(2)
    recent.add("another")

    assert (recent.of("one"), recent.of("another"), recent.of("a third")) == (3, 1, 0)


@pytest.mark.parametrize(
    ("passed", "counted"), [(0, 1), (14.9, 1), (15, 1), (16, 0), (17, 0), (10_000, 0)]
)
def test_a_call_counts_for_the_window_and_no_longer(
    recent: RecentCalls, clock: HandClock, passed: float, counted: int
) -> None:
    recent.add("one")
    clock.advance(passed)

    assert recent.of("one") == counted


def test_what_is_forgotten_does_not_come_back(recent: RecentCalls, clock: HandClock) -> None:
    for _ in range(100):
        recent.add("one")
        clock.advance(1)

    assert recent.of("one") == WINDOW


def test_made_up_keys_do_not_fill_the_memory(recent: RecentCalls, clock: HandClock) -> None:
    recent.add("one")
    for second in range(100):
        for number in range(2 * MOST_KEYS):
            recent.add((second, number))
        recent.add("one")
        clock.advance(1)

    kept = [len(counts) for _, counts in recent._seconds]
    assert len(kept) <= WINDOW + 1
    assert max(kept) == MOST_KEYS


def test_who_is_counted_already_is_counted_among_any_number_of_others(recent: RecentCalls) -> None:
    recent.add("one")
    for number in range(2 * MOST_KEYS):
        recent.add(number)
    recent.add("one")

    assert recent.of("one") == 2
