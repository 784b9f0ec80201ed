"""Translations that may be told again: the last ones, as many as fit into some bytes.

What is the same as before is for its users to say, by their keys. There is no clock in it:
translation is a pure function of what is in the key.
"""

from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock
from typing import Any

OVERHEAD = 2048
"""Bytes that an entry takes beside what it is said to take: key, links, notes, objects."""

SHARE = 4
"""An entry takes at most this part of the whole, so that one long list does not push out all."""


class Reuse:
    """What was used last, up to `limit` bytes. For any number of threads."""

    def __init__(self, limit: int) -> None:
        """Keep nothing yet; with a limit of 0, nothing ever."""
        self._limit = limit
        self._size = 0
        self._entries: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._lock = Lock()
        self.hits = 0
        """How often something was there."""
        self.misses = 0
        """How often nothing was."""

    def get(self, key: Hashable) -> Any | None:  # noqa: ANN401 - whatever was put there
        """Return what was put under `key`, None if it is not there (any more)."""
        with self._lock:
            if (entry := self._entries.get(key)) is None:
                self.misses += 1
                return None
            self.hits += 1
            self._entries.move_to_end(key)
            return entry[0]

    def put(self, key: Hashable, value: object, size: int) -> None:
        """Keep `value`, which takes about `size` bytes, unless it is too long.

        What was not used for the longest time gives way.
        """
        size += OVERHEAD
        if size * SHARE > self._limit:
            return
        with self._lock:
            _, before = self._entries.pop(key, (None, 0))
            self._size += size - before
            self._entries[key] = (value, size)
            while self._size > self._limit:
                _, (_, freed) = self._entries.popitem(last=False)
                self._size -= freed
