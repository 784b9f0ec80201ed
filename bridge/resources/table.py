"""From a field table to all that follows from it: the typed v2 object and the v1 layout.

The tables themselves are the resources' own.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from typing import Annotated, Any, NamedTuple

import msgspec

from bridge.v1 import elements
from bridge.v1.dialects import Dialect
from bridge.v1.elements import Column, ElementType, Layout, PerDialect
from bridge.v1.wire import V1Request
from bridge.v1.writer import ItemDocument, ListDocument, Record
from bridge.v2.decoding import decode


class Kind(NamedTuple):
    """What a field holds: its JSON in v2 (None: v2 does not carry it), its element in v1."""

    v2: Any
    v1: ElementType
    required: bool = False


V2Id = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]

ID = Kind(V2Id, elements.INTEGER, required=True)
PATH_ID = Kind(None, elements.INTEGER)
BOOLEAN = Kind(bool | None, elements.BOOLEAN)
DATE = Kind(date | None, elements.DATE)
DATETIME = Kind(datetime | None, elements.DATETIME)
STRING = Kind(str | None, elements.STRING)


class Field(NamedTuple):
    """One fact of the translation: a v2 field (or an id of the path) and its v1 element."""

    source: str
    element: str
    kind: Kind
    places: PerDialect[int | None]
    """Where the element stands in each dialect's order; None: it has none there."""


@dataclass(frozen=True, slots=True)
class Entity:
    """A thing that v1 knows as an element and v2 as a JSON object."""

    schema: str
    """The folder in `schemas/` that holds its XSDs."""
    element: str
    fields: tuple[Field, ...]

    def layout(self, dialect: Dialect) -> Layout:
        """Return how the entity is laid out in `dialect`."""
        return _layout(self, dialect)

    def item(self, data: bytes | msgspec.Raw, call: V1Request) -> ItemDocument:
        """Return the document of one v2 object.

        Raises:
            UpstreamFault: `data` is not such an object.
        """
        return ItemDocument(self.layout(call.dialect), _record(self, data, call.ids))


@dataclass(frozen=True, slots=True)
class Collection:
    """Many of an entity: a list in v1, a page after another in v2."""

    entity: Entity
    root: PerDialect[str]
    """The element that a list has as its root."""
    key: str
    """The key under which a page of v2 holds its items."""

    def document(self, items: Iterable[msgspec.Raw], call: V1Request) -> ListDocument:
        """Return the document of v2 objects, which are decoded only as they are written.

        Reading the document's parts raises `UpstreamFault` at an item that is no such object.
        """
        return ListDocument(
            self.entity.layout(call.dialect),
            self.root.of(call.dialect),
            f"{self.entity.schema}/{call.dialect}-list",
            self._records(deque(items), call.ids),
        )

    def _records(self, items: deque[msgspec.Raw], ids: Mapping[str, int]) -> Iterator[Record]:
        # Each page is freed with the last of its items.
        while items:
            yield _record(self.entity, items.popleft(), ids)


@cache
def _layout(entity: Entity, dialect: Dialect) -> Layout:
    placed = sorted(
        (place, Column(field.element, field.source, field.kind.v1))
        for field in entity.fields
        if (place := field.places.of(dialect)) is not None
    )
    return Layout(
        dialect,
        root=entity.element,
        columns=tuple(column for _, column in placed),
        schema=f"{entity.schema}/{dialect}-item",
    )


@cache
def _model(entity: Entity) -> type[msgspec.Struct]:
    """Derive the typed v2 object from the field table, so that no fact stands in two places."""
    required = [(field.source, field.kind.v2) for field in entity.fields if field.kind.required]
    optional = [
        (field.source, field.kind.v2, None)
        for field in entity.fields
        if not field.kind.required and field.kind.v2 is not None
    ]
    return msgspec.defstruct(entity.element, [*required, *optional])


def _record(entity: Entity, data: bytes | msgspec.Raw, ids: Mapping[str, int]) -> Record:
    return {**ids, **msgspec.structs.asdict(decode(data, _model(entity)))}
