"""XML in: from the bytes of a legacy request to its values, by a parser that trusts nothing.

The order is: decode, refuse a DTD, parse strictly (repairing one well-known mistake), keep the
elements that a request can set, validate what is left against the request's XSD, and only then
make a mapping of it. What the values mean is the resource's business.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import xmltodict
from lxml import etree

from bridge.v1.dialects import Dialect
from bridge.v1.elements import BOOLEAN, ElementType
from bridge.v1.encoding import decode_xml
from bridge.v1.errors import InvalidAnswer, InvalidRequest
from bridge.v1.notes import NoteCode, Notes
from bridge.v1.values import boolean_text, read_boolean
from bridge.v1.xsd import require_valid

MAX_ELEMENTS = 200
"""Children of the root: several times what v1 ever documented for one request."""

NO_DTD = "A document type declaration is not accepted."

MAX_BEFORE_ROOT = 64 * 1024
"""Characters of declaration, comments and processing instructions."""

_BEFORE_ROOT = re.compile(r"(?:\s++|<\?.*?\?>|<!--.*?-->)*+", re.DOTALL)

_UNESCAPED_ADDRESS = re.compile(
    r"""
    <!\[CDATA\[ .*? (?: \]\]> | \Z )    # text already: not touched
    | <!-- .*? (?: --> | \Z )
    | < (?P<address> [^\s<>@"'/&]{1,64} @ [^\s<>@"'/&]{1,255} ) >
    """,
    re.VERBOSE | re.DOTALL,
)

MAX_REPAIR = 128 * 1024
"""Characters of a document that may be repaired."""

_PLAIN_NAME = re.compile(r"[a-z][a-z0-9-]{0,40}")

_XSI_NIL = "{http://www.w3.org/2001/XMLSchema-instance}nil"


class Form(NamedTuple):
    """What a request may hold: its root, its elements with their types, and its XSD."""

    root: str
    elements: Mapping[str, ElementType]
    schema: str


def read_request(
    body: bytes, content_type: str | None, form: Form, notes: Notes
) -> dict[str, str | None]:
    """Read the elements of a request by name, null ones as None (schemas/README.md, "Requests").

    Booleans come as `true` or `false`. Time is linear in the body; what else bounds the work is
    that the body itself is bounded.

    Raises:
        UnsupportedMediaType: the Content-Type says that this is not XML, or nothing known.
        InvalidRequest: the body is not a well-formed document of this form, has a DTD, or gives
            an element twice or a boolean that is none.
    """
    root = _parse(decode_xml(body, content_type), notes)
    if _name(root) != form.root:
        raise InvalidRequest(f"The root element must be {form.root}.")
    cleaned = _clean(root, form, notes)
    try:
        require_valid(cleaned, form.schema)
    except InvalidAnswer as invalid:
        raise InvalidRequest(f"{invalid.element} is not valid.") from None
    document = xmltodict.parse(etree.tostring(cleaned), xml_attribs=False, strip_whitespace=False)
    values: dict[str, str | None] = document[form.root] or {}
    return values


def _parse(text: str, notes: Notes) -> etree._Element:
    if not text:
        raise InvalidRequest("The body is empty; XML was expected.")
    root_at = _start_of_root(text)
    if text.startswith("<!DOCTYPE", root_at):
        raise InvalidRequest(NO_DTD)
    try:
        return _parse_strictly(text)
    except etree.XMLSyntaxError as error:
        # Not by a cleverer expression: for 1 MiB of markup each holds the interpreter for 40 ms.
        repaired = text if len(text) > MAX_REPAIR else _UNESCAPED_ADDRESS.sub(_escape, text)
        if repaired == text:
            raise _not_well_formed(error) from None
    try:
        root = _parse_strictly(repaired)
    except etree.XMLSyntaxError as error:
        raise _not_well_formed(error) from None
    notes.add(NoteCode.ADDRESS_ESCAPED, "document")
    return root


def _start_of_root(text: str) -> int:
    """Return where the root element begins, or the document type declaration before it."""
    found = _BEFORE_ROOT.match(text, 0, MAX_BEFORE_ROOT)
    start = 0 if found is None else found.end()
    goes_on = start == MAX_BEFORE_ROOT or text.startswith(("<?", "<!--"), start)
    if goes_on and len(text) > MAX_BEFORE_ROOT:
        raise InvalidRequest(f"More than {MAX_BEFORE_ROOT} characters stand before the root.")
    return start


def _parse_strictly(text: str) -> etree._Element:
    parser = etree.XMLParser(
        encoding="utf-8",  # whatever the declaration says: the text has been decoded already
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        huge_tree=False,
        collect_ids=False,
        remove_comments=True,
        remove_pis=True,
    )
    root = etree.fromstring(text.encode(), parser)
    # A prefix without a namespace is an error that libxml2 reports and lets pass.
    log: Any = parser.error_log
    if log.last_error is not None and log.last_error.level >= etree.ErrorLevels.ERROR:
        raise InvalidRequest(f"The body is not well-formed XML: {log.last_error.message}.")
    document: Any = root.getroottree().docinfo  # lxml-stubs does not know all of it
    if document.doctype:
        raise InvalidRequest(NO_DTD)
    return root


def _escape(found: re.Match[str]) -> str:
    address = found["address"]
    return found[0] if address is None else f"&lt;{address}&gt;"


def _not_well_formed(error: etree.XMLSyntaxError) -> InvalidRequest:
    return InvalidRequest(f"The body is not well-formed XML: {error.msg}.")


def _name(element: etree._Element) -> str:
    """Return an element's name as Rails read it: dashes for underscores, no namespace."""
    name = str(element.tag).rpartition("}")[2]
    if ":" in name:
        raise InvalidRequest("The body is not well-formed XML: a prefix has no namespace.")
    return name.replace("_", "-")


def _clean(root: etree._Element, form: Form, notes: Notes) -> etree._Element:
    """Keep what the form knows, each in the one spelling that its XSD knows."""
    if len(root) > MAX_ELEMENTS:
        raise InvalidRequest(f"{form.root} has more than {MAX_ELEMENTS} elements.")
    cleaned = etree.Element(form.root)
    for element in root:
        name = _name(element)
        if name not in form.elements:
            notes.add(NoteCode.ELEMENT_IGNORED, name if _PLAIN_NAME.fullmatch(name) else "…")
        elif cleaned.find(name) is not None:
            raise InvalidRequest(f"{name} is given twice.")
        else:
            cleaned.append(_spelled(name, form.elements[name], element))
    return cleaned


def _spelled(name: str, type_: ElementType, given: etree._Element) -> etree._Element:
    element = etree.Element(name)
    if type_attribute := type_.attribute.of(Dialect.FINAL):
        element.set("type", type_attribute)
    if len(given):
        raise InvalidRequest(f"{name} must hold text, not elements.")
    text = given.text or ""
    said = [(given.get(name) or "").strip().lower() for name in ("nil", _XSI_NIL)]
    if not text or "true" in said or "1" in said:
        element.set("nil", "true")
    else:
        # What is no boolean is left to the XSD.
        element.text = boolean_text(read_boolean(text, name)) if type_ is BOOLEAN else text
    return element
