"""Files that hold secrets: who may have access to them, as Kubernetes and systemd mount them too.

What is in them, and whether they have changed, is not known here.
"""

import os
import shlex
import stat
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import NamedTuple

_READ = 0o4

_ROOT = 0


class UnusableFile(Exception):
    """A file with a secret cannot be used; `str()` is one line for the operator: path and why."""


def read_private(path: Path, limit: int) -> bytes:
    """Return the bytes, at most `limit`, of a file that `exposure` finds nothing wrong with.

    Raises:
        OSError: it cannot be read.
        UnusableFile: others have access to it, it is too long, or it changes meanwhile.
    """
    # Not to wait for a writer, should it be a pipe.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        before = os.fstat(handle)
        if problem := _exposure(path, handle, before):
            raise UnusableFile(problem)
        with os.fdopen(handle, "rb", closefd=False) as file:
            octets = file.read(limit + 1)
        after = os.fstat(handle)
    finally:
        os.close(handle)
    # Not all of the status: being replaced by another file changes this one's, too.
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise UnusableFile(f"{path}: it changed while it was read")
    if len(octets) > limit:
        raise UnusableFile(f"{path}: it has more than {limit} bytes")
    return octets


def exposure(path: Path) -> str | None:
    """Return who else has access to a file with a secret, and the command that ends it; else None.

    It may belong to this process's user or to root. Besides these, it may be read, and no more, by
    a group that the process is in: Kubernetes mounts secrets so for `fsGroup` (0440, through links,
    which are followed). systemd gives a service its credentials by an access control list that
    names the service's user; `stat` shows what such a list grants at most as if it were the group's
    (acl(5)), so the list itself is looked at. To root it does not matter whose the file is: its
    commands read books of others.

    Raises:
        OSError: it cannot be looked at.
    """
    return _exposure(path, path, path.stat())


def _exposure(path: Path, file: int | Path, status: os.stat_result) -> str | None:
    """Judge a file, open or not, whose status has been looked at."""
    if not stat.S_ISREG(status.st_mode):
        return f"{path}: it is not a regular file"
    entries = tuple(_access_control_list(file))
    user = os.geteuid()
    if status.st_mode & stat.S_IRWXO:
        problem = "everybody on this machine has access to it"
    elif user != _ROOT and status.st_uid not in {_ROOT, user}:
        problem = f"it belongs to user {status.st_uid}, not to root or the bridge's own, {user}"
    else:
        grants = _beyond_the_owner(status, entries)
        problem = next(filter(None, map(_objection, grants)), "")
    return f"{path}: {problem}: {_remedy(path, status, bool(entries))}" if problem else None


class _Tag(Enum):
    """Whom an entry of an access control list is for (Linux, `posix_acl_xattr.h`)."""

    OWNER = 0x01
    USER = 0x02
    OWNING_GROUP = 0x04
    GROUP = 0x08
    MASK = 0x10
    OTHERS = 0x20


class _Entry(NamedTuple):
    tag: _Tag
    rights: int
    """Read 4, write 2, execute 1."""
    whose: int
    """The number of the user or group, where the tag is for one."""


def _access_control_list(file: int | Path) -> Iterator[_Entry]:
    """Yield the entries of the file's list beyond its mode, none where it has none."""
    if sys.platform != "linux":  # elsewhere, what a list grants does not show in the mode
        return
    # Without a list, or where the file system knows of none.
    with suppress(OSError):
        octets = os.getxattr(file, "system.posix_acl_access")
        # Behind the version, 2.
        for tag, rights, whose in struct.iter_unpack("<HHI", octets[4:]):
            yield _Entry(_Tag(tag), rights, whose)


def _beyond_the_owner(status: os.stat_result, entries: tuple[_Entry, ...]) -> Iterator[_Entry]:
    """Yield what is granted to users and groups by a file's mode, or by its list if it has one."""
    group = _Entry(_Tag.OWNING_GROUP, (status.st_mode & stat.S_IRWXG) >> 3, status.st_gid)
    if not entries:
        yield group
    # With a list, those bits of the mode are its mask.
    mask = group.rights
    for entry in entries:
        if entry.tag is _Tag.OWNING_GROUP:
            yield group._replace(rights=entry.rights & mask)
        elif entry.tag in {_Tag.USER, _Tag.GROUP}:
            yield entry._replace(rights=entry.rights & mask)


def _objection(grant: _Entry) -> str | None:
    """Return what is wrong with a grant, None if nothing is."""
    _, rights, whose = grant
    if grant.tag is _Tag.USER:
        ours = whose in {_ROOT, os.geteuid()}
        return None if ours or not rights else f"user {whose} has access to it"
    if rights & ~_READ:
        return f"group {whose} may do more to it than read"
    if rights and whose not in {os.getegid(), *os.getgroups()}:
        return f"group {whose} can read it, which the bridge is not in"
    return None


def _remedy(path: Path, status: os.stat_result, has_list: bool) -> str:
    name = shlex.quote(str(path))
    if os.geteuid() in {_ROOT, status.st_uid}:
        # Where there is a list, that takes away all that it grants.
        return f"chmod 600 {name}"
    ends_list = f"setfacl -b {name} && " if has_list else ""
    return f"{ends_list}chown root:{os.getegid()} {name} && chmod 640 {name}"
