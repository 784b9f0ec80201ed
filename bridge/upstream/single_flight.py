"""Several who ask the same at the same time, and get one answer. What it is, is not known here."""

import asyncio
from collections.abc import Coroutine, Hashable
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

    async def begin(self, key: Hashable, flight: Coroutine[Any, Any, T]) -> T:
        """Start the one for `key` and wait for it; returns or raises what it does."""
        self._flights[key] = _Flight(asyncio.create_task(flight))
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


class _Flight(Generic[T]):
    def __init__(self, task: asyncio.Task[T]) -> None:
        self.task = task
        self.waiting = 0
