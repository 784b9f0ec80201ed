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


_NICENESS = 19
"""Of the process: it takes what nobody else wants."""


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
            message = framed(Pair(_sendable(v1), _sendable(bridge), ignored.texts))
            is_done = False
            try:
                found = await self._ask(message)
                is_done = True
            except (asyncio.IncompleteReadError, ConnectionError) as error:
                raise ComparerGone from error
            finally:
                if not is_done:  # what it may say yet would be taken for the next answer
                    await self._end()
        return found

    async def close(self) -> None:
        """End the process, whatever it is at."""
        self._is_closed = True
        await self._end()

    async def _ask(self, message: bytes) -> Comparison:
        if self._is_closed:
            raise ComparerGone
        if self._process is None or self._process.returncode is not None:
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


def _sendable(answer: Answer) -> Answer:
    """Return an answer whose header is UTF-8: a side that is not trusted has written it."""
    if answer.content_type is None or answer.content_type.isascii():
        return answer
    plain = answer.content_type.encode(errors="replace").decode()
    return answer._replace(content_type=plain)


async def _started() -> Process:
    """Start the process, in the bridge's session: niceness may count within a session only."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "bridge.server.shadow.comparer",
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,  # a traceback may have what is in an answer
        env={
            **{name: text for name, text in os.environ.items() if not name.startswith(_SETTING)},
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),  # as it was found by the bridge
            "MALLOC_ARENA_MAX": "1",  # each comparison has a thread of its own
        },
    )  # fmt: skip
    with suppress(OSError):  # a service manager may forbid it; or it has ended
        os.setpriority(os.PRIO_PROCESS, process.pid, _NICENESS)
        if hasattr(os, "SCHED_IDLE"):  # else it keeps a core for milliseconds, however nice it is
            os.sched_setscheduler(process.pid, os.SCHED_IDLE, os.sched_param(0))
    return process
