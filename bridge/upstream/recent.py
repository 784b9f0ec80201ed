"""How many calls were made with each token of late. No I/O, no clock."""

from collections import deque
from collections.abc import Callable, Hashable
from typing import NamedTuple

MOST_KEYS = 1000
"""In one second: tokens are the callers' to make up, and must not fill the memory."""


class _Second(NamedTuple):
    number: int
    counts: dict[Hashable, int]


class RecentCalls:
    """Counts calls by key, and forgets them after `window` seconds.

    By whole seconds: that which the window begins in counts in full, for it is better to say too
    many than too few.
    """

    def __init__(self, clock: Callable[[], float], window: int) -> None:
        """Begin with none; `clock` answers seconds that never run backwards."""
        self._clock = clock
        self._window = window
        self._seconds: deque[_Second] = deque([_Second(-1, {})], maxlen=window + 1)

    def add(self, key: Hashable) -> None:
        """Count a call."""
        now = int(self._clock())
        latest = self._seconds[-1]
        if latest.number != now:
            latest = _Second(now, {})
            self._seconds.append(latest)
        counts = latest.counts
        if key in counts:
            counts[key] += 1
        elif len(counts) < MOST_KEYS:
            counts[key] = 1

    def of(self, key: Hashable) -> int:
        """Return how many calls of `key` there were."""
        since = int(self._clock()) - self._window
        return sum(second.counts.get(key, 0) for second in self._seconds if second.number >= since)
