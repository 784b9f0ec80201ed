"""The circuit breaker, by a clock that is moved by hand."""

import math
from typing import Self

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bridge.upstream.breaker import Breaker, BreakerPolicy, State
from bridge.v2.errors import UpstreamUnavailable
from tests.support.clocks import HandClock

POLICY = BreakerPolicy(window=30.0, failures=5, share=0.5, pause=5.0, longest_pause=60.0)


class Attempt:
    """A call that was let through; a block that does not say how it ended, showed nothing."""

    def __init__(self, breaker: Breaker, *, probes: bool) -> None:
        self._breaker = breaker
        self._failed: bool | None = None
        self.probes = probes

    def ended(self, *, failed: bool) -> None:
        self._failed = failed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        self._breaker.ended(self._failed, probe=self.probes)


def admit(breaker: Breaker, *, urgent: bool = False) -> Attempt:
    return Attempt(breaker, probes=breaker.admit(urgent=urgent))


class Watched:
    """A breaker, its clock, and what it told of its states."""

    def __init__(self, policy: BreakerPolicy = POLICY) -> None:
        self.clock = HandClock()
        self.told: list[State] = []
        self.breaker = Breaker(self.clock, policy=policy, changed=self.told.append)

    def call(self, *, failed: bool | None, urgent: bool = False) -> None:
        """Make a call that ends so; None: it showed nothing."""
        with admit(self.breaker, urgent=urgent) as attempt:
            if failed is not None:
                attempt.ended(failed=failed)

    def fail(self, times: int) -> None:
        for _ in range(times):
            self.call(failed=True)

    def refusal(self) -> int:
        """The seconds that a call is told to wait, which is known to be refused."""
        with pytest.raises(UpstreamUnavailable) as refused:
            admit(self.breaker)
        assert not refused.value.request_left
        return refused.value.retry_after


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.fixture
def opened(watched: Watched) -> Watched:
    watched.fail(5)
    assert watched.breaker.state is State.OPEN
    return watched


class TestOpening:
    def test_begins_closed_and_tells_nothing(self, watched: Watched) -> None:
        watched.fail(4)

        assert (watched.breaker.state, watched.told) == (State.CLOSED, [])
        assert not watched.breaker.is_shut

    def test_so_many_failures_open_it(self, watched: Watched) -> None:
        watched.fail(5)

        assert (watched.breaker.state, watched.told) == (State.OPEN, [State.OPEN])
        assert watched.breaker.is_shut

    @pytest.mark.parametrize(
        ("successes", "state"), [(5, State.OPEN), (6, State.CLOSED)], ids=["half", "fewer"]
    )
    def test_only_if_they_are_that_share_of_the_calls(
        self, watched: Watched, successes: int, state: State
    ) -> None:
        for _ in range(successes):
            watched.call(failed=False)
        watched.fail(5)

        assert watched.breaker.state is state

    @pytest.mark.parametrize(("seconds", "state"), [(30, State.OPEN), (30.1, State.CLOSED)])
    def test_failures_count_for_as_long_as_the_window(
        self, watched: Watched, seconds: float, state: State
    ) -> None:
        watched.fail(4)
        watched.clock.advance(seconds)
        watched.fail(1)

        assert watched.breaker.state is state

    def test_successes_count_no_longer_than_the_window_either(self, watched: Watched) -> None:
        for _ in range(50):
            watched.call(failed=False)
        watched.clock.advance(31)
        watched.fail(5)

        assert watched.breaker.state is State.OPEN

    def test_what_showed_nothing_does_not_count(self, watched: Watched) -> None:
        watched.fail(4)
        for _ in range(50):
            watched.call(failed=None)

        assert watched.breaker.state is State.CLOSED

    def test_a_block_that_raises_showed_what_was_said_before(self, watched: Watched) -> None:
        watched.fail(4)

        def fails() -> None:
            with admit(watched.breaker) as attempt:
                attempt.ended(failed=True)
                raise KeyError

        with pytest.raises(KeyError):
            fails()

        assert watched.breaker.state is State.OPEN

    def test_failures_before_it_opened_do_not_open_it_again(self, opened: Watched) -> None:
        opened.clock.advance(5)
        opened.call(failed=False)
        opened.fail(4)

        assert opened.breaker.state is State.CLOSED

    def test_those_under_way_when_it_opens_change_nothing_any_more(self, watched: Watched) -> None:
        late, later = admit(watched.breaker), admit(watched.breaker)
        watched.fail(5)
        with late:
            late.ended(failed=False)
        with later:
            later.ended(failed=True)

        assert (watched.breaker.state, watched.told) == (State.OPEN, [State.OPEN])
        assert watched.refusal() == 5


class TestOpen:
    @pytest.mark.parametrize(("passed", "left"), [(0, 5), (0.1, 5), (4, 1), (4.9, 1)])
    def test_calls_are_told_the_whole_seconds_that_are_left(
        self, opened: Watched, passed: float, left: int
    ) -> None:
        opened.clock.advance(passed)

        assert opened.refusal() == left

    def test_refusals_do_not_make_it_last_longer(self, opened: Watched) -> None:
        for _ in range(5):
            opened.clock.advance(1)
            if opened.breaker.is_shut:
                opened.refusal()

        with admit(opened.breaker) as attempt:
            assert attempt.probes

    def test_an_urgent_call_is_let_through_and_changes_nothing(self, opened: Watched) -> None:
        opened.call(failed=False, urgent=True)
        opened.call(failed=True, urgent=True)

        assert opened.told == [State.OPEN]
        assert opened.refusal() == 5

    def test_is_no_longer_shut_once_the_pause_is_over_though_nobody_has_called(
        self, opened: Watched
    ) -> None:
        opened.clock.advance(5)

        assert not opened.breaker.is_shut
        assert opened.breaker.state is State.OPEN


