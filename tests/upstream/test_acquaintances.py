"""Whom v2 has accepted, by a clock that is moved by hand."""

from typing import Any

from bridge.upstream.acquaintances import RENEWAL, Acquaintances, Key
from tests.support.clocks import HandClock

ONE, OTHER = (1000, b"one"), (1000, b"other")


class Keeper:
    """Keeps what it is told, and how often."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.kept: list[Key] = []
        self.dropped: list[Key] = []

    def knowing(self, *kept: Key, **options: Any) -> Acquaintances:
        told: dict[str, Any] = {"keep": self.kept.append, "drop": self.dropped.append}
        return Acquaintances(self.clock, kept, **told, **options)


def test_who_was_accepted_is_known_and_nobody_else() -> None:
    known = Keeper().knowing()
    known.accepted(ONE)

    assert ONE in known
    assert OTHER not in known


def test_who_was_kept_is_known_from_the_start() -> None:
    known = Keeper().knowing(ONE)

    assert ONE in known
    assert OTHER not in known


def test_who_is_accepted_is_kept_once_a_day_however_many_calls_are_made() -> None:
    keeper = Keeper()
    known = keeper.knowing()
    for _ in range(10):
        known.accepted(ONE)
    assert keeper.kept == [ONE]
    keeper.clock.advance(RENEWAL)
    known.accepted(ONE)
    known.accepted(ONE)

    assert keeper.kept == [ONE, ONE]


def test_who_was_kept_by_an_earlier_process_is_kept_anew() -> None:
    keeper = Keeper()
    keeper.knowing(ONE).accepted(ONE)

    assert keeper.kept == [ONE]


def test_who_is_refused_is_a_stranger_again_and_no_longer_kept() -> None:
    keeper = Keeper()
    known = keeper.knowing(ONE)
    known.refused(ONE)

    assert ONE not in known
    assert keeper.dropped == [ONE]


def test_of_too_many_the_one_that_has_not_been_accepted_for_longest_is_forgotten() -> None:
    """A v2 that answers well to all would make a friend of every invention."""
    keeper = Keeper()
    known = keeper.knowing(OTHER, ONE, most=3)
    known.accepted(OTHER)
    for number in range(5):
        known.accepted((1000, b"%d" % number))
        known.accepted(OTHER)

    assert [key for key in (ONE, OTHER, *keeper.kept[1:]) if key in known] == [
        OTHER,
        (1000, b"3"),
        (1000, b"4"),
    ]
    assert keeper.dropped == [ONE, *((1000, b"%d" % number) for number in range(3))]


def test_of_a_stranger_who_is_refused_nobody_is_told() -> None:
    """Anybody can be one, as often as they like: no disk is to turn for them."""
    keeper = Keeper()
    known = keeper.knowing()
    for _ in range(10):
        known.refused(ONE)

    assert (keeper.kept, keeper.dropped) == ([], [])
