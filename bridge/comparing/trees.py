"""Two documents as trees of elements, and each place at which they differ.

What an element's name or value means is the business of `known`; which answers come here, of
`answers`.
"""

from collections import Counter
from collections.abc import Callable, Container, Mapping
from typing import NamedTuple

from lxml import etree

from bridge.comparing.findings import Difference, Kind, Spot
from bridge.comparing.known import NULL, UNTYPED, Known, Value, known_at, name_of
from bridge.comparing.paths import COUNT, ORDER, Paths, Steps, spelled, told

MOST_TOLD = 100
"""Differences that are told one by one; all are counted."""

MOST_LEVELS = 16
"""Elements in each other: v1 has five. What is deeper on one side only is one difference."""

MOST_NAMES = 200
"""Names of what is at one place, and spots that are counted: v1 may make names up. What is beyond
goes together, as `…`."""

LONGEST_VALUE = 200
"""Characters of a value that are told."""

BEFORE = 40
"""Characters of a long value that are told before the first that differs."""


class TooDeep(Exception):
    """Both documents have more than `MOST_LEVELS`."""


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
        """Return the place of what has this name here.

        Raises:
            TooDeep: it is too far from the root.
        """
        if len(self.steps) > MOST_LEVELS:  # an attribute of the last one may follow
            raise TooDeep
        if name not in self._below and len(self._below) >= MOST_NAMES:
            name = "…"
        place = self._below.get(name)
        if place is None:
            place = self._below[name] = Place((*self.steps, told(name)), self._ignored)
        return place

    def known(self, kind: Kind) -> tuple[Known, ...]:
        """Return the known differences that there can be here."""
        found = self._known.get(kind)
        if found is None:
            found = self._known[kind] = known_at(kind, self.steps)
        return found


class At(NamedTuple):
    """Where the comparison is."""

    place: Place
    path: str
    """With the ids of items."""

    def below(self, name: str, predicate: str = "") -> "At":
        """Return where a child, or what belongs to this element, is."""
        place = self.place.below(name)
        return At(place, f"{self.path}/{place.steps[-1]}{predicate}")


_NOBODYS = frozenset({Kind.STATUS, Kind.COUNT, Kind.ROOT})
"""What holds no value of a customer's."""


class Findings:
    """What is found while two answers are compared."""

    def __init__(self, wants_values: bool) -> None:
        self.differences: list[Difference] = []
        self.counted: Counter[Spot] = Counter()
        self.known: Counter[str] = Counter()
        self._wants_values = wants_values

    def note(
        self, kind: Kind, at: At, one: Value, other: Value, types: frozenset[str] = UNTYPED
    ) -> None:
        """Note a difference, or that it is a known one, or nothing where it is ignored."""
        place = at.place
        if place.is_ignored:
            return
        if (name := name_of(place.known(kind), types, one, other)) is not None:
            self.known[name] += 1
            return
        spot = Spot(kind, place.path)
        if spot not in self.counted and len(self.counted) >= MOST_NAMES:
            spot = Spot(kind, "/…")
        self.counted[spot] += 1
        if len(self.differences) < MOST_TOLD:
            is_told = self._wants_values or kind in _NOBODYS
            values = _telling(one, other) if is_told else (None, None)
            self.differences.append(Difference(spot, at.path, *values))


def _telling(one: Value, other: Value) -> tuple[Value, Value]:
    """Return the parts of two values that show how they differ."""
    same = _common(one or "", other or "")
    return _cut(one, same), _cut(other, same)


def _common(one: str, other: str) -> int:
    """Return how many characters two texts have in common at their beginning."""
    common, most = 0, min(len(one), len(other))
    while common < most:  # by halves: to look at each of millions would take half a second
        middle = (common + most + 1) // 2
        if one[common:middle] == other[common:middle]:
            common = middle
        else:
            most = middle - 1
    return common


def _cut(value: Value, same: int) -> Value:
    if value is None or len(value) <= LONGEST_VALUE:
        return value
    start = max(0, min(same - BEFORE, len(value) - LONGEST_VALUE))
    end = start + LONGEST_VALUE
    return ("…" if start else "") + value[start:end] + ("…" if end < len(value) else "")


def find(v1: etree._Element, bridge: etree._Element, top: Place, findings: Findings) -> None:
    """Note where the documents of two roots differ."""
    at = At(top, "").below(str(v1.tag))
    if at.place.is_ignored:
        return
    if v1.tag != bridge.tag:
        findings.note(Kind.ROOT, at, told(str(v1.tag)), told(str(bridge.tag)))
        if not (_is_list(v1) and _is_list(bridge)):
            return
    _compare(v1, bridge, at, findings)


def _compare(one: etree._Element, other: etree._Element, at: At, findings: Findings) -> None:
    """Compare two elements that stand for the same, and all in them."""
    _compare_attributes(one, other, at, findings)
    is_inner = len(one) > 0 or len(other) > 0 or _is_list(one) or _is_list(other)
    values = _value(one, is_inner), _value(other, is_inner)
    if values[0] != values[1]:
        types = frozenset(str(each.get("type") or "") for each in (one, other))
        # One that says nothing may be anything.
        findings.note(Kind.VALUE, at, *values, types if len(types) == 1 else types - {""})
    if is_inner:
        _compare_children(one, other, at, findings)


