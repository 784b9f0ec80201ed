"""Notes: coded remarks on what a translation dropped, repaired, replaced or ignored.

A note names a code and an element or path part, never a value: notes are logged.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class NoteCode(StrEnum):
    """What was done (schemas/README.md, "Notes")."""

    ADDRESS_ESCAPED = "address-escaped"
    BODY_DROPPED = "body-dropped"
    CHARACTER_REPLACED = "character-replaced"
    DOUBLE_SLASH = "double-slash"
    ELEMENT_DROPPED = "element-dropped"
    ELEMENT_IGNORED = "element-ignored"
    HASH_IN_ID = "hash-in-id"
    RECIPIENT_DROPPED = "recipient-dropped"
    TRAILING_SLASH = "trailing-slash"
    XML_SUFFIX = "xml-suffix"


@dataclass(frozen=True, slots=True, order=True)
class Note:
    """One remark: `subject` is the element or path part it is about."""

    code: str
    subject: str


class Notes:
    """The notes of one legacy call, each with the number of times it was made."""

    def __init__(self) -> None:
        self._counts: Counter[Note] = Counter()

    def add(self, code: str, subject: str) -> None:
        """Remark `code` on `subject` once more."""
        self._counts[Note(code, subject)] += 1

    def merge(self, others: "Notes") -> None:
        """Take over all of the notes of `others`."""
        self._counts.update(dict(others))

    def __iter__(self) -> Iterator[tuple[Note, int]]:
        """Each note and its count, in the order they were first made."""
        return iter(self._counts.items())
