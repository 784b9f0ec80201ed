"""Clients that do not wait for their answer: what becomes of what they have asked."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from bridge.server.answers import send
from bridge.server.connection import Connection
from tests.support.clocks import until
from tests.support.held_upstream import HeldUpstream
from tests.support.legacy import BASIC, LegacyClient, hang_up
from tests.support.logged import Logged
from tests.support.running import running_bridge
from tests.support.upstream import page
from tests.support.writing import HELLO, SEND, caught_up, getting, hello, outcomes, posting

DELETE = f"{SEND}/403"


def request(method: str, path: str, body: bytes = b"", *, length: int | None = None) -> bytes:
    """A call as it travels; of the `length` that is told, all of the body may not have come."""
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: a",
        f"Authorization: {BASIC}",
        f"X-Request-Id: {method.lower()}-1",
    ]
    if body:
        lines += ["Content-Type: application/xml", f"Content-Length: {length or len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


@asynccontextmanager
async def hanging_up(client: LegacyClient, data: bytes) -> AsyncIterator[None]:
    """Send a call, and hang up at the end of the block."""
    async with client.connection() as (_, writer):
        writer.write(data)
        await writer.drain()
        yield
        hang_up(writer)
    await caught_up(client)


class TestReads:
    @pytest.mark.parametrize("path", [SEND, f"{SEND}/5", f"{SEND}/new"])
    async def test_are_given_up_and_so_is_what_was_asked_of_v2(
        self, held: HeldUpstream, client: LegacyClient, log: Logged, path: str
    ) -> None:
        async with hanging_up(client, request("GET", path)):
            call = await held.next()
            assert call.is_open
        await call.until_left()

        (line,) = (line for line in log.lines("legacy_call") if line["request_id"] == "get-1")
        assert line["status"] is None

    async def test_are_given_up_between_two_pages(
        self, held: HeldUpstream, client: LegacyClient
    ) -> None:
        async with hanging_up(client, request("GET", SEND)):
            link = f"{held.base_url}/invoices/1420/messages?cursor=2"
            (await held.next()).answer(page(following=link))
            second = await held.next()
        await second.until_left()

    async def test_go_on_for_others_who_asked_the_same(
        self, held: HeldUpstream, client: LegacyClient
    ) -> None:
        async with hanging_up(client, request("GET", SEND)):
            call = await held.next()
            other = getting(client)
            await caught_up(client)
        assert call.is_open
        call.answer(page(hello()))

        assert (await other).texts("id") == ["501"]
        assert len(held.calls) == 1

    async def test_of_one_who_joined_do_not_end_that_of_who_began(
        self, held: HeldUpstream, client: LegacyClient
    ) -> None:
        first = getting(client)
        call = await held.next()
        async with hanging_up(client, request("GET", SEND)):
            await caught_up(client)
        assert call.is_open
        call.answer(page(hello()))

        assert (await first).texts("id") == ["501"]

    async def test_are_given_up_when_the_last_has_left(
        self, held: HeldUpstream, client: LegacyClient
    ) -> None:
        async with hanging_up(client, request("GET", SEND)):
            call = await held.next()
            async with hanging_up(client, request("GET", SEND)):
                await caught_up(client)
            assert call.is_open
        await call.until_left()

        fresh = getting(client)
        (await held.next()).answer(page())
        assert (await fresh).status == 200


class TestBeforeTheyAreTakenUp:
    """A connection may be lost between aiohttp's making a task for a call, and its first step."""

    @pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
    async def test_calls_are_not_begun(
        self,
        held: HeldUpstream,
        client: LegacyClient,
        log: Logged,
        monkeypatch: pytest.MonkeyPatch,
        method: str,
    ) -> None:
        begin = Connection.begin

        def begin_too_late(self: Connection, client_left: Callable[[], None]) -> None:
            if self.transport is not None and not any(log.lines("legacy_call")):
                self.transport.abort()
                self._wire = None  # as it is once that has come about
            begin(self, client_left)

        monkeypatch.setattr(Connection, "begin", begin_too_late)
        path = DELETE if method == "DELETE" else SEND
        async with hanging_up(client, request(method, path, HELLO if method == "POST" else b"")):
            await until(lambda: log.lines("legacy_call"))

        assert log.lines("legacy_call")[0]["status"] is None
        assert held.calls == []


