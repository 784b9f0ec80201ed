"""The wiring of the legacy side: settings, upstream client, handler and middlewares in one place.

How it comes to listen is `bridge.server.serving`'s business.
"""

from collections.abc import AsyncIterator, Callable

from aiohttp import web

from bridge.identity.book import Book
from bridge.identity.callers import Identification
from bridge.identity.passwords import PasswordChecker
from bridge.resources import RESOURCES
from bridge.resources.routing import Router
from bridge.server.answers import standing_headers
from bridge.server.handler import LegacyHandler
from bridge.server.middlewares import RECORD, answer_errors, record_call
from bridge.settings import Settings
from bridge.v2.client import V2Client

SETTINGS = web.AppKey("settings", Settings)
BOOK: web.AppKey[Callable[[], Book]] = web.AppKey("book")
HANDLER = web.AppKey("handler", LegacyHandler)

NO_BOOK = Book(())


def create_app(settings: Settings, book: Callable[[], Book] = lambda: NO_BOOK) -> web.Application:
    """Return the application that answers legacy calls; `book` answers the book in force."""
    app = web.Application(middlewares=[record_call, answer_errors])
    app[SETTINGS] = settings
    app[BOOK] = book
    app.cleanup_ctx.append(_connect)
    app.on_response_prepare.append(_add_standing_headers)
    # One route: where a legacy call leads is decided by the resources' own tables.
    app.router.add_route("*", "/{path:.*}", _handle, expect_handler=_expect)
    return app


async def _connect(app: web.Application) -> AsyncIterator[None]:
    settings, book = app[SETTINGS], app[BOOK]
    client = V2Client(settings.upstream_client())
    passwords = PasswordChecker(lambda: book().usual_cost)
    identification = Identification(settings.auth, settings.account_id, book, passwords)
    app[HANDLER] = LegacyHandler(settings, Router(RESOURCES), identification, client)
    yield
    await passwords.close()
    await client.close()


async def _handle(request: web.Request) -> web.StreamResponse:
    return await request.app[HANDLER](request)


async def _expect(_request: web.Request) -> None:
    """Pass over an Expect header: aiohttp's own handler answers an odd one with plain text."""


async def _add_standing_headers(request: web.Request, response: web.StreamResponse) -> None:
    record = request[RECORD]
    sunset = request.app[SETTINGS].sunset_time()
    response.headers.update(standing_headers(record.request_id, record.successor, sunset))
