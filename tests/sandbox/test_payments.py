"""Payments: listing, making and deleting them, what becomes of the invoice, who is thanked."""

import asyncio
import contextlib
import json
import operator
from collections.abc import Mapping
from functools import reduce
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from bridge.sandbox.app import (
    SANDBOX_LIMITED_TOKEN,
    SANDBOX_SECOND_ACCOUNT_ID,
    SANDBOX_SECOND_TOKEN,
)
from bridge.sandbox.faults import FAULTS
from tests.sandbox.conftest import Client, Clock, Start
from tests.sandbox.test_misbehaviour import (
    NEEDED,
    NOT_APPLIED,
    applied,
    asking,
    connected,
    last_call,
    no_connection_but_ours,
    written,
)

JSON = "application/json; charset=utf-8"
SECOND = {
    "Authorization": f"Bearer {SANDBOX_SECOND_TOKEN}",
    "Harvest-Account-Id": str(SANDBOX_SECOND_ACCOUNT_ID),
}
LIST = "/v2/invoices/1420/payments"
"""The payments of an invoice on which 74.50 of 150.00 are due."""
MESSAGES = "/v2/invoices/1420/messages"
LONG = "/v2/invoices/4500/payments"
NONE_YET = "/v2/invoices/13150403/payments"
DRAFT = "/v2/invoices/1421/payments"
DRAFTS_MESSAGES = "/v2/invoices/1421/messages"
REST = {"amount": 74.5}
QUIET_REST = {"amount": 74.5, "send_thank_you": False}


async def listed(client: Client, path: str = LIST, **query: str | int) -> dict[str, Any]:
    response = await client.get(path, params=query or None)
    assert response.status == 200, await response.text()
    assert response.headers["Content-Type"] == JSON
    answer: dict[str, Any] = await response.json()
    return answer


async def ids(client: Client, path: str = LIST) -> list[int]:
    return [payment["id"] for payment in (await listed(client, path))["invoice_payments"]]


async def paid(client: Client, payload: Any, path: str = LIST) -> dict[str, Any]:
    response = await client.post(path, json=payload)
    assert response.status == 201, await response.text()
    assert response.headers["Content-Type"] == JSON
    answer: dict[str, Any] = await response.json()
    return answer


async def refusal(client: Client, body: bytes, status: int, path: str = LIST) -> str:
    before = await ids(client, path)
    response = await client.post(path, data=BytesIO(body))
    assert response.status == status
    assert response.headers["Content-Type"] == JSON
    assert await ids(client, path) == before
    return str((await response.json())["message"])


async def deleted(client: Client, payment: int, path: str = LIST) -> None:
    response = await client.delete(f"{path}/{payment}")
    assert (response.status, await response.read()) == (200, b"")


async def state(client: Client, path: str = MESSAGES) -> str:
    """Return the state of an invoice that is not closed, as the refusal to re-open it tells."""
    response = await client.post(path, json={"event_type": "re-open"})
    assert response.status == 422
    told = str((await response.json())["message"])
    return told.partition(" is ")[2].partition(":")[0]


async def happen(client: Client, path: str, *events: str) -> None:
    for event in events:
        assert (await client.post(path, json={"event_type": event})).status == 201


async def thanks(client: Client, path: str = MESSAGES) -> list[dict[str, Any]]:
    messages = (await listed(client, path))["invoice_messages"]
    return [message for message in messages if message["thank_you"]]


