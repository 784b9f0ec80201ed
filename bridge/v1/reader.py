"""XML in: from the bytes of a legacy request to its values, by a parser that trusts nothing.

The order is: decode, refuse a DTD, parse strictly (repairing two well-known mistakes), keep what
sets a parameter, validate that against the request's XSD, and only then make a mapping of it. What
the values mean is the resource's business.
"""

import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple
from xml.sax.saxutils import escape, unescape

import xmltodict
from lxml import etree

from bridge.v1.dialects import Dialect
from bridge.v1.elements import BOOLEAN, ElementType
from bridge.v1.encoding import decode_xml
from bridge.v1.errors import InvalidAnswer, InvalidRequest
from bridge.v1.notes import NoteCode, Notes
from bridge.v1.problems import Problem
from bridge.v1.recipients import is_address
from bridge.v1.values import boolean_text, read_boolean
from bridge.v1.xsd import require_valid

SHORT_BODY = 4096
"""Bytes of a request that are read at once: what is longer, and made to be, can take a second."""

MAX_ELEMENTS = 200
"""Children of the root, and attributes of an element: several times what v1 ever documented."""

MAX_DEPTH = 256
"""Levels of elements."""

NO_DTD = "A document type declaration is not accepted."

MAX_BEFORE_ROOT = 64 * 1024
"""Characters of declaration, comments and processing instructions."""

_BEFORE_ROOT = re.compile(r"(?:\s++|<\?.*?\?>|<!--.*?-->)*+", re.DOTALL)

_MISTAKES = re.compile(
    r"""
    <!\[CDATA\[ .*? (?: \]\]> | \Z )    # text already: not touched
    | <!-- .*? (?: --> | \Z )
    | < (?P<address> [^<>@"]{0,80} (?: " (?: [^"\\] | \\. ){0,64} " )? @ [^<>]{1,255} ) >
    | &\# (?P<high> x0{0,5}[dD][89abAB][0-9a-fA-F]{2} | 0{0,5}5[56][0-9]{3} );
      &\# (?P<low> x0{0,5}[dD][c-fC-F][0-9a-fA-F]{2} | 0{0,5}5[67][0-9]{3} );
    """,
    re.VERBOSE | re.DOTALL,
)

MAX_ADDRESSES = 500
"""Addresses that a repair looks at: as many as two lists may have. To judge one can take 50 µs."""

MAX_REPAIR = 128 * 1024
"""Characters of a document that may be repaired."""

_QUOTE_REFERENCES = {"&apos;": "'", "&quot;": '"', "&#39;": "'", "&#34;": '"'}

_PLAIN_NAME = re.compile(r"[a-z][a-z0-9-]{0,40}")

_XSI_NIL = "{http://www.w3.org/2001/XMLSchema-instance}nil"


class Form(NamedTuple):
    """What a request may hold: its root, its elements with their types, and its XSD."""

    root: str
    elements: Mapping[str, ElementType]
    schema: str
    plain: re.Pattern[str]
    """What of libxml2 remembers nothing but what v1 had; see `plain_markup`."""


def plain_markup(names: Iterable[str]) -> re.Pattern[str]:
    """Return what matches a document of which libxml2 finds nothing new to remember.

    Its elements have no other names than these, and its attributes are those that Rails and .NET
    write, with their namespaces. Its references need no name of a client's. And its white space is
    an indentation where it stands alone: libxml2 remembers each such text of 16 to 59 characters.
    """
    spellings = {each for name in names for each in (name, name.replace("-", "_"))}
    return re.compile(
        rf"""
        (?:
            (?: [ \t\r\n]*+ (?: [^<& \t\r\n] | {_KNOWN_REFERENCE} )
                (?: [^<&]++ | {_KNOWN_REFERENCE} )*+
              | [ \t\r\n]{{0,15}}+
              | \r?+\n (?: [ ]*+ | \t*+ )
            )
            (?: </?+ (?:{"|".join(sorted(spellings, reverse=True))})
                (?: \s++ (?: (?: type | nil | xsi:nil )
                             \s*+ = \s*+ (?: "[^"<&]*+" | '[^'<&]*+' )
                           | xmlns (?: :xs[id] )?+ \s*+ = \s*+
                             (?: "{_KNOWN_NAMESPACE}" | '{_KNOWN_NAMESPACE}' ) )
                )*+
                \s*+ /?+ >
              | <\?xml \s [^>]*+ >
              | <!\[CDATA\[ .*? \]\]>
            )
        )*+
        """,
        re.VERBOSE | re.DOTALL,
    )


_KNOWN_REFERENCE = r"& (?: amp | lt | gt | quot | apos | \# [0-9]++ | \#x [0-9a-fA-F]++ ) ;"
_KNOWN_NAMESPACE = r"(?: http://www\.w3\.org/2001/XMLSchema (?: -instance )?+ )?+"


