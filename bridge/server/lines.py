"""Lines on their way to standard error, whoever reads it, or nobody: they hold up no call.

How a line looks is not known here.
"""

import os
import select
import stat
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TextIO

MOST_WAITING = 4 * 1024 * 1024
"""Bytes of lines that wait for a reader; further ones are lost, and counted."""

FLUSH_TIME = 1.0
"""Seconds that the end of the process waits for what still waits."""

WAITS_NEVER = min(select.PIPE_BUF, 4096)
"""Bytes that a pipe or socket which says that it can be written to takes at once; a terminal says
so with room for one byte."""


class Lines:
    """Writes lines in their order; a reader that does not keep up costs lines, not time.

    As long as the stream takes a line at once, it is written at once, so that a process that dies
    has written what it said: that is also the cheapest. Else lines wait for a thread that can, and
    to a terminal they always do. One that cannot be written at all, as to a full disk, is lost, for
    no call is to fail by it.
    """

    def __init__(self, stream: TextIO, tell_lost: Callable[[int], bytes]) -> None:
        """Write to `stream`; `tell_lost` makes the line that says how many were lost."""
        self._stream = stream
        self._tell_lost = tell_lost
        # The garbage collector may have something to say while a line is being written.
        self._lock = threading.RLock()
        self._caught_up = threading.Condition(self._lock)
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._behind = False
        """Whether a thread is writing what waits."""
        self._untold = 0
        self.lost = 0
        """How many lines nobody will read, since the start."""
        try:
            self._number = stream.fileno()
            self._is_file = stat.S_ISREG(os.fstat(self._number).st_mode)
            self._at_once = 0 if os.isatty(self._number) else WAITS_NEVER
        except (OSError, ValueError):
            self._number = -1  # text in memory
            self._is_file = False
        else:
            self._room = select.poll()
            self._room.register(self._number, select.POLLOUT)

    def msg(self, line: bytes) -> None:
        """Take one more line."""
        line += b"\n"
        with self._lock:
            if rest := line if self._behind or self._waiting else self._write_now(line):
                self._put(rest)

    def many(self, lines: Sequence[bytes]) -> None:
        """Take more lines; what can be written at once takes as few writes as can be."""
        if self._is_file and lines:
            self.msg(b"\n".join(lines))
        else:
            for line in lines:
                self.msg(line)

    debug = info = warning = error = critical = exception = msg

    def problem(self) -> str | None:
        """Return, in a few words, what is wrong with the log; None: nothing."""
        if self._waiting:
            return f"nobody reads it: {len(self._waiting)} lines wait, {self.lost} are lost"
        return f"{self.lost} lines are lost: they could not be written" if self.lost else None

    def flush(self, seconds: float = FLUSH_TIME) -> None:
        """Wait until all that waits has been written, or the time is up."""
        with self._lock:
            self._caught_up.wait_for(lambda: not self._behind, seconds)

    def _write_now(self, line: bytes) -> bytes:
        """Write of a line what takes no waiting, and return the rest of it."""
        try:
            if self._number < 0:
                self._stream.write(line.decode())
            elif self._is_file:
                _write_all(self._number, line)
            elif len(line) > self._at_once or not self._room.poll(0):
                return line
            else:
                return line[os.write(self._number, line) :]
        except BlockingIOError:  # somebody who shares the stream has it so
            return line
        except (OSError, ValueError):
            self.lost += line.count(b"\n")
        return b""

    def _put(self, line: bytes) -> None:
        if self._size + len(line) > MOST_WAITING:
            self.lost += 1
            self._untold += 1
            return
        self._tell()
        self._append(line)
        if not self._behind:
            self._behind = True
            try:
                threading.Thread(target=self._write_waiting, name="log", daemon=True).start()
            except RuntimeError:  # there are too many: the next line tries again
                self._behind = False

    def _tell(self) -> None:
        if self._untold:
            self._append(self._tell_lost(self._untold) + b"\n")
            self._untold = 0

    def _append(self, line: bytes) -> None:
        self._waiting.append(line)
        self._size += len(line)

    def _write_waiting(self) -> None:
        """Write what waits, as slowly as it is read; the thread's whole life."""
        while True:
            with self._lock:
                if not self._waiting:
                    self._tell()
                if not self._waiting:
                    self._behind = False
                    self._caught_up.notify_all()
                    return
                line = self._waiting.popleft()
                self._size -= len(line)
            try:
                _write_all(self._number, line)
            except OSError:
                self.lost += 1


def _write_all(number: int, line: bytes) -> None:
    while line:
        try:
            line = line[os.write(number, line) :]
        except BlockingIOError:
            room = select.poll()
            room.register(number, select.POLLOUT)
            room.poll()
