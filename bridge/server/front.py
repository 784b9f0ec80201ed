"""The legacy side's connections: aiohttp's low-level server, held to limits, with errors in XML.

What answers calls is not known here; what the limits are is said in `bridge.server.limits`.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import structlog
from aiohttp import web, web_protocol
from aiohttp.http_exceptions import LineTooLong

from bridge.resources.failures import answer_to
from bridge.server.answers import headers_of, http_response, raw_response, request_id_of
from bridge.server.limits import ConnectionLimits
from bridge.server.records import CallRecord
from bridge.v1.errors import InvalidRequest, LegacyCallError, RequestTimeout

_log = structlog.get_logger("bridge.calls")

_BACKLOG = 1024
"""Connections that the kernel holds for the next turn of the event loop."""

_COMPLAINT_INTERVAL = 10.0
"""Seconds between two log lines about too many connections."""

_END_OF_HEAD = b"\r\n\r\n"
_ENDS_OF_HEADS = (b"\n\r\n", b"\n\n")
"""RFC 9112, section 2.2: a line may end in a lone LF."""


class Connection(web.RequestHandler):
    """One connection: aiohttp's protocol, but for its plain-text errors and its patience.

    aiohttp's own timer closes connections that idle between two requests. The ones added here are
    for a head that does not come to its end (RFC 9110, section 15.5.9), and for an answer that its
    client does not take.
    """

    __slots__ = (
        "_client_left",
        "_event_loop",
        "_front",
        "_head_length",
        "_head_tail",
        "_head_timer",
        "_limits",
        "_send_timer",
        "_wire",
    )

    def __init__(
        self,
        front: "Front",
        limits: ConnectionLimits,
        loop: asyncio.AbstractEventLoop,
        **options: Any,  # noqa: ANN401 - aiohttp's own
    ) -> None:
        super().__init__(front, loop=loop, **options)
        self._event_loop = loop
        self._front = front
        self._limits = limits
        self._head_length = 0
        self._head_tail = b""
        self._head_timer: asyncio.TimerHandle | None = None
        self._send_timer: asyncio.TimerHandle | None = None
        self._client_left: Callable[[], None] | None = None
        self._wire: asyncio.Transport | None = None
        """The connection, until it is lost: aiohttp forgets its own when it begins to close."""

    # What the endpoint says.

    def begin(self, client_left: Callable[[], None]) -> None:
        """Serve a call, to be told if the connection is lost, now even; it waits no longer."""
        self._client_left = client_left
        if self._wire is None:
            client_left()
        self._front.waiting.pop(self, None)

    def end(self, request: web.BaseRequest, *, is_last: bool) -> None:
        """Wait for the next call, since `request` has been answered; or close."""
        self._client_left = None
        if self._wire is None:
            return
        if is_last:
            self._start_send_timer()
        elif request.content.is_eof():
            self._wait()
        else:
            # What is still to come belongs to a body that was refused: aiohttp passes over it.
            request.content.on_eof(self._wait)

    def _wait(self) -> None:
        if self._wire is not None:
            self._front.waiting[self] = None

    # What the event loop says.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve, unless there are too many connections of which none waits."""
        has_room = self._front.make_room()
        super().connection_made(transport)
        self._front.open += 1
        self._wire = self.transport
        if has_room:
            self._wait()
            self._start_head_timer()
        else:
            self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the connection and its timers, and tell who serves a call of it."""
        self._front.open -= 1
        self._wire = None
        self._front.waiting.pop(self, None)
        self._stop_head_timer()
        self._stop_send_timer()
        super().connection_lost(exc)
        if self._client_left is not None:
            self._client_left()

    def data_received(self, data: bytes) -> None:
        """Read what came, and keep an eye on heads that come in pieces."""
        waits = self in self._front.waiting
        super().data_received(data)
        if waits:
            self._head_goes_on(data)
        else:
            _end_broken_body(self)

    def _head_goes_on(self, data: bytes) -> None:
        if self._head_length == 0:
            if data.endswith(_END_OF_HEAD) and not data.startswith((b"\r", b"\n")):
                # Whole, as most are.
                self._head_complete()
                return
            # Old clients send a line break after a body (RFC 9112, section 2.2): no head begins.
            data = data.lstrip(b"\r\n")
            if not data:
                return
        self._head_length += len(data)
        seen = self._head_tail + data
        if any(end in seen for end in _ENDS_OF_HEADS):
            self._head_complete()
        elif self._head_length > self._limits.head_size:
            self._refuse(InvalidRequest(f"The head has more than {self._limits.head_size} bytes."))
        else:
            self._head_tail = seen[-2:]
            if self._head_timer is None:
                self._start_head_timer()

    def _head_complete(self) -> None:
        self._head_length = 0
        self._head_tail = b""
        self._stop_head_timer()
        self._front.waiting.pop(self, None)

    def _start_head_timer(self) -> None:
        self._head_timer = self._event_loop.call_later(
            self._limits.head_timeout, self._head_overdue
        )

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_overdue(self) -> None:
        self._head_timer = None
        if self._head_length:
            self._refuse(RequestTimeout("The head of the request took too long to arrive."))
        else:
            # Who has sent nothing has asked nothing, and may be about to: an answer would be read
            # as that of the next request.
            self.force_close()

    def _refuse(self, error: LegacyCallError) -> None:
        """Answer a head that is not complete, and close."""
        if self._wire is None or self._wire.is_closing():
            return
        answer = answer_to(error)
        record = self._front.record_refusal(error, answer.status)
        self._wire.write(raw_response(answer, record.request_id))
        self.force_close()

    def pause_writing(self) -> None:
        """Give the client a while to take what has been written so far."""
        super().pause_writing()
        self._start_send_timer()

    def resume_writing(self) -> None:
        """Go on: the client has taken it."""
        super().resume_writing()
        self._stop_send_timer()

    def close(self) -> None:
        """Close when the call under way has been answered, and the client has taken that."""
        super().close()
        self._start_send_timer()

    def force_close(self) -> None:
        """Close; a transport does so when the client has taken the rest, if it does in time."""
        super().force_close()
        self._start_send_timer()

    def _start_send_timer(self) -> None:
        self._stop_send_timer()
        if self._wire is not None:
            later, seconds = self._event_loop.call_later, self._limits.send_timeout
            self._send_timer = later(seconds, self._send_overdue)

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
        error = self._what_is_wrong(status, exc, message)
        answer = answer_to(error)
        record = self._front.record_refusal(exc or error, answer.status, request.method)
        response = http_response(answer, headers_of(answer, record.request_id, None))
        response.force_close()
        self._start_send_timer()
        return response

    def _what_is_wrong(
        self, status: int, exc: BaseException | None, message: str | None
    ) -> Exception:
        """Say what is wrong in words that quote nothing of the request, secrets and all."""
        if status >= 500:
            return RuntimeError()
        if isinstance(exc, LineTooLong):
            line, field = self._limits.line_size, self._limits.field_size
            return InvalidRequest(
                f"The URL has more than {line} bytes, or a header more than {field}."
            )
        if message is not None and message.startswith("Too many headers"):
            return InvalidRequest(f"There are more than {self._limits.fields} headers.")
        return InvalidRequest("This is not well-formed HTTP/1.1.")


def _end_broken_body(connection: Connection) -> None:
    """Tell who reads a body that it is broken, which aiohttp keeps as the next call's error.

    The one place that needs aiohttp's private names. Its parser raises for chunks that are none,
    and `RequestHandler.data_received` queues that as a message of its own behind the call, whose
    body is never told: who reads it would wait for the rest, and the client for its answer.
    Without these names, they wait for as long as a body may take.
    """
    messages = getattr(connection, "_messages", None)
    if not messages or not isinstance(messages[-1][0], web_protocol._ErrInfo):  # noqa: SLF001
        return
    request = connection._current_request  # noqa: SLF001
    if len(messages) > 1:
        body = messages[-2][1]
    elif request is not None:
        body = request.content
    else:
        return
    if not body.is_eof():
        body.set_exception(web.RequestPayloadError(str(messages[-1][0].exc)))
        body.feed_eof()  # so that nothing waits for more of it once it is answered
        messages.pop()
        connection.close()


class Front(web.Server):
    """Gives every connection its protocol, counts them, and knows which ones wait."""

    def __init__(
        self,
        endpoint: Callable[[web.BaseRequest], Any],
        limits: ConnectionLimits | None = None,
        ended: Callable[[CallRecord], None] = lambda _record: None,
    ) -> None:
        """Hand calls to `endpoint`; `ended` is told of those that never get there."""
        self.limits = limits or ConnectionLimits()
        self._options: dict[str, Any] = {
            "access_log": None,
            "auto_decompress": False,
            "keepalive_timeout": self.limits.idle_timeout,
            "lingering_time": self.limits.lingering_time,
            "max_line_size": self.limits.line_size,
            "max_field_size": self.limits.field_size,
            "max_headers": self.limits.fields,
        }
        loop = asyncio.get_running_loop()
        super().__init__(endpoint, loop=loop)
        self._event_loop = loop
        self._ended = ended
        self.waiting: dict[Connection, None] = {}
        """Between two requests, or with at most a part of a head: who waited longest first."""
        self._complained = float("-inf")
        self.open = 0
        """How many connections there are."""

    def __call__(self) -> web.RequestHandler:
        """Make the protocol of a new connection."""
        return Connection(self, self.limits, self._event_loop, **self._options)

    def make_room(self) -> bool:
        """Tell whether one more connection may be, after closing another one if need be.

        The one to go is that which has waited longest for a request. A server may close those at
        any time (RFC 9112, section 9.5), so a flood of them keeps nobody out.
        """
        if self.open < self.limits.connections:
            return True
        longest = next(iter(self.waiting), None)
        if longest is not None:
            del self.waiting[longest]
            longest.force_close()
        self._complain(closed="the one that waited longest" if longest else "the new one")
        return longest is not None

    def _complain(self, closed: str) -> None:
        now = self._event_loop.time()
        if now - self._complained >= _COMPLAINT_INTERVAL:
            self._complained = now
            _log.warning("too_many_connections", limit=self.limits.connections, closed=closed)

    def record_refusal(
        self, error: BaseException, status: int, method: str = "UNKNOWN"
    ) -> CallRecord:
        """Record a call that cannot be read, and return what is known of it."""
        record = CallRecord(request_id_of(None), method, None)
        record.cause = type(error).__name__
        record.status = status
        self._ended(record)
        return record


@asynccontextmanager
async def listening_front(
    front: Front,
    host: str,
    port: int,
    *,
    tls: ssl.SSLContext | None = None,
    shutdown_timeout: float,
) -> AsyncIterator[tuple[int, Callable[[], None]]]:
    """Serve `front` on `host` and `port` (0 takes a free one), behind TLS if it is given.

    Yields the port it got, and what takes no more connections but leaves those that are open; at
    the end, they have `shutdown_timeout` seconds, of which 0 would be for ever to aiohttp.

    Raises:
        OSError: the address cannot be listened on.
    """
    patience = None if tls is None else front.limits.handshake_timeout
    server = await asyncio.get_running_loop().create_server(
        front,
        host,
        port,
        ssl=tls,
        backlog=_BACKLOG,
        ssl_handshake_timeout=patience,
        ssl_shutdown_timeout=patience,
    )
    try:
        yield server.sockets[0].getsockname()[1], server.close
    finally:
        server.close()
        front.pre_shutdown()
        await front.shutdown(shutdown_timeout)
