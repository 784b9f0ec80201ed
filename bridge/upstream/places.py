"""Places that are taken in the order in which they are asked for. What for is not known here."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Hashable
from contextlib import suppress


class Places:
    """A number of places. Belongs to one event loop.

    Those who wait come in turn by whom they belong to: many of one keep no other waiting.
    """

    __slots__ = ("_waiting", "free")

    def __init__(self, number: int) -> None:
        """Begin with all of them free."""
        self.free = number
        self._waiting: OrderedDict[Hashable, deque[asyncio.Future[None]]] = OrderedDict()
        """Whose turn comes first stands first."""

    def take_now(self) -> bool:
        """Take a place if one is free; who waits has come first, and none is free while they do."""
        if not self.free:
            return False
        self.free -= 1
        return True

    async def take(self, deadline: float, whose: Hashable = None) -> None:
        """Take a place for somebody, and wait for it if need be; give it back with `give_back`.

        Raises:
            TimeoutError: none was to be had before `deadline`, by the event loop's clock.
        """
        if self.take_now():
            return
        place = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(whose, deque()).append(place)
        try:
            async with asyncio.timeout_at(deadline):
                await place
        except BaseException:
            if place.done() and not place.cancelled():
                self.give_back()  # it came just when there was no more waiting for it
            else:
                self._leave(place, whose)
            raise

    def give_back(self) -> None:
        """Let the next one have a place."""
        while self._waiting:
            whose, queue = self._waiting.popitem(last=False)
            place = queue.popleft()
            if queue:
                self._waiting[whose] = queue
            if not place.done():
                place.set_result(None)
                return
        self.free += 1

    def _leave(self, place: asyncio.Future[None], whose: Hashable) -> None:
        queue = self._waiting.get(whose, deque())
        with suppress(ValueError):  # passed over already
            queue.remove(place)
            if not queue:
                del self._waiting[whose]
