"""Faults carried out on the connection: late, broken off, spoilt, or not HTTP at all.

Which call meets which fault is decided in faults.py; what a spoilt body reads is in spoiling.py.
"""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, NamedTuple, cast

from aiohttp import hdrs, web
from aiohttp.http import SERVER_SOFTWARE
from aiohttp.typedefs import Handler

from bridge.sandbox import spoiling
from bridge.sandbox.answers import json_answer
from bridge.sandbox.calls import CALL, Severed
from bridge.sandbox.faults import (
    Arrival,
    Close,
    CursorLoop,
    Delay,
    Fault,
    FaultRules,
    Hang,
    Html,
    MalformedJson,
    NotHttp,
    Oversize,
    Reset,
    Status,
    Throttle,
    Trickle,
    Truncate,
    WrongShape,
    WrongType,
    by_name,
    read_fault,
)

HEADER = "Sandbox-Fault"

Sleep = Callable[[float], Awaitable[object]]

_READS = frozenset({hdrs.METH_GET, hdrs.METH_HEAD})

# With these SO_LINGER options a close sends RST instead of FIN.
_LINGER_NOT = struct.pack("ii", 1, 0)

PIECE_BYTES = 64 * 1024

# What a client is told that has reached a mail server.
_NO_HTTP = b"220 mail.example.com ESMTP ready\r\n"

_PAGE = """\
<!DOCTYPE html>
<html>
<head><title>Down for maintenance</title></head>
<body><h1>We'll be right back</h1><p>This service is down for scheduled maintenance.</p></body>
</html>
"""


class Exchange(NamedTuple):
    """A call that is to meet a fault, and what it takes to serve it rightly."""

    request: web.Request
    handler: Handler
    sleep: Sleep
    error: Callable[[int], web.Response]
    """Makes the answer that has a status and says no more than that."""

    async def serve(self) -> web.Response:
        """Serve the call rightly and return the answer."""
        return cast(web.Response, await self.handler(self.request))

    async def answer(self, *, applied: bool) -> web.Response:
        """Return the answer that is to be spoilt.

        That of a write which is not to be applied is a 502, for something between client and v2
        must have made it up. Reading applies nothing, so that is always done.
        """
        if applied or self.request.method in _READS:
            return await self.serve()
        return self.error(HTTPStatus.BAD_GATEWAY)


CarryOut = Mapping[type[Fault], Callable[[Any, Exchange], Awaitable[web.StreamResponse]]]
"""How each fault is carried out."""


def error_in_json(status: int) -> web.Response:
    """Make an error of v2."""
    return json_answer({"message": reason(status) or f"Status {status}"}, status=status)