class TestList:
    async def test_the_newest_comes_first_with_every_field_of_v2(self, client: Client) -> None:
        answer = await listed(client)
        by_gateway, by_hand = answer.pop("invoice_payments")
        base = str(client.make_url(LIST))
        assert answer == {
            "per_page": 2000,
            "total_pages": 1,
            "total_entries": 2,
            "next_page": None,
            "previous_page": None,
            "page": 1,
            "links": {
                "first": f"{base}?page=1&per_page=2000",
                "next": None,
                "previous": None,
                "last": f"{base}?page=1&per_page=2000",
            },
        }
        assert by_hand == {
            "id": 45,
            "amount": 50,
            "paid_at": "2008-04-10T00:00:00Z",
            "paid_date": "2008-04-10",
            "recorded_by": "My Name",
            "recorded_by_email": "my@email.com",
            "notes": "Paid by check",
            "transaction_id": None,
            "payment_gateway": {"id": None, "name": None},
            "created_at": "2008-04-11T09:15:00Z",
            "updated_at": "2008-04-11T09:15:00Z",
        }
        assert by_gateway == {
            "id": 46,
            "amount": 25.5,
            "paid_at": "2008-04-14T16:45:30Z",
            "paid_date": "2008-04-14",
            "recorded_by": "Jane Doe",
            "recorded_by_email": "jane@doe.org",
            "notes": None,
            "transaction_id": "4XK51226GL0713628",
            "payment_gateway": {"id": 7, "name": "PayPal"},
            "created_at": "2008-04-14T16:45:31Z",
            "updated_at": "2008-04-14T16:45:31Z",
        }

    async def test_fields_are_in_v2s_order_and_amounts_are_numbers(self, client: Client) -> None:
        text = await (await client.get(LIST)).text()
        assert text.startswith('{"invoice_payments":[{"id":46,"amount":25.5,"paid_at":')
        assert ',{"id":45,"amount":50,"paid_at":' in text
        assert list((await listed(client))["invoice_payments"][0]) == [
            "id",
            "amount",
            "paid_at",
            "paid_date",
            "recorded_by",
            "recorded_by_email",
            "notes",
            "transaction_id",
            "payment_gateway",
            "created_at",
            "updated_at",
        ]

    @pytest.mark.parametrize("path", [NONE_YET, DRAFT])
    async def test_an_invoice_without_payments_has_an_empty_list(
        self, client: Client, path: str
    ) -> None:
        answer = await listed(client, path)
        assert answer["invoice_payments"] == []
        assert (answer["page"], answer["total_pages"], answer["total_entries"]) == (1, 1, 0)

    async def test_the_long_list_is_paged_by_cursor_there_and_back(self, client: Client) -> None:
        first = await listed(client, LONG)
        assert (first["total_pages"], first["total_entries"]) == (3, 4500)
        second = await listed(client, str(URL(first["links"]["next"]).relative()))
        third = await listed(client, str(URL(second["links"]["next"]).relative()))
        assert [len(page["invoice_payments"]) for page in (first, second, third)] == [
            2000,
            2000,
            500,
        ]
        assert third["links"]["next"] is None
        back = await listed(client, str(URL(third["links"]["previous"]).relative()))
        assert back["invoice_payments"] == second["invoice_payments"]

    async def test_pages_by_number_still_work(self, client: Client) -> None:
        answer = await listed(client, LONG, page=2, per_page=10)
        assert (answer["page"], answer["next_page"], answer["previous_page"]) == (2, 3, 1)
        assert answer["invoice_payments"][0]["id"] == 4604490

    @pytest.mark.parametrize(
        ("since", "found"),
        [("2008-04-14T16:45:31Z", [46]), ("2008-04-11", [46, 45]), ("2008-04-15", [])],
    )
    async def test_updated_since_keeps_what_is_no_older(
        self, client: Client, since: str, found: list[int]
    ) -> None:
        answer = await listed(client, updated_since=since)
        assert [payment["id"] for payment in answer["invoice_payments"]] == found
        assert answer["total_entries"] == len(found)

    @pytest.mark.parametrize(
        ("name", "value"),
        [("per_page", "2001"), ("page", "0"), ("updated_since", "yesterday"), ("cursor", "AAAA")],
    )
    async def test_a_wrong_parameter_is_422(self, client: Client, name: str, value: str) -> None:
        response = await client.get(LIST, params={name: value})
        assert response.status == 422
        assert name in (await response.json())["message"]

    @pytest.mark.parametrize(
        ("from_list", "to_list"),
        [(LONG, LIST), (LONG, "/v2/invoices/4500/messages"), ("/v2/invoices/4500/messages", LONG)],
    )
    async def test_a_cursor_is_good_for_its_own_list_only(
        self, client: Client, from_list: str, to_list: str
    ) -> None:
        link = URL((await listed(client, from_list, per_page=10))["links"]["next"])
        response = await client.get(to_list, params={"cursor": link.query["cursor"]})
        assert response.status == 422
        assert await response.json() == {"message": "cursor belongs to another list"}

    async def test_the_long_list_has_what_a_translation_may_stumble_over(
        self, client: Client
    ) -> None:
        payments = (await listed(client, LONG))["invoice_payments"]
        assert {payment["amount"] for payment in payments} == {0.1, 0.2, 1, 2.25, 9.99, 10, 12.5}
        assert {payment["payment_gateway"]["name"] for payment in payments} == {
            None,
            "PayPal",
            "Stripe",
        }
        assert {None, ""} < {payment["notes"] for payment in payments}
        for payment in payments:
            by_hand = payment["payment_gateway"] == {"id": None, "name": None}
            assert (payment["transaction_id"] is None) is by_hand
            assert payment["paid_at"].startswith(payment["paid_date"])


