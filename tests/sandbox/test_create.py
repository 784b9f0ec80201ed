"""Creating a message: recipients, defaults, and what is refused."""

import json
from io import BytesIO
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from bridge.sandbox.app import MAX_BODY_BYTES
from tests.sandbox.conftest import Start

Client = TestClient[web.Request, web.Application]
LIST = "/v2/invoices/13150403/messages"
WITH_OPTIONS = "/v2/invoices/4500/messages"
RICHARD = {"name": "Richard Roe", "email": "richardroe@example.com"}
BOB = {"name": "Bob Powell", "email": "bobpowell@example.com"}


async def _create(client: Client, payload: Any, path: str = LIST) -> Any:
    response = await client.post(path, json=payload)
    assert response.status == 201, await response.text()
    assert response.headers["Content-Type"] == "application/json; charset=utf-8"
    return await response.json()


async def _refusal(client: Client, body: bytes, status: int) -> str:
    response = await client.post(
        LIST, data=BytesIO(body), headers={"Content-Type": "application/json"}
    )
    assert response.status == status
    assert response.headers["Content-Type"] == "application/json; charset=utf-8"
    message = (await response.json())["message"]
    listed = await (await client.get(LIST)).json()
    assert listed["total_entries"] == 2
    return str(message)


async def test_the_documented_example_is_answered_as_documented(client: Client) -> None:
    created = await _create(
        client,
        {
            "subject": "Invoice #1001",
            "body": "The invoice is attached below.",
            "attach_pdf": True,
            "send_me_a_copy": True,
            "recipients": [RICHARD],
        },
    )
    documented = {
        "id": 27835324,
        "sent_by": "Bob Powell",
        "sent_by_email": "bobpowell@example.com",
        "sent_from": "Bob Powell",
        "sent_from_email": "bobpowell@example.com",
        "include_link_to_client_invoice": False,
        "send_me_a_copy": True,
        "thank_you": False,
        "reminder": False,
        "send_reminder_on": None,
        "created_at": "2017-08-23T22:25:59Z",
        "updated_at": "2017-08-23T22:25:59Z",
        "attach_pdf": True,
        "event_type": None,
        "recipients": [RICHARD, BOB],
        "subject": "Invoice #1001",
        "body": "The invoice is attached below.",
    }
    assert created == documented
    assert list(created) == list(documented)


async def test_what_is_created_heads_the_list(client: Client) -> None:
    created = await _create(client, {"recipients": [RICHARD], "body": "  \r\n„Grüße“ \x01🎉\t"})
    listed = await (await client.get(LIST)).json()
    assert listed["invoice_messages"][0] == created
    assert listed["total_entries"] == 3


async def test_everything_but_the_recipients_has_a_default(client: Client) -> None:
    created = await _create(client, {"recipients": [{"email": "jane@doe.org"}]})
    assert created["recipients"] == [{"name": None, "email": "jane@doe.org"}]
    assert created["subject"] is created["body"] is created["event_type"] is None
    assert created["attach_pdf"] is created["send_me_a_copy"] is created["thank_you"] is False


async def test_a_null_is_an_absent_field(client: Client) -> None:
    fields = ("subject", "body", "attach_pdf", "thank_you", "event_type", "send_me_a_copy")
    created = await _create(client, {"recipients": [RICHARD]} | dict.fromkeys(fields))
    assert created["attach_pdf"] is False


async def test_unknown_fields_and_those_a_request_cannot_set_are_ignored(client: Client) -> None:
    created = await _create(
        client, {"recipients": [RICHARD], "id": 1, "sent_by": "Eve", "reminder": True, "x": [1]}
    )
    assert created["id"] == 27835324
    assert created["sent_by"] == "Bob Powell"
    assert created["reminder"] is False


async def test_a_copy_alone_is_enough_to_send(client: Client) -> None:
    assert (await _create(client, {"send_me_a_copy": True}))["recipients"] == [BOB]


async def test_a_sender_among_the_recipients_is_not_added_twice(client: Client) -> None:
    sender = {"name": "Bob", "email": "BobPowell@example.com"}
    created = await _create(client, {"recipients": [sender, RICHARD], "send_me_a_copy": True})
    assert created["recipients"] == [sender, RICHARD]


async def test_a_standing_copy_is_a_recipient_of_every_mail(start: Start) -> None:
    client = await start(standing_copy="archive@example.com")
    archive = {"name": None, "email": "archive@example.com"}

    both = await _create(client, {"recipients": [RICHARD], "send_me_a_copy": True})
    again = await _create(client, {"recipients": [{"email": "Archive@example.com"}]})
    event = await _create(client, {"event_type": "close"})

    assert both["recipients"] == [RICHARD, BOB, archive]
    assert again["recipients"] == [{"name": None, "email": "Archive@example.com"}]
    assert event["recipients"] == []


