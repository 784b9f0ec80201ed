"""From a v1 answer, a value, to the HTTP response that carries it."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import formatdate
from http import HTTPStatus
from random import getrandbits
from time import time_ns

from aiohttp import web
from multidict import CIMultiDict

from bridge.identity.masking import without_tokens
from bridge.v1.wire import V1Response

CONTENT_TYPE = "application/xml; charset=utf-8"

_SUCCESSOR = "https://api.harvestapp.com/v2"

# RFC 9745, section 2.1: a structured-field date, seconds since the epoch. 1 January 2019 is when
# the vendor stopped to support v1.
_DEPRECATED = f"@{int(datetime(2019, 1, 1, tzinfo=UTC).timestamp())}"

_SANE_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


def request_id_of(offered: str | None) -> str:
    """Return the client's own request id if it is a sane one, and no token, else a new one.

    New ones begin with the time, as UUIDs of version 7 do (RFC 9562, section 5.7): in the order
    they come, an index of them grows at its end, which takes a tenth of the time.
    """
    if offered is not None and _SANE_ID.fullmatch(offered) and without_tokens(offered) == offered:
        return offered
    # No secret, and thrice as quick as one.
    return f"{time_ns() // 1_000_000:012x}{getrandbits(80):020x}"


_STANDING = CIMultiDict({"Server": "harvest-bridge", "Deprecation": _DEPRECATED})


def headers_of(
    answer: V1Response, request_id: str, successor: str | None, sunset: str | None = None
) -> CIMultiDict[str]:
    """Return the headers of an answer, with those that every answer carries.

    See schemas/README.md, "Every answer". `sunset` is an HTTP-date (RFC 8594, section 3).
    """
    headers = _STANDING.copy()
    headers["X-Request-Id"] = request_id
    headers["Link"] = f'<{_SUCCESSOR}{successor or ""}>; rel="successor-version"'
    if sunset is not None:
        headers["Sunset"] = sunset
    if answer.body:
        headers["Content-Type"] = CONTENT_TYPE
    if answer.headers:
        headers.update(answer.headers)
    return headers


async def send(
    request: web.BaseRequest, response: web.StreamResponse, parts: Sequence[bytes]
) -> None:
    """Send all of an answer, at the pace at which the client takes it.

    Raises:
        ConnectionError: the client is gone.
    """
    await response.prepare(request)
    if request.method != "HEAD":
        for part in parts:
            await response.write(part)
    await response.write_eof()


def http_response(answer: V1Response, headers: CIMultiDict[str]) -> web.StreamResponse:
    """Return what carries an answer to one client, without a body of several parts.

    aiohttp holds on to a response, and to the body in it, until the next request on its connection:
    a long list would stay in memory for as long as its client idles.
    """
    if len(answer.body) <= 1:
        return web.Response(
            status=answer.status, headers=headers, body=answer.body[0] if answer.body else None
        )
    response = web.StreamResponse(status=answer.status, headers=headers)
    response.content_length = sum(map(len, answer.body))
    return response


def raw_response(answer: V1Response, request_id: str) -> bytes:
    """Write an answer for which there is no request: its head could not be read."""
    body = b"".join(answer.body)
    headers = headers_of(answer, request_id, None)
    headers["Date"] = formatdate(usegmt=True)
    headers["Content-Length"] = str(len(body))
    headers["Connection"] = "close"
    lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
