"""One connection of the legacy side: aiohttp's protocol, held to limits, with errors in XML.

Which connections there may be is not known here, nor what answers their calls; what the limits are
is said in `bridge.server.limits`.
"""

import asyncio
import fcntl
import os
import socket
import struct
import sys
import termios
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from aiohttp import HttpVersion10, HttpVersion11, web, web_protocol
from aiohttp.http_exceptions import LineTooLong
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader

from bridge.resources.failures import answer_to
from bridge.server.answers import headers_of, http_response, raw_response, request_id_of
from bridge.server.heads import end_of_head, has_bare_line_feeds, repaired
from bridge.server.limits import ConnectionLimits, Key
from bridge.server.tls_versions import what_is_old
from bridge.v1.errors import (
    InvalidRequest,
    LegacyCallError,
    MethodNotAllowed,
    Overloaded,
    RequestTimeout,
    UnreadableHead,
)
from bridge.v1.problems import Problem

if TYPE_CHECKING:
    from bridge.server.front import Front

VERSIONS = (HttpVersion11, HttpVersion10)

_ACKNOWLEDGED_WITHIN = 2.0
"""Seconds for a client's machine to acknowledge an answer."""

_FIRST_GLANCE = 0.001
"""Seconds to the first of several looks for that; each next one comes after twice as long."""

_TCP_CLOSED, _TCP_CLOSE_WAIT = 7, 8
"""The states of a connection that is lost, and of one that the other end has closed.

It is the first byte of Linux' `struct tcp_info`.
"""

_BYTES = struct.Struct("i")

_RESET = struct.pack("ii", 1, 0)
"""The `struct linger` that has a connection end at once, as one that failed (RFC 9293, 3.10.7)."""

_TAKEN = slice(120, 128)
"""Where a `struct tcp_info` of Linux (`linux/tcp.h`) has how many bytes were acknowledged."""

_LONGEST_ALERT = 64
"""Bytes: more than TLS takes to say that it has come to its end."""

_TLS_HANDSHAKE = b"\x16\x03"
"""How the first record of TLS, and of SSL 3.0, begins (RFC 8446, section 5.1)."""

_NOT_HTTP = "This is not well-formed HTTP/1.1."


