"""What may be kept of what was said: no secret ever, and stand-ins for addresses, names and texts.

A stand-in has the length and the shape of its text: letters become x or X, digits 9; blanks, signs
and structure stay. The same text has the same stand-in, so that both sides can be compared. Names
of elements, members and parameters stay, and so do values that say nothing of people: ids, dates,
booleans, events, and what counts pages. Amounts do not.

Texts are rewritten where they stand, and never written anew: what was ill-formed stays so. All of
it takes time that is linear in the length of a text.
"""

import base64
import codecs
import json
import re
from collections.abc import Callable, Iterable, Mapping
from html import escape
from typing import NamedTuple
from urllib.parse import quote, quote_plus, unquote_plus

from bridge.record.log.exchange import Headers

REMOVED = "REMOVED"
"""Stands where a secret was, whatever its length."""


# The shape of a text.


class _Shapes(dict[int, int | str]):
    """By code point, what stands for it. Nothing is added: others' texts must not make it grow."""

    def __missing__(self, code: int) -> int | str:
        character = chr(code)
        if character.isalpha():
            if character.isupper() or character.istitle():
                return "É"
            return "é" if character.islower() else "字"
        if character.isnumeric():
            return "²" if code < 0x100 else "９"  # noqa: RUF001 - so that its encoding has it
        return code


_SHAPES = _Shapes({
    **{code: code for code in range(128)},
    **{ord(each): "x" for each in "abcdefghijklmnopqrstuvwxyz"},
    **{ord(each): "X" for each in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"},
    **{ord(each): "9" for each in "0123456789"},
})  # fmt: skip


def stand_in(text: str) -> str:
    """Return what has the same length and shape: é and É stand for letters beyond ASCII."""
    return text.translate(_SHAPES)


_SCHEME = re.compile(r"https?://", re.IGNORECASE)


def _shape(text: str) -> str:
    scheme = _SCHEME.match(text)
    start = scheme.end() if scheme else 0
    return text[:start] + stand_in(text[start:])


_ENTITIES = frozenset({"amp", "lt", "gt", "quot", "apos"})
_REFERENCE = re.compile(r"&(?:#([0-9]{1,7})|#[xX]([0-9A-Fa-f]{1,6})|([^\W\d]\w{0,31}));")


def _shape_xml(text: str) -> str:
    """Return the stand-in of text in XML, where a character may be a reference."""
    if "&" not in text:
        return _shape(text)
    return _shape_between(text, _REFERENCE, _shape_reference)


def _shape_reference(found: re.Match[str]) -> str:
    decimal, hexadecimal, name = found.groups()
    if name:
        return found[0] if name in _ENTITIES else f"&{stand_in(name)};"
    code = int(decimal) if decimal else int(hexadecimal, 16)
    if code > 0x10FFFF or (shape := stand_in(chr(code))) == chr(code):
        return found[0]
    return f"&#{ord(shape):0{len(decimal)}};" if decimal else f"&#x{ord(shape):X};"


_ESCAPE = re.compile(
    r"\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|\\u([0-9a-fA-F]{4})|\\.",
    re.DOTALL,
)


def _shape_json(text: str) -> str:
    """Return the stand-in of what stands between quotes in JSON."""
    if "\\" not in text:
        return _shape(text)
    return _shape_between(text, _ESCAPE, _shape_escape)


def _shape_escape(found: re.Match[str]) -> str:
    high, low, single = found.groups()
    if single:
        return f"\\u{ord(stand_in(chr(int(single, 16)))):04x}"
    if high:
        code = 0x10000 + ((int(high, 16) - 0xD800) << 10) + int(low, 16) - 0xDC00
        shape = stand_in(chr(code))
        return found[0] if shape == chr(code) else f"\\u{ord(shape):04x}"
    return found[0]


_WITH_AN_EXPONENT = re.compile(r"(-?[0-9.]+)([eE][-+]?[0-9]+)")


def _shape_number(text: str) -> str:
    """Return the stand-in of a number in JSON: of the same order, lest it be beyond all numbers."""
    number = _WITH_AN_EXPONENT.fullmatch(text)
    return stand_in(number[1]) + number[2] if number else stand_in(text)


_PERCENT = re.compile(r"(?:%[0-9A-Fa-f]{2})+")


def _shape_percent(text: str) -> str:
    """Return the stand-in of percent-encoded text."""
    return _shape_between(text, _PERCENT, _shape_octets)


def _shape_octets(found: re.Match[str]) -> str:
    octets = bytes.fromhex(found[0].replace("%", ""))
    try:
        shape = stand_in(octets.decode()).encode()
    except UnicodeDecodeError:
        shape = stand_in(octets.decode("latin-1")).encode("latin-1")
    return "".join(f"%{each:02X}" for each in shape)


def _shape_between(text: str, apart: re.Pattern[str], shape: Callable[[re.Match[str]], str]) -> str:
    parts: list[str] = []
    at = 0
    for found in apart.finditer(text):
        parts += stand_in(text[at : found.start()]), shape(found)
        at = found.end()
    return "".join((*parts, stand_in(text[at:])))


# What needs no stand-in.

_DATE = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"(?:[T ][0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,9})?)?(?:Z| ?[+-][0-9]{2}:?[0-9]{2})?)?"
)
_INTEGER = re.compile(r"-?[0-9]{1,20}")
_COUNTS = frozenset({
    "next_page", "page", "per_page", "previous_page", "total_entries", "total_pages",
})  # fmt: skip
_FLAGS = frozenset({
    "attach_pdf", "include_link_to_client_invoice", "include_pay_pal_link", "reminder",
    "send_me_a_copy", "thank_you",
})  # fmt: skip
_BOOLEANS = frozenset({"true", "false", "null"})
_WORDS: Mapping[str, frozenset[str]] = {
    "event_type": frozenset({"send", "close", "re-open", "draft", "view"}),
    "nil": _BOOLEANS,
    "type": frozenset({
        "array", "boolean", "date", "datetime", "dateTime", "decimal", "float", "integer", "string",
    }),
}  # fmt: skip
"""By the names of elements, members and attributes, the words that may be known."""


