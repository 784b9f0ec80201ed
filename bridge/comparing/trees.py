"""Two documents as trees of elements, and each place at which they differ.

What an element's name or value means is the business of `known`; which answers come here, of
`answers`.
"""

from collections import Counter
from typing import NamedTuple

from lxml import etree

from bridge.comparing.findings import Difference, Kind, Spot
from bridge.comparing.known import Known, Value, known_at, name_of
from bridge.comparing.paths import COUNT, ORDER, Paths, Steps, spelled, told

MOST_TOLD = 100
"""Differences that are told one by one; all are counted."""

MOST_SPOTS = 200
"""Spots that are counted one by one: v1 may make names up. What is beyond is counted at `/…`."""

LONGEST_VALUE = 200
"""Characters of a value that are told."""

BEFORE = 40
"""Characters of a long value that are told before the first that differs."""


class Findings:
    """What is found while two documents are compared."""

    def __init__(self, wants_values: bool) -> None:
        self.differences: list[Difference] = []
        self.counted: Counter[Spot] = Counter()
        self.known: Counter[str] = Counter()
        self._wants_values = wants_values

    def add(self, kind: Kind, place: "Place", where: str, one: Value, other: Value) -> None:
        """Note a difference."""
        spot = Spot(kind, place.path)
        if spot not in self.counted and len(self.counted) >= MOST_SPOTS:
            spot = Spot(kind, "/…")
        self.counted[spot] += 1
        if len(self.differences) < MOST_TOLD:
            values = _telling(one, other) if self._wants_values else (None, None)
            self.differences.append(Difference(spot, where, *values))


def _telling(one: Value, other: Value) -> tuple[Value, Value]:
    """Return the parts of two values that show how they differ."""
    if one is None or other is None:
        return _cut(one, 0), _cut(other, 0)
    same = next((at for at, pair in enumerate(zip(one, other)) if pair[0] != pair[1]), 0)  # noqa: B905 - as far as both go
    return _cut(one, same), _cut(other, same)


def _cut(value: Value, same: int) -> Value:
    if value is None or len(value) <= LONGEST_VALUE:
        return value
    start = max(0, min(same - BEFORE, len(value) - LONGEST_VALUE))
    end = start + LONGEST_VALUE
    return ("…" if start else "") + value[start:end] + ("…" if end < len(value) else "")


class Place:
    """A place in documents, whatever the ids of items; made once for all that are there."""

    def __init__(self, steps: Steps, ignored: Paths) -> None:
        self.steps = steps
        self.path = spelled(steps)
        self.is_ignored = ignored.has(steps)
        self._ignored = ignored
        self._below: dict[str, Place] = {}
        self._known: dict[Kind, tuple[Known, ...]] = {}

    def below(self, name: str) -> "Place":
        """Return the place of what has this name here."""
        place = self._below.get(name)
        if place is None:
            place = self._below[name] = Place((*self.steps, _told(name)), self._ignored)
        return place

    def known(self, kind: Kind) -> tuple[Known, ...]:
        """Return the known differences that there can be here."""
        found = self._known.get(kind)
        if found is None:
            found = self._known[kind] = known_at(kind, self.steps)
        return found


def _told(name: str) -> str:
    if name in {ORDER, COUNT}:
        return name
    return f"@{told(name[1:])}" if name.startswith("@") else told(name)


Key = tuple[str, str, int]
"""What tells the children of an element apart: name, id, and which of those that it is."""


class Child(NamedTuple):
    """A child, and the predicate of its step: `[id=409]`, `[2]`, or nothing."""

    element: etree._Element
    predicate: str


def find(v1: etree._Element, bridge: etree._Element, top: Place, findings: Findings) -> None:
    """Compare the documents of two roots."""
    place = top.below(str(v1.tag))
    if place.is_ignored:
        return
    if v1.tag != bridge.tag:
        names = (told(str(v1.tag)), told(str(bridge.tag)))
        note(Kind.ROOT, place, place.path, "", names, findings)
        if not (_is_list(v1) and _is_list(bridge)):
            return
    _compare(v1, bridge, place, place.path, findings)


def note(  # noqa: PLR0913, PLR0917 - all that there is to a difference
    kind: Kind,
    place: Place,
    where: str,
    type_: str,
    values: tuple[Value, Value],
    findings: Findings,
) -> None:
    """Note a difference, or that it is a known one, or nothing where it is ignored."""
    if place.is_ignored:
        return
    if (name := name_of(place.known(kind), type_, *values)) is not None:
        findings.known[name] += 1
    else:
        findings.add(kind, place, where, *values)