class TestCreate:
    async def test_the_documented_example_is_answered_with_its_id(self, client: Client) -> None:
        created = await paid(
            client,
            {"amount": 1575.86, "paid_at": "2017-07-24T13:32:18Z", "notes": "Paid by phone"},
            NONE_YET,
        )
        documented = {
            "id": 10336386,
            "amount": 1575.86,
            "paid_at": "2017-07-24T13:32:18Z",
            "paid_date": "2017-07-24",
            "recorded_by": "Bob Powell",
            "recorded_by_email": "bobpowell@example.com",
            "notes": "Paid by phone",
            "transaction_id": None,
            "payment_gateway": {"id": None, "name": None},
            "created_at": "2017-08-23T22:25:59Z",
            "updated_at": "2017-08-23T22:25:59Z",
        }
        assert created == documented
        assert list(created) == list(documented)
        assert (await listed(client, NONE_YET))["invoice_payments"] == [created]

    async def test_without_a_time_it_is_paid_now(self, client: Client) -> None:
        created = await paid(client, {"amount": 1})
        assert (created["paid_at"], created["paid_date"]) == ("2017-08-23T22:25:59Z", "2017-08-23")
        assert created["notes"] is None

    async def test_a_date_alone_is_its_midnight(self, client: Client) -> None:
        created = await paid(client, {"amount": 1, "paid_date": "2017-07-24"})
        assert (created["paid_at"], created["paid_date"]) == ("2017-07-24T00:00:00Z", "2017-07-24")

    @pytest.mark.parametrize(
        ("given", "answered"),
        [
            ("2017-07-24T13:32:18Z", "2017-07-24T13:32:18Z"),
            ("2017-07-24T23:00:00-05:00", "2017-07-25T04:00:00Z"),
            ("2017-07-24T13:32:18.9", "2017-07-24T13:32:18Z"),
            ("2017-07-24 13:32", "2017-07-24T13:32:00Z"),
        ],
    )
    async def test_a_time_is_answered_in_utc_with_its_date(
        self, client: Client, given: str, answered: str
    ) -> None:
        created = await paid(client, {"amount": 1, "paid_at": given})
        assert (created["paid_at"], created["paid_date"]) == (answered, answered[:10])

    async def test_a_time_and_a_date_at_once_are_422(self, client: Client) -> None:
        both = {"amount": 1, "paid_at": "2017-07-24T13:32:18Z", "paid_date": "2017-07-24"}
        told = await refusal(client, json.dumps(both).encode(), 422)
        assert told == "Give paid_at or paid_date, not both"

    async def test_a_null_is_an_absent_field(self, client: Client) -> None:
        nulls = dict.fromkeys(("paid_at", "paid_date", "notes", "send_thank_you"))
        created = await paid(client, nulls | {"amount": 1, "paid_date": "2017-07-24"})
        assert created["paid_at"] == "2017-07-24T00:00:00Z"

    async def test_unknown_fields_and_those_a_request_cannot_set_are_ignored(
        self, client: Client
    ) -> None:
        created = await paid(
            client,
            {
                "amount": 1,
                "id": 1,
                "recorded_by": "Eve",
                "transaction_id": "T",
                "payment_gateway": {"id": 7, "name": "PayPal"},
                "x": [1],
            },
        )
        assert (created["id"], created["recorded_by"]) == (10336386, "Bob Powell")
        assert created["transaction_id"] is created["payment_gateway"]["name"] is None

    async def test_ids_go_up_and_do_not_come_back(self, client: Client) -> None:
        first = await paid(client, {"amount": 1})
        await deleted(client, first["id"])
        second = await paid(client, {"amount": 1}, NONE_YET)
        assert (first["id"], second["id"]) == (10336386, 10336387)

    @pytest.mark.parametrize(
        ("given", "answered"),
        [
            ("0.0001", "0.0001"),
            ("99999999999.9999", "99999999999.9999"),
            ("10700", "10700"),
            ("10700.00", "10700"),
            ("1.07e4", "10700"),
            ("1575.860000", "1575.86"),
            ("0.1", "0.1"),
        ],
    )
    async def test_an_amount_is_answered_exactly(
        self, client: Client, given: str, answered: str
    ) -> None:
        response = await client.post(LIST, data=f'{{"amount": {given}}}'.encode())
        assert response.status == 201
        assert f'"amount":{answered},' in await response.text()
        assert f'"amount":{answered},' in await (await client.get(LIST)).text()

    @pytest.mark.parametrize(
        "fields",
        [
            "",
            '"amount": null',
            '"amount": 0',
            '"amount": 0.0',
            '"amount": -1',
            '"amount": 0.00001',
            '"amount": 1.00000000000000000000000000000000000000000000001',
            '"amount": 100000000000',
            '"amount": 1e400',
            '"amount": 1e-400',
            '"amount": "10"',
            '"amount": "ten"',
            '"amount": true',
            '"amount": [10]',
        ],
    )
    async def test_what_is_no_amount_is_422(self, client: Client, fields: str) -> None:
        assert "amount" in await refusal(client, f"{{{fields}}}".encode(), 422)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("notes", 5),
            ("send_thank_you", "false"),
            ("send_thank_you", 0),
            ("paid_at", 1500903138),
            ("paid_at", ""),
            ("paid_at", "yesterday"),
            ("paid_at", "2017-07-24"),
            ("paid_at", "20170724"),
            ("paid_at", "2017-07-24T25:00:00Z"),
            ("paid_at", "0001-01-01T00:00:00+14:00"),
            ("paid_date", 20170724),
            ("paid_date", ""),
            ("paid_date", "20170724"),
            ("paid_date", "2017-W30-1"),
            ("paid_date", "2017-02-29"),
            ("paid_date", "2017-07-24T00:00:00Z"),
            ("paid_date", "２０１７-07-24"),
        ],
    )
    async def test_a_wrong_value_is_422_and_names_the_field(
        self, client: Client, field: str, value: Any
    ) -> None:
        assert field in await refusal(client, json.dumps({"amount": 1, field: value}).encode(), 422)

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"null",
            b"[]",
            b"amount=1",
            b'{"notes": "\xff"}',
            b'{"amount": NaN}',
            b'{"amount": 1e99999999999999999999}',
        ],
        ids=repr,
    )
    async def test_a_body_that_is_no_json_object_is_400(self, client: Client, body: bytes) -> None:
        assert (await refusal(client, body, 400)).startswith("Request body is not")


