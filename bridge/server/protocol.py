"""HTTP as the legacy side speaks it: aiohttp's, held to limits, with errors in XML.

What the limits are is said in `bridge.server.limits`; what answers calls is not known here.
"""

import asyncio
import ssl
from typing import Any, cast

import structlog
from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import _ErrInfo

from bridge.resources.failures import answer_to
from bridge.server.answers import short_answer, standing_headers
from bridge.server.limits import ConnectionLimits
from bridge.server.logs import CallRecord
from bridge.server.middlewares import request_id_of
from bridge.v1.errors import InvalidRequest, LegacyCallError, RequestTimeout
from bridge.v1.wire import V1Response

_log = structlog.get_logger("bridge.calls")

_BACKLOG = 1024
"""Connections that the kernel holds for the next turn of the event loop."""

_COMPLAINT_INTERVAL = 10.0
"""Seconds between two log lines about too many connections."""


class LegacyProtocol(web.RequestHandler):
    """One connection: aiohttp's protocol, but for its plain-text errors and its patience.

    aiohttp's own timer closes connections that idle between two requests. The ones added here are
    for a head that does not come to its end (RFC 9110, section 15.5.9), and for an answer that its
    client does not take.
    """

    __slots__ = ("_head_length", "_head_timer", "_limits", "_send_timer", "_wire")

    def __init__(
        self,
        manager: "LegacyServer",
        limits: ConnectionLimits,
        **options: Any,  # noqa: ANN401 - aiohttp's own
    ) -> None:
        super().__init__(manager, **options)
        self._limits = limits
        self._head_length = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._send_timer: asyncio.TimerHandle | None = None
        self._wire: asyncio.Transport | None = None
        """The connection, until it is lost: aiohttp forgets its own when it begins to close."""

    @property
    def waits(self) -> bool:
        """Whether the connection is between two requests, or at most has part of a head."""
        return self._waiter is not None and not self._waiter.done()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve, unless there are too many connections of which none waits."""
        has_room = isinstance(self._manager, LegacyServer) and self._manager.make_room()
        super().connection_made(transport)
        self._wire = self.transport
        if self._task_handler is not None:
            self._task_handler.add_done_callback(self._served)
        if has_room:
            self._start_head_timer()
        else:
            self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the connection and its timers."""
        self._wire = None
        self._stop_head_timer()
        self._stop_send_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read what came, and keep an eye on heads that come in pieces."""
        heads = self._request_count
        super().data_received(data)
        if self._request_count > heads:
            self._head_length = 0
            self._stop_head_timer()
            self._end_broken_body()
        elif self.waits:
            self._head_goes_on(data)

    def _end_broken_body(self) -> None:
        """Tell who reads a body that it is broken, which aiohttp keeps as the next call's error.

        Otherwise they would wait for the rest, and the client for its answer.
        """
        error = self._messages[-1][0]
        if not isinstance(error, _ErrInfo):
            return
        if len(self._messages) > 1:
            body = self._messages[-2][1]
        elif self._current_request is not None:
            body = self._current_request.content
        else:
            return
        if not body.is_eof():
            body.set_exception(web.RequestPayloadError(str(error.exc)))
            body.feed_eof()  # so that nothing waits for more of it once it is answered
            self._messages.pop()
            self.close()

    def _head_goes_on(self, data: bytes) -> None:
        if self._head_length == 0 and not data.strip(b"\r\n"):
            # Old clients send a line break after a body (RFC 9112, section 2.2): no head begins.
            return
        self._head_length += len(data)
        if self._head_length > self._limits.head_size:
            self._refuse(InvalidRequest(f"The head has more than {self._limits.head_size} bytes."))
        elif self._head_timer is None:
            self._start_head_timer()

    def _start_head_timer(self) -> None:
        self._head_timer = self._loop.call_later(self._limits.head_timeout, self._head_overdue)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_overdue(self) -> None:
        self._head_timer = None
        if not self.waits:
            return
        if self._head_length:
            self._refuse(RequestTimeout("The head of the request took too long to arrive."))
        else:
            # Who has sent nothing has asked nothing, and may be about to: an answer would be read
            # as that of the next request.
            self.force_close()

    def _refuse(self, error: LegacyCallError) -> None:
        """Answer a head that is not complete, as aiohttp does where it cannot read one."""
        self._request_count += 1
        self._messages.append((_ErrInfo(400, error, ""), EMPTY_PAYLOAD))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send the answer; of the connections that wait, this is now the latest."""
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            if isinstance(self._manager, LegacyServer):  # None once the connection is lost
                self._manager.moved_on(self)

    def pause_writing(self) -> None:
        """Give the client a while to take what has been written so far."""
        super().pause_writing()
        self._start_send_timer()

    def resume_writing(self) -> None:
        """Go on: the client has taken it."""
        super().resume_writing()
        self._stop_send_timer()

    def _served(self, _task: asyncio.Task[None]) -> None:
        """Give the client a while to take the rest: a transport closes only when it has."""
        if self._wire is not None:
            self._start_send_timer()

    def _start_send_timer(self) -> None:
        self._stop_send_timer()
        self._send_timer = self._loop.call_later(self._limits.send_timeout, self._send_overdue)

    def _stop_send_timer(self) -> None:
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None

    def _send_overdue(self) -> None:
        self._send_timer = None
        if self._wire is not None:
            self._wire.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what cannot be read as HTTP, and close the connection."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer was under way already")
        record = CallRecord(request_id_of(None), request.method, None)
        record.cause = type(exc).__name__
        response = short_answer(self._answer(status, exc, message))
        response.headers.update(standing_headers(record.request_id, None, None))
        response.force_close()
        _log.info("legacy_call", request_id=record.request_id, **record.line(response.status))
        return response

    def _answer(self, status: int, exc: BaseException | None, message: str | None) -> V1Response:
        """Say what is wrong in words that quote nothing of the request, secrets and all."""
        if status >= 500:
            return answer_to(RuntimeError())
        if isinstance(exc, LegacyCallError):
            return answer_to(exc)
        if isinstance(exc, LineTooLong):
            return answer_to(InvalidRequest(self._sizes()))
        if message is not None and message.startswith("Too many headers"):
            return answer_to(InvalidRequest(f"There are more than {self._limits.fields} headers."))
        return answer_to(InvalidRequest("This is not well-formed HTTP/1.1."))

    def _sizes(self) -> str:
        line, field = self._limits.line_size, self._limits.field_size
        return f"The URL has more than {line} bytes, or a header more than {field}."


