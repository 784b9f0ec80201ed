"""Both sides of a captured call: set out to be read, with what corresponds marked."""

import json

import pytest

from bridge.record.log.exchange import Exchange, Message, OtherAnswer, UpstreamExchange
from bridge.server.admin.dashboard.sides import MOST_LINES, Body, Line, Sides, set_out
from tests.support.dashboards import a_captured_call


def said(body: bytes, left_out: str | None = None) -> Message:
    return Message((), body, len(body), left_out)


def exchanged(
    method: str,
    asked: bytes = b"",
    answered: bytes = b"",
    *v2: tuple[str, bytes, bytes],
    left_out: str | None = None,
) -> Exchange:
    upstream = [
        UpstreamExchange(method, url, 200, None, 0.0, 1.0, said(sent), said(got))
        for url, sent, got in v2
    ]
    request, answer = said(asked), said(answered, left_out)
    return Exchange(method, "/", 200, 0.0, 1.0, request, answer, upstream)


def lines(body: Body | None) -> list[Line]:
    assert body is not None
    return body.lines


def text(line: Line) -> str:
    return "".join(each for _, each in line.tokens)


def pairs(sides: Sides) -> dict[str, str]:
    """Return what was found to correspond, v1 to v2, by the names on each side."""
    halves = (sides.request, sides.answer)
    return {
        f"{line.item} {line.name}": line.partner or ""
        for half in halves
        if half is not None and half.body is not None
        for line in half.body.lines
        if line.mark
    }


def test_each_field_of_each_message_is_marked_on_both_sides() -> None:
    _, exchange = a_captured_call()

    sides = set_out(exchange, "/invoices/{invoice_id}/messages")

    found = pairs(sides)
    assert found["409 full-recipient-list"] == "recipients"
    assert found["409 include-pay-pal-link"] == "include_link_to_client_invoice"
    assert found["410 id"] == "id"
    # 14 elements of the final dialect have a member of v2; the path has the fifteenth.
    assert (sides.marks, len(found)) == (28, 28)
    assert "409 invoice-id" not in found
    assert sides.answer is not None
    assert sides.upstream[0].answer is not None
    v1 = {line.mark: text(line) for line in lines(sides.answer.body) if line.mark}
    v2 = {line.mark: text(line) for line in lines(sides.upstream[0].answer.body) if line.mark}
    assert v1.keys() == v2.keys()
    assert v1[1] == '<id type="integer">409</id>'
    assert v2[1] == '"id": 409,'


def test_one_item_is_paired_with_its_own_among_all_of_v2s_list() -> None:
    page = json.dumps({"invoice_messages": [{"id": 1, "body": "a"}, {"id": 2, "body": "b"}]})
    document = b"<invoice-message><body>b</body><id>2</id></invoice-message>"
    exchange = exchanged("GET", b"", document, ("/v2/invoices/7/messages", b"", page.encode()))

    sides = set_out(exchange, "/invoice/{invoice_id}/messages/{message_id}")

    assert sides.upstream[0].answer is not None
    marked = [(line.item, line.name) for line in lines(sides.upstream[0].answer.body) if line.mark]
    assert marked == [("2", "id"), ("2", "body")]


def test_a_request_is_marked_by_the_table_of_what_it_may_hold() -> None:
    asked = b"<invoice-message><body>Hi</body><full-recipient-list>a@b.c</full-recipient-list>"
    asked += b"<include-pay-pal-link>true</include-pay-pal-link></invoice-message>"
    sent = json.dumps({"body": "Hi", "recipients": [{"email": "a@b.c"}]}).encode()
    exchange = exchanged("POST", asked, b"", ("/v2/invoices/7/messages", sent, b""))

    sides = set_out(exchange, "/invoice/{invoice_id}/messages")

    assert pairs(sides) == {"None body": "body", "None full-recipient-list": "recipients"}


def test_an_element_made_of_several_members_is_marked_with_all_of_them() -> None:
    page = {"invoice_payments": [{"id": 5, "paid_at": None, "paid_date": "2026-02-01"}]}
    document = (
        b'<payments type="array"><payment><id>5</id><paid-at>x</paid-at></payment></payments>'
    )
    exchange = exchanged("GET", b"", document, ("/v2", b"", json.dumps(page).encode()))

    sides = set_out(exchange, "/invoices/{invoice_id}/payments")

    assert pairs(sides)["5 paid-at"] == "paid_at, paid_date"


def test_an_answer_made_of_several_v2_calls_is_marked_in_each() -> None:
    document = (
        b"<hash><company><name>Acme</name></company><user><first-name>J</first-name></user></hash>"
    )
    exchange = exchanged(
        "GET",
        b"",
        document,
        ("https://api.example/v2/users/me", b"", b'{"id": 1, "first_name": "J"}'),
        ("https://api.example/v2/company", b"", b'{"name": "Acme"}'),
    )

    sides = set_out(exchange, "/account/who_am_i")

    assert pairs(sides) == {"None company/name": "name", "None user/first-name": "first_name"}


@pytest.mark.parametrize("route", [None, "/clients", "/invoice/{invoice_id}/pdf"])
def test_of_a_path_that_is_not_translated_nothing_is_marked(route: str | None) -> None:
    assert set_out(exchanged("GET", b"", b"<errors><error>no</error></errors>"), route).marks == 0


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<a><b>1</b></a>", "xml"),
        (b'{"a": [1, {"b": null}]}', "json"),
        (b"[]", "json"),
        (b"<a><b>", "text"),
        (b'{"a": ', "text"),
        (b'<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><a>&e;</a>', "xml"),
        (b"\xff\xfe\x00", "text"),
        (b"[" * 100_000, "text"),
        (b"<a>" * 100_000, "text"),
    ],
)
def test_a_body_that_cannot_be_read_is_shown_as_text(body: bytes, kind: str) -> None:
    sides = set_out(exchanged("GET", b"", body), None)

    assert sides.answer is not None
    assert sides.answer.body is not None
    assert sides.answer.body.kind == kind
    assert not any("root:" in text(line) for line in sides.answer.body.lines)


def test_what_was_cut_is_shown_as_it_is_and_said_so() -> None:
    sides = set_out(exchanged("GET", b"", b"<a>1</a>", left_out="cut"), None)

    assert sides.answer is not None
    assert sides.answer.body is not None
    assert (sides.answer.body.kind, sides.answer.body.left_out) == ("text", "cut")
    assert [text(line) for line in sides.answer.body.lines] == ["<a>1</a>"]


def test_a_long_body_ends_and_says_how_much_is_left() -> None:
    body = json.dumps([{"id": at} for at in range(MOST_LINES)]).encode()

    sides = set_out(exchanged("GET", b"", body), None)

    assert sides.answer is not None
    assert len(lines(sides.answer.body)) == MOST_LINES
    assert sides.answer.body is not None
    assert sides.answer.body.more_lines == 2 * MOST_LINES + 2


def test_an_answer_that_it_was_compared_with_is_set_out_beside() -> None:
    exchange = exchanged("GET", b"", b"<a>v1</a>")
    assert set_out(exchange, None).other is None

    exchange.other = OtherAnswer("bridge", 200, said(b"<a>bridge</a>"))
    other = set_out(exchange, None).other

    assert other is not None
    assert (other.side, other.status) == ("bridge", 200)
    assert "bridge" in "".join(map(text, lines(other.answer.body)))