def read_at_once(
    body: bytes, content_type: str | None, form: Form, notes: Notes
) -> dict[str, str | None] | None:
    """Read a short and plain request, in some 50 µs; None: it is not, and to be read apart.

    Returns its elements by name, null ones as None, booleans as `true` or `false`
    (schemas/README.md, "Requests").

    Raises:
        UnsupportedMediaType: the Content-Type says that this is not XML, or nothing known.
        InvalidRequest: the body is not a well-formed document of this form, has a DTD, or gives
            an element twice or a boolean that is none.
    """
    if len(body) > SHORT_BODY:
        return None
    text = decode_xml(body, content_type)
    return _read(text, form, notes) if form.plain.fullmatch(text) else None


def read_apart(
    body: bytes, content_type: str | None, form: Form, notes: Notes
) -> dict[str, str | None]:
    """Read any request like `read_at_once`, but in a thread that ends with it, and wait for that.

    A thread's libxml2 remembers every name that it has met, and more, until the thread ends. Time
    is linear in the body; what else bounds the work is that the body itself is bounded.
    """
    text = decode_xml(body, content_type)
    with ThreadPoolExecutor(1, "reader") as reader:
        return reader.submit(_read, text, form, notes).result()


def _read(text: str, form: Form, notes: Notes) -> dict[str, str | None]:
    root = _parse(text, notes)
    if _name(root.tag) != form.root:
        raise InvalidRequest(f"The root element must be {form.root}.", Problem.WRONG_ROOT)
    # Without so many signs there cannot be, and to count them takes a microsecond.
    if text.count("=") > MAX_ELEMENTS and _has_too_many_attributes(root):
        raise InvalidRequest(
            f"An element has more than {MAX_ELEMENTS} attributes.", Problem.TOO_MUCH
        )
    cleaned = _clean(root, form, notes)
    try:
        require_valid(cleaned, form.schema)
    except InvalidAnswer as invalid:
        raise InvalidRequest(f"{invalid.element} is not valid.", Problem.BAD_VALUE) from None
    document = xmltodict.parse(etree.tostring(cleaned), xml_attribs=False, strip_whitespace=False)
    values: dict[str, str | None] = document[form.root] or {}
    return values


def _parse(text: str, notes: Notes) -> etree._Element:
    if not text:
        raise InvalidRequest("The body is empty; XML was expected.", Problem.EMPTY_BODY)
    root_at = _start_of_root(text)
    if text.startswith("<!DOCTYPE", root_at):
        raise InvalidRequest(NO_DTD, Problem.DTD)
    try:
        return _parse_strictly(text)
    except etree.XMLSyntaxError as error:
        # Not by a cleverer expression: for 1 MiB of markup each holds the interpreter for 40 ms.
        repaired, codes = ("", ()) if len(text) > MAX_REPAIR else _repair(text)
        if not codes:
            raise _not_well_formed(error) from None
    try:
        root = _parse_strictly(repaired)
    except etree.XMLSyntaxError as error:
        raise _not_well_formed(error) from None
    for code in codes:
        notes.add(code, "document")
    return root


def _repair(text: str) -> tuple[str, Iterable[NoteCode]]:
    """Set right what programs that glue strings write (schemas/README.md, "Requests")."""
    codes: dict[NoteCode, None] = {}
    looked_at = 0

    def set_right(found: re.Match[str]) -> str:
        nonlocal looked_at
        if found["address"] is not None:
            looked_at += 1
            address = unescape(found["address"], _QUOTE_REFERENCES)
            if looked_at <= MAX_ADDRESSES and is_address(address):
                codes[NoteCode.ADDRESS_ESCAPED] = None
                return f"&lt;{escape(address)}&gt;"
        elif found["high"] is not None:
            high, low = _code_unit(found["high"]), _code_unit(found["low"])
            if 0xD800 <= high < 0xDC00 <= low < 0xE000:
                codes[NoteCode.SURROGATES_JOINED] = None
                return chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))
        return found[0]

    return _MISTAKES.sub(set_right, text), codes


def _code_unit(reference: str) -> int:
    return int(reference[1:], 16) if reference.startswith("x") else int(reference)


def _start_of_root(text: str) -> int:
    """Return where the root element begins, or the document type declaration before it."""
    found = _BEFORE_ROOT.match(text, 0, MAX_BEFORE_ROOT)
    start = 0 if found is None else found.end()
    goes_on = start == MAX_BEFORE_ROOT or text.startswith(("<?", "<!--"), start)
    if goes_on and len(text) > MAX_BEFORE_ROOT:
        raise InvalidRequest(
            f"More than {MAX_BEFORE_ROOT} characters stand before the root.", Problem.TOO_MUCH
        )
    return start


_LIBXML2_LIMIT = 10_000_000
"""Bytes of a text that libxml2 takes, unless it is told to take any; then it takes long names and
2,048 levels as well."""

_is_too_deep = etree.XPath("boolean(" + "/*" * (MAX_DEPTH + 1) + ")")
_has_too_many_attributes = etree.XPath(f"boolean(//*[@*[{MAX_ELEMENTS + 1}]])")


