"""Recipient lists: the strings of v1 (`Jane Doe <jane@doe.org>, bob@doe.org`) and the mailboxes
they name, in both directions, by the rules of schemas/README.md, "Recipients".

Nothing here knows of XML, JSON, dialects or the network. The list grammar is ours, for the standard
library guesses where v1 clients need a clear refusal; the addresses are email-validator's, offline.
"""

import enum
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from email_validator import EmailNotValidError, validate_email

from bridge.excerpt import excerpt


@dataclass(frozen=True, slots=True)
class Mailbox:
    """One recipient: an address and, perhaps, a display name (RFC 5322, section 3.4).

    An empty name means the same as none, and reads back as none.
    """

    address: str
    name: str | None = None


class RecipientNote(enum.StrEnum):
    """What `read` repaired, dropped or let pass."""

    SEMICOLON_SEPARATOR = "semicolon-separator"
    COMMA_IN_NAME = "comma-in-name"
    COMMENT_DROPPED = "comment-dropped"
    CONTROL_REPLACED = "control-replaced"
    DUPLICATE_DROPPED = "duplicate-dropped"
    GROUP_NAME_DROPPED = "group-name-dropped"
    LINE_SEPARATOR = "line-separator"
    MAILTO_DROPPED = "mailto-dropped"
    QUOTES_DROPPED = "quotes-dropped"
    UNUSUAL_ADDRESS = "unusual-address"


@dataclass(frozen=True, slots=True)
class RecipientList:
    """Mailboxes in the order they were written, and each kind of note once."""

    mailboxes: tuple[Mailbox, ...] = ()
    notes: tuple[RecipientNote, ...] = ()


class InvalidRecipient(ValueError):
    """A piece of a recipient list that is no recipient. One line, fit for a header once encoded.

    `piece` is the offending text, cut to 100 characters; `reason` says what is wrong with it.
    """

    def __init__(self, piece: str, reason: str) -> None:
        super().__init__(piece, reason)
        self.piece = _one_line(excerpt(piece.strip(" \t\r\n,;"), 100))
        self.reason = _one_line(excerpt(reason, 200))

    def __str__(self) -> str:
        return f"{self.piece!r} is not a recipient: {self.reason}"


def read(text: str, *, limit: int | None = None) -> RecipientList:
    """The mailboxes that a v1 recipient list names (RFC 5322, section 3.4, and what people write).

    Of several mailboxes with one address, the first stays. Raises `InvalidRecipient` for the first
    piece that is no recipient, and for the first one past `limit`; the limit counts what is
    written, duplicates included, and is judged before any address is.
    """
    entries = list(islice(_entries(text), None if limit is None else limit + 1))
    if limit is not None and len(entries) > limit:
        raise InvalidRecipient(entries[limit][0], f"A list has at most {limit} recipients.")
    return join(*map(_read_entry, entries))


def write(mailboxes: Iterable[Mailbox], *, always_quote: bool) -> str:
    """The v1 spelling of `mailboxes`: `read(write(m)).mailboxes == m`.

    That holds for addresses that `read` takes, without duplicates, and names free of control
    characters. Takes any data: what is written can always be read, for control characters become
    spaces, and an address that `read` refuses is left out. `always_quote` puts every name in
    quotes; without it, only those that RFC 5322, section 3.2.5 wants quoted or that an unquoted
    spelling would change.
    """
    spelled = [
        write_mailbox(mailbox.address, mailbox.name, always_quote=always_quote)
        for mailbox in mailboxes
    ]
    return ", ".join([each for each in spelled if each is not None])


def is_address(text: str) -> bool:
    """Whether `read` takes `text` for an address, if it stands in angle brackets."""
    return _address(text).flaw is None


