"""Which calls are tried again, and how often in all."""

import pytest

from bridge.upstream.retries import RetryBudget, worth_another_try
from bridge.v2.errors import (
    UpstreamFault,
    UpstreamTimeout,
    UpstreamUnavailable,
    UpstreamUnreachable,
)
from bridge.v2.wire import V2Request, V2Response

REFUSED = UpstreamUnreachable("refused", request_left=False)
RESET = UpstreamUnreachable("reset")


def answer(status: int) -> V2Response:
    return V2Response(status, b"", "")


def told(outcome: V2Response | BaseException) -> str:
    """Say an outcome the same way each time: a response knows when it was received."""
    return str(outcome.status if isinstance(outcome, V2Response) else outcome)


class TestWorthAnotherTry:
    @pytest.mark.parametrize("method", ["GET", "DELETE"])
    @pytest.mark.parametrize(
        "outcome", [REFUSED, RESET, answer(502), answer(503), answer(504)], ids=told
    )
    def test_what_may_fare_better(self, method: str, outcome: V2Response | BaseException) -> None:
        assert worth_another_try(V2Request(method, "/"), outcome)

    @pytest.mark.parametrize("method", ["GET", "DELETE"])
    @pytest.mark.parametrize(
        "outcome",
        [
            *(answer(status) for status in (200, 204, 302, 400, 401, 404, 408, 422, 429, 500, 501)),
            UpstreamTimeout("late"),
            UpstreamFault("no HTTP"),
            UpstreamUnavailable("not asked", 5),
            ValueError("a defect"),
        ],
        ids=told,
    )
    def test_what_will_not(self, method: str, outcome: V2Response | BaseException) -> None:
        assert not worth_another_try(V2Request(method, "/"), outcome)

    @pytest.mark.parametrize("method", ["POST", "PATCH", "PUT"])
    @pytest.mark.parametrize("outcome", [REFUSED, RESET, answer(503)], ids=told)
    def test_what_must_not_be_done_twice_never_is(
        self, method: str, outcome: V2Response | BaseException
    ) -> None:
        assert not worth_another_try(V2Request(method, "/"), outcome)


class TestRetryBudget:
    def test_begins_with_its_reserve(self) -> None:
        budget = RetryBudget(reserve=3)

        assert [budget.spend() for _ in range(5)] == [True, True, True, False, False]

    def test_five_calls_make_one_retry(self) -> None:
        budget = RetryBudget(share=0.25, reserve=1)
        budget.spend()

        earned = []
        for _ in range(12):
            budget.earn()
            earned.append(budget.spend())

        assert earned == [False, False, False, True] * 3

    def test_what_is_not_spent_does_not_pile_up_beyond_the_reserve(self) -> None:
        budget = RetryBudget(reserve=2)
        for _ in range(1000):
            budget.earn()

        assert [budget.spend() for _ in range(3)] == [True, True, False]

    @pytest.mark.parametrize("calls", [1, 10, 100, 1000])
    def test_under_sustained_failure_tries_are_a_fifth_more_than_calls_and_the_reserve(
        self, calls: int
    ) -> None:
        budget, tries = RetryBudget(), 0
        for _ in range(calls):
            budget.earn()
            tries += 1
            for _ in range(3):
                tries += budget.spend()

        assert tries <= 1.2 * calls + 10
        # As much as is allowed is used.
        assert tries >= min(4 * calls, 1.2 * calls + 8)
