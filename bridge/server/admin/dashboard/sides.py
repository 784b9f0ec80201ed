"""Both sides of a captured call, set out line by line, with what corresponds marked by a number.

Which names correspond is read off the field tables (`bridge.resources.correspondence`). A body that
cannot be read, or was cut, is shown as text.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from lxml import etree

from bridge.record.log.exchange import Exchange, Headers, Message
from bridge.resources import RESOURCES
from bridge.resources.correspondence import Correspondence, of_answers, of_requests
from bridge.resources.routes import Resource

MOST_LINES = 1500
"""Of a body that are shown."""

MOST_CHARACTERS = 4000
"""Of one value that are shown."""

Token = tuple[str, str]
"""A class of the style sheet, and a text."""


class Line(msgspec.Struct):
    """One line of a body."""

    depth: int
    tokens: list[Token]
    item: str | None = None
    """Which of a list's items it is part of: its id, as text."""
    name: str | None = None
    """The path of the element or member in its item."""
    mark: int | None = None
    """The number that it has in common with what corresponds to it."""
    partner: str | None = None
    """The name of what corresponds to it on the other side."""


class Body(msgspec.Struct):
    """A body, set out."""

    kind: str
    """`xml`, `json`, or `text` where it could not be read."""
    size: int
    lines: list[Line]
    more_lines: int = 0
    """Those that are not shown."""
    left_out: str | None = None
    """Why not all of it was captured, as in `Message`."""


class Half(msgspec.Struct):
    """A request or an answer."""

    headers: Headers
    body: Body | None


class Upstream(msgspec.Struct):
    """A v2 call."""

    method: str
    url: str
    status: int | None
    error: str | None
    milliseconds: float | None
    shared: bool
    """Whether it was made for another legacy call."""
    request: Half | None
    answer: Half | None


class Other(msgspec.Struct):
    """What the side has answered that the client was not given the answer of."""

    side: str
    status: int
    answer: Half


class Sides(msgspec.Struct):
    """A legacy call, and the v2 calls that were made for it."""

    method: str
    url: str
    status: int | None
    raw: bool
    marks: int
    """How many facts were found on both sides."""
    request: Half | None
    answer: Half | None
    upstream: list[Upstream]
    other: Other | None = None
    """What the answer was compared with, where it differs."""


def _other(exchange: Exchange) -> Other | None:
    other, half = exchange.other, None if exchange.other is None else _half(exchange.other.answer)
    return None if other is None or half is None else Other(other.side, other.status, half)


def set_out(exchange: Exchange, route: str | None) -> Sides:
    """Set out both sides of a call of this route, the fields that correspond marked."""
    sides = Sides(
        exchange.method,
        exchange.url,
        exchange.status,
        exchange.raw,
        0,
        _half(exchange.request),
        _half(exchange.answer),
        [
            Upstream(
                each.method,
                each.url,
                each.status,
                each.error,
                each.milliseconds,
                each.shared,
                _half(each.request),
                _half(each.answer),
            )
            for each in exchange.upstream
        ],
        _other(exchange),
    )
    method = "GET" if exchange.method == "HEAD" else exchange.method
    found = next(
        (
            (resource, call)
            for resource in RESOURCES
            for call in resource.calls
            if (call.method, call.path) == (method, route)
        ),
        None,
    )
    if found is not None:
        resource, call = found
        asked = _mark(
            0,
            of_requests(call),
            [(_lines(sides.request), "")],
            [(_lines(each.request), "") for each in sides.upstream],
        )
        sides.marks = _mark(
            asked,
            of_answers(call),
            [(_lines(sides.answer), "")],
            [(_lines(each.answer), _part(resource, each.url)) for each in sides.upstream],
        )
    return sides


def _part(resource: Resource, url: str) -> str:
    path = url.partition("?")[0]
    return next(
        (f"{name}." for end, name in resource.parts.items() if path.endswith(end)),
        "",
    )


def _lines(half: Half | None) -> Sequence[Line]:
    return () if half is None or half.body is None else half.body.lines


_Place = tuple[Sequence[Line], str]
"""Lines, and what stands before each of their names in the tables."""


def _mark(marks: int, same: Correspondence, v1: Sequence[_Place], v2: Sequence[_Place]) -> int:
    """Number what is on both sides, from `marks` on, and return the last number.

    Items of a list are paired by their ids. What has none is paired with what tells the same fact,
    if nothing else does.
    """
    left = _facts(same.elements, v1)
    right = _facts(same.members, v2)
    for (item, fact), lines in left.items():
        others = right.get((item, fact)) or _only(left, right, item, fact)
        if not others:
            continue
        marks += 1
        for line in lines:
            line.mark, line.partner = marks, _names(others)
        for line in others:
            line.mark, line.partner = marks, _names(lines)
    return marks


_Facts = Mapping[tuple[str | None, str], list[Line]]
"""Lines by their item, and by the fact that they tell."""


def _only(left: _Facts, right: _Facts, item: str | None, fact: str) -> list[Line] | None:
    on_the_left = [its for its, told in left if told == fact]
    on_the_right = [its for its, told in right if told == fact]
    if len(on_the_left) != 1 or len(on_the_right) != 1:
        return None
    return right[on_the_right[0], fact] if None in {item, on_the_right[0]} else None