class Connection(web.RequestHandler):
    """One connection: aiohttp's protocol, but for its plain-text errors and its patience.

    aiohttp's parser gets one request at a time, its head whole: what is wrong with what comes
    behind a request is then no matter of how TCP cut it.

    aiohttp's own timer closes connections that idle between two requests. The ones added here are
    for a head that does not come to its end (RFC 9110, section 15.5.9), and for an answer that its
    client does not take.
    """

    __slots__ = (
        "_answering",
        "_asked_at",
        "_behind",
        "_body",
        "_body_left",
        "_client_left",
        "_event_loop",
        "_front",
        "_had_left",
        "_handshake",
        "_head_timer",
        "_held",
        "_is_plain",
        "_last_bytes",
        "_limits",
        "_passes_over",
        "_send_timer",
        "_sends_no_more",
        "_standing",
        "_takes_no_more",
        "_wire",
        "address",
        "fault",
        "http",
        "old_tls",
        "repairs",
        "shares",
        "tls",
    )

    def __init__(
        self,
        front: "Front",
        limits: ConnectionLimits,
        loop: asyncio.AbstractEventLoop,
        shares: Sequence[Key] | None = None,
        **options: Any,  # noqa: ANN401 - aiohttp's own
    ) -> None:
        super().__init__(front, loop=loop, **options)
        self.shares = shares
        """With whom the front has admitted it; None: it has not yet, or it has made room."""
        self.address = ""
        """That of the other end: a client's, or a proxy's."""
        self._handshake: asyncio.Task[None] | None = None
        """Behind TLS, what comes before it is made."""
        self._held: tuple[Sequence[Key], int] = (), 0
        """Who has taken how many bytes of the front's for heads."""
        self._standing: dict[Connection, None] | None = None
        """Those that matter no more than this one; None: it serves somebody who is known."""
        self._event_loop = loop
        self._front = front
        self._limits = limits
        self._behind = b""
        """What has come of the next requests."""
        self._body: StreamReader | None = None
        """That of the request under way, while it has not come whole."""
        self._body_left: int | None = None
        """The bytes of it that are still to come; None: its head does not say how many."""
        self._last_bytes = b""
        """The latest of it, where its end is not known before."""
        self._passes_over = False
        """Whether it was refused, and only has to come to its end."""
        self._asked_at: float | None = None
        """When the request under way was whole, as far as it is, by the event loop's clock."""
        self._is_plain = True
        """Whether it is not behind TLS."""
        self.tls: str | None = None
        """The version of TLS that it is behind."""
        self.old_tls: str | None = None
        """The version or cipher of it that is too old but for a setting."""
        self._sends_no_more = False
        """Whether the client has closed its half of the connection."""
        self._had_left = False
        """Whether the other end had closed or broken off before the answer to a write left."""
        self._takes_no_more = False
        """Whether what comes behind the request under way is not read."""
        self.fault: LegacyCallError | None = None
        """Why the request under way is refused, whatever it asks for."""
        self.http = ""
        """The version of HTTP that the request under way is in."""
        self.repairs: tuple[str, ...] = ()
        """The codes of the notes on the head of the request under way."""
        self._head_timer: asyncio.TimerHandle | None = None
        self._send_timer: asyncio.TimerHandle | None = None
        self._client_left: Callable[[], None] | None = None
        self._wire: asyncio.Transport | None = None
        self._answering: _Acknowledgements | None = None
        """The connection, until it is lost: aiohttp forgets its own when it begins to close."""

    # What the endpoint says.

    def begin(self, client_left: Callable[[], None]) -> None:
        """Serve a call, to be told if the connection is lost, now even; it waits no longer."""
        self._client_left = client_left
        if self._wire is None:
            client_left()

    def serves_known(self) -> None:
        """Keep it: its call comes from somebody whose credential is known to be right."""
        self._stand_among(None)

    @property
    def is_ending(self) -> bool:
        """Whether no request is served behind the one under way."""
        return self._takes_no_more or (self._sends_no_more and end_of_head(self._behind) < 0)

    @property
    def has_only_asked(self) -> bool:
        """Whether its request has come, and nobody has begun to serve it."""
        return self._asked_at is not None and self._client_left is None

    def is_about_to_answer(self) -> None:
        """Note what is not to be seen later: who has left, and what the client's machine takes.

        The event loop may not have heard yet of who has left. Behind TLS there is a buffer that
        cannot be looked into, and a client that has got its answer closes both ways: then there is
        nothing left to ask.
        """
        if self._wire is None:
            return
        if self._is_plain:
            self._had_left = _state(self._wire) in {_TCP_CLOSED, _TCP_CLOSE_WAIT}
        else:
            self._answering = _Acknowledgements.of(self._wire)

    async def acknowledged(self, size: int) -> bool:
        """Tell whether the client's machine has taken all that was written, waiting for it.

        So it has if the client goes on to the next request. Where the system does not tell, being
        written is being taken. So it is where a proxy breaks off once it is answered: HAProxy ends
        what it has opened by a reset, and its system then may not have acknowledged what it has
        read. One whose client hangs up closes, or breaks off, while the call runs: that is seen
        when the answer leaves, or by its being refused. What remains is the time that the answer
        takes on the wire. `size` is that of the answer's body, in bytes.
        """
        self._asked_at = self._event_loop.time()  # who closes now has been answered
        had_left = self._had_left or self._wire is None or self._wire.is_closing()
        before = len(self._behind)
        pause = _FIRST_GLANCE
        while pause < _ACKNOWLEDGED_WITHIN:
            if self._answering is not None:
                left = self._answering.left(size, more_may_come=self._wire is not None)
            else:
                left = None if self._wire is None else _unacknowledged(self._wire)
            if left == 0:
                return True
            await asyncio.sleep(pause)
            if self._behind[before:].strip(b"\r\n"):
                return True
            if left is None:
                return not had_left and self._front.is_a_proxys(self.address)
            pause *= 2
        return False

    def judge(self, message: RawRequestMessage) -> None:
        """Find the `fault` of the request under way, if it has one that its parser lets pass."""
        self.fault = None
        self.http = f"{message.version.major}.{message.version.minor}"
        if message.version not in VERSIONS:
            self.fault = InvalidRequest(
                "Only HTTP/1.0 and HTTP/1.1 are spoken here.", Problem.HTTP_VERSION
            )
        elif message.chunked and message.headers["Transfer-Encoding"].lower() != "chunked":
            # The other codings would have to be undone (RFC 9112, section 6.1).
            self.fault = InvalidRequest(
                "Of transfer codings, only chunked is understood.", Problem.TRANSFER_CODING
            )
        elif message.method == "CONNECT":
            self.fault = MethodNotAllowed("CONNECT", ("GET", "HEAD", "POST", "DELETE"))
        else:
            return
        self._takes_no_more = True

    def end(self, request: web.BaseRequest, *, is_last: bool) -> None:
        """Wait for the next call, since `request` has been answered; or close."""
        self._client_left = None
        self._asked_at = None
        if self._answering is not None:
            self._answering.close()
            self._answering = None
        if self._wire is None:
            return
        if not request.content.is_eof():
            # What is still to come belongs to a body that was refused: aiohttp passes over it.
            self._stand_among(self._front.lingering)
        if is_last:
            self._start_send_timer()
        elif request.content.is_eof():
            self._wait()
        else:
            self._passes_over = True

    def _wait(self) -> None:
        if self._wire is None:
            return
        if self.is_ending:
            self.close()
            return
        self._stand_among(self._front.waiting)
        self._body = None
        if self._behind:
            self._take_head()
            self._hold()

    # What the event loop says.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve, unless the front has no room."""
        peer = transport.get_extra_info("peername")
        self.address = peer[0] if peer else ""
        if self.shares is None:
            self.shares = self._front.admit(self.address)
        super().connection_made(transport)
        self._wire = self.transport
        self._is_plain = transport.get_extra_info("sslcontext") is None
        if not self._is_plain:
            tls = transport.get_extra_info("ssl_object")
            self.tls, self.old_tls = tls.version(), what_is_old(tls)
        if self.shares is None:
            self.force_close()
        else:
            self._stand_among(self._front.waiting)
            self._start_head_timer()

    def shakes_hands(self, handshake: "asyncio.Task[None]", wire: socket.socket) -> None:
        """Wait for what comes of a handshake before it is made."""
        self._handshake = handshake
        self._stand_among(self._front.handshakes)

        def end(_task: "asyncio.Task[None]") -> None:
            self._handshake = None
            if self._standing is self._front.handshakes or self.shares is None:
                self._leave()
                wire.close()

        handshake.add_done_callback(end)

    def give_way(self) -> None:
        """Close at once, whatever is under way, for another connection's sake."""
        self._leave()
        if self._handshake is not None:
            self._handshake.cancel()
        elif self._wire is not None:
            self.force_close()
            self._wire.abort()

    def close_if_idle(self) -> None:
        """Close if it has been answered, and nothing of a next request has come, read or not."""
        if self._wire is not None and self._head_timer is None and not _has_unread(self._wire):
            # Behind TLS, the client may take its time to close, too.
            self._stand_among(None)
            self.force_close()

    def break_off(self, *, looks_whole: bool) -> None:
        """Close in the middle of an answer; one that `looks_whole` otherwise, by a reset of TCP."""
        if self._wire is None:
            return
        if looks_whole and (wire := self._wire.get_extra_info("socket")) is not None:
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._wire.abort()
        else:
            self.force_close()

    def _leave(self) -> None:
        self._stand_among(None)
        if self.shares is not None:
            self._front.release(self.shares)
            self.shares = None

    def _stand_among(self, others: "dict[Connection, None] | None") -> None:
        if self._standing is not None:
            del self._standing[self]
        self._standing = others
        if others is not None:
            others[self] = None

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the connection and its timers, and tell who serves a call of it."""
        self._wire = None
        self._let_go()
        self._leave()
        self._stop_head_timer()
        self._stop_send_timer()
        super().connection_lost(exc)
        if self._client_left is not None:
            self._client_left()

    def data_received(self, data: bytes) -> None:
        """Read on: of a body what belongs to it, and behind it the next head."""
        if self._body is not None:
            data = self._take_body(self._body, data)
            if not data:
                return
        searched = max(0, len(self._behind) - 3)
        self._behind += data
        if self._standing is self._front.waiting:
            self._take_head(searched)
        elif self._takes_no_more or len(self._behind) > self._limits.head_size:
            # Who sends so many requests without waiting for an answer gets one.
            self._behind = b""
            self._takes_no_more = True
        if self._behind or self._held[1]:
            self._hold()

    def _hold(self) -> None:
        """Take of the front's bytes for heads what is kept of one, and give back the rest."""
        self._let_go()
        keys = self.shares or ()
        kept = len(self._behind)
        try:
            self._front.heads.take(keys, kept)
        except Overloaded as overload:
            self._behind = b""
            self._takes_no_more = True
            if self._standing is self._front.waiting:
                self._front.count_refused(self.address, "heads")
                self._refuse(overload)
        else:
            self._held = keys, kept

    def _let_go(self) -> None:
        keys, held = self._held
        if held:
            self._front.heads.give_back(keys, held)
            self._held = (), 0

    def eof_received(self) -> bool:  # type: ignore[override]
        """Let a client that sends no more have the answer to what it has asked.

        It has closed only its own half (RFC 9112, section 9.6). One that is gone says just the
        same: it is taken for gone when it says so long after it asked. TLS has no such half.
        """
        if self._wire is None or not self._is_plain:
            return False
        if self._standing is self._front.waiting:
            if self._behind:
                self._front.count_unread(self.address, "broken-off")
                self._refuse(UnreadableHead("The head of the request broke off."))
            return False
        if (
            self._asked_at is None
            or self._event_loop.time() - self._asked_at > self._limits.half_close_time
        ):
            return False
        self._sends_no_more = True
        if self._body is not None:
            _break_off(self._body, "the connection was closed")
        return True

    def _take_head(self, searched: int = 0) -> None:
        data = self._behind
        if data[:1] in b"\r\n":
            # Old clients send a line break after a body (RFC 9112, section 2.2): no head begins.
            data = self._behind = data.lstrip(b"\r\n")
            searched = 0
            if not data:
                return
        end = end_of_head(data, searched)
        if end < 0 and data[:1].isalpha():
            if len(data) > self._limits.head_size:
                self._front.count_unread(self.address, "long-head")
                self._refuse(
                    UnreadableHead(f"The head has more than {self._limits.head_size} bytes.")
                )
            elif self._head_timer is None:
                self._start_head_timer()
            return
        if end < 0 and data.startswith(_TLS_HANDSHAKE):
            self._front.count_unread(self.address, "tls", "it spoke TLS, and this is plain HTTP")
            self._refuse(UnreadableHead(_NOT_HTTP))
            return
        # What is no HTTP need not come to an end.
        head, self._behind = (data, b"") if end < 0 else (data[:end], data[end:])
        self._begin_request(head)

    def _begin_request(self, head: bytes) -> None:
        self._asked_at = self._event_loop.time()
        self._stop_head_timer()
        self._stand_among(self._front.unknown)
        self.repairs = ()
        if has_bare_line_feeds(head):
            head, self.repairs = repaired(head)
        super().data_received(head)
        if (announced := _announced(self)) is None:
            self._front.count_unread(self.address, "bad-head")
            self._refuse(UnreadableHead(_NOT_HTTP))
            return
        self._body, self._body_left = announced
        self._last_bytes = b""
        if self._body is None:
            self._takes_no_more = self._takes_no_more or _reads_no_more(self)
        elif self._behind:
            data, self._behind = self._behind, b""
            self.data_received(data)

    def _take_body(self, body: StreamReader, data: bytes) -> bytes:
        """Read on in `body`, and return what comes behind it."""
        behind = b""
        if self._body_left is not None:
            data, behind = data[: self._body_left], data[self._body_left :]
            self._body_left -= len(data)
        more = _read_on(self, body, data)
        if self._body_left is None:
            self._last_bytes = (self._last_bytes + data)[-4:]
        if not body.is_eof():
            return behind
        self._body = None
        self._takes_no_more = (
            self._takes_no_more
            or _reads_no_more(self)
            # Something has come behind the last chunk, and the parser has it already.
            or (self._body_left is None and (more or self._last_bytes != b"\r\n\r\n"))
        )
        if self._passes_over:
            self._passes_over = False
            self._wait()
        elif self._asked_at is not None:
            self._asked_at = self._event_loop.time()
        return behind

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
        if self._behind:
            self._front.count_unread(self.address, "slow-head")
            self._refuse(RequestTimeout("The head of the request took too long to arrive."))
        else:
            # Who has sent nothing has asked nothing, and may be about to: an answer would be read
            # as that of the next request.
            self.force_close()

    def _refuse(self, error: LegacyCallError) -> None:
        """Answer a head that is not complete, and close."""
        if self._wire is None or self._wire.is_closing():
            return
        self._wire.write(raw_response(answer_to(error), request_id_of(None)))
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
        reason, error = self._what_is_wrong(status, exc, message)
        if status < 500:  # else it is a call, which the endpoint has told of
            self._front.count_unread(self.address, reason)
        answer = answer_to(error)
        response = http_response(answer, headers_of(answer, request_id_of(None), None))
        response.force_close()
        self._start_send_timer()
        return response

    def _what_is_wrong(
        self, status: int, exc: BaseException | None, message: str | None
    ) -> tuple[str, Exception]:
        """Say what is wrong in words that quote nothing of the request, secrets and all."""
        if status >= 500:
            return "defect", RuntimeError()
        if isinstance(exc, LineTooLong):
            line, field = self._limits.line_size, self._limits.field_size
            return "long-head", UnreadableHead(
                f"The URL has more than {line} bytes, or a header more than {field}."
            )
        if message is not None and message.startswith("Too many headers"):
            said = f"There are more than {self._limits.fields} headers."
            return "many-fields", UnreadableHead(said)
        return "bad-head", UnreadableHead(_NOT_HTTP)


