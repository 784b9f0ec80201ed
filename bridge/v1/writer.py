"""The one way XML leaves the bridge: built, validated against its XSD, then serialised.

Lists are written in batches, each validated as a list of its own. That is as good as validating
the whole, because a list's content model is any number of independent items, and it is what keeps
memory at a multiple of the answer and lets the caller give other work a turn between batches.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

from lxml import etree

from bridge.v1.elements import Column, Layout
from bridge.v1.errors import InvalidAnswer
from bridge.v1.notes import NoteCode, Notes
from bridge.v1.xsd import require_valid

Record = Mapping[str, Any]
"""The values of one item, by `Column.source`."""

DECLARATION = b'<?xml version="1.0" encoding="UTF-8"?>\n'

BATCH = 10
"""Items between two turns of the event loop: one to two milliseconds of building and validating."""

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters a JSON string can hold and XML 1.0 cannot (XML 1.0, production 2)."""


class Document(Protocol):
    """A document that can be written."""

    def parts(self, notes: Notes) -> Iterator[bytes]:
        """Yield the document in parts, each validated before it is yielded.

        Raises:
            InvalidAnswer: a part is not valid against its XSD.
        """


@dataclass(frozen=True, slots=True)
class ItemDocument:
    """One item as a document of its own."""

    layout: Layout
    record: Record

    def parts(self, notes: Notes) -> Iterator[bytes]:
        """See `Document`."""
        root = _item(self.layout, self.record, notes)
        require_valid(root, self.layout.schema)
        etree.indent(root)
        yield DECLARATION + etree.tostring(root, encoding="UTF-8") + b"\n"


@dataclass(frozen=True, slots=True)
class ListDocument:
    """Any number of items under a `type="array"` root.

    `records` is read once, and only as fast as parts are asked for.
    """

    layout: Layout
    root: str
    schema: str
    records: Iterable[Record]

    def parts(self, notes: Notes) -> Iterator[bytes]:
        """See `Document`."""
        records = iter(self.records)
        tag = self.root.encode()
        yield DECLARATION + b"<" + tag + b' type="array">'
        while batch := list(islice(records, BATCH)):
            yield self._batch(batch, notes)
        yield b"\n</" + tag + b">\n"

    def _batch(self, records: Sequence[Record], notes: Notes) -> bytes:
        root = etree.Element(self.root, {"type": "array"})
        root.extend([_item(self.layout, record, notes) for record in records])
        require_valid(root, self.schema)
        for item in root:
            etree.indent(item, level=1)
        return b"".join(
            b"\n  " + etree.tostring(item, encoding="UTF-8", with_tail=False) for item in root
        )


@dataclass(frozen=True, slots=True)
class WrittenDocument:
    """A document that has been written and validated already."""

    written: tuple[bytes, ...]

    def parts(self, notes: Notes) -> Iterator[bytes]:  # noqa: ARG002 - made when it was written
        """See `Document`."""
        return iter(self.written)


@dataclass(frozen=True, slots=True)
class ErrorsDocument:
    """What is wrong, for the caller to read: one sentence or more."""

    messages: tuple[str, ...]

    def parts(self, notes: Notes) -> Iterator[bytes]:
        """See `Document`."""
        root = etree.Element("errors")
        for message in self.messages:
            etree.SubElement(root, "error").text = _xml_text(message, "error", notes)
        require_valid(root, "errors")
        yield DECLARATION + etree.tostring(root, encoding="UTF-8") + b"\n"


def _item(layout: Layout, record: Record, notes: Notes) -> etree._Element:
    root = etree.Element(layout.root)
    for column in layout.columns:
        _append(root, column, record[column.source], layout, notes)
    return root


def _append(
    parent: etree._Element, column: Column, value: object, layout: Layout, notes: Notes
) -> None:
    attributes = {}
    if type_attribute := column.type.attribute.of(layout.dialect):
        attributes["type"] = type_attribute
    if value is None:
        etree.SubElement(parent, column.element, {**attributes, "nil": "true"})
        return
    try:
        text = column.type.text.of(layout.dialect)(
            value, lambda code: notes.add(code, column.element)
        )
    except OverflowError as error:
        raise InvalidAnswer(column.element, "value outside the range of its type") from error
    element = etree.SubElement(parent, column.element, attributes)
    element.text = _xml_text(text, column.element, notes)


def _xml_text(text: str, element: str, notes: Notes) -> str:
    if _NOT_XML.search(text) is None:
        return text
    notes.add(NoteCode.CHARACTER_REPLACED, element)
    return _NOT_XML.sub("�", text)
