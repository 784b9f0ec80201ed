"""v2 handing over what its documentation does not allow, over real sockets.

Each case gets its status and a valid body, and nothing of a half-read answer leaves.
"""

import json
import threading
from typing import Any

import pytest

from bridge.v1.writer import Writer
from tests.support.legacy import LegacyClient, assert_valid
from tests.support.running import running_bridge
from tests.support.upstream import (
    Reply,
    ScriptedUpstream,
    message,
    page,
    running_raw_upstream,
)

LIST = "/invoices/7/messages"
SHOW = "/invoices/7/messages/27835209"

BROKEN_BODIES = [
    pytest.param(b"", id="empty"),
    pytest.param(b"<html><body>Maintenance</body></html>", id="HTML"),
    pytest.param(json.dumps(page(message())).encode()[:-40], id="truncated JSON"),
    pytest.param(json.dumps(page(message())).encode() + b"{}", id="more after the end"),
    pytest.param(b"[" * 100_000, id="deep nesting"),
    pytest.param(b"null", id="null"),
    pytest.param(b"[]", id="an array"),
    pytest.param(b"{}", id="no members"),
    pytest.param(json.dumps({"invoice_messages": []}).encode(), id="no links"),
    pytest.param(json.dumps({**page(), "links": {}}).encode(), id="no links.next"),
    pytest.param(json.dumps({**page(), "invoice_messages": None}).encode(), id="null items"),
    pytest.param(json.dumps({**page(), "invoice_messages": {}}).encode(), id="items no array"),
    pytest.param(json.dumps({**page(), "links": {"next": 2}}).encode(), id="links.next no string"),
]


@pytest.mark.parametrize("body", BROKEN_BODIES)
@pytest.mark.parametrize("path", [LIST, SHOW])
async def test_a_page_that_is_none_is_502(
    upstream: ScriptedUpstream, scripted_bridge: LegacyClient, path: str, body: bytes
) -> None:
    upstream.says(body)

    answer = await scripted_bridge.get(path)

    assert answer.status == 502
    assert answer.errors == ["Harvest's answer could not be understood."]


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"id": None}, id="null id"),
        pytest.param({"id": "27835209"}, id="id a string"),
        pytest.param({"id": 0}, id="id zero"),
        pytest.param({"id": -1}, id="id negative"),
        pytest.param({"id": 2**63}, id="id of 65 bits"),
        pytest.param({"id": 1.5}, id="id a fraction"),
        pytest.param({"body": 5}, id="body a number"),
        pytest.param({"body": ["a"]}, id="body an array"),
        pytest.param({"send_me_a_copy": "true"}, id="boolean a string"),
        pytest.param({"send_me_a_copy": 1}, id="boolean a number"),
        pytest.param({"created_at": "yesterday"}, id="no time"),
        pytest.param({"created_at": "2017-02-30T00:00:00Z"}, id="no such day"),
        pytest.param({"created_at": 1503526506}, id="time a number"),
        pytest.param({"created_at": "0001-01-01T00:00:00+05:00"}, id="time before year 1"),
        pytest.param({"send_reminder_on": "soon"}, id="no date"),
        pytest.param({"recipients": {}}, id="recipients no array"),
        pytest.param({"recipients": ["a@b.org"]}, id="recipient a string"),
        pytest.param({"recipients": [{"name": 1, "email": "a@b.org"}]}, id="name a number"),
    ],
)
async def test_one_message_of_the_wrong_type_is_502_for_its_list(
    upstream: ScriptedUpstream, scripted_bridge: LegacyClient, fields: dict[str, Any]
) -> None:
    upstream.says(page(*[message(id=1)] * 50, message(**fields)))

    answer = await scripted_bridge.get(LIST)

    assert answer.status == 502
    assert answer.errors


async def test_another_message_of_the_wrong_type_does_not_hide_the_one_asked_for(
    upstream: ScriptedUpstream, scripted_bridge: LegacyClient
) -> None:
    upstream.says(page(message(id=1, body=5), message(id=2)))

    assert (await scripted_bridge.get("/invoice/7/messages/2")).texts("id") == ["2"]


async def test_the_bytes_of_another_encoding_are_502(
    upstream: ScriptedUpstream, scripted_bridge: LegacyClient
) -> None:
    body = json.dumps(page(message(body="naïve")), ensure_ascii=False)
    upstream.says(body.encode("iso-8859-1"))

    assert (await scripted_bridge.get(LIST)).status == 502


