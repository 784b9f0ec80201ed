"""What the log tells of how a call was served: its v2 calls, problems, losses, sizes (docs/log.md)."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bridge.v1.problems import Problem
from tests.support.legacy import BASIC, LegacyClient
from tests.support.logged import Logged
from tests.support.running import running_bridge
from tests.support.upstream import Reply, ScriptedUpstream, message, page
from tests.support.writing import HELLO, SEND, hello, posting

LIST = "/invoice/7/messages"
PAYMENTS = "/invoice/7/payments"
XML = {"Content-Type": "application/xml"}


@pytest.fixture
async def bridge(log: Logged, upstream: ScriptedUpstream) -> AsyncIterator[LegacyClient]:
    async with running_bridge(upstream.base_url) as client:
        yield client


def call(log: Logged) -> dict[str, Any]:
    (line,) = log.lines("legacy_call")
    return line


class TestV2Calls:
    async def test_each_page_of_a_list_has_its_number(
        self, log: Logged, bridge: LegacyClient, upstream: ScriptedUpstream
    ) -> None:
        more = f"{upstream.base_url}/invoices/7/messages?cursor=abc"
        upstream.says(
            {**page(message()), "links": {"next": more}}, Reply(b"", 502), page(message(id=2))
        )

        assert (await bridge.get(LIST)).status == 200

        told = [(each["route"], each["page"], each["status"]) for each in call(log)["upstream"]]
        route = "/invoices/{invoice_id}/messages"
        assert told == [(route, 1, 200), (route, 2, 502), (route, 2, 200)]

    async def test_what_is_no_list_has_no_page(
        self, log: Logged, bridge: LegacyClient, upstream: ScriptedUpstream
    ) -> None:
        upstream.says(Reply())

        await bridge.call("DELETE", f"{LIST}/409")

        (deleting,) = call(log)["upstream"]
        assert deleting["route"] == "/invoices/{invoice_id}/messages/{message_id}"
        assert "page" not in deleting

    @pytest.mark.parametrize(
        ("path", "event"), [(f"{LIST}/re_open", "re-open"), (f"{LIST}/mark_as_sent", "send")]
    )
    async def test_a_change_of_state_names_its_event(
        self,
        log: Logged,
        bridge: LegacyClient,
        upstream: ScriptedUpstream,
        path: str,
        event: str,
    ) -> None:
        upstream.says(Reply(json.dumps(message()).encode(), 201))

        await bridge.call("POST", path, headers=XML)

        assert [each["event"] for each in call(log)["upstream"]] == [event]

    async def test_the_time_in_v2_is_that_of_its_calls(
        self, log: Logged, bridge: LegacyClient, upstream: ScriptedUpstream
    ) -> None:
        upstream.says(page(message()))

        await bridge.get(LIST)

        line = call(log)
        (asking,) = line["upstream"]
        assert line["v2_milliseconds"] == asking["milliseconds"] <= line["milliseconds"]


class TestProblems:
    @pytest.mark.parametrize(
        ("body", "problem"),
        [
            ("", Problem.EMPTY_BODY),
            ("<invoice-message>", Problem.MALFORMED_XML),
            ("<!DOCTYPE a><invoice-message/>", Problem.DTD),
            ("<message/>", Problem.WRONG_ROOT),
            (HELLO.decode().replace("<body>", "<body>1</body><body>"), Problem.GIVEN_TWICE),
            ("<invoice-message><body><b/></body></invoice-message>", Problem.NOT_TEXT),
            (
                "<invoice-message><thank-you>yes</thank-you></invoice-message>",
                Problem.BAD_BOOLEAN,
            ),
            (
                "<invoice-message><recipients>Jane</recipients></invoice-message>",
                Problem.BAD_RECIPIENT,
            ),
            (f"<invoice-message>{'<a/>' * 201}</invoice-message>", Problem.TOO_MUCH),
            (b"<invoice-message><body>\xff</body></invoice-message>", Problem.BAD_ENCODING),
        ],
    )
    async def test_of_a_message(
        self, log: Logged, bridge: LegacyClient, body: str | bytes, problem: Problem
    ) -> None:
        answer = await bridge.call("POST", LIST, headers=XML, body=body)

        assert (answer.status, call(log)["problem"]) == (400, problem)
        assert call(log).get("bytes_in", 0) == len(body)

    @pytest.mark.parametrize(
        ("elements", "problem"),
        [
            ("", Problem.MISSING_ELEMENT),
            ("<amount>1,200</amount>", Problem.BAD_NUMBER),
            ("<amount>1</amount><paid-at>today</paid-at>", Problem.BAD_TIME),
        ],
    )
    async def test_of_a_payment(
        self, log: Logged, bridge: LegacyClient, elements: str, problem: Problem
    ) -> None:
        body = f"<payment>{elements}</payment>"

        await bridge.call("POST", PAYMENTS, headers=XML, body=body)

        assert call(log)["problem"] == problem

    @pytest.mark.parametrize(
        ("head", "problem"),
        [
            (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", Problem.HTTP_VERSION),
            (
                b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
                Problem.TRANSFER_CODING,
            ),
        ],
    )
    async def test_of_a_head(
        self, log: Logged, bridge: LegacyClient, head: bytes, problem: Problem
    ) -> None:
        await bridge.raw(head)

        assert (call(log)["status"], call(log)["problem"]) == (400, problem)
        assert call(log)["address"] == "127.0.0.1"
        assert call(log)["http"] == ("2.0" if problem is Problem.HTTP_VERSION else "1.1")

    @pytest.mark.parametrize("status", [400, 422])
    async def test_that_v2_has(
        self, log: Logged, bridge: LegacyClient, upstream: ScriptedUpstream, status: int
    ) -> None:
        """Its words quote what it was sent."""
        upstream.says(Reply(b'{"message": "Subject \\"sesame\\" is too long"}', status))

        await bridge.call("POST", LIST, headers=XML, body=HELLO)

        assert call(log)["problem"] == Problem.REFUSED_BY_V2
        assert "sesame" not in log.getvalue()


class TestLosses:
    @pytest.mark.parametrize("path", [LIST, "/invoices/7/messages"])
    async def test_what_v2_says_and_v1_cannot_is_counted(
        self, log: Logged, bridge: LegacyClient, upstream: ScriptedUpstream, path: str
    ) -> None:
        upstream.says(
            page(
                message(attach_pdf=True, event_type="send", reminder=False),
                message(attach_pdf=True, event_type=None, reminder=False),
                message(attach_pdf=False, event_type="", reminder={"odd": [1]}),
            )
        )
        for _ in range(2):  # the second time, the same translation is told again
            assert (await bridge.get(path)).status == 200

        for line in log.lines("legacy_call"):
            assert [(note["code"], note["subject"], note["count"]) for note in line["notes"]] == [
                ("field-lost", "attach_pdf", 2),
                ("field-lost", "event_type", 1),
                ("field-lost", "reminder", 1),
            ]

    async def test_where_nothing_is_lost_nothing_is_noted(
        self, log: Logged, bridge: LegacyClient, upstream: ScriptedUpstream
    ) -> None:
        told = message()
        for field in ("attach_pdf", "event_type", "reminder"):
            told.pop(field, None)
        upstream.says(page(told, {**told, "attach_pdf": False, "event_type": None}))

        await bridge.get(LIST)

        assert call(log)["notes"] == []

    async def test_of_a_payment(
        self, log: Logged, bridge: LegacyClient, upstream: ScriptedUpstream
    ) -> None:
        paid = [
            {"id": 1, "amount": 5, "payment_gateway": {"id": 2, "name": "Stripe"}},
            {"id": 2, "amount": 5, "payment_gateway": {"id": None, "name": None}},
            {"id": 3, "amount": 5, "payment_gateway": None},
        ]
        upstream.says({"invoice_payments": paid, "links": {"next": None}})

        assert (await bridge.get("/invoices/7/payments")).status == 200

        assert call(log)["notes"] == [
            {"code": "field-lost", "subject": "payment_gateway.name", "count": 1}
        ]


@pytest.mark.parametrize(
    ("path", "format_"), [("/account/rate_limit_status.json", "json"), (LIST, None)]
)
async def test_an_answer_that_is_not_xml_names_its_format(
    log: Logged,
    bridge: LegacyClient,
    upstream: ScriptedUpstream,
    path: str,
    format_: str | None,
) -> None:
    upstream.says(page(message()))

    assert (await bridge.get(path)).status == 200

    assert call(log).get("format") == format_


class TestSizes:
    async def test_are_those_of_the_bodies(
        self, log: Logged, bridge: LegacyClient, upstream: ScriptedUpstream
    ) -> None:
        upstream.says(Reply(json.dumps(hello()).encode(), 201))

        answer = await posting(bridge, SEND)

        line = call(log)
        assert (line["bytes_in"], line["bytes_out"]) == (len(HELLO), len(answer.body))

    async def test_head_has_no_body(
        self, log: Logged, bridge: LegacyClient, upstream: ScriptedUpstream
    ) -> None:
        upstream.says(page(message()))

        await bridge.call("HEAD", LIST)

        assert "bytes_out" not in call(log)

    async def test_of_a_body_that_is_too_large_what_was_read_counts(
        self, log: Logged, bridge: LegacyClient
    ) -> None:
        head = f"POST {SEND} HTTP/1.1\r\nHost: x\r\nAuthorization: {BASIC}\r\n"
        chunks = b"5\r\nhello\r\n100000\r\n" + bytes(2**20)
        await bridge.raw(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)

        assert call(log)["status"] == 413
        assert 5 <= call(log)["bytes_in"] <= 2**20