def join(*lists: RecipientList) -> RecipientList:
    """One list of several, without duplicates (see `deduplicate`), with the notes of all."""
    mailboxes = [mailbox for each in lists for mailbox in each.mailboxes]
    notes = [note for each in lists for note in each.notes]
    unique = deduplicate(mailboxes)
    if len(unique) < len(mailboxes):
        notes.append(RecipientNote.DUPLICATE_DROPPED)
    return RecipientList(unique, tuple(dict.fromkeys(notes)))


def deduplicate(mailboxes: Iterable[Mailbox]) -> tuple[Mailbox, ...]:
    """The first mailbox of each address.

    Domains are equal whatever their case, local parts only if spelled alike (RFC 5321,
    section 2.4).
    """
    first: dict[tuple[str, str], Mailbox] = {}
    for mailbox in mailboxes:
        local, _, domain = mailbox.address.rpartition("@")
        first.setdefault((local, domain.lower()), mailbox)
    return tuple(first.values())


# The grammar. Repeats are possessive and alternatives start with a character of their own, so the
# time is linear. Quoted strings and comments are counted because each costs a step of Python: 1 MiB
# of `""` would take a second. A line break ends what has an address, unless it only folds it.
_QUOTED = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_COMMENT_TEXT = r"[^()\\]*+(?:\\.[^()\\]*+)*+"
_COMMENT = rf"\({_COMMENT_TEXT}(?:\({_COMMENT_TEXT}\){_COMMENT_TEXT}){{0,16}}+\)"
_MORE = rf"""[^,;"()<>\r\n]*+ (?: (?: {_QUOTED} | \s*+ {_COMMENT} ) [^,;"()<>\r\n]*+ ){{0,16}}+"""
_ENTRY = re.compile(
    rf"""
    [\s,;]*+
    (?:
        (?! (?: [^@:,;"()<>]*+ (?i: (?<=\[mailto) ) | (?i:mailto) ) : )
        (?P<group> (?: [^@:,;"()<>]++ | {_QUOTED} ) : ) [\s,]*+
    )?
    (?P<phrase>
        "[^"\\@\s]++@[^"\\@\s]++" (?= [^\S\r\n]*+ (?: [,;] | \Z | [\r\n]\s*+(?![<(]) ) )
        | [^@;"()<>]*+ (?: (?: {_QUOTED} | {_COMMENT} ) [^@;"()<>]*+ ){{0,16}}+  # commas, but no @
        {_MORE}
    )
    (?: \s*+ < (?P<address> [^<>"]*+ (?: {_QUOTED} [^<>"]*+ )?+ ) > (?P<tail> {_MORE} ) )?
    (?P<separator> \s*+ [,;]? )
    """,
    re.VERBOSE | re.DOTALL,
)
_PART = re.compile(rf'(?P<quoted>{_QUOTED})|(?P<comment>{_COMMENT})|[^"(]++', re.DOTALL)
_UNBALANCED = {
    '"': "A quote is not closed, or one of too many.",
    "(": "A comment is not closed, nests too deep, or is one of too many.",
    ")": "A comment ends that never began.",
    "<": "An angle bracket is not closed, or follows another address.",
    ">": "An angle bracket is closed that was never opened.",
}

# White space that breaks a line or moves the cursor folds to a space; other controls (C0, DEL, C1)
# have no place in a name.
_FOLDING = re.compile(r"[\t-\r\x1c-\x1f\x85\u2028\u2029][\t-\r\x1c-\x1f\x85\u2028\u2029 ]*+")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]")

# The specials of RFC 5322, section 3.2.3, and what looks like an encoded-word (RFC 2047).
_NEEDS_QUOTES = re.compile(r'[()<>\[\]:;@\\,."]|=\?')

