"""Several who ask the same at the same time, and get one answer. What it is, is not known here."""

import asyncio
from collections.abc import Coroutine, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Coroutines under way, by what they are to find out.

    Each goes on for as long as anybody waits for it, whether or not they began it.
    """

    def __init__(self) -> None:
        self._flights: dict[Hashable, _Flight[T]] = {}

    def __contains__(self, key: Hashable) -> bool:
        """Whether the one for `key` is under way, and may be joined."""
        return key in self._flights

    def begun_by(self, key: Hashable) -> str:
        """Return who has begun the one for `key`.

        Raises:
            KeyError: there is none.
        """
        return self._flights[key].begun_by

    async def begin(self, key: Hashable, flight: Coroutine[Any, Any, T], by: str = "") -> T:
        """Start the one for `key` and wait for it; returns or raises what it does."""
        task = asyncio.create_task(flight)
        task.add_done_callback(_heed)
        self._flights[key] = _Flight(task, by)
        return await self.join(key)

    async def join(self, key: Hashable) -> T:
        """Wait for the one for `key` that is under way; returns or raises what it does.

        Raises:
            KeyError: there is none.
        """
        flight = self._flights[key]
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            # Nobody may join what has ended, or is about to be cancelled.
            if (flight.task.done() or not flight.waiting) and self._flights.get(key) is flight:
                del self._flights[key]
            if not flight.waiting:
                flight.task.cancel()


@dataclass(slots=True)
class _Flight(Generic[T]):
    task: asyncio.Task[T]
    begun_by: str
    waiting: int = 0


def _heed(task: asyncio.Task[Any]) -> None:
    """Take note of how a task ended, for there may be nobody left to do so."""
    if not task.cancelled():
        task.exception()
