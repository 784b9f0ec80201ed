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
from bridge.v1.notes import NoteCode, NoteCount, Notes
from bridge.v1.paths import MAX_ID
from bridge.v1.reader import Form, plain_markup
from bridge.v1.wire import V1Request
from bridge.v1.writer import BATCH, DECLARATION, Writer, list_tags
from bridge.v2.decoding import convert, decode
from bridge.v2.errors import UpstreamTimeout
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


V2Id = Annotated[int, msgspec.Meta(ge=1, le=MAX_ID)]


class Identified(msgspec.Struct):
    """Anything of v2 that has an id."""

    id: V2Id


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
INTEGER = Kind(int | None, elements.INTEGER)
OTHER_ID = Kind(V2Id | None, elements.INTEGER)
PATH_ID = Kind(None, elements.INTEGER)
BOOLEAN = Kind(bool | None, elements.BOOLEAN)
DATE = Kind(date | None, elements.DATE, unread=str | None)
DATETIME = Kind(datetime | None, elements.DATETIME, unread=str | None)
DECIMAL = Kind(Decimal | None, elements.DECIMAL, judge=is_told_plainly)
STRING = Kind(str | None, elements.STRING)
UNSAID = Kind(Any, elements.STRING)
"""Whatever it is, it is not told: no type of it makes an answer wrong."""


class Source(NamedTuple):
    """A v2 field: its name, or names down to it such as `payment_gateway.id`, and its kind."""

    path: str
    kind: Kind

    @property
    def unread(self) -> "Source":
        """The same, where it need not be understood to be written."""
        return self._replace(kind=self.kind._replace(v2=self.kind.unread or self.kind.v2))


class Field(NamedTuple):
    """One fact of the translation: a v2 field (or an id of the path) and its v1 element."""

    source: str
    """As in `Source`. Of a nested field, null is also what has a null above it."""
    element: str
    """As in `Column`."""
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
    unsaid: tuple[str, ...] = ()
    """The v2 fields, spelled as in `Source`, that no dialect has an element for."""

    def write(self, data: bytes | msgspec.Raw, call: V1Request) -> bytes:
        """Return the document of one v2 object, validated; its notes go to the call.

        Raises:
            UpstreamFault: `data` is not such an object.
            InvalidAnswer: the object cannot be told in the call's dialect.
        """
        told = _telling(self, call.dialect)
        return told.write([decode(data, told.item)], call, call.notes)


class Page(msgspec.Struct, frozen=True, gc=False):
    """A page of v2, translated. Thousands are kept: the garbage collector need not see them."""

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
    path: str
    """Where v2 has it, with the ids of the v1 path in braces."""
    key: str
    """The key under which a page of v2 holds its items."""

    def path_of(self, call: V1Request) -> str:
        """Return the path to ask v2."""
        return self.path.format_map(call.ids)

    def translate(self, body: bytes, call: V1Request) -> Page:
        """Translate a page of v2; its notes go to the call.

        With `call.reuse`, what was translated before is not translated again: the same bytes for
        the same ids in the same dialect.

        Raises:
            UpstreamFault: `body` is no page of such objects.
            UpstreamTimeout: the call's time was up before all were told.
            InvalidAnswer: one of them cannot be told in the call's dialect.
        """
        if call.reuse is None:
            return self._translate(body, call, call.notes)
        # SHA-256 takes a third of BLAKE2b's time where processors know it, as most do.
        digest = hashlib.sha256(f"{self.path} {call.dialect} {call.ids}\n".encode())
        digest.update(body)
        key = digest.digest()
        kept: tuple[Page, tuple[NoteCount, ...]] | None = call.reuse.get(key)
        if kept is not None:
            page, noted = kept
            call.notes.merge(noted)
            return page
        notes = Notes()
        try:
            page = self._translate(body, call, notes)
        finally:
            call.notes.merge(notes)
        call.reuse.put(key, (page, tuple(notes)), sum(map(len, page.parts)))
        return page

    def _translate(self, body: bytes, call: V1Request, notes: Notes) -> Page:
        told = _telling(self.entity, call.dialect, self.root.of(call.dialect))
        page = decode(body, page_type(self.key, told.item))
        parts: list[bytes] = []
        for at in range(0, len(page.items), BATCH):
            if call.out_of_time():
                raise UpstreamTimeout("the call's time was up")
            parts.append(told.write(page.items[at : at + BATCH], call, notes))
        return Page(tuple(parts), page.links.next)

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


