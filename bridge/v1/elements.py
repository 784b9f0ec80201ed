"""What a v1 document is made of: the types of elements, and the layout of an item.

Which v2 field feeds which element is a resource's own table; putting them together is the writer's
work.
"""

import re
from collections.abc import Callable
from datetime import date
from typing import Any, Generic, NamedTuple, TypeVar

from bridge.v1.dialects import Dialect
from bridge.v1.values import boolean_text, datetime_text, decimal_text

T = TypeVar("T")


class PerDialect(NamedTuple, Generic[T]):
    """A value for each dialect: one column a dialect."""

    classic: T
    final: T

    def of(self, dialect: Dialect) -> T:
        """Return the value for `dialect`.

        Raises:
            AttributeError: there is no column for it.
        """
        value: T = getattr(self, dialect)
        return value


Remark = Callable[[str], None]
"""Takes the code of a note about the element that is being written."""


class NotCanonical(ValueError):
    """A text of v2 does not stand as v1 has it, and has to be read as the value that it spells."""


class ElementType(NamedTuple):
    """What an element may hold."""

    attribute: PerDialect[str | None]
    """Its `type` attribute; None: it has none."""
    text: PerDialect[Callable[[Any, Remark], str]]
    """The text of a typed value that is not null."""
    as_told: PerDialect[Callable[[Any], str]]
    """The text of a value, not null, that is still as v2 spells it; raises `NotCanonical`."""
    markup: bool = False
    """Whether a text may hold characters that XML has to escape, or cannot hold."""
    instead_of_nil: str | None = None
    """The text of null, with a note, where v1 never had one; None: the element is nil."""


def _typed(
    classic: str | None,
    final: str | None,
    spell: Callable[[Any], str],
    canonical: str | None = None,
    *,
    markup: bool = False,
) -> ElementType:
    def text(value: Any, _remark: Remark) -> str:  # noqa: ANN401 - each type has its own values
        return spell(value)

    as_told = spell if canonical is None else _if_canonical(canonical)
    return ElementType(
        PerDialect(classic, final), PerDialect(text, text), PerDialect(as_told, as_told), markup
    )


def _if_canonical(canonical: str) -> Callable[[str], str]:
    is_canonical = re.compile(canonical).fullmatch

    def as_told(value: str) -> str:
        if is_canonical(value) is None:
            raise NotCanonical
        return value

    return as_told


# The XSDs judge which days there are.
_DAY = "(?!0000)[0-9]{4}-[0-9]{2}-[0-9]{2}"
_UTC_SECOND = _DAY + "T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z"

INTEGER = _typed("integer", "integer", str)
DECIMAL = _typed("decimal", "decimal", decimal_text)
BOOLEAN = _typed("boolean", "boolean", boolean_text)._replace(instead_of_nil="false")
DATE = _typed("date", "date", date.isoformat, _DAY)
DATETIME = _typed("datetime", "dateTime", datetime_text, _UTC_SECOND)
STRING = _typed(None, None, str, markup=True)


class Column(NamedTuple):
    """An element of an item."""

    element: str
    """Its name, or names down to it such as `company/name`. What surrounds several stands together:
    their columns follow one another."""
    type: ElementType
    value: Callable[[Any], Any] | str
    """Finds the value in an item; or the name of the id of the path that it is."""


class Layout(NamedTuple):
    """How an item is laid out in one dialect."""

    dialect: Dialect
    root: str
    columns: tuple[Column, ...]
    """In document order."""