async def test_ids_go_up_and_do_not_come_back(client: Client) -> None:
    first = await _create(client, {"recipients": [RICHARD]})
    await client.delete(f"{LIST}/{first['id']}")
    second = await _create(client, {"recipients": [RICHARD]}, WITH_OPTIONS)
    assert (first["id"], second["id"]) == (27835324, 27835325)


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"recipients": []},
        {"recipients": None, "send_me_a_copy": False},
        {"event_type": None, "subject": "S", "body": "B"},
    ],
    ids=str,
)
async def test_a_message_to_nobody_is_422(client: Client, payload: dict[str, Any]) -> None:
    message = await _refusal(client, json.dumps(payload).encode(), 422)
    assert message == "Message has no recipients"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("subject", 1),
        ("body", ["text"]),
        ("attach_pdf", "true"),
        ("attach_pdf", 1),
        ("send_me_a_copy", "yes"),
        ("thank_you", 0),
        ("include_link_to_client_invoice", "false"),
        ("event_type", "explode"),
        ("event_type", "Send"),
        ("event_type", ""),
        ("event_type", True),
        ("recipients", "jane@doe.org"),
        ("recipients", {"email": "jane@doe.org"}),
        ("recipients", ["jane@doe.org"]),
        ("recipients", [RICHARD, {"name": "Jane Doe"}]),
        ("recipients", [{"email": None}]),
        ("recipients", [{"name": 5, "email": "jane@doe.org"}]),
    ],
)
async def test_a_value_of_the_wrong_type_is_422_and_names_the_field(
    client: Client, field: str, value: Any
) -> None:
    payload = {"recipients": [RICHARD], field: value}
    assert field in await _refusal(client, json.dumps(payload).encode(), 422)


@pytest.mark.parametrize(
    "email",
    [
        "",
        "jane",
        "jane@",
        "@doe.org",
        "jane@doe@org",
        "jane doe@doe.org",
        "Jane <jane@doe.org>",
        "jane@doe.org, my@email.com",
        "jane@doe.org\r\nBcc: eve@example.com",
        "jane@doe.org\n",
    ],
)
async def test_a_recipient_without_an_email_address_is_422(client: Client, email: str) -> None:
    payload = {"recipients": [RICHARD, {"name": "Jane", "email": email}]}
    message = await _refusal(client, json.dumps(payload).encode(), 422)
    assert message.startswith("Recipient email is invalid")


@pytest.mark.parametrize(
    "email", ["jane@doe.org", "jane+x@mail.doe.org", "jürgen@müller.example", '"j d"@doe.org']
)
async def test_an_address_may_look_unusual(client: Client, email: str) -> None:
    created = await _create(client, {"recipients": [{"email": email}]})
    assert created["recipients"][0]["email"] == email


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"subject=Invoice",
        b'{"subject": "\xff"}',
        b'{"subject": NaN}',
        b"[" * 100_000,
    ],
    ids=lambda body: repr(body[:20]),
)
async def test_a_body_that_is_no_json_object_is_400(client: Client, body: bytes) -> None:
    assert (await _refusal(client, body, 400)).startswith("Request body is not")


async def test_a_body_that_cannot_be_decompressed_is_400(client: Client) -> None:
    response = await client.post(LIST, data=b"no gzip", headers={"Content-Encoding": "gzip"})
    assert response.status == 400
    assert await response.json() == {"message": "Request body cannot be read"}


async def test_a_body_of_more_than_a_mebibyte_is_413(client: Client) -> None:
    envelope = len(json.dumps({"body": "", "send_me_a_copy": True}))
    largest = {"body": "x" * (MAX_BODY_BYTES - envelope), "send_me_a_copy": True}
    await _create(client, largest, WITH_OPTIONS)
    too_large = largest | {"body": f"{largest['body']}x"}
    await _refusal(client, json.dumps(too_large).encode(), 413)


async def test_a_false_link_clears_the_payment_options_and_a_true_one_does_nothing(
    client: Client,
) -> None:
    async def created_with(**fields: bool) -> bool:
        created = await _create(client, {"recipients": [RICHARD]} | fields, WITH_OPTIONS)
        return bool(created["include_link_to_client_invoice"])

    assert await created_with()
    assert await created_with(include_link_to_client_invoice=True)
    assert not await created_with(include_link_to_client_invoice=False)
    assert not await created_with(include_link_to_client_invoice=True)
    listed = await (await client.get(WITH_OPTIONS)).json()
    links = {message["include_link_to_client_invoice"] for message in listed["invoice_messages"]}
    assert links == {False}
