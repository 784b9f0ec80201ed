"""The wiring of the legacy side: parts, handler and middlewares in one place.

How it comes to listen is `bridge.server.serving`'s business.
"""

from collections.abc import AsyncIterator

from aiohttp import hdrs, web

from bridge.identity.callers import Identification
from bridge.identity.passwords import PasswordChecker
from bridge.resources import RESOURCES
from bridge.resources.routes import Router
from bridge.server.answers import standing_headers
from bridge.server.handler import LegacyHandler
from bridge.server.middlewares import RECORD, answer_errors, record_call
from bridge.server.parts import Parts

PARTS = web.AppKey("parts", Parts)
HANDLER = web.AppKey("handler", LegacyHandler)


def create_app(parts: Parts) -> web.Application:
    """Return the application that answers legacy calls."""
    app = web.Application(middlewares=[record_call, answer_errors])
    app[PARTS] = parts
    app.cleanup_ctx.append(_serve)
    app.on_response_prepare.append(_add_standing_headers)
    # One route: where a legacy call leads is decided by the resources' own tables.
    app.router.add_route("*", "/{path:.*}", _handle, expect_handler=_expect)
    return app


async def _serve(app: web.Application) -> AsyncIterator[None]:
    parts = app[PARTS]
    passwords = PasswordChecker(lambda: parts.book().usual_cost)
    settings = parts.settings
    identification = Identification(settings.auth, settings.account_id, parts.book, passwords)
    handler = app[HANDLER] = LegacyHandler(parts, Router(RESOURCES), identification)
    yield
    await handler.close()
    await passwords.close()


async def _handle(request: web.Request) -> web.StreamResponse:
    return await request.app[HANDLER](request)


async def _expect(_request: web.Request) -> None:
    """Pass over an Expect header: aiohttp's own handler answers an odd one with plain text."""


async def _add_standing_headers(request: web.Request, response: web.StreamResponse) -> None:
    record = request[RECORD]
    parts = request.app[PARTS]
    sunset = parts.settings.sunset_time()
    response.headers.update(standing_headers(record.request_id, record.successor, sunset))
    if parts.departure.begun:
        response.headers[hdrs.CONNECTION] = "close"
        response.force_close()
