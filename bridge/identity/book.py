"""The credential book: which v2 token and account answer for a v1 login, in a TOML file.

Here it is read, whole or not at all. Editing it is `bridge.identity.book_editing`'s business,
noticing that it has changed `book_keeper`'s, and judging a password that of `passwords`.
"""

import base64
import binascii
import os
import re
import shlex
import stat
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, NamedTuple

import msgspec

from bridge.identity.credentials import TOKEN_LIMIT, is_token
from bridge.secret import Secret
from bridge.signatures import Signature, signature, signature_of
from bridge.v1.dialects import Dialect

BOOK_LIMIT = 16 * 1024 * 1024
"""The most bytes that a book may have."""

_OTHERS = 0o077
"""The permission bits of group and others."""


class BookError(Exception):
    """A book that cannot be used, or an edit of it that cannot be made.

    `str()` is one line for the operator: the file, the credential and what is wrong with it; never
    a password, a hash or a token.
    """

    def __init__(self, message: str) -> None:
        super().__init__(_one_line(message))


class WrongField(Exception):
    """A field of a credential is missing, unknown or makes no sense; `str()` does not quote it."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}" if name else message)
        self.name = name
        self.message = message


class Source(StrEnum):
    """Where a token is kept, since it is not in the book."""

    ENVIRONMENT = "env"
    FILE = "file"


class TokenReference(NamedTuple):
    """Where the token of a credential is: `env:ACME_TOKEN` or `file:/run/secrets/acme`."""

    source: Source
    name: str

    def __str__(self) -> str:
        return f"{self.source}:{self.name}"


class Cost(NamedTuple):
    """What an Argon2id hash costs to verify (RFC 9106, section 3.1)."""

    memory: int
    """KiB."""
    passes: int
    lanes: int
    salt_length: int
    """Bytes."""
    tag_length: int
    """Bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A credential as it is written: what the token is has not been looked up."""

    subdomain: str
    """In lower case."""
    login: str
    """As it was written."""
    password_hash: Secret
    """Argon2id, in the form `$argon2id$v=19$…`."""
    cost: Cost
    account_id: int
    reference: TokenReference
    dialect: Dialect | None = None
    """The dialect to answer in, whatever the path says."""
    label: str | None = None

    @property
    def pair(self) -> tuple[str, str]:
        """What the credential is found by."""
        return subdomain_key(self.subdomain), login_key(self.login)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry(Row):
    """A credential that can be used."""

    token: Secret


def subdomain_key(subdomain: str) -> str:
    """Return what two spellings of one subdomain share: host names know no case (RFC 4343)."""
    return subdomain.strip().lower()


def login_key(login: str) -> str:
    """Return what two spellings of one login share.

    v1's logins are e-mail addresses, and people type them in any case and with blanks around them.
    No mail provider of note tells apart `Jane@acme.example` and `jane@acme.example`, so neither
    does the book.
    """
    return unicodedata.normalize("NFC", login.strip().casefold())


# One credential.


class _Fields(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The fields of a `[[credential]]`, by type."""

    subdomain: str
    login: str
    password: str
    account_id: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
    token: str
    dialect: str | None = None
    label: str | None = None


_COMPLAINT = re.compile(r"(?P<what>.*?)(?: - at `\$\.?(?P<where>[^`]*)`)?", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)


def read_row(fields: Mapping[str, object]) -> Row:
    """Return the credential that `fields` spell, by the names that they have in the file.

    Raises:
        WrongField: one is missing, unknown or makes no sense.
    """
    try:
        written = msgspec.convert(dict(fields), _Fields, strict=True)
    except msgspec.ValidationError as error:
        raise _wrong_field(str(error)) from None
    return Row(
        subdomain=_subdomain(written.subdomain),
        login=_login(written.login),
        password_hash=Secret(written.password),
        cost=_cost(written.password),
        account_id=written.account_id,
        reference=_reference(written.token),
        dialect=_dialect(written.dialect),
        label=_label(written.label),
    )


