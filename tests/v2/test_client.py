"""What travels to v2 and back, over real sockets: `bridge.v2.client` against awkward servers."""

import asyncio
import gzip
import socket
import struct
import traceback
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from bridge.secret import Secret
from bridge.v2.client import Upstream, V2Client
from bridge.v2.errors import UpstreamError, UpstreamFault, UpstreamTimeout, UpstreamUnreachable
from bridge.v2.wire import V2Request, V2Response
from tests.support.origins import running_origin
from tests.support.running import LOOPBACK
from tests.support.upstream import Reply, ScriptedUpstream

TOKEN = "s3cret-t0ken"
LIST = V2Request("GET", "/invoices/1420/messages", "per_page=2000")
DELETE = V2Request("DELETE", "/invoices/1420/messages/403")
CREATE = V2Request("POST", "/invoices/1420/messages", body=b'{"subject":"Hello"}')

LIMIT = 100_000
PATIENCE = 20.0
"""Seconds, for an answer that is known to come."""
IMPATIENCE = 0.05
"""Seconds, for an answer that is known not to come."""


@asynccontextmanager
async def client_of(base_url: str, **settings: Any) -> AsyncIterator[V2Client]:
    defaults: dict[str, Any] = {
        "user_agent": "harvest-bridge/test (tests@example.com)",
        "connect_timeout": PATIENCE,
        "body_limit": LIMIT,
        "connections": 10,
    }
    client = V2Client(Upstream(base_url, **{**defaults, **settings}))
    try:
        yield client
    finally:
        await client.close()


async def send(
    client: V2Client, request: V2Request = LIST, *, seconds: float = PATIENCE
) -> V2Response:
    return await client.send(request, account_id=1000, token=Secret(TOKEN), seconds=seconds)


@dataclass
class Connection:
    """One connection to a `RawServer`, from the server's side."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def request(self) -> bytes | None:
        """Read the head of the next request; None when the client has left."""
        try:
            return await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def until_left(self) -> None:
        """Wait for the client to leave."""
        try:
            await self.reader.read()
        except ConnectionError:
            return

    def reset(self) -> None:
        """Break the connection, so that the other side is told of a reset, not of an end."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Behaviour = Callable[[Connection], Awaitable[None]]


@dataclass
class RawServer:
    """A server that is no HTTP server but does with each connection what a test says."""

    behave: Behaviour
    base_url: str = ""
    connections: int = 0

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.connections += 1
        try:
            await self.behave(Connection(reader, writer))
        finally:
            writer.close()


@asynccontextmanager
async def raw_server(behave: Behaviour) -> AsyncIterator[RawServer]:
    raw = RawServer(behave)
    server = await asyncio.start_server(raw.accept, LOOPBACK, 0)
    raw.base_url = f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}/v2"
    async with server:
        yield raw