class LegacyServer(web.Server):
    """Gives every connection a `LegacyProtocol`, and counts them."""

    def __init__(
        self,
        server: web.Server,
        limits: ConnectionLimits,
        **options: Any,  # noqa: ANN401 - aiohttp's own
    ) -> None:
        super().__init__(server.request_handler, request_factory=server.request_factory, **options)
        # Whoever hangs up is not read for any longer; writes see to themselves.
        self.handler_cancellation = True
        self._limits = limits
        self._options = options
        self._complained = float("-inf")
        self.open = 0
        """How many connections there are."""

    def __call__(self) -> web.RequestHandler:
        """Make the protocol of a new connection."""
        return LegacyProtocol(self, self._limits, loop=asyncio.get_running_loop(), **self._options)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Count one more."""
        super().connection_made(handler, transport)
        self.open += 1

    def connection_lost(
        self, handler: web.RequestHandler, exc: BaseException | None = None
    ) -> None:
        """Count one less."""
        super().connection_lost(handler, exc)
        self.open -= 1

    def moved_on(self, connection: LegacyProtocol) -> None:
        """Put `connection`, which has had its answer, behind those that have waited for longer."""
        if (transport := self._connections.pop(connection, None)) is not None:
            self._connections[connection] = transport

    def make_room(self) -> bool:
        """Tell whether one more connection may be, after closing another one if need be.

        The one to go is that which has waited longest for a request. A server may close those at
        any time (RFC 9112, section 9.5), so a flood of them keeps nobody out.
        """
        if self.open < self._limits.connections:
            return True
        waiting = (each for each in self._connections if _waits(each))
        longest = next(waiting, None)
        if longest is not None:
            longest.force_close()
        self._complain(closed="the one that waited longest" if longest else "the new one")
        return longest is not None

    def _complain(self, closed: str) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._complained >= _COMPLAINT_INTERVAL:
            self._complained = now
            _log.warning("too_many_connections", limit=self._limits.connections, closed=closed)


def _waits(connection: web.RequestHandler) -> bool:
    return isinstance(connection, LegacyProtocol) and connection.waits


class LegacyRunner(web.AppRunner):
    """Runs an application behind a `LegacyServer`."""

    __slots__ = ("_limits",)

    def __init__(
        self,
        app: web.Application,
        *,
        limits: ConnectionLimits | None = None,
        **options: Any,  # noqa: ANN401 - aiohttp's own
    ) -> None:
        self._limits = limits or ConnectionLimits()
        super().__init__(
            app,
            keepalive_timeout=self._limits.idle_timeout,
            lingering_time=self._limits.lingering_time,
            max_line_size=self._limits.line_size,
            max_field_size=self._limits.field_size,
            max_headers=self._limits.fields,
            **options,
        )

    @property
    def limits(self) -> ConnectionLimits:
        """What every connection is held to."""
        return self._limits

    async def stop_listening(self) -> None:
        """Take no more connections; those that are open stay."""
        for site in list(self.sites):
            await site.stop()

    @property
    def busy(self) -> bool:
        """Whether a client is yet to get its answer, or the rest of it."""
        return self.server is not None and not all(map(_waits, self.server.connections))

    async def _make_server(self) -> web.Server:
        return LegacyServer(await super()._make_server(), self._limits, **self._kwargs)


class LegacySite(web.TCPSite):
    """A socket that listens, in the clear or behind TLS."""

    __slots__ = ("_handshake_timeout",)

    def __init__(
        self, runner: LegacyRunner, host: str, port: int, tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(runner, host, port, ssl_context=tls, backlog=_BACKLOG)
        self._handshake_timeout = None if tls is None else runner.limits.handshake_timeout

    async def start(self) -> None:
        """Listen as aiohttp would, which cannot say how long a TLS handshake may take.

        Raises:
            OSError: the address cannot be listened on.
        """
        await web.BaseSite.start(self)
        self._server = await asyncio.get_running_loop().create_server(
            cast(LegacyServer, self._runner.server),
            self._host,
            self._port,
            ssl=self._ssl_context,
            backlog=self._backlog,
            ssl_handshake_timeout=self._handshake_timeout,
            ssl_shutdown_timeout=self._handshake_timeout,
        )