def _says_nothing(name: str, value: str) -> bool:
    """Tell whether a value may be known, being of the kind that its name says."""
    if value in _BOOLEANS or _DATE.fullmatch(value):
        return True
    name = name.replace("-", "_").lower()
    if name == "id" or name.endswith("_id") or name in _COUNTS:
        return _INTEGER.fullmatch(value) is not None
    if name in _FLAGS:
        return value.lower() in {"true", "false", "t", "f", "0", "1"}
    return value in _WORDS.get(name, ())


_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,63}")
_SECRET_NAME = re.compile(
    r"authorization|cookie|token|secret|passw|pwd|api[-_]?key|credential|session", re.IGNORECASE
)


# Headers.

_ONE_MIME = (
    r"(?:text|application|\*)/(?:xml|json|html|plain|x-www-form-urlencoded|octet-stream|\*)"
    r"(?: ?; ?(?:charset|q)=\"?(?:utf-8|utf-16|iso-8859-[0-9]{1,2}|windows-125[0-9]|us-ascii"
    r"|[01](?:\.[0-9]{1,3})?)\"?)*"
)
_ONE_CODING = (
    r"(?:gzip|deflate|br|zstd|compress|identity|chunked|close|keep-alive|\*)(?: ?; ?q=[0-9.]{1,5})?"
)
_PLACE = r"(?:/(?:v2|invoices?|messages?|payments|[0-9]{1,20}))+"


def _list_of(item: str) -> re.Pattern[str]:
    return re.compile(rf"{item}(?: ?, ?{item})*+", re.IGNORECASE)


_HTTP_DATE = re.compile(
    r"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT"
)
_NUMBER = re.compile("[0-9]{1,20}")
_KEPT_HEADERS: Mapping[str, re.Pattern[str]] = {
    "accept": _list_of(_ONE_MIME),
    "accept-encoding": _list_of(_ONE_CODING),
    "allow": _list_of("(?:GET|HEAD|POST|PUT|DELETE|PATCH|OPTIONS)"),
    "connection": _list_of(_ONE_CODING),
    "content-encoding": _list_of(_ONE_CODING),
    "content-length": _NUMBER,
    "content-type": re.compile(_ONE_MIME, re.IGNORECASE),
    "date": _HTTP_DATE,
    "deprecation": re.compile("@[0-9]{1,12}"),
    "harvest-account-id": _NUMBER,
    "link": re.compile(r'<https://api\.harvestapp\.com(?:/[a-z0-9_]+)+>; rel="successor-version"'),
    "location": re.compile(_PLACE),
    "retry-after": _NUMBER,
    "server": re.compile("harvest-bridge"),
    "sunset": _HTTP_DATE,
    "transfer-encoding": _list_of(_ONE_CODING),
    "www-authenticate": re.compile('Basic realm="Harvest"'),
    "x-request-id": re.compile("[0-9a-fA-F-]{16,64}"),
}
"""By their names, the values that are ordinary; any other has its stand-in."""


