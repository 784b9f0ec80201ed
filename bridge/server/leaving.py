"""Stopping without dropping a call: what is under way is finished, what is new is refused."""

import asyncio
from typing import Self

from bridge.v1.errors import Leaving


class Departure:
    """Counts the calls under way, and knows whether the bridge is about to stop."""

    def __init__(self) -> None:
        self._under_way = 0
        self._quiet: asyncio.Event | None = None
        """Is told when nothing is under way any more; None: nobody waits for that."""
        self._hurried = asyncio.Event()
        self.begun = False
        """Whether no more calls are taken."""

    def call(self) -> Self:
        """Return what counts a call for as long as its block runs.

        Raises:
            Leaving: no more calls are taken.
        """
        if self.begun:
            raise Leaving("The bridge is about to stop: call again in a moment.", retry_after=1)
        return self

    def __enter__(self) -> None:
        self._under_way += 1

    def __exit__(self, *_raised: object) -> None:
        self._under_way -= 1
        if self._quiet is not None and not self._under_way:
            self._quiet.set()

    def begin(self) -> None:
        """Take no more calls from now on."""
        self.begun = True

    def hurry(self) -> None:
        """Wait no longer for calls that are under way."""
        self._hurried.set()

    async def until_quiet(self, seconds: float) -> None:
        """Wait up to `seconds` for the calls under way."""
        if not self._under_way:
            return
        self._quiet = asyncio.Event()
        waits = [asyncio.create_task(event.wait()) for event in (self._quiet, self._hurried)]
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