async def test_a_recipient_without_an_address_is_left_out(
    upstream: ScriptedUpstream, scripted_bridge: LegacyClient
) -> None:
    recipients = [{"name": "Ghost", "email": None}, {"name": "Jane", "email": "jane@doe.org"}]
    upstream.says(page(message(recipients=recipients)))

    answer = await scripted_bridge.get(LIST)

    assert answer.texts("full-recipient-list") == ['"Jane" <jane@doe.org>']


class TestPaging:
    async def test_the_next_page_is_asked_with_the_query_of_the_link_as_it_is(
        self, upstream: ScriptedUpstream, scripted_bridge: LegacyClient
    ) -> None:
        link = f"{upstream.base_url}/invoices/7/messages?cursor=a%2Fb%3D%3D&per_page=2000"
        upstream.says(page(message(id=2), following=link), page(message(id=1)))

        answer = await scripted_bridge.get(LIST)

        assert answer.texts("id") == ["2", "1"]
        assert [call.query for call in upstream.received] == [
            "per_page=2000",
            "cursor=a%2Fb%3D%3D&per_page=2000",
        ]

    @pytest.mark.parametrize(
        "link",
        [
            "http://evil.example/v2/invoices/7/messages?cursor=2",
            "http://127.0.0.1:1/v2/invoices/7/messages?cursor=2",
            "{base}/invoices/8/messages?cursor=2",
            "{base}/invoices/7/messages/../../../users?cursor=2",
            "//evil.example/v2/invoices/7/messages?cursor=2",
            "http://[/v2?cursor=2",
            "http://127.0.0.1:99999/v2/invoices/7/messages?cursor=2",
            "{base}/invoices/7/messages",
            "{base}/invoices/7/messages?cursor=2 HTTP/1.1\r\nX: y",
            "{base}/invoices/7/messages?cursor=ü",
            "",
        ],
    )
    async def test_a_link_to_anywhere_else_is_502_and_not_followed(
        self, upstream: ScriptedUpstream, scripted_bridge: LegacyClient, link: str
    ) -> None:
        upstream.says(page(message(), following=link.format(base=upstream.base_url)))

        answer = await scripted_bridge.get(LIST)

        assert answer.status == 502
        assert answer.errors
        assert len(upstream.received) == 1

    async def test_the_two_spellings_of_the_vendors_path_are_one(
        self, upstream: ScriptedUpstream, scripted_bridge: LegacyClient
    ) -> None:
        link = upstream.base_url.replace("/v2", "/api/v2") + "/invoices/7/messages?cursor=2"
        upstream.says(page(message(id=2), following=link), page(message(id=1)))

        assert (await scripted_bridge.get(LIST)).texts("id") == ["2", "1"]
        assert upstream.received[1].path == "/v2/invoices/7/messages"

    @pytest.mark.parametrize(
        "cursors", [("a", "a"), ("a", "b", "a")], ids=["at once", "after a while"]
    )
    async def test_a_repeated_cursor_is_502(
        self, upstream: ScriptedUpstream, scripted_bridge: LegacyClient, cursors: tuple[str, ...]
    ) -> None:
        links = [f"{upstream.base_url}/invoices/7/messages?cursor={each}" for each in cursors]
        upstream.says(*[page(message(), following=link) for link in links])

        answer = await scripted_bridge.get(LIST)

        assert answer.status == 502
        assert len(upstream.received) == len(cursors)

    async def test_too_many_pages_are_502(self, upstream: ScriptedUpstream) -> None:
        links = [f"{upstream.base_url}/invoices/7/messages?cursor={each}" for each in range(5)]
        upstream.says(*[page(message(), following=link) for link in links])
        async with running_bridge(upstream.base_url, page_limit=3) as client:
            answer = await client.get(LIST)

        assert answer.status == 502
        assert len(upstream.received) == 3

    async def test_a_failure_on_a_later_page_leaves_nothing_of_the_first(
        self, upstream: ScriptedUpstream, scripted_bridge: LegacyClient
    ) -> None:
        link = f"{upstream.base_url}/invoices/7/messages?cursor=2"
        upstream.says(page(message(), following=link), Reply(b"", 500))

        answer = await scripted_bridge.get(LIST)

        assert answer.status == 502
        assert answer.errors == ["Harvest failed."]


