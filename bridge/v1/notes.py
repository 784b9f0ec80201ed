"""Notes: coded remarks on what a translation dropped, repaired, replaced or ignored.

A note names a code and an element or path part, never a value: notes are logged.
"""

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import NamedTuple


class NoteCode(StrEnum):
    """What was done (schemas/README.md, "Notes")."""

    ADDRESS_ESCAPED = "address-escaped"
    ATTRIBUTE_IGNORED = "attribute-ignored"
    ATTRIBUTE_TAKEN = "attribute-taken"
    BODY_DROPPED = "body-dropped"
    CHARACTER_REPLACED = "character-replaced"
    COMPANY_WITHHELD = "company-withheld"
    CREDENTIALS_WRAPPED = "credentials-wrapped"
    DOUBLE_SLASH = "double-slash"
    ELEMENT_DROPPED = "element-dropped"
    ELEMENT_IGNORED = "element-ignored"
    FIELD_LOST = "field-lost"
    HASH_IN_ID = "hash-in-id"
    LINE_FEEDS = "line-feeds"
    NULL_REPLACED = "null-replaced"
    OLD_TLS = "old-tls"
    PARAMETER_IGNORED = "parameter-ignored"
    RECIPIENT_DROPPED = "recipient-dropped"
    SURROGATES_JOINED = "surrogates-joined"
    TEXT_IGNORED = "text-ignored"
    TRAILING_SLASH = "trailing-slash"
    XML_SUFFIX = "xml-suffix"


class Note(NamedTuple):
    """One remark: `subject` is the element or path part it is about."""

    code: str
    subject: str


NoteCount = tuple[Note, int]
"""A note and the number of times it was made."""


MOST = 50
"""Notes that are told apart: the rest of a code is counted together, for a log line has an end."""


class Notes:
    """The notes of one legacy call, each with the number of times it was made."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[Note, int] = {}

    def add(self, code: str, subject: str, times: int = 1) -> None:
        """Remark `code` on `subject` once more, or so many times."""
        note = Note(code, subject)
        if len(self._counts) >= MOST and note not in self._counts:
            note = Note(code, "…")
        self._counts[note] = self._counts.get(note, 0) + times

    def merge(self, others: Iterable[NoteCount]) -> None:
        """Take over all of the notes of `others`."""
        for note, count in others:
            self.add(*note, count)

    def __iter__(self) -> Iterator[NoteCount]:
        """Each note and its count, in the order they were first made."""
        return iter(self._counts.items())
