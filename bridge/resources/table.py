"""From a field table to all that follows from it: typed v2 objects, v1 documents, and forms.

The tables themselves are the resources' own.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from typing import Annotated, Any, NamedTuple

import msgspec

from bridge.v1 import elements
from bridge.v1.dialects import Dialect
from bridge.v1.elements import Column, ElementType, Layout, PerDialect
from bridge.v1.notes import Note, Notes
from bridge.v1.reader import Form
from bridge.v1.wire import V1Request
from bridge.v1.writer import BATCH, DECLARATION, Columns, Writer, list_tags
from bridge.v2.decoding import convert, decode
from bridge.v2.paging import page_type


class Kind(NamedTuple):
    """What a field holds: its JSON in v2 (None: v2 does not carry it), its element in v1."""

    v2: Any
    v1: ElementType
    required: bool = False
    unread: Any = None
    """The type of its JSON where it need not be understood to be written; None: `v2`."""
    judge: Callable[[Any], bool] | None = None
    """Whether v1 can tell a value of the type `v2`, that is not null; None: it always can."""


V2Id = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]

MOST_DIGITS = 30
"""Before the point of a number, and after it: more than any sum of money has."""


def is_told_plainly(number: Decimal) -> bool:
    """Tell whether a number is finite, and none that would take pages without an exponent."""
    exponent = number.as_tuple().exponent
    return (
        isinstance(exponent, int)  # and not the letter of what is not finite
        and exponent >= -MOST_DIGITS
        and number.adjusted() < MOST_DIGITS
    )


ID = Kind(V2Id, elements.INTEGER, required=True)
OTHER_ID = Kind(V2Id | None, elements.INTEGER)
PATH_ID = Kind(None, elements.INTEGER)
BOOLEAN = Kind(bool | None, elements.BOOLEAN)
DATE = Kind(date | None, elements.DATE, unread=str | None)
DATETIME = Kind(datetime | None, elements.DATETIME, unread=str | None)
DECIMAL = Kind(Decimal | None, elements.DECIMAL, judge=is_told_plainly)
STRING = Kind(str | None, elements.STRING)


class Source(NamedTuple):
    """A v2 field: its name, or names down to it such as `payment_gateway.id`, and its kind."""

    path: str
    kind: Kind


class Field(NamedTuple):
    """One fact of the translation: a v2 field (or an id of the path) and its v1 element."""

    source: str
    """As in `Source`. Of a nested field, null is also what has a null above it."""
    element: str
    kind: Kind
    places: PerDialect[int | None]
    """Where the element stands in each dialect's order; None: it has none there."""
    besides: tuple[Source, ...] = ()
    """Other v2 fields that say what the element holds."""
    choose: Callable[..., Any] | None = None
    """Makes the element's value of those of all its sources, in this order."""

    @property
    def sources(self) -> tuple[Source, ...]:
        """All v2 fields that it is made of."""
        return (Source(self.source, self.kind), *self.besides)


def place(*, classic: int | None = None, final: int | None = None) -> PerDialect[int | None]:
    """Say where an element stands in each dialect; None: it has no place there."""
    return PerDialect(classic, final)


@dataclass(frozen=True, slots=True, eq=False)  # what is compiled of it is found by identity
class Entity:
    """A thing that v1 knows as an element and v2 as a JSON object."""

    schema: str
    """The folder in `schemas/` that holds its XSDs."""
    element: str
    fields: tuple[Field, ...]

    def write(self, data: bytes | msgspec.Raw, call: V1Request) -> bytes:
        """Return the document of one v2 object, validated; its notes go to the call.

        Raises:
            UpstreamFault: `data` is not such an object.
            InvalidAnswer: the object cannot be told in the call's dialect.
        """
        shape = _shape(self, call.dialect)
        return _write(shape, _item_writer(self, call.dialect), [decode(data, shape.unread)], call)


