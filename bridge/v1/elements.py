"""What a v1 document is made of: element types, and the layout of an item.

Which v2 field feeds which element is a resource's own table; building XML is the writer's work.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from bridge.v1.dialects import Dialect
from bridge.v1.values import boolean_text, date_text, datetime_text

T = TypeVar("T")


class PerDialect(NamedTuple, Generic[T]):
    """A value for each dialect: one column a dialect."""

    classic: T
    final: T

    def of(self, dialect: Dialect) -> T:
        """Return the value for `dialect`."""
        return self.classic if dialect is Dialect.CLASSIC else self.final


Remark = Callable[[str], None]
"""Takes the code of a note about the element being written."""

Text = Callable[[Any, Remark], str]
"""Turns a value that is not null into an element's text."""


@dataclass(frozen=True, slots=True)
class ElementType:
    """The `type` attribute of an element (None: it has none) and the text of its values."""

    attribute: PerDialect[str | None]
    text: PerDialect[Text]


def _typed(classic: str | None, final: str | None, spell: Callable[[Any], str]) -> ElementType:
    def text(value: Any, _remark: Remark) -> str:  # noqa: ANN401 - each type has its own values
        return spell(value)

    return ElementType(PerDialect(classic, final), PerDialect(text, text))


INTEGER = _typed("integer", "integer", str)
BOOLEAN = _typed("boolean", "boolean", boolean_text)
DATE = _typed("date", "date", date_text)
DATETIME = _typed("datetime", "dateTime", datetime_text)
STRING = _typed(None, None, str)


class Column(NamedTuple):
    """An element of an item: its name, the key of its value in a record, and its type."""

    element: str
    source: str
    type: ElementType


@dataclass(frozen=True, slots=True)
class Layout:
    """How an item is laid out in one dialect."""

    dialect: Dialect
    root: str
    columns: tuple[Column, ...]
    """In document order."""
    schema: str
    """The item's XSD, as `bridge.v1.xsd.schema` knows it."""
