"""From the bytes of an answer to a tree of elements, by a parser that trusts neither side.

XML and the one JSON that v1 and the bridge have in common become trees of one kind. What is bounded
is bounded before it is parsed.
"""

import re
from itertools import islice

import msgspec
from lxml import etree

from bridge.comparing.findings import Answer, Reason
from bridge.v1.encoding import decode_xml
from bridge.v1.errors import LegacyCallError

LONGEST = 8 * 1024 * 1024
"""Bytes of a body. A list of 2,000 messages has one or two million; and libxml2 takes no text of
ten million unless it is told to take anything."""

MOST_MARKUP = 150_000
"""Opening angle brackets of a document: 6,000 payments have fewer."""

MOST_ATTRIBUTES = 8
"""Of one element: v1 has two."""

MOST_NAMESPACES = 4
"""Declarations in a document, and"""

LONGEST_NAMESPACE = 200
"""characters of one: v1 has none, a page of XHTML one. With each element that is compared, libxml2
writes all out that are in force: as many by as many."""

LONGEST_JSON = 64 * 1024
"""Bytes: what v1 had as JSON has a hundred."""

_JSON = re.compile(r"\s*application/(?:[a-z0-9.-]+\+)?json\s*(?:;|$)", re.IGNORECASE)

_has_too_many_attributes = etree.XPath(f"boolean(//*[@*[{MOST_ATTRIBUTES + 1}]])")


class Unreadable(Exception):
    """An answer cannot be compared."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


def is_json(answer: Answer) -> bool:
    """Tell whether an answer says that it is JSON."""
    return answer.content_type is not None and _JSON.match(answer.content_type) is not None


def read(answer: Answer) -> etree._Element:
    """Return the root of an answer's document.

    What libxml2 remembers of it stays with the thread.

    Raises:
        Unreadable: it is none, or there is too much in it.
    """
    if len(answer.body) > LONGEST:
        raise Unreadable(Reason.TOO_LARGE)
    return _read_json(answer.body) if is_json(answer) else _read_xml(answer)


def _read_xml(answer: Answer) -> etree._Element:
    try:
        text = decode_xml(answer.body, answer.content_type)
    except LegacyCallError:
        raise Unreadable(Reason.NOT_XML) from None
    octets = text.encode(errors="replace")
    if len(octets) > LONGEST:
        raise Unreadable(Reason.TOO_LARGE)
    if b"<!DOCTYPE" in octets:  # wherever: neither side has one, nor writes such a text unescaped
        raise Unreadable(Reason.DTD)
    if octets.count(b"<") > MOST_MARKUP:
        raise Unreadable(Reason.TOO_MUCH)
    parser = etree.XMLParser(
        encoding="utf-8",  # whatever the declaration says: the text has been decoded already
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        huge_tree=False,
        collect_ids=False,
        remove_comments=True,
        remove_pis=True,
        remove_blank_text=True,
    )
    try:
        root = etree.fromstring(octets, parser)
    except etree.XMLSyntaxError as error:
        is_too_much = getattr(error, "code", None) == _RESOURCE_LIMIT
        raise Unreadable(Reason.TOO_MUCH if is_too_much else Reason.NOT_XML) from None
    # Without so many signs there cannot be, and to count them takes a microsecond.
    if octets.count(b"=") > MOST_ATTRIBUTES and _has_too_many_attributes(root):
        raise Unreadable(Reason.TOO_MUCH)
    if b"xmlns" in octets and _has_too_much_of_namespaces(root):
        raise Unreadable(Reason.TOO_MUCH)
    return root


def _has_too_much_of_namespaces(root: etree._Element) -> bool:
    declared = [
        (prefix or "") + (name or "")
        for _, (prefix, name) in islice(
            etree.iterwalk(root, events=("start-ns",)), MOST_NAMESPACES + 1
        )
    ]
    return len(declared) > MOST_NAMESPACES or any(
        len(each) > LONGEST_NAMESPACE for each in declared
    )


_RESOURCE_LIMIT = 114
"""libxml2's XML_ERR_RESOURCE_LIMIT: of what is bounded, only the depth can be too much."""


def _read_json(body: bytes) -> etree._Element:
    """Read an object of plain values, as XML would have it: `max_calls` is `max-calls`.

    Of what the bridge serves, v1's JSON is known of `rate_limit_status` only.
    """
    if len(body) > LONGEST_JSON:
        raise Unreadable(Reason.TOO_LARGE)
    try:
        told = msgspec.json.decode(body, type=dict[str, bool | int | float | str | None])
        root = etree.Element("hash")
        for name, value in sorted(told.items()):  # whose order means nothing
            element = etree.SubElement(root, name.replace("_", "-"))
            if value is None:
                element.set("nil", "true")
            elif not isinstance(value, str):
                element.set("type", type(value).__name__)
            element.text = None if value is None else str(value)
    except (msgspec.MsgspecError, ValueError, UnicodeError):
        raise Unreadable(Reason.NOT_XML) from None
    return root
