"""The geometry of charts: scales that people can read, and bars that lie within them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.record.log.times import DAY, HOUR
from bridge.server.admin.dashboard.charts import period, short, spark, stacked, ticks

MIDNIGHT = 20_000 * DAY


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        (0, [0, 1]),
        (1, [0, 1]),
        (3, [0, 1, 2, 3]),
        (9, [0, 5, 10]),
        (100, [0, 50, 100]),
        (667, [0, 200, 400, 600, 800]),
        (8_640_000, [0, 5_000_000, 10_000_000]),
    ],
)
def test_ticks_are_round_numbers(most: int, expected: list[int]) -> None:
    assert ticks(most) == expected


@given(st.integers(0, 10**15))
def test_the_last_tick_is_the_only_one_that_is_not_below_the_largest_value(most: int) -> None:
    found = ticks(most)

    assert found[-1] >= most
    assert found[-2] < max(most, 1)
    assert 2 <= len(found) <= 6


@given(st.lists(st.lists(st.integers(0, 10**9), min_size=7, max_size=7), max_size=5))
def test_every_bar_is_as_high_as_what_it_counts(series: list[list[int]]) -> None:
    chart = stacked(MIDNIGHT, DAY, [(f"series {at}", each) for at, each in enumerate(series)])

    scale = ticks(max(map(sum, zip(*series, strict=True)), default=0))[-1]
    for bar, column in zip(chart.bars, zip(*series, strict=True), strict=True):
        assert bar.counts == column
        assert sum(part.height for part in bar.parts) == pytest.approx(
            sum(column) * chart.height / scale, abs=0.05
        )
        assert all(-0.01 <= part.y <= chart.height for part in bar.parts)
        assert 0 <= bar.x < bar.x + bar.width <= 100.01


def test_a_tooltip_names_the_period_and_what_happened_in_it() -> None:
    chart = stacked(MIDNIGHT, DAY, [("served", [1200, 0]), ("failed", [0, 0])])

    assert [bar.title for bar in chart.bars] == [
        "Fri 4 Oct 2024\nserved: 1,200",
        "Sat 5 Oct 2024\nno calls",
    ]


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (HOUR, "4 Oct, 00:00 to 01:00 UTC"),
        (6 * HOUR, "4 Oct, 00:00 to 06:00 UTC"),
        (DAY, "Fri 4 Oct 2024"),
        (7 * DAY, "7 days from Fri 4 Oct 2024"),
    ],
)
def test_a_period_is_named(step: int, expected: str) -> None:
    assert period(MIDNIGHT, step) == expected


@pytest.mark.parametrize(
    ("step", "count", "expected"),
    [
        (HOUR, 24, ["00:00", "03:00", "06:00", "09:00", "12:00", "15:00", "18:00", "21:00"]),
        (6 * HOUR, 28, ["4 Oct", "5 Oct", "6 Oct", "7 Oct", "8 Oct", "9 Oct", "10 Oct"]),
        (DAY, 6, ["4 Oct", "5 Oct", "6 Oct", "7 Oct", "8 Oct", "9 Oct"]),
    ],
)
def test_labels_are_few_and_say_the_day_where_there_are_several(
    step: int, count: int, expected: list[str]
) -> None:
    chart = stacked(MIDNIGHT, step, [("served", [1] * count)])

    assert [label.text for label in chart.labels] == expected


@pytest.mark.parametrize(
    ("value", "expected"), [(0, "0"), (800, "800"), (2000, "2k"), (1_500_000, "1.5M")]
)
def test_ticks_take_little_room(value: int, expected: str) -> None:
    assert short(value) == expected


def test_a_small_chart_leaves_out_what_is_nothing_and_shows_what_is_little() -> None:
    assert (
        spark([0, 24, 1, 240]) == "M1.1 24v-2.4h.8v2.4z M2.1 24v-1.0h.8v1.0z M3.1 24v-24.0h.8v24.0z"
    )
    assert spark([0, 0]) == ""
