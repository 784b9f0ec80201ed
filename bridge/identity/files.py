"""Files from the outside: whether they have changed, also while they are read.

The credential book, the server's certificate and the admin side's token are watched from here; what
is in them is not known.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from operator import attrgetter
from pathlib import Path
from typing import TypeVar

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


Value = TypeVar("Value")

_READINGS = 5
"""The most in a row, of files that change while they are read."""


def read_together(
    read: Callable[[Signatures], Value], seen: Signatures, unusable: type[Exception]
) -> Value:
    """Return what `read` makes of several files, all as they were at one time.

    Kubernetes swaps all files of a secret at once, by a link. Who reads them one by one meanwhile
    has some of before and some of after: then they are read again. What they look like is in `seen`
    at the end, also of an error.

    Args:
        read: reads them; notes each in the signatures that it is given, before it is read.
        seen: where these go.
        unusable: what `read` raises if it cannot use them, and this does if they do not rest.
    """
    for _ in range(_READINGS):
        seen.clear()
        try:
            value = read(seen)
        except unusable:
            if signatures(seen) == seen:
                raise
        else:
            if signatures(seen) == seen:
                return value
    changing = ", ".join(map(str, seen))
    raise unusable(f"{changing}: changed each time while they were read")


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
