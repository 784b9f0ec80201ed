"""The one way XML leaves the bridge: as text that has been parsed and validated against its XSD.

Text is built column by column and judged by libxml2, which is several times as quick as building a
tree: 2,000 messages take 25 ms instead of 91 on the same machine. A long list is written in
batches, each validated as a list of its own. That is as good as validating the whole, because a
list's content model is any number of independent items.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from itertools import takewhile
from typing import Any, NamedTuple

from bridge.v1.dialects import Dialect
from bridge.v1.elements import BOOLEAN, Column, Layout, NotCanonical
from bridge.v1.errors import InvalidAnswer
from bridge.v1.notes import NoteCode, Notes
from bridge.v1.xsd import is_valid, require_valid_document

DECLARATION = b'<?xml version="1.0" encoding="UTF-8"?>'

BATCH = 50
"""Items in a part of a list: as quick as 200, and whoever waits for the interpreter has it four
times as often. One of 25 takes a sixth more for each item; 1 or 2,000, a third."""

_SLICE = 64 * 1024
"""Characters of a text that are escaped before another thread can have the interpreter."""

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters a JSON string can hold and XML 1.0 cannot (XML 1.0, production 2)."""


class _Booleans(dict[bool | None, str]):
    """The elements of true and false; null has none, and is written carefully."""

    def __missing__(self, _null: None) -> str:
        raise NotCanonical


class _Cell(NamedTuple):
    """An element as it is written."""

    column: Column
    dialect: Dialect
    opening: str
    closing: str
    nil: str

    def as_told(self) -> Callable[[Any], str]:
        """Return what writes the element of a value that is still as v2 told it.

        What XML cannot hold is left for the parser to find. Raises `NotCanonical`.
        """
        opening, closing, nil = self.opening, self.closing, self.nil
        type_ = self.column.type
        text = type_.as_told.of(self.dialect)
        if type_ is BOOLEAN:
            return _Booleans(
                (value, f"{opening}{text(value)}{closing}") for value in (True, False)
            ).__getitem__

        def write(value: Any) -> str:  # noqa: ANN401 - each column has its own
            return nil if value is None else f"{opening}{text(value)}{closing}"

        def write_escaped(value: Any) -> str:  # noqa: ANN401
            if value is None:
                return nil
            written = value if text is str else text(value)
            # `_escaped`, which takes twice as long: most texts hold few of these.
            if "&" in written:
                written = _replaced(written, "&", "&amp;")
            if "<" in written:
                written = _replaced(written, "<", "&lt;")
            if ">" in written:
                written = _replaced(written, ">", "&gt;")
            if "\r" in written:
                written = _replaced(written, "\r", "&#13;")
            return f"{opening}{written}{closing}"

        return write_escaped if type_.markup else write

    def careful(self, value: Any, notes: Notes) -> str:  # noqa: ANN401
        """Write the element of a value that has been read, with what XML cannot hold replaced.

        Raises:
            InvalidAnswer: it cannot be told.
        """
        element, type_, _ = self.column
        if value is None:
            if type_.instead_of_nil is None:
                return self.nil
            notes.add(NoteCode.NULL_REPLACED, element)
            return f"{self.opening}{type_.instead_of_nil}{self.closing}"
        try:
            text = type_.text.of(self.dialect)(value, lambda code: notes.add(code, element))
        except OverflowError as error:
            raise InvalidAnswer(element, "value outside the range of its type") from error
        if type_.markup:
            if any(map(_NOT_XML.search, _slices(text))):
                notes.add(NoteCode.CHARACTER_REPLACED, element)
            text = _escaped(text)
        return f"{self.opening}{text}{self.closing}"


