"""Values as v1 spells them, read and written."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.v1.errors import InvalidRequest
from bridge.v1.values import boolean_text, datetime_text, read_boolean, read_datetime

OFFSETS = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
TIMES = st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=OFFSETS)  # noqa: DTZ001


@given(TIMES)
def test_a_time_that_was_written_reads_back_to_the_second(value: datetime) -> None:
    assert read_datetime(datetime_text(value), "x") == value.astimezone(UTC).replace(microsecond=0)


@given(st.text())
def test_any_text_is_a_time_or_is_refused(text: str) -> None:
    with suppress(InvalidRequest):
        assert read_datetime(text, "since").tzinfo is UTC


@pytest.mark.parametrize(
    "text", ["2010-09-25T18:30:00 02:00", "2010-09-25T18:30:00 0200", "2010-09-25T18:30:00+02:00"]
)
def test_an_offset_whose_plus_became_a_blank_is_an_offset(text: str) -> None:
    assert datetime_text(read_datetime(text, "x")) == "2010-09-25T16:30:00Z"


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00"])
def test_a_time_outside_the_calendar_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        read_datetime(text, "x")


@pytest.mark.parametrize(
    ("texts", "value"),
    [(["true", "TRUE", "t", "T", "1", " true\n"], True), (["false", "False", "f", "0"], False)],
)
def test_booleans_as_rails_read_them(texts: list[str], value: bool) -> None:
    assert {read_boolean(text, "x") for text in texts} == {value}
    assert read_boolean(boolean_text(value), "x") is value


@pytest.mark.parametrize("text", ["", "yes", "no", "2", "tru", "nil", "٠"])
def test_what_is_no_boolean_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidRequest, match="attach-pdf must be true or false"):
        read_boolean(text, "attach-pdf")
