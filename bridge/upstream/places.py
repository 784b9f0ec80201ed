"""Places that are taken in the order in which they are asked for. What for is not known here."""

import asyncio
from collections import deque
from contextlib import suppress


class Places:
    """A number of places. Belongs to one event loop."""

    __slots__ = ("_waiting", "free")

    def __init__(self, number: int) -> None:
        """Begin with all of them free."""
        self.free = number
        self._waiting: deque[asyncio.Future[None]] = deque()

    def take_now(self) -> bool:
        """Take a place if one is free; who waits has come first, and none is free while they do."""
        if not self.free:
            return False
        self.free -= 1
        return True

    async def take(self, deadline: float) -> None:
        """Take a place, and wait for it if need be; give it back with `give_back`.

        Raises:
            TimeoutError: none was to be had before `deadline`, by the event loop's clock.
        """
        if self.take_now():
            return
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            async with asyncio.timeout_at(deadline):
                await place
        except BaseException:
            if place.done() and not place.cancelled():
                self.give_back()  # it came just when there was no more waiting for it
            else:
                with suppress(ValueError):  # passed over already
                    self._waiting.remove(place)
            raise

    def give_back(self) -> None:
        """Let the next one have a place."""
        while self._waiting:
            if not (place := self._waiting.popleft()).done():
                place.set_result(None)
                return
        self.free += 1
