"""The law of the legacy side's connections: how TCP cuts a stream of requests changes nothing."""

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest
import uvloop
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.server.limits import BodyLimits, read_body
from bridge.v1.errors import LegacyCallError
from tests.support.fronts import running_front
from tests.support.running import LOOPBACK

HEAD = b"POST /echo HTTP/1.1\r\nHost: a\r\n"
STREAMS = st.lists(
    st.sampled_from(
        [
            HEAD + b"\r\n",
            HEAD + b"Content-Length: 5\r\n\r\nhello",
            HEAD + b"Content-Length: 9\r\n\r\nGET / HT\n",
            HEAD.replace(b"\r\n", b"\n") + b"Content-Length: 5\n\nhello",
            HEAD + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
            HEAD.replace(b"1.1", b"1.0") + b"\r\n",
            HEAD + b"Connection: close\r\n\r\n",
            HEAD + b"Content-Length: nonsense\r\n\r\n",
            HEAD + b"X: a\nY: b\r\n\r\n",
            b"\r\n",
            b"\0\r\n\r\n",
            b"nonsense\r\n\r\n",
        ]
    ),
    min_size=1,
    max_size=5,
).map(b"".join)
CUTS = st.lists(st.integers(1, 60), min_size=1, max_size=12)


async def echo(request: web.BaseRequest) -> web.Response:
    try:
        body = await read_body(request, BodyLimits())
    except LegacyCallError as error:
        return web.Response(status=400, text=str(error))
    return web.Response(body=b"[%s]" % body)


class Answers(asyncio.Protocol):
    """Keeps what comes, a reset notwithstanding."""

    def __init__(self) -> None:
        self.data = b""
        self.lost = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, _error: Exception | None) -> None:
        self.lost.set()


async def answers(port: int, pieces: list[bytes]) -> list[tuple[bytes, bytes]]:
    """Send pieces one by one, then no more; return the statuses and bodies that come."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_connection(Answers, LOOPBACK, port)
    for piece in pieces:
        transport.write(piece)
        await turns()
    if not transport.is_closing():
        transport.write_eof()
    async with asyncio.timeout(20):
        await protocol.lost.wait()
    return re.findall(rb"HTTP/1.[01] (\d+)|(\[[^\]]*\])", protocol.data)


async def turns() -> None:
    """Let the front read what was sent: mostly it has, and a piece that joins another is no harm."""
    for _ in range(6):
        await asyncio.sleep(0)


@settings(deadline=None, max_examples=60)
@given(STREAMS, CUTS)
def test_the_same_is_answered_however_a_stream_is_cut(stream: bytes, cuts: list[int]) -> None:
    async def both() -> Any:
        async with running_front({"/echo": echo}) as (port, _):
            whole = await answers(port, [stream])
            pieces, rest = [], stream
            for cut in cuts:
                pieces.append(rest[:cut])
                rest = rest[cut:]
            return whole, await answers(port, [*filter(None, [*pieces, rest])])

    whole, cut = asyncio.run(both())
    assert cut == whole


REFUSED = b"PUT /refused HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
CHUNKED = b"PUT /refused HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST = HEAD + b"Connection: close\r\nContent-Length: 5\r\n\r\nhello"


async def refused(_request: web.BaseRequest) -> web.Response:
    return web.Response(status=401)


def exchanged(new_loop: Callable[[], asyncio.AbstractEventLoop], *pieces: bytes) -> Any:
    async def exchange() -> Any:
        async with running_front({"/echo": echo, "/refused": refused}) as (port, _):
            return await answers(port, list(pieces))

    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(exchange())


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("size", [1, 100_000, 3_000_000])
def test_a_request_behind_a_body_that_was_refused_is_served(
    new_loop: Callable[[], asyncio.AbstractEventLoop], size: int
) -> None:
    stream = REFUSED % size + b"x" * size + LAST

    assert exchanged(new_loop, stream) == [(b"401", b""), (b"200", b""), (b"", b"[hello]")]


@pytest.mark.parametrize("behind", [LAST, LAST[:-3], LAST[:20]])
def test_what_comes_with_the_last_chunk_of_a_refused_body_is_not(behind: bytes) -> None:
    chunks = b"5\r\nhello\r\n0\r\n\r\n"

    assert exchanged(asyncio.new_event_loop, CHUNKED, chunks + behind) == [(b"401", b"")]