class TestProbe:
    def test_there_is_one_at_a_time(self, opened: Watched) -> None:
        opened.clock.advance(5)
        with admit(opened.breaker) as attempt:
            assert attempt.probes
            assert opened.breaker.state is State.HALF_OPEN
            assert opened.refusal() >= 1
            opened.clock.advance(100)
            assert opened.refusal() >= 1

    def test_its_success_closes(self, opened: Watched) -> None:
        opened.clock.advance(5)
        opened.call(failed=False)

        assert opened.told == [State.OPEN, State.HALF_OPEN, State.CLOSED]

    def test_each_failure_doubles_the_pause_up_to_the_longest(self, opened: Watched) -> None:
        pauses = []
        for _ in range(6):
            pauses.append(opened.refusal())
            opened.clock.advance(pauses[-1])
            opened.call(failed=True)

        assert pauses == [5, 10, 20, 40, 60, 60]

    def test_after_a_success_the_pause_is_the_first_again(self, opened: Watched) -> None:
        opened.clock.advance(5)
        opened.call(failed=True)
        opened.clock.advance(10)
        opened.call(failed=False)
        opened.fail(5)

        assert opened.refusal() == 5

    def test_one_that_showed_nothing_frees_the_place_for_the_next(self, opened: Watched) -> None:
        opened.clock.advance(5)
        opened.call(failed=None)

        assert not opened.breaker.is_shut
        with admit(opened.breaker) as attempt:
            assert attempt.probes
            attempt.ended(failed=True)
        assert opened.refusal() == 10

    def test_an_urgent_call_is_none_and_does_not_wait_for_one(self, opened: Watched) -> None:
        opened.clock.advance(5)
        opened.call(failed=False, urgent=True)
        assert opened.breaker.state is State.OPEN

        with admit(opened.breaker):
            opened.call(failed=False, urgent=True)
            assert opened.told[-1] is State.HALF_OPEN


class BreakerLaws(RuleBasedStateMachine):
    """Whatever happens in whatever order."""

    def __init__(self) -> None:
        super().__init__()
        self.policy = BreakerPolicy(failures=2, window=10.0, pause=1.0, longest_pause=4.0)
        self.watched = Watched(self.policy)
        self.under_way: list[Attempt] = []
        self.opened_at = math.nan
        self.pause = self.policy.pause

    @property
    def probes(self) -> list[Attempt]:
        return [attempt for attempt in self.under_way if attempt.probes]

    @rule()
    def call(self) -> None:
        breaker, before = self.watched.breaker, self.watched.breaker.state
        was_shut, had_probe = breaker.is_shut, bool(self.probes)
        if was_shut or had_probe:
            assert before is not State.CLOSED
            assert 1 <= self.watched.refusal() <= self.policy.longest_pause
            return
        attempt = admit(breaker)
        assert attempt.probes is (before is State.OPEN)
        self.under_way.append(attempt)

    @rule()
    def call_urgently(self) -> None:
        before = self.watched.breaker.state
        attempt = admit(self.watched.breaker, urgent=True)
        assert not attempt.probes
        assert self.watched.breaker.state is before
        self.under_way.append(attempt)

    @precondition(lambda self: self.under_way)
    @rule(failed=st.sampled_from([True, False, None]), data=st.data())
    def end(self, failed: bool | None, data: st.DataObject) -> None:
        attempt = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        breaker, before = self.watched.breaker, self.watched.breaker.state
        with attempt:
            if failed is not None:
                attempt.ended(failed=failed)
        if attempt.probes:
            expected = {True: State.OPEN, False: State.CLOSED, None: State.OPEN}[failed]
            assert breaker.state is expected
            assert breaker.is_shut is (failed is True)
        elif before is not State.CLOSED:
            assert breaker.state is before
        elif not failed:
            assert breaker.state is State.CLOSED

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.0, 4.0, 11.0]))
    def wait(self, seconds: float) -> None:
        self.watched.clock.advance(seconds)

    @invariant()
    def there_is_one_probe_at_most_and_only_half_open(self) -> None:
        assert len(self.probes) == (self.watched.breaker.state is State.HALF_OPEN)

    @invariant()
    def no_state_is_told_twice_but_open(self) -> None:
        told = self.watched.told
        turns = list(zip([State.CLOSED, *told], told, strict=False))
        assert set(turns) <= {
            (State.CLOSED, State.OPEN),
            (State.OPEN, State.HALF_OPEN),
            (State.HALF_OPEN, State.OPEN),
            (State.HALF_OPEN, State.CLOSED),
        }
        assert self.watched.breaker.state is (told[-1] if told else State.CLOSED)


BreakerLaws.TestCase.settings = settings(max_examples=100, stateful_step_count=40)
TestBreakerLaws = BreakerLaws.TestCase
