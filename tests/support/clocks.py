"""Clocks that a test moves by hand."""

import asyncio
from collections.abc import Callable


class HandClock:
    """Stands still until it is moved; answers seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Move it on."""
        self.now += seconds


class Leaps:
    """The running event loop's own clock, which can be made to leap ahead.

    What is due by then happens at the loop's next turn: no test has to wait for it.
    """

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._real: Callable[[], float] = loop.time
        self._ahead = 0.0
        loop.time = self  # type: ignore[method-assign]

    def __call__(self) -> float:
        return self._real() + self._ahead

    def ahead(self, seconds: float) -> None:
        """Leap."""
        self._ahead += seconds


SPINS = 1000
"""Turns of the event loop: what a test waits for in its own process takes fewer."""


async def until(true: Callable[[], object]) -> None:
    """Let the event loop turn until something is true; the test's own timeout is the limit.

    What takes longer is another process's doing, or a time's: it needs the processor.
    """
    turns = 0
    while not true():
        await asyncio.sleep(0 if turns < SPINS else 0.002)
        turns += 1
