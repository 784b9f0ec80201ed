"""The credential book: which v2 token and account answer for a v1 login, in a TOML file.

Here it is read, whole or not at all. Editing it is `bridge.identity.book_editing`'s business,
noticing that it has changed `book_keeper`'s, and judging a password that of `passwords`.
"""

import re
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple

import msgspec
from argon2 import extract_parameters

from bridge.identity.credentials import TOKEN_LIMIT, is_token
from bridge.identity.files import Signatures, read_together, signature
from bridge.identity.hosts import LABEL
from bridge.private_file import UnusableFile
from bridge.private_file import read_private as read_private_file
from bridge.secret import Secret
from bridge.v1.dialects import Dialect

BOOK_LIMIT = 16 * 1024 * 1024
"""The most bytes that a book may have."""

LOGIN_LIMIT = 320
"""The most characters of a login: an e-mail address has no more (RFC 5321, section 4.5.3.1)."""


class BookError(Exception):
    """A book that cannot be used, or an edit of it that cannot be made.

    `str()` is one line for the operator: the file, the credential and what is wrong with it; never
    a password, a hash or a token.
    """

    def __init__(self, message: str, unnamed: str | None = None) -> None:
        super().__init__(_printable(message))
        self.unnamed = _printable(unnamed or message)
        """The same without whose credential it is, for a log."""


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in text)


class WrongField(Exception):
    """A field of a credential is missing, unknown or makes no sense; `str()` does not quote it."""


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


class Row(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    rename={"password_hash": "password", "reference": "token"},
):
    """A `[[credential]]` as it is written: what the token is has not been looked up."""

    subdomain: str
    """In lower case."""
    login: str
    """As it was written."""
    password_hash: Secret
    """Argon2id, in the form `$argon2id$v=19$…`."""
    account_id: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
    reference: str
    """Where the token is, which is not in the book: `env:ACME_TOKEN`, `file:/run/secrets/acme`."""
    dialect: Dialect | None = None
    """The dialect to answer in, whatever the path says."""
    label: str | None = None

    @property
    def pair(self) -> tuple[str, str]:
        """What the credential is found by."""
        return subdomain_key(self.subdomain), login_key(self.login)

    @property
    def cost(self) -> Cost:
        """What its hash costs."""
        read = extract_parameters(self.password_hash.reveal())
        lengths = read.salt_len, read.hash_len
        return Cost(read.memory_cost, read.time_cost, read.parallelism, *lengths)


class Entry(Row, frozen=True, kw_only=True, rename={"token": "looked_up"}):
    """A credential that can be used."""

    token: Secret


def subdomain_key(subdomain: str) -> str:
    """Return what two spellings of one subdomain share: host names know no case (RFC 4343)."""
    return subdomain.strip().lower()


def login_key(login: str) -> str:
    """Return what two spellings of one login share.

    v1's logins are e-mail addresses, and people type them in any case and with blanks around them.
    No mail provider of note tells apart `Jane@acme.example` and `jane@acme.example`, so neither
    does the book. What is longer than any login of the book is left as it is: to compose its marks
    (NFC) would take the square of their number.
    """
    if len(login) > LOGIN_LIMIT:
        return login
    return unicodedata.normalize("NFC", login.strip().casefold())


# One credential.


_BASE64 = "(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/][AQgw]|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048])?"
"""Without padding, and without stray bits in its last character (RFC 4648, section 3.5)."""

_COUNT = "[1-9][0-9]{0,9}"

_FORMS: Mapping[str, tuple[re.Pattern[str], str]] = {
    "subdomain": (
        re.compile(LABEL),
        "must be what stands before the first dot of the host name: acme for acme.harvestapp.com",
    ),
    # RFC 7617, section 2: a colon ends the login, so none can be in it.
    "login": (
        re.compile(rf"[^:]{{1,{LOGIN_LIMIT}}}"),
        f"must be printable, without a colon, and of 1 to {LOGIN_LIMIT} characters (RFC 7617)",
    ),
    "password": (
        re.compile(
            rf"\$argon2id\$v=19\$m={_COUNT},t={_COUNT},p={_COUNT}"
            rf"\$(?=[^$]{{11,86}}\$){_BASE64}\$(?=[^$]{{22,171}}\Z){_BASE64}"
        ),
        "must be an Argon2id hash ($argon2id$v=19$…), as `harvest-bridge credentials add` makes it",
    ),
    "token": (
        re.compile("env:[A-Za-z_][A-Za-z0-9_]*|file:/.*"),
        "must be env:NAME or file:/absolute/path; not the token itself",
    ),
    "label": (re.compile(".{0,200}"), "must be printable and of at most 200 characters"),
}
"""Of each field that is text: its form, in printable characters, and what is said of another."""


