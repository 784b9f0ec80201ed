"""From a v1 answer, a value, to the HTTP response that carries it."""

import asyncio
import io
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime

from aiohttp import web

from bridge.v1.notes import Notes
from bridge.v1.wire import V1Response

CONTENT_TYPE = "application/xml; charset=utf-8"

_V1_DEPRECATED = datetime(2019, 1, 1, tzinfo=UTC)
"""When the vendor stopped to support v1."""

_SUCCESSOR = "https://api.harvestapp.com/v2"


async def legacy_answer(answer: V1Response, notes: Notes) -> web.Response:
    """Write the whole answer, validated, giving other calls a turn after each part of it.

    Raises whatever the document's `parts` raise; nothing has left by then.
    """
    if answer.document is None:
        return web.Response(status=answer.status, headers=answer.headers)
    body = io.BytesIO()
    for part in answer.document.parts(notes):
        body.write(part)
        await asyncio.sleep(0)
    return _response(answer, body)


def short_answer(answer: V1Response) -> web.Response:
    """Write an answer that is known to be short, such as an error, without waiting."""
    parts = answer.document.parts(Notes()) if answer.document else ()
    return _response(answer, io.BytesIO(b"".join(parts)))


def _response(answer: V1Response, body: io.BytesIO) -> web.Response:
    body.seek(0)
    return web.Response(
        status=answer.status, headers={**answer.headers, "Content-Type": CONTENT_TYPE}, body=body
    )


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
