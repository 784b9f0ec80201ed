"""Differences planted in right answers, and a record of each. Pure.

A difference that makes none is not planted: another value that is the same, a swap of equals.
"""

from collections import deque
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

import msgspec
from lxml import etree

from bridge.sandbox.v1.documents import Element, write
from bridge.sandbox.v1.faults import (
    ExtraElement,
    MissingElement,
    OtherType,
    OtherValue,
    Planted,
    SwappedElements,
)

MOST_KEPT = 100_000


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One that was planted. `at` is the XPath of the element in the right answer.

    `request_id` is the call's X-Request-Id, by which whoever made it knows it.
    """

    fault: str
    method: str
    path: str
    query: str
    request_id: str | None
    at: str


class Differences:
    """What was planted since the start, or since it was forgotten."""

    def __init__(self) -> None:
        """Start with none."""
        self.forget()

    def forget(self) -> None:
        """Start again with none."""
        self._total = 0
        self._last: deque[Difference] = deque(maxlen=MOST_KEPT)

    def add(self, difference: Difference) -> None:
        """Record one."""
        self._total += 1
        self._last.append(difference)

    def report(self) -> dict[str, Any]:
        """Return all of it as JSON: how many, and the last ones, oldest first."""
        return {"total": self._total, "planted": list(self._last)}


def plant(document: bytes, fault: Planted) -> tuple[bytes, str] | None:
    """Return a document with a difference, and where; None where none can be planted."""
    try:
        root = etree.fromstring(document)
    except etree.XMLSyntaxError:
        return None  # an answer without a body
    element = next(islice(root.iter(fault.element), fault.number - 1, None), None)
    if element is None:
        return None
    at = str(root.getroottree().getpath(element))
    if not _PLANTED[type(fault)](element, fault):
        return None
    return write(root), at


def _other_value(element: Element, fault: OtherValue) -> bool:
    if len(element) or element.text == fault.value:
        return False
    element.text = fault.value
    element.attrib.pop("nil", "")
    return True


def _other_type(element: Element, fault: OtherType) -> bool:
    if element.get("type") == fault.type:
        return False
    element.set("type", fault.type)
    return True


def _missing_element(element: Element, _: MissingElement) -> bool:
    parent = element.getparent()
    if parent is None:
        return False
    parent.remove(element)
    return True


def _extra_element(element: Element, fault: ExtraElement) -> bool:
    if element.getparent() is None:
        return False
    extra = etree.Element(fault.name)
    extra.text = fault.value
    extra.tail = element.tail
    element.addnext(extra)
    return True


def _swapped_elements(element: Element, _: SwappedElements) -> bool:
    following = element.getnext()
    if following is None or _alike(following, element):
        return False
    following.addnext(element)
    return True


def _alike(one: Element, other: Element) -> bool:
    return (one.tag, sorted(one.items()), one.text, len(one)) == (
        other.tag,
        sorted(other.items()),
        other.text,
        len(other),
    ) and all(map(_alike, one, other))


_PLANTED: Mapping[type[Planted], Callable[[Element, Any], bool]] = {
    OtherValue: _other_value,
    OtherType: _other_type,
    MissingElement: _missing_element,
    ExtraElement: _extra_element,
    SwappedElements: _swapped_elements,
}