class TestInvoice:
    async def test_it_is_paid_when_nothing_is_due(self, client: Client) -> None:
        await paid(client, {"amount": 74.49})
        assert await state(client) == "open"
        await paid(client, {"amount": 0.01})
        assert await state(client) == "paid"

    async def test_many_small_parts_add_up_exactly(self, client: Client) -> None:
        """The sum of these as floats falls short of what is due."""
        parts = [3.35, 3.32, 27.29, 16.31, 17.38, 6.85]
        assert reduce(operator.add, parts, 75.5) < 150  # `sum` makes up for what is lost
        for part in parts:
            assert await state(client) == "open"
            await paid(client, {"amount": part})
        assert await state(client) == "paid"

    @pytest.mark.parametrize("event", ["send", "close", "re-open", "draft"])
    async def test_no_event_happens_to_a_paid_invoice(self, client: Client, event: str) -> None:
        await paid(client, QUIET_REST)
        before = await listed(client, MESSAGES)
        response = await client.post(MESSAGES, json={"event_type": event})
        assert response.status == 422
        told = (await response.json())["message"]
        assert told.startswith("Invoice 1420 is paid: only ")
        assert await listed(client, MESSAGES) == before

    async def test_a_message_leaves_a_paid_invoice_paid(self, client: Client) -> None:
        await paid(client, QUIET_REST)
        assert (await client.post(MESSAGES, json={"send_me_a_copy": True})).status == 201
        assert await state(client) == "paid"

    async def test_more_than_is_due_may_be_paid(self, client: Client) -> None:
        await paid(client, {"amount": 1000})
        assert await state(client) == "paid"
        await paid(client, {"amount": 1})
        assert await state(client) == "paid"

    async def test_a_draft_cannot_be_paid(self, client: Client) -> None:
        assert await refusal(client, b'{"amount": 1250}', 422, DRAFT) == (
            "Invoice 1421 is a draft: it has to be sent to be paid."
        )
        await happen(client, DRAFTS_MESSAGES, "send")
        created = await paid(client, {"amount": 1250}, DRAFT)
        assert created["id"] == 10336386
        assert await state(client, DRAFTS_MESSAGES) == "paid"

    async def test_a_closed_invoice_stays_closed_until_it_is_fully_paid(
        self, client: Client
    ) -> None:
        await happen(client, MESSAGES, "close")
        await paid(client, {"amount": 74})
        response = await client.post(MESSAGES, json={"event_type": "send"})
        assert "Invoice 1420 is closed" in (await response.json())["message"]
        await paid(client, {"amount": 0.5})
        assert await state(client) == "paid"

    async def test_deleting_a_payment_opens_a_paid_invoice_again(self, client: Client) -> None:
        rest = await paid(client, REST)
        await deleted(client, rest["id"])
        assert await state(client) == "open"
        await paid(client, REST)
        await deleted(client, 46)
        assert await state(client) == "open"
        await paid(client, {"amount": 25.5})
        assert await state(client) == "paid"

    async def test_it_stays_paid_if_what_is_left_is_enough(self, client: Client) -> None:
        await paid(client, {"amount": 150})
        await deleted(client, 45)
        assert await state(client) == "paid"

    async def test_deleting_a_payment_leaves_other_states(self, client: Client) -> None:
        await deleted(client, 45)
        assert await state(client) == "open"
        await happen(client, MESSAGES, "draft")
        await deleted(client, 46)
        assert await state(client) == "a draft"

    async def test_payments_at_the_same_time_are_all_counted(self, client: Client) -> None:
        calls = [client.post(LIST, json={"amount": 7.45}) for _ in range(10)]
        answers = await asyncio.gather(*calls)
        assert [answer.status for answer in answers] == [201] * 10
        assert await state(client) == "paid"
        assert len(await thanks(client)) == 1