class _Acknowledgements:
    """Counts what the other machine takes, from the beginning of an answer on, behind TLS.

    It has the socket once more, so that it can be asked when the connection has been closed.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._before = self._taken() + _queued(connection)

    @classmethod
    def of(cls, wire: asyncio.Transport) -> "_Acknowledgements | None":
        """Begin to count; None: the system does not tell."""
        try:
            connection = socket.socket(fileno=os.dup(wire.get_extra_info("socket").fileno()))
        except (AttributeError, OSError, ValueError):
            return None
        try:
            return cls(connection)
        except (AttributeError, OSError):
            connection.close()
            return None

    def left(self, size: int, *, more_may_come: bool) -> int | None:
        """Return 0 if an answer with a body of this size was taken; None: it will not be."""
        queued = _queued(self._connection)
        if not more_may_come and queued <= _LONGEST_ALERT:
            queued = 0  # TLS has said that it has come to its end, to a machine that had closed
        # Encrypted, an answer is longer, and its head alone is longer than what TLS says at an end.
        if not queued and self._taken() - self._before > max(size, _LONGEST_ALERT):
            return 0
        return 1 if queued or more_may_come else None

    def close(self) -> None:
        self._connection.close()

    def _taken(self) -> int:
        told = self._connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TAKEN.stop)
        if len(told) < _TAKEN.stop:
            raise OSError("this system does not tell what was acknowledged")
        return int.from_bytes(told[_TAKEN], sys.byteorder)


def _queued(connection: socket.socket) -> int:
    """Return how many bytes of a socket the other machine has not acknowledged."""
    queued = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(_BYTES.size))
    return int(_BYTES.unpack(queued)[0])


def _unacknowledged(wire: asyncio.Transport) -> int | None:
    """Return how many bytes the client's machine has not taken; None: the connection is lost."""
    if (state := _state(wire)) is None:
        return 0
    if state == _TCP_CLOSED:
        return None
    return wire.get_write_buffer_size() + _queued(wire.get_extra_info("socket"))