def _wrong_field(complaint: str) -> WrongField:
    if missing := _MISSING.fullmatch(complaint):
        return WrongField(missing[1], "must be given")
    if _UNKNOWN.fullmatch(complaint):
        # Its name is not told: it may be a secret that has lost its place.
        known = ", ".join(field.name for field in msgspec.structs.fields(_Fields))
        return WrongField("", f"it has a field that is none of {known}")
    match = _COMPLAINT.fullmatch(complaint)
    what, where = (match["what"], match["where"]) if match else (complaint, None)
    return WrongField(where or "", what[:1].lower() + what[1:])


_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


def _subdomain(text: str) -> str:
    key = subdomain_key(text)
    if not _LABEL.fullmatch(key):
        raise WrongField(
            "subdomain",
            "must be what stands before the first dot of the host name: acme for "
            "acme.harvestapp.com",
        )
    return key


def _login(text: str) -> str:
    login = text.strip()
    # RFC 7617, section 2: a colon ends the login, so none can be in it.
    if not login or not login.isprintable() or ":" in login or len(login) > 320:
        raise WrongField(
            "login", "must be printable, without a colon, and of 1 to 320 characters (RFC 7617)"
        )
    return login


_HASH = re.compile(
    r"\$argon2id\$v=19\$m=(?P<memory>[1-9][0-9]{0,9}),t=(?P<passes>[1-9][0-9]{0,9}),"
    r"p=(?P<lanes>[1-9][0-9]{0,9})\$(?P<salt>[A-Za-z0-9+/]{11,86})\$(?P<tag>[A-Za-z0-9+/]{22,171})"
)
_MOST_MEMORY, _MOST_PASSES, _MOST_LANES = 1024 * 1024, 64, 64


def _cost(text: str) -> Cost:
    """Read an encoded hash's parameters; what passes is a hash that Argon2 will not refuse.

    The upper bounds, 1 GiB, 64 passes and 64 lanes, are far above RFC 9106's advice: a slip of the
    pen in the book must not take the machine down.
    """
    match = _HASH.fullmatch(text)
    salt, tag = (_base64(match["salt"]), _base64(match["tag"])) if match else (None, None)
    if match is None or salt is None or tag is None:
        raise WrongField(
            "password",
            "must be an Argon2id hash ($argon2id$v=19$…), as `harvest-bridge credentials add` "
            "writes it",
        )
    cost = Cost(int(match["memory"]), int(match["passes"]), int(match["lanes"]), salt, tag)
    if cost.memory > _MOST_MEMORY or cost.passes > _MOST_PASSES or cost.lanes > _MOST_LANES:
        raise WrongField("password", "costs more than m=1048576,t=64,p=64 to verify")
    if cost.memory < 8 * cost.lanes:
        raise WrongField("password", "has an m below 8 times its p (RFC 9106, section 3.1)")
    return cost


def _base64(text: str) -> int | None:
    """Return how many bytes `text` stands for in unpadded base64, or None when it is not that."""
    try:
        octets = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        return None
    canonical = base64.b64encode(octets).rstrip(b"=").decode() == text
    return len(octets) if canonical else None


_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _reference(text: str) -> TokenReference:
    source, _, name = text.partition(":")
    if source == Source.ENVIRONMENT and _VARIABLE.fullmatch(name):
        return TokenReference(Source.ENVIRONMENT, name)
    if source == Source.FILE and name.startswith("/") and name.isprintable():
        return TokenReference(Source.FILE, name)
    raise WrongField("token", "must be env:NAME or file:/absolute/path; not the token itself")


def _dialect(text: str | None) -> Dialect | None:
    try:
        return None if text is None else Dialect(text)
    except ValueError:
        raise WrongField("dialect", f"must be {' or '.join(Dialect)}") from None


def _label(text: str | None) -> str | None:
    if text is not None and (not text.isprintable() or len(text) > 200):
        raise WrongField("label", "must be printable and of at most 200 characters")
    return text