class TestThanks:
    async def test_they_are_mailed_for_the_payment_that_pays_the_rest(self, client: Client) -> None:
        await paid(client, REST)
        (message,) = await thanks(client)
        assert message == (await listed(client, MESSAGES))["invoice_messages"][0]
        suggested = await (await client.get(f"{MESSAGES}/new?thank_you=true")).json()
        assert (message["subject"], message["body"]) == (suggested["subject"], suggested["body"])
        assert (message["id"], message["sent_by"]) == (27835324, "Bob Powell")
        assert message["created_at"] == "2017-08-23T22:25:59Z"
        assert message["event_type"] is None

    @pytest.mark.parametrize("payload", [QUIET_REST, {"amount": 74.49}])
    async def test_no_mail_is_sent_unless_asked_for_and_all_is_paid(
        self, client: Client, payload: Mapping[str, Any]
    ) -> None:
        await paid(client, payload)
        assert await thanks(client) == []
        assert (await listed(client, MESSAGES))["total_entries"] == 2

    async def test_they_go_to_whom_the_invoice_was_sent_last(self, client: Client) -> None:
        sam = {"name": "Sam Stone", "email": "samstone@example.com"}
        await client.post(MESSAGES, json={"recipients": [sam]})
        await happen(client, MESSAGES, "close", "re-open")
        await paid(client, REST)
        assert [message["recipients"] for message in await thanks(client)] == [[sam]]

    async def test_they_are_a_message_also_where_nothing_was_sent(self, client: Client) -> None:
        await happen(client, DRAFTS_MESSAGES, "send")
        await paid(client, {"amount": 1250}, DRAFT)
        (message,) = await thanks(client, DRAFTS_MESSAGES)
        assert message["recipients"] == []
        assert message["include_link_to_client_invoice"] is True

    async def test_a_payment_on_a_paid_invoice_is_thanked_for_too(self, client: Client) -> None:
        await paid(client, QUIET_REST)
        await paid(client, {"amount": 1, "send_thank_you": True})
        await paid(client, {"amount": 1, "send_thank_you": False})
        assert len(await thanks(client)) == 1


