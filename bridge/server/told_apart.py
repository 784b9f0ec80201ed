"""How many different ones there may be of what callers make up as they like.

What it is, and what becomes of those beyond the number, is not known here.
"""

import time
from collections import Counter
from collections.abc import Callable, Hashable

DAY = 24 * 3600.0
"""Seconds."""


class ToldApart:
    """Those that are told apart today: so many of one who makes them up, and so many in all.

    One that was told apart today stays so. A day lasts from the first one on.
    """

    def __init__(
        self, *, of_one: int, in_all: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Tell none apart yet; `clock` answers seconds that never go back."""
        self._of_one = of_one
        self._in_all = in_all
        self._clock = clock
        self._until = 0.0
        self._told: set[Hashable] = set()
        self._by: Counter[str] = Counter()

    def tells(self, what: Hashable, by: str) -> bool:
        """Tell whether `what` is one of them, or becomes one; else who made it up has enough."""
        if self._clock() >= self._until:
            self._until = self._clock() + DAY
            self._told.clear()
            self._by.clear()
        if what in self._told:
            return True
        if len(self._told) >= self._in_all or self._by[by] >= self._of_one:
            return False
        self._told.add(what)
        self._by[by] += 1
        return True
