"""Who has been told to wait, by a clock that is moved by hand."""

import pytest

from bridge.upstream import throttle as throttle_module
from bridge.upstream.throttle import Throttle
from tests.support.clocks import HandClock


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def throttle(clock: HandClock) -> Throttle:
    return Throttle(clock)


def test_who_was_not_told_need_not_wait(throttle: Throttle) -> None:
    assert throttle.left("one") == 0


def test_who_was_told_waits_for_what_is_left(throttle: Throttle, clock: HandClock) -> None:
    throttle.told("one", 7)
    clock.advance(3)

    assert throttle.left("one") == 4
    assert throttle.left("another") == 0


@pytest.mark.parametrize("passed", [7, 8, 1000])
def test_nobody_waits_any_longer_than_told(
    throttle: Throttle, clock: HandClock, passed: float
) -> None:
    throttle.told("one", 7)
    clock.advance(passed)

    assert throttle.left("one") == 0


@pytest.mark.parametrize("waits", [(7, 2), (2, 7)], ids=str)
def test_of_two_waits_the_longer_one_counts(throttle: Throttle, waits: tuple[float, float]) -> None:
    for wait in waits:
        throttle.told("one", wait)

    assert throttle.left("one") == 7


def test_what_is_over_is_forgotten(throttle: Throttle, clock: HandClock) -> None:
    """Tokens are the callers' to make up: they must not fill the memory."""
    for made_up in range(100):
        throttle.told(made_up, 1)
        clock.advance(1)

    assert len(throttle._until) == 1


class Key:
    """A key that counts how often any such is looked up or moved."""

    looks = 0

    def __hash__(self) -> int:
        Key.looks += 1
        return id(self)


def test_to_be_told_costs_the_same_however_many_were(throttle: Throttle) -> None:
    """A map that is gone through for each 429 holds up the loop."""
    costs = []
    for _ in range(3000):
        Key.looks = 0
        throttle.told(Key(), 3600)
        costs.append(Key.looks)

    assert max(costs[10:]) <= max(costs[:10]) <= 10


def test_those_that_wait_for_long_do_not_keep_what_is_over(
    throttle: Throttle, clock: HandClock
) -> None:
    for waits in range(100):
        throttle.told(waits, 3600)
    for made_up in range(1000):
        throttle.told(f"made-up {made_up}", 1)
        clock.advance(1)

    assert len(throttle._until) < 250
    assert all(throttle.left(waits) for waits in range(100))


def test_no_more_are_remembered_than_there_is_room_for(
    throttle: Throttle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle_module, "MOST_KEYS", 10)
    for made_up in range(100):
        throttle.told(made_up, 3600)

    assert len(throttle._until) == 10
    assert throttle.left(99) == 3600
