"""v2's rate limit: so many calls in a sliding window of time. Who is counted is app.py's matter."""

from collections import deque
from collections.abc import Callable

# "100 requests per 15 seconds" (v2 documentation, rate limiting).
MAX_CALLS = 100
WINDOW_SECONDS = 15.0


class SlidingWindow:
    """Counts the calls of each key over the last `seconds`; a refused call does not count."""

    def __init__(
        self,
        monotonic: Callable[[], float],
        *,
        calls: int = MAX_CALLS,
        seconds: float = WINDOW_SECONDS,
    ) -> None:
        """Start empty; `monotonic` answers seconds that never run backwards."""
        self._monotonic = monotonic
        self._calls = calls
        self._seconds = seconds
        self._admitted: dict[str, deque[float]] = {}

    def admit(self, key: str) -> float | None:
        """Count a call of `key` and return None, or refuse it: the seconds until one is let in."""
        now = self._monotonic()
        admitted = self._admitted.setdefault(key, deque())
        while admitted and admitted[0] + self._seconds <= now:
            admitted.popleft()
        if len(admitted) >= self._calls:
            return admitted[0] + self._seconds - now
        admitted.append(now)
        return None

    def count(self, key: str) -> int:
        """Return how many calls of `key` were let in of late."""
        now = self._monotonic()
        return sum(1 for at in self._admitted.get(key, ()) if at + self._seconds > now)
