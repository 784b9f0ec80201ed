"""The legacy side's connections as a whole: who gets one, and which one makes room for another.

What becomes of one of them is written in `bridge.server.connection`; what answers calls is not
known here.
"""

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import structlog
from aiohttp import HttpVersion11, web, web_protocol
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader

from bridge.identity.hosts import Network, is_trusted, network_of
from bridge.server.answers import request_id_of
from bridge.server.connection import VERSIONS, Connection
from bridge.server.limits import Budget, ConnectionLimits, Key, Share
from bridge.server.records import CallRecord
from bridge.server.tls import why_no_handshake
from bridge.v1.errors import InvalidRequest
from bridge.v1.wire import V1Response

_log = structlog.get_logger("bridge.calls")

_BACKLOG = 1024
"""Connections that the kernel holds for the next turn of the event loop."""

_COMPLAINT_INTERVAL = 10.0
"""Seconds between two log lines about too many connections, or handshakes that failed alike."""

_PAUSE_AFTER_FAILURE = 1.0
"""Seconds to the next try to accept, as asyncio's own server has it."""


class Front(web.Server):
    """Gives every connection its protocol, and room, as long as there is any.

    Where there is none, a connection that matters less makes room: first a handshake, then one
    whose refused body is passed over, then one that waits for a request (a server may close those
    at any time, RFC 9112, section 9.5), last one whose caller is not known yet; of each kind, the
    oldest. So a flood of strangers keeps nobody out who is known.
    """

    def __init__(
        self,
        endpoint: Callable[[web.BaseRequest], Any],
        limits: ConnectionLimits | None = None,
        ended: Callable[[CallRecord], None] = lambda _record: None,
        proxies: Sequence[Network] = (),
    ) -> None:
        """Hand calls to `endpoint`; `ended` is told of those that never get there.

        From `proxies`, everybody's connections come: they have no share of their own.
        """
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
        super().__init__(endpoint, request_factory=self._request, loop=loop)
        self._event_loop = loop
        self._ended = ended
        self._proxies = proxies
        self._complained = float("-inf")
        self._failed_handshakes: dict[str, tuple[float, int]] = {}
        """By their reason: when that was logged last, and how often it was not since then."""
        self._places = Budget(
            "connections",
            self.limits.connections,
            {Share.ADDRESS: self.limits.connections_per_address},
        )
        self.heads = Budget(
            "heads", self.limits.heads_limit, {Share.ADDRESS: self.limits.heads_per_address}
        )
        """The bytes of heads that have not come whole."""
        self.handshakes: dict[Connection, None] = {}
        self.lingering: dict[Connection, None] = {}
        """Answered, with a refused body that is passed over."""
        self.waiting: dict[Connection, None] = {}
        """Between two requests, or with at most a part of a head."""
        self.unknown: dict[Connection, None] = {}
        """With a request under way whose caller's credential is not known to be right."""

    @property
    def open(self) -> int:
        """How many connections there are, handshakes included."""
        return self._places.used

    def __call__(self) -> web.RequestHandler:
        """Make the protocol of a new connection."""
        return self._connection()

    def _connection(self, shares: Sequence[Key] | None = None) -> Connection:
        return Connection(self, self.limits, self._event_loop, shares, **self._options)

    def admit(self, address: str) -> Sequence[Key] | None:
        """Make room for a connection from `address`; return what to `release`, None for no room.

        That is with whom it shares what everybody may have a part of.
        """
        is_everybodys = is_trusted(address, self._proxies)
        shares = () if is_everybodys else ((Share.ADDRESS, network_of(address)),)
        if (self._places.is_used_up(shares) and not self._make_room(shares)) or (
            self.open >= self.limits.connections and not self._make_room()
        ):
            self._complain("the new one")
            return None
        self._places.take(shares)
        return shares

    def release(self, shares: Sequence[Key]) -> None:
        """Give back the room of a connection that is no more."""
        self._places.give_back(shares)

    def _make_room(self, shares: Sequence[Key] | None = None) -> bool:
        """Close what matters least of all connections, or of those with these shares."""
        for kind, closed in (
            (self.handshakes, "a handshake"),
            (self.lingering, "one whose body was passed over"),
            (self.waiting, "the one that waited longest"),
            (self.unknown, "one of a caller who is not known"),
        ):
            for connection in kind:
                if shares is None or connection.shares == shares:
                    connection.give_way()
                    self._complain(closed)
                    return True
        return False

    def _complain(self, closed: str) -> None:
        now = self._event_loop.time()
        if now - self._complained >= _COMPLAINT_INTERVAL:
            self._complained = now
            _log.warning("too_many_connections", limit=self.limits.connections, closed=closed)

    async def accept(self, listener: socket.socket, tls: ssl.SSLContext) -> None:
        """Take the connections of a listening socket, and shake hands, until it is cancelled.

        asyncio's own server tells of a connection only after its handshake.
        """
        while True:
            try:
                wire, address = await self._event_loop.sock_accept(listener)
            except OSError as error:
                _log.error("cannot_accept", error=type(error).__name__, errno=error.errno)
                await asyncio.sleep(_PAUSE_AFTER_FAILURE)
                continue
            # There may be many that do not let the loop turn.
            await asyncio.sleep(0)
            if (shares := self.admit(address[0])) is None:
                wire.close()
                continue
            connection = self._connection(shares)
            shaking = self._shake_hands(wire, address[0], connection, tls)
            connection.shakes_hands(self._event_loop.create_task(shaking), wire)

    async def _shake_hands(
        self, wire: socket.socket, address: str, connection: Connection, tls: ssl.SSLContext
    ) -> None:
        patience = self.limits.handshake_timeout
        try:
            await self._event_loop.connect_accepted_socket(
                lambda: connection,
                wire,
                ssl=tls,
                ssl_handshake_timeout=patience,
                ssl_shutdown_timeout=patience,
            )
        except OSError as error:  # ssl.SSLError and TimeoutError among them: no HTTP came of it
            if (reason := why_no_handshake(error)) is not None:
                self._tell_of_handshake(address, reason)

    def _tell_of_handshake(self, address: str, reason: str) -> None:
        now = self._event_loop.time()
        told, more = self._failed_handshakes.get(reason, (float("-inf"), 0))
        if now - told < _COMPLAINT_INTERVAL:
            self._failed_handshakes[reason] = told, more + 1
            return
        self._failed_handshakes[reason] = now, 0
        _log.warning("tls_handshake_failed", address=address, reason=reason, not_logged=more)

    def _request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        connection: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        assert isinstance(connection, Connection)  # noqa: S101 - the front makes no others
        connection.judge(message)
        if message.version not in VERSIONS or message is web_protocol.ERROR:
            # The answer has the version of its request.
            message = message._replace(version=HttpVersion11)
        return web.BaseRequest(message, payload, connection, writer, task, self._event_loop)

    def record_refusal(
        self,
        error: Exception,
        answer: V1Response,
        wire: asyncio.BaseTransport | None,
        *,
        method: str = "UNKNOWN",
        cause: BaseException | None = None,
    ) -> CallRecord:
        """Record a call that cannot be read, and return what is known of it."""
        record = CallRecord(request_id_of(None), method, None)
        record.cause = type(cause or error).__name__
        record.problem = error.problem if isinstance(error, InvalidRequest) else None
        record.status, record.bytes_out = answer.status, sum(map(len, answer.body))
        peer = wire and wire.get_extra_info("peername")
        if peer and not is_trusted(peer[0], self._proxies):
            record.address, record.network = peer[0], network_of(peer[0])
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
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        front, host, port, backlog=_BACKLOG, start_serving=tls is None
    )
    listeners: list[socket.socket] = []
    accepting: list[asyncio.Task[None]] = []
    if tls is not None:
        for each in server.sockets:
            listener = socket.socket(fileno=os.dup(each.fileno()))
            listener.setblocking(False)
            listener.listen(_BACKLOG)
            listeners.append(listener)
            accepting.append(loop.create_task(front.accept(listener, tls)))

    def stop() -> None:
        for task in accepting:
            task.cancel()
        for connection in [*front.handshakes]:
            connection.give_way()
        for listener in listeners:
            listener.close()
        server.close()

    try:
        yield server.sockets[0].getsockname()[1], stop
    finally:
        stop()
        await asyncio.gather(*accepting, return_exceptions=True)
        front.pre_shutdown()
        await front.shutdown(shutdown_timeout)
