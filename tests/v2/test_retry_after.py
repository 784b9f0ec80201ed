"""What v2 may write in `Retry-After` (RFC 9110, section 10.2.3), and what clients are told."""

from datetime import UTC, datetime
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.v2.retry_after import LONGEST, read_retry_after, wait_after_429, whole_seconds

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        (" 120 ", 120.0),
        ("0", 0.0),
        ("Sat, 21 Nov 2026 12:00:30 GMT", 30.0),
        ("Sat, 21 Nov 2026 12:00:30 -0000", 30.0),
        ("Saturday, 21-Nov-26 12:01:00 GMT", 60.0),
        ("Sat Nov 21 12:00:05 2026", 5.0),
        ("Wed, 21 Oct 2020 07:28:00 GMT", 0.0),
        ("3600", 3600.0),
        ("3601", LONGEST),
        ("999999999", LONGEST),
        ("9" * 400, LONGEST),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST),
    ],
)
def test_seconds_and_dates_are_both_seconds(text: str, seconds: float) -> None:
    assert read_retry_after(text, NOW) == seconds


@pytest.mark.parametrize("text", [None, "", "-1", "1.5", "soon", "7, 8", "٧"])
def test_what_is_neither_says_nothing(text: str | None) -> None:
    assert read_retry_after(text, NOW) is None


@given(st.text())
def test_no_text_breaks_it(text: str) -> None:
    seconds = read_retry_after(text, NOW)

    assert seconds is None or 0 <= seconds <= LONGEST


@pytest.mark.parametrize(
    ("asked", "seconds"), [(None, 15.0), (0.0, 1.0), (0.2, 1.0), (1.5, 1.5), (LONGEST, LONGEST)]
)
def test_after_a_429_zero_is_an_answer_and_no_answer_is_the_window(
    asked: float | None, seconds: float
) -> None:
    assert wait_after_429(asked) == seconds


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(-1.0, 1), (0.0, 1), (0.2, 1), (1.0, 1), (1.01, 2), (15.0, 15), (3600.1, 3600), (inf, 3600)],
)
def test_clients_are_told_whole_seconds_from_one_to_an_hour(seconds: float, told: int) -> None:
    assert whole_seconds(seconds) == told