class TestConnection:
    async def test_refused_is_502(self) -> None:
        async with running_bridge("http://127.0.0.1:1/v2") as client:
            answer = await client.get(LIST)

        assert answer.status == 502
        assert answer.errors == ["Harvest could not be reached."]

    @pytest.mark.parametrize(
        ("reply", "status"),
        [
            pytest.param(b"", 502, id="closed before the head"),
            pytest.param(b"HTTP/1.1 200", 502, id="closed in the head"),
            pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", 502, id="in the body"),
            pytest.param(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{", 502, id="in a chunk"
            ),
            pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", 502, id="not HTTP"),
            pytest.param(
                b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope",
                502,
                id="not gzip",
            ),
        ],
    )
    async def test_broken_connections(self, reply: bytes, status: int) -> None:
        async with (
            running_raw_upstream(reply) as base_url,
            running_bridge(base_url) as client,
        ):
            answer = await client.get(LIST)

        assert answer.status == status
        assert answer.errors

    @pytest.mark.parametrize(
        "reply",
        [
            pytest.param(b"", id="before the head"),
            pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", id="in the body"),
        ],
    )
    async def test_too_slow_is_504(self, reply: bytes) -> None:
        async with (
            running_raw_upstream(reply, hang=True) as base_url,
            running_bridge(base_url, call_timeout=0.1) as client,
        ):
            answer = await client.get(LIST)

        assert answer.status == 504
        assert answer.errors == ["Harvest took too long to answer."]

    async def test_an_answer_over_the_limit_is_502(self, upstream: ScriptedUpstream) -> None:
        upstream.says(page(*[message()] * 100))
        async with running_bridge(upstream.base_url, upstream_body_limit=10_000) as client:
            answer = await client.get(LIST)

        assert answer.status == 502
        assert answer.errors


class TestTime:
    async def test_an_answer_that_takes_too_long_to_tell_is_504_when_the_time_is_up(
        self, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        may_end = threading.Event()
        write = Writer.write

        def held(*told: Any) -> bytes:
            may_end.wait(10)
            return write(*told)

        monkeypatch.setattr(Writer, "write", held)
        upstream.says(page(*[message()] * 200))  # so long that a thread translates it
        try:
            async with running_bridge(upstream.base_url, call_timeout=0.3) as client:
                answer = await client.get(LIST)
                may_end.set()
        finally:
            may_end.set()

        assert answer.status == 504
        assert answer.errors == ["Harvest took too long to answer."]


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Reply(b'{"message": "' + b"a" * 10**6 + b'"}', 400), id="refusal"),
        pytest.param(page(*[{"id": 10**9}] * 200_001), id="items"),
        pytest.param(page(message(recipients=[{"name": ""}] * 200_001)), id="recipients"),
    ],
)
async def test_what_is_too_much_is_refused_before_it_is_worked_on(
    upstream: ScriptedUpstream,
    scripted_bridge: LegacyClient,
    monkeypatch: pytest.MonkeyPatch,
    reply: Any,
) -> None:
    """No text of such an answer is written, joined, escaped or validated."""
    written: list[object] = []

    def write(*told: object) -> bytes:
        written.append(told)
        return b""

    monkeypatch.setattr(Writer, "write", write)
    upstream.says(reply)

    answer = await scripted_bridge.get(LIST)

    assert answer.status in {400, 502}
    assert len(answer.errors[0]) < 100
    assert not written


async def test_everything_at_once_is_still_valid(
    upstream: ScriptedUpstream, scripted_bridge: LegacyClient
) -> None:
    odd = message(
        body="\x00\ud800\r\n]]>",
        subject=None,
        sent_by="<&>",
        created_at="1999-12-31T23:59:59.999-14:00",
        recipients=[{"name": 'Jo "the\r\nboss"', "email": "jo@example.com"}],
        colour="blue",
    )
    upstream.says(page(*[odd] * 45))
    for path, schema in [(LIST, "final-list"), ("/invoice/7/messages", "classic-list")]:
        answer = await scripted_bridge.get(path)

        assert_valid(answer.body, f"invoice-messages/{schema}")
        assert len(answer.xml) == 45
