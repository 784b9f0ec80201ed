"""What a file looks like from the outside, to tell whether it has changed. Nothing is read here."""

import os
from pathlib import Path

Signature = tuple[int, ...]
"""What changes when a file does: its identity, mode, owner, size and times."""


def signature(path: Path) -> Signature | None:
    """Return the signature of the file that `path` leads to, None when there is none to be seen."""
    try:
        return signature_of(path.stat())
    except OSError:
        return None


def signature_of(status: os.stat_result) -> Signature:
    """Return the signature that goes with a file's status."""
    return (
        status.st_dev,
        status.st_ino,
        status.st_mode,
        status.st_uid,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )
