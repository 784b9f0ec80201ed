"""One after another: who waits for what somebody else is doing to the same thing."""

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

from bridge.v1.errors import Overloaded


class Turns:
    """Gives each key to one at a time, in the order they ask."""

    def __init__(self) -> None:
        self._locks: dict[Hashable, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def turn(self, key: Hashable, deadline: float) -> AsyncIterator[None]:
        """Hold `key` for as long as the block takes.

        Raises:
            Overloaded: it was not to be had before `deadline`, by the event loop's clock.
        """
        lock, wanted = self._locks.get(key, (asyncio.Lock(), 0))
        self._locks[key] = (lock, wanted + 1)
        try:
            await _take(lock, deadline)
            try:
                yield
            finally:
                lock.release()
        finally:
            lock, wanted = self._locks.pop(key)
            if wanted > 1:
                self._locks[key] = (lock, wanted - 1)


async def _take(lock: asyncio.Lock, deadline: float) -> None:
    try:
        async with asyncio.timeout_at(deadline):
            await lock.acquire()
    except TimeoutError:
        raise Overloaded(
            "An earlier write to the same is still under way: try again soon.", retry_after=1
        ) from None
