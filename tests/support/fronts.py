"""A front for tests: legacy connections as the bridge holds them, with handlers of a test's own."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from bridge.identity.hosts import Network
from bridge.server.answers import send
from bridge.server.connection import Connection
from bridge.server.failed_connections import FailedConnections
from bridge.server.front import Front, listening_front
from bridge.server.limits import ConnectionLimits
from tests.support.running import LOOPBACK

Handler = Callable[[web.BaseRequest], Awaitable[web.Response]]


@asynccontextmanager
async def running_front(
    handlers: Mapping[str, Handler],
    *,
    strangers: bool = False,
    proxies: Sequence[Network] = (),
    **options: Any,
) -> AsyncIterator[tuple[int, Front]]:
    """Serve each path by its handler, and yield the port and the front.

    All callers are known, or else `strangers`. `options` are those of `ConnectionLimits`, `tls`, a
    context or what answers the newest, and `failed`, a list that gets what is told of failed connections.
    """

    async def endpoint(request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, Connection)
        connection.begin(lambda: _cancel(request.task))
        if not strangers:
            connection.serves_known()
        response: web.Response | None = None
        try:
            response = await handlers[request.path](request)
            await send(request, response, ())
            return response
        finally:
            connection.end(request, is_last=response is None or not response.keep_alive)

    given = options.pop("tls", None)
    tls = (lambda: given) if isinstance(given, ssl.SSLContext) else given
    failed = FailedConnections([options.pop("failed", []).append])
    front = Front(endpoint, ConnectionLimits(**options), failed, proxies)
    async with listening_front(front, LOOPBACK, 0, tls=tls, shutdown_timeout=0.1) as (port, _stop):
        yield port, front


def _cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
