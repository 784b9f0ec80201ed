"""Who has been told to wait by v2, and for how long yet. No I/O, no clock."""

from collections import OrderedDict
from collections.abc import Callable, Hashable

MOST_KEYS = 20_000
"""That are remembered: keys are the callers' to make up. Whoever is forgotten is told once more."""


class Throttle:
    """Remembers, for each credential, until when v2 will refuse it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Remember nothing yet; `clock` answers seconds that never run backwards."""
        self._clock = clock
        self._until: OrderedDict[Hashable, float] = OrderedDict()

    def told(self, key: Hashable, seconds: float) -> None:
        """Remember that `key` has to wait for `seconds`."""
        now = self._clock()
        self._forget(now)
        self._until[key] = max(now + seconds, self._until.get(key, now))
        if len(self._until) > MOST_KEYS:
            self._until.popitem(last=False)

    def left(self, key: Hashable) -> float:
        """Return the seconds that `key` has to wait yet; 0 when it may call."""
        until = self._until.get(key)
        return 0.0 if until is None else max(0.0, until - self._clock())

    def _forget(self, now: float) -> None:
        """Look at two of the keys, in turn, and keep what still says something.

        With one more key at a time, that is soon every one that is over, at no more than two looks.
        """
        for _ in range(min(2, len(self._until))):
            key, until = self._until.popitem(last=False)
            if until > now:
                self._until[key] = until
