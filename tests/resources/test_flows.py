"""Flows are driven by hand here: no socket, no loop, no clock."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import pytest

from bridge.resources.flow import Begin, Flow, GoElsewhere
from bridge.resources.invoice_messages import (
    change_state,
    delete_message,
    list_messages,
    send_message,
    show_message,
)
from bridge.v1.errors import NotFound
from bridge.v1.reader import SHORT_BODY
from bridge.v1.reuse import Reuse
from bridge.v1.wire import V1Request
from bridge.v2.errors import (
    OutcomeUnknown,
    UpstreamRefusal,
    UpstreamTimeout,
)
from bridge.v2.wire import V2Request, V2Response
from bridge.v2.writes import Outcome
from tests.resources import driving
from tests.resources.driving import BASE, call, feed, texts
from tests.support.upstream import message, page


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
    assert texts(answer, "id") == ["27835209", "1"]


@pytest.mark.parametrize("flow", [send_message, partial(change_state, "send")])
@pytest.mark.parametrize(
    ("markup", "step"),
    [
        pytest.param("", Begin, id="short and plain"),
        pytest.param("<foreign/>", GoElsewhere, id="foreign"),
        pytest.param(" " * SHORT_BODY + "\n", GoElsewhere, id="long"),
    ],
)
def test_only_what_is_short_and_plain_is_read_at_once(
    flow: Callable[[V1Request], Flow], markup: str, step: type
) -> None:
    body = f"<invoice-message><body>x</body>{markup}</invoice-message>".encode()

    assert isinstance(next(flow(msgspec.structs.replace(call(invoice_id=7), body=body))), step)


def test_a_short_list_is_one_part_and_a_long_one_is_sent_in_several() -> None:
    short = [message(id=number + 1) for number in range(20)]
    long = [message(id=number + 1, body="x" * 1000) for number in range(500)]

    _, answer = feed(list_messages(call(invoice_id=7)), page(*short))
    assert len(answer.body) == 1
    assert len(texts(answer, "id")) == 20

    _, answer = feed(list_messages(call(invoice_id=7)), page(*long))
    assert len(answer.body) > 2
    assert len(texts(answer, "id")) == 500


def test_an_unchanged_page_is_told_again() -> None:
    request = msgspec.structs.replace(call(invoice_id=7), reuse=Reuse(2**20))

    _, first = feed(list_messages(request), page(message()))
    _, again = feed(list_messages(request), page(message()))
    _, other = feed(list_messages(request), page(message(id=5)))

    assert again.body == first.body
    assert texts(other, "id") == ["5"]


def test_show_is_not_troubled_by_another_message() -> None:
    odd = message(id=2, created_at="yesterday")

    _, answer = feed(show_message(call(invoice_id=7, message_id=1)), page(odd, message(id=1)))

    assert texts(answer, "id") == ["1"]


def test_show_stops_where_it_finds_the_message() -> None:
    link = f"{BASE}/invoices/7/messages?cursor=2"

    asked, answer = feed(
        show_message(call(invoice_id=7, message_id=1)), page(message(id=1), following=link)
    )

    assert len(asked) == 1
    assert answer.status == 200
    assert texts(answer, "id") == ["1"]


def test_show_of_a_message_on_no_page_is_not_found() -> None:
    flow = show_message(call(invoice_id=7, message_id=1))

    with pytest.raises(NotFound, match="Invoice 7 has no message 1"):
        feed(flow, page(message(id=2)))


def test_delete_is_one_call() -> None:
    asked, answer = feed(delete_message(call(invoice_id=7, message_id=1)), {})

    assert asked == [V2Request("DELETE", "/invoices/7/messages/1")]
    assert (answer.status, answer.body) == (200, ())


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


def test_a_delete_whose_earlier_try_may_have_been_served_is_done() -> None:
    running = delete_message(call(invoice_id=7, message_id=1))
    next(running)

    with pytest.raises(StopIteration) as ended:
        running.send(V2Response(404, b"", BASE, repeated=True))

    assert ended.value.value.status == 200


# Writes: what follows from which answer is in test_outcomes.py.

SENT = b"""<invoice-message>
  <subject>Past due</subject><body>Please  pay.</body><recipients>a@b.org</recipients>
