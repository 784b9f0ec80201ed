"""The ids of calls: unique where several bridges write to one database, in the order of time."""

import secrets
from typing import Any

TIME_SHIFT = 22
"""Bits of an id below its milliseconds since 1970."""

_SEQUENCE = 8
"""Bits that tell apart the calls of one millisecond; the others are the process's."""


class Ids:
    """Makes ids, each higher than all before it: `milliseconds << 22 | process | sequence`.

    Where the clock was put back, or more calls end in a millisecond than there are ids for, the
    next ones are those of the milliseconds to come.
    """

    def __init__(self, process: int | None = None) -> None:
        """Make ids of this process; None: the number that tells it apart is made up."""
        bits = TIME_SHIFT - _SEQUENCE
        self._process = (secrets.randbits(bits) if process is None else process) << _SEQUENCE
        self._latest = 0
        """Milliseconds and sequence in one number."""

    def next(self, at: int) -> int:
        """Return an id for what has ended at a time, in nanoseconds since 1970."""
        latest = at // 1_000_000 << _SEQUENCE
        if latest <= self._latest:
            latest = self._latest + 1
        self._latest = latest
        return latest >> _SEQUENCE << TIME_SHIFT | self._process | latest & ((1 << _SEQUENCE) - 1)


def with_text_ids(value: Any) -> Any:  # noqa: ANN401 - whatever JSON can be
    """Return what is to be JSON with the ids of calls as texts, below `id` and `before`.

    JavaScript, and jq before 1.7, round integers of their length.
    """
    match value:
        case list():
            return [with_text_ids(each) for each in value]
        case dict():
            return {
                name: str(each)
                if name in {"id", "before"} and isinstance(each, int)
                else with_text_ids(each)
                for name, each in value.items()
            }
    return value
