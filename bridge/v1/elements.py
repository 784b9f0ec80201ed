"""What a v1 document is made of: the types of elements, and the layout of an item.

Which v2 field feeds which element is a resource's own table; putting them together is the writer's
work.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from bridge.v1.dialects import Dialect
from bridge.v1.notes import Notes
from bridge.v1.values import boolean_text, date_text, datetime_text, decimal_text

T = TypeVar("T")


class PerDialect(NamedTuple, Generic[T]):
    """A value for each dialect: one column a dialect."""

    classic: T
    final: T

    def of(self, dialect: Dialect) -> T:
        """Return the value for `dialect`.

        Raises:
            KeyError: there is no column for it.
        """
        value: T = self._asdict()[dialect]
        return value


Texts = Callable[[Sequence[Any], Notes, str], Sequence[str | None]]
"""Turns the values of a column into the texts of its elements, null into None.

Also takes where to note what had to be changed, and the name of the elements.
"""


class NotCanonical(ValueError):
    """A text of v2 does not stand as v1 has it, and has to be read as the value that it spells."""


@dataclass(frozen=True, slots=True)
class ElementType:
    """What an element may hold."""

    attribute: PerDialect[str | None]
    """Its `type` attribute; None: it has none."""
    texts: PerDialect[Texts]
    """The texts of typed values."""
    unread: Texts | None = None
    """The texts of values that are still text, as v2 spells them; None: they come typed.

    Raises `NotCanonical`.
    """
    markup: bool = False
    """Whether a text may hold characters that XML has to escape, or cannot hold."""


def _typed(
    classic: str | None,
    final: str | None,
    spell: Callable[[Any], str],
    canonical: str | None = None,
) -> ElementType:
    def texts(values: Sequence[Any], _notes: Notes, _element: str) -> list[str | None]:
        return [None if value is None else spell(value) for value in values]

    return ElementType(
        PerDialect(classic, final),
        PerDialect(texts, texts),
        None if canonical is None else _unread(canonical),
    )


def _unread(canonical: str) -> Texts:
    is_canonical = re.compile(canonical).fullmatch

    def texts(values: Sequence[str | None], _notes: Notes, _element: str) -> Sequence[str | None]:
        for value in {*values}:  # most are alike in a list that was made at once
            if value is not None and not is_canonical(value):
                raise NotCanonical
        return values

    return texts


def _as_it_is(values: Sequence[str | None], _notes: Notes, _element: str) -> Sequence[str | None]:
    return values


# The XSDs judge which days there are.
_DAY = "(?!0000)[0-9]{4}-[0-9]{2}-[0-9]{2}"
_UTC_SECOND = _DAY + "T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z"

INTEGER = _typed("integer", "integer", str)
DECIMAL = _typed("decimal", "decimal", decimal_text)
BOOLEAN = _typed("boolean", "boolean", boolean_text)
DATE = _typed("date", "date", date_text, _DAY)
DATETIME = _typed("datetime", "dateTime", datetime_text, _UTC_SECOND)
STRING = ElementType(PerDialect(None, None), PerDialect(_as_it_is, _as_it_is), markup=True)


class Column(NamedTuple):
    """An element of an item."""

    element: str
    type: ElementType


@dataclass(frozen=True, slots=True)
class Layout:
    """How an item is laid out in one dialect."""

    dialect: Dialect
    root: str
    columns: tuple[Column, ...]
    """In document order."""
