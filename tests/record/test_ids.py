"""Ids of calls: rising, and apart for processes that write to one database."""

from hypothesis import given
from hypothesis import strategies as st

from bridge.record.log.ids import TIME_SHIFT, Ids

NANOSECONDS = st.integers(10**18, 2 * 10**18)


@given(st.lists(NANOSECONDS, min_size=1))
def test_each_is_higher_than_all_before_it_whatever_the_clock_said(times: list[int]) -> None:
    ids = Ids()
    made = [ids.next(each) for each in times]

    assert made == sorted(set(made))
    assert made[0] >> TIME_SHIFT == times[0] // 10**6
    assert made[-1] < 2**63


def test_a_millisecond_that_is_full_goes_over_into_the_next() -> None:
    ids = Ids(process=0)
    made = [ids.next(10**18) for _ in range(1000)]

    assert len(set(made)) == 1000
    assert made[-1] >> TIME_SHIFT == 10**12 + 3


@given(st.integers(0, 2**14 - 1), st.integers(0, 2**14 - 1))
def test_two_processes_make_none_alike(one: int, other: int) -> None:
    made = [{ids.next(10**18) for _ in range(300)} for ids in (Ids(one), Ids(other))]

    assert made[0] == made[1] if one == other else made[0].isdisjoint(made[1])
