"""What holds for any two documents: nothing differs from itself, and no mutation stays unseen.

To make up a document takes longer than to compare it: hence fewer examples.
"""

import random
from copy import deepcopy

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from lxml import etree

from bridge.comparing import Answer, Comparison, Kind, Result, Spot, compare
from tests.comparing.documents import DOCUMENTS, serialized


def place(element: etree._Element) -> str:
    """Spell where an element is, as a comparison does."""
    above = element.getparent()
    if above is None:
        return f"/{element.tag}"
    id_ = element.findtext("id") if above.get("type") == "array" else None
    return f"{place(above)}/{element.tag}" + ("" if id_ is None else f"[id={id_}]")


def spaced(root: etree._Element, chance: random.Random) -> etree._Element:
    """Return the same document with other white space between elements, and attributes shuffled."""
    twin = deepcopy(root)
    for element in twin.iter():
        attributes = list(element.items())
        chance.shuffle(attributes)
        element.attrib.clear()
        element.attrib.update(attributes)
        if len(element):
            element.text = chance.choice([None, "\n  ", "\t", " "])
            for child in element:
                child.tail = chance.choice([None, "\n", "  \r\n", "\t"])
    return twin


def mirrored(comparison: Comparison) -> Comparison:
    sides = {Kind.MISSING: Kind.ADDED, Kind.ADDED: Kind.MISSING}

    def spot(seen: Spot) -> Spot:
        return Spot(sides.get(seen.kind, seen.kind), seen.path)

    return comparison._replace(
        differences=tuple(
            each._replace(spot=spot(each.spot), v1=each.bridge, bridge=each.v1)
            for each in comparison.differences
        ),
        counted={spot(seen): count for seen, count in comparison.counted.items()},
    )


@settings(max_examples=50)
@given(DOCUMENTS, st.randoms(use_true_random=False))
def test_a_document_equals_itself_however_it_is_spaced(
    root: etree._Element, chance: random.Random
) -> None:
    assert compare(serialized(root), serialized(root)) == Comparison(Result.EQUAL)
    assert compare(serialized(root), serialized(spaced(root, chance))) == Comparison(Result.EQUAL)


@settings(max_examples=50)
@given(DOCUMENTS, DOCUMENTS)
def test_two_documents_differ_as_much_the_other_way_round(
    one: etree._Element, other: etree._Element
) -> None:
    assume(one.tag == other.tag)  # the paths are those of v1's root
    forth = compare(serialized(one), serialized(other), wants_values=True)
    back = mirrored(compare(serialized(other), serialized(one), wants_values=True))

    assert (forth.result, forth.counted, forth.known) == (back.result, back.counted, back.known)
    assert set(forth.differences) == set(back.differences)


@settings(max_examples=50)
@given(DOCUMENTS, st.data())
def test_a_single_mutation_is_found_where_it_is(root: etree._Element, data: st.DataObject) -> None:
    twin = deepcopy(root)
    element = data.draw(
        st.sampled_from([each for each in twin.iter() if each.tag != "id" and each is not twin])
    )
    mutations = ["attribute", "type", "missing", "added"] + ["value"] * (not len(element))
    mutation = data.draw(st.sampled_from(mutations))
    assume(element.get("nil") is None)  # whose text and type say nothing
    assume(mutation != "type" or element.get("type") not in {"integer", "array"})
    where = place(element)
    above = element.getparent()
    assert above is not None
    if mutation == "value":
        element.text = f"{element.text or ''}!"
        expected = Kind.VALUE, where
    elif mutation == "attribute":
        element.set("new", "1")
        expected = Kind.ATTRIBUTE, f"{where}/@new"
    elif mutation == "type":
        element.set("type", "integer")
        expected = Kind.TYPE, f"{where}/@type"
    elif mutation == "missing":
        above.remove(element)
        expected = Kind.MISSING, where
    else:
        above.insert(above.index(element), etree.Element("planted"))
        expected = Kind.ADDED, f"{place(above)}/planted"

    comparison = compare(serialized(root), serialized(twin))
    assert comparison.result is Result.DIFFERENT
    assert [(each.spot.kind, each.path) for each in comparison.differences] == [expected]


_PIECES = st.sampled_from([
    b"<a>", b"</a>", b"<a type='array'>", b"<b/>", b"<id>1</id>", b"<a nil='true'/>", b"<!--", b"-->",
    b"<![CDATA[", b"]]>", b"<?xml version='1.0' encoding='utf-16'?>", b"&amp;", b"&x;", b"&#0;", b"<p:b/>",
    b"<a xmlns='u'>", b"<!DOCTYPE a>", b"\xff\xfe", b"\xef\xbb\xbf", b"\x00", b"{", b'"a":1', b"}", b" ", b"x",
])  # fmt: skip
_ANSWERS = st.builds(
    Answer,
    st.sampled_from([200, 201, 204, 302, 404, 500]),
    st.sampled_from([None, "", "application/xml", "text/xml; charset=utf-16", "text/html",
                     "application/json", "application/xml; charset=rot13"]),
    st.lists(_PIECES | st.binary(max_size=4), max_size=9).map(b"".join),
)  # fmt: skip


@given(_ANSWERS, _ANSWERS)
def test_whatever_is_answered_a_comparison_comes_of_it(v1: Answer, bridge: Answer) -> None:
    comparison = compare(v1, bridge, wants_values=True)

    assert (comparison.reason is not None) is (comparison.result is Result.INCOMPARABLE)
    assert bool(comparison.counted) is (comparison.result is Result.DIFFERENT)
    assert compare(v1, v1).result is not Result.DIFFERENT
