"""What a client may take: bytes, time, connections and calls at once, over real sockets."""

import asyncio
import resource
import socket
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any, ClassVar

import pytest
from aiohttp import web

from bridge.server.front import Front
from bridge.server.limits import (
    BodyLimits,
    Budget,
    Place,
    Share,
    allow_connections,
    read_body,
)
from bridge.v1.errors import (
    BodyTooLarge,
    InvalidRequest,
    LegacyCallError,
    Overloaded,
    RequestTimeout,
)
from tests.support.clocks import until
from tests.support.fronts import running_front
from tests.support.held_upstream import running_held_upstream
from tests.support.legacy import hang_up
from tests.support.running import LOOPBACK, running_bridge
from tests.support.upstream import ScriptedUpstream, page, running_raw_upstream
from tests.support.writing import getting, hello, posting

SHORT = 0.05
"""Seconds: a limit that a test waits for."""
CALL = b"GET /quick HTTP/1.1\r\nHost: a\r\n\r\n"
QUICK = b"quick"
HUGE = bytes(64 * 1024 * 1024)
POST = b"POST /body HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Server:
    """What answers the calls, and what it saw."""

    port: int = 0
    front: Front | None = None
    body_limits: BodyLimits = field(default_factory=BodyLimits)
    busy: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    """Whether some connection was lost."""
    outcomes: list[bytes | LegacyCallError | asyncio.CancelledError] = field(default_factory=list)

    @property
    def open(self) -> int:
        assert self.front
        return self.front.open

    async def quick(self, _request: web.BaseRequest) -> web.Response:
        return web.Response(body=QUICK)

    async def slow(self, _request: web.BaseRequest) -> web.Response:
        self.busy.set()
        await self.go_on.wait()
        return web.Response(body=QUICK)

    async def working(self, _request: web.BaseRequest) -> web.Response:
        await asyncio.sleep(4 * SHORT)  # what a call may well take
        return web.Response(body=QUICK)

    async def huge(self, _request: web.BaseRequest) -> web.Response:
        return web.Response(body=HUGE)

    async def body(self, request: web.BaseRequest) -> web.Response:
        try:
            self.outcomes.append(await read_body(request, self.body_limits))
        except asyncio.CancelledError as gone:
            self.outcomes.append(gone)
            raise
        except LegacyCallError as error:
            self.outcomes.append(error)
            response = web.Response(status=400, text=str(error))
            response.force_close()
            return response
        return web.Response(body=QUICK)

    async def connect(self) -> Connection:
        return await asyncio.open_connection(LOOPBACK, self.port)

    @asynccontextmanager
    async def connection(self, data: bytes = b"") -> AsyncIterator[Connection]:
        reader, writer = await self.connect()
        try:
            writer.write(data)
            yield reader, writer
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def all_of(self, data: bytes) -> bytes:
        """Send `data` and return what comes until the server closes."""
        async with self.connection(data) as (reader, _writer):
            return await reader.read()


@asynccontextmanager
async def front(*, body_limits: BodyLimits | None = None, **limits: Any) -> AsyncIterator[Server]:
    """Run a server that holds its connections to `limits`."""
    server = Server(body_limits=body_limits or BodyLimits())
    handlers = {
        f"/{each.__name__}": each
        for each in (server.quick, server.slow, server.working, server.huge, server.body)
    }
    async with running_front(handlers, **limits) as (server.port, server.front):
        forget = server.front.connection_lost

        def lost(*arguments: Any) -> None:
            forget(*arguments)
            server.lost.set()

        server.front.connection_lost = lost  # type: ignore[assignment, method-assign]
        yield server


