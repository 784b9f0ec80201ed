"""What clients leave of a token's calls to v2, for who can do without. No I/O, no clock."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from bridge.upstream.recent import RecentCalls
from bridge.v2.errors import UpstreamUnavailable
from bridge.v2.rate_limit import MOST_CALLS, WINDOW


class NoneToSpare(UpstreamUnavailable):
    """v2 was not asked, for the call would be at the expense of clients."""


@dataclass(frozen=True, slots=True)
class SpareLimits:
    """How many calls of a token there are to spare, in v2's `WINDOW`."""

    calls: int = MOST_CALLS // 10
    """The most."""
    left_alone: int = MOST_CALLS // 2
    """Calls of clients from which on there are none."""


class Spare:
    """Counts what is spared, token by token."""

    def __init__(self, clock: Callable[[], float], limits: SpareLimits) -> None:
        """Begin with none; `clock` answers seconds that never run backwards."""
        self.limits = limits
        self._spent = RecentCalls(clock, WINDOW)

    def spend(self, key: Hashable, calls: int, share: float) -> None:
        """Take one call of a token.

        Args:
            key: the token's.
            calls: how many were made with it in the window, those that were spared among them.
            share: of the calls to spare, how many are for such a one.

        Raises:
            NoneToSpare: there is none.
        """
        spent = self._spent.of(key)
        if spent >= share * self.limits.calls:
            raise NoneToSpare("no call of this token is left to spare", 1)
        if calls - spent >= self.limits.left_alone:
            raise NoneToSpare("clients need the calls of this token themselves", 1)
        self._spent.add(key)
        if self._spent.of(key) == spent:  # so many tokens that it is not counted
            raise NoneToSpare("too many tokens call at once", 1)
