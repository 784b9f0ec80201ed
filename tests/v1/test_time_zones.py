"""Time zones by the names that Rails has for them (schemas/README.md, "Who am I")."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.v1.time_zones import IDENTIFIERS, identifier, utc_offset

SUMMER, WINTER = datetime(2013, 9, 1, tzinfo=UTC), datetime(2013, 12, 1, tzinfo=UTC)


@pytest.mark.parametrize(("name", "expected"), IDENTIFIERS.items())
def test_every_zone_of_the_table_is_one_of_ianas(name: str, expected: str) -> None:
    assert identifier(name) == expected
    assert utc_offset(name, SUMMER) is not None


@pytest.mark.parametrize(
    ("name", "at", "seconds"),
    [
        ("Pacific Time (US & Canada)", SUMMER, -25200),  # as v1's documentation prints it
        ("Pacific Time (US & Canada)", WINTER, -28800),
        ("Eastern Time (US & Canada)", SUMMER, -14400),
        ("Berlin", SUMMER, 7200),
        ("Berlin", WINTER, 3600),
        ("UTC", SUMMER, 0),
        ("Kathmandu", SUMMER, 20700),
        ("Newfoundland", SUMMER, -9000),
        ("International Date Line West", SUMMER, -43200),
    ],
)
def test_the_offset_is_that_of_the_day(name: str, at: datetime, seconds: int) -> None:
    assert utc_offset(name, at) == seconds


def test_a_name_of_ianas_is_its_own_identifier() -> None:
    assert identifier("America/Vancouver") == "America/Vancouver"


@pytest.mark.parametrize(
    "name", [None, "", "Nowhere", "America", ".", "../etc/passwd", "/etc/passwd", "a\0b", "\ud800"]
)
def test_what_is_no_zone_has_neither(name: str | None) -> None:
    assert identifier(name) is None
    assert utc_offset(name, SUMMER) is None


@given(st.text(st.characters(codec=None, categories=None)))
def test_no_name_is_an_error(name: str) -> None:
    assert (identifier(name) is None) == (utc_offset(name, SUMMER) is None)
