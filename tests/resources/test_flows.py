"""Flows are driven by hand here: no socket, no loop, no clock."""

import json
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from bridge.resources.base import Flow
from bridge.resources.invoice_messages import (
    change_state,
    delete_message,
    list_messages,
    send_message,
    show_message,
    show_template,
)
from bridge.v1.dialects import Dialect
from bridge.v1.errors import NotFound
from bridge.v1.wire import V1Request, V1Response
from bridge.v2.errors import (
    OutcomeUnknown,
    UpstreamRefusal,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from bridge.v2.wire import V2Request, V2Response
from tests.support.upstream import message, page

BASE = "https://api.harvestapp.com/v2"


def call(**ids: int) -> V1Request:
    return V1Request(path="", ids=ids, dialect=Dialect.CLASSIC)


def feed(flow: Flow, *bodies: dict[str, Any]) -> tuple[list[V2Request], V1Response]:
    """Send 200s with these bodies, and return what was asked for and the answer."""
    asked = [next(flow)]
    for body in bodies:
        response = V2Response(200, json.dumps(body).encode(), f"{BASE}{asked[-1].path}")
        try:
            asked.append(flow.send(response))
        except StopIteration as stop:
            return asked, stop.value
    raise AssertionError("the flow wants more answers")


def test_list_asks_for_every_page() -> None:
    link = f"{BASE}/invoices/7/messages?cursor=2"

    asked, answer = feed(
        list_messages(call(invoice_id=7)), page(message(), following=link), page(message(id=1))
    )

    assert asked == [
        V2Request("GET", "/invoices/7/messages", "per_page=2000"),
        V2Request("GET", "/invoices/7/messages", "cursor=2"),
    ]
    assert answer.status == 200


def test_show_stops_where_it_finds_the_message() -> None:
    link = f"{BASE}/invoices/7/messages?cursor=2"

    asked, answer = feed(
        show_message(call(invoice_id=7, message_id=1)), page(message(id=1), following=link)
    )

    assert len(asked) == 1
    assert answer.status == 200


def test_show_of_a_message_on_no_page_is_not_found() -> None:
    flow = show_message(call(invoice_id=7, message_id=1))

    with pytest.raises(NotFound, match="Invoice 7 has no message 1"):
        feed(flow, page(message(id=2)))


def test_delete_is_one_call() -> None:
    asked, answer = feed(delete_message(call(invoice_id=7, message_id=1)), {})

    assert asked == [V2Request("DELETE", "/invoices/7/messages/1")]
    assert (answer.status, answer.document) == (200, None)


@pytest.mark.parametrize("flow", [list_messages, show_message, delete_message])
def test_a_refusal_ends_the_flow(flow: Any) -> None:
    running = flow(call(invoice_id=7, message_id=1))
    next(running)

    with pytest.raises(UpstreamRefusal) as refused:
        running.send(V2Response(403, b'{"message": "no"}', BASE))

    assert (refused.value.status, refused.value.message) == (403, "no")


@pytest.mark.parametrize("flow", [list_messages, show_message, delete_message])
def test_a_call_without_an_answer_ends_the_flow(flow: Any) -> None:
    running = flow(call(invoice_id=7, message_id=1))
    next(running)

    with pytest.raises(UpstreamTimeout):
        running.throw(UpstreamTimeout("late"))


@pytest.mark.parametrize("flow", [list_messages, show_message, show_template, delete_message])
class TestSecondTry:
    def test_a_broken_connection_is_worth_one(self, flow: Any) -> None:
        running = flow(call(invoice_id=7, message_id=1))
        first = next(running)

        assert running.throw(UpstreamUnreachable("broke")) == first
        with pytest.raises(UpstreamUnreachable, match="again"):
            running.throw(UpstreamUnreachable("again"))

    def test_a_connection_that_cannot_be_made_is_not(self, flow: Any) -> None:
        running = flow(call(invoice_id=7, message_id=1))
        next(running)

        with pytest.raises(UpstreamUnreachable):
            running.throw(UpstreamUnreachable("refused", request_left=False))


@pytest.mark.parametrize("flow", [send_message, partial(change_state, "send")])
def test_a_write_gets_no_second_try(flow: Any) -> None:
    request = replace(call(invoice_id=7), path="/invoice/7/messages", body=b"<invoice-message/>")
    running = flow(request)
    next(running)

    with pytest.raises(OutcomeUnknown):
        running.throw(UpstreamUnreachable("broke"))


def test_a_delete_that_was_done_the_first_time_is_done() -> None:
    running = delete_message(call(invoice_id=7, message_id=1))
    next(running)
    running.throw(UpstreamUnreachable("broke"))

    with pytest.raises(StopIteration) as ended:
        running.send(V2Response(404, b"", BASE))

    assert ended.value.value.status == 200
