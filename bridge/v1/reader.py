"""XML in: from the bytes of a legacy request to its values, by a parser that trusts nothing.

The order is: decode, refuse a DTD, parse strictly (repairing one well-known mistake), keep the
elements that a request can set, validate what is left against the request's XSD, and only then
make a mapping of it. What the values mean is the resource's business.
"""

import codecs
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.message import Message

import xmltodict
from lxml import etree

from bridge.v1.dialects import Dialect
from bridge.v1.elements import BOOLEAN, ElementType
from bridge.v1.errors import InvalidAnswer, InvalidRequest, UnsupportedMediaType
from bridge.v1.notes import NoteCode, Notes
from bridge.v1.values import boolean_text, read_boolean
from bridge.v1.xsd import require_valid

MAX_ELEMENTS = 200
"""Children of the root: several times what v1 ever documented for one request."""

_XML_TYPE = re.compile(r"(?:application|text)/(?:[a-z0-9.-]+\+)?xml")

_CHARSETS = re.compile(
    r"utf-?(?:8|16|32)(?:-[bl]e|-sig)?|ascii|iso8859-\d+|cp\d+|koi8-[rtu]|mac-\w+"
    r"|big5\w*|gb\w+|shift_jis\w*|euc_\w+"
)
"""Names that Python gives to the encodings of text; not `idna`, `unicode_escape` and their like."""

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    # XML 1.0, appendix F: without a mark, the first angle bracket tells.
    ("<".encode("utf-16-le"), "utf-16-le"),
    ("<".encode("utf-16-be"), "utf-16-be"),
)
_DECLARED = re.compile(rb"""<\?xml\s[^>]{0,100}?encoding\s*=\s*["']([A-Za-z0-9._:-]{1,40})["']""")
_BEFORE_ROOT = re.compile(r"(?:\s++|<\?.*?\?>|<!--.*?-->)*+", re.DOTALL)

_UNESCAPED_ADDRESS = re.compile(
    r"""
    <!\[CDATA\[ .*? (?: \]\]> | \Z )    # text already: not touched
    | <!-- .*? (?: --> | \Z )
    | < (?P<address> [^\s<>@"'/&]{1,64} @ [^\s<>@"'/&]{1,255} ) >
    """,
    re.VERBOSE | re.DOTALL,
)

_PLAIN_NAME = re.compile(r"[a-z][a-z0-9-]{0,40}")

_XSI_NIL = "{http://www.w3.org/2001/XMLSchema-instance}nil"


@dataclass(frozen=True, slots=True)
class Form:
    """What a request may hold: its root, its elements with their types, and its XSD."""

    root: str
    elements: Mapping[str, ElementType]
    schema: str


def require_xml(content_type: str | None) -> str | None:
    """Return the charset that a Content-Type names, if any; no Content-Type means XML.

    Raises:
        UnsupportedMediaType: it is not XML, or its charset is no encoding of text.
    """
    if not content_type or not content_type.strip():
        return None
    header = Message()
    header["Content-Type"] = content_type
    if _XML_TYPE.fullmatch(header.get_content_type()) is None:
        raise UnsupportedMediaType("Send XML, as Content-Type: application/xml.")
    charset = header.get_content_charset()
    if charset is not None and _codec(charset) is None:
        raise UnsupportedMediaType("The charset in the Content-Type is not known.")
    return charset


def read_request(
    body: bytes, content_type: str | None, form: Form, notes: Notes
) -> dict[str, str | None]:
    """Read the elements of a request by name, null ones as None (schemas/README.md, "Requests").

    Booleans come as `true` or `false`. Time is linear in the body; what else bounds the work is
    that the body itself is bounded.

    Raises:
        UnsupportedMediaType: the Content-Type says that this is not XML.
        InvalidRequest: the body is not a well-formed document of this form, has a DTD, or gives
            an element twice or a boolean that is none.
    """
    root = _parse(_decode(body, require_xml(content_type)), notes)
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


def _codec(name: str) -> str | None:
    """Return Python's name of an encoding of text, None for anything else."""
    try:
        codec = codecs.lookup(name).name
    except (LookupError, ValueError):
        return None
    return codec if _CHARSETS.fullmatch(codec) else None


def _decode(body: bytes, charset: str | None) -> str:
    """Decode as the Content-Type says, else as the document does (RFC 7303, section 3)."""
    codec = _codec(charset) if charset else None
    if codec is None:
        codec = next((name for mark, name in _BYTE_ORDER_MARKS if body.startswith(mark)), None)
    if codec is None and (declared := _DECLARED.match(body.lstrip())):
        codec = _codec(declared[1].decode())
        if codec is None:
            raise InvalidRequest("The encoding in the XML declaration is not known.")
        if codec.startswith(("utf-16", "utf-32")):
            # Not if the declaration can be read as ASCII. .NET's string writers say so of UTF-8.
            codec = None
    try:
        return body.decode(codec or "utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"Byte {error.start} of the body is not {codec or 'utf-8'}.") from None


def _parse(text: str, notes: Notes) -> etree._Element:
    # A declaration has to come first, but clients send the line break of their heredoc before it.
    text = text.strip(" \t\r\n")
    if not text:
        raise InvalidRequest("The body is empty; XML was expected.")
    start = _BEFORE_ROOT.match(text)
    if start is not None and text.startswith("<!DOCTYPE", start.end()):
        raise InvalidRequest("A document type declaration is not accepted.")
    try:
        return _parse_strictly(text)
    except etree.XMLSyntaxError as error:
        repaired = _UNESCAPED_ADDRESS.sub(_escape, text)
        if repaired == text:
            raise _not_well_formed(error) from None
    try:
        root = _parse_strictly(repaired)
    except etree.XMLSyntaxError as error:
        raise _not_well_formed(error) from None
    notes.add(NoteCode.ADDRESS_ESCAPED, "document")
    return root


def _parse_strictly(text: str) -> etree._Element:
    parser = etree.XMLParser(
        encoding="utf-8",  # whatever the declaration says: the text has been decoded already
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    return etree.fromstring(text.encode(), parser)


def _escape(found: re.Match[str]) -> str:
    address = found["address"]
    return found[0] if address is None else f"&lt;{address}&gt;"


def _not_well_formed(error: etree.XMLSyntaxError) -> InvalidRequest:
    return InvalidRequest(f"The body is not well-formed XML: {error.msg}.")


def _name(element: etree._Element) -> str:
    """Return an element's name as Rails read it: dashes for underscores, no namespace."""
    return etree.QName(element).localname.replace("_", "-")


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
    if not text or _is_true(given.get("nil")) or _is_true(given.get(_XSI_NIL)):
        element.set("nil", "true")
    else:
        element.text = _CANONICAL.get(type_, _as_it_is)(text, name)
    return element


def _is_true(attribute: str | None) -> bool:
    return attribute is not None and attribute.strip().lower() in {"true", "1"}


def _as_it_is(text: str, _name: str) -> str:
    return text


def _boolean(text: str, name: str) -> str:
    return boolean_text(read_boolean(text, name))


_CANONICAL: dict[ElementType, Callable[[str, str], str]] = {BOOLEAN: _boolean}
"""How a type's text is set right; what is not here is left to the XSD."""
