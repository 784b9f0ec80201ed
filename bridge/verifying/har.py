"""Recordings in HAR 1.2, by whomever they were made: browsers, proxies, or this bridge's export.

Entries stay where they are in the file until they are looked at, one at a time: a recording may be
larger than memory. What an entry means for the bridge is not known here.
"""

import mmap
import re
import zlib
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from bridge.comparing import LONGEST
from bridge.v2.decoding import REPAIRABLE, replace_lone_surrogates

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""Fiddler begins with one (RFC 8259, section 8.1, lets readers pass it over)."""


class UnusableRecording(Exception):
    """A file is no recording; `str()` is one line for the operator."""


class NoEntry(ValueError):
    """An entry is none."""


class _Pair(msgspec.Struct):
    name: str = ""
    value: str | int | float | bool | None = None


class _Content(msgspec.Struct):
    text: str | None = None
    encoding: str | None = None
    mime_type: str | None = msgspec.field(name="mimeType", default=None)
    left_out: str | None = msgspec.field(name="_left_out", default=None)


class _Request(msgspec.Struct):
    method: str
    url: str
    headers: list[_Pair] | None = None


class _Response(msgspec.Struct):
    status: int | None = None
    headers: list[_Pair] | None = None
    content: _Content | None = None


class _Entry(msgspec.Struct):
    request: _Request
    response: _Response | None = None
    started: str | None = msgspec.field(name="startedDateTime", default=None)
    page: str | None = msgspec.field(name="pageref", default=None)
    side: str | None = msgspec.field(name="_side", default=None)


class _Page(msgspec.Struct):
    id: str | None = None
    raw: bool | None = msgspec.field(name="_raw", default=None)


class _Log(msgspec.Struct):
    entries: list[msgspec.Raw]
    pages: list[_Page] | None = None


class _Document(msgspec.Struct):
    log: _Log


class Said(NamedTuple):
    """What was answered, as a recording has it."""

    status: int
    headers: Mapping[str, str]
    """By names in lower case; of several lines, the last."""
    body: bytes | None
    """Without a Content-Encoding; None: the recording does not have all of it."""


class Entry(NamedTuple):
    """A call and its answer."""

    method: str
    url: str
    headers: Mapping[str, str]
    answer: Said | None
    """None: there was none."""
    when: str
    """As the recording spells it; nothing where it does not say."""
    page: str
    """What it belongs to; nothing where it does not say."""
    is_v2s: bool
    """Whether the recording says that it was the bridge that called v2."""
    has_stand_ins: bool
    """Whether texts are replaced by stand-ins, as captures have them."""


class Recording:
    """The entries of a file."""

    def __init__(self, path: Path) -> None:
        """Find them.

        Raises:
            UnusableRecording: it cannot be read, or is no HAR 1.2.
        """
        self.path = path
        try:
            octets = _octets(path)
        except OSError as error:
            raise UnusableRecording(f"{path}: {error.strerror}") from None
        document = _parsed(path, octets)
        self._entries: Sequence[msgspec.Raw] = document.log.entries
        pages = document.log.pages or ()
        self._with_stand_ins = {each.id for each in pages if each.raw is False}

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self._entries)

    def entry(self, number: int) -> Entry:
        """Return an entry, numbered from 0.

        Raises:
            NoEntry: it is none.
        """
        return _entry(self._entries[number], self._with_stand_ins)


def _octets(path: Path) -> memoryview:
    with path.open("rb") as file:
        try:
            octets = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except ValueError:  # empty, or a pipe
            octets = memoryview(file.read())
        except OSError:
            octets = memoryview(file.read())
    has_mark = bytes(octets[: len(_BYTE_ORDER_MARK)]) == _BYTE_ORDER_MARK
    return octets[len(_BYTE_ORDER_MARK) :] if has_mark else octets


def _parsed(path: Path, octets: memoryview | bytes) -> _Document:
    try:
        return _decoder.decode(octets)
    except msgspec.ValidationError as error:
        raise UnusableRecording(f"{path}: is no HAR 1.2: {error}") from None
    except (msgspec.DecodeError, RecursionError) as error:
        if isinstance(octets, memoryview) and len(octets) <= REPAIRABLE:
            # Browsers write a lone surrogate of a text as it is.
            return _parsed(path, replace_lone_surrogates(bytes(octets)))
        raise UnusableRecording(f"{path}: is no JSON: {error}") from None


_decoder = msgspec.json.Decoder(_Document)
_entries = msgspec.json.Decoder(_Entry, strict=False)


def _entry(raw: msgspec.Raw, with_stand_ins: set[str | None]) -> Entry:
    try:
        read = _entries.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise NoEntry from None
    headers = _headers(read.request.headers)
    return Entry(
        method=read.request.method.upper(),
        url=read.request.url,
        headers=headers,
        answer=_answer(read.response),
        when=read.started or "",
        page=read.page or "",
        is_v2s=read.side == "v2",
        has_stand_ins=read.page in with_stand_ins,
    )


def _headers(pairs: Sequence[_Pair] | None) -> Mapping[str, str]:
    """Return headers by name, without the pseudo fields of HTTP/2 (RFC 9113, section 8.3)."""
    told = ((each.name.lower(), each.value) for each in pairs or ())
    return {name: str(value) for name, value in told if value is not None and name[:1] != ":"}


def _answer(response: _Response | None) -> Said | None:
    if response is None or not response.status or not 100 <= response.status <= 599:
        return None  # browsers write 0 where a call failed
    headers = dict(_headers(response.headers))
    content = response.content or _Content()
    if "content-type" not in headers and content.mime_type not in {None, "", "x-unknown"}:
        headers["content-type"] = str(content.mime_type)
    if content.left_out is not None or content.text is None:
        return Said(response.status, headers, None)
    if content.encoding == "base64":
        body = _decoded(content.text, headers.get("content-encoding", ""))
    else:
        body = content.text.encode(errors="replace")
        if media_type := headers.get("content-type", "").partition(";")[0]:
            # Whatever it was: the recording has it as text.
            headers["content-type"] = f"{media_type}; charset=utf-8"
    return Said(response.status, headers, body)


def _decoded(text: str, coding: str) -> bytes | None:
    """Return the bytes of a body in base64; None: they cannot be had."""
    try:
        body = b64decode(text)
    except ValueError:
        return None
    codings = {each.strip().lower() for each in coding.split(",")} - {"", "identity"}
    return body if not codings else _inflated(body)


def _inflated(body: bytes) -> bytes | None:
    """Undo a Content-Encoding, unless whoever recorded has: most do. None: it is another one.

    What is longer than can be compared is cut, for it need not be whole.
    """
    if _PLAIN.match(body):
        return body
    for window in (_GZIP_OR_ZLIB, _DEFLATE):
        try:
            inflated = zlib.decompressobj(window).decompress(body, LONGEST + 1)
        except zlib.error:
            continue
        if _PLAIN.match(inflated):  # else it was not encoded so, and anything can come of it
            return inflated
    return None


_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32
_DEFLATE = -zlib.MAX_WBITS
"""As some servers have it, in spite of RFC 9110, section 8.4.1.2."""

_PLAIN = re.compile(rb"(?:\xef\xbb\xbf|\xff\xfe|\xfe\xff)?[\s\x00]*[<{\[]|\s*\Z")
"""How XML or JSON begins, in whichever encoding; or nothing at all."""


def entries(recording: Recording) -> Iterator[tuple[int, Entry | None]]:
    """Yield each entry with its number; None: it is none."""
    for number in range(len(recording)):
        try:
            yield number, recording.entry(number)
        except NoEntry:
            yield number, None
