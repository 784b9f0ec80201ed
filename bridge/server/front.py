"""The legacy side's connections as a whole: who gets one, and which one makes room for another.

What becomes of one of them is written in `bridge.server.connection`; what answers calls is not
known here.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from aiohttp import HttpVersion11, web, web_protocol
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader

from bridge.identity.hosts import Network, is_trusted, network_of
from bridge.server.connection import VERSIONS, Connection
from bridge.server.failed_connections import FailedConnections
from bridge.server.limits import Budget, ConnectionLimits, Key, Share
from bridge.server.serving import Contexts, Stop, accepting, first_bytes
from bridge.settings import Settings

_AT_LEAST = 0.001
"""Seconds of a handshake that has begun in the last moment: to asyncio, none would be an error."""


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
        failed: FailedConnections | None = None,
        proxies: Sequence[Network] = (),
    ) -> None:
        """Hand calls to `endpoint`; `failed` counts the connections of which none comes.

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
        self._failed = failed or FailedConnections()
        self._proxies = proxies
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

    def go_by(self, settings: Settings) -> None:
        """Trust other proxies from now on."""
        self._proxies = settings.trusted_proxies

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
        network = network_of(address)
        is_everybodys = self.is_a_proxys(address)
        shares = () if is_everybodys else ((Share.ADDRESS, network),)
        if (
            self._places.is_used_up(shares)
            and not self._make_room(network, "address-share", shares)
        ) or (self.open >= self.limits.connections and not self._make_room(network, "no-room")):
            return None
        self._places.take(shares)
        return shares

    def is_a_proxys(self, address: str) -> bool:
        """Tell whether what comes from there is of a proxy's clients."""
        return is_trusted(address, self._proxies)

    def release(self, shares: Sequence[Key]) -> None:
        """Give back the room of a connection that is no more."""
        self._places.give_back(shares)

    def _make_room(self, network: str, reason: str, shares: Sequence[Key] | None = None) -> bool:
        """Close what matters least of all connections, or of those with these shares.

        It is counted as one too many from the `network` of who has come.
        """
        for kind, closed in (
            (self.handshakes, "a handshake was closed"),
            (self.lingering, "one whose body was passed over was closed"),
            (self.waiting, "the one that waited longest was closed"),
            (self.unknown, "one of a caller who is not known was closed"),
        ):
            for connection in kind:
                if shares is None or connection.shares == shares:
                    connection.give_way()
                    self._failed.count("connection_refused", network, reason, closed)
                    return True
        self._failed.count("connection_refused", network, reason, "the new one was closed")
        return False

    def close_idle(self) -> None:
        """Close the connections that wait for one more request, and of which none has come."""
        for connection in [*self.waiting]:
            connection.close_if_idle()

    def expects(self) -> bool:
        """Tell whether somebody has connected whose call does not run yet."""
        return bool(self.handshakes or self.waiting) or any(
            connection.has_only_asked for connection in self.unknown
        )

    def shake_hands(self, tls: Contexts, wire: socket.socket, address: str) -> None:
        """Begin a connection behind TLS, if there is room for it."""
        if (shares := self.admit(address)) is None:
            wire.close()
            return
        connection = self._connection(shares)
        shaking = self._shake_hands(wire, address, connection, tls)
        connection.shakes_hands(self._event_loop.create_task(shaking), wire)

    async def _shake_hands(
        self, wire: socket.socket, address: str, connection: Connection, tls: Contexts
    ) -> None:
        patience = self.limits.handshake_timeout
        deadline = self._event_loop.time() + patience
        hello = b""
        try:
            async with asyncio.timeout_at(deadline):
                if not (hello := await first_bytes(wire)):
                    return  # it has only looked whether the port is open
            await self._event_loop.connect_accepted_socket(
                lambda: connection,
                wire,
                ssl=tls(),
                ssl_handshake_timeout=max(deadline - self._event_loop.time(), _AT_LEAST),
                ssl_shutdown_timeout=patience,
            )
        except OSError as error:  # ssl.SSLError and TimeoutError among them: no HTTP came of it
            self._failed.handshake(error, address, tls(), hello)

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

    def count_unread(self, address: str, reason: str, detail: str | None = None) -> None:
        """Count what cannot be read as HTTP: no call came of it."""
        self._failed.count("not_http", network_of(address), reason, detail)

    def count_refused(self, address: str, reason: str) -> None:
        """Count a connection that was closed because its bytes have no room."""
        self._failed.count("connection_refused", network_of(address), reason)


@asynccontextmanager
async def listening_front(  # noqa: PLR0913 - where, how, and until when
    front: Front,
    host: str,
    port: int,
    *,
    tls: Contexts | None = None,
    shutdown_timeout: float,
    handed: Sequence[socket.socket] = (),
) -> AsyncIterator[tuple[int, Stop]]:
    """Serve `front` on `host` and `port` (0 takes a free one), behind TLS if it is given.

    `tls` answers what the next connection begins with.

    If sockets were `handed` over, it is on those instead.

    Yields the port it got, and what takes no more connections but leaves those that are open, and
    handshakes; at the end, connections have `shutdown_timeout` seconds, of which 0 would be for
    ever to aiohttp.

    Raises:
        OSError: the address cannot be listened on.
    """
    take = None if tls is None else partial(front.shake_hands, tls)
    async with accepting(front, host, port, take, handed) as (taken, stop):
        try:
            yield taken, stop
        finally:
            stop()
            for connection in [*front.handshakes]:
                connection.give_way()
            front.pre_shutdown()
            await front.shutdown(shutdown_timeout)
