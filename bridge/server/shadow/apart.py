"""Comparing in a process apart: a thread would hold up the event loop, and clients with it."""

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Awaitable, Callable
from contextlib import suppress

import msgspec

from bridge.comparing import Answer, Comparison, Paths
from bridge.server.shadow.comparer import LENGTH, Pair, framed

Compare = Callable[[Answer, Answer, Paths], Awaitable[Comparison]]
"""Compares v1's answer and the bridge's, but for what may differ."""


_SETTING = "HARVEST_BRIDGE_"
"""How names of settings begin in the environment: some are secrets."""


class ComparerGone(Exception):
    """The process has ended before it said what it found."""


class Comparer:
    """Compares one pair of answers at a time, in a process that runs from the first one on.

    What becomes of that process ends one comparison at the most: the next one has a new one.
    """

    def __init__(self) -> None:
        """Start nothing yet."""
        self._process: Process | None = None
        self._turn = asyncio.Lock()
        self._is_closed = False

    async def compare(self, v1: Answer, bridge: Answer, ignored: Paths) -> Comparison:
        """Compare as `bridge.comparing.compare` does. Who gives up waiting ends the process.

        Raises:
            ComparerGone: it has ended, or was ended.
            OSError: it cannot be started.
        """
        async with self._turn:
            try:
                return await self._ask(framed(Pair(v1, bridge, ignored.texts)))
            except (asyncio.IncompleteReadError, ConnectionError) as error:
                await self._end()
                raise ComparerGone from error
            except BaseException:
                await self._end()
                raise

    async def close(self) -> None:
        """End the process, whatever it is at."""
        self._is_closed = True
        await self._end()

    async def _ask(self, message: bytes) -> Comparison:
        if self._is_closed:
            raise ComparerGone
        if self._process is None:
            self._process = await _started()
        asked, told = self._process.stdin, self._process.stdout
        assert asked is not None  # noqa: S101 - both are pipes
        assert told is not None  # noqa: S101
        asked.write(message)
        await asked.drain()
        length = int.from_bytes(await told.readexactly(LENGTH), "big")
        return msgspec.msgpack.decode(await told.readexactly(length), type=Comparison)

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _started() -> Process:
    """Start the process, in a session of its own: a terminal's Ctrl-C is the bridge's business."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "bridge.server.shadow.comparer",
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,  # a traceback may have what is in an answer
        env={
            **{name: text for name, text in os.environ.items() if not name.startswith(_SETTING)},
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),  # as it was found by the bridge
            "MALLOC_ARENA_MAX": "1",  # each comparison has a thread of its own
        },
        start_new_session=True,
    )  # fmt: skip
