"""The admin side itself: its connections, and what all its answers have in common.

What is at which path is handed in as routes; who may see it, `bridge.server.admin.guard` says.
"""

import asyncio
import ipaddress
import re
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from itertools import chain
from typing import Any, cast

import structlog
from aiohttp import web, web_protocol
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader

from bridge.identity.hosts import network_of, without_port
from bridge.server.admin.guard import SAFE_METHODS, Guard
from bridge.server.admin.health import OK, Readiness, health_routes
from bridge.server.admin.pages import render
from bridge.server.admin.requests import AdminRequest, Protection, Refused, Route
from bridge.server.failed_connections import FailedConnections
from bridge.server.serving import Contexts, accepting, first_bytes, told_if_taken

_log = structlog.get_logger("bridge.admin")

CONNECTIONS = 64
"""The most at once. One more takes the place of another: of one on which nothing is asked, if any,
and best of one from the same address."""

LIFETIME = 10.0
"""Seconds from a connection's start, or its latest answer, to the next request, and from there to
the next answer: then it is closed, whatever it is at."""

REQUESTS = 100
"""The most on one connection."""

_PATIENCE = 0.1
"""Seconds for what is under way at the end; to aiohttp, 0 would be for ever."""

_POLICY = (
    "default-src 'none'; script-src 'self'{nonce}; style-src 'self'{nonce}; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)

_HEADERS = {
    "Server": "harvest-bridge",
    "X-Content-Type-Options": "nosniff",
    # With `no-referrer`, browsers send `Origin: null` with a form, and whose it is cannot be told.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Of every answer: nothing of another site runs here, frames this, reads this or is told of it."""


class AdminSide(web.Server):
    """Answers on the admin side.

    Where no token is asked for, it has to be called by an IP address, as `localhost`, or by one of
    `names`; else it is 421 (RFC 9110, section 15.5.20). A page in somebody's browser can have a
    name of its own lead here, but not these, and would read what is shown (DNS rebinding).

    What is guarded keeps its connection for the next request; what is open, or refused, does not:
    nobody has had to show anything for it.
    """

    def __init__(  # noqa: PLR0913 - what it is made of
        self,
        readiness: Readiness,
        *,
        routes: Iterable[Route] = (),
        guard: Guard | None = None,
        names: Iterable[str] = (),
        failed: FailedConnections | None = None,
        phase: Callable[[], str] = lambda: OK,
        state: Callable[[], Mapping[str, object]] = dict,
    ) -> None:
        """Belongs to the event loop it is made in; `failed` counts handshakes that fail."""
        loop = asyncio.get_running_loop()
        super().__init__(self._answer, request_factory=self._request, loop=loop)
        self._event_loop = loop
        self.guard = guard or Guard()
        self._failed = failed or FailedConnections()
        self._names = {"localhost", *(name.lower() for name in names if not _is_address(name))}
        self._dispatcher = web.UrlDispatcher()
        self._routes: dict[object, Route] = {}
        for route in (*health_routes(readiness, phase, state), *self.guard.routes, *routes):
            self._add(route)
        self._shaking: dict[_Connection, asyncio.Task[None]] = {}
        """The connections whose handshake is under way, the oldest first."""
        self._waiting: dict[_Connection, asyncio.Transport | None] = {}
        """The connections on which nothing is asked, the one that waits longest first."""
        self._asked: dict[_Connection, asyncio.Transport | None] = {}
        """The others, in the same order."""

    def _add(self, route: Route) -> None:
        for method in (route.method, "HEAD") if route.method == "GET" else (route.method,):
            added = self._dispatcher.add_route(method, route.path, cast("Any", route.handler))
            self._routes[added] = route

    def __call__(self) -> web.RequestHandler:
        """Make the protocol of a new connection."""
        return _Connection(self, loop=self._event_loop, access_log=None)

    def _request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        connection: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        received = message, payload, connection, writer, task, self._event_loop
        if message is web_protocol.ERROR:  # which `_Connection.handle_error` answers
            return web.BaseRequest(*received)
        return AdminRequest(*received, proxies=self.guard.proxies)

    # Connections.

    @property
    def open(self) -> int:
        """How many connections there are, handshakes included."""
        return len(self._shaking) + len(self._waiting) + len(self._asked)

    def opened(self, connection: "_Connection") -> None:
        """Count a connection, in the place of another if there are too many."""
        if self._shaking.pop(connection, None) is None:
            self._make_room(connection.network)
        self._waiting[connection] = connection.transport

    def _make_room(self, network: str) -> None:
        """Close what matters least if there are too many: of this network, so that no flood from
        one keeps another's out, or else of all.
        """
        if self.open < CONNECTIONS:
            return
        idle = [*self._shaking, *self._waiting]
        own = (each for each in idle if each.network == network)
        self.close_at_once(next(chain(own, idle, self._asked)))

    def shake_hands(self, tls: Contexts, wire: socket.socket, address: str) -> None:
        """Begin a connection behind TLS, in the place of another if there are too many."""
        connection = _Connection(self, loop=self._event_loop, access_log=None)
        connection.network = network_of(address)
        self._make_room(connection.network)
        shaking = self._shake_hands(connection, tls, wire, address)
        self._shaking[connection] = self._event_loop.create_task(shaking)

    async def _shake_hands(
        self, connection: "_Connection", tls: Contexts, wire: socket.socket, address: str
    ) -> None:
        hello = b""
        try:
            async with asyncio.timeout(LIFETIME):
                if not (hello := await first_bytes(wire)):
                    return
                await self._event_loop.connect_accepted_socket(
                    lambda: connection,
                    wire,
                    ssl=tls(),
                    ssl_handshake_timeout=LIFETIME,
                    ssl_shutdown_timeout=LIFETIME,
                )
        except OSError as error:
            self._failed.handshake(error, address, tls(), hello)
        finally:
            self._shaking.pop(connection, None)
            if connection.transport is None:
                wire.close()

    def close_at_once(self, connection: "_Connection") -> None:
        """Close a connection, whatever it is at, even if its client does not take the answer."""
        if (handshake := self._shaking.pop(connection, None)) is not None:
            handshake.cancel()
        elif (transport := self.closed(connection)) is not None:
            transport.abort()

    def closed(self, connection: "_Connection") -> asyncio.Transport | None:
        """Forget a connection, and return its transport."""
        return self._waiting.pop(connection, None) or self._asked.pop(connection, None)

    def stop_handshakes(self) -> None:
        """Give up those that are under way."""
        for task in self._shaking.values():
            task.cancel()

    # Requests.

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(request, AdminRequest)  # noqa: S101 - it makes no others
        assert isinstance(connection, _Connection)  # noqa: S101 - likewise
        if connection in self._waiting:
            self._asked[connection] = self._waiting.pop(connection)
        connection.begin()
        try:
            response, keeps = await self._answer_to(request)
        except Refused as refusal:
            response, keeps = _refusal(request, refusal), False
        except Exception as error:  # noqa: BLE001 - the connection gets an answer, whatever it is
            _log.exception("page_failed", path=request.path, cause=type(error).__name__)
            response, keeps = _refusal(request, Refused(500, "This page failed.")), False
        self.guard.set_cookies(request, response)
        nonce = f" 'nonce-{request.used_nonce}'" if request.used_nonce else ""
        response.headers["Content-Security-Policy"] = _POLICY.format(nonce=nonce)
        response.headers.update(_HEADERS)
        response.headers.setdefault("Cache-Control", "no-store")
        if not keeps or connection.answered >= REQUESTS - 1:
            response.force_close()
        await response.prepare(request)
        await response.write_eof()
        connection.end()
        if connection in self._asked:
            self._waiting[connection] = self._asked.pop(connection)
        return response

    async def _answer_to(self, request: AdminRequest) -> tuple[web.Response, bool]:
        """Return the answer, and whether its connection is worth keeping."""
        match = await self._dispatcher.resolve(cast("web.Request", request))
        route = self._routes.get(match.route)
        protection = Protection.GUARDED if route is None else route.protection
        if protection is Protection.OPEN or not self.guard.wants_token:
            self._refuse_strange_hosts(request.asked_host)
        self.guard.recognize(request)
        if protection is Protection.GUARDED:
            self.guard.let_in(request)
        if route is None:
            error = match.http_exception
            assert error is not None  # noqa: S101 - that is why there is no route
            if error.status != 405:
                raise Refused(404, "not found")
            allowed = ", ".join(sorted(getattr(error, "allowed_methods")))  # noqa: B009 - of 405 only
            raise Refused(405, "not allowed", {"Allow": allowed})
        if request.method not in SAFE_METHODS:
            await self.guard.refuse_forgeries(request)
        request.variables = {**match}
        return await route.handler(request), protection is Protection.GUARDED

    def _refuse_strange_hosts(self, host: str | None) -> None:
        if host is None:  # HTTP/1.0, which no browser speaks
            return
        name = without_port(host)
        if host.startswith("[") and not _BRACKETED.fullmatch(host):
            name = ""
        if name.rstrip(".").lower() not in self._names and not _is_address(name):
            names = " or ".join(sorted(self._names))
            raise Refused(421, f"call it by an IP address, or as {names}")


@asynccontextmanager
async def listening_admin(
    admin: AdminSide,
    host: str,
    port: int,
    tls: Contexts | None = None,
    handed: Sequence[socket.socket] = (),
) -> AsyncIterator[int]:
    """Serve it on `host` and `port` (0 takes a free one), and yield the port it got.

    If sockets were `handed` over, it is on those instead. `tls` answers what the next connection
    begins with.

    Raises:
        CannotListen: the address cannot be listened on.
    """
    take = None if tls is None else partial(admin.shake_hands, tls)
    async with AsyncExitStack() as stack:
        with told_if_taken(host, port, "admin_port"):
            listens_on = accepting(admin, host, port, take, handed)
            taken, stop = await stack.enter_async_context(listens_on)
        try:
            yield taken
        finally:
            stop()
            admin.stop_handshakes()
            admin.pre_shutdown()
            await admin.shutdown(_PATIENCE)


def _refusal(request: AdminRequest, refusal: Refused) -> web.Response:
    """Say why: to somebody in HTML, to a machine in JSON."""
    if request.wants_html:
        page = render("refusal.html", request, status=refusal.status, sentence=str(refusal))
        response = web.Response(text=page, content_type="text/html", status=refusal.status)
    else:
        response = web.json_response({"status": str(refusal)}, status=refusal.status)
    response.headers.update(refusal.headers)
    return response


class _Connection(web.RequestHandler):
    """One connection of the admin side: aiohttp's protocol, but for its patience."""

    __slots__ = ("_admin", "_deadline", "answered", "network")

    def __init__(self, admin: AdminSide, **options: Any) -> None:  # noqa: ANN401 - aiohttp's own
        super().__init__(admin, **options)
        self._admin = admin
        self._deadline: asyncio.TimerHandle | None = None
        self.answered = 0
        """How many requests."""
        self.network = ""
        """What the address of the other end is counted by."""

    def begin(self) -> None:
        """Give the request that has come its time."""
        self._give_time()

    def end(self) -> None:
        """Give the next request its time, since this one has been answered."""
        self.answered += 1
        self._give_time()

    def _give_time(self) -> None:
        self._stop_timer()
        if self.transport is not None:
            later = asyncio.get_running_loop().call_later
            self._deadline = later(LIFETIME, self._admin.close_at_once, self)

    def _stop_timer(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self.network = network_of(peer[0]) if peer else ""
        self._admin.opened(self)
        self._give_time()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._admin.closed(self)
        self._stop_timer()
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,  # noqa: ARG002 - aiohttp's own
        message: str | None = None,  # noqa: ARG002 - it may quote what was sent
    ) -> web.StreamResponse:
        """Answer what cannot be read as HTTP, and close the connection."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer was under way already")
        said = "This is not well-formed HTTP/1.1." if status < 500 else "This failed."
        response = web.json_response({"status": said}, status=status, headers=_HEADERS)
        response.force_close()
        return response


_BRACKETED = re.compile(r"\[[^\]]*\](?::[0-9]*)?")
"""An IPv6 address in a `Host`, and nothing behind it but a port."""


def _is_address(name: str) -> bool:
    with suppress(ValueError):
        ipaddress.ip_address(name)
        return True
    return False