def read_row(given: Mapping[str, object]) -> Row:
    """Return the credential that these fields spell, by the names that they have in the file.

    What passes is a hash that Argon2 will not refuse. The upper bounds of what it costs, 1 GiB, 64
    passes and 64 lanes, are far above RFC 9106's advice: a slip of the pen in the book must not
    take the machine down.

    Raises:
        WrongField: one is missing, unknown or makes no sense.
    """
    try:
        row = msgspec.convert(dict(given), Row, dec_hook=_secret)
    except msgspec.ValidationError as error:
        raise _wrong_field(str(error)) from None
    subdomain, login = subdomain_key(row.subdomain), row.login.strip()
    row = msgspec.structs.replace(row, subdomain=subdomain, login=login)
    for name, value in written(row).items():
        if name in _FORMS:
            _require_form(name, value)
    cost = row.cost
    if cost.memory > 1024 * 1024 or cost.passes > 64 or cost.lanes > 64:
        raise WrongField("password: costs more than m=1048576,t=64,p=64 to verify")
    if cost.memory < 8 * cost.lanes:
        raise WrongField("password: has an m below 8 times its p (RFC 9106, section 3.1)")
    return row


def written(row: Row) -> dict[str, Any]:
    """Return the fields of a credential as they stand in the file."""
    fields: dict[str, Any] = msgspec.to_builtins(row, enc_hook=Secret.reveal)
    return fields


def _secret(_type: type, value: object) -> Secret:
    try:
        return Secret(msgspec.convert(value, str))
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None  # which gets the field's name


_WORD = re.compile("[A-Za-z_-]+")


def _wrong_field(complaint: str) -> WrongField:
    what, _, where = complaint.partition(" - at `$.")
    if missing := re.fullmatch("Object missing required field `(.*)`", what):
        return WrongField(f"{missing[1]}: must be given")
    # A name or a value is not told: it may be a secret that has lost its place; but not a word that
    # differs from a field's name in a letter or two.
    if unknown := re.fullmatch("Object contains unknown field `(.*)`", what, re.DOTALL):
        known = Row.__struct_encode_fields__
        if _WORD.fullmatch(unknown[1]) and (
            near := get_close_matches(unknown[1].lower(), known, 1, 0.75)
        ):
            return WrongField(f"{unknown[1]}: there is no such field: did you mean {near[0]}?")
        return WrongField(f"it has a field that is none of {', '.join(known)}")
    if what.startswith("Invalid enum value"):
        return WrongField(f"dialect: must be {' or '.join(Dialect)}")
    name = where.removesuffix("`")
    return WrongField(f"{name}: {what[:1].lower()}{what[1:]}")


def _require_form(name: str, text: str) -> None:
    form, complaint = _FORMS[name]
    if not (form.fullmatch(text) and text.isprintable()):
        raise WrongField(f"{name}: {complaint}")


# The book.


@dataclass(frozen=True, slots=True)
class Book:
    """Every credential, found by subdomain and login. Nothing of it ever changes."""

    entries: tuple[Entry, ...]
    accounts: Mapping[str, int] = field(init=False, repr=False, compare=False)
    """From each subdomain, in lower case, to its account id."""
    usual_cost: Cost | None = field(init=False, repr=False, compare=False)
    """What most of the book's hashes cost; None for a book without credentials."""
    _by_pair: Mapping[tuple[str, str], Entry] = field(init=False, repr=False, compare=False)
    _logins: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        accounts = {entry.subdomain: entry.account_id for entry in self.entries}
        costs = Counter(entry.cost for entry in self.entries).most_common(1)
        by_pair = {entry.pair: entry for entry in self.entries}
        object.__setattr__(self, "accounts", MappingProxyType(accounts))
        object.__setattr__(self, "usual_cost", costs[0][0] if costs else None)
        object.__setattr__(self, "_by_pair", by_pair)
        object.__setattr__(self, "_logins", frozenset(login for _, login in by_pair))

    def find(self, subdomain: str, login: str) -> Entry | None:
        """Return the credential of `login` at `subdomain`; case and outer blanks do not count."""
        return self._by_pair.get((subdomain_key(subdomain), login_key(login)))

    def knows(self, login: str) -> bool:
        """Tell whether `login` has a credential, at whatever subdomain."""
        return login_key(login) in self._logins