# The book.


@dataclass(frozen=True, slots=True)
class Book:
    """Every credential, found by subdomain and login. Nothing of it ever changes."""

    entries: tuple[Entry, ...]
    accounts: Mapping[str, int] = field(init=False, repr=False, compare=False)
    """From each subdomain, in lower case, to its account id."""
    _by_pair: Mapping[tuple[str, str], Entry] = field(init=False, repr=False, compare=False)
    _logins: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        accounts = {entry.subdomain: entry.account_id for entry in self.entries}
        by_pair = {entry.pair: entry for entry in self.entries}
        object.__setattr__(self, "accounts", MappingProxyType(accounts))
        object.__setattr__(self, "_by_pair", MappingProxyType(by_pair))
        object.__setattr__(self, "_logins", frozenset(login for _, login in by_pair))

    def find(self, subdomain: str, login: str) -> Entry | None:
        """Return the credential of `login` at `subdomain`; case and outer blanks do not count."""
        return self._by_pair.get((subdomain_key(subdomain), login_key(login)))

    def knows(self, login: str) -> bool:
        """Tell whether `login` has a credential, at whatever subdomain."""
        return login_key(login) in self._logins

    @property
    def usual_cost(self) -> Cost | None:
        """What most of the book's hashes cost; None for a book without credentials."""
        costs = Counter(entry.cost for entry in self.entries).most_common(1)
        return costs[0][0] if costs else None


class PrivateFiles:
    """Reads files that only their owner may read, and remembers what they looked like then."""

    def __init__(self) -> None:
        self.seen: dict[Path, Signature | None] = {}
        """The signature that goes with the bytes that were read, or with the failure to."""

    def read(self, path: Path, limit: int) -> bytes:
        """Return the bytes of a file, at most `limit`.

        Raises:
            BookError: it cannot be read, is too long, or changes meanwhile; or group or others may
                do anything to it.
        """
        self.seen[path] = signature(path)
        try:
            # Not to wait for a writer, should it be a pipe.
            handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            try:
                before = os.fstat(handle)
                self.seen[path] = signature_of(before)
                _require_private(path, before)
                with os.fdopen(handle, "rb", closefd=False) as file:
                    octets = file.read(limit + 1)
                after = os.fstat(handle)
            finally:
                os.close(handle)
        except OSError as error:
            raise BookError(f"{path}: {error.strerror}") from None
        # Not the whole signature: being replaced by another file changes this one's status too.
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise BookError(f"{path}: it changed while it was read")
        if len(octets) > limit:
            raise BookError(f"{path}: it has more than {limit} bytes")
        return octets


