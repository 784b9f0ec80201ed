"""Answers to compare: lists of messages as v1 and the bridge give them, and arbitrary documents."""

from collections.abc import Iterable
from copy import deepcopy

from hypothesis import strategies as st
from lxml import etree

from bridge.comparing import Answer

XML = "application/xml; charset=utf-8"


def answer(body: str | bytes, status: int = 200, content_type: str | None = XML) -> Answer:
    return Answer(status, content_type, body.encode() if isinstance(body, str) else body)


def message(id_: int, **elements: str) -> str:
    """A message; an element's name has underscores, and `_` behind it what stands in its tag."""
    told = {"body": "Please pay.", "subject": "Invoice", "sent_by": "Jane", **elements}
    texts = "".join(
        f"<{name.replace('_', '-')}>{text}</{name.replace('_', '-')}>"
        for name, text in told.items()
    )
    return f'<invoice-message><id type="integer">{id_}</id>{texts}</invoice-message>'


def messages(*items: str) -> Answer:
    return answer(f'<invoice-messages type="array">{"".join(items)}</invoice-messages>')


def serialized(root: etree._Element) -> Answer:
    return answer(etree.tostring(root, xml_declaration=True, encoding="UTF-8"))


_NAMES = st.sampled_from(["body", "subject", "notes", "amount", "sent-by", "company", "user"])
_TEXTS = st.text(" ab<&'\"é\n", max_size=6)
_ATTRIBUTES = st.dictionaries(st.sampled_from(["unit", "lang", "kind"]), _TEXTS, max_size=2)
_TYPED = st.sampled_from(
    [
        ({"type": type_}, text)
        for type_ in ("decimal", "integer", "datetime", "dateTime")
        for text in ("1", "1.0", "2026-01-01T00:00:00Z", "2026-01-01 00:00", "")
    ]
    + [({"type": "date", "nil": "true"}, ""), ({"nil": "true"}, ""), ({"nil": "true"}, "x")]
)


def _element(name: str, text: str, attributes: dict[str, str]) -> etree._Element:
    element = etree.Element(name, attributes)
    element.text = text
    return element


def _inner(name: str, children: Iterable[etree._Element]) -> etree._Element:
    element = etree.Element(name)
    # One of each name: what is there twice is told apart by its place, and no mutation finds it.
    for child in {child.tag: child for child in children}.values():
        element.append(deepcopy(child))
    return element


_leaves = st.one_of(
    st.builds(_element, _NAMES, _TEXTS, _ATTRIBUTES),
    st.builds(lambda name, typed: _element(name, typed[1], typed[0]), _NAMES, _TYPED),
)
_trees = st.recursive(
    _leaves,
    lambda inner: st.builds(_inner, _NAMES, st.lists(inner, min_size=1, max_size=3)),
    max_leaves=5,
)


def _list(items: list[etree._Element]) -> etree._Element:
    root = etree.Element("things", {"type": "array"})
    for number, children in enumerate(items):
        item = etree.SubElement(root, "thing")
        etree.SubElement(item, "id", {"type": "integer"}).text = str(number + 7)
        item.append(deepcopy(children))
    return root


DOCUMENTS = st.one_of(
    st.builds(_inner, st.just("hash"), st.lists(_trees, min_size=1, max_size=3)),
    st.builds(_list, st.lists(_trees, min_size=1, max_size=3)),
)
"""Objects as `who_am_i` is one, and lists of items with ids."""
