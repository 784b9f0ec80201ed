"""Invoice payments, their flows driven by hand (schemas/README.md, "Invoice payments")."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from bridge.resources import RESOURCES
from bridge.resources.invoice_payments import (
    COLLECTIONS,
    MEMBERS,
    PAYMENT,
    RESOURCE,
    create_payment,
    delete_payment,
    list_payments,
    show_payment,
)
from bridge.resources.routes import Router
from bridge.v1.dialects import Dialect
from bridge.v1.errors import InvalidRequest, MethodNotAllowed, NotFound
from bridge.v1.notes import NoteCode, Notes
from bridge.v1.values import read_decimal
from bridge.v1.wire import V1Request, V1Response
from bridge.v2.errors import OutcomeUnknown, UpstreamFault
from bridge.v2.wire import V2Request, V2Response
from bridge.v2.writes import Outcome
from tests.resources import driving
from tests.resources.driving import BASE, call, feed, first, texts
from tests.support.payments import PAID, PAY, paid, payment

MADE = paid(id=5, created_at="2026-11-21T12:00:01Z")


def page(*payments: dict[str, Any], following: str | None = None) -> dict[str, Any]:
    return {"invoice_payments": list(payments), "links": {"next": following}}


def told(dialect: Dialect = Dialect.FINAL, **fields: Any) -> dict[str, str | None]:
    """Return the elements that a payment is told in; null as None."""
    data = json.dumps(payment(**fields)).encode()
    root = etree.fromstring(PAYMENT.write(data, call(dialect=dialect, invoice_id=7)))
    return {str(each.tag): None if each.get("nil") == "true" else each.text or "" for each in root}


class TestPaths:
    @pytest.mark.parametrize(
        ("path", "name", "dialect"),
        [
            ("/invoice/7/payments", "list", Dialect.CLASSIC),
            ("/invoices/7/payments", "list", Dialect.FINAL),
            ("/invoice/7/payments/5", "show", Dialect.CLASSIC),
            ("/invoice/7/payment/5", "show", Dialect.CLASSIC),
            ("/invoices/7/payments/5", "show", Dialect.FINAL),
            ("/invoices/7/payment/5", "show", Dialect.FINAL),
        ],
    )
    def test_every_spelling_is_found(self, path: str, name: str, dialect: Dialect) -> None:
        match = Router(RESOURCES).match("GET", path, Notes())

        assert (match.resource, match.call.name, match.call.dialect) == (RESOURCE, name, dialect)
        assert match.ids == (
            {"invoice_id": 7, "payment_id": 5} if name == "show" else {"invoice_id": 7}
        )

    @pytest.mark.parametrize("path", [path for path, _ in (*COLLECTIONS, *MEMBERS)])
    def test_none_of_them_can_be_changed(self, path: str) -> None:
        with pytest.raises(MethodNotAllowed):
            Router(RESOURCES).match("PUT", path.format(invoice_id=7, payment_id=5), Notes())


class TestTelling:
    def test_a_payment_in_the_classic_dialect(self) -> None:
        assert list(told(Dialect.CLASSIC).items()) == [
            ("amount", "10700.0"),
            ("created-at", "2017-06-27T16:24:30Z"),
            ("id", "10112854"),
            ("invoice-id", "7"),
            ("notes", "Paid via check #4321"),
            ("paid-at", "2017-02-21T00:00:00Z"),
            ("recorded-by", "Alice Doe"),
            ("recorded-by-email", "alice@example.com"),
        ]

    def test_a_payment_in_the_final_dialect(self) -> None:
        assert list(told(transaction_id="tx").items()) == [
            ("amount", "10700.0"),
            ("id", "10112854"),
            ("invoice-id", "7"),
            ("notes", "Paid via check #4321"),
            ("paid-at", "2017-02-21T00:00:00Z"),
            ("recorded-by", "Alice Doe"),
            ("recorded-by-email", "alice@example.com"),
            ("updated-at", "2017-06-27T16:24:30Z"),
            ("created-at", "2017-06-27T16:24:30Z"),
            ("pay-pal-transaction-id", None),
            ("authorization", "tx"),
            ("payment-gateway-id", "1234"),
        ]

    @pytest.mark.parametrize(
        ("amount", "text"),
        [
            ("10700", "10700.0"), ("10.50", "10.5"), ("0.10", "0.1"), ("-5", "-5.0"), ("-0", "0.0"),
            ("0", "0.0"), ("0.00", "0.0"), ("1e2", "100.0"), ("1.5E-3", "0.0015"), ("0e5", "0.0"),
            ('"10.50"', "10.5"), ('"10700"', "10700.0"), ("0.1000000000000000055511151231", ) * 2,
            ("123456789012345678901234567890.12", ) * 2, ("null", None),
        ],
    )  # fmt: skip
    def test_an_amount_is_told_plainly_and_with_all_of_its_digits(
        self, amount: str, text: str | None
    ) -> None:
        data = f'{{"id": 1, "amount": {amount}}}'.encode()

        root = etree.fromstring(PAYMENT.write(data, call(invoice_id=7)))

        assert root.findtext("amount") == (text or "")

    @pytest.mark.parametrize(
        "amount",
        ["1e30", "1e400", "1e-31", "1e999999999", '"NaN"', '"Infinity"', '"sNaN"', '"ten"', '""',
         "true", "[]", "{}"],
    )  # fmt: skip
    @pytest.mark.parametrize("dialect", Dialect)
    def test_what_is_no_amount_is_refused_and_named(self, dialect: Dialect, amount: str) -> None:
        data = f'{{"id": 1, "amount": {amount}}}'.encode()

        with pytest.raises(UpstreamFault, match="amount"):
            PAYMENT.write(data, call(dialect=dialect, invoice_id=7))

    @given(st.decimals(-(10**15), 10**15, allow_nan=False, places=4))
    def test_any_amount_is_told_as_the_same_number(self, amount: Decimal) -> None:
        data = f'{{"id": 1, "amount": {amount}}}'.encode()

        text = etree.fromstring(PAYMENT.write(data, call(invoice_id=7))).findtext("amount") or ""

        assert Decimal(text) == amount
        assert read_decimal(text, "amount", 30) == amount

    @pytest.mark.parametrize(
        ("paid_at", "paid_date", "text"),
        [
            ("2017-02-21T10:00:00Z", "2017-02-21", "2017-02-21T10:00:00Z"),
            ("2017-02-21T10:00:00.5+01:00", "2017-02-21", "2017-02-21T09:00:00Z"),
            (None, "2017-02-21", "2017-02-21T00:00:00Z"),
            (None, None, None),
        ],
    )
    @pytest.mark.parametrize("dialect", Dialect)
    def test_a_day_is_told_as_its_midnight(
        self, dialect: Dialect, paid_at: str | None, paid_date: str | None, text: str | None
    ) -> None:
        assert told(dialect, paid_at=paid_at, paid_date=paid_date)["paid-at"] == text

    def test_a_day_that_is_none_is_refused(self) -> None:
        with pytest.raises(UpstreamFault, match="paid_date"):
            told(paid_at=None, paid_date="2017-02-30")

    @pytest.mark.parametrize(
        ("gateway", "pay_pal", "authorization", "gateway_id"),
        [
            ({"id": 3, "name": "PayPal"}, "tx", None, "3"),
            ({"id": 3, "name": "My PAYPAL account"}, "tx", None, "3"),
            ({"id": 3, "name": "Stripe"}, None, "tx", "3"),
            ({"id": 3, "name": None}, None, "tx", "3"),
            ({"id": None, "name": None}, None, "tx", None),
            ({}, None, "tx", None),
            (None, None, "tx", None),
        ],
    )
    def test_whose_transaction_it_is_says_the_gateway(
        self,
        gateway: dict[str, Any] | None,
        pay_pal: str | None,
        authorization: str | None,
        gateway_id: str | None,
    ) -> None:
        elements = told(transaction_id="tx", payment_gateway=gateway)

        assert elements["pay-pal-transaction-id"] == pay_pal
        assert elements["authorization"] == authorization
        assert elements["payment-gateway-id"] == gateway_id

    @pytest.mark.parametrize(
        ("gateway", "place"),
        [
            ([], "payment_gateway"),
            ({"id": "x"}, "payment_gateway.id"),
            ({"id": 0}, "payment_gateway.id"),
            ({"name": 5}, "payment_gateway.name"),
        ],
    )
    @pytest.mark.parametrize("dialect", Dialect)
    def test_a_wrong_gateway_is_refused(
        self, dialect: Dialect, gateway: object, place: str
    ) -> None:
        with pytest.raises(UpstreamFault, match=rf"`\$\.{place}`"):
            told(dialect, payment_gateway=gateway)


class TestReading:
    def test_a_list_has_every_page(self) -> None:
        link = f"{BASE}/invoices/7/payments?cursor=2"

        asked, answer = feed(
            list_payments(call(invoice_id=7)), page(payment(), following=link), page(payment(id=1))
        )

        assert asked == [
            V2Request("GET", "/invoices/7/payments", "per_page=2000"),
            V2Request("GET", "/invoices/7/payments", "cursor=2"),
        ]
        assert answer.status == 200
        assert texts(answer, "id") == ["10112854", "1"]

    @pytest.mark.parametrize("dialect", Dialect)
    def test_an_empty_list(self, dialect: Dialect) -> None:
        _, answer = feed(list_payments(call(dialect=dialect, invoice_id=7)), page())

        assert answer.body == (
            b'<?xml version="1.0" encoding="UTF-8"?>\n<payments type="array">\n</payments>\n',
        )

    def test_one_is_looked_for_page_by_page(self) -> None:
        link = f"{BASE}/invoices/7/payments?cursor=2"

        _, answer = feed(
            show_payment(call(invoice_id=7, payment_id=1)),
            page(payment(), following=link),
            page(payment(id=2), payment(id=1), following=f"{link}3"),
        )

        assert texts(answer, "id") == ["1"]

    def test_one_on_no_page_is_not_found(self) -> None:
        with pytest.raises(NotFound, match="Invoice 7 has no payment 1"):
            feed(show_payment(call(invoice_id=7, payment_id=1)), page(payment()))

    def test_delete_is_one_call(self) -> None:
        asked, answer = feed(delete_payment(call(invoice_id=7, payment_id=1)), {})

        assert asked == [V2Request("DELETE", "/invoices/7/payments/1")]
        assert (answer.status, answer.body) == (200, ())

    def test_a_delete_whose_earlier_try_may_have_been_served_is_done(self) -> None:
        running = delete_payment(call(invoice_id=7, payment_id=1))
        next(running)

        with pytest.raises(StopIteration) as ended:
            running.send(V2Response(404, b"", BASE, repeated=True))

        assert isinstance(ended.value.value, V1Response)


def writing(body: bytes = PAY, outcome: Outcome = Outcome.OPEN) -> driving.Writing:
    return driving.Writing(create_payment, "/invoice/7/payments", body, outcome)


def posted(elements: str) -> dict[str, Any]:
    """Return what v2 is sent for a payment of these elements."""
    body = writing(f"<payment>{elements}</payment>".encode()).write.request.body
    parameters: dict[str, Any] = json.loads(body or b"", parse_float=Decimal, parse_int=Decimal)
    return parameters


class TestRecording:
    def test_it_is_on_record_before_it_leaves_and_settled_after(self) -> None:
        made = writing()

        assert made.step is made.write.request
        assert (made.step.method, made.step.path) == ("POST", "/invoices/7/payments")
        assert json.loads(made.write.request.body or b"") == PAID
        assert (made.write.resource, made.write.sets_state) == ("invoice-payments", False)
        made.hears(201, MADE)
        made.settles(Outcome.DONE, 5)
        assert made.answer is not None
        assert made.answer.status == 201
        assert made.answer.headers["Location"] == "/invoice/7/payments/5"
        assert texts(made.answer, "amount") == ["1200.5"]

    @pytest.mark.parametrize(
        ("text", "digits"),
        [
            ("1200.50", "1200.50"), (" 10 \n", "10"), ("+5", "5"), ("-5.00", "-5.00"), (".5", "0.5"),
            ("5.", "5"), ("007", "7"), ("0.1", "0.1"), ("0", "0"),
            ("123456789012345678901234567.891", ) * 2,
        ],
    )  # fmt: skip
    def test_an_amount_is_sent_digit_by_digit(self, text: str, digits: str) -> None:
        body = writing(f"<payment><amount>{text}</amount></payment>".encode()).write.request.body

        assert body == f'{{"amount":{digits},"send_thank_you":false}}'.encode()

    @pytest.mark.parametrize(
        "text",
        ["1,000.50", "1.000,50", "1e3", "NaN", "Infinity", "ten", "$5", "5 USD", "1 000", "--5",
         "0x10", "1_000", "٥", ".", "-", "+", " ", "9" * 31, "0." + "1" * 30, "9" * 101],
    )  # fmt: skip
    def test_what_is_no_amount_is_refused_before_v2_is_asked(self, text: str) -> None:
        with pytest.raises(InvalidRequest, match="amount"):
            posted(f"<amount>{text}</amount>")

    @pytest.mark.parametrize(
        "elements", ["", "<amount/>", '<amount nil="true"/>', "<notes>x</notes>"]
    )
    def test_without_an_amount_the_client_is_told(self, elements: str) -> None:
        with pytest.raises(InvalidRequest, match="amount is missing"):
            posted(elements)

    @pytest.mark.parametrize(
        ("text", "sent"),
        [
            ("2010-09-25T18:30:00Z", {"paid_at": "2010-09-25T18:30:00Z"}),
            ("2010-09-25T18:30:00+02:00", {"paid_at": "2010-09-25T16:30:00Z"}),
            ("2010-09-25T18:30:00", {"paid_at": "2010-09-25T18:30:00Z"}),
            ("2010-09-25 18:30", {"paid_at": "2010-09-25T18:30:00Z"}),
            ("2010-09-25 9:05", {"paid_at": "2010-09-25T09:05:00Z"}),
            (" 2010-09-25 18:30 ", {"paid_at": "2010-09-25T18:30:00Z"}),
            ("2010-09-25T02:00:00+02:00", {"paid_at": "2010-09-25T00:00:00Z"}),
            ("2010-09-25T00:00:00Z", {"paid_date": "2010-09-25"}),
            ("2010-09-25T00:00:00+02:00", {"paid_date": "2010-09-25"}),
            ("2010-09-25 00:00", {"paid_date": "2010-09-25"}),
            ("2010-09-25", {"paid_date": "2010-09-25"}),
            ("", {}),
        ],
    )
    def test_when_it_was_paid(self, text: str, sent: dict[str, str]) -> None:
        parameters = posted(f"<amount>1</amount><paid-at>{text}</paid-at>")

        assert parameters == {"amount": 1, **sent, "send_thank_you": False}

    @pytest.mark.parametrize(
        "text",
        ["yesterday", "2010-02-30", "18:30", "2010-09-25T24:00:01Z", "0001-01-01T01:00:00+05:00",
         "T" * 100, "2010-09-25 18:30 " + "T" * 1_000_000],
    )  # fmt: skip
    def test_what_is_no_point_in_time_is_refused(self, text: str) -> None:
        with pytest.raises(InvalidRequest, match="paid-at"):
            posted(f"<amount>1</amount><paid-at>{text}</paid-at>")

    @pytest.mark.parametrize(
        ("elements", "sent"),
        [
            ("<notes>By cheque</notes>", {"notes": "By cheque"}),
            ("<notes/>", {"notes": None}),
            ("", {}),
        ],
    )
    def test_notes_are_sent_as_they_were_given(self, elements: str, sent: dict[str, Any]) -> None:
        parameters = posted(f"<amount>1</amount>{elements}")

        assert parameters == {"amount": 1, **sent, "send_thank_you": False}

    def test_what_cannot_be_set_is_ignored_with_a_note(self) -> None:
        request = V1Request(
            path="/invoice/7/payments",
            ids={"invoice_id": 7},
            dialect=Dialect.CLASSIC,
            body=b"<payment><amount>1</amount><id>5</id><recorded_by>x</recorded_by>"
            b"<send-thank-you>true</send-thank-you></payment>",
        )

        begin = first(create_payment(request))

        assert json.loads(begin.write.request.body) == {"amount": 1, "send_thank_you": False}
        assert [(*note, count) for note, count in request.notes] == [
            (NoteCode.ELEMENT_IGNORED, name, 1) for name in ("id", "recorded-by", "send-thank-you")
        ]

    def test_one_that_cannot_be_told_is_done_but_no_answer(self) -> None:
        made = writing()
        made.hears(201, {**MADE, "amount": "NaN"})

        with pytest.raises(OutcomeUnknown):
            made.settles(Outcome.DONE, 5)


class TestLook:
    """What a payment is found by, when the answer was lost."""

    def found(self, *payments: dict[str, Any], body: bytes = PAY, **headers: str) -> list[int]:
        return list(writing(body).finds(page(*payments), **headers))

    def test_it_is_the_answer(self) -> None:
        lost = writing()
        lost.loses_its_answer()
        assert lost.looks()
        assert (lost.step.path, lost.step.query) == ("/invoices/7/payments", "per_page=100")
        lost.hears(200, page(payment(created_at="2026-11-21T12:00:02Z"), MADE))
        lost.settles(Outcome.DONE, 5)

        assert lost.answer is not None
        assert (lost.answer.status, lost.answer.headers["Location"]) == (
            201,
            "/invoice/7/payments/5",
        )

    def test_the_same_again_is_looked_for_before_it_is_sent(self) -> None:
        again = writing(outcome=Outcome.UNKNOWN)

        assert again.looks()
        again.hears(200, page())
        assert again.step is again.write.request

    @pytest.mark.parametrize(
        "differing",
        [
            {},
            {"amount": "1200.50"},
            {"amount": 1200.50},
            {"notes": " By cheque\r\n"},
            {"paid_at": "2010-09-25T20:30:00+02:00"},
            {"paid_at": None},
            {"paid_date": "2010-09-26"},
            {"recorded_by": "Bob"},
        ],
    )
    def test_a_payment_like_it_is_found(self, differing: dict[str, Any]) -> None:
        assert self.found({**MADE, **differing}) == [5]

    @pytest.mark.parametrize(
        "differing",
        [
            {"amount": 1200.51},
            {"amount": -1200.5},
            {"amount": None},
            {"amount": 1e300},
            {"notes": "By check"},
            {"notes": None},
            {"paid_at": "2010-09-25T18:30:01Z"},
            {"paid_at": "0001-01-01T00:00:00+05:00"},
            {"created_at": "2026-11-21T11:59:29Z"},
        ],
    )
    def test_another_payment_is_not(self, differing: dict[str, Any]) -> None:
        assert self.found({**MADE, **differing}) == []

    @pytest.mark.parametrize("notes", ["", "<notes/>", "<notes> </notes>"])
    def test_no_notes_and_empty_ones_are_alike(self, notes: str) -> None:
        body = f"<payment><amount>1200.5</amount>{notes}</payment>".encode()

        assert self.found({**MADE, "notes": None}, {**MADE, "id": 4, "notes": ""}, body=body) == [
            4,
            5,
        ]

    @pytest.mark.parametrize(
        ("paid_date", "ids"), [("2010-09-25", [5]), (None, [5]), ("2010-09-24", [])]
    )
    def test_a_day_is_compared_with_the_day(self, paid_date: str | None, ids: list[int]) -> None:
        body = b"<payment><amount>1200.5</amount><paid-at>2010-09-25</paid-at></payment>"
        found = {**MADE, "notes": None, "paid_date": paid_date, "paid_at": "2010-09-24T22:00:00Z"}

        assert self.found(found, body=body) == ids

    def test_when_it_was_paid_is_not_compared_if_it_was_not_given(self) -> None:
        body = b"<payment><amount>1200.5</amount><notes>By cheque</notes></payment>"

        assert self.found(MADE, body=body) == [5]

    def test_nothing_of_what_was_said_is_kept_in_the_clear(self) -> None:
        kept = writing().write.likeness

        for said in (b"1200", b"cheque", b"2010"):
            assert said not in kept
