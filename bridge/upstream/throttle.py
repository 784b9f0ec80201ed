"""Who has been told to wait by v2, and for how long yet. No I/O, no clock."""

from collections.abc import Callable, Hashable


class Throttle:
    """Remembers, for each credential, until when v2 will refuse it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Remember nothing yet; `clock` answers seconds that never run backwards."""
        self._clock = clock
        self._until: dict[Hashable, float] = {}

    def told(self, key: Hashable, seconds: float) -> None:
        """Remember that `key` has to wait for `seconds`."""
        now = self._clock()
        # Keys are the callers' to make up: none is kept for longer than it says something.
        self._until = {each: until for each, until in self._until.items() if until > now}
        self._until[key] = max(now + seconds, self._until.get(key, now))

    def left(self, key: Hashable) -> float:
        """Return the seconds that `key` has to wait yet; 0 when it may call."""
        until = self._until.get(key)
        return 0.0 if until is None else max(0.0, until - self._clock())
