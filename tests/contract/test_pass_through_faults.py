"""What goes wrong between the bridge and v1: nothing is sent twice, lost in silence, or hangs."""

import asyncio
import resource
from collections.abc import AsyncIterator
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from bridge.server.service import LeadsBackHere
from tests.contract.test_pass_through import line, request
from tests.support.clocks import until
from tests.support.gateways import free_port
from tests.support.held_upstream import HeldUpstream
from tests.support.legacy import LegacyClient, hang_up
from tests.support.logged import Logged
from tests.support.origins import OK, RawOrigin, body_of
from tests.support.running import running_bridge, running_service
from tests.support.writing import caught_up

LOOK_FIRST = ["Whether Harvest has done this is not known: look first."]

PATIENCE = 0.3


@pytest.fixture
async def client(
    log: Logged, held: HeldUpstream, journal: Path, origin: RawOrigin
) -> AsyncIterator[LegacyClient]:
    async with running_bridge(
        held.base_url, journal=journal, legacy_origin=origin.url, call_timeout=PATIENCE
    ) as legacy:
        yield legacy


async def reset(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    hang_up(writer)


async def say_nothing(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def reset_in_the_head(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-")
    await writer.drain()
    writer.close()


async def say_something_else(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 mail.example ESMTP\r\n\r\n")


async def switch_protocols(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")


def hold_back(origin: RawOrigin) -> tuple[asyncio.Event, asyncio.Event]:
    """Have v1 take a request whole, and answer once it may: return what says so of either."""
    asked, answers = asyncio.Event(), asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await body_of(origin.heads[-1], reader)
        asked.set()
        await answers.wait()
        writer.write(OK)

    origin.misbehave = wait
    return asked, answers


class TestNoAnswer:
    async def test_nobody_listens(self, held: HeldUpstream, log: Logged) -> None:
        async with running_bridge(
            held.base_url, legacy_origin=f"http://127.0.0.1:{free_port()}"
        ) as client:
            read = await client.get("/projects")
            write = await client.call("POST", "/projects", body=b"<project/>")

        assert read.status == write.status == 502
        assert read.errors == ["Harvest could not be reached."]
        told, *_ = log.lines("legacy_call")
        assert (told["outcome"], told["status"]) == ("failed", 502)

    @pytest.mark.parametrize(
        ("misbehave", "status"),
        [
            (reset, 502), (say_nothing, 504), (reset_in_the_head, 502), (say_something_else, 502),
            (switch_protocols, 502),
        ],
    )  # fmt: skip
    async def test_a_read_says_so(
        self, client: LegacyClient, origin: RawOrigin, misbehave: Any, status: int
    ) -> None:
        origin.misbehave = misbehave

        assert (await client.get("/projects")).status == status

    @pytest.mark.parametrize(
        "misbehave",
        [reset, say_nothing, reset_in_the_head, say_something_else, switch_protocols],
    )
    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
    async def test_a_write_that_may_have_been_done_says_that_and_is_sent_once(
        self, client: LegacyClient, origin: RawOrigin, method: str, misbehave: Any
    ) -> None:
        """A write that is sent twice is a mail twice."""
        origin.misbehave = misbehave

        answer = await client.call(method, "/projects", body=b"<x/>")

        assert (answer.status, answer.errors) == (504, LOOK_FIRST)
        assert len(origin.heads) == 1

    @pytest.mark.parametrize("method", ["POST", "DELETE"])
    async def test_no_write_leaves_on_a_connection_that_idled(
        self, client: LegacyClient, origin: RawOrigin, method: str
    ) -> None:
        """RFC 9112, section 9.5: an origin may close it in that moment, and nobody could tell."""
        for _ in range(2):
            await client.get("/projects")
        assert origin.connections == 1

        for _ in range(2):
            assert (await client.call(method, "/projects")).status == 200

        assert origin.connections == 3
        assert b"\r\nConnection: close\r\n" in origin.heads[-1]

    async def test_a_read_is_sent_again_where_its_idle_connection_was_closed(
        self, client: LegacyClient, origin: RawOrigin
    ) -> None:
        """RFC 9110, section 9.2.2: it changes nothing."""
        closes = False

        async def answer_and_reset(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            writer.write(OK)
            await writer.drain()
            if not closes:
                await reader.readuntil(b"\r\n\r\n")
                hang_up(writer)

        origin.misbehave = answer_and_reset
        await client.get("/projects")
        closes = True
        assert (await client.get("/projects")).status == 200

    async def test_after_many_failures_v1_is_left_alone_for_a_while(
        self, client: LegacyClient, origin: RawOrigin, log: Logged
    ) -> None:
        origin.misbehave = reset
        for _ in range(5):
            await client.call("POST", "/projects")

        answer = await client.call("POST", "/projects")

        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert len(origin.heads) == 5
        (told,) = log.lines("breaker")
        assert told["of"] == f"v1 127.0.0.1:{origin.port}"


class TestAnswersThatBreakOff:
    @pytest.mark.parametrize("ends", [hang_up, lambda writer: writer.close()], ids=["reset", "end"])
    @pytest.mark.parametrize(
        "begins",
        [
            b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nabc",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        ],
        ids=["length", "chunks"],
    )
    async def test_do_not_look_whole(
        self, client: LegacyClient, origin: RawOrigin, log: Logged, begins: bytes, ends: Any
    ) -> None:
        """RFC 9112, section 8: a client must be able to tell."""

        async def break_off(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(begins)
            await writer.drain()
            await asyncio.sleep(0.05)  # for the bridge to have read it
            ends(writer)

        origin.misbehave = break_off

        answer = await client.raw(request("GET /projects HTTP/1.1"))

        body = answer.partition(b"\r\n\r\n")[2]
        assert body in {b"abc", b"3\r\nabc\r\n"}
        assert "Unreachable" in (await line(client, log))["cause"]

    async def test_until_the_end_of_the_connection_are_ended_by_a_reset(
        self, client: LegacyClient, origin: RawOrigin
    ) -> None:
        """RFC 9112, section 8: else, it would look whole to who speaks HTTP/1.0."""

        async def break_off(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
            await writer.drain()
            await asyncio.sleep(0.05)  # likewise
            writer.close()

        origin.misbehave = break_off

        with pytest.raises(ConnectionResetError):
            await client.raw(request("GET /projects HTTP/1.0"))

    async def test_that_come_to_a_standstill_are_given_up(
        self, client: LegacyClient, origin: RawOrigin, log: Logged
    ) -> None:
        async def stand_still(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nabc")
            await reader.read()

        origin.misbehave = stand_still

        answer = await client.raw(request("GET /projects HTTP/1.1"))

        assert answer.endswith(b"abc")
        assert (await line(client, log))["cause"].startswith("UpstreamTimeout")

    async def test_in_malformed_chunks_are_given_up(
        self, client: LegacyClient, origin: RawOrigin, log: Logged
    ) -> None:
        """The connection to v1 is closed by then, and nothing more would come of it."""
        begun = asyncio.Event()

        async def garble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
            await begun.wait()
            writer.write(b"zz\r\nabc\r\n0\r\n\r\n")
            await reader.read()

        origin.misbehave = garble
        async with client.connection() as (reader, writer):
            writer.write(request("GET /projects HTTP/1.1"))
            await reader.readuntil(b"abc\r\n")
            begun.set()
            rest = await reader.read()

        assert not rest
        assert (await line(client, log))["cause"].startswith("UpstreamTimeout")


def _has(origin: RawOrigin, count: int) -> bool:
    return len(origin.heads) >= count


class TestBodies:
    async def test_an_answer_that_comes_before_the_whole_body_is_told_at_once(
        self, client: LegacyClient, origin: RawOrigin
    ) -> None:
        """RFC 9112, section 9.3: what is left of the body is not waited for."""

        async def refuse(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 413 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            await asyncio.sleep(1)

        origin.misbehave = refuse
        async with client.connection() as (reader, writer):
            writer.write(request("POST /projects HTTP/1.1", "Content-Length: 1000000", body=b"x"))
            head = await reader.readuntil(b"\r\n\r\n")

        assert head.startswith(b"HTTP/1.1 413")
        assert b"\r\nConnection: close\r\n" in head

    async def test_a_body_that_breaks_off_never_looks_whole_to_v1(
        self, client: LegacyClient, origin: RawOrigin
    ) -> None:
        for announced in ("Content-Length: 9", "Transfer-Encoding: chunked"):
            async with client.connection() as (_, writer):
                body = b"<x/>" if "Length" in announced else b"4\r\n<x/>\r\n"
                writer.write(request("POST /projects HTTP/1.1", announced, body=body))
                more = len(origin.heads) + 1
                await until(partial(_has, origin, more))
                hang_up(writer)
        await caught_up(client)

        assert not any(origin.bodies)

    async def test_v1_that_takes_no_body_is_given_up(
        self, client: LegacyClient, origin: RawOrigin
    ) -> None:
        async def take_nothing(
            _reader: asyncio.StreamReader, _writer: asyncio.StreamWriter
        ) -> None:
            await asyncio.Event().wait()

        origin.misbehave = take_nothing

        answer = await client.call("POST", "/projects", body=BytesIO(b"x" * 8_000_000))

        assert (answer.status, answer.errors) == (504, LOOK_FIRST)

    async def test_they_go_both_ways_in_bounded_memory(
        self, held: HeldUpstream, origin: RawOrigin
    ) -> None:
        """64 MiB each way, to a client that is slow to read."""
        piece, count = b"x" * 65536, 1024

        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = origin.heads[-1]
            left = len(piece) * count
            assert b"Content-Length: %d" % left in head
            while left:
                left -= len(await reader.read(65536))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(piece) * count))
            for _ in range(count):
                writer.write(piece)
                await writer.drain()

        async def body() -> AsyncIterator[bytes]:
            for _ in range(count):
                yield piece

        origin.misbehave = echo
        async with running_bridge(held.base_url, legacy_origin=origin.url) as client:
            await client.get("/login")
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            async with client._session.post(
                "/projects", data=body(), headers={"Content-Length": str(len(piece) * count)}
            ) as response:
                received = 0
                while some := await response.content.read(65536):
                    received += len(some)
                    await asyncio.sleep(0)

        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert received == len(piece) * count
        assert grown < 16 * 1024, "KiB, of the origin and the client as well"


class TestHangingUp:
    async def test_a_read_is_given_up_at_the_origin(
        self, client: LegacyClient, origin: RawOrigin, log: Logged
    ) -> None:
        left = asyncio.Event()

        async def wait(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            await reader.read()
            left.set()

        origin.misbehave = wait
        async with client.connection() as (_, writer):
            writer.write(request("GET /projects HTTP/1.1"))
            await until(lambda: origin.heads)
            hang_up(writer)
        await left.wait()

        told = await line(client, log)
        assert (told["outcome"], told["status"]) == ("gone", None)

    async def test_a_write_goes_on_to_its_end(
        self, client: LegacyClient, origin: RawOrigin, log: Logged
    ) -> None:
        asked, answers = hold_back(origin)
        async with client.connection() as (_, writer):
            writer.write(request("POST /projects HTTP/1.1", "Content-Length: 4", body=b"<x/>"))
            await asked.wait()
            hang_up(writer)
            await until(lambda: log.lines("client_left"))
        answers.set()
        await until(lambda: log.lines("client_gone"))

        (told,) = log.lines("client_gone")
        assert (told["outcome"], told["status"]) == ("passed-through", 200)

    async def test_a_stop_waits_for_what_is_under_way(
        self, held: HeldUpstream, log: Logged, origin: RawOrigin
    ) -> None:
        asked, answers = hold_back(origin)
        service = running_service(held.base_url, legacy_origin=origin.url, account_id=1000)
        _, client = await service.__aenter__()
        async with client.connection() as (reader, writer):
            writer.write(request("POST /projects HTTP/1.1", "Content-Length: 4", body=b"<x/>"))
            await asked.wait()
            stopping = asyncio.ensure_future(service.__aexit__(None, None, None))
            await until(lambda: log.lines("stopping"))
            answers.set()
            head = await reader.readuntil(b"\r\n\r\n")
            await stopping

        assert head.startswith(b"HTTP/1.1 200")
        assert b"\r\nConnection: close\r\n" in head
        (stopped,) = log.lines("stopped")
        assert stopped["unfinished"] == 0


class TestLoops:
    async def test_a_call_that_has_come_by_before_is_refused(
        self, client: LegacyClient, origin: RawOrigin, log: Logged
    ) -> None:
        """RFC 9110, section 7.6.3, and RFC 5842, section 7.2."""
        await client.get("/projects")
        via = next(each for each in origin.heads[0].split(b"\r\n") if each.startswith(b"Via"))

        answer = await client.get("/projects", headers={"Via": via.decode()[5:] + ", 1.1 other"})

        assert answer.status == 508
        assert len(origin.heads) == 1
        assert log.lines("legacy_origin_loops")

    async def test_a_bridge_whose_origin_is_itself_does_not_start(self, held: HeldUpstream) -> None:
        port = free_port()
        for host in ("127.0.0.1", "localhost"):
            with pytest.raises(LeadsBackHere, match="the bridge itself"):
                async with running_bridge(
                    held.base_url, port=port, legacy_origin=f"http://{host}:{port}"
                ):
                    pass

    async def test_a_name_that_leads_back_is_noticed_when_it_is_called(
        self, held: HeldUpstream, log: Logged
    ) -> None:
        port = free_port()
        async with running_bridge(
            held.base_url, port=port, domains=("example.com", "example.net"),
            legacy_origin=f"http://{{subdomain}}:{port}".replace("{subdomain}", "{subdomain}.test"),
        ) as client:  # fmt: skip
            await client.get("/projects", headers={"Host": "acme.example.com"})
            await caught_up(client)

        assert "acme.test" in log.getvalue()


class TestGone:
    async def test_a_v1_that_has_nothing_is_gone_until_it_is_back(
        self, client: LegacyClient, origin: RawOrigin, log: Logged
    ) -> None:
        origin.answer = b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"
        for _ in range(4):
            for path in ("/projects", "/clients", "/people"):
                await client.get(path)
        asked = len(origin.heads)

        answer = await client.get("/projects")

        assert answer.status == 501
        assert len(origin.heads) == asked == 10
        (told,) = log.lines("legacy_origin_gone")
        assert told["origin"] == f"127.0.0.1:{origin.port}"

    async def test_who_is_v1s_by_decision_is_not_answered_by_the_bridge_instead(
        self, held: HeldUpstream, origin: RawOrigin
    ) -> None:
        """That a write goes elsewhere is for an operator to decide."""
        origin.answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
        async with running_bridge(
            held.base_url, legacy_origin=origin.url, mode="observe"
        ) as client:
            for _ in range(4):
                for path in ("/projects", "/clients", "/people"):
                    await client.get(path)
            answer = await client.call("POST", "/invoices/1/messages", body=b"<x/>")

        assert (answer.status, answer.errors) == (502, ["Harvest v1 is not there any more."])
        assert not held.calls

    async def test_one_that_has_something_or_does_not_know_who_asks_is_not(
        self, client: LegacyClient, origin: RawOrigin, log: Logged
    ) -> None:
        missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
        origin.answer = missing
        for number in range(30):
            await client.get(f"/projects/{number}")
            await client.get(f"/wp-admin/{number}")
        for _ in range(4):
            origin.answer = missing
            for path in ("/projects", "/clients", "/people"):
                await client.get(path)
            origin.answer = missing.replace(b"404", b"401")
            await client.get("/tasks")

        assert not log.lines("legacy_origin_gone")