def _compare(
    one: etree._Element, other: etree._Element, place: Place, where: str, findings: Findings
) -> None:
    """Compare two elements that stand for the same, and all in them."""
    is_inner = len(one) > 0 or len(other) > 0
    _compare_attributes(one, other, place, where, findings)
    values = (_value(one, is_inner), _value(other, is_inner))
    if values[0] != values[1]:
        type_ = str(one.get("type") or other.get("type") or "")
        note(Kind.VALUE, place, where, type_, values, findings)
    if is_inner:
        _compare_children(one, other, place, where, findings)


def _value(element: etree._Element, is_inner: bool) -> Value:
    """Return the text of an element, None if it is null; between elements, blanks are none."""
    if element.get("nil") in {"true", "1"}:
        return None
    text = element.text or ""
    if not is_inner:
        return text
    return " ".join(filter(None, [text.strip(), *((each.tail or "").strip() for each in element)]))


def _compare_attributes(
    one: etree._Element, other: etree._Element, place: Place, where: str, findings: Findings
) -> None:
    ours, theirs = _attributes(one), _attributes(other)
    if ours == theirs:
        return
    for name in dict.fromkeys([*ours, *theirs]):
        values = (ours.get(name), theirs.get(name))
        if values[0] != values[1] and name != "nil":
            kind = Kind.TYPE if name == "type" else Kind.ATTRIBUTE
            at = place.below(f"@{name}")
            note(kind, at, f"{where}/{at.steps[-1]}", "", values, findings)


def _attributes(element: etree._Element) -> dict[str, str]:
    return {str(name): str(value) for name, value in element.items()}


def _is_list(element: etree._Element) -> bool:
    return element.get("type") == "array"


def _compare_children(
    one: etree._Element, other: etree._Element, place: Place, where: str, findings: Findings
) -> None:
    is_list = _is_list(one) or _is_list(other)
    ours, theirs = _children(one, is_list), _children(other, is_list)
    if is_list and len(one) != len(other) and not _all_have_ids(ours, theirs):
        counts = (str(len(one)), str(len(other)))
        note(Kind.COUNT, place.below(COUNT), f"{where}/{COUNT}", "", counts, findings)
        return
    for key, child in ours.items():
        twin = theirs.get(key)
        at = place.below(key[0])
        if at.is_ignored:
            continue
        path = f"{where}/{at.steps[-1]}{child.predicate}"
        if twin is None:
            note(Kind.MISSING, at, path, "", (_whole(child), None), findings)
        elif not _are_equal(child, twin):
            _compare(child.element, twin.element, at, path, findings)
    for key, child in theirs.items():
        if key not in ours:
            at = place.below(key[0])
            path = f"{where}/{at.steps[-1]}{child.predicate}"
            note(Kind.ADDED, at, path, "", (None, _whole(child)), findings)
    if [key for key in ours if key in theirs] != [key for key in theirs if key in ours]:
        type_ = "array" if is_list else ""
        note(Kind.ORDER, place.below(ORDER), f"{where}/{ORDER}", type_, (None, None), findings)


def _whole(child: Child) -> Value:
    """Return the value of what stands on one side only; None: it holds elements."""
    return None if len(child.element) else _value(child.element, False)


def _are_equal(one: Child, other: Child) -> bool:
    """Tell whether two children are the same to the byte: in C, where most are."""
    return _octets(one.element) == _octets(other.element)


def _octets(element: etree._Element) -> bytes:
    return etree.tostring(element, with_tail=False)


def _children(element: etree._Element, is_list: bool) -> dict[Key, Child]:
    """Return the children by what tells them apart."""
    met: Counter[tuple[str, str]] = Counter()
    found: dict[Key, Child] = {}
    for child in element:
        name, id_ = str(child.tag), _id(child) if is_list else ""
        met[name, id_] += 1
        number = met[name, id_]
        if id_:
            predicate = f"[id={id_}]" if number == 1 else f"[id={id_}][{number}]"
        else:
            predicate = f"[{number}]" if is_list or number > 1 else ""
        found[name, id_, number] = Child(child, predicate)
    return found


def _id(item: etree._Element) -> str:
    """Return the id of an item of a list; nothing where it has none that could be one of v1's."""
    text = (item.findtext("id") or "").strip()
    return text if text.isascii() and text.isdecimal() and len(text) <= LONGEST_ID else ""


LONGEST_ID = 19
"""Digits of 2^63-1."""


def _all_have_ids(*sides: dict[Key, Child]) -> bool:
    return all(id_ for side in sides for _, id_, _ in side)