def http(body: bytes = b"{}", *headers: str, status: str = "200 OK") -> bytes:
    """An answer as it travels, its length told."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def chunked(*chunks: bytes, headers: tuple[str, ...] = (), end: bytes = b"0\r\n\r\n") -> bytes:
    """An answer as it travels in chunks."""
    lines = ["HTTP/1.1 200 OK", "Transfer-Encoding: chunked", *headers, "", ""]
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return "\r\n".join(lines).encode() + body + end


def answering(*answers: bytes) -> Behaviour:
    """Give `answers` in turn on each connection, one a request, then close it."""

    async def behave(connection: Connection) -> None:
        for answer in answers:
            if await connection.request() is None:
                return
            connection.writer.write(answer)
            await connection.writer.drain()

    return behave


def leaving_the_second_alone(methods: list[str]) -> Behaviour:
    """Answer every request but the second, at which the connection ends; note their methods."""

    async def behave(connection: Connection) -> None:
        while head := await connection.request():
            methods.append(head.split(b" ")[0].decode())
            if len(methods) == 2:
                return
            connection.writer.write(http())

    return behave


class TestWhatIsSent:
    async def test_who_calls_and_for_whom(self, upstream: ScriptedUpstream) -> None:
        upstream.says({})
        async with client_of(upstream.base_url, user_agent="bridge/1 (jane@doe.org)") as client:
            await send(client)

        headers = upstream.received[0].headers
        assert headers["User-Agent"] == "bridge/1 (jane@doe.org)"
        assert headers["Authorization"] == f"Bearer {TOKEN}"
        assert headers["Harvest-Account-Id"] == "1000"
        assert headers["Accept"] == "application/json"

    async def test_each_call_has_its_own_account_and_token(
        self, upstream: ScriptedUpstream
    ) -> None:
        upstream.says({})
        async with client_of(upstream.base_url) as client:
            for account, token in [(1, "one"), (2, "two")]:
                await client.send(LIST, account_id=account, token=Secret(token), seconds=PATIENCE)

        assert [
            (call.headers["Harvest-Account-Id"], call.headers["Authorization"])
            for call in upstream.received
        ] == [("1", "Bearer one"), ("2", "Bearer two")]

    @pytest.mark.parametrize("request_", [LIST, DELETE, CREATE], ids=lambda request: request.method)
    async def test_method_path_and_body(
        self, upstream: ScriptedUpstream, request_: V2Request
    ) -> None:
        upstream.says({})
        async with client_of(upstream.base_url) as client:
            await send(client, request_)

        (call,) = upstream.received
        assert (call.method, call.path) == (request_.method, f"/v2{request_.path}")
        assert (call.query, call.body) == (request_.query, request_.body or b"")

    async def test_a_body_is_json(self, upstream: ScriptedUpstream) -> None:
        upstream.says({})
        async with client_of(upstream.base_url) as client:
            await send(client, CREATE)

        assert upstream.received[0].headers["Content-Type"] == "application/json"

    async def test_no_body_has_no_type(self, upstream: ScriptedUpstream) -> None:
        upstream.says({})
        async with client_of(upstream.base_url) as client:
            await send(client, LIST)

        assert "Content-Type" not in upstream.received[0].headers

    @pytest.mark.parametrize(
        "query",
        [
            pytest.param("", id="none"),
            pytest.param("cursor=a%2Bb%2f%3D%3d", id="escapes-in-either-case"),
            pytest.param("cursor=a+b/c==", id="unescaped"),
            pytest.param("cursor=%41%7E%20%C3%A9", id="needless-escapes"),
            pytest.param("cursor=%zz%", id="no-escapes"),
            pytest.param("b=2&a=1&a=&&", id="order-and-empties"),
            pytest.param("cursor=[]{}|\\^`'\"<>?/", id="odd-ascii"),
        ],
    )
    async def test_the_query_is_sent_as_it_is(self, query: str) -> None:
        heads = []

        async def behave(connection: Connection) -> None:
            heads.append(await connection.request())
            connection.writer.write(http())
            await connection.writer.drain()

        async with raw_server(behave) as server, client_of(server.base_url) as client:
            response = await send(client, V2Request("GET", "/users/me", query))

        target = f"/users/me?{query}" if query else "/users/me"
        assert heads[0] is not None
        assert heads[0].split(b"\r\n")[0] == f"GET /v2{target} HTTP/1.1".encode()
        assert response.url == f"{server.base_url}{target}"


class TestConnections:
    async def test_one_serves_call_after_call(self) -> None:
        async with (
            raw_server(answering(http(), http(), http())) as server,
            client_of(server.base_url) as client,
        ):
            for request in (LIST, DELETE, CREATE):
                await send(client, request)

        assert server.connections == 1

    async def test_no_more_are_open_than_allowed(self) -> None:
        async with (
            raw_server(answering(*[http()] * 10)) as server,
            client_of(server.base_url, connections=1) as client,
        ):
            await asyncio.gather(*(send(client) for _ in range(10)))

        assert server.connections == 1

    async def test_waiting_for_one_counts_as_waiting(self) -> None:
        """A call whose turn does not come is too late, as one whose answer does not."""
        asked = asyncio.Event()

        async def behave(connection: Connection) -> None:
            await connection.request()
            asked.set()
            await connection.until_left()

        async with (
            raw_server(behave) as server,
            client_of(server.base_url, connections=1) as client,
        ):
            first = asyncio.create_task(send(client))
            await asked.wait()
            with pytest.raises(UpstreamTimeout):
                await send(client, seconds=IMPATIENCE)
            first.cancel()

        assert server.connections == 1

    @pytest.mark.parametrize("request_", [LIST, DELETE, CREATE], ids=lambda request: request.method)
    async def test_nothing_is_sent_twice(self, request_: V2Request) -> None:
        """Not even a kept-alive connection that breaks under it is a reason to send it again."""
        server_saw: list[str] = []
        async with (
            raw_server(leaving_the_second_alone(server_saw)) as server,
            client_of(server.base_url) as client,
        ):
            await send(client, LIST)
            with pytest.raises(UpstreamUnreachable) as raised:
                await send(client, request_)

        assert server_saw == ["GET", request_.method]
        assert raised.value.request_left

    async def test_a_failure_does_not_spoil_the_next_call(self) -> None:
        answers = [b"garbage\r\n\r\n", http(b"x" * (LIMIT + 1)), http()[:-1], http(b"good")]

        async def behave(connection: Connection) -> None:
            await connection.request()
            connection.writer.write(answers.pop(0))
            await connection.writer.drain()

        async with raw_server(behave) as server, client_of(server.base_url) as client:
            while len(answers) > 1:
                with pytest.raises(UpstreamError):
                    await send(client)
            response = await send(client)

        assert response.body == b"good"


class TestWhatIsNotFollowed:
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    @pytest.mark.parametrize("request_", [LIST, CREATE], ids=lambda request: request.method)
    async def test_a_redirect_is_an_answer_like_any_other(
        self, upstream: ScriptedUpstream, status: int, request_: V2Request
    ) -> None:
        upstream.says(Reply(b"moved", status, {"Location": f"{upstream.base_url}/elsewhere"}))
        async with client_of(upstream.base_url) as client:
            response = await send(client, request_)

        assert (response.status, response.body) == (status, b"moved")
        assert [call.path for call in upstream.received] == [f"/v2{request_.path}"]

    async def test_cookies_are_not_kept(self, upstream: ScriptedUpstream) -> None:
        upstream.says(Reply(b"{}", headers={"Set-Cookie": "session=one; Path=/"}))
        # By name: aiohttp's jar takes no cookies from an address.
        async with client_of(upstream.base_url.replace(LOOPBACK, "localhost")) as client:
            await send(client)
            await send(client)

        assert [call.headers.get("Cookie") for call in upstream.received] == [None, None]

    async def test_a_proxy_of_the_environment_is_not_used(
        self, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        upstream.says({})
        async with client_of(upstream.base_url) as client:
            assert (await send(client)).status == 200


class TestWhatComesBack:
    @pytest.mark.parametrize("status", [200, 201, 204, 400, 401, 404, 422, 429, 500, 503])
    async def test_any_status_is_an_answer(self, upstream: ScriptedUpstream, status: int) -> None:
        upstream.says(Reply(b"" if status == 204 else b"{}", status))
        async with client_of(upstream.base_url) as client:
            assert (await send(client)).status == status

    @pytest.mark.parametrize("size", [0, 2, 90_000])
    async def test_a_byte_order_mark_before_the_body_is_read_past(
        self, upstream: ScriptedUpstream, size: int
    ) -> None:
        upstream.says(b"\xef\xbb\xbf" + b"x" * size)
        async with client_of(upstream.base_url) as client:
            assert (await send(client)).body == b"x" * size

    async def test_headers_go_by_names_of_any_case(self, upstream: ScriptedUpstream) -> None:
        upstream.says(Reply(b"{}", 429, {"retry-AFTER": "7"}))
        async with client_of(upstream.base_url) as client:
            response = await send(client)

        assert response.headers["Retry-After"] == "7"

    async def test_the_url_is_the_one_that_was_asked(self, upstream: ScriptedUpstream) -> None:
        upstream.says({})
        async with client_of(upstream.base_url) as client:
            response = await send(client)

        assert response.url == f"{upstream.base_url}/invoices/1420/messages?per_page=2000"

    @pytest.mark.parametrize(
        "answer",
        [
            pytest.param(http(b'{"a": 1}'), id="length"),
            pytest.param(chunked(b'{"a"', b": 1}"), id="chunks"),
            pytest.param(b'HTTP/1.1 200 OK\r\n\r\n{"a": 1}', id="until-the-connection-ends"),
            pytest.param(b'HTTP/1.0 200 OK\r\n\r\n{"a": 1}', id="http-1.0"),
            pytest.param(
                http(gzip.compress(b'{"a": 1}'), "Content-Encoding: gzip"), id="gzip-and-length"
            ),
            pytest.param(
                chunked(
                    *(bytes([byte]) for byte in gzip.compress(b'{"a": 1}')),
                    headers=("Content-Encoding: gzip",),
                ),
                id="gzip-in-chunks",
            ),
            pytest.param(
                http(zlib.compress(b'{"a": 1}'), "Content-Encoding: deflate"), id="deflate"
            ),
            pytest.param(
                b"HTTP/1.1 100 Continue\r\n\r\n" + http(b'{"a": 1}'), id="after-a-100-continue"
            ),
        ],
    )
    async def test_the_body_is_whole_however_it_travels(self, answer: bytes) -> None:
        async with raw_server(answering(answer)) as server, client_of(server.base_url) as client:
            response = await send(client)

        assert response.body == b'{"a": 1}'

    async def test_gzip_is_asked_for(self, upstream: ScriptedUpstream) -> None:
        upstream.says({})
        async with client_of(upstream.base_url) as client:
            await send(client)

        assert "gzip" in upstream.received[0].headers["Accept-Encoding"]

    @pytest.mark.parametrize("size", [0, 1, LIMIT], ids=["nothing", "a-byte", "the-limit"])
    @pytest.mark.parametrize(
        "packed", [pytest.param(False, id="plain"), pytest.param(True, id="gzip")]
    )
    async def test_as_much_as_the_limit_is_read(self, size: int, packed: bool) -> None:
        body = b"x" * size
        answer = http(gzip.compress(body), "Content-Encoding: gzip") if packed else http(body)
        async with raw_server(answering(answer)) as server, client_of(server.base_url) as client:
            assert (await send(client)).body == body


HEAD = http(b"x" * 50)[:-50]

BROKEN = [
    pytest.param(b"", UpstreamUnreachable, id="no-answer"),
    pytest.param(HEAD[:30], UpstreamUnreachable, id="cut-off-in-the-head"),
    pytest.param(HEAD, UpstreamUnreachable, id="cut-off-after-the-head"),
    pytest.param(HEAD + b"x" * 49, UpstreamUnreachable, id="cut-off-in-the-body"),
    pytest.param(chunked(b"x", end=b""), UpstreamUnreachable, id="cut-off-between-chunks"),
    pytest.param(chunked(end=b"5\r\nxx"), UpstreamUnreachable, id="cut-off-in-a-chunk"),
    pytest.param(chunked(b"x", end=b"0\r\n"), UpstreamUnreachable, id="cut-off-in-the-end"),
]
NOT_HTTP = [
    pytest.param(b"garbage\r\n\r\n", UpstreamFault, id="garbage"),
    pytest.param(b"\0" * 100 + b"\r\n\r\n", UpstreamFault, id="nul"),
    pytest.param(b"220 mail.example ESMTP\r\n\r\n", UpstreamFault, id="mail-server"),
    pytest.param(b"\x15\x03\x03\x00\x02\x02\x46", UpstreamFault, id="tls-alert"),
    pytest.param(b"HTTP/1.1 abc OK\r\n\r\n", UpstreamFault, id="status-is-no-number"),
    pytest.param(b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", UpstreamFault, id="header-without-colon"),
    pytest.param(
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", UpstreamFault, id="length-is-no-number"
    ),
    pytest.param(
        b"HTTP/1.1 200 OK\r\nLong: " + b"x" * 100_000 + b"\r\n\r\n",
        UpstreamFault,
        id="header-too-long",
    ),
    pytest.param(http(b"no gzip", "Content-Encoding: gzip"), UpstreamError, id="no-gzip"),
    pytest.param(chunked(end=b"xyz\r\n"), UpstreamError, id="no-chunk"),
]
TOO_LONG = [
    pytest.param(http(b"x" * (LIMIT + 1)), UpstreamFault, id="length"),
    pytest.param(chunked(*[b"x" * 1000] * (LIMIT // 1000 + 1)), UpstreamFault, id="chunks"),
    pytest.param(
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (LIMIT + 1), UpstreamFault, id="until-the-end"
    ),
    pytest.param(
        http(gzip.compress(b"x" * (LIMIT + 1)), "Content-Encoding: gzip"), UpstreamFault, id="gzip"
    ),
    pytest.param(
        http(gzip.compress(bytes(50_000_000)), "Content-Encoding: gzip"),
        UpstreamFault,
        id="gzip-bomb",
    ),
    pytest.param(
        http(b"x" * (LIMIT + 1), status="500 Internal Server Error"), UpstreamFault, id="failure"
    ),
]


class TestFailures:
    @pytest.mark.parametrize(("answer", "kind"), [*BROKEN, *NOT_HTTP, *TOO_LONG])
    async def test_what_is_no_whole_answer_has_its_kind(
        self, answer: bytes, kind: type[UpstreamError]
    ) -> None:
        async with raw_server(answering(answer)) as server, client_of(server.base_url) as client:
            with pytest.raises(kind):
                await send(client)

    @pytest.mark.parametrize(
        "before",
        [
            pytest.param(b"", id="before-the-head"),
            pytest.param(HEAD[:20], id="in-the-head"),
            pytest.param(HEAD, id="after-the-head"),
            pytest.param(HEAD + b"x" * 10, id="in-the-body"),
        ],
    )
    @pytest.mark.parametrize("request_", [LIST, CREATE], ids=lambda request: request.method)
    async def test_a_reset_makes_it_unreachable(self, before: bytes, request_: V2Request) -> None:
        async def behave(connection: Connection) -> None:
            await connection.request()
            connection.writer.write(before)
            await connection.writer.drain()
            connection.reset()

        async with raw_server(behave) as server, client_of(server.base_url) as client:
            with pytest.raises(UpstreamUnreachable) as raised:
                await send(client, request_)

        assert raised.value.request_left

    @pytest.mark.parametrize("request_", [LIST, CREATE], ids=lambda request: request.method)
    async def test_a_closed_port_is_unreachable_and_was_never_asked(
        self, request_: V2Request
    ) -> None:
        with socket.socket() as taken:  # bound and not listening: nobody else can get it
            taken.bind((LOOPBACK, 0))
            async with client_of(f"http://{LOOPBACK}:{taken.getsockname()[1]}/v2") as client:
                with pytest.raises(UpstreamUnreachable) as raised:
                    await send(client, request_)

        assert not raised.value.request_left

    async def test_no_tls_where_it_was_expected_is_unreachable_and_was_never_asked(self) -> None:
        async def behave(connection: Connection) -> None:
            await connection.reader.read(1)
            connection.writer.write(http())

        async with (
            raw_server(behave) as server,
            client_of(server.base_url.replace("http:", "https:")) as client,
        ):
            with pytest.raises(UpstreamUnreachable) as raised:
                await send(client)

        assert not raised.value.request_left

    async def test_a_connection_that_stays_away_is_unreachable_and_was_never_asked(self) -> None:
        """Here it is the TLS handshake that nobody answers."""
        async with (
            raw_server(Connection.until_left) as server,
            client_of(
                server.base_url.replace("http:", "https:"), connect_timeout=IMPATIENCE
            ) as client,
        ):
            with pytest.raises(UpstreamUnreachable) as raised:
                await send(client)

        assert not raised.value.request_left

    @pytest.mark.parametrize(
        "before",
        [
            pytest.param(b"", id="no-answer"),
            pytest.param(HEAD[:20], id="half-a-head"),
            pytest.param(HEAD, id="no-body"),
            pytest.param(HEAD + b"x" * 10, id="half-a-body"),
            pytest.param(chunked(b"x", end=b""), id="no-more-chunks"),
            pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n", id="continue-alone"),
        ],
    )
    async def test_an_answer_that_stays_away_is_a_timeout(self, before: bytes) -> None:
        async def behave(connection: Connection) -> None:
            await connection.request()
            connection.writer.write(before)
            await connection.until_left()

        async with raw_server(behave) as server, client_of(server.base_url) as client:
            with pytest.raises(UpstreamTimeout) as raised:
                await send(client, seconds=IMPATIENCE)

        assert raised.value.request_left

    @pytest.mark.parametrize(("answer", "kind"), [BROKEN[3], NOT_HTTP[0], TOO_LONG[0]])
    async def test_no_failure_shows_the_token(
        self, answer: bytes, kind: type[UpstreamError]
    ) -> None:
        async with raw_server(answering(answer)) as server, client_of(server.base_url) as client:
            with pytest.raises(kind) as raised:
                await send(client)

        assert TOKEN not in "".join(traceback.format_exception(raised.value))

    async def test_time_that_is_nearly_up_is_not_for_ever(self) -> None:
        async def behave(connection: Connection) -> None:
            await connection.request()
            await connection.until_left()

        async with raw_server(behave) as server, client_of(server.base_url) as client:
            with pytest.raises(UpstreamTimeout):
                await send(client, seconds=0.004)

    async def test_a_long_answer_is_not_read_to_its_end(self) -> None:
        """The server goes on for ever: the call comes back because it stops to listen."""

        async def behave(connection: Connection) -> None:
            await connection.request()
            connection.writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            try:
                while True:
                    connection.writer.write(b"x" * 10_000)
                    await connection.writer.drain()
            except ConnectionError:
                return

        async with raw_server(behave) as server, client_of(server.base_url) as client:
            with pytest.raises(UpstreamFault, match=str(LIMIT)):
                await send(client)


@pytest.mark.parametrize("request_", [LIST, CREATE], ids=["read", "write"])
async def test_what_comes_unasked_on_an_idle_connection_is_no_answer_to_the_next_call(
    request_: V2Request,
) -> None:
    """RFC 9112, section 9.2; and what has not left may be sent again."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    said = asyncio.Event()

    async def answer_unasked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await said.wait()
        writer.write(answer)
        await reader.read()

    async with running_origin() as origin, client_of(origin.url) as client:
        origin.misbehave = answer_unasked
        await send(client)
        said.set()
        _, writer = await asyncio.open_connection(LOOPBACK, origin.port)  # it is there by then
        writer.close()
        with pytest.raises(UpstreamUnreachable) as unreachable:
            await send(client, request_)

    assert not unreachable.value.request_left
    assert len(origin.heads) == 1
