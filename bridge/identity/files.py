"""Files from the outside: who may use them, and whether they have changed.

Both the credential book and the server's certificate are watched from here; what is in them is not
known.
"""

import asyncio
import os
import shlex
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from operator import attrgetter
from pathlib import Path

Signatures = dict[Path, object]
"""Of each file what changes when it does, None when there is none to be seen."""

_signature = attrgetter(
    "st_dev", "st_ino", "st_mode", "st_uid", "st_size", "st_mtime_ns", "st_ctime_ns"
)


def signature(path: Path) -> object:
    """Return the signature of the file that `path` leads to."""
    with suppress(OSError):
        return _signature(path.stat())
    return None


def signatures(paths: Iterable[Path]) -> Signatures:
    """Return the signature of each file."""
    return {path: signature(path) for path in paths}


def exposure(path: Path, status: os.stat_result, complaint: str) -> str | None:
    """Return what is wrong with a file that must be its owner's only, None when nothing is.

    `complaint` is the words for one that group or others may do anything to.
    """
    if not stat.S_ISREG(status.st_mode):
        return f"{path}: it is not a regular file"
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return f"{path}: {complaint}: chmod 600 {shlex.quote(str(path))}"
    return None


@asynccontextmanager
async def watching(
    seen: Callable[[], Signatures],
    read: Callable[[], Awaitable[object]],
    failed: Callable[[], object],
    interval: float,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> AsyncIterator[None]:
    """Until the end of the block, have files read again when they have changed.

    A change counts once the files have looked the same in two looks on end, so that a writer who
    takes his time is not read half-way; it is read two intervals after it was made, at the latest.

    Args:
        seen: answers which files these are, and what they looked like when they were read last.
        read: reads them.
        failed: is told, while the exception is handled, that one of these looks has failed.
        interval: seconds between two looks.
        sleep: waits that many seconds.
    """

    async def watch() -> None:
        before: Signatures = {}
        while True:
            await sleep(interval)
            try:
                now = await asyncio.to_thread(signatures, tuple(seen()))
                if now == before and now != seen():
                    await read()
                before = now
            except Exception:  # noqa: BLE001 - whatever it is, the next look may fare better
                failed()

    watch_task = asyncio.create_task(watch())
    try:
        yield
    finally:
        watch_task.cancel()
        with suppress(asyncio.CancelledError):
            await watch_task