# Kinds of bodies.


class _Text(NamedTuple):
    """A body that can be read."""

    text: str
    codec: str
    mark: bytes
    """What stands before the text: a byte order mark."""


_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (b"", ""),
)
_CHARSET = re.compile(r"charset=[\"']?([A-Za-z0-9._:-]{1,40})", re.IGNORECASE)
_DECLARED = re.compile(rb"\s*+<\?xml[^>]{0,200}?encoding\s*+=\s*+[\"']([A-Za-z0-9._:-]{1,40})[\"']")
_CODEC = re.compile(
    r"utf-8|utf-16-[lb]e|ascii|iso8859-\d+|cp\d+|koi8-\w|mac-\w+|gb\w+|big5\w*|euc_\w+|shift_jis\w*"
)
"""Those whose time is linear: punycode's, which a client may name as well, is not."""


def _known_codec(name: str) -> str | None:
    try:
        codec = codecs.lookup(name).name
    except LookupError:
        return None
    return codec if _CODEC.fullmatch(codec) else None


def _read(body: bytes, content_type: str, *, cut: bool) -> _Text | None:
    mark, codec = next(pair for pair in _MARKS if body.startswith(pair[0]))
    data = body[len(mark) :]
    if not codec and data[:2] in {b"<\0", b"\0<"}:
        codec = "utf-16-le" if data[0] else "utf-16-be"
    if not codec and (told := _CHARSET.search(content_type)):
        codec = _known_codec(told[1]) or ""
    if not codec and (declared := _DECLARED.match(data)):
        codec = _known_codec(declared[1].decode()) or ""
    for each in (codec or "utf-8", "latin-1"):
        try:
            text = data.decode(each)
        except UnicodeDecodeError as error:
            if not cut or error.start < len(data) - 4:
                continue
            text = data[: error.start].decode(each)  # cut within a character
        return None if "\0" in text else _Text(text, each, mark)
    return None


_READABLE = re.compile(r"text/|.*(?:xml|json|urlencoded|javascript)", re.IGNORECASE)


