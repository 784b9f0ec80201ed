"""How late an event loop does what it is to do: what its clients wait for beside their own calls."""

import asyncio
import time

_TICK = 0.005
"""Seconds between two looks."""


class Lateness:
    """Looks again and again at how late its loop is, and how much CPU its process takes."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._late: list[float] = []
        self._used = time.process_time()
        self._due = 0.0
        self._wait()

    def _wait(self) -> None:
        self._due = self._loop.time() + _TICK
        self._loop.call_at(self._due, self._look)

    def _look(self) -> None:
        self._late.append(self._loop.time() - self._due)
        self._wait()

    def told(self) -> dict[str, list[float]]:
        """Return what there was since the last time, in milliseconds, and forget it."""
        late, self._late = [round(each * 1000, 1) for each in self._late], []
        before, self._used = self._used, time.process_time()
        return {"late": late, "CPU": [(self._used - before) * 1000]}