def _state(wire: asyncio.Transport) -> int | None:
    """Return the state of a connection, by Linux' numbers; None: the system does not tell."""
    try:
        connection = wire.get_extra_info("socket")
        return int(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0])
    except (AttributeError, OSError, ValueError):  # no Linux, or closed by ourselves
        return None


def _has_unread(wire: asyncio.Transport) -> bool:
    """Tell whether the system has bytes of the client's that the event loop has not read."""
    try:
        descriptor = wire.get_extra_info("socket").fileno()
        unread = fcntl.ioctl(descriptor, termios.FIONREAD, bytes(_BYTES.size))
    except (AttributeError, OSError, ValueError):  # closed by ourselves
        return False
    return bool(_BYTES.unpack(unread)[0])


# All that needs private names of aiohttp: its parser's messages, as `RequestHandler` queues them
# for its task, tell what a head announces, and what is wrong with the body that is being read.


def _announced(connection: Connection) -> tuple[StreamReader | None, int | None] | None:
    """Return the body that a head announces, and its length; None: it was no head.

    There is none, or it has no length, as chunks have not.
    """
    messages = connection._messages  # noqa: SLF001
    if not messages:
        return None
    message, body = messages[-1]
    if not isinstance(message, RawRequestMessage) or body.is_eof():
        return None, None
    length = message.headers.get("Content-Length")
    return body, None if message.chunked or length is None else int(length)


def _reads_no_more(connection: Connection) -> bool:
    """Tell whether aiohttp takes what comes behind this request for another protocol.

    So it does behind a request for a WebSocket, even where that is refused.
    """
    return bool(connection._upgraded)  # noqa: SLF001


def _read_on(connection: Connection, body: StreamReader, data: bytes) -> bool:
    """Let the parser have more of a body; tell whether it has found something behind it.

    aiohttp queues what is wrong with chunks as a message of its own behind the request, whose body
    is never told: who reads it would wait for the rest, and the client for its answer.
    """
    messages = connection._messages  # noqa: SLF001
    before = len(messages)
    web.RequestHandler.data_received(connection, data)
    if len(messages) == before:
        return False
    error = messages[-1][0]
    if isinstance(error, web_protocol._ErrInfo) and not body.is_eof():  # noqa: SLF001
        messages.pop()
        _break_off(body, str(error.exc))
        connection.close()
    return True


def _break_off(body: StreamReader, reason: str) -> None:
    """Tell who reads `body` that it will not come whole, so that nobody waits for more of it."""
    body.set_exception(web.RequestPayloadError(reason))
    body.feed_eof()