class Redaction:
    """Of one exchange: takes its secrets away, and unless it is `raw`, what it says of people."""

    def __init__(self, secrets: Iterable[str] = (), *, raw: bool = False) -> None:
        """Know the secrets that came with the exchange; others are known by their names."""
        self._raw = raw
        self._secrets = tuple(dict.fromkeys(
            form for secret in secrets for form in _forms_of(secret)
        ))  # fmt: skip
        self._longest = max(map(len, self._secrets), default=0)

    def words(self, text: str) -> str:
        """Return what may be kept of a sentence."""
        text = self._without_secrets(text)
        return text if self._raw else stand_in(text)

    def headers(self, headers: Mapping[str, str]) -> Headers:
        """Return what may be kept of headers."""
        # aiohttp's names are of a type of their own, which is not to be written down.
        return tuple(
            (self._without_secrets(str(name)), self._header(name, text))
            for name, text in headers.items()
        )

    def _header(self, name: str, text: str) -> str:
        if _SECRET_NAME.search(name):
            return REMOVED
        text = self._without_secrets(text)
        if self._raw:
            return text
        kept = _KEPT_HEADERS.get(name.lower())
        if kept is not None and kept.fullmatch(text):
            return text
        if name.lower() == "user-agent":
            return without_addresses(text)
        return _shape(text)

    def url(self, url: str) -> str:
        """Return what may be kept of a URL: all but what its parameters say."""
        before, mark, query = url.partition("?")
        return self._without_secrets(before + mark + self._form(query))

    def body(self, body: bytes, content_type: str = "", *, cut: bool = False) -> bytes | None:
        """Return what may be kept of a body; None: it is nothing that can be read.

        Of one that was cut, a secret may have been cut as well: the end is left out.
        """
        if not body:
            return b""
        read = _read(body, content_type, cut=cut)
        if read is None or not (_READABLE.match(content_type or "text/") or self._raw):
            if not self._raw:
                return None
            read = _Text(body.decode("latin-1"), "latin-1", b"")
        text = self._without_secrets(read.text)
        if cut and self._secrets:
            text = text[: -self._longest]
        text = self._rewriting(text, content_type.lower())(text)
        return read.mark + text.encode(read.codec, "replace")

    def _rewriting(self, text: str, content_type: str) -> Callable[[str], str]:
        begins = text.lstrip()[:1]
        if begins == "<":
            return self._xml
        if begins in {"{", "["} or "json" in content_type:
            return self._json
        if "urlencoded" in content_type:
            return self._form
        return str if self._raw else stand_in

    def _value(self, name: str, value: str, shape: Callable[[str], str]) -> str:
        if _SECRET_NAME.search(name):
            return REMOVED if value.strip() else value
        if self._raw or _says_nothing(name, value.strip()):
            return value
        return shape(value)

    # XML.

    def _xml(self, text: str) -> str:
        # What looks like a name and is none, as in `Jane Doe <Jane>`, is closed nowhere.
        names = {*_CLOSED.findall(text), *_OPENED.findall(text)[:1]}
        within = [""]

        def rewrite(found: re.Match[str]) -> str:
            kind, told = found.lastgroup, found[0]
            if kind == "text":
                return self._value(within[-1], told, _shape_xml)
            if kind == "cdata":
                return told[:9] + self._value(within[-1], told[9:], stand_in)
            if kind == "tag":
                _go(within, found["name"], told)
                if not self._raw and found["name"] not in names and not told.endswith("/>"):
                    told = stand_in(told)
                return _ATTRIBUTE.sub(self._attribute, told)
            if self._raw:
                return told
            if kind == "declaration":
                return _ATTRIBUTE.sub(_shape_declared, told)
            return found["keyword"] + stand_in(told[len(found["keyword"]) :])

        return _XML.sub(rewrite, text)

    def _attribute(self, found: re.Match[str]) -> str:
        name, quotes, value = found["attribute"], found["quotes"], found["value"]
        if value not in _NAMESPACES:
            value = self._value(name, value, _shape_xml)
        return found["before"] + quotes + value + quotes

    # JSON.

    def _json(self, text: str) -> str:
        name = ""

        def rewrite(found: re.Match[str]) -> str:
            nonlocal name
            kind = found.lastgroup
            if kind == "ends":
                name = ""
                return found[0]
            if kind == "bare":
                return self._value(name, found[0], _shape_number)
            string = found["string"]
            if kind == "colon":
                name = string
                if not self._raw and not _NAME.fullmatch(string):
                    string = _shape_json(string)
            else:
                string = self._value(name, string, _shape_json)
            return f'"{string}{found["end"]}{found["colon"] or ""}'

        return _JSON.sub(rewrite, text)

    # Parameters.

    def _form(self, text: str) -> str:
        return "&".join(map(self._parameter, text.split("&")))

    def _parameter(self, text: str) -> str:
        name, sign, value = text.partition("=")
        if _SECRET_NAME.search(name):
            return name + sign + (REMOVED if value else "")
        if self._raw:
            return text
        if not _NAME.fullmatch(name):
            name = _shape_percent(name)
        if not _says_nothing(name, unquote_plus(value)):
            value = _shape_percent(value)
        return name + sign + value

    # Secrets.

    def _without_secrets(self, text: str) -> str:
        if not text.isascii():
            # What is not UTF-8 in a head comes as lone surrogates, which nothing can write down.
            text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        for secret in self._secrets:
            if secret not in text:
                continue
            if len(secret) >= _ANYWHERE:
                text = text.replace(secret, REMOVED)
            else:
                word = rf"(?<![A-Za-z0-9]){re.escape(secret)}(?![A-Za-z0-9])"
                text = re.sub(word, REMOVED, text)
        # To look for words first takes a tenth of the time: most texts have none of them.
        lower = text.lower()
        if "=" in lower and any(word in lower for word in _ASSIGNED_TO):
            text = _ASSIGNED.sub(rf"\g<1>{REMOVED}", text)
        if "bearer" in lower or "basic" in lower:
            text = _AUTHORIZATION.sub(rf"\g<1>{REMOVED}", text)
        return text


