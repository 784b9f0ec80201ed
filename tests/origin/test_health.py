"""When v1 is gone, and when it is not, whatever strangers ask for."""

import pytest

from bridge.origin.health import IN_A_ROW, LOOKS_AGAIN_AFTER, MOST, Origin, Origins
from bridge.origin.place import Place
from tests.support.clocks import HandClock

STANDING = ("/clients", "/projects", "/people")


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def origins(clock: HandClock) -> Origins:
    return Origins(clock, lambda _place, _state: None)


@pytest.fixture
def origin(origins: Origins) -> Origin:
    return origins.of(Place("https", "acme.harvestapp.com", 443))


def all_missing(origin: Origin, count: int = IN_A_ROW) -> list[bool]:
    return [origin.answered(404, STANDING[number % len(STANDING)]) for number in range(count)]


def test_nothing_where_v1_has_always_had_something_means_that_it_is_gone(
    origin: Origin, origins: Origins
) -> None:
    assert all_missing(origin) == [False] * (IN_A_ROW - 1) + [True]
    assert not origin.is_worth_asking
    assert origins.warning() == "v1 is gone: acme.harvestapp.com"


def test_one_other_answer_means_that_it_is_there(origin: Origin) -> None:
    all_missing(origin, IN_A_ROW - 1)
    origin.answered(401, "/clients")
    all_missing(origin, IN_A_ROW - 1)

    assert not origin.is_gone


@pytest.mark.parametrize("standing", [None, "/clients"])
def test_one_path_alone_says_nothing(origin: Origin, standing: str | None) -> None:
    for _ in range(3 * IN_A_ROW):
        origin.answered(404, standing)

    assert not origin.is_gone


def test_now_and_then_one_call_looks_whether_it_is_back(origin: Origin, clock: HandClock) -> None:
    all_missing(origin)
    clock.advance(LOOKS_AGAIN_AFTER)
    assert origin.is_worth_asking

    origin.looks()
    assert not origin.is_worth_asking

    assert origin.answered(200, None)
    assert origin.is_worth_asking


def test_made_up_subdomains_fill_no_memory(origins: Origins) -> None:
    for number in range(2 * MOST):
        origins.of(Place("https", f"a{number}.harvestapp.com", 443)).has_no_address()

    assert len(origins.gone()) == MOST
    assert (origins.warning() or "").endswith(f"and {MOST - 3} more")
