"""Edits of the credential book: one credential at a time, atomic, with its comments left in place.

What a book may say is in `bridge.identity.book`, which also reads every edit before it counts.
"""

import fcntl
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import tomlkit

from bridge.identity.book import (
    BOOK_LIMIT,
    BookError,
    Row,
    login_key,
    parse,
    read_private,
    subdomain_key,
    written,
    wrong_credential,
)

_HEADER = "# The credential book of harvest-bridge. `harvest-bridge credentials` edits it.\n"

_CREDENTIAL = re.compile(
    r"(?P<comment>(?:^[ \t]*#.*\n)*)"
    r"(?P<lines>^[ \t]*\[\[.*(?:\n|\Z)(?:(?:[ \t\r]*(?:#.*)?\n)*[ \t]*[^\s#\[].*(?:\n|\Z))*)",
    re.MULTILINE,
)
"""A credential from `[[credential]]` to its last field, and the comment that stands right above it.

Blank lines and comments below its last field belong to what comes after.
"""


def add(path: Path, row: Row, *, replace: bool = False) -> bool:
    """Write a credential at the end of the book, or with `replace` in the place of the old one.

    A book that does not exist is made. Returns whether an old one was replaced.

    Raises:
        BookError: the pair is in the book already, the book cannot be read or written, or it would
            not be one afterwards.
    """
    with _editing(path) as book:
        position = book.position(row.pair)
        if position is None:
            lines = _changed("[[credential]]\n", row)
            book.write(f"{_ended(book.text)}\n{lines}", (*book.rows, row))
            return False
        if not replace:
            there, what = book.rows[position], "it is in the book already"
            raise wrong_credential(path, position + 1, what, there.subdomain, there.login)
        old = book.credential(position)
        lines = _changed(old["lines"], row)
        text = book.text[: old.start("lines")] + lines + book.text[old.end() :]
        book.write(text, (*book.rows[:position], row, *book.rows[position + 1 :]))
        return True


def remove(path: Path, subdomain: str, login: str) -> None:
    """Take a credential out of the book, with the comment that stands right above it.

    Raises:
        BookError: it is not in the book, or the book cannot be read or written.
    """
    with _editing(path) as book:
        position = book.position((subdomain_key(subdomain), login_key(login)))
        if position is None:
            raise BookError(f"{path}: it has no credential of this subdomain and login")
        old = book.credential(position)
        # At the very top of a file, a comment speaks of the whole of it.
        before = book.text[: old.start() or old.start("lines")]
        after = book.text[old.end() :]
        if not before.strip() or before.endswith(("\n\n", "\r\n\r\n")):
            after = after.lstrip("\r\n")  # one blank line is enough between the two
        text = before + after if after else _ended(before.rstrip("\r\n"))
        rows = (*book.rows[:position], *book.rows[position + 1 :])
        book.write(text if text.strip() else _HEADER, rows)


@dataclass(frozen=True, slots=True)
class _OpenBook:
    """A book while nobody else edits it."""

    path: Path
    """Its own, not that of a link to it."""
    directory: int
    """A handle of the directory that it is in."""
    text: str = _HEADER
    rows: tuple[Row, ...] = ()
    status: os.stat_result | None = None
    """Whose it is, and its mode; None for a book that does not exist yet."""

    def position(self, pair: tuple[str, str]) -> int | None:
        return next((index for index, row in enumerate(self.rows) if row.pair == pair), None)

    def credential(self, position: int) -> re.Match[str]:
        """Return where a credential is in the text."""
        found = list(_CREDENTIAL.finditer(self.text))
        if len(found) != len(self.rows):
            raise _not_editable(self.path)
        return found[position]

    def write(self, text: str, expected: tuple[Row, ...]) -> None:
        """Put `text` in the book's place, if it reads as what is expected.

        After a crash, the file is the old one or the new one, whole.
        """
        octets = text.encode("utf-8")
        if parse(self.path, octets) != expected:
            raise _not_editable(self.path)
        handle, name = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.path.parent)
        with os.fdopen(handle, "wb") as file, ExitStack() as cleaning:
            cleaning.callback(Path(name).unlink)
            if self.status is not None:
                # Whoever could read the book has to be able to read it again.
                os.fchown(handle, self.status.st_uid, self.status.st_gid)
                os.fchmod(handle, stat.S_IMODE(self.status.st_mode))
            file.write(octets)
            file.flush()
            os.fsync(handle)
            Path(name).replace(self.path)
            cleaning.pop_all()
        os.fsync(self.directory)


@contextmanager
def _editing(path: Path) -> Iterator[_OpenBook]:
    """Read a book to edit it, and let no other edit in between.

    The lock is one on its directory, which unlike the book is never replaced, and needs no file
    of its own to be left behind. It binds those who ask for it, as this module does.
    """
    real = path.resolve()
    try:
        directory = os.open(real.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            if real.exists():
                status = real.stat()
                octets = read_private(real, BOOK_LIMIT)
                rows = parse(real, octets)
                yield _OpenBook(real, directory, octets.decode("utf-8"), rows, status)
            else:
                yield _OpenBook(real, directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise BookError(f"{path}: {error.strerror}") from None


def _not_editable(path: Path) -> BookError:
    return BookError(f"{path}: to be edited, each credential must begin with [[credential]]")


def _changed(lines: str, row: Row) -> str:
    """Change the lines of one credential: the comments on them stay."""
    document = tomlkit.parse(lines)
    table = document["credential"][0]
    fields = written(row)
    for name in [name for name in table if name not in fields]:
        table.remove(name)
    table.update(fields)
    return _ended(document.as_string())


def _ended(text: str) -> str:
    return text if not text or text.endswith("\n") else f"{text}\n"
