"""Which calls are tried again, when, and how often in all. No I/O, no clock."""

from bridge.v2.errors import UpstreamUnreachable
from bridge.v2.wire import V2Request, V2Response

REPEATABLE = frozenset({"GET", "DELETE"})
"""The methods that may be tried again: what they do twice, they do once (RFC 9110, 9.2.2)."""

RETRIED = frozenset({502, 503, 504})
"""The answers that are worth another try: who gave them could not reach v2, or it was busy."""

TRIES = 4
"""At most, of one call, the first included."""

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 2.0
"""Seconds: pauses are random, up to twice as long each time as the time before."""


def worth_another_try(request: V2Request, outcome: V2Response | BaseException) -> bool:
    """Tell whether `request` may be tried again, and is likely to fare better."""
    if request.method not in REPEATABLE:
        return False
    if isinstance(outcome, V2Response):
        return outcome.status in RETRIED
    return isinstance(outcome, UpstreamUnreachable)


class RetryBudget:
    """Bounds retries to a share of the calls, so that they cannot double the load on who is sick.

    Each call adds its share of a retry, and each retry takes a whole one, so that in the long run
    there are at most `share` retries a call. The reserve is for those who call now and then.
    """

    def __init__(self, *, share: float = 0.2, reserve: float = 10.0) -> None:
        """Begin with the whole reserve, in retries."""
        self._share = share
        self._reserve = reserve
        self._left = reserve

    def earn(self) -> None:
        """Count a call."""
        self._left = min(self._reserve, self._left + self._share)

    def spend(self) -> bool:
        """Take one retry; false when there is none left."""
        if self._left < 1:
            return False
        self._left -= 1
        return True
