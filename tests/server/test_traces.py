"""Traces: what a collector is told over a socket, and that no call depends on one."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from typer.testing import CliRunner

from bridge import cli
from bridge.server import traces
from bridge.server.service import CannotTrace
from bridge.settings import Traces
from bridge.upstream.sharing import Worker
from tests.support.clocks import until
from tests.support.collector import Collector, collecting
from tests.support.held_upstream import running_held_upstream
from tests.support.logged import logging
from tests.support.running import running_bridge, running_service
from tests.support.upstream import Reply, ScriptedUpstream, message, page
from tests.support.writing import hello, posting

LIST = "/invoice/1420/messages"
ROUTE = "/invoice/{invoice_id}/messages"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
CHILD_OF = {"traceparent": TRACEPARENT, "tracestate": "acme=1"}
ON = {"traces": Traces.OTLP}


@pytest.fixture
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    async with collecting(monkeypatch) as collector:
        yield collector


async def one_read(upstream: ScriptedUpstream, *says: Any, path: str = LIST, **options: Any) -> int:
    """Make a call on a bridge with traces, which has ended with all of its spans afterwards."""
    upstream.says(*(says or (page(message()),)))
    async with running_bridge(upstream.base_url, **ON) as client:
        return (await client.call(options.pop("method", "GET"), path, **options)).status


class TestALegacyCall:
    async def test_is_one_server_span_by_the_conventions_of_http(
        self, upstream: ScriptedUpstream, collector: Collector
    ) -> None:
        agent = {"User-Agent": "PHP/5.3", "X-Request-Id": "r-1"}
        assert await one_read(upstream, headers=agent) == 200

        span = collector.only("SERVER")
        assert (span.name, span.parent, span.failed) == (f"GET {ROUTE}", "", False)
        told = span.attributes
        assert told.pop("harvest_bridge.integration")
        assert told == {
            "http.request.method": "GET",
            "http.route": ROUTE,
            "http.response.status_code": 200,
            "url.path": ROUTE,
            "url.scheme": "http",
            "network.protocol.version": "1.1",
            "server.address": "127.0.0.1",
            "client.address": "127.0.0.1",
            "user_agent.original": "PHP/5.3",
            "harvest_bridge.request_id": "r-1",
            "harvest_bridge.account_id": 1000,
            "harvest_bridge.dialect": "classic",
            "harvest_bridge.outcome": "served",
            "harvest_bridge.notes": ["field-lost"],
        }
        assert collector.resource["service.name"] == "harvest-bridge"

    async def test_goes_on_with_the_trace_of_its_client(
        self, upstream: ScriptedUpstream, collector: Collector
    ) -> None:
        await one_read(upstream, headers=CHILD_OF)

        server = collector.only("SERVER")
        assert (server.trace, server.parent) == (TRACE, PARENT)

    @pytest.mark.parametrize("nonsense", ["", "00", "0" * 600, "ü", f"00-{'0' * 32}-{PARENT}-01"])
    async def test_begins_a_trace_where_its_client_tells_of_none(
        self, upstream: ScriptedUpstream, collector: Collector, nonsense: str
    ) -> None:
        with logging() as log:
            await one_read(upstream, headers={"traceparent": nonsense, "tracestate": "=" * 600})

        assert collector.only("SERVER").parent == ""
        assert "opentelemetry" not in log.getvalue()
        assert "exceeded" not in log.getvalue()

    @pytest.mark.parametrize(
        ("reply", "status", "failed"),
        [
            (Reply(b"{}", 404), 404, None),
            (Reply(b'{"message": "No"}', 422), 400, None),
            (Reply(b"", 500), 502, "UpstreamRefusal"),
            (Reply(b"<html>"), 502, "UpstreamFault"),
        ],
    )
    async def test_has_failed_where_its_answer_is_a_5xx(
        self,
        upstream: ScriptedUpstream,
        collector: Collector,
        reply: Reply,
        status: int,
        failed: str | None,
    ) -> None:
        assert await one_read(upstream, reply) == status

        span = collector.only("SERVER")
        assert span.failed is (failed is not None)
        assert span.attributes.get("error.type") == failed

    async def test_has_no_name_or_path_that_its_client_made_up(
        self, upstream: ScriptedUpstream, collector: Collector
    ) -> None:
        await one_read(upstream, method="PROPFIND", path="/qk1/%71k2/qk%40x.org?qkquery=qkvalue")

        span = collector.only("SERVER")
        assert span.name == "HTTP"
        assert span.attributes["http.request.method"] == "_OTHER"
        assert b"qk" not in collector.received.lower()


class TestAV2Call:
    async def test_is_a_client_span_within_its_legacy_calls(
        self, upstream: ScriptedUpstream, collector: Collector
    ) -> None:
        await one_read(upstream, headers=CHILD_OF)

        server, span = collector.only("SERVER"), collector.only("CLIENT")
        assert (span.trace, span.parent) == (TRACE, server.id)
        assert (span.name, span.failed) == ("GET", False)
        base = upstream.base_url
        assert span.attributes == {
            "http.request.method": "GET",
            "http.response.status_code": 200,
            "url.full": f"{base}/invoices/1420/messages",
            "server.address": "127.0.0.1",
            "server.port": int(base.rpartition(":")[2].removesuffix("/v2")),
        }

    async def test_tells_v2_of_the_trace(
        self, upstream: ScriptedUpstream, collector: Collector
    ) -> None:
        await one_read(upstream, headers=CHILD_OF)

        (received,) = upstream.received
        span = collector.only("CLIENT")
        assert received.headers["traceparent"] == f"00-{TRACE}-{span.id}-01"
        assert received.headers["tracestate"] == "acme=1"

    async def test_that_is_tried_again_is_a_span_each_time(
        self, upstream: ScriptedUpstream, collector: Collector
    ) -> None:
        assert await one_read(upstream, Reply(b"", 503), page(message())) == 200

        first, second = collector.all("CLIENT")
        assert (first.failed, first.attributes["error.type"]) == (True, "503")
        assert "http.request.resend_count" not in first.attributes
        assert (second.failed, second.attributes["http.request.resend_count"]) == (False, 1)

    async def test_without_an_answer_has_failed_by_its_class(
        self, upstream: ScriptedUpstream, collector: Collector, unused_tcp_port: int
    ) -> None:
        upstream.base_url = f"http://127.0.0.1:{unused_tcp_port}/v2"
        assert await one_read(upstream) == 502

        span = collector.all("CLIENT")[0]
        assert (span.failed, span.attributes["error.type"]) == (True, "UpstreamUnreachable")

    async def test_of_a_write_is_one_as_well(
        self, upstream: ScriptedUpstream, collector: Collector
    ) -> None:
        upstream.says(Reply(json.dumps(hello()).encode(), 201))
        async with running_bridge(upstream.base_url, **ON) as client:
            assert (await posting(client)).status == 201

        assert collector.only("CLIENT").attributes["http.request.method"] == "POST"


async def test_calls_that_ask_the_same_are_linked_to_the_one_that_is_made(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed: list[Worker] = []
    follow = Worker.follow

    def count(worker: Worker) -> None:
        followed.append(worker)
        follow(worker)

    monkeypatch.setattr(Worker, "follow", count)
    async with (
        running_held_upstream() as held,
        running_bridge(held.base_url, **ON) as client,
    ):
        first = asyncio.create_task(client.get(LIST))
        call = await held.next()
        same = asyncio.create_task(client.get(LIST))
        of_it = asyncio.create_task(client.get(f"{LIST}/{hello()['id']}"))
        await until(lambda: len(followed) == 2)
        call.answer(page(hello()))
        assert [(await each).status for each in (first, same, of_it)] == [200, 200, 200]
        assert len(held.calls) == 1

    made, waited = collector.only("CLIENT"), collector.only("INTERNAL")
    by_id = {span.id: span for span in collector.all("SERVER")}
    maker = by_id.pop(made.parent)
    assert waited.links == (made.id,)
    assert by_id.pop(waited.parent).name == f"GET {ROUTE}/{{message_id}}"
    (sharer,) = by_id.values()
    assert sharer.links == (maker.id,)


class TestSecrets:
    async def test_are_in_no_span(self, upstream: ScriptedUpstream, collector: Collector) -> None:
        reply = Reply(json.dumps(hello(subject="qksubject", body="qkbody")).encode(), 201)
        upstream.says(reply)
        secret = aiohttp.encode_basic_auth("qklogin@example.com", "qktoken")
        xml = "<invoice-message><subject>qksubject</subject><body>qkbody</body><recipients>qk@x.org</recipients></invoice-message>"
        async with running_bridge(upstream.base_url, **ON) as client:
            answers = [
                await client.call(
                    "POST",
                    f"{LIST}?qkname=qkvalue",
                    authorization=secret,
                    body=xml,
                    headers={"Content-Type": "text/xml", "Cookie": "qk=1"},
                ),
                await client.get(f"{LIST}?access_token=qktoken", authorization=None),
                await client.get("/qk1?qk=qk", authorization=secret),
            ]
        assert answers[0].status == 201
        assert collector.received
        assert b"qk" not in collector.received


async def test_without_traces_v2_is_told_of_none(upstream: ScriptedUpstream) -> None:
    upstream.says(page(message()))
    async with running_bridge(upstream.base_url) as client:
        await client.get(LIST, headers=CHILD_OF)

    (received,) = upstream.received
    assert not {"traceparent", "tracestate"} & {name.lower() for name in received.headers}


class TestACollector:
    @pytest.fixture(autouse=True)
    def hurry(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
        monkeypatch.setattr(traces, "_LAST_SPANS", 0.05)

    async def test_that_is_down_keeps_no_call_waiting(
        self, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
    ) -> None:
        url = f"http://127.0.0.1:{unused_tcp_port}"
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        assert await one_read(upstream) == 200

    async def test_that_never_answers_keeps_neither_calls_nor_the_stop_waiting(
        self, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = asyncio.Event()

        async def hang(_request: web.Request) -> web.StreamResponse:
            asked.set()
            await asyncio.Event().wait()
            raise AssertionError

        upstream.says(page(message()))
        async with (
            collecting(monkeypatch, hang),
            running_bridge(upstream.base_url, **ON) as client,
        ):
            assert (await client.get(LIST)).status == 200
            await asked.wait()
            assert (await client.get(LIST)).status == 200

    async def test_that_answers_nonsense_harms_no_call(
        self, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = asyncio.Event()

        async def garble(_request: web.Request) -> web.StreamResponse:
            asked.set()
            return web.Response(status=418, body=b"\x00\xff<html>")

        upstream.says(page(message()))
        async with (
            collecting(monkeypatch, garble),
            running_bridge(upstream.base_url, **ON) as client,
        ):
            assert (await client.get(LIST)).status == 200
            await asked.wait()
            assert (await client.get(LIST)).status == 200


class TestWhatMakesNoSense:
    async def test_is_said_of_an_otel_variable(
        self, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1000000")
        with pytest.raises(CannotTrace, match="traces: an OTEL_ variable makes no sense: max_ex"):
            async with running_service(upstream.base_url, account_id=1000, **ON):
                pass

    def test_is_one_line_where_the_extra_is_not_installed(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.delitem(sys.modules, "bridge.server.traces", raising=False)
        monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
        flags = "--auth bearer --account-id 1000 --contact tests@example.com --traces otlp"
        options = f"--port 0 --admin-port 0 --upstream http://127.0.0.1:9/v2 {flags}"
        done = CliRunner().invoke(cli.app, ["serve", *options.split()])

        assert done.exit_code == 2
        (line,) = (each for each in done.output.splitlines() if "traces" in each)
        assert "pip install 'harvest-bridge[traces]'" in line
