"""Several who ask the same at the same time: one works, the others wait for what comes of it.

What is asked is not known here.
"""

import asyncio
from collections.abc import Awaitable, Hashable
from typing import Any, Generic, TypeVar

from bridge.upstream.traces import Trace

T = TypeVar("T")


class Worker:
    """A task that works for itself and for whoever waits for what it finds out."""

    __slots__ = ("_followers", "_is_unwanted", "_task", "trace")

    def __init__(self, task: "asyncio.Task[Any]") -> None:
        """Stand for `task`."""
        self._task = task
        self._followers = 0
        self._is_unwanted = False
        self.trace: Trace | None = None
        """That of what it works for; None: nobody traces it."""

    def leave(self) -> None:
        """Say that nobody waits for the task itself: it goes on only for those who follow."""
        self._is_unwanted = True
        if not self._followers:
            self._task.cancel()

    def follow(self) -> None:
        """Count one more who waits for what the task finds out."""
        self._followers += 1

    def unfollow(self) -> None:
        """Count one less."""
        self._followers -= 1
        if self._is_unwanted and not self._followers:
            self._task.cancel()


class Work(Generic[T]):
    """Something under way; `name` is what who works is called."""

    __slots__ = ("name", "outcome", "worker")

    def __init__(self, worker: Worker, name: str) -> None:
        self.worker = worker
        self.name = name
        self.outcome: asyncio.Future[T] | None = None
        """Made for the first who follows: who works alone pays for none."""


class Sharing(Generic[T]):
    """What is under way, by what it is to find out.

    The first who asks works in their own task, at no more cost than an entry in a dictionary.
    """

    def __init__(self) -> None:
        self.under_way: dict[Hashable, Work[T]] = {}
        """All that may be followed; not to be changed from outside."""

    async def work(self, key: Hashable, worker: Worker, work: Awaitable[T], name: str = "") -> T:
        """Do what nobody else is doing, for all who follow; returns or raises what it does."""
        entry: Work[T] = Work(worker, name)
        self.under_way[key] = entry
        try:
            found = await work
        except BaseException as error:
            self._end(key, entry)
            if entry.outcome is not None:
                if isinstance(error, Exception):
                    entry.outcome.set_exception(error)
                    entry.outcome.exception()  # all who followed may have left
                else:
                    entry.outcome.cancel()
            raise
        self._end(key, entry)
        if entry.outcome is not None:
            entry.outcome.set_result(found)
        return found

    async def follow(self, key: Hashable) -> T:
        """Wait for what comes of what is under way; returns or raises what it does.

        Raises:
            Abandoned: who worked was stopped: one of those who followed has to take over.
            KeyError: nothing is under way.
        """
        entry = self.under_way[key]
        if entry.outcome is None:
            entry.outcome = asyncio.get_running_loop().create_future()
        entry.worker.follow()
        try:
            await asyncio.wait((entry.outcome,))
        finally:
            entry.worker.unfollow()
        if entry.outcome.cancelled():
            raise Abandoned
        return entry.outcome.result()

    def _end(self, key: Hashable, entry: Work[T]) -> None:
        if self.under_way.get(key) is entry:
            del self.under_way[key]


class Abandoned(Exception):
    """Whoever worked was stopped, and nothing was found out."""