class Page(NamedTuple):
    """A page of v2, translated."""

    parts: tuple[bytes, ...]
    """Its items as validated parts of a list."""
    next: str | None
    """The link to the page after it."""


class _KeptPage(NamedTuple):
    page: Page
    notes: tuple[tuple[Note, int], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Collection:
    """Many of an entity: a list in v1, a page after another in v2."""

    entity: Entity
    root: PerDialect[str]
    """The element that a list has as its root."""
    key: str
    """The key under which a page of v2 holds its items."""

    def translate(self, body: bytes, call: V1Request) -> Page:
        """Translate a page of v2; its notes go to the call.

        With `call.reuse`, what was translated before is not translated again: the same bytes for
        the same ids in the same dialect.

        Raises:
            UpstreamFault: `body` is no page of such objects.
            InvalidAnswer: one of them cannot be told in the call's dialect.
        """
        if call.reuse is None:
            return self._translate(body, call)
        # SHA-256 takes a third of BLAKE2b's time where processors know it, as most do.
        digest = hashlib.sha256(body).digest()
        key = (self, call.dialect, *sorted(call.ids.items()), digest)
        kept: _KeptPage | None = call.reuse.get(key)
        if kept is None:
            made = msgspec.structs.replace(call, notes=Notes())
            try:
                page = self._translate(body, made)
            finally:
                call.notes.merge(made.notes)
            kept = _KeptPage(page, tuple(made.notes))
            call.reuse.put(key, kept, sum(map(len, (*page.parts, page.next or ""))))
        else:
            call.notes.merge(kept.notes)
        return kept.page

    def _translate(self, body: bytes, call: V1Request) -> Page:
        shape = _shape(self.entity, call.dialect)
        writer = _part_writer(self, call.dialect)
        page = decode(body, page_type(self.key, shape.unread))
        parts = tuple(
            _write(shape, writer, page.items[at : at + BATCH], call)
            for at in range(0, len(page.items), BATCH)
        )
        return Page(parts, page.links.next)

    def document(self, parts: Sequence[bytes], call: V1Request) -> tuple[bytes, ...]:
        """Return the document whose items are in `parts`: in one part, unless it is long."""
        opening, closing = list_tags(self.root.of(call.dialect))
        whole = (DECLARATION + opening, *parts, closing)
        return whole if sum(map(len, parts)) > ONE_PART else (b"".join(whole),)


ONE_PART = 64 * 1024
"""Bytes that are sent at once."""


class Given(NamedTuple):
    """An element that a request may hold, and the v2 field it sets (None: it must not)."""

    element: str
    type: ElementType
    field: str | None


def form(root: str, schema: str, given: Sequence[Given]) -> Form:
    """Return the form of a request that may hold these elements."""
    return Form(root, {each.element: each.type for each in given}, schema)


class _Reading(NamedTuple):
    """How the value of a column is found in an object of v2 and the ids of the path."""

    sources: tuple[tuple[str, ...], ...]
    """Each as the names that lead down to it."""
    choose: Callable[..., Any] | None
    from_path: bool

    def values(
        self, told: Mapping[str, Sequence[Any]], ids: Mapping[str, int], count: int
    ) -> Sequence[Any]:
        """Return the values for `count` items, of which v2 has `told` these columns."""
        if self.from_path:
            return [ids[self.sources[0][0]]] * count
        columns = [_values(names, told) for names in self.sources]
        return columns[0] if self.choose is None else list(map(self.choose, *columns))


class _Shape(NamedTuple):
    """An entity in v2 and in one dialect."""

    layout: Layout
    columns: tuple[_Reading, ...]
    unread: Any
    """The v2 object with all that can be written without being understood left as it is told."""
    read: Any
    """The v2 object, understood."""


def _write(shape: _Shape, writer: Writer, items: Sequence[Any], call: V1Request) -> bytes:
    def columns(items: Sequence[Any]) -> Columns:
        rows = map(msgspec.structs.astuple, items)
        told = dict(zip(items[0].__struct_fields__, zip(*rows, strict=True), strict=True))
        return [column.values(told, call.ids, len(items)) for column in shape.columns]

    def read() -> Columns:
        return columns([convert(item, shape.read) for item in items])

    return writer.write(columns(items), read, call.notes)


def _values(names: tuple[str, ...], told: Mapping[str, Sequence[Any]]) -> Sequence[Any]:
    values = told[names[0]]
    for name in names[1:]:
        values = [None if value is None else getattr(value, name) for value in values]
    return values


@cache
def _shape(entity: Entity, dialect: Dialect) -> _Shape:
    placed = sorted(
        (at, index)
        for index, field in enumerate(entity.fields)
        if (at := field.places.of(dialect)) is not None
    )
    fields = [entity.fields[index] for _, index in placed]
    layout = Layout(
        dialect,
        root=entity.element,
        columns=tuple(Column(field.element, field.kind.v1) for field in fields),
    )
    columns = tuple(
        _Reading(
            tuple(tuple(source.path.split(".")) for source in field.sources),
            field.choose,
            from_path=field.kind.v2 is None,
        )
        for field in fields
    )
    sources = [
        source for field in entity.fields for source in field.sources if source.kind.v2 is not None
    ]
    written = {source.path for field in fields for source in field.sources}
    return _Shape(
        layout,
        columns,
        # What is not written is not seen by an XSD either, and so is understood at once.
        unread=_model(
            entity.element,
            [_member(source, read=source.path not in written) for source in sources],
        ),
        read=_model(entity.element, [_member(source, read=True) for source in sources]),
    )


@cache
def _item_writer(entity: Entity, dialect: Dialect) -> Writer:
    return Writer(_shape(entity, dialect).layout, f"{entity.schema}/{dialect}-item")


@cache
def _part_writer(collection: Collection, dialect: Dialect) -> Writer:
    entity = collection.entity
    layout = _shape(entity, dialect).layout
    return Writer(layout, f"{entity.schema}/{dialect}-list", collection.root.of(dialect))


class _Member(NamedTuple):
    """A field of a v2 object: where it is, the type of its JSON, and what v1 can tell of it."""

    path: str
    type: Any
    required: bool
    judge: Callable[[Any], bool] | None


def _member(source: Source, *, read: bool) -> _Member:
    kind = source.kind
    unread = None if read else kind.unread
    return _Member(source.path, unread or kind.v2, kind.required, kind.judge)


def _model(name: str, members: Sequence[_Member]) -> type[msgspec.Struct]:
    """Derive the typed v2 object from the field table, so that no fact stands in two places."""
    fields: dict[str, tuple[str, Any] | tuple[str, Any, None]] = {}
    nested: defaultdict[str, list[_Member]] = defaultdict(list)
    for member in members:
        first, _, below = member.path.partition(".")
        if below:
            nested[first].append(member._replace(path=below))
        elif member.required:
            fields[first] = (first, member.type)
        else:
            fields[first] = (first, member.type, None)
    for first, inner in nested.items():
        fields[first] = (first, _model(first, inner) | None, None)
    judges = [(each.path, each.judge) for each in members if each.judge and "." not in each.path]
    return msgspec.defstruct(
        name,
        sorted(fields.values(), key=len),  # the required ones come first
        namespace={"__post_init__": _judging(judges)} if judges else None,
        gc=False,  # pages of 2,000 would set it off, and there is no cycle to be found in them
    )


def _judging(judges: Sequence[tuple[str, Callable[[Any], bool]]]) -> Callable[[Any], None]:
    def judge(item: object) -> None:
        for name, can_be_told in judges:
            value = getattr(item, name)
            if value is not None and not can_be_told(value):
                raise ValueError(f"`{name}` is out of bounds")  # which makes it a ValidationError

    return judge
