"""Each fault is on the wire what it says, and a write is applied or not as it was told."""

import asyncio
import contextlib
import errno
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Any, NamedTuple

import aiohttp
import pytest
from aiohttp import web

from bridge.sandbox.app import (
    SANDBOX_SECOND_ACCOUNT_ID,
    SANDBOX_SECOND_TOKEN,
    SECOND_INVOICE_ID,
    create_sandbox,
)
from bridge.sandbox.faults import FAULTS
from tests.sandbox.conftest import HEADERS, Client, Clock, Start

LIST = "/v2/invoices/1420/messages"
NEW_MESSAGE = b'{"send_me_a_copy":true}'
PATIENCE = 30
"""Seconds until what waits counts as hanging."""

NEEDED: Mapping[str, dict[str, Any]] = {
    "delay": {"seconds": 0},
    "trickle": {"bytes": 100, "seconds": 0},
    "status": {"status": 502},
    "oversize": {"bytes": 5000},
}
"""What has to be given with a fault."""


class Heard(NamedTuple):
    """All that a client heard on a connection, and whether it ended with FIN or RST."""

    data: bytes
    end: str

    @property
    def head(self) -> bytes:
        return self.data.partition(b"\r\n\r\n")[0]

    @property
    def body(self) -> bytes:
        return self.data.partition(b"\r\n\r\n")[2]

    @property
    def content_length(self) -> int:
        (length,) = [
            int(line.split(b":")[1])
            for line in self.head.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        ]
        return length


def written(method: str, path: str = LIST, fault: str | None = None, body: bytes = b"") -> bytes:
    fields = {**HEADERS, "Host": "sandbox", "Content-Length": len(body)}
    if fault is not None:
        fields["Sandbox-Fault"] = fault
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