class TestDelete:
    async def test_a_deleted_payment_is_answered_with_nothing_and_gone(
        self, client: Client
    ) -> None:
        await deleted(client, 45)
        assert await ids(client) == [46]
        gone = await client.delete(f"{LIST}/45")
        assert gone.status == 404
        assert await gone.json() == {"message": "Invoice 1420 has no payment 45"}

    @pytest.mark.parametrize(
        "path",
        [
            f"{NONE_YET}/45",
            f"{LIST}/409",
            f"{LIST}/0",
            f"{LIST}/abc",
            f"{LIST}/9223372036854775808",
            f"{MESSAGES}/45",
            "/v2/invoices/1/payments/45",
        ],
    )
    async def test_what_is_not_there_is_404(self, client: Client, path: str) -> None:
        response = await client.delete(path)
        assert response.status == 404
        assert "message" in await response.json()
        assert await ids(client) == [46, 45]


class TestAccess:
    @pytest.mark.parametrize(
        ("method", "path"), [("GET", LIST), ("POST", LIST), ("DELETE", f"{LIST}/45")]
    )
    @pytest.mark.parametrize(
        ("headers", "status"),
        [({"Authorization": f"Bearer {SANDBOX_LIMITED_TOKEN}"}, 403), (SECOND, 404)],
        ids=["limited", "another account"],
    )
    async def test_only_who_may_edit_the_invoice_is_served(
        self, client: Client, method: str, path: str, headers: Mapping[str, str], status: int
    ) -> None:
        response = await client.request(method, path, headers=headers, json=REST)
        assert response.status == status
        assert await ids(client) == [46, 45]

    async def test_another_account_pays_its_own_invoice(self, client: Client) -> None:
        path = "/v2/invoices/2420/payments"
        response = await client.post(path, json={"amount": 5}, headers=SECOND)
        assert (await response.json())["recorded_by"] == "Sue Second"
        assert (await client.get(path)).status == 404

    @pytest.mark.parametrize(
        ("method", "path", "allowed"),
        [
            ("GET", f"{LIST}/45", {"DELETE"}),
            ("PATCH", f"{LIST}/45", {"DELETE"}),
            ("DELETE", LIST, {"GET", "HEAD", "POST"}),
        ],
    )
    async def test_a_method_that_v2_does_not_have_is_405(
        self, client: Client, method: str, path: str, allowed: set[str]
    ) -> None:
        response = await client.request(method, path)
        assert response.status == 405
        assert set(response.headers["Allow"].split(",")) == allowed

    async def test_payments_are_throttled_with_everything_else(self, start: Start) -> None:
        client = await start(throttle=True)
        for _ in range(100):
            await client.get(NONE_YET)
        assert (await client.post(LIST, json=REST)).status == 429