def read_private(path: Path, limit: int, seen: Signatures | None = None) -> bytes:
    """Return the bytes of a file with a secret, at most `limit`.

    What it looked like right before is put in `seen`.

    Raises:
        BookError: it cannot be read, is too long, or changes meanwhile; or others have access to it
            (`bridge.private_file.exposure`).
    """
    if seen is not None:
        seen[path] = signature(path)
    try:
        return read_private_file(path, limit)
    except UnusableFile as error:
        raise BookError(str(error)) from None
    except OSError as error:
        raise BookError(f"{path}: {error.strerror}") from None


def load(path: Path, environ: Mapping[str, str], seen: Signatures | None = None) -> Book:
    """Read the book at `path` and every token that it refers to, all of one time.

    What the files looked like is put in `seen`.

    Raises:
        BookError: the book, a credential in it or a token cannot be used.
    """
    files = {} if seen is None else seen
    return read_together(lambda noted: _load(path, environ, noted), files, BookError)


def _load(path: Path, environ: Mapping[str, str], seen: Signatures) -> Book:
    tokens: dict[str, Secret] = {}
    entries = []
    for position, row in enumerate(read_rows(path, seen), 1):
        if row.reference not in tokens:
            try:
                tokens[row.reference] = read_token(row.reference, environ, seen)
            except BookError as error:
                what = f"token: {error}"
                raise wrong_credential(path, position, what, row.subdomain, row.login) from None
        entries.append(Entry(**msgspec.structs.asdict(row), token=tokens[row.reference]))
    return Book(tuple(entries))


def read_rows(path: Path, seen: Signatures | None = None) -> tuple[Row, ...]:
    """Read the credentials of the book at `path`, as `parse` does: no token is looked up."""
    return parse(path, read_private(path, BOOK_LIMIT, seen))


def parse(path: Path, octets: bytes) -> tuple[Row, ...]:
    """Read the credentials in `octets`, which is what the book at `path` holds, in its order.

    A book of no bytes at all is refused: that is what a writer leaves that was cut short. A book
    without credentials has a comment that says so.

    Raises:
        BookError: they are no book, or a credential in it cannot be used.
    """
    rows: list[Row] = []
    pairs: dict[tuple[str, str], int] = {}
    accounts: dict[str, tuple[int, int]] = {}
    for position, given in enumerate(_tables(path, octets), 1):
        try:
            row = read_row(given)
        except WrongField as error:
            pair = given.get("subdomain"), given.get("login")
            raise wrong_credential(path, position, error, *pair) from None
        earlier = pairs.setdefault(row.pair, position)
        account, other = accounts.setdefault(row.subdomain, (row.account_id, position))
        if earlier != position:
            what = f"credential {earlier} has this subdomain and login already"
            raise wrong_credential(path, position, what, row.subdomain, row.login)
        if account != row.account_id:
            what = (
                f"account_id: {row.account_id}, where credential {other} has {account} for the "
                "same subdomain"
            )
            raise wrong_credential(path, position, what, row.subdomain, row.login)
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
        # Its place only: the words of the complaint may quote what the file holds.
        place = re.search(r"\((at [^()]*)\)$", str(error))
        raise BookError(f"{path}: it is not TOML {place[1] if place else ''}") from None
    except RecursionError:
        raise BookError(f"{path}: it is nested too deeply") from None
    if document.keys() - {"credential"}:
        raise BookError(f"{path}: only [[credential]] may stand in a book, nothing beside it")
    tables = document.get("credential", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise BookError(f"{path}: each credential must begin with [[credential]]")
    return tables


def wrong_credential(path: Path, position: int, what: object, *pair: object) -> BookError:
    """Return the error of a credential, known by its place, and its pair if that is text."""
    known = ", ".join(each[:80] for each in pair if isinstance(each, str) and each)
    place = f"{path}: credential {position}"
    return BookError(f"{place}{f' ({known})' if known else ''}: {what}", f"{place}: {what}")


def read_token(
    reference: str, environ: Mapping[str, str], seen: Signatures | None = None
) -> Secret:
    """Return the token that a reference, such as a book's, leads to; a file may end in a newline.

    Raises:
        WrongField: it is no reference.
        BookError: what it names holds no token.
    """
    _require_form("token", reference)
    source, _, name = reference.partition(":")
    if source == "env":
        text = environ.get(name, "")
        name = f"the environment variable {name}"
        if not text:
            raise BookError(f"{name} is not set, or empty")
    else:
        octets = read_private(Path(name), TOKEN_LIMIT + 2, seen)
        text = octets.decode("iso-8859-1").removesuffix("\n").removesuffix("\r")
        if not text:
            raise BookError(f"{name}: it is empty")
    if not is_token(text):
        raise BookError(
            f"{name} holds no token: that is printable ASCII without blanks, "
            f"{TOKEN_LIMIT} characters at most"
        )
    return Secret(text)