def _require_private(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise BookError(f"{path}: it is not a regular file")
    if status.st_mode & _OTHERS:
        raise BookError(
            f"{path}: others than its owner have access to it: chmod 600 {shlex.quote(str(path))}"
        )


def load(path: Path, environ: Mapping[str, str], files: PrivateFiles | None = None) -> Book:
    """Read the book at `path` and every token that it refers to.

    Raises:
        BookError: the book, a credential in it or a token cannot be used.
    """
    files = files or PrivateFiles()
    tokens: dict[TokenReference, Secret] = {}
    entries = []
    for position, row in enumerate(read_rows(path, files), 1):
        if row.reference not in tokens:
            try:
                tokens[row.reference] = _token(row.reference, environ, files)
            except (WrongField, BookError) as error:
                raise BookError(f"{path}: {describe(position, row)}: token: {error}") from None
        entries.append(_entry(row, tokens[row.reference]))
    return Book(tuple(entries))


def read_rows(path: Path, files: PrivateFiles | None = None) -> tuple[Row, ...]:
    """Read the credentials of the book at `path`, in its order, without looking up a token.

    Raises:
        BookError: the book or a credential in it cannot be used.
    """
    return parse(path, (files or PrivateFiles()).read(path, BOOK_LIMIT))


def parse(path: Path, octets: bytes) -> tuple[Row, ...]:
    """Read the credentials in `octets`, which is what the book at `path` holds.

    A book of no bytes at all is refused: that is what a writer leaves that was cut short. A book
    without credentials has a comment that says so.

    Raises:
        BookError: they are no book, or a credential in it cannot be used.
    """
    rows: list[Row] = []
    pairs: dict[tuple[str, str], int] = {}
    accounts: dict[str, tuple[int, int]] = {}
    for position, fields in enumerate(_tables(path, octets), 1):
        try:
            row = read_row(fields)
        except WrongField as error:
            raise BookError(f"{path}: {describe(position, fields)}: {error}") from None
        earlier = pairs.setdefault(row.pair, position)
        account, other = accounts.setdefault(row.subdomain, (row.account_id, position))
        if earlier != position:
            raise BookError(
                f"{path}: {describe(position, row)}: credential {earlier} has this subdomain and "
                "login already"
            )
        if account != row.account_id:
            raise BookError(
                f"{path}: {describe(position, row)}: account_id: {row.account_id}, where "
                f"credential {other} has {account} for the same subdomain"
            )
        rows.append(row)
    return tuple(rows)


def _tables(path: Path, octets: bytes) -> list[Mapping[str, object]]:
    if not octets.strip():
        raise BookError(f"{path}: it is empty")
    try:
        document = tomllib.loads(octets.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise BookError(f"{path}: byte {error.start} is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise BookError(f"{path}: it is not TOML {_where(str(error))}") from None
    except RecursionError:
        raise BookError(f"{path}: it is nested too deeply") from None
    if document.keys() - {"credential"}:
        raise BookError(f"{path}: only [[credential]] may stand in a book, nothing beside it")
    tables = document.get("credential", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise BookError(f"{path}: each credential must begin with [[credential]]")
    return tables


def _where(complaint: str) -> str:
    """Keep the place of a complaint only: its words may quote what the file holds."""
    place = re.search(r"\((at [^()]*)\)$", complaint)
    return place[1] if place else ""


def describe(position: int, credential: Row | Mapping[str, object]) -> str:
    """Return what an operator knows a credential by: its place, and its pair if that is text."""
    if isinstance(credential, Row):
        pair: Iterable[object] = (credential.subdomain, credential.login)
    else:
        pair = (credential.get("subdomain"), credential.get("login"))
    known = [each[:80] for each in pair if isinstance(each, str) and each]
    return f"credential {position} ({', '.join(known)})" if known else f"credential {position}"


def _entry(row: Row, token: Secret) -> Entry:
    return Entry(
        subdomain=row.subdomain,
        login=row.login,
        password_hash=row.password_hash,
        cost=row.cost,
        account_id=row.account_id,
        reference=row.reference,
        dialect=row.dialect,
        label=row.label,
        token=token,
    )


def read_token(text: str, environ: Mapping[str, str]) -> Secret:
    """Return the token that a reference, such as a book's, leads to.

    Raises:
        WrongField: `text` is no reference.
        BookError: what it names holds no token.
    """
    return _token(_reference(text), environ, PrivateFiles())


def _token(reference: TokenReference, environ: Mapping[str, str], files: PrivateFiles) -> Secret:
    """Look up a token; a file may end in a newline."""
    if reference.source is Source.ENVIRONMENT:
        place = f"the environment variable {reference.name}"
        text = environ.get(reference.name, "")
        if not text:
            raise BookError(f"{place} is not set, or empty")
    else:
        place = reference.name
        octets = files.read(Path(reference.name), TOKEN_LIMIT + 2)
        text = octets.decode("iso-8859-1").removesuffix("\n").removesuffix("\r")
        if not text:
            raise BookError(f"{place}: it is empty")
    if not is_token(text):
        raise BookError(
            f"{place} holds no token: that is printable ASCII without blanks, "
            f"{TOKEN_LIMIT} characters at most"
        )
    return Secret(text)


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