class TestFaults:
    @pytest.mark.parametrize("name", [name for name in FAULTS if name != "hang"])
    async def test_each_spoils_a_payment_and_tells_what_was_applied(
        self, client: Client, name: str
    ) -> None:
        spoilt = asking(name, **NEEDED.get(name, {}))
        with contextlib.suppress(aiohttp.ClientError):
            await (await client.post(LIST, json=QUIET_REST, headers=spoilt)).read()
        assert (await last_call(client))["fault"] == name
        taken = name not in NOT_APPLIED
        assert await applied(client) == (int(taken), 0)
        assert await ids(client) == ([10336386, 46, 45] if taken else [46, 45])
        assert await state(client) == ("paid" if taken else "open")

    @pytest.mark.parametrize("apply", [False, True])
    async def test_a_deletion_whose_answer_is_lost_is_applied_as_told(
        self, client: Client, apply: bool
    ) -> None:
        lost = asking("reset", applied=apply)
        with pytest.raises(aiohttp.ClientOSError):
            await client.delete(f"{LIST}/45", headers=lost)
        assert await applied(client) == (0, int(apply))
        assert await ids(client) == ([46] if apply else [46, 45])

    async def test_a_payment_hangs_until_its_client_leaves(self, client: Client) -> None:
        hanging = '{"fault": "hang", "applied": true}'
        async with connected(client) as (_, writer):
            writer.write(written("POST", LIST, hanging, json.dumps(REST).encode()))
            while await applied(client) != (1, 0):
                pass
        await no_connection_but_ours(client)
        assert (await last_call(client))["status"] is None
        assert await state(client) == "paid"

    async def test_thanks_are_part_of_the_payment_in_what_is_counted(self, client: Client) -> None:
        rest = await paid(client, REST)
        await deleted(client, rest["id"])
        await refusal(client, b"{}", 422)
        assert await applied(client) == (1, 1)

    async def test_a_rule_is_for_payments_by_their_path(self, client: Client) -> None:
        rule = {"fault": "status", "status": 503, "path": "/v2/invoices/[0-9]+/payments(/.*)?"}
        await client.post("/sandbox/faults", json=rule)
        assert (await client.get(LIST)).status == 503
        assert (await client.delete(f"{LIST}/45")).status == 503
        assert (await client.get(MESSAGES)).status == 200

    @pytest.mark.parametrize(
        ("field", "values"),
        [
            ("amount", ["25.5", "50"]),
            ("id", ["46", "45"]),
            ("notes", [{}, 13]),
            ("payment_gateway", [[], []]),
        ],
    )
    async def test_a_wrong_type(self, client: Client, field: str, values: list[Any]) -> None:
        answer = await client.get(LIST, headers=asking("wrong-type", field=field))
        wrong = (await answer.json())["invoice_payments"]
        assert [payment[field] for payment in wrong] == values

    async def test_a_cursor_that_leads_nowhere(self, client: Client) -> None:
        path = f"{LONG}?per_page=10"
        looped = await (await client.get(path, headers=asking("cursor-loop"))).json()
        assert looped["links"].pop("next") == str(client.make_url(path))
        right = await listed(client, path)
        del right["links"]["next"]
        assert looped == right


async def test_payments_and_what_they_did_outlive_a_restart(
    start: Start, clock: Clock, tmp_path: Path
) -> None:
    file = str(tmp_path / "sandbox.sqlite")
    first = await start(database=file)
    clock.advance(1)
    rest = await paid(first, REST)
    await deleted(first, 45)
    more = await paid(first, {"amount": 50})
    before = await listed(first)
    await first.close()

    second = await start(database=file)
    after = await listed(second)
    assert after["invoice_payments"] == before["invoice_payments"]
    assert await ids(second) == [more["id"], rest["id"], 46]
    assert await state(second) == "paid"
    assert (await paid(second, {"amount": 1}))["id"] == more["id"] + 1