def form(schema: str, entity: Entity, given: Sequence[Given]) -> Form:
    """Return the form of a request that may hold these elements, to make or change an entity.

    Clients post back what they have read, so all elements of the entity are ordinary names.
    """
    read = [field.element for field in entity.fields]
    elements = {each.element: each.type for each in given}
    plain = plain_markup([entity.element, *read, *elements])
    return Form(entity.element, elements, schema, plain)


class _Telling(NamedTuple):
    """How an entity of v2 is told in one dialect."""

    item: Any
    """The v2 object with all that can be written without being understood left as it is told."""
    read: Callable[[Any], Any]
    """Makes of such an object one that is understood."""
    writer: Writer
    unsaid: tuple[tuple[str, Callable[[Any], Any]], ...]
    """The fields that the dialect has no element for, and what finds their values."""

    def write(self, items: Sequence[Any], call: V1Request, notes: Notes) -> bytes:
        """Write some items as `Writer` does, and note what of them v1 cannot say."""
        written = self.writer.write(items, call.ids, self.read, notes)
        for field, find in self.unsaid:
            if lost := len(list(filter(None, map(find, items)))):
                notes.add(NoteCode.FIELD_LOST, field, lost)
        return written


@cache
def _telling(entity: Entity, dialect: Dialect, root: str | None = None) -> _Telling:
    """Compile the field table: for one item, or for a list with this root."""
    placed = [field for field in entity.fields if field.places.of(dialect) is not None]
    placed.sort(key=lambda field: field.places.of(dialect) or 0)
    columns = tuple(Column(field.element, field.kind.v1, _value(field)) for field in placed)
    sources = [
        source for field in entity.fields for source in field.sources if source.kind.v2 is not None
    ]
    written = {source.path for field in placed for source in field.sources}
    # What is not written is not seen by an XSD either, and so is understood at once.
    told = [source.unread if source.path in written else source for source in sources]
    # Before them, for one of them may say it: there, its type counts.
    told = [*(Source(path, UNSAID) for path in entity.unsaid), *told]
    return _Telling(
        _model(entity.element, told),
        partial(convert, type_=_model(entity.element, sources)),
        Writer(
            Layout(dialect, entity.element, columns),
            f"{entity.schema}/{dialect}-{'item' if root is None else 'list'}",
            root,
        ),
        tuple((path, _finding(path)) for path in entity.unsaid),
    )


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


def _model(name: str, sources: Sequence[Source]) -> type[msgspec.Struct]:
    """Derive the typed v2 object from the field table, so that no fact stands in two places."""
    fields: dict[str, tuple[str, Any] | tuple[str, Any, None]] = {}
    nested: defaultdict[str, list[Source]] = defaultdict(list)
    judges: dict[str, Callable[[Any], bool]] = {}
    for path, kind in sources:
        first, _, below = path.partition(".")
        if below:
            nested[first].append(Source(below, kind))
            continue
        fields[first] = (first, kind.v2) if kind.required else (first, kind.v2, None)
        if kind.judge is not None:
            judges[first] = kind.judge
    for first, inner in nested.items():
        fields[first] = (first, _model(first, inner) | None, None)

    def judge(item: object) -> None:
        for member, can_be_told in judges.items():
            value = getattr(item, member)
            if value is not None and not can_be_told(value):
                raise ValueError(f"`{member}` is out of bounds")  # which makes it a ValidationError

    return msgspec.defstruct(
        name,
        sorted(fields.values(), key=len),  # the required ones come first
        namespace={"__post_init__": judge} if judges else None,
        gc=False,  # pages of 2,000 would set it off, and there is no cycle to be found in them
    )