class TestWrites:
    async def test_go_on_to_their_end_which_is_on_record_and_in_the_log(
        self, held: HeldUpstream, client: LegacyClient, journal: Path, log: Logged
    ) -> None:
        async with hanging_up(client, request("POST", SEND, HELLO)):
            call = await held.next()
        assert call.is_open
        assert log.lines("client_gone") == []
        call.answer(hello(), 201)
        await until(lambda: log.lines("client_gone"))

        (line,) = log.lines("client_gone")
        assert (line["request_id"], line["method"], line["status"]) == ("post-1", "POST", 201)
        assert (line["bytes_in"], line.get("bytes_out", 0)) == (len(HELLO), 0)
        assert [call["status"] for call in line["upstream"]] == [201]
        assert outcomes(journal) == ["done"]

    async def test_are_settled_by_a_look_if_need_be(
        self, held: HeldUpstream, client: LegacyClient, journal: Path, log: Logged
    ) -> None:
        async with hanging_up(client, request("POST", SEND, HELLO)):
            call = await held.next()
        call.reset()
        (await held.next()).answer(page(hello()))
        await until(lambda: log.lines("client_gone"))

        assert log.lines("client_gone")[0]["status"] == 201
        assert outcomes(journal) == ["done"]

    async def test_that_fail_are_told_in_the_log(
        self, held: HeldUpstream, client: LegacyClient, journal: Path, log: Logged
    ) -> None:
        async with hanging_up(client, request("POST", SEND, HELLO)):
            call = await held.next()
        call.reset()
        (await held.next()).answer(status=500)
        await until(lambda: log.lines("client_gone"))

        (line,) = log.lines("client_gone")
        assert line["status"] == 504
        assert line["cause"].startswith("OutcomeUnknown")
        assert outcomes(journal) == ["unknown"]

    async def test_of_state_go_on_too(
        self, held: HeldUpstream, client: LegacyClient, log: Logged
    ) -> None:
        async with hanging_up(client, request("POST", f"{SEND}/mark_as_sent")):
            call = await held.next()
        assert call.is_open
        call.answer(hello(event_type="send"), 201)
        await until(lambda: log.lines("client_gone"))

        assert log.lines("client_gone")[0]["status"] == 200

    async def test_that_delete_go_on_too(
        self, held: HeldUpstream, client: LegacyClient, log: Logged
    ) -> None:
        async with hanging_up(client, request("DELETE", DELETE)):
            call = await held.next()
        assert call.is_open
        call.answer()
        await until(lambda: log.lines("client_gone"))

        (line,) = log.lines("client_gone")
        assert (line["method"], line["status"]) == ("DELETE", 200)

    async def test_whose_turn_has_not_come_are_made_when_it_does(
        self, held: HeldUpstream, client: LegacyClient, log: Logged
    ) -> None:
        first = posting(client)
        call = await held.next()
        other = HELLO.replace(b"Hello", b"Hi")
        async with hanging_up(client, request("POST", SEND, other)):
            await caught_up(client)
        call.answer(hello(), 201)
        assert (await first).status == 201
        (await held.next()).answer(hello(id=502, subject="Hi"), 201)
        await until(lambda: log.lines("client_gone"))

        assert log.lines("client_gone")[0]["status"] == 201

    async def test_that_have_not_come_whole_are_not_begun(
        self, held: HeldUpstream, client: LegacyClient, journal: Path, log: Logged
    ) -> None:
        data = request("POST", SEND, HELLO, length=len(HELLO) + 1)
        async with hanging_up(client, data):
            await caught_up(client)

        await until(lambda: [line["method"] for line in log.lines("legacy_call")].count("POST"))
        assert held.calls == []
        assert outcomes(journal) == []
        assert log.lines("client_gone") == []

    async def test_leave_the_next_one_its_turn_and_all_places(
        self, held: HeldUpstream, log: Logged
    ) -> None:
        async with running_bridge(
            held.base_url, calls=1, upstream_calls_per_account=1
        ) as only_one_at_a_time:
            for number in range(3):
                async with hanging_up(only_one_at_a_time, request("POST", SEND, HELLO)):
                    call = await held.next()
                    if number:  # the same again: a look comes first
                        call.answer(page(hello(id=501)))
                        continue
                call.answer(hello(), 201)
                await until(lambda: log.lines("client_gone"))
            last = getting(only_one_at_a_time)
            (await held.next()).answer(page())
            assert (await last).status == 200

    async def test_whose_client_stays_have_no_such_line(
        self, held: HeldUpstream, client: LegacyClient, log: Logged
    ) -> None:
        answer = posting(client)
        (await held.next()).answer(hello(), 201)
        assert (await answer).status == 201
        await asyncio.sleep(0)

        assert log.lines("client_gone") == []

    async def test_whose_client_is_quick_to_leave_with_its_answer_have_none_either(
        self,
        held: HeldUpstream,
        client: LegacyClient,
        log: Logged,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        async def send_and_hear_of_the_hang_up(
            request: web.BaseRequest, response: web.StreamResponse, parts: Sequence[bytes]
        ) -> None:
            await send(request, response, parts)
            assert request.transport is not None
            request.transport.close()

        monkeypatch.setattr("bridge.server.endpoint.send", send_and_hear_of_the_hang_up)
        answer = posting(client)
        (await held.next()).answer(hello(), 201)

        assert (await answer).status == 201
        await caught_up(client)
        assert log.lines("client_gone") == []
        assert [line["status"] for line in log.lines("legacy_call") if line["route"]] == [201]