def _parse_strictly(text: str) -> etree._Element:
    octets = text.encode()
    is_huge = len(octets) >= _LIBXML2_LIMIT
    parser = etree.XMLParser(
        encoding="utf-8",  # whatever the declaration says: the text has been decoded already
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        huge_tree=is_huge,
        collect_ids=False,
        remove_comments=True,
        remove_pis=True,
    )
    root = etree.fromstring(octets, parser)
    # A prefix without a namespace is an error that libxml2 reports and lets pass.
    log: Any = parser.error_log
    if log.last_error is not None and log.last_error.level >= etree.ErrorLevels.ERROR:
        raise InvalidRequest(
            f"{_NOT_WELL_FORMED}: {log.last_error.message}.", Problem.MALFORMED_XML
        )
    document: Any = root.getroottree().docinfo  # lxml-stubs does not know all of it
    if document.doctype:
        raise InvalidRequest(NO_DTD, Problem.DTD)
    if is_huge and _is_too_deep(root):
        raise InvalidRequest(_TOO_DEEP, Problem.TOO_MUCH)
    return root


_NOT_WELL_FORMED = "The body is not well-formed XML"
_TOO_DEEP = f"{_NOT_WELL_FORMED}: it has more than {MAX_DEPTH} levels."
_RESOURCE_LIMIT = 114
"""libxml2's XML_ERR_RESOURCE_LIMIT: of what is bounded, only the depth can be too much."""


def _not_well_formed(error: etree.XMLSyntaxError) -> InvalidRequest:
    if getattr(error, "code", None) == _RESOURCE_LIMIT:
        return InvalidRequest(_TOO_DEEP, Problem.TOO_MUCH)
    return InvalidRequest(f"{_NOT_WELL_FORMED}: {error.msg}.", Problem.MALFORMED_XML)


def _name(tag: str | bytes) -> str:
    """Return a name as Rails read it: dashes for underscores, no namespace."""
    name = str(tag).rpartition("}")[2]
    if ":" in name:
        raise InvalidRequest(
            f"{_NOT_WELL_FORMED}: a prefix has no namespace.", Problem.MALFORMED_XML
        )
    return name.replace("_", "-")


def _fit_for_note(name: str) -> str:
    return name if _PLAIN_NAME.fullmatch(name) else "…"


def _clean(root: etree._Element, form: Form, notes: Notes) -> etree._Element:
    """Keep what the form knows, each in the one spelling that its XSD knows."""
    if len(root) > MAX_ELEMENTS:
        raise InvalidRequest(
            f"{form.root} has more than {MAX_ELEMENTS} elements.", Problem.TOO_MUCH
        )
    cleaned = etree.Element(form.root)
    texts = [root.text]
    for element in root:
        texts.append(element.tail)
        name = _name(element.tag)
        if name not in form.elements:
            notes.add(NoteCode.ELEMENT_IGNORED, _fit_for_note(name))
        elif cleaned.find(name) is not None:
            raise InvalidRequest(f"{name} is given twice.", Problem.GIVEN_TWICE)
        else:
            cleaned.append(_spelled(name, form.elements[name], element))
            for key in _attributes(element):
                notes.add(NoteCode.ATTRIBUTE_IGNORED, _fit_for_note(_name(key)))
    if any(text and not text.isspace() for text in texts):
        notes.add(NoteCode.TEXT_IGNORED, form.root)
    _take_attributes(root, cleaned, form, notes)
    return cleaned


def _take_attributes(
    root: etree._Element, cleaned: etree._Element, form: Form, notes: Notes
) -> None:
    """Add what the root's attributes say: to Rails, they were parameters, too."""
    by_elements = {element.tag for element in cleaned}
    for key in _attributes(root):
        name = _name(key)
        if name not in form.elements or name in by_elements:
            notes.add(NoteCode.ATTRIBUTE_IGNORED, _fit_for_note(name))
        elif cleaned.find(name) is not None:
            raise InvalidRequest(f"{name} is given twice.", Problem.GIVEN_TWICE)
        else:
            given = etree.Element(name)
            given.text = root.get(key)
            cleaned.append(_spelled(name, form.elements[name], given))
            notes.add(NoteCode.ATTRIBUTE_TAKEN, name)


def _attributes(element: etree._Element) -> list[str]:
    """Return the names of an element's attributes, but for its type and whether it is null.

    Without their values: to look all of them up takes lxml the square of their number.
    """
    keys = element.keys()
    return [str(key) for key in keys if _name(key) not in {"type", "nil"}]


def _spelled(name: str, type_: ElementType, given: etree._Element) -> etree._Element:
    element = etree.Element(name)
    if type_attribute := type_.attribute.of(Dialect.FINAL):
        element.set("type", type_attribute)
    if len(given):
        raise InvalidRequest(f"{name} must hold text, not elements.", Problem.NOT_TEXT)
    text = given.text or ""
    said = [(given.get(name) or "").strip().lower() for name in ("nil", _XSI_NIL)]
    if not text or "true" in said or "1" in said:
        element.set("nil", "true")
    else:
        # What is no boolean is left to the XSD.
        element.text = boolean_text(read_boolean(text, name)) if type_ is BOOLEAN else text
    return element
