"""Answers as the sandbox writes them: JSON, whole. What is in them is said elsewhere."""

from collections.abc import Mapping

import msgspec
from aiohttp import web

_ENCODER = msgspec.json.Encoder(decimal_format="number")


def json_answer(
    value: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Make an answer whose body is `value` as JSON."""
    return web.Response(
        body=_ENCODER.encode(value),
        status=status,
        headers=headers,
        content_type="application/json",
        charset="utf-8",
    )