def _compare_attributes(
    one: etree._Element, other: etree._Element, at: At, findings: Findings
) -> None:
    ours, theirs = one.items(), other.items()
    if ours == theirs:
        return
    by_name = dict(ours), dict(theirs)
    for key in dict.fromkeys(name for name, _ in (*ours, *theirs)):
        name = str(key)
        left, right = (str(each[key]) if key in each else None for each in by_name)
        if left != right and name != "nil":  # which is told as a value
            kind = Kind.TYPE if name == "type" else Kind.ATTRIBUTE
            types = _OF_NULL if _is_null(one) and _is_null(other) else UNTYPED
            findings.note(kind, at.below(f"@{name}"), left, right, types)


def _value(element: etree._Element, is_inner: bool) -> Value:
    """Return the text of an element, None if it is null; between elements, blanks are none."""
    if _is_null(element):
        return None
    text = element.text or ""
    if not is_inner:
        return text
    return " ".join(filter(None, [text.strip(), *((each.tail or "").strip() for each in element)]))


_OF_NULL = frozenset({NULL})


def _is_null(element: etree._Element) -> bool:
    return element.get("nil") in {"true", "1"}


def _is_list(element: etree._Element) -> bool:
    return element.get("type") == "array"


def _compare_children(
    one: etree._Element, other: etree._Element, at: At, findings: Findings
) -> None:
    if _is_list(one) or _is_list(other):
        _compare_lists(_keyed(one, _id), _keyed(other, _id), at, findings)
        return
    names = [each.tag for each in one]
    if len(set(names)) == len(names) and names == [each.tag for each in other]:
        # As nearly always. It saves two thirds of the time.
        for child, twin in zip(one, other, strict=True):
            if _may_differ(child, twin):
                _compare_child(child, twin, at.below(str(child.tag)), findings)
        return
    _compare_by_key(_keyed(one, _no_id), _keyed(other, _no_id), at, findings)


def _may_differ(one: etree._Element, other: etree._Element) -> bool:
    if len(one) or len(other):
        return True
    return one.text != other.text or one.items() != other.items()


class Key(NamedTuple):
    """What tells the children of an element apart."""

    name: str
    id: str
    """Nothing where there is none, or none is looked for."""
    number: int
    """Which of those of this name and id it is."""


Children = Mapping[Key, etree._Element]  # noqa: SLF001 - a type has no other name


def _keyed(parent: etree._Element, id_of: Callable[[etree._Element], str]) -> Children:
    """Return an element's children by what tells them apart, in their order."""
    found: dict[Key, etree._Element] = {}
    met: Counter[tuple[str, str]] = Counter()
    for child in parent:
        name, id_ = str(child.tag), id_of(child)
        met[name, id_] += 1
        found[Key(name, id_, met[name, id_])] = child
    return found


def _no_id(_child: etree._Element) -> str:
    return ""


def _id(item: etree._Element) -> str:
    """Return the id of an item of a list; nothing where it has none that could be one of v1's."""
    element = next(item.iterchildren("id"), None)
    text = "" if element is None else (element.text or "").strip()
    return text if text.isascii() and text.isdecimal() and len(text) <= LONGEST_ID else ""


LONGEST_ID = 19
"""Digits of 2^63-1."""


def _compare_lists(ours: Children, theirs: Children, at: At, findings: Findings) -> None:
    without = [Counter(key.name for key in each if not key.id) for each in (ours, theirs)]
    uneven = {name for name in without[0] if without[1][name] not in {0, without[0][name]}}
    if uneven:
        # Which of them is missing nobody can say, and all behind it would be another.
        findings.note(Kind.COUNT, at.below(COUNT), str(len(ours)), str(len(theirs)))
        ours, theirs = _less(ours, uneven), _less(theirs, uneven)
    _compare_by_key(ours, theirs, at, findings)


def _less(children: Children, names: Container[str]) -> Children:
    return {key: each for key, each in children.items() if key.id or key.name not in names}


def _compare_by_key(ours: Children, theirs: Children, at: At, findings: Findings) -> None:
    for key, child in ours.items():
        twin = theirs.get(key)
        if twin is None:
            _note_alone(Kind.MISSING, key, child, at, findings)
        elif _octets(child) != _octets(twin):  # in C, and most are the same
            _compare_child(child, twin, at.below(key.name, _predicate(key)), findings)
    for key, child in theirs.items():
        if key not in ours:
            _note_alone(Kind.ADDED, key, child, at, findings)
    if [key for key in ours if key in theirs] != [key for key in theirs if key in ours]:
        findings.note(Kind.ORDER, at.below(ORDER), None, None)


def _predicate(key: Key) -> str:
    """Return what tells a step of a path from others of its name, if anything has to."""
    number = "" if key.number == 1 else f"[{key.number}]"
    return f"[id={key.id}]{number}" if key.id else number


def _octets(element: etree._Element) -> bytes:
    return etree.tostring(element, with_tail=False)


def _compare_child(child: etree._Element, twin: etree._Element, at: At, findings: Findings) -> None:
    if not at.place.is_ignored:
        _compare(child, twin, at, findings)


def _note_alone(kind: Kind, key: Key, child: etree._Element, at: At, findings: Findings) -> None:
    """Note that a child stands on one side only."""
    value = None if len(child) else _value(child, is_inner=False)
    values = (value, None) if kind is Kind.MISSING else (None, value)
    findings.note(kind, at.below(key.name, _predicate(key)), *values)