class Writer:
    """Writes items of one layout: one as a document, or some as a part of a list."""

    def __init__(self, layout: Layout, schema: str, root: str | None = None) -> None:
        """Write for the XSD `schema`; given a `root`, what is written has its place below it."""
        self._schema = schema
        self._document = root is None
        self._before, self._after = (DECLARATION, b"\n") if root is None else list_tags(root)
        self._cells = _cells(layout, margin="\n" if root is None else "\n  ")
        self._as_told = [(cell.column.value, cell.as_told()) for cell in self._cells]
        self._ids = [(at, id_) for at, (id_, _) in enumerate(self._as_told) if isinstance(id_, str)]

    def write(
        self,
        items: Sequence[Any],
        ids: Mapping[str, int],
        read: Callable[[Any], Any],
        notes: Notes,
    ) -> bytes:
        """Write some items, and validate what was written.

        Args:
            items: as v2 told them.
            ids: those of the path.
            read: makes typed values of an item, where some cannot be written as they were told;
                what it raises is raised.
            notes: takes the notes of what is returned.

        Raises:
            InvalidAnswer: what was written is not valid.
        """
        try:
            document = self._build(items, self._as_told, ids)
            valid = is_valid(document, self._schema)
        except NotCanonical:
            valid = False
        if not valid:
            careful = [
                (cell.column.value, partial(cell.careful, notes=notes)) for cell in self._cells
            ]
            document = self._build([read(item) for item in items], careful, ids)
            require_valid_document(document, self._schema)
        return document if self._document else document[len(self._before) : -len(self._after)]

    def _build(
        self,
        items: Sequence[Any],
        columns: Sequence[tuple[Any, Callable[[Any], str]]],
        ids: Mapping[str, int],
    ) -> bytes:
        """Write `columns`: what finds a value in an item, and what writes its element."""
        cells = list(columns)
        for at, name in self._ids:
            element = columns[at][1](ids[name])
            cells[at] = (_nothing, {None: element}.__getitem__)
        text = "".join([write(value(item)) for item in items for value, write in cells])
        return b"".join((self._before, text.encode(), self._after))


def _nothing(_item: object) -> None:
    """Stand for what no item has: an id of the path."""


@cache
def list_tags(root: str) -> tuple[bytes, bytes]:
    """Return what stands before and after the items of a list, but for its declaration."""
    return f'\n<{root} type="array">'.encode(), f"\n</{root}>\n".encode()


def write_errors(*sentences: str) -> bytes:
    """Write what is wrong, for the caller to read: each sentence, and all of them once more.

    Some clients look for `error`, as Rails does, and others for `message` (schemas/README.md,
    "Answers that are not 2xx").

    Raises:
        InvalidAnswer: there is no sentence, or an empty one.
    """
    errors = "".join(f"<error>{_escaped(sentence)}</error>" for sentence in sentences)
    message = f"<message>{_escaped(' '.join(sentences))}</message>"
    document = DECLARATION + f"\n<errors>{errors}{message}</errors>\n".encode()
    require_valid_document(document, "errors")
    return document


def _cells(layout: Layout, margin: str) -> list[_Cell]:
    """Lay out an item: what surrounds elements opens with the first and closes with the last."""
    groups = [(layout.root, *column.element.split("/")[:-1]) for column in layout.columns]
    cells: list[_Cell] = []
    for column, above, own, below in zip(
        layout.columns, [(), *groups], groups, [*groups[1:], ()], strict=False
    ):
        margins = [margin + "  " * depth for depth in range(len(own) + 1)]
        openings = [f"{at}<{group}>" for at, group in zip(margins, own, strict=False)]
        closings = [f"{at}</{group}>" for at, group in zip(margins, own, strict=False)]
        before = "".join(openings[_common(above, own) :])
        after = "".join(reversed(closings[_common(own, below) :]))
        attribute = column.type.attribute.of(layout.dialect)
        type_ = "" if attribute is None else f' type="{attribute}"'
        element = column.element.rpartition("/")[2]
        tag = f"{before}{margins[-1]}<{element}{type_}"
        cells.append(
            _Cell(
                column,
                layout.dialect,
                opening=f"{tag}>",
                closing=f"</{element}>{after}",
                nil=f'{tag} nil="true"/>{after}',
            )
        )
    return cells


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """Return how many members both begin with."""
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _escaped(text: str) -> str:
    """Return what XML may hold of a text, escaped."""
    if len(text) > _SLICE:
        return "".join(map(_escaped, _slices(text)))
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # In the open, it would be read as a line feed (XML 1.0, section 2.11).
    text = text.replace("\r", "&#13;")
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)


def _replaced(text: str, character: str, reference: str) -> str:
    if len(text) > _SLICE:
        return "".join([part.replace(character, reference) for part in _slices(text)])
    return text.replace(character, reference)


def _slices(text: str) -> list[str]:
    """Cut a text where each of its characters can be judged by itself."""
    return [text[at : at + _SLICE] for at in range(0, len(text), _SLICE)]
