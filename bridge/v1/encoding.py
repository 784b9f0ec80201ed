"""From the bytes of a request to its text: media type, charset, byte order mark, XML declaration.

What the text says is `bridge.v1.reader`'s business.
"""

import codecs
import re
from encodings import normalize_encoding
from encodings.aliases import aliases

from bridge.v1.errors import InvalidRequest, UnsupportedMediaType
from bridge.v1.problems import Problem

_TEXT_CODEC = re.compile(
    r"utf_(?:8|16|32)(?:_[bl]e)?|ascii|latin_1|iso8859_\d+|cp\d+|koi8_[rtu]|mac_\w+"
    r"|big5\w*|gb\w+|shift_jis\w*|euc_\w+"
)
"""Python's names of the encodings of text; not `idna`, `unicode_escape` and their like."""

_CODECS = {
    name: codec
    for name, codec in [*aliases.items(), *((codec, codec) for codec in aliases.values())]
    if _TEXT_CODEC.fullmatch(codec)
}
"""Every name of them. Python's own look-up remembers each name it has ever been asked for."""

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf_8"),
    (codecs.BOM_UTF32_LE, "utf_32"),
    (codecs.BOM_UTF32_BE, "utf_32"),
    (codecs.BOM_UTF16_LE, "utf_16"),
    (codecs.BOM_UTF16_BE, "utf_16"),
    # XML 1.0, appendix F: without a mark, the first angle bracket tells.
    ("<".encode("utf-16-le"), "utf_16_le"),
    ("<".encode("utf-16-be"), "utf_16_be"),
)

_MEDIA_TYPE = re.compile(r"\s*(?:application|text)/(?:[a-z0-9.-]+\+)?xml\s*(?:;|$)", re.IGNORECASE)
_CHARSET = re.compile(r';\s*charset\s*=\s*"?([^\s";]+)', re.IGNORECASE)
_DECLARED = re.compile(rb"""<\?xml\s[^>]{0,100}?encoding\s*=\s*["']([A-Za-z0-9._:-]{1,40})["']""")

_BEFORE_XML = "\ufeff \t\r\n"
"""Byte order marks are no text. White space is, but clients send it: the line break after which
their XML starts in the program."""


def decode_xml(body: bytes, content_type: str | None) -> str:
    """Decode a request, as its Content-Type says, else as it says itself (RFC 7303, section 3).

    No Content-Type means XML (schemas/README.md, "Requests").

    Raises:
        UnsupportedMediaType: the Content-Type is not XML, or its charset is no encoding of text.
        InvalidRequest: the body is not in the encoding it should be in.
    """
    codec = _charset(content_type) or _own_codec(body)
    try:
        return body.decode(codec).strip(_BEFORE_XML)
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"Byte {error.start} of the body is not {codec}.", Problem.BAD_ENCODING
        ) from None


def _charset(content_type: str | None) -> str | None:
    if content_type is None or not content_type.strip():
        return None
    if _MEDIA_TYPE.match(content_type) is None:
        raise UnsupportedMediaType("Send XML, as Content-Type: application/xml.")
    if (charset := _CHARSET.search(content_type)) is None:
        return None
    if (codec := _codec(charset[1])) is None:
        raise UnsupportedMediaType("The charset in the Content-Type is not known.")
    return codec


def _own_codec(body: bytes) -> str:
    for mark, codec in _BYTE_ORDER_MARKS:
        if body.startswith(mark):
            return codec
    if declared := _DECLARED.match(body.lstrip()):
        if (found := _codec(declared[1].decode())) is None:
            raise InvalidRequest(
                "The encoding in the XML declaration is not known.", Problem.BAD_ENCODING
            )
        # It could not be read as ASCII if it were true. .NET's string writers say so of UTF-8.
        if not found.startswith(("utf_16", "utf_32")):
            return found
    return "utf_8"


def _codec(name: str) -> str | None:
    return _CODECS.get(normalize_encoding(name).lower()) if name.isascii() else None