@asynccontextmanager
async def connected(
    client: Client,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", client.server.port)
    try:
        async with asyncio.timeout(PATIENCE):
            yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def rest(reader: asyncio.StreamReader) -> Heard:
    data = b""
    try:
        while piece := await reader.read(1000):
            data += piece
    except ConnectionResetError:
        return Heard(data, "RST")
    return Heard(data, "FIN")


async def hear(client: Client, *call: Any, **parts: Any) -> Heard:
    """Make a call and listen until the connection ends."""
    async with connected(client) as (reader, writer):
        writer.write(written(*call, **parts))
        return await rest(reader)


def asking(fault: str, **parameters: Any) -> dict[str, str]:
    return {"Sandbox-Fault": json.dumps({"fault": fault, **parameters})}


async def applied(client: Client) -> tuple[int, int]:
    report = await (await client.get("/sandbox/calls")).json()
    return report["applied"]["created"], report["applied"]["deleted"]


async def last_call(client: Client) -> dict[str, Any]:
    report = await (await client.get("/sandbox/calls")).json()
    call: dict[str, Any] = report["calls"][-1]
    return call


class Gate:
    """A sleep that lasts until it is let through."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.reached = asyncio.Semaphore(0)
        self.opened = asyncio.Semaphore(0)

    async def sleep(self, seconds: float) -> None:
        self.asked.append(seconds)
        self.reached.release()
        await self.opened.acquire()


class TestBreakingOff:
    @pytest.mark.parametrize(("fault", "end"), [("reset", "RST"), ("close", "FIN")])
    async def test_before_the_answer(self, client: Client, fault: str, end: str) -> None:
        assert await hear(client, "GET", fault=fault) == Heard(b"", end)
        assert (await last_call(client))["status"] is None

    @pytest.mark.parametrize(("fault", "end"), [("reset", "RST"), ("close", "FIN")])
    async def test_in_the_head(self, client: Client, fault: str, end: str) -> None:
        heard = await hear(client, "GET", fault=json.dumps({"fault": fault, "at": "head"}))
        assert heard.end == end
        assert heard.data.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: application/json")
        assert b"\r\n\r\n" not in heard.data
        assert (await last_call(client))["status"] is None

    @pytest.mark.parametrize(
        ("fault", "end"),
        [
            ({"fault": "reset", "at": "body"}, "RST"),
            ({"fault": "close", "at": "body"}, "FIN"),
            ({"fault": "truncate"}, "FIN"),
        ],
        ids=str,
    )
    @pytest.mark.parametrize("path", [LIST, "/v2/invoices/4500/messages?per_page=2000"])
    async def test_in_the_body(
        self, client: Client, fault: dict[str, str], end: str, path: str
    ) -> None:
        right = await (await client.get(path, headers={"Host": "sandbox"})).read()
        heard = await hear(client, "GET", path, fault=json.dumps(fault))
        assert heard.end == end
        assert heard.content_length == len(right)
        # RST also discards what is still on its way: of a long body, less than half may arrive.
        half = right[: len(right) // 2]
        assert heard.body == half if end == "FIN" else half.startswith(heard.body)
        assert (await last_call(client))["status"] == 200

    @pytest.mark.parametrize("fault", ["reset", "close"])
    @pytest.mark.parametrize("at", ["before", "head", "body"])
    @pytest.mark.parametrize("apply", [False, True])
    async def test_a_write_is_applied_as_told(
        self, client: Client, fault: str, at: str, apply: bool
    ) -> None:
        asked = json.dumps({"fault": fault, "at": at, "applied": apply})
        heard = await hear(client, "POST", fault=asked, body=NEW_MESSAGE)
        status = b"HTTP/1.1 201 Created" if apply else b"HTTP/1.1 502 Bad Gateway"
        assert heard.data.startswith(status if at != "before" else b"")
        assert await applied(client) == (int(apply), 0)

    @pytest.mark.parametrize(
        "fault", ["truncate", '{"fault": "reset", "at": "body", "applied": true}']
    )
    async def test_an_answer_without_a_body_is_broken_off_in_its_head(
        self, client: Client, fault: str
    ) -> None:
        heard = await hear(client, "DELETE", f"{LIST}/409", fault=fault)
        assert heard.data.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\n\r\n" not in heard.data
        assert await applied(client) == (0, 1)

    async def test_a_kept_alive_connection_is_closed_as_the_next_call_comes(
        self, client: Client
    ) -> None:
        async with connected(client) as (reader, writer):
            writer.write(written("GET"))
            await reader.readuntil(b"}}")
            writer.write(written("POST", fault="close", body=NEW_MESSAGE))
            assert await rest(reader) == Heard(b"", "FIN")
        assert await applied(client) == (0, 0)

    async def test_a_refusal_is_broken_off_too(self, client: Client) -> None:
        heard = await hear(client, "GET", "/v2/clients", fault="truncate")
        assert heard.data.startswith(b"HTTP/1.1 404 Not Found\r\n")
        assert heard.end == "FIN"

    async def test_a_connection_reset_is_one_for_aiohttp_too(self, client: Client) -> None:
        with pytest.raises(aiohttp.ClientOSError) as broken:
            await client.post(LIST, data=NEW_MESSAGE, headers=asking("reset"))
        assert broken.value.errno == errno.ECONNRESET

    async def test_not_http(self, client: Client) -> None:
        heard = await hear(client, "GET", fault="not-http")
        assert heard == Heard(b"220 mail.example.com ESMTP ready\r\n", "FIN")


class TestTakingTime:
    @pytest.mark.parametrize(("when", "meanwhile"), [("before", 1), ("after", 0)])
    async def test_a_delayed_write_is_applied_before_or_after(
        self, start: Start, when: str, meanwhile: int
    ) -> None:
        gate = Gate()
        client = await start(sleep=gate.sleep)
        call = asyncio.create_task(
            client.post(LIST, data=NEW_MESSAGE, headers=asking("delay", seconds=2.5, applied=when))
        )
        await gate.reached.acquire()
        assert await applied(client) == (meanwhile, 0)
        assert await last_call(client) == {
            "method": "POST",
            "path": LIST,
            "query": "",
            "fault": "delay",
            "status": None,
        }
        gate.opened.release()
        assert (await call).status == 201
        assert await applied(client) == (1, 0)
        assert gate.asked == [2.5]

    async def test_a_write_is_applied_late_though_its_client_has_hung_up(
        self, start: Start
    ) -> None:
        gate = Gate()
        client = await start(sleep=gate.sleep)
        async with connected(client) as (_, writer):
            writer.write(written("POST", fault='{"fault":"delay","seconds":1}', body=NEW_MESSAGE))
            await gate.reached.acquire()
            (connection,) = connections(client)
        while connection.transport is not None:
            await applied(client)
        assert await applied(client) == (0, 0)
        gate.opened.release()
        await no_connection_but_ours(client)
        assert await applied(client) == (1, 0)
        assert (await last_call(client))["status"] is None

    @pytest.mark.parametrize("apply", [False, True])
    async def test_a_hanging_call_is_held_until_its_client_leaves(
        self, client: Client, apply: bool
    ) -> None:
        asked = json.dumps({"fault": "hang", "applied": apply})
        async with connected(client) as (reader, writer):
            writer.write(written("POST", fault=asked, body=NEW_MESSAGE))
            while (await last_call_or_none(client)) is None or await applied(client) != (
                int(apply),
                0,
            ):
                pass
            writer.write(b"x" * 300_000)
            await writer.drain()
            writer.write_eof()
            assert await rest(reader) == Heard(b"", "FIN")
        await no_connection_but_ours(client)
        assert await applied(client) == (int(apply), 0)
        assert (await last_call(client))["status"] is None

    async def test_an_answer_trickles_in_pieces(self, start: Start) -> None:
        gate = Gate()
        client = await start(sleep=gate.sleep)
        right = await (await client.get(LIST, headers={"Host": "sandbox"})).read()
        asked = '{"fault": "trickle", "bytes": 100, "seconds": 0.5}'
        pieces = []
        async with connected(client) as (reader, writer):
            writer.write(written("GET", fault=asked))
            while piece := await reader.read(1000):
                pieces.append(piece)
                gate.opened.release()
        assert {len(piece) for piece in pieces[:-1]} == {100}
        assert len(pieces[-1]) <= 100
        heard = Heard(b"".join(pieces), "FIN")
        assert (heard.content_length, heard.body) == (len(right), right)
        assert gate.asked == [0.5] * (len(pieces) - 1)

    async def test_a_trickle_ends_when_its_client_leaves(self, start: Start) -> None:
        gate = Gate()
        client = await start(sleep=gate.sleep)
        async with connected(client) as (_, writer):
            writer.write(written("GET", fault='{"fault": "trickle", "bytes": 1, "seconds": 1}'))
            await gate.reached.acquire()
        for _ in range(1000):
            gate.opened.release()
        await no_connection_but_ours(client)
        assert len(gate.asked) < 1000

    @pytest.mark.parametrize(
        "fault",
        [
            "hang",
            '{"fault": "delay", "seconds": 80000}',
            '{"fault": "trickle", "bytes": 1, "seconds": 80000}',
        ],
    )
    async def test_the_sandbox_stops_though_calls_wait(self, fault: str) -> None:
        runner = web.AppRunner(create_sandbox(), access_log=None, shutdown_timeout=10 * PATIENCE)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        reader, writer = await asyncio.open_connection(*runner.addresses[0])
        writer.write(written("POST", fault=fault, body=NEW_MESSAGE))
        async with (
            asyncio.timeout(PATIENCE),
            aiohttp.ClientSession("http://{}:{}".format(*runner.addresses[0])) as session,
        ):
            report: dict[str, Any] = {"total": 0}
            while not report["total"]:
                report = await (await session.get("/sandbox/calls")).json()
        async with asyncio.timeout(PATIENCE):
            await runner.cleanup()
            await rest(reader)
        writer.close()


async def last_call_or_none(client: Client) -> dict[str, Any] | None:
    report = await (await client.get("/sandbox/calls")).json()
    return report["calls"][-1] if report["calls"] else None


async def no_connection_but_ours(client: Client) -> None:
    """Wait until all others are gone, and what was done for them is done."""
    await client.get("/sandbox/calls")
    async with asyncio.timeout(PATIENCE):
        while len(connections(client)) > 1:
            await client.get("/sandbox/calls")


def connections(client: Client) -> list[web.RequestHandler]:
    assert client.server.runner is not None
    assert client.server.runner.server is not None
    return client.server.runner.server.connections


class TestOtherAnswers:
    @pytest.mark.parametrize("status", [200, 204, 302, 304, 400, 401, 404, 422, 500, 502, 503, 599])
    async def test_a_status(self, client: Client, status: int) -> None:
        answer = await client.get(
            LIST, headers=asking("status", status=status), allow_redirects=False
        )
        assert answer.status == status
        body = await answer.read()
        if status in {204, 304}:
            assert body == b""
        else:
            assert isinstance(json.loads(body)["message"], str)
        assert (await client.get(LIST)).status == 200

    @pytest.mark.parametrize("status", [101, 102, 199])
    async def test_a_status_that_another_has_to_follow_is_the_last_word(
        self, client: Client, status: int
    ) -> None:
        heard = await hear(client, "GET", fault=json.dumps({"fault": "status", "status": status}))
        assert heard.data.startswith(f"HTTP/1.1 {status} ".encode())
        assert (heard.body, heard.end) == (b"", "FIN")

    async def test_a_status_with_everything(self, client: Client) -> None:
        fault = asking(
            "status",
            status=503,
            retry_after="Fri, 31 Dec 1999 23:59:59 GMT",
            body="<h1>Überlastet</h1>",
            content_type="text/html; charset=utf-8",
            applied=True,
        )
        answer = await client.post(LIST, data=NEW_MESSAGE, headers=fault)
        assert (answer.status, await answer.text()) == (503, "<h1>Überlastet</h1>")
        assert answer.headers["Retry-After"] == "Fri, 31 Dec 1999 23:59:59 GMT"
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert await applied(client) == (1, 0)

    async def test_html(self, client: Client) -> None:
        answer = await client.get(LIST, headers=asking("html"))
        assert (answer.status, answer.content_type) == (200, "text/html")
        assert (await answer.text()).startswith("<!DOCTYPE html>")
        assert (await client.get(LIST, headers=asking("html", status=503))).status == 503

    @pytest.mark.parametrize(("method", "path"), [("GET", LIST), ("DELETE", f"{LIST}/409")])
    async def test_malformed_json(self, client: Client, method: str, path: str) -> None:
        answer = await client.request(method, path, headers=asking("malformed-json"))
        assert (answer.status, answer.content_type) == (200, "application/json")
        with pytest.raises(json.JSONDecodeError):
            json.loads(await answer.read())

    @pytest.mark.parametrize(
        ("shape", "body"), [("list", []), ("object", {}), ("string", "OK"), ("null", None)]
    )
    async def test_a_wrong_shape(self, client: Client, shape: str, body: Any) -> None:
        answer = await client.get(LIST, headers=asking("wrong-shape", shape=shape))
        assert (answer.status, await answer.json()) == (200, body)

    @pytest.mark.parametrize(
        ("field", "values"),
        [
            ("id", ["403", "409"]),
            ("body", [29, 26]),
            ("send_me_a_copy", ["true", "true"]),
            ("event_type", [{}, {}]),
            ("recipients", ["none", "none"]),
        ],
    )
    async def test_a_wrong_type(self, client: Client, field: str, values: list[Any]) -> None:
        right = await (await client.get(LIST)).json()
        answer = await client.get(LIST, headers=asking("wrong-type", field=field))
        wrong = await answer.json()
        assert [message[field] for message in wrong["invoice_messages"]] == values
        for message, given in zip(right["invoice_messages"], values, strict=True):
            message[field] = given
        assert wrong == right

    async def test_a_wrong_type_of_the_envelope(self, client: Client) -> None:
        answer = await client.get(LIST, headers=asking("wrong-type", field="links"))
        assert (await answer.json())["links"] == []
        deleted = await client.delete(f"{LIST}/409", headers=asking("wrong-type"))
        assert (deleted.status, await deleted.read()) == (200, b"")

    @pytest.mark.parametrize("chunked", [True, False])
    @pytest.mark.parametrize(("method", "path"), [("GET", LIST), ("DELETE", f"{LIST}/409")])
    async def test_oversize(self, client: Client, chunked: bool, method: str, path: str) -> None:
        right = await (await client.get(LIST)).json()
        fault = asking("oversize", bytes=3_000_000, chunked=chunked)
        answer = await client.request(method, path, headers=fault)
        assert answer.headers.get("Content-Length") == (None if chunked else "3000000")
        body = await answer.read()
        assert (answer.status, len(body)) == (200, 3_000_000)
        padded = json.loads(body)
        assert set(padded.pop("padding")) == {"x"}
        assert padded == (right if method == "GET" else {})

    async def test_oversize_is_never_less_than_the_answer(self, client: Client) -> None:
        answer = await client.get(LIST, headers=asking("oversize", bytes=1))
        assert len((await answer.json())["invoice_messages"]) == 2

    async def test_a_client_may_leave_in_the_middle_of_too_much(self, client: Client) -> None:
        async with connected(client) as (reader, writer):
            writer.write(written("GET", fault='{"fault": "oversize", "bytes": 1000000000000}'))
            await reader.readexactly(1000)
        await no_connection_but_ours(client)

    async def test_a_cursor_that_leads_nowhere(self, client: Client) -> None:
        path = "/v2/invoices/4500/messages?per_page=10"
        first = await (await client.get(path, headers=asking("cursor-loop"))).json()
        assert first["links"]["next"] == str(client.make_url(path))
        second = await (await client.get(path)).json()
        following = second["links"]["next"].removeprefix(str(client.make_url("")).rstrip("/"))
        again = await (await client.get(following, headers=asking("cursor-loop"))).json()
        assert again["links"]["next"] == second["links"]["next"]
        assert again["invoice_messages"] != first["invoice_messages"]

    @pytest.mark.parametrize(
        ("method", "path"), [("GET", f"{LIST}/new"), ("DELETE", f"{LIST}/409")]
    )
    async def test_what_is_no_list_has_no_cursor(
        self, client: Client, method: str, path: str
    ) -> None:
        answer = await client.request(method, path, headers=asking("cursor-loop"))
        assert answer.status == 200
        assert b"links" not in await answer.read()

    async def test_throttled(self, client: Client, clock: Clock) -> None:
        answer = await client.get(LIST, headers=asking("throttle", retry_after=7))
        assert (answer.status, answer.headers["Retry-After"]) == (429, "7")
        assert await answer.json() == {"message": "Too many requests"}
        limit = {"fault": "throttle", "calls": 1, "seconds": 20}
        await client.post("/sandbox/faults", json=limit)
        assert (await client.get(LIST)).status == 200
        clock.advance(2)
        refused = await client.get(LIST)
        assert (refused.status, refused.headers["Retry-After"]) == (429, "18")

    @pytest.mark.parametrize("chunked", [True, False])
    async def test_too_much_is_only_announced_to_head(self, client: Client, chunked: bool) -> None:
        fault = json.dumps({"fault": "oversize", "bytes": 5000, "chunked": chunked})
        async with connected(client) as (reader, writer):
            writer.write(written("HEAD", fault=fault) + written("HEAD", fault="close"))
            heard = await rest(reader)
        assert (heard.content_length, heard.body) == (5000, b"")

    @pytest.mark.parametrize(
        "fault", ["truncate", '{"fault": "trickle", "bytes": 90, "seconds": 0}']
    )
    async def test_an_answer_to_head_has_no_body(self, client: Client, fault: str) -> None:
        heard = await hear(client, "HEAD", fault=fault)
        assert (heard.body, heard.end) == (b"", "FIN")


class TestApplied:
    @pytest.mark.parametrize("name", [name for name in FAULTS if name != "hang"])
    async def test_unless_told_a_write_is_applied_where_only_the_answer_is_spoilt(
        self, client: Client, name: str
    ) -> None:
        fault = asking(name, **NEEDED.get(name, {}))
        await attempted(client, fault)
        assert await applied(client) == (int(name not in NOT_APPLIED), 0)

    @pytest.mark.parametrize("apply", [False, True])
    @pytest.mark.parametrize(
        "name",
        [name for name in FAULTS if name not in {"hang", "delay", "cursor-loop", "throttle"}],
    )
    async def test_it_can_be_told(self, client: Client, name: str, apply: bool) -> None:
        await attempted(client, asking(name, applied=apply, **NEEDED.get(name, {})))
        assert await applied(client) == (int(apply), 0)

    async def test_a_write_that_v2_refuses_is_not(self, client: Client) -> None:
        answer = await client.post(LIST, data=b"{}", headers=asking("oversize", bytes=2000))
        assert answer.status == 422
        assert await applied(client) == (0, 0)


NOT_APPLIED = {"reset", "close", "status", "throttle", "not-http"}


async def attempted(client: Client, fault: Mapping[str, str]) -> None:
    """Make a write, whatever comes of it."""
    with contextlib.suppress(aiohttp.ClientError):
        await (await client.post(LIST, data=NEW_MESSAGE, headers=fault)).read()


class TestTenants:
    async def test_one_account_hangs_while_the_other_is_served(self, client: Client) -> None:
        await client.post(
            "/sandbox/faults", json={"fault": "reset", "account_id": SANDBOX_SECOND_ACCOUNT_ID}
        )
        second = {
            "Authorization": f"Bearer {SANDBOX_SECOND_TOKEN}",
            "Harvest-Account-Id": str(SANDBOX_SECOND_ACCOUNT_ID),
        }
        path = f"/v2/invoices/{SECOND_INVOICE_ID}/messages"
        with pytest.raises(aiohttp.ClientOSError):
            await client.get(path, headers=second)
        assert (await client.get(LIST)).status == 200
        await client.delete("/sandbox/faults")
        listed = await (await client.get(path, headers=second)).json()
        assert listed["total_entries"] == 1


async def test_a_run_of_random_faults_repeats_and_what_was_applied_is_listed(
    client: Client,
) -> None:
    rules: list[dict[str, Any]] = [
        {"fault": "reset", "applied": True},
        {"fault": "reset", "at": "body"},
        {"fault": "close", "at": "head", "applied": True},
        {"fault": "truncate"},
        {"fault": "status", "status": 503},
        {"fault": "not-http"},
    ]
    random = [{**rule, "method": "POST", "probability": 0.15} for rule in rules]
    await client.post("/sandbox/faults", json=random)
    runs = []
    for _ in range(2):
        await client.post("/sandbox/seed", json={"seed": 11})
        await client.delete("/sandbox/calls")
        before = (await (await client.get(LIST)).json())["total_entries"]
        for _ in range(60):
            await attempted(client, {})
        after = (await (await client.get(LIST)).json())["total_entries"]
        report = await (await client.get("/sandbox/calls")).json()
        runs.append([(call["fault"], call["status"]) for call in report["calls"]])
        assert report["by_method"]["POST"] == 60
        assert report["applied"]["created"] == after - before
    assert runs[0] == runs[1]
    assert len(set(runs[0])) > 5


async def test_a_body_that_is_too_large_is_refused_as_ever(client: Client) -> None:
    body = BytesIO(b"x" * 2_000_000)
    answer = await client.post(LIST, data=body, headers=asking("reset"))
    assert answer.status == 413
    assert (await last_call(client))["status"] == 413


async def test_a_fault_that_is_none_is_400_and_the_call_is_not_served(client: Client) -> None:
    answer = await client.post(LIST, data=NEW_MESSAGE, headers={"Sandbox-Fault": "rest"})
    assert answer.status == 400
    assert "`fault` must be one of" in (await answer.json())["message"]
    assert await applied(client) == (0, 0)