_ANYWHERE = 8
"""Characters: a shorter secret is one only as a word of its own: by chance it is part of others."""

_ASSIGNED_TO = ("token", "secret", "passw", "pwd", "api_key", "apikey")
_ASSIGNED = re.compile(
    rf"((?:{'|'.join(_ASSIGNED_TO)})[\w-]{{0,24}}=)(?!REMOVED\b)[^&\s\"'<>\\]+", re.IGNORECASE
)
_AUTHORIZATION = re.compile(r"(\b(?:bearer|basic)[ +]\(?)[A-Za-z0-9+/=._~-]{20,}", re.IGNORECASE)


def _forms_of(secret: str) -> Iterable[str]:
    """Yield what a secret looks like in a text: plain, escaped, percent-encoded, in base64."""
    if not secret:
        return
    octets = secret.encode("utf-8", "surrogatepass")
    yield secret
    yield octets.decode("latin-1")
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield escape(secret)
    yield escape(secret, quote=False)
    yield quote(octets, safe="")
    yield quote(octets, safe="").lower()
    yield quote_plus(octets)
    if len(octets) >= _ANYWHERE:
        for before in range(3):
            encoded = base64.b64encode(b"-" * before + octets).decode()
            yield encoded[(before * 8 + 5) // 6 : (before + len(octets)) * 8 // 6]


def without_addresses(text: str) -> str:
    """Return a text whose words with an `@` have stand-ins."""
    return re.sub(
        r"\S+", lambda word: stand_in(word[0]) if re.search("@|%40", word[0]) else word[0], text
    )


_JSON = re.compile(
    r'"(?P<string>(?:[^"\\]++|\\.|\\\Z)*+)(?P<end>"|\Z)(?P<colon>\s*+:)?'
    r"|(?P<bare>[-+\w][-+.\w]*+)"
    r"|(?P<ends>\})",
    re.DOTALL,
)

_NAMESPACES = frozenset({
    "http://www.w3.org/2001/XMLSchema",
    "http://www.w3.org/2001/XMLSchema-instance",
    "http://www.w3.org/XML/1998/namespace",
})  # fmt: skip
"""Those that are everybody's; any other may be somebody's address."""

_ELEMENT = r"[^\W\d][\w.:-]*+"
_OPENED = re.compile(rf"<({_ELEMENT})")
_CLOSED = re.compile(rf"</({_ELEMENT})\s*+>")
_ATTRIBUTE = re.compile(
    rf"(?P<before>(?<!\s)\s++(?P<attribute>{_ELEMENT})\s*+=\s*+)"
    r"(?P<quotes>[\"'])(?P<value>[^<]*?)(?P=quotes)"
)
_XML = re.compile(
    r"(?P<declaration><\?xml\s.*?(?:\?>|\Z))"
    r"|(?P<cdata><!\[CDATA\[.*?(?:\]\]>|\Z))"
    r"|(?P<comment>(?P<keyword><\?|<!--|<!(?:DOCTYPE|ENTITY|ELEMENT|ATTLIST)\b|<!)"
    r"(?:(?<=<\?).*?(?:\?>|\Z)|(?<=<!--).*?(?:-->|\Z)|.*?(?:>|\Z)))"
    rf"|(?P<tag></?(?P<name>{_ELEMENT})"
    rf"(?:\s++{_ELEMENT}\s*+=\s*+(?:\"[^\"<]*+\"|'[^'<]*+'))*+\s*+/?>)"
    r"|(?P<text>[^<]+|<)",
    re.DOTALL,
)
_DECLARED_VALUE = re.compile(r"1\.[0-9]|yes|no")


def _go(within: list[str], name: str, tag: str) -> None:
    """Go into an element, or out of one."""
    if not tag.startswith("</"):
        if not tag.endswith("/>"):
            within.append(name)
    elif len(within) > 1:
        within.pop()


def _shape_declared(found: re.Match[str]) -> str:
    value = found["value"]
    if _DECLARED_VALUE.fullmatch(value) or _known_codec(value):
        return found[0]
    return found["before"] + found["quotes"] + stand_in(value) + found["quotes"]