# The addresses nearly everyone has, at a thirtieth of email-validator's time (1 µs for 35 µs),
# which a list of thousands shows on the event loop. A label with `--` in third place may be IDNA.
_LABEL = r"(?!..--)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_DOMAIN = rf"{_LABEL}(?:\.{_LABEL})*"
_PLAIN_ADDRESS = re.compile(rf"(?=[^@]{{1,64}}@){_ATOM}(?:\.{_ATOM})*@{_DOMAIN}")
_PLAIN_DOMAIN = re.compile(_DOMAIN)
_MAX_ADDRESS = 254
_MAX_LOCAL = 64
_MAILTO = re.compile(r"\Amailto:\s*", re.IGNORECASE)
_LINK = re.compile(r"\[(mailto:[^\[\]]*)\]\s*\Z", re.IGNORECASE)
"""`Jane Doe [mailto:jane@doe.org]`, as Outlook shows who a message is from."""
_QUOTES = frozenset({"''", '""', "\u2018\u2019", "\u201c\u201d"})


def _entries(text: str) -> Iterator[re.Match[str]]:
    """The entries of a list, split but not judged."""
    follows_line = False
    for entry in _ENTRY.finditer(text):
        end = entry.end()
        if end < len(text) and not entry["separator"]:
            raise InvalidRecipient(entry[0] + text[end : end + 100], _UNBALANCED[text[end]])
        if entry["group"] and follows_line:
            # Such as `Bcc:`: what was to get into the head of a mail is no group of recipients.
            raise InvalidRecipient(entry[0], "A line begins with a name and a ':'.")
        if entry["group"] or entry["phrase"] or entry["address"] is not None:
            yield entry
        follows_line = _ends_line(entry)


def _ends_line(entry: re.Match[str]) -> bool:
    return entry["separator"].isspace() and entry.end() < len(entry.string)


def _stands_alone(entry: re.Match[str]) -> bool:
    """Tell whether an address is all that is on the line before the angle brackets.

    A line that is folded begins with a blank (RFC 5322, section 2.2.3).
    """
    begins_line = entry.string[entry.start("address") - 2] in "\r\n"
    return begins_line and is_address(entry["phrase"].strip())


def _read_entry(entry: re.Match[str]) -> RecipientList:
    """The one mailbox of an entry, with the notes it takes."""
    if not entry["phrase"] and entry["address"] is None:
        return RecipientList((), (RecipientNote.GROUP_NAME_DROPPED,))
    phrase, address = entry["phrase"], entry["address"]
    if address is not None and _stands_alone(entry) and phrase.strip() != address.strip():
        # To be a name, it would be on the line of its address.
        raise InvalidRecipient(entry[0], "Another address is on the line before the brackets.")
    if address is None and (link := _LINK.search(phrase)):
        phrase, address = phrase[: link.start()], link[1]
    words, comments = _parts(phrase)
    if address is None:
        address, words = "".join(words), []
    elif entry["tail"]:
        after, comments_after = _parts(entry["tail"])
        comments += comments_after
        if "".join(after).strip():
            raise InvalidRecipient(entry[0], "Text follows the angle brackets.")
    judged = _address(address)
    if judged.flaw:
        raise InvalidRecipient(entry[0], judged.flaw)

    name = _name(words)
    found = (
        (RecipientNote.SEMICOLON_SEPARATOR, ";" in entry["separator"]),
        (RecipientNote.LINE_SEPARATOR, _ends_line(entry)),
        (RecipientNote.COMMA_IN_NAME, any("," in word for word in words if word[0] != '"')),
        (RecipientNote.COMMENT_DROPPED, name and comments),
        (RecipientNote.CONTROL_REPLACED, any(map(_CONTROL.search, words + comments))),
        (RecipientNote.GROUP_NAME_DROPPED, entry["group"]),
    )
    mailbox = Mailbox(judged.address, name or _plain(" ".join(comments)) or None)
    return RecipientList((mailbox,), (*(note for note, true in found if true), *judged.notes))


def _parts(text: str) -> tuple[list[str], list[str]]:
    """The words of a phrase, quoted ones still in their quotes, and its comments."""
    words, comments = [], []
    for part in _PART.finditer(text):
        if part.lastgroup == "comment":
            comments.append(_unescape(part[0][1:-1]))
            words.append(" ")
        else:
            words.append(part[0])
    return words, comments


