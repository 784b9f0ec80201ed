"""The ids of calls: unique where several bridges write to one database, in the order of time."""

import secrets
import time
from collections.abc import Callable

TIME_SHIFT = 22
"""Bits of an id below its milliseconds since 1970."""

_SEQUENCE = 8
"""Bits that tell apart the calls of one millisecond; the others are the process's."""


class Ids:
    """Makes ids, each higher than all before it: `milliseconds << 22 | process | sequence`.

    Where a clock is put back, or more calls end in a millisecond than there are ids for, the next
    ones are those of the milliseconds to come.
    """

    def __init__(self, clock: Callable[[], int] = time.time_ns, process: int | None = None) -> None:
        """Take the time from `clock`, in nanoseconds since 1970; `process` is made up if None."""
        bits = TIME_SHIFT - _SEQUENCE
        self._clock = clock
        self._process = (secrets.randbits(bits) if process is None else process) << _SEQUENCE
        self._latest = 0
        """Milliseconds and sequence in one number."""

    def next(self) -> int:
        """Return an id for what has ended now."""
        latest = self._clock() // 1_000_000 << _SEQUENCE
        if latest <= self._latest:
            latest = self._latest + 1
        self._latest = latest
        return latest >> _SEQUENCE << TIME_SHIFT | self._process | latest & ((1 << _SEQUENCE) - 1)
