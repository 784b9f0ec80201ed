"""What a call and its answer lose and gain on the way between client and origin: fields of heads.

As bytes, in their order and their case. No I/O.
"""

import re
from collections.abc import Iterable, Sequence
from email.utils import formatdate
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import urlsplit

from bridge.origin.place import Place, place_of

Fields = Sequence[tuple[bytes, bytes]]
"""Names and values as they came."""

HOP_BY_HOP = frozenset({
    b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization",
    b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
})  # fmt: skip
"""Those that are for the next hop alone (RFC 9110, sections 7.6.1 and 11.7)."""

_OF_OUR_OWN = frozenset({b"host", b"expect", b"content-length"})
"""What is said anew towards the origin: whom it is for, and how long the body is. That a client
waits for leave to send it is settled with the bridge (RFC 9110, section 10.1.1)."""

_OF_PROXIES = frozenset({
    b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-port",
    b"x-forwarded-proto", b"x-forwarded-ssl", b"x-real-ip",
})  # fmt: skip
"""What a proxy in front has written for the bridge: v1 is not told who calls, and must not take the
bridge's name for its own."""

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(rb"[\t -~\x80-\xff]*")


class NotForwardable(Exception):
    """An answer whose head cannot be told as HTTP; `str()` quotes nothing of it."""


def to_origin(
    fields: Fields, via: str, version: str, *, came_by_proxy: bool
) -> list[tuple[str, str]]:
    """Return the fields that go on to the origin, without `Host` and what tells the body's length.

    `version` is that of the request's HTTP, and `via` the bridge's pseudonym (RFC 9110, section
    7.6.3); `came_by_proxy` tells whether a proxy of the operator's has added its own.
    """
    left_out = _named(fields) | HOP_BY_HOP | _OF_OUR_OWN
    if came_by_proxy:
        left_out |= _OF_PROXIES
    forwarded = [
        (name.decode("latin-1"), _text(value))
        for name, value in fields
        if name.lower() not in left_out
    ]
    return [*forwarded, ("Via", f"{version} {via}")]


def passed_by(fields: Fields, via: str) -> bool:
    """Tell whether a request has passed by who calls itself `via` (RFC 9110, section 7.6.3)."""
    ours = via.encode()
    lines = (value for name, value in fields if name.lower() == b"via")
    return any(ours in hop.split() for line in lines for hop in line.split(b","))


class Framing(NamedTuple):
    """How the end of an answer's body is known (RFC 9112, section 6.3)."""

    has_body: bool
    length: int | None
    """Bytes; None: in chunks, or until the connection ends."""
    is_chunked: bool = False

    @property
    def until_end(self) -> bool:
        """Whether only the end of the connection tells."""
        return self.has_body and self.length is None and not self.is_chunked


def framing(method: str, version: tuple[int, int], status: int, fields: Fields) -> Framing:
    """Return how an answer goes to a client that has asked by `method` in HTTP `version`.

    Raises:
        NotForwardable: the answer gives several lengths.
    """
    length = _length(fields)
    if method == "HEAD" or status in {204, 304}:
        return Framing(has_body=False, length=None if status == 204 else length)
    return Framing(has_body=True, length=length, is_chunked=length is None and version >= (1, 1))


def head(  # noqa: PLR0913 - what a head is made of
    status: int,
    reason: str | None,
    fields: Fields,
    framed: Framing,
    *,
    besides: Iterable[tuple[str, str]],
    moved: "Moved",
) -> bytes:
    """Write the head of an answer as the origin gave it, but for what concerns connections.

    `besides` is added where the answer has no such field.

    Raises:
        NotForwardable: it holds what would be read as something else.
    """
    left_out = _named(fields) | HOP_BY_HOP | {b"content-length"}
    lines = [b"HTTP/1.1 %d %s" % (status, _reason(status, reason))]
    there = {name.lower() for name, _ in fields} - left_out
    for name, value in fields:
        if name.lower() in left_out:
            continue
        if not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            raise NotForwardable("a field of its head is malformed")
        lines.append(name + b": " + (moved(value) if name.lower() == b"location" else value))
    if framed.is_chunked:
        lines.append(b"Transfer-Encoding: chunked")
    elif framed.length is not None:
        lines.append(b"Content-Length: %d" % framed.length)
    if b"date" not in there:
        # RFC 9110, section 6.6.1: who forwards an answer says when it came.
        lines.append(b"Date: " + formatdate(usegmt=True).encode())
    for added, text in besides:
        if added.lower().encode() not in there:
            lines.append(f"{added}: {text}".encode())
    return b"\r\n".join([*lines, b"", b""])


class Moved(NamedTuple):
    """Where a redirect leads that names the origin itself.

    A client that calls the origin by its own name, as by a hosts entry, is told what v1 says. One
    that calls the bridge by another name would be led past it, credentials and all: to that one,
    the origin has the name that it has called.
    """

    origin: Place
    called: str
    """Scheme and host as the client has called it."""

    def __call__(self, location: bytes) -> bytes:
        try:
            text = location.decode("ascii")
            if place_of(text) != self.origin or place_of(self.called) == self.origin:
                return location
            if place_of(self.called).authority == self.origin.authority:
                return location
            rest = text[len("://") + len(urlsplit(text).scheme) + len(urlsplit(text).netloc) :]
        except ValueError:  # a path, or no URL at all
            return location
        return (self.called + rest).encode()


def _named(fields: Fields) -> frozenset[bytes]:
    """Return the names that `Connection` gives: they are for this connection alone."""
    lines = (value for name, value in fields if name.lower() == b"connection")
    return frozenset(each.strip().lower() for line in lines for each in line.split(b","))


def _text(value: bytes) -> str:
    # aiohttp writes UTF-8: what is none was ISO-8859-1 once (RFC 9110, section 5.5).
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _length(fields: Fields) -> int | None:
    if any(name.lower() == b"transfer-encoding" for name, _ in fields):
        return None  # which overrides a length (RFC 9112, section 6.3)
    lines = (value for name, value in fields if name.lower() == b"content-length")
    lengths = {each.strip() for line in lines for each in line.split(b",")}
    if not lengths:
        return None
    if len(lengths) > 1 or not (only := lengths.pop()).isdigit():
        raise NotForwardable("its length cannot be told")
    return int(only)


def _reason(status: int, reason: str | None) -> bytes:
    octets = (reason or "").encode("utf-8", "surrogateescape")
    if octets and _VALUE.fullmatch(octets):
        return octets
    return HTTPStatus(status).phrase.encode() if status in _STATUSES else b""


_STATUSES = frozenset(map(int, HTTPStatus))
