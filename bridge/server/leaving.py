"""Stopping without dropping a call: what has connected is heard, what is under way is finished."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from bridge.v1.errors import Leaving

_GLANCE = 0.01
"""Seconds between two looks whether a call is expected yet: being told would cost each call."""


class Departure:
    """Counts the calls under way, and knows whether the bridge is about to stop."""

    def __init__(self) -> None:
        self._under_way = 0
        self._quiet: asyncio.Event | None = None
        """Is told when nothing is under way any more; None: nobody waits for that."""
        self._hurried = asyncio.Event()
        self._refuses = False
        """Whether no more calls are taken."""
        self.begun = False
        """Whether each answer is the last of its connection."""

    def call(self) -> Self:
        """Return what counts a call for as long as its block runs.

        Raises:
            Leaving: no more calls are taken.
        """
        if self._refuses:
            raise Leaving("The bridge is about to stop: call again in a moment.", retry_after=1)
        return self

    def __enter__(self) -> None:
        self._under_way += 1

    def __exit__(self, *_raised: object) -> None:
        self._under_way -= 1
        if self._quiet is not None and not self._under_way:
            self._quiet.set()

    def begin(self) -> None:
        """Have each answer be the last of its connection from now on."""
        self.begun = True

    async def hear(self, is_expected: Callable[[], object], seconds: float) -> None:
        """Take the calls that are expected yet, for up to `seconds`; after that, none.

        Who has connected before the stop has no other bridge to turn to, and no way to know.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        # What the kernel has handed over by now begins in the loop's next turns.
        await asyncio.sleep(_GLANCE)
        with suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                while is_expected() and not self._hurried.is_set():  # noqa: ASYNC110 - see there
                    await asyncio.sleep(_GLANCE)
        self._refuses = True

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