class Misbehaviour:
    """Has calls meet the faults that rules or their own headers ask for."""

    def __init__(
        self,
        rules: FaultRules,
        *,
        account_and_token: Callable[[web.Request], tuple[str, str]],
        sleep: Sleep = asyncio.sleep,
        carry_out: CarryOut | None = None,
        error: Callable[[int], web.Response] = error_in_json,
    ) -> None:
        """Heed `rules`; `sleep` waits so many seconds; `carry_out` has all faults, v2's if None."""
        self._rules = rules
        self._account_and_token = account_and_token
        self._sleep = sleep
        self._carry_out = carry_out or CARRY_OUT
        self._kinds = by_name(*self._carry_out)
        self._error = error
        self._under_way: set[asyncio.Task[Any]] = set()
        self._stopped = False

    @web.middleware
    async def misbehave(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Serve a call, or have it meet a fault.

        Raises:
            WrongFaultError: its header asks for a fault that is none.
        """
        fault = self._fault(request)
        if fault is None:
            return await handler(request)
        request[CALL].fault = str(fault.__struct_config__.tag)
        # Now or never: the body of a client that hangs up cannot be read afterwards. And closing a
        # connection with something unread in it would send RST where FIN is asked for.
        await request.read()
        return await self._meet(fault, Exchange(request, handler, self._sleep, self._error))

    def _fault(self, request: web.Request) -> Fault | None:
        asked = request.headers.get(HEADER)
        if asked is not None:
            return read_fault(asked, self._kinds)
        if not self._rules:
            return None
        account_id, token = self._account_and_token(request)
        return self._rules.befalls(Arrival(request.method, request.path, account_id, token))

    async def _meet(self, fault: Fault, exchange: Exchange) -> web.StreamResponse:
        if self._stopped:
            return Severed()
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._under_way.add(task)
        try:
            return await self._carry_out[type(fault)](fault, exchange)
        except ConnectionError:  # the client was faster
            return Severed()
        finally:
            self._under_way.discard(task)

    async def stop(self, _: web.Application) -> None:
        """Break off what is under way; a write that was still to be applied is not."""
        self._stopped = True
        under_way = list(self._under_way)
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


# The faults, in the order of the table in README.md.


async def _delay(fault: Delay, exchange: Exchange) -> web.StreamResponse:
    if fault.applied == "before":
        answer = await exchange.serve()
        await exchange.sleep(fault.seconds)
        return answer
    await exchange.sleep(fault.seconds)
    return await exchange.serve()


async def _hang(fault: Hang, exchange: Exchange) -> web.StreamResponse:
    if fault.applied:
        await exchange.serve()
    async with taken_over(exchange.request) as line:
        await line.until_closed()
    return Severed()


async def _reset(fault: Reset, exchange: Exchange) -> web.StreamResponse:
    cut = _cut(await exchange.answer(applied=fault.applied), fault.at, exchange.request)
    async with taken_over(exchange.request) as line:
        await line.send(cut.sent)
        line.reset()
    return Severed(cut.status)


async def _close(fault: Close, exchange: Exchange) -> web.StreamResponse:
    cut = _cut(await exchange.answer(applied=fault.applied), fault.at, exchange.request)
    async with taken_over(exchange.request) as line:
        await line.send(cut.sent)
    return Severed(cut.status)


async def _truncate(fault: Truncate, exchange: Exchange) -> web.StreamResponse:
    return await _close(Close(at="body", applied=fault.applied), exchange)


async def _trickle(fault: Trickle, exchange: Exchange) -> web.StreamResponse:
    answer = await exchange.answer(applied=fault.applied)
    answer.headers[hdrs.CONNECTION] = "close"
    whole = b"".join(written(answer, exchange.request))
    async with taken_over(exchange.request) as line:
        for start in range(0, len(whole), fault.bytes):
            if start:
                await exchange.sleep(fault.seconds)
            await line.send(whole[start : start + fault.bytes])
    return Severed(answer.status)


async def _status(fault: Status, exchange: Exchange) -> web.StreamResponse:
    if fault.applied:
        await exchange.serve()
    answer = exchange.error(fault.status)
    if fault.body is not None:
        answer.body = fault.body.encode()
    answer.headers[hdrs.CONTENT_TYPE] = fault.content_type
    if fault.retry_after is not None:
        answer.headers[hdrs.RETRY_AFTER] = str(fault.retry_after)
    if fault.status < HTTPStatus.OK:
        answer.force_close()  # A client would wait for the answer that has to follow such a one.
    return answer


async def _html(fault: Html, exchange: Exchange) -> web.StreamResponse:
    if fault.applied:
        await exchange.serve()
    return web.Response(text=_PAGE, status=fault.status, content_type="text/html")


async def _malformed_json(fault: MalformedJson, exchange: Exchange) -> web.StreamResponse:
    answer = await exchange.answer(applied=fault.applied)
    return _with_body(answer, spoiling.first_half(body_of(answer)))


async def _wrong_shape(fault: WrongShape, exchange: Exchange) -> web.StreamResponse:
    answer = await exchange.answer(applied=fault.applied)
    return _with_body(answer, spoiling.WRONG_SHAPES[fault.shape])


async def _wrong_type(fault: WrongType, exchange: Exchange) -> web.StreamResponse:
    answer = await exchange.answer(applied=fault.applied)
    return _with_body(answer, spoiling.with_wrong_type(body_of(answer), fault.field))


async def _oversize(fault: Oversize, exchange: Exchange) -> web.StreamResponse:
    right = await exchange.answer(applied=fault.applied)
    starts, padding, ends = spoiling.padded(body_of(right), fault.bytes)
    answer = web.StreamResponse(status=right.status, headers=right.headers)
    heads_only = exchange.request.method == hdrs.METH_HEAD
    if fault.chunked and not heads_only:
        answer.enable_chunked_encoding()
    else:
        answer.content_length = len(starts) + padding + len(ends)
    await answer.prepare(exchange.request)
    if heads_only:
        return answer
    await answer.write(starts)
    piece = b"x" * PIECE_BYTES
    for sent in range(0, padding, PIECE_BYTES):
        await answer.write(piece[: padding - sent])
    await answer.write(ends)
    return answer


async def _cursor_loop(_: CursorLoop, exchange: Exchange) -> web.StreamResponse:
    answer = await exchange.serve()
    request = exchange.request
    url = f"{request.scheme}://{request.host}{request.rel_url.raw_path_qs}"
    return _with_body(answer, spoiling.with_next_link(body_of(answer), url))


async def _throttle(fault: Throttle, _: Exchange) -> web.StreamResponse:
    return too_many(fault.retry_after)


async def _not_http(fault: NotHttp, exchange: Exchange) -> web.StreamResponse:
    if fault.applied:
        await exchange.serve()
    async with taken_over(exchange.request) as line:
        await line.send(_NO_HTTP)
    return Severed()


CARRY_OUT: CarryOut = {
    Delay: _delay,
    Hang: _hang,
    Reset: _reset,
    Close: _close,
    Truncate: _truncate,
    Trickle: _trickle,
    Status: _status,
    Html: _html,
    MalformedJson: _malformed_json,
    WrongShape: _wrong_shape,
    WrongType: _wrong_type,
    Oversize: _oversize,
    CursorLoop: _cursor_loop,
    Throttle: _throttle,
    NotHttp: _not_http,
}


# Answers.


def too_many(retry_after: int) -> web.Response:
    """Make v2's refusal of a call too many; `retry_after` is in seconds."""
    return json_answer(
        {"message": "Too many requests"},
        status=429,
        headers={hdrs.RETRY_AFTER: str(retry_after)},
    )


def reason(status: int) -> str:
    """Return the phrase of a status that RFC 9110 knows, or nothing."""
    return HTTPStatus(status).phrase if status in _KNOWN_STATUSES else ""


_KNOWN_STATUSES = frozenset(HTTPStatus)


def body_of(answer: web.Response) -> bytes:
    """Return an answer's body, which may be none; what has been sent as it came has none left."""
    return cast(bytes, getattr(answer, "body", None)) or b""


def _with_body(answer: web.Response, body: bytes) -> web.Response:
    answer.body = body
    return answer


class _Cut(NamedTuple):
    """As much of an answer as is sent; its status, if that is the whole head."""

    sent: bytes
    status: int | None


def _cut(answer: web.Response, at: str, request: web.Request) -> _Cut:
    head, body = written(answer, request)
    if at == "before":
        return _Cut(b"", None)
    if at == "head" or not body:  # an answer without a body has no middle of it
        return _Cut(head[: len(head) // 2], None)
    return _Cut(head + body[: len(body) // 2], answer.status)


def written(answer: web.Response, request: web.Request) -> tuple[bytes, bytes]:
    """Write an answer's head and body as aiohttp would."""
    body = body_of(answer)
    fields = {
        **answer.headers,
        hdrs.CONTENT_LENGTH: str(len(body)),
        hdrs.DATE: formatdate(usegmt=True),
        hdrs.SERVER: SERVER_SOFTWARE,
    }
    lines = [
        f"HTTP/1.1 {answer.status} {answer.reason}",
        *(f"{name}: {value}" for name, value in fields.items()),
    ]
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    return head, b"" if request.method == hdrs.METH_HEAD else body


# Connections.


class _Line(NamedTuple):
    """A connection that aiohttp no longer knows of."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        """Send, and wait until all of it has left."""
        self.writer.write(data)
        await self.writer.drain()

    async def until_closed(self) -> None:
        """Wait for the client to close its side, whatever it sends until then."""
        while await self.reader.read(PIECE_BYTES):
            pass

    def reset(self) -> None:
        """Break the connection with RST."""
        self.writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT
        )
        self.writer.transport.abort()


@asynccontextmanager
async def taken_over(request: web.Request) -> AsyncIterator[_Line]:
    """Take the connection out of aiohttp's hands; at the end it is closed.

    Raises:
        ConnectionResetError: it is closed already.
    """
    transport = request.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("The client has closed the connection")
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    transport.set_write_buffer_limits(high=0)  # so that draining means that all has left
    writer = asyncio.StreamWriter(transport, protocol, reader, loop)
    try:
        yield _Line(reader, writer)
        writer.close()
    except BaseException:
        transport.abort()
        raise
    finally:
        with suppress(ConnectionError):
            await writer.wait_closed()
        # aiohttp has not heard of the end, having been taken off the connection.
        request.protocol.connection_lost(None)
