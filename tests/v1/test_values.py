"""Values as v1 spells them, read and written."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from unittest.mock import patch

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


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2010-09-25", "2010-09-25T00:00:00Z"),
        ("20100925", "2010-09-25T00:00:00Z"),
        ("2010-W38-6", "2010-09-25T00:00:00Z"),
        ("2010W386", "2010-09-25T00:00:00Z"),
        ("2010-W38", "2010-09-20T00:00:00Z"),
        ("2009-W01-1", "2008-12-29T00:00:00Z"),
        ("2010-268", "2010-09-25T00:00:00Z"),
        ("2010268", "2010-09-25T00:00:00Z"),
        ("2008-366", "2008-12-31T00:00:00Z"),
        ("2010-09-25T18", "2010-09-25T18:00:00Z"),
        ("2010-09-25 8:05", "2010-09-25T08:05:00Z"),
        ("20100925T183015", "2010-09-25T18:30:15Z"),
        ("2010-W38-6T18:30", "2010-09-25T18:30:00Z"),
        ("2010-268T1830Z", "2010-09-25T18:30:00Z"),
        ("2010-09-25T18.5", "2010-09-25T18:30:00Z"),
        ("2010-09-25T18,25", "2010-09-25T18:15:00Z"),
        ("2010-09-25T18:30.5", "2010-09-25T18:30:30Z"),
        ("20100925T1830,25+02:00", "2010-09-25T16:30:15Z"),
        ("2010-09-25T18:30:15.999999999Z", "2010-09-25T18:30:15Z"),
        ("2010-09-25T24:00", "2010-09-26T00:00:00Z"),
        ("2010-12-31T24", "2011-01-01T00:00:00Z"),
        ("2010-12-31T23:59:60Z", "2011-01-01T00:00:00Z"),
        ("2010-09-25 18:30:00 UTC", "2010-09-25T18:30:00Z"),
        ("2010-09-25 18:30:00 +0200", "2010-09-25T16:30:00Z"),
        ("2010-09-25 18:30:00  0200", "2010-09-25T16:30:00Z"),
        ("2010-09-25 18:30:00 -0530", "2010-09-26T00:00:00Z"),
        ("2010-09-25T18:30:00-05", "2010-09-25T23:30:00Z"),
        ("2010-09-25+18:30", "2010-09-25T18:30:00Z"),
        ("2010-09-25t18:30z", "2010-09-25T18:30:00Z"),
        (" 2010-09-25 18:30 GMT\n", "2010-09-25T18:30:00Z"),
    ],
)
def test_a_point_in_time_is_read_in_every_form_that_is_promised(text: str, moment: str) -> None:
    assert datetime_text(read_datetime(text, "x")) == moment


@pytest.mark.parametrize(
    "text",
    [
        "yesterday", "2010", "2010-09", "2010-9-25", "2010-13-01", "2010-02-30", "0000-01-01",
        "2010-W54-1", "2010-W38-8", "2010-366", "2010-000", "2010-09-25T", "2010-09-25T8",
        "2010-09-25T25:00", "2010-09-25T24:00:01", "2010-09-25T24.5", "2010-09-25T18:60",
        "2010-09-25T18:30:61", "2010-09-25T18.5:30", "2010-09-25T18:30:", "2010-09-25T18:30+24:00",
        "2010-09-25T18:30 CEST", "2010-09-25 18 30", "9999-12-31T24:00", "٢٠١٠-09-25",
        f"2010-09-25T18:30:00.{'0' * 60}",
    ],
)  # fmt: skip
def test_what_is_no_point_in_time_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidRequest, match="since is no UTC date and time such as"):
        read_datetime(text, "since")


@pytest.mark.parametrize("text", ["T" * 10**6, "2010-09-25" + " " * 10**6 + "x", "1" * 10**6])
def test_what_is_longer_than_any_form_meets_no_expression(text: str) -> None:
    with (
        patch("bridge.v1.values._DATETIME", None),
        pytest.raises(InvalidRequest, match="since is no"),
    ):
        read_datetime(text, "since")


@given(TIMES, st.sampled_from(["auto", "hours", "minutes", "seconds", "milliseconds"]))
def test_whatever_the_standard_library_writes_is_read(value: datetime, precision: str) -> None:
    text = value.isoformat(timespec=precision)

    assert read_datetime(text, "x") == datetime.fromisoformat(text)


@given(st.text() | st.from_regex(r"[0-9]{4}-?W?[0-9]{2,4}[T +][0-9:., TZ+-]{0,30}", fullmatch=True))
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
