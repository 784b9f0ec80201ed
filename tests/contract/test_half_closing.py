"""Clients that say they send no more, and wait for their answer (RFC 9112, section 9.6)."""

import asyncio
import socket
from pathlib import Path

import pytest

from tests.support.clocks import Leaps, until
from tests.support.held_upstream import HeldUpstream
from tests.support.legacy import BASIC, LegacyClient, hang_up
from tests.support.logged import Logged
from tests.support.upstream import page
from tests.support.writing import HELLO, SEND, caught_up, hello, outcomes, posting

HEAD = f"HTTP/1.1\r\nHost: a\r\nAuthorization: {BASIC}\r\n".encode()
READ = b"GET %s %s\r\n" % (SEND.encode(), HEAD)
WRITE = b"POST %s %sContent-Type: text/xml\r\nContent-Length: %d\r\n\r\n%s" % (
    SEND.encode(),
    HEAD,
    len(HELLO),
    HELLO,
)


def half_closing(client: LegacyClient, *pieces: bytes) -> asyncio.Task[bytes]:
    """Send pieces, close that half, and read to the end."""

    async def exchange() -> bytes:
        async with client.connection() as (reader, writer):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            writer.write_eof()
            return await reader.read()

    return asyncio.create_task(exchange())


async def test_a_read_is_answered(held: HeldUpstream, client: LegacyClient) -> None:
    answer = half_closing(client, READ)
    call = await held.next()
    await caught_up(client)
    call.answer(page(hello()))

    head, _, body = (await answer).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"Connection: close" in head
    assert b'<id type="integer">501</id>' in body


async def test_a_write_is_answered_and_noted_as_told(
    held: HeldUpstream, client: LegacyClient, log: Logged
) -> None:
    answer = half_closing(client, WRITE)
    (await held.next()).answer(hello(), 201)

    assert (await answer).startswith(b"HTTP/1.1 201 ")
    await until(lambda: log.lines("legacy_call"))
    assert log.lines("client_gone") == []


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (READ.replace(b"Basic", b"Nonsense"), b"401"),
        (READ.replace(b"invoice", b"nowhere"), b"404"),
        (READ.replace(b"GET", b"PUT"), b"405"),
        (READ.replace(b"Host: a\r\n", b""), b"400"),
        (READ[:-2], b"400"),
        (WRITE[:-1], b"400"),
        (WRITE.replace(b"Content-Length: ", b"Transfer-Encoding: chunked\r\nX: "), b"400"),
    ],
    ids=["401", "404", "405", "no host", "half a head", "a part of its body", "broken chunks"],
)
async def test_so_is_what_is_refused(client: LegacyClient, data: bytes, status: bytes) -> None:
    assert (await half_closing(client, data)).split(b" ")[1] == status


async def test_calls_behind_it_are_answered_too(held: HeldUpstream, client: LegacyClient) -> None:
    answer = half_closing(client, READ, WRITE, READ[:20])
    (await held.next()).answer(page())
    (await held.next()).answer(hello(), 201)

    answers = await answer
    assert [line.split(b" ")[1] for line in answers.split(b"\n") if b"HTTP/1.1 " in line] == [
        b"200",
        b"201",
    ]


async def test_who_has_asked_nothing_is_not_waited_for(client: LegacyClient) -> None:
    assert await half_closing(client) == b""


async def test_one_who_says_so_long_after_asking_has_given_up(
    held: HeldUpstream, client: LegacyClient
) -> None:
    leaps = Leaps()
    async with client.connection() as (reader, writer):
        writer.write(READ)
        call = await held.next()
        leaps.ahead(6)
        writer.write_eof()
        await call.until_left()

        assert await reader.read() == b""


async def test_who_is_gone_by_the_time_of_the_answer_has_not_been_told(
    held: HeldUpstream, client: LegacyClient, log: Logged, journal: Path
) -> None:
    _, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(WRITE)
    call = await held.next()
    writer.transport.abort()  # which closes both halves, and sends no more than the one did
    await caught_up(client)
    call.answer(hello(), 201)
    await until(lambda: log.lines("client_gone"))
    again = posting(client)
    (await held.next()).answer(page(hello()))

    assert (await again).status == 201
    assert [call.received.method for call in held.calls] == ["POST", "GET"]
    assert outcomes(journal) == ["done"]


async def test_an_answer_of_which_a_part_was_never_sent_has_not_been_handed_over(
    held: HeldUpstream, client: LegacyClient, log: Logged, journal: Path
) -> None:
    with socket.socket() as reads_nothing:
        reads_nothing.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reads_nothing.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(reads_nothing, (client.host, client.port))
        await loop.sock_sendall(reads_nothing, WRITE)
        (await held.next()).answer(hello(sent_by="Bob" * 500_000), 201)
        await until(lambda: log.lines("client_gone"))
    again = posting(client)
    (await held.next()).answer(page(hello()))

    assert (await again).status == 201
    assert [call.received.method for call in held.calls] == ["POST", "GET"]


class TestAcknowledging:
    """An answer to a write is handed over once its client's machine has acknowledged it."""

    @pytest.fixture(autouse=True)
    def never_acknowledged(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("bridge.server.connection._unacknowledged", lambda _: 1)

    async def test_what_is_not_acknowledged_has_not_been_handed_over(
        self, held: HeldUpstream, client: LegacyClient, log: Logged
    ) -> None:
        leaps = Leaps()
        answer = posting(client)
        (await held.next()).answer(hello(), 201)
        assert (await answer).status == 201
        while not log.lines("client_gone"):
            leaps.ahead(1)
            await asyncio.sleep(0)
        again = posting(client)

        (await held.next()).answer(page(hello()))
        assert (await again).status == 201
        assert [call.received.method for call in held.calls] == ["POST", "GET"]

    async def test_who_goes_on_and_is_reset_has_been_told(
        self, held: HeldUpstream, client: LegacyClient, log: Logged
    ) -> None:
        async with client.connection() as (reader, writer):
            writer.write(WRITE)
            (await held.next()).answer(hello(), 201)
            await reader.readuntil(b'<id type="integer">501</id>')
            writer.write(READ)
            await writer.drain()
            hang_up(writer)
        await until(lambda: log.lines("legacy_call"))
        again = posting(client)

        second = await held.next()
        while second.received.method == "GET":
            second = await held.next()
        second.answer(hello(id=502), 201)
        assert (await again).status == 201

    async def test_who_goes_on_to_another_call_has_been_told(
        self, held: HeldUpstream, client: LegacyClient, log: Logged
    ) -> None:
        async with client.connection() as (reader, writer):
            writer.write(WRITE)
            (await held.next()).answer(hello(), 201)
            assert (await reader.readuntil(b"\r\n")).split(b" ")[1] == b"201"
            writer.write(WRITE)
            second = await held.next()
            assert second.received.method == "POST"
            second.answer(hello(id=502), 201)
            await reader.readuntil(b'<id type="integer">502</id>')

        assert [line["status"] for line in log.lines("legacy_call")] == [201]
