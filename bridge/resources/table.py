"""From a field table to all that follows from it: typed v2 objects, v1 documents, and forms.

The tables themselves are the resources' own.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import cache, partial
from operator import attrgetter
from typing import Annotated, Any, NamedTuple

import msgspec

from bridge.v1 import elements
from bridge.v1.dialects import Dialect
from bridge.v1.elements import Column, ElementType, Layout, PerDialect
from bridge.v1.notes import Notes
from bridge.v1.reader import Form
from bridge.v1.wire import V1Request
from bridge.v1.writer import BATCH, DECLARATION, Writer, list_tags
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
        shape, writer = _item_writer(self, call.dialect)
        return writer.write([decode(data, shape.as_told)], call.ids, shape.read, call.notes)


class Page(NamedTuple):
    """A page of v2, translated."""

    parts: tuple[bytes, ...]
    """Its items as validated parts of a list."""
    next: str | None
    """The link to the page after it."""


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
            return self._translate(body, call, call.notes)
        # SHA-256 takes a third of BLAKE2b's time where processors know it, as most do.
        ids = " ".join(map(str, call.ids.values()))
        digest = hashlib.sha256(f"{self.entity.schema} {call.dialect} {ids}\n".encode())
        digest.update(body)
        key = digest.digest()
        kept: tuple[Page, Notes] | None = call.reuse.get(key)
        if kept is None:
            notes = Notes()
            try:
                page = self._translate(body, call, notes)
            finally:
                call.notes.merge(notes)
            call.reuse.put(key, (page, notes), sum(map(len, page.parts)))
            return page
        page, notes = kept
        call.notes.merge(notes)
        return page

    def _translate(self, body: bytes, call: V1Request, notes: Notes) -> Page:
        shape, writer = _part_writer(self, call.dialect)
        page = decode(body, page_type(self.key, shape.as_told))
        parts = tuple([
            writer.write(page.items[at : at + BATCH], call.ids, shape.read, notes)
            for at in range(0, len(page.items), BATCH)
        ])  # fmt: skip
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


class _Shape(NamedTuple):
    """An entity in v2 and in one dialect."""

    layout: Layout
    as_told: Any
    """The v2 object with all that can be written without being understood left as it is told."""
    read: Callable[[Any], Any]
    """Makes of such an object one that is understood."""


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
        columns=tuple(Column(field.element, field.kind.v1, _value(field)) for field in fields),
    )
    sources = [
        source for field in entity.fields for source in field.sources if source.kind.v2 is not None
    ]
    written = {source.path for field in fields for source in field.sources}
    # What is not written is not seen by an XSD either, and so is understood at once.
    told = [_member(source, read=source.path not in written) for source in sources]
    read = _model(entity.element, [_member(source, read=True) for source in sources])
    return _Shape(layout, _model(entity.element, told), partial(convert, type_=read))


def _value(field: Field) -> Callable[[Any], Any] | str:
    """Return what finds a field's value in a v2 object, or the id of the path that it is."""
    if field.kind.v2 is None:
        return field.source
    values = [_finding(source.path) for source in field.sources]
    if (choose := field.choose) is None:
        return values[0]
    return lambda item: choose(*[value(item) for value in values])


def _finding(path: str) -> Callable[[Any], Any]:
    first, _, below = path.partition(".")
    find = attrgetter(first)
    if not below:
        return find
    go_on = _finding(below)
    return lambda item: None if (inner := find(item)) is None else go_on(inner)


@cache
def _item_writer(entity: Entity, dialect: Dialect) -> tuple[_Shape, Writer]:
    shape = _shape(entity, dialect)
    return shape, Writer(shape.layout, f"{entity.schema}/{dialect}-item")


@cache
def _part_writer(collection: Collection, dialect: Dialect) -> tuple[_Shape, Writer]:
    shape, entity = _shape(collection.entity, dialect), collection.entity
    root = collection.root.of(dialect)
    return shape, Writer(shape.layout, f"{entity.schema}/{dialect}-list", root)


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