</invoice-message>"""
POSTED = {"subject": "Past due", "body": "Please  pay.", "recipients": [{"email": "a@b.org"}]}
MADE = {**POSTED, "created_at": "2026-11-21T12:00:01Z"}


class Writing(driving.Writing):
    """A message that a test sends step by step."""

    def __init__(
        self,
        outcome: Outcome = Outcome.OPEN,
        made_id: int | None = None,
        body: bytes = SENT,
        flow: Callable[[V1Request], Flow] = send_message,
    ) -> None:
        super().__init__(flow, "/invoice/7/messages", body, outcome, made_id)


def lost(writing: Writing) -> Writing:
    """Lose the answer to the POST."""
    writing.loses_its_answer()
    return writing


class TestWrite:
    def test_it_is_on_record_before_it_leaves_and_settled_after(self) -> None:
        writing = Writing()

        assert writing.step is writing.write.request
        assert json.loads(writing.write.request.body or b"") == POSTED
        writing.hears(201, message(id=5))
        writing.settles(Outcome.DONE, 5)
        assert writing.answer is not None
        assert writing.answer.headers["Location"] == "/invoice/7/messages/5"

    def test_one_that_was_made_before_is_found_by_its_id_on_whichever_page(self) -> None:
        writing = Writing(Outcome.DONE, made_id=5)
        link = f"{BASE}/invoices/7/messages?cursor=2"

        writing.hears(200, page(message(id=6), following=link))
        assert writing.looks()
        writing.hears(200, page(message(id=5)))

        assert writing.answer is not None
        assert writing.answer.headers["Location"] == "/invoice/7/messages/5"


def found(*messages: dict[str, Any], body: bytes = SENT, **headers: str) -> list[int]:
    """Return the ids that a look finds, in the order in which they are tried."""
    return list(Writing(body=body).finds(page(*messages), **headers))


class TestLook:
    """What a message may differ in is in test_outcomes.py."""

    @pytest.mark.parametrize(
        ("created_at", "ids"),
        [
            ("2026-11-21T11:59:30Z", [5]),
            ("2026-11-21T11:59:29Z", []),
            ("2026-11-21T14:00:00+02:00", [5]),
            ("2026-11-21T12:00:00", [5]),
        ],
    )
    def test_new_is_what_is_no_more_than_the_leeway_older(
        self, created_at: str, ids: list[int]
    ) -> None:
        assert found(message(**{**MADE, "id": 5, "created_at": created_at})) == ids

    @pytest.mark.parametrize(
        ("date", "created_at", "ids"),
        [
            ("Sat, 21 Nov 2026 11:00:00 GMT", "2026-11-21T11:00:00Z", [5]),
            ("Sat, 21 Nov 2026 13:00:00 GMT", "2026-11-21T12:30:00Z", []),
        ],
    )
    def test_new_is_what_is_new_by_v2s_clock(
        self, date: str, created_at: str, ids: list[int]
    ) -> None:
        assert found(message(**{**MADE, "id": 5, "created_at": created_at}), Date=date) == ids

    @pytest.mark.parametrize(
        "date", ["Thu, 01 Jan 1970 00:00:00 GMT", "Mon, 23 Nov 2026 12:00:01 GMT", "yesterday", ""]
    )
    def test_without_a_clock_of_v2_nothing_can_be_told(self, date: str) -> None:
        writing = lost(Writing())
        writing.hears(200, page(message(**{**MADE, "id": 5})), Date=date)

        with pytest.raises(OutcomeUnknown):
            writing.settles(Outcome.UNKNOWN)

    def test_it_goes_on_until_a_message_is_older(self) -> None:
        writing = lost(Writing())
        link = f"{BASE}/invoices/7/messages?cursor=2"

        assert writing.step.query == "per_page=100"
        writing.hears(200, page(message(**{**MADE, "body": "Another"}), following=link))
        assert writing.looks()
        writing.hears(200, page(message(**MADE), message(), following=f"{link}3"))

        writing.settles(Outcome.DONE, 27835209)
        assert writing.answer is not None

    @pytest.mark.parametrize("segment", ["send", "close", "re-open", "draft"])
    def test_a_change_of_state_is_found_by_its_event(self, segment: str) -> None:
        writing = lost(Writing(body=b"", flow=partial(change_state, segment)))
        like = {"event_type": segment, "recipients": [], "created_at": MADE["created_at"]}
        other = {**like, "event_type": None}

        writing.hears(200, page(message(id=6, **other), message(id=5, **like)))

        writing.settles(Outcome.DONE, 5)
        assert writing.answer is not None
        assert writing.answer.status == 200

    def test_nothing_of_what_was_said_is_kept_in_the_clear(self) -> None:
        kept = Writing().write.likeness

        for said in (b"Past", b"pay", b"a@b.org"):
            assert said not in kept
