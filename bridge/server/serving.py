"""How the legacy side listens: the HTTP server, and what it answers to what is not HTTP."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import structlog
from aiohttp import web

from bridge.resources.failures import answer_to
from bridge.server.answers import short_answer, standing_headers
from bridge.server.logs import CallRecord
from bridge.server.middlewares import request_id_of
from bridge.v1.errors import InvalidRequest

_log = structlog.get_logger("bridge.calls")


class LegacyProtocol(web.RequestHandler):
    """HTTP as aiohttp speaks it, but for its plain-text errors: those become XML ones."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it quotes the request, secrets and all
    ) -> web.StreamResponse:
        """Answer what cannot be read as HTTP, and close the connection."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer was under way already")
        record = CallRecord(request_id_of(None), request.method, None)
        record.cause = type(exc).__name__
        error = InvalidRequest("This is not HTTP/1.1.") if status < 500 else RuntimeError()
        response = short_answer(answer_to(error))
        response.headers.update(standing_headers(record.request_id, None, None))
        response.force_close()
        _log.info("legacy_call", request_id=record.request_id, **record.line(response.status))
        return response


class LegacyServer(web.Server):
    """Gives every connection a `LegacyProtocol`."""

    def __init__(self, server: web.Server, **options: Any) -> None:  # noqa: ANN401 - aiohttp's own
        super().__init__(server.request_handler, request_factory=server.request_factory, **options)
        self._options = options

    def __call__(self) -> web.RequestHandler:
        """Make the protocol of a new connection."""
        return LegacyProtocol(self, loop=asyncio.get_running_loop(), **self._options)


class LegacyRunner(web.AppRunner):
    """Runs an application behind a `LegacyServer`."""

    __slots__ = ()

    async def _make_server(self) -> web.Server:
        return LegacyServer(await super()._make_server(), **self._kwargs)


@asynccontextmanager
async def listening(runner: web.BaseRunner, host: str, port: int) -> AsyncIterator[int]:
    """Serve `runner` on `host` and `port` (0 takes a free one) and yield the port it got.

    Raises:
        OSError: the address cannot be listened on.
    """
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def until_told_to_stop() -> None:
    """Wait for SIGINT or SIGTERM."""
    stop = asyncio.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(each, stop.set)
    await stop.wait()
