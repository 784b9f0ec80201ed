"""From a v1 answer, a value, to the HTTP response that carries it."""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import NamedTuple

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload

from bridge.v1.notes import Notes
from bridge.v1.wire import V1Response

CONTENT_TYPE = "application/xml; charset=utf-8"

_V1_DEPRECATED = datetime(2019, 1, 1, tzinfo=UTC)
"""When the vendor stopped to support v1."""

_SUCCESSOR = "https://api.harvestapp.com/v2"


class Rendered(NamedTuple):
    """A whole answer, written and validated, that may be sent to several."""

    status: int
    headers: Mapping[str, str]
    parts: Sequence[bytes] | None
    """The body; None is none."""
    notes: Notes


async def render(answer: V1Response, notes: Notes, turn: asyncio.Lock) -> Rendered:
    """Write the whole answer, validated, giving other work a turn after each part of it.

    Those who share `turn` write one part in all between two turns of the event loop. Raises
    whatever the document's `parts` raise; nothing has left by then.
    """
    written: list[bytes] | None = None
    if answer.document is not None:
        written = []
        parts = answer.document.parts(notes)
        while True:
            async with turn:
                part = next(parts, None)
                await asyncio.sleep(0)
            if part is None:
                break
            written.append(part)
    return Rendered(answer.status, answer.headers, written, notes)


def http_response(rendered: Rendered) -> web.Response:
    """Return what carries the answer to one client."""
    if rendered.parts is None:
        return web.Response(status=rendered.status, headers=rendered.headers)
    return web.Response(
        status=rendered.status, headers=rendered.headers, body=_Parts(deque(rendered.parts))
    )


def short_answer(answer: V1Response) -> web.Response:
    """Write an answer that is known to be short, such as an error, without waiting."""
    parts = tuple(answer.document.parts(Notes())) if answer.document else ()
    return http_response(Rendered(answer.status, answer.headers, parts, Notes()))


class _Parts(Payload):
    """A body in parts, each let go of as soon as it has been handed to the transport.

    aiohttp holds on to a response until the next request on its connection, and to the body of it:
    a long list would stay in memory for as long as its client idles.
    """

    def __init__(self, parts: deque[bytes]) -> None:
        super().__init__(parts, content_type=CONTENT_TYPE)
        self._size = sum(len(part) for part in parts)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return the body as text."""
        return b"".join(self._value).decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Send the body, at the pace at which the client takes it."""
        while self._value:
            await writer.write(self._value.popleft())
            await asyncio.sleep(0)

    async def close(self) -> None:
        """Let go of what has not been sent."""
        self._value.clear()


def standing_headers(
    request_id: str, successor: str | None, sunset: datetime | None
) -> Mapping[str, str]:
    """Return what every legacy answer carries (schemas/README.md, "Every answer")."""
    headers = {
        "Server": "harvest-bridge",
        "X-Request-Id": request_id,
        # RFC 9745, section 2.1: a structured-field date, seconds since the epoch.
        "Deprecation": f"@{int(_V1_DEPRECATED.timestamp())}",
        "Link": f'<{_SUCCESSOR}{successor or ""}>; rel="successor-version"',
    }
    if sunset is not None:
        # RFC 8594, section 3: an HTTP-date.
        headers["Sunset"] = format_datetime(sunset, usegmt=True)
    return headers
