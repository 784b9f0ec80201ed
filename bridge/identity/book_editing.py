"""Edits of the credential book: one credential at a time, atomic, with its comments left in place.

What a book may say is in `bridge.identity.book`, which also reads every edit before it counts.
"""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT

from bridge.identity.book import (
    BOOK_LIMIT,
    BookError,
    PrivateFiles,
    Row,
    describe,
    login_key,
    parse,
    subdomain_key,
)

_HEADER = "# The credential book of harvest-bridge. `harvest-bridge credentials` edits it.\n"


def add(path: Path, row: Row, *, replace: bool = False) -> bool:
    """Write a credential at the end of the book, or with `replace` in the place of the old one.

    A book that does not exist is made. Returns whether an old one was replaced.

    Raises:
        BookError: the pair is in the book already, the book cannot be read or written, or it would
            not be one afterwards.
    """
    with _editing(path) as edit:
        position = _position(edit.rows, row.pair)
        if position is None:
            expected = (*edit.rows, row)
            text = f"{_ended(edit.text)}\n{_block(row)}"
        elif not replace:
            raise BookError(
                f"{path}: {describe(position + 1, edit.rows[position])}: it is in the book already"
            )
        else:
            expected = (*edit.rows[:position], row, *edit.rows[position + 1 :])
            text = _replaced(edit, position, row)
        edit.write(text, expected)
    return position is not None


def remove(path: Path, subdomain: str, login: str) -> None:
    """Take a credential out of the book, with the comment that stands right above it.

    Raises:
        BookError: it is not in the book, or the book cannot be read or written.
    """
    with _editing(path) as edit:
        position = _position(edit.rows, (subdomain_key(subdomain), login_key(login)))
        if position is None:
            raise BookError(f"{path}: it has no credential of this subdomain and login")
        before, _, after = _split(edit, position)
        kept = _joined(_without_last_comment(before), after)
        text = kept if kept.strip() else _HEADER
        edit.write(text, (*edit.rows[:position], *edit.rows[position + 1 :]))


def _position(rows: tuple[Row, ...], pair: tuple[str, str]) -> int | None:
    return next((index for index, row in enumerate(rows) if row.pair == pair), None)


@dataclass(frozen=True, slots=True)
class _Edit:
    """A book while nobody else edits it."""

    path: Path
    """Its own, not that of a link to it."""
    text: str
    rows: tuple[Row, ...]
    status: os.stat_result | None
    """None for a book that does not exist yet."""

    def write(self, text: str, expected: tuple[Row, ...]) -> None:
        """Put `text` in the book's place, if it reads as what is expected."""
        octets = text.encode("utf-8")
        if parse(self.path, octets) != expected:
            raise _not_editable(self.path)
        _write(self.path, octets, self.status)


@contextmanager
def _editing(path: Path) -> Iterator[_Edit]:
    """Read a book to edit it, and let no other edit in between.

    The lock is one on its directory, which unlike the book is never replaced, and needs no file
    of its own to be left behind. It binds those who ask for it, as this module does.
    """
    real = path.resolve()
    try:
        with _locked(real.parent):
            status = real.stat() if real.exists() else None
            if status is None:
                yield _Edit(real, _HEADER, (), None)
            else:
                octets = PrivateFiles().read(real, BOOK_LIMIT)
                rows = parse(real, octets)
                yield _Edit(real, octets.decode("utf-8"), rows, status)
    except OSError as error:
        raise BookError(f"{path}: {error.strerror}") from None


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _write(path: Path, octets: bytes, status: os.stat_result | None) -> None:
    """Replace the file at `path`; after a crash it is the old one or the new one, whole."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            if status is not None and status.st_uid != os.geteuid():
                # Whoever owns the book has to be able to read it again.
                os.fchown(handle, status.st_uid, status.st_gid)
            file.write(octets)
            file.flush()
            os.fsync(handle)
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _fields(row: Row) -> dict[str, object]:
    written = {
        "subdomain": row.subdomain,
        "login": row.login,
        "password": row.password_hash.reveal(),
        "account_id": row.account_id,
        "token": str(row.reference),
        "dialect": None if row.dialect is None else str(row.dialect),
        "label": row.label,
    }
    return {name: value for name, value in written.items() if value is not None}


def _block(row: Row) -> str:
    table = tomlkit.table()
    for name, value in _fields(row).items():
        table.add(name, value)
    tables = tomlkit.aot()
    tables.append(table)
    document = tomlkit.document()
    document.add("credential", tables)
    return document.as_string()


def _replaced(edit: _Edit, position: int, row: Row) -> str:
    """Change one credential in place: the comments on its lines stay."""
    before, block, after = _split(edit, position)
    document = tomlkit.parse(block)
    table = document["credential"][0]
    fields = _fields(row)
    for name in [name for name in table if name not in fields]:
        table.remove(name)
    table.update(fields)
    return before + _ended(document.as_string()) + after


def _split(edit: _Edit, position: int) -> tuple[str, str, str]:
    """Return what stands before a credential, its own lines, and what comes after them.

    Blank lines and comments below its last line belong to what comes after.
    """
    try:
        document = tomlkit.parse(edit.text)
        tables = document["credential"]
        if not isinstance(tables, AoT):
            raise _not_editable(edit.path)
        del tables[position + 1 :]
        end = len(document.as_string())
        if position:
            del tables[position]
        else:
            document.remove("credential")
        start = len(document.as_string())
    except TOMLKitError:
        raise _not_editable(edit.path) from None
    lines = edit.text[start:end].splitlines(keepends=True)
    while lines and (not lines[-1].strip() or lines[-1].lstrip().startswith("#")):
        end -= len(lines.pop())
    return edit.text[:start], edit.text[start:end], edit.text[end:]


def _not_editable(path: Path) -> BookError:
    return BookError(f"{path}: to be edited, each credential must begin with [[credential]]")


def _without_last_comment(text: str) -> str:
    """Drop the comment lines at the end of `text`, unless a blank line sets them apart."""
    lines = text.splitlines(keepends=True)
    comment = len(lines)
    while comment and lines[comment - 1].lstrip().startswith("#"):
        comment -= 1
    # At the very top of a file, a comment speaks of the whole of it.
    return "".join(lines[:comment] if comment else lines)


def _joined(before: str, after: str) -> str:
    """Put together what stood around a credential; one blank line is enough between them."""
    if not before.strip() or before.endswith(("\n\n", "\r\n\r\n")):
        after = after.lstrip("\r\n")
    return before + after if after else _ended(before.rstrip("\r\n"))


def _ended(text: str) -> str:
    return text if not text or text.endswith("\n") else f"{text}\n"