def _name(words: list[str]) -> str:
    """The name that words make: white space counts in a lone quoted string, nowhere else."""
    spoken = [word for word in words if not word.isspace()]
    if len(spoken) == 1 and spoken[0].startswith('"'):
        return _unescape(_one_line(spoken[0][1:-1]))
    text = "".join(_unescape(word[1:-1]) if word.startswith('"') else word for word in words)
    return _plain(text)


def _plain(text: str) -> str:
    return " ".join(_one_line(text).split()).rstrip(" ,")


def _unescape(text: str) -> str:
    """Text without the backslashes of its quoted pairs (RFC 5322, section 3.2.1)."""
    # An eighth of the time of re.sub: 1 MiB of nothing else takes 55 ms instead of 450.
    return "\\".join(piece.replace("\\", "") for piece in text.split("\\\\"))


def _one_line(text: str) -> str:
    return _CONTROL.sub(" ", _FOLDING.sub(" ", text))


class _Judged(NamedTuple):
    """What was given as an address, as far as it is one."""

    address: str
    notes: tuple[RecipientNote, ...] = ()
    flaw: str | None = None


def _address(text: str) -> _Judged:
    """Judge what may be an address, without what people write around one."""
    text = text.strip()
    notes: list[RecipientNote] = []
    if len(text) > 1 and text[0] + text[-1] in _QUOTES:
        text = text[1:-1].strip()
        notes.append(RecipientNote.QUOTES_DROPPED)
    if link := _MAILTO.match(text):
        text = text[link.end() :]
        notes.append(RecipientNote.MAILTO_DROPPED)
    flaw = _flaw(text)
    if flaw and _is_unusual(text):
        flaw = None
        notes.append(RecipientNote.UNUSUAL_ADDRESS)
    return _Judged(text, tuple(notes), flaw)


def _is_unusual(address: str) -> bool:
    """Whether nothing is wrong with an address but dots in its local part, or that part's length.

    Providers have given such addresses out (docomo: `jane..doe@docomo.ne.jp`), and mail reaches
    them.
    """
    local, _, domain = address.rpartition("@")
    ordinary = local.replace(".", "")[:_MAX_LOCAL]
    return len(address) <= _MAX_ADDRESS and _flaw(f"{ordinary}@{domain}") is None


def _flaw(address: str) -> str | None:
    """What makes an address invalid, if anything does (RFC 5321, RFC 6531)."""
    # Before email-validator, which takes a second for 1 MiB before it looks at the length.
    if len(address) > _MAX_ADDRESS:
        return f"An address has at most {_MAX_ADDRESS} characters."
    if _PLAIN_ADDRESS.fullmatch(address):
        return None
    local, at, domain = address.rpartition("@")
    if _PLAIN_DOMAIN.fullmatch(domain):
        domain = "example.org"  # for email-validator refuses those of special use
    try:
        validate_email(
            local + at + domain,
            allow_domain_literal=True,
            allow_quoted_local=True,
            check_deliverability=False,
            globally_deliverable=False,
            strict=True,
            test_environment=True,
        )
    except EmailNotValidError as error:
        return str(error)
    return None


def write_mailbox(address: str, name: str | None, *, always_quote: bool) -> str | None:
    """The v1 spelling of one mailbox; None: its address is none that `read` takes. See `write`."""
    if not (_PLAIN_ADDRESS.fullmatch(address) and len(address) <= _MAX_ADDRESS):
        address, _, flaw = _address(address)
        if flaw:
            return None
    if name and not name.isprintable():
        name = _one_line(name)
    return f"{_quoted(name, always_quote)} <{address}>" if name else address


def _quoted(name: str, always: bool) -> str:
    if name and (always or _NEEDS_QUOTES.search(name) or name != " ".join(name.split())):
        return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return name