async def keep_sending(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Send `data` again and again, faster than any limit here, until the server has enough."""
    with suppress(ConnectionError):
        while True:
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(SHORT / 10)


async def quick_answer(connection: Connection) -> bytes:
    """Make a call on a connection that is open already."""
    reader, writer = connection
    writer.write(CALL)
    head = await reader.readuntil(b"\r\n\r\n")
    assert await reader.readexactly(len(QUICK)) == QUICK
    return head


def assert_xml(answer: bytes, status: int, sentence: str) -> None:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"Content-Type: application/xml; charset=utf-8" in head
    assert f"<error>{sentence}</error>".encode() in body


class TestSlowHeads:
    async def test_who_says_nothing_is_let_go_without_a_word(self) -> None:
        async with front(head_timeout=SHORT) as server:
            assert await server.all_of(b"") == b""

    @pytest.mark.parametrize("part", [b"G", b"GET / HTTP/1.1\r\nHost: a\r\nX-", CALL[:-2]])
    async def test_who_does_not_end_a_head_is_told_so(self, part: bytes) -> None:
        async with front(head_timeout=SHORT) as server:
            answer = await server.all_of(part)

        assert_xml(answer, 408, "The head of the request took too long to arrive.")

    async def test_a_trickle_does_not_buy_time(self) -> None:
        async with (
            front(head_timeout=SHORT) as server,
            server.connection(b"GET / HTTP/1.1\r\nX: ") as (reader, writer),
        ):
            trickle = asyncio.create_task(keep_sending(writer, b"a"))
            answer = await reader.readuntil(b"</errors>")
            trickle.cancel()

        assert answer.startswith(b"HTTP/1.1 408 ")

    async def test_nor_does_it_on_a_connection_that_was_of_use(self) -> None:
        async with (
            front(head_timeout=SHORT) as server,
            server.connection() as (reader, writer),
        ):
            await quick_answer((reader, writer))
            writer.write(CALL[:-2])

            assert b" 408 " in await reader.readuntil(b"\r\n")

    async def test_a_head_in_pieces_is_in_time_if_its_end_is(self) -> None:
        async with front() as server, server.connection() as (reader, writer):
            for at in range(len(CALL)):
                writer.write(CALL[at : at + 1])
                await writer.drain()
                await asyncio.sleep(0)

            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200 ")

    async def test_a_call_may_take_longer_than_its_head(self) -> None:
        async with front(head_timeout=SHORT) as server:
            answer = await server.all_of(
                CALL.replace(b"quick", b"working").replace(b"Host", b"Connection: close\r\nHost")
            )

        assert answer.startswith(b"HTTP/1.1 200 ")

    async def test_a_line_break_after_a_body_begins_no_head(self) -> None:
        async with front(head_timeout=SHORT, idle_timeout=4 * SHORT) as server:
            answer = await server.all_of(CALL + b"\r\n")

        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(QUICK)

    async def test_who_idles_between_calls_is_let_go_without_a_word(self) -> None:
        async with front(idle_timeout=SHORT) as server:
            answer = await server.all_of(CALL)

        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(QUICK)

    async def test_calls_may_follow_each_other_for_longer_than_any_limit(self) -> None:
        async with (
            front(head_timeout=SHORT, idle_timeout=10) as server,
            server.connection() as connection,
        ):
            reader, writer = connection
            for _ in range(3):
                writer.write(CALL.replace(b"quick", b"working"))
                await reader.readuntil(QUICK)


class TestLargeHeads:
    LIMITS: ClassVar[dict[str, Any]] = {"line_size": 200, "field_size": 300, "fields": 5}

    @pytest.mark.parametrize(
        ("head", "sentence"),
        [
            pytest.param(
                b"GET /" + b"a" * 300 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
                "The URL has more than 200 bytes, or a header more than 300.",
                id="url",
            ),
            pytest.param(
                b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 301 + b"\r\n\r\n",
                "The URL has more than 200 bytes, or a header more than 300.",
                id="header",
            ),
            pytest.param(
                b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: a\r\n" * 5 + b"\r\n",
                "There are more than 5 headers.",
                id="headers",
            ),
        ],
    )
    async def test_what_is_too_large_is_400_and_says_so(self, head: bytes, sentence: str) -> None:
        async with front(**self.LIMITS) as server:
            answer = await server.all_of(head)

        # As aiohttp answers what it cannot read.
        assert_xml(answer, 400, sentence)
        assert b"Hint: " + sentence.encode() in answer

    async def test_a_head_in_pieces_is_bounded_in_all(self) -> None:
        async with (
            front(head_size=100) as server,
            server.connection(b"GET / HTTP/1.1\r\n") as (reader, writer),
        ):
            trickle = asyncio.create_task(keep_sending(writer, b"X: a\r\n"))
            answer = await reader.readuntil(b"</errors>")
            trickle.cancel()

        assert_xml(answer, 400, "The head has more than 100 bytes.")

    async def test_what_just_fits_is_served(self) -> None:
        async with front(**self.LIMITS) as server:
            answer = await server.all_of(
                b"GET /quick?" + b"a" * 180 + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
                b"X: " + b"a" * 290 + b"\r\n\r\n"
            )

        assert answer.startswith(b"HTTP/1.1 200 ")

    async def test_no_word_of_the_request_is_in_the_answer(self) -> None:
        async with front(**self.LIMITS) as server:
            answer = await server.all_of(
                b"GET /?access_token=hush" + b"h" * 300 + b" HTTP/1.1\r\nHost: a\r\n\r\n"
            )

        assert b"hush" not in answer


class TestClientsThatDoNotRead:
    @pytest.mark.parametrize("connection", [b"keep-alive", b"close"])
    async def test_they_are_cut_off(self, connection: bytes) -> None:
        async with front(send_timeout=SHORT) as server:
            with socket.socket() as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.setblocking(False)
                loop = asyncio.get_running_loop()
                await loop.sock_connect(client, (LOOPBACK, server.port))
                await loop.sock_sendall(
                    client,
                    b"GET /huge HTTP/1.1\r\nHost: a\r\nConnection: " + connection + b"\r\n\r\n",
                )
                await server.lost.wait()

            assert server.open == 0

    async def test_who_reads_gets_all_of_it(self) -> None:
        async with front(send_timeout=30) as server:
            answer = await server.all_of(
                b"GET /huge HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
            )

        assert answer.endswith(b"\r\n\r\n" + HUGE)


class TestTooManyConnections:
    async def test_one_more_takes_the_place_of_the_one_that_has_waited_longest(self) -> None:
        async with front(connections=2) as server, AsyncExitStack() as stack:
            first, second = [await stack.enter_async_context(server.connection()) for _ in "12"]
            for each in (first, second, first):
                await quick_answer(each)
            third = await stack.enter_async_context(server.connection())

            await quick_answer(third)
            assert await second[0].read() == b""
            await quick_answer(first)
            await quick_answer(third)
            assert server.open == 2

    @pytest.mark.parametrize("said", [b"GET / HT", b"\r\n\r\n", b""])
    async def test_a_flood_of_silent_ones_keeps_nobody_out(self, said: bytes) -> None:
        async with front(connections=20) as server, AsyncExitStack() as stack:
            for _ in range(100):
                await stack.enter_async_context(server.connection(said))
            for _ in range(50):
                await quick_answer(await stack.enter_async_context(server.connection()))
            assert server.open <= 20

    async def test_calls_of_known_callers_stay(self) -> None:
        async with (
            front(connections=1) as server,
            server.connection(CALL.replace(b"quick", b"slow")) as (reader, _writer),
        ):
            await server.busy.wait()

            assert await server.all_of(b"") == b""
            server.go_on.set()
            assert (await reader.readuntil(QUICK)).startswith(b"HTTP/1.1 200 ")

    @pytest.mark.parametrize(
        "sent",
        [
            pytest.param(CALL.replace(b"quick", b"slow"), id="served"),
            pytest.param(POST + b"Content-Length: 9\r\n\r\na", id="sending its body"),
        ],
    )
    async def test_a_stranger_makes_room(self, sent: bytes) -> None:
        async with (
            front(connections=1, strangers=True) as server,
            server.connection(sent) as (reader, _),
        ):
            await until(lambda: server.front and server.front.unknown)
            async with server.connection() as newcomer:
                await quick_answer(newcomer)
            assert await reader.read() == b""

    async def test_who_is_known_outlasts_any_number_of_strangers(self) -> None:
        """Each with a body that does not come, after its refusal: as many as may be at once."""
        refused = POST.replace(b"body", b"quick").replace(b"close", b"keep-alive")
        async with front(connections=20, lingering_time=60) as server, AsyncExitStack() as stack:
            known = await stack.enter_async_context(server.connection())
            for _ in range(100):
                stranger = await stack.enter_async_context(
                    server.connection(refused + b"Content-Length: 9\r\n\r\n")
                )
                await stranger[0].readuntil(QUICK)
                assert server.open <= 20
            await quick_answer(known)
            await quick_answer(await stack.enter_async_context(server.connection()))

    async def test_one_address_has_its_share(self) -> None:
        async with (
            front(connections=20, connections_per_address=2) as server,
            server.connection() as first,
            server.connection() as second,
        ):
            await quick_answer(first)
            await quick_answer(second)

            async with server.connection() as third:
                await quick_answer(third)
                assert await first[0].read() == b""
                await quick_answer(second)
                assert server.open == 2

    async def test_at_its_share_an_address_makes_room_among_its_own(self) -> None:
        async with (
            front(connections=20, connections_per_address=1) as server,
            server.connection(CALL.replace(b"quick", b"slow")) as (reader, _),
        ):
            await server.busy.wait()

            assert await server.all_of(b"") == b""
            server.go_on.set()
            assert (await reader.readuntil(QUICK)).startswith(b"HTTP/1.1 200 ")

    async def test_a_burst_is_held_to_the_limit_as_well(self) -> None:
        async with front(connections=20) as server:
            for _ in range(3):
                burst = await asyncio.gather(*(server.connect() for _ in range(100)))
                await asyncio.sleep(0)
                assert server.open <= 20
                for _, writer in burst:
                    writer.close()
            await until(lambda: server.open == 0)

    async def test_heads_that_come_in_pieces_have_a_bound_in_all(self) -> None:
        piece = b"GET / HTTP/1.1\r\nX: " + b"x" * 60_000
        async with (
            front(heads_limit=100_000) as server,
            server.connection(piece),
            server.connection(piece) as (reader, _),
        ):
            assert_xml(await reader.read(), 503, "Too many heads at once: try again soon.")

    async def test_what_was_held_of_a_head_is_given_back(self) -> None:
        async with front(heads_limit=100) as server, server.connection() as (reader, writer):
            for _ in range(5):
                writer.write(CALL[:30])
                await until(lambda: server.front and server.front.heads.used)
                writer.write(CALL[30:] + CALL)
                await reader.readuntil(QUICK)
                await reader.readuntil(QUICK)
            assert server.front
            assert server.front.heads.used == 0

    async def test_the_share_of_an_address_is_not_that_of_a_proxy(self) -> None:
        async with (
            front(
                connections=20, connections_per_address=1, proxies=[ip_network("127.0.0.0/8")]
            ) as server,
            server.connection() as first,
            server.connection() as second,
        ):
            await quick_answer(first)
            await quick_answer(second)

    async def test_who_left_is_not_counted(self) -> None:
        async with front(connections=1) as server:
            for _ in range(3):
                server.lost.clear()
                async with server.connection() as connection:
                    await quick_answer(connection)
                await server.lost.wait()
            assert server.open == 0


class TestBodies:
    @pytest.mark.parametrize(
        ("sent", "body"),
        [
            pytest.param(POST + b"\r\n", b"", id="none"),
            pytest.param(POST + b"Content-Length: 3\r\n\r\nabc", b"abc", id="length"),
            pytest.param(CHUNKED + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", b"abcde", id="chunks"),
        ],
    )
    async def test_are_read_to_their_end(self, sent: bytes, body: bytes) -> None:
        async with front() as server:
            assert (await server.all_of(sent)).endswith(QUICK)

        assert server.outcomes == [body]

    @pytest.mark.parametrize(
        "sent",
        [
            pytest.param(POST + b"Content-Length: 11\r\n\r\n", id="by its length alone"),
            pytest.param(CHUNKED + b"b\r\nabcdefghijk\r\n", id="by its chunks"),
        ],
    )
    async def test_that_are_too_large_are_refused_at_once(self, sent: bytes) -> None:
        async with front(body_limits=BodyLimits(size=10), lingering_time=SHORT) as server:
            assert b"The body has more than 10 bytes." in await server.all_of(sent)

        assert isinstance(server.outcomes[0], BodyTooLarge)

    @pytest.mark.parametrize(
        "limits",
        [
            pytest.param(BodyLimits(seconds=SHORT), id="as a whole"),
            pytest.param(BodyLimits(grace=SHORT, minimum_rate=1e6), id="for its size so far"),
        ],
    )
    @pytest.mark.parametrize(
        "sent",
        [
            pytest.param(POST + b"Content-Length: 999\r\n\r\n", id="nothing"),
            pytest.param(POST + b"Content-Length: 999\r\n\r\nab", id="a beginning"),
            pytest.param(CHUNKED + b"3\r\nab", id="part of a chunk"),
        ],
    )
    async def test_that_stall_are_given_up(self, sent: bytes, limits: BodyLimits) -> None:
        async with front(body_limits=limits, lingering_time=SHORT) as server:
            assert b"The body took too long to arrive." in await server.all_of(sent)

        assert isinstance(server.outcomes[0], RequestTimeout)

    @pytest.mark.parametrize(
        "limits",
        [
            pytest.param(BodyLimits(seconds=4 * SHORT, minimum_rate=1), id="as a whole"),
            pytest.param(BodyLimits(grace=4 * SHORT, minimum_rate=1e6), id="for its size so far"),
        ],
    )
    async def test_that_trickle_are_given_up(self, limits: BodyLimits) -> None:
        async with (
            front(body_limits=limits, lingering_time=SHORT) as server,
            server.connection(CHUNKED) as (reader, writer),
        ):
            trickle = asyncio.create_task(keep_sending(writer, b"1\r\na\r\n"))
            await reader.readuntil(b"The body took too long to arrive.")
            trickle.cancel()

        assert isinstance(server.outcomes[0], RequestTimeout)

    async def test_that_break_off_are_said_to(self) -> None:
        async with (
            front() as server,
            server.connection(POST + b"Content-Length: 9\r\n\r\nab") as (reader, writer),
        ):
            writer.write_eof()
            assert b"The body broke off" in await reader.read()

        assert isinstance(server.outcomes[0], InvalidRequest)

    async def test_that_break_off_with_the_connection_have_nobody_left_to_answer(self) -> None:
        async with (
            front() as server,
            server.connection(POST + b"Content-Length: 9\r\n\r\nab") as (_, writer),
        ):
            hang_up(writer)
            await server.lost.wait()

        assert isinstance(server.outcomes[0], asyncio.CancelledError)

    async def test_whose_chunks_are_broken_are_not_understood(self) -> None:
        head = CHUNKED.replace(b"Host", b"Expect: 100-continue\r\nHost")
        async with (
            front(lingering_time=SHORT) as server,
            server.connection(head) as (reader, writer),
        ):
            await reader.readuntil(b"100 Continue\r\n\r\n")
            writer.write(b"3\r\nabc\r\nnonsense\r\n")
            assert b"not encoded as its head says" in await reader.read()

        assert isinstance(server.outcomes[0], InvalidRequest)

    async def test_are_asked_for_when_the_client_waits_to_be(self) -> None:
        head = POST + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"
        async with front() as server, server.connection(head) as (reader, writer):
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"abc")
            assert (await reader.read()).endswith(QUICK)

        assert server.outcomes == [b"abc"]

    async def test_that_are_too_large_are_not_asked_for(self) -> None:
        head = POST + b"Expect: 100-continue\r\nContent-Length: 11\r\n\r\n"
        async with front(body_limits=BodyLimits(size=10), lingering_time=SHORT) as server:
            assert (await server.all_of(head)).startswith(b"HTTP/1.1 400 ")

    @pytest.mark.parametrize(
        ("received", "due"), [(0, 5), (1024, 6), (10 * 1024, 15), (25 * 1024, 30), (2**20, 30)]
    )
    def test_have_a_grace_then_a_rate_then_an_end(self, received: int, due: float) -> None:
        assert BodyLimits(seconds=30, grace=5, minimum_rate=1024).due(received) == due


def budget(total: int, each: int, *, what: str = "calls", retry_after: int = 1) -> Budget:
    """Bound what is used in all, and by each who shares anything."""
    return Budget(what, total, dict.fromkeys(Share, each), retry_after=retry_after)


def place(calls: Budget, *names: str, share: Share = Share.LOGIN) -> Place:
    return calls.place([(share, name) for name in names])


class TestCallsAtOnce:
    def test_of_one_caller_are_bounded(self) -> None:
        calls = budget(10, 2, retry_after=7)

        with place(calls, "a"), place(calls, "a"), place(calls, "b"):
            with pytest.raises(Overloaded, match="calls of yours") as refusal, place(calls, "a"):
                pass
            assert refusal.value.retry_after == 7
            assert calls.used == 3

        assert calls.used == 0

    def test_of_all_callers_are_bounded(self) -> None:
        calls = budget(2, 2, retry_after=7)

        with place(calls, "a"), place(calls, "b"):
            with pytest.raises(Overloaded, match="Too many calls at once") as refusal:
                place(calls, "c").__enter__()
            assert refusal.value.retry_after == 7

        with place(calls, "c"):
            assert calls.used == 1

    def test_are_bounded_by_whatever_they_share(self) -> None:
        calls = Budget("calls", 10, {Share.LOGIN: 1, Share.ADDRESS: 2, Share.ACCOUNT: 3})

        def shared(login: str, address: str) -> Place:
            return calls.place([(Share.LOGIN, login), (Share.ADDRESS, address), (Share.ACCOUNT, 1)])

        with shared("a", "here"), shared("b", "here"):
            for login, address in (("a", "elsewhere"), ("c", "here")):
                with pytest.raises(Overloaded):
                    shared(login, address).__enter__()
            with shared("c", "elsewhere"), pytest.raises(Overloaded):
                shared("d", "elsewhere").__enter__()
            assert calls.used == 2

    def test_of_another_kind_of_share_are_others_though_they_have_the_same_name(self) -> None:
        calls = budget(10, 1)

        with place(calls, "a"), place(calls, "a", share=Share.ADDRESS):
            assert calls.used == 2

    @pytest.mark.parametrize("ends", ["cancelled", "failed"])
    async def test_give_their_place_back_however_they_end(self, ends: str) -> None:
        calls = budget(1, 1)
        inside = asyncio.Event()

        async def call() -> None:
            with place(calls, "a"):
                inside.set()
                if ends == "failed":
                    raise ZeroDivisionError
                await asyncio.Event().wait()

        task = asyncio.create_task(call())
        await inside.wait()
        task.cancel()
        await asyncio.wait([task])

        with place(calls, "a"):
            pass

    def test_leave_no_key_behind(self) -> None:
        calls = budget(1, 1)
        for number in range(10):
            with place(calls, f"caller {number}"), pytest.raises(Overloaded):
                place(calls, f"refused {number}").__enter__()

        assert calls._used == {}


async def test_a_journal_that_stands_still_keeps_no_read_out(tmp_path: Path) -> None:
    """Writes wait for it in three places of four."""
    journal = tmp_path / "journal.sqlite"
    async with (
        running_held_upstream() as held,
        running_bridge(held.base_url, journal=journal, calls_per_login=4) as client,
    ):
        with closing(sqlite3.connect(journal, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            writes = [posting(client, f"/invoice/{number}/messages") for number in range(1, 5)]
            (refused,), waiting = await asyncio.wait(writes, return_when=asyncio.FIRST_COMPLETED)
            assert refused.result().status == 503
            read = getting(client)
            (await held.next()).answer(page())
            assert (await read).status == 200
            other.execute("ROLLBACK")
        for number in range(3):
            (await held.next()).answer(hello(id=number + 1), 201)

        assert {(await each).status for each in waiting} == {201}


class TestBodiesAtOnce:
    def test_are_bounded_together_and_given_back(self) -> None:
        bodies = budget(10, 10, what="bodies", retry_after=7)

        with bodies.growing([]) as first, bodies.growing([]) as second:
            first(6)
            second(4)
            with pytest.raises(Overloaded, match="Too many bodies at once") as refusal:
                second(1)
            assert refusal.value.retry_after == 7

        with bodies.growing([]) as again:
            again(10)

    def test_of_one_who_shares_leave_room_for_others(self) -> None:
        bodies = budget(10, 6, what="bodies")
        here = [(Share.LOGIN, "made up"), (Share.ADDRESS, "here")]

        with bodies.growing(here) as first, bodies.growing([(Share.LOGIN, "book")]) as other:
            first(6)
            with (
                pytest.raises(Overloaded, match="bodies of yours"),
                bodies.growing([(Share.LOGIN, "another"), here[1]]) as second,
            ):
                second(1)
            other(4)

        assert (bodies.used, bodies._used) == (0, {})

    async def test_one_too_many_is_503_and_asks_nothing(self, upstream: ScriptedUpstream) -> None:
        async with running_bridge(upstream.base_url, bodies_limit=10) as client:
            for _ in range(3):
                answer = await client.call("POST", "/invoice/7/messages", body=b"<" * 11)

                assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
                assert answer.errors

        assert upstream.received == []


class TestCallsOfOneAddress:
    async def test_with_tokens_that_anyone_can_make_up_are_bounded(self) -> None:
        async with (
            running_raw_upstream(b"", hang=True) as base_url,
            running_bridge(base_url, calls_per_address=1, call_timeout=0.3) as client,
        ):
            answers = await asyncio.gather(
                *(
                    client.get("/invoice/7/messages", authorization=f"Bearer made-up-{number}")
                    for number in range(3)
                )
            )

        assert sorted(answer.status for answer in answers) == [503, 503, 504]

    async def test_keep_none_out_whose_token_v2_has_accepted(self) -> None:
        async with (
            running_held_upstream() as held,
            running_bridge(held.base_url, calls_per_address=1) as client,
        ):
            first = getting(client)
            (await held.next()).answer(page())
            assert (await first).status == 200
            stranger = getting(client, authorization="Bearer made-up")
            of_stranger = await held.next()
            known = getting(client, "/invoice/7/messages")
            (await held.next()).answer(page())

            assert (await known).status == 200
            of_stranger.answer(page())
            await stranger

    @pytest.mark.parametrize(
        ("forwarded_for", "statuses"),
        [
            pytest.param("2001:db8::{}", [503, 503, 504], id="one network"),
            pytest.param("2001:db8:0:{}::7", [504, 504, 504], id="several networks"),
            pytest.param("192.0.2.{}", [504, 504, 504], id="several addresses of IPv4"),
        ],
    )
    async def test_an_address_of_ipv6_counts_with_its_whole_network(
        self, forwarded_for: str, statuses: list[int]
    ) -> None:
        """Whoever has one of its addresses has 2^64 of them."""
        async with (
            running_raw_upstream(b"", hang=True) as base_url,
            running_bridge(
                base_url, calls_per_address=1, call_timeout=0.3, trusted_proxies=LOOPBACK
            ) as client,
        ):
            answers = await asyncio.gather(
                *(
                    client.get(
                        "/invoice/7/messages",
                        authorization=f"Bearer made-up-{number}",
                        headers={"X-Forwarded-For": forwarded_for.format(number)},
                    )
                    for number in range(1, 4)
                )
            )

        assert sorted(answer.status for answer in answers) == statuses


class TestDescriptors:
    @pytest.mark.parametrize(
        ("soft", "hard", "raised", "allowed"),
        [
            pytest.param(65536, 65536, 65536, 2000, id="enough"),
            pytest.param(1024, 65536, 2500, 2000, id="raised"),
            pytest.param(1024, resource.RLIM_INFINITY, 2500, 2000, id="raised without bound"),
            pytest.param(resource.RLIM_INFINITY, resource.RLIM_INFINITY, -1, 2000, id="unbounded"),
            pytest.param(1024, 2048, 2048, 1548, id="as far as it goes"),
            pytest.param(1024, 1024, 1024, 524, id="not at all"),
            pytest.param(256, 256, 256, 128, id="next to none"),
        ],
    )
    def test_are_asked_for_as_far_as_they_go(
        self, soft: int, hard: int, raised: int, allowed: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        limits = [(soft, hard)]
        monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
        monkeypatch.setattr(resource, "setrlimit", lambda _, pair: limits.append(pair))

        assert allow_connections(2000) == allowed
        assert limits[-1] == (raised, hard)
