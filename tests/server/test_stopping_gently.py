"""At a stop, whoever has connected before is heard: no connection is lost between two bridges."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trustme

from bridge.server.service import HEARING, Service
from tests.support.certificates import put_in_place
from tests.support.clocks import Leaps, until
from tests.support.held_upstream import HeldUpstream, running_held_upstream
from tests.support.legacy import BASIC
from tests.support.logged import Logged, logging
from tests.support.running import LOOPBACK, running_service
from tests.support.upstream import page
from tests.support.writing import SEND

CALL = f"GET {SEND} HTTP/1.1\r\nHost: a\r\nAuthorization: {BASIC}\r\n\r\n".encode()
UNKNOWN = b"GET /none HTTP/1.1\r\nHost: a\r\n\r\n"
"""A call that takes nothing of v2."""
PATIENCE = 10.0
"""Seconds until something counts as hanging."""


async def turns() -> None:
    """Let the event loop turn as often as it takes for what is due."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(params=["plain", "TLS"])
def tls(request: pytest.FixtureRequest, authority: trustme.CA, tmp_path: Path) -> dict[str, Path]:
    """The settings of TLS, none for plain HTTP."""
    if request.param == "plain":
        return {}
    certificate, key = put_in_place(authority.issue_cert("localhost"), tmp_path)
    return {"tls_certificate": certificate, "tls_key": key}


@dataclass
class Client:
    """A client by hand: what it sends, and when, is the test's to say."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def says(self, octets: bytes) -> None:
        self.writer.write(octets)
        await self.writer.drain()

    async def hears(self) -> str:
        """Return all that comes up to the end of the connection."""
        async with asyncio.timeout(PATIENCE):
            return (await self.reader.read()).decode()


@dataclass
class Stage:
    """A bridge that can be told to stop."""

    service: Service
    held: HeldUpstream
    log: Logged
    stack: AsyncExitStack
    context: ssl.SSLContext | None
    stopping: "asyncio.Task[None] | None" = None
    clients: list[Client] = field(default_factory=list)

    async def connect(self) -> Client:
        """Connect, and shake hands where that is asked for."""
        reader, writer = await asyncio.open_connection(
            LOOPBACK,
            self.service.port,
            ssl=self.context,
            server_hostname=None if self.context is None else "localhost",
        )
        self.clients.append(client := Client(reader, writer))
        return client

    async def stop(self) -> None:
        self.stopping = asyncio.create_task(self.stack.aclose())
        await until(lambda: self.log.lines("stopping"))

    async def ends(self) -> None:
        assert self.stopping is not None
        async with asyncio.timeout(PATIENCE):
            await self.stopping
        assert [line["unfinished"] for line in self.log.lines("stopped")] == [0]


@pytest.fixture
async def stage(authority: trustme.CA, tls: dict[str, Path]) -> AsyncIterator[Stage]:
    context = None
    if tls:
        context = ssl.create_default_context()
        authority.configure_trust(context)
    async with running_held_upstream() as held, AsyncExitStack() as stack:
        log = stack.enter_context(logging())
        serving = running_service(held.base_url, account_id=1000, stop_timeout=30, **tls)
        service, _ = await stack.enter_async_context(serving)
        stage = Stage(service, held, log, stack, context)
        try:
            yield stage
        finally:
            for client in stage.clients:
                client.writer.close()
                with suppress(OSError):
                    await client.writer.wait_closed()


class TestWhoHasConnected:
    @pytest.mark.parametrize("before", [0, 1, len(CALL) - 1], ids=["nothing", "a byte", "all but"])
    async def test_is_served_whatever_has_come_of_the_first_call(
        self, stage: Stage, before: int
    ) -> None:
        client = await stage.connect()
        await client.says(CALL[:before])
        await stage.stop()
        await client.says(CALL[before:])
        (await stage.held.next()).answer(page())
        answer = await client.hears()
        await stage.ends()

        assert answer.startswith("HTTP/1.1 200 ")
        assert "\r\nConnection: close\r\n" in answer

    async def test_is_served_where_its_call_has_come_on_a_connection_of_before(
        self, stage: Stage
    ) -> None:
        client = await stage.connect()
        await client.says(UNKNOWN)
        await client.reader.readuntil(b"</errors>")
        await client.says(CALL)
        await stage.stop()
        (await stage.held.next()).answer(page())

        assert "HTTP/1.1 200 " in await client.hears()
        await stage.ends()

    async def test_is_let_go_where_it_has_been_answered_and_asks_no_more(
        self, stage: Stage
    ) -> None:
        idle, busy = await stage.connect(), await stage.connect()
        await idle.says(UNKNOWN)
        await idle.reader.readuntil(b"</errors>")
        await busy.says(CALL)
        call = await stage.held.next()
        await stage.stop()
        assert "HTTP/1.1" not in await idle.hears()  # while the other is still served
        call.answer(page())
        assert (await busy.hears()).startswith("HTTP/1.1 200 ")
        await stage.ends()

    async def test_is_refused_who_asks_too_late(self, stage: Stage) -> None:
        leaps = Leaps()
        late, busy = await stage.connect(), await stage.connect()
        await busy.says(CALL)
        call = await stage.held.next()
        await stage.stop()
        leaps.ahead(HEARING)
        await turns()
        await late.says(CALL)
        refusal = await late.hears()
        call.answer(page())
        assert (await busy.hears()).startswith("HTTP/1.1 200 ")
        await stage.ends()

        assert refusal.startswith("HTTP/1.1 503 ")
        assert "\r\nRetry-After: 1\r\n" in refusal
        assert "\r\nConnection: close\r\n" in refusal
        assert "<errors>" in refusal

    async def test_does_not_keep_the_bridge_if_it_says_nothing(self, stage: Stage) -> None:
        leaps = Leaps()
        await stage.connect()
        await stage.stop()
        await turns()
        assert stage.stopping is not None
        assert not stage.stopping.done()
        leaps.ahead(HEARING)
        await stage.ends()

    async def test_does_not_keep_a_bridge_that_is_told_again(self, stage: Stage) -> None:
        await stage.connect()
        await stage.stop()
        stage.service.hurry()
        await stage.ends()


class TestAHandshake:
    """A client of TLS by hand, whose first flight comes in parts."""

    @pytest.mark.parametrize("tls", ["TLS"], indirect=True)
    @pytest.mark.parametrize("part", ["nothing", "half", "all"])
    async def test_that_is_under_way_ends_in_an_answer(self, stage: Stage, part: str) -> None:
        assert stage.context is not None
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = stage.context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        flight = outgoing.read()
        sent = {"nothing": 0, "half": len(flight) // 2, "all": len(flight)}[part]
        reader, writer = await asyncio.open_connection(LOOPBACK, stage.service.port)
        writer.write(flight[:sent])
        await stage.stop()
        writer.write(flight[sent:])

        async def more() -> None:
            writer.write(outgoing.read())
            octets = await reader.read(65536)
            incoming.write(octets) if octets else incoming.write_eof()

        async with asyncio.timeout(PATIENCE):
            while True:
                with suppress(ssl.SSLWantReadError):
                    client.do_handshake()
                    break
                await more()
            client.write(UNKNOWN)
            answer = b""
            while b"</errors>" not in answer:
                try:
                    octets = client.read(65536)
                except ssl.SSLWantReadError:
                    await more()
                else:
                    assert octets, "it was closed without an answer"
                    answer += octets
        writer.close()
        await stage.ends()

        assert answer.startswith(b"HTTP/1.1 404 ")
        assert b"\r\nConnection: close\r\n" in answer
