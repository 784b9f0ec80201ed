"""SQLite files as a stranger looks at them: without a write, a lock that lasts, or a file beside.

What is in the journal or the translation log is not known here.
"""

import errno
import fcntl
import os
import sqlite3
import stat
import struct
from pathlib import Path
from typing import BinaryIO

_GETLK: int | None = getattr(fcntl, "F_OFD_GETLK", None)

_FLOCK = "hhqqi4x"
"""A `struct flock`."""


def read_only(path: Path) -> sqlite3.Connection:
    """Open an SQLite file, whether or not a program has it open, and whatever that left beside it.

    Without a `-wal`, nobody has it open, and it is read as it is: to SQLite, `immutable`. With one,
    SQLite reads both, and makes no `-shm` (its `readonly_shm`).

    Raises:
        OSError: there is no such file, or it cannot be read.
        sqlite3.Error: it is no database.
    """
    _open(path).close()
    real = path.resolve()
    how = "readonly_shm=1" if real.with_name(f"{real.name}-wal").exists() else "immutable=1"
    connection = sqlite3.connect(
        f"{real.as_uri()}?mode=ro&{how}", uri=True, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection


def _open(path: Path) -> BinaryIO:
    mode = path.stat().st_mode
    # To open a pipe would be to wait for a writer.
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return path.open("rb")


def is_held(path: Path, byte: int) -> bool:
    """Tell whether some process holds a lock on a byte of a file; takes none (Linux, fcntl(2)).

    The file must not be open in this process: to close it here would drop locks.
    """
    if _GETLK is None:
        return False
    with _open(path) as file:
        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
        held, *_ = struct.unpack(_FLOCK, fcntl.fcntl(file, _GETLK, asked))
    return bool(held != fcntl.F_UNLCK)


def is_writable(path: Path) -> bool:
    """Tell whether this user may write to a file, or make it where there is none."""
    return os.access(path if path.exists() else path.parent, os.W_OK)