def _facts(names: Mapping[str, str], places: Sequence[_Place]) -> _Facts:
    found: defaultdict[tuple[str | None, str], list[Line]] = defaultdict(list)
    for lines, before in places:
        for line in lines:
            if line.name is not None and (fact := names.get(before + line.name)) is not None:
                found[line.item, fact].append(line)
    return found


def _names(lines: Sequence[Line]) -> str:
    return ", ".join(dict.fromkeys(line.name or "" for line in lines))


def _half(message: Message | None) -> Half | None:
    if message is None:
        return None
    return Half(message.headers, _body(message) if message.size or message.body else None)


def _body(message: Message) -> Body:
    lines: list[Line] | None = None
    kind = "text"
    if message.left_out is None:
        # A message does not say which it is where its client did not.
        kind = "xml" if message.body.lstrip()[:1] == b"<" else "json"
        lines = _xml(message.body) if kind == "xml" else _json(message.body)
    if lines is None:
        kind = "text"
        text = message.body.decode("utf-8", "replace")
        lines = [Line(0, [("", _short(each))]) for each in text.splitlines()]
    more = max(0, len(lines) - MOST_LINES)
    return Body(kind, message.size, lines[:MOST_LINES], more, message.left_out)


def _short(text: str) -> str:
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}…"


# XML


def _xml(body: bytes) -> list[Line] | None:
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_pis=True
    )
    try:
        root = etree.fromstring(body, parser)
    except (etree.XMLSyntaxError, ValueError):
        return None
    items = _is_list(root)
    lines: list[Line] = []
    if items:
        lines.append(Line(0, _start(root)))
        for item in root.iterchildren(tag=etree.Element):
            lines += _element(item, 1, (), _id(item))
        lines.append(Line(0, _end(root)))
    else:
        lines += _element(root, 0, (), _id(root))
    return lines


def _is_list(root: etree._Element) -> bool:
    return root.get("type") == "array"


def _id(item: etree._Element) -> str | None:
    return item.findtext("id")


def _element(
    element: etree._Element, depth: int, above: tuple[str, ...], item: str | None
) -> Iterator[Line]:
    """Set out an element of an item; `above` are the names between the two."""
    below = list(element.iterchildren(tag=etree.Element))
    name = "/".join(above) or None
    if not below:
        text = element.text or ""
        if not text:
            yield Line(depth, _start(element, "/>"), item, name)
        else:
            tokens = [*_start(element), ("text", _short(text)), *_end(element)]
            yield Line(depth, tokens, item, name)
        return
    yield Line(depth, _start(element), item)
    for each in below:
        yield from _element(each, depth + 1, (*above, str(each.tag)), item)
    yield Line(depth, _end(element), item)


def _start(element: etree._Element, close: str = ">") -> list[Token]:
    tokens: list[Token] = [("mark", "<"), ("tag", str(element.tag))]
    for name, value in element.attrib.items():
        tokens += [
            ("", " "),
            ("key", str(name)),
            ("mark", "="),
            ("text", f'"{_short(str(value))}"'),
        ]
    return [*tokens, ("mark", close)]


def _end(element: etree._Element) -> list[Token]:
    return [("mark", "</"), ("tag", str(element.tag)), ("mark", ">")]


# JSON


def _json(body: bytes) -> list[Line] | None:
    try:
        return list(_value(msgspec.json.decode(body), 0, "", "", None, None))
    except (ValueError, RecursionError):
        return None


def _value(  # noqa: PLR0913, PLR0917 - where a value stands is all of this
    value: Any,  # noqa: ANN401 - any JSON
    depth: int,
    key: str,
    comma: str,
    name: str | None,
    item: str | None,
) -> Iterator[Line]:
    before: list[Token] = (
        [("key", msgspec.json.encode(key).decode()), ("mark", ": ")] if key else []
    )
    after: list[Token] = [("mark", comma)] if comma else []
    if isinstance(value, dict) and value:
        item = str(value["id"]) if name is None and "id" in value else item
        yield Line(depth, [*before, ("mark", "{")], item)
        for at, (each, its) in enumerate(value.items(), 1):
            path = each if name is None else f"{name}.{each}"
            end = "," if at < len(value) else ""
            yield from _value(its, depth + 1, each, end, path, item)
        yield Line(depth, [("mark", "}"), *after], item)
    elif isinstance(value, list) and value and isinstance(value[0], dict) and _has_ids(value):
        yield Line(depth, [*before, ("mark", "[")])
        for at, its in enumerate(value, 1):
            end = "," if at < len(value) else ""
            yield from _value(its, depth + 1, "", end, None, None)
        yield Line(depth, [("mark", "]"), *after])
    else:
        spelled = _short(msgspec.json.encode(value).decode())
        kind = "text" if isinstance(value, str) else "value"
        yield Line(depth, [*before, (kind, spelled), *after], item, name)


def _has_ids(items: list[Any]) -> bool:
    return all(isinstance(each, dict) and "id" in each for each in items)
