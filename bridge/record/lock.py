"""The lock that makes a journal one bridge's. What is in a journal is not known here."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Beside the journal, not on it: SQLite has locks of its own on the file, and closing any handle of
# it would drop them.
_SUFFIX = "-lock"


def is_locked(path: Path) -> bool:
    """Tell whether somebody holds the lock of the journal at `path`; makes no file.

    Raises:
        OSError: the file beside the journal cannot be opened.
    """
    try:
        handle = os.open(_lock_file(path), os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not _lock(handle)
    finally:
        os.close(handle)


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold the lock of the journal at `path` for the block; yields whether it was free.

    The system drops it with the process, whatever ends that.

    Raises:
        OSError: the file beside the journal cannot be made.
    """
    handle = os.open(_lock_file(path), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield _lock(handle)
    finally:
        os.close(handle)


def _lock_file(path: Path) -> Path:
    real = path.resolve()
    return real.with_name(f"{real.name}{_SUFFIX}")


def _lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
