"""The invoice's states, and what moves it between them."""

from collections.abc import Sequence
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

Client = TestClient[web.Request, web.Application]
OPEN = "/v2/invoices/13150403/messages"
DRAFT = "/v2/invoices/1421/messages"

# From the draft invoice 1421, the events that bring it into each state.
WAY_TO = {"draft": (), "open": ("send",), "closed": ("send", "close")}
ALLOWED = {("send", "draft"), ("close", "open"), ("re-open", "closed"), ("draft", "open")}


async def _post(client: Client, path: str, **payload: Any) -> tuple[int, dict[str, Any]]:
    response = await client.post(path, json=payload)
    return response.status, await response.json()


async def _bring(client: Client, events: Sequence[str]) -> None:
    for event in events:
        status, _ = await _post(client, DRAFT, event_type=event)
        assert status == 201


@pytest.mark.parametrize("event", ["send", "close", "re-open", "draft"])
@pytest.mark.parametrize("state", WAY_TO)
async def test_each_event_is_allowed_in_one_state_only(
    client: Client, event: str, state: str
) -> None:
    await _bring(client, WAY_TO[state])
    status, answer = await _post(client, DRAFT, event_type=event)
    if (event, state) in ALLOWED:
        assert (status, answer["event_type"]) == (201, event)
    else:
        assert status == 422
        described = "a draft" if state == "draft" else state
        assert answer["message"].startswith(f"Invoice 1421 is {described}: only ")


@pytest.mark.parametrize(
    ("event", "path", "reason"),
    [
        ("close", DRAFT, "Invoice 1421 is a draft: only an open invoice can be closed."),
        ("draft", DRAFT, "Invoice 1421 is a draft: only an open invoice can be marked as a draft."),
        ("send", OPEN, "Invoice 13150403 is open: only a draft invoice can be marked as sent."),
        ("re-open", OPEN, "Invoice 13150403 is open: only a closed invoice can be re-opened."),
    ],
)
async def test_a_refused_event_says_why(client: Client, event: str, path: str, reason: str) -> None:
    assert await _post(client, path, event_type=event) == (422, {"message": reason})


async def test_a_refused_event_leaves_everything_as_it_was(client: Client) -> None:
    refused = await _post(client, DRAFT, event_type="close", include_link_to_client_invoice=False)
    assert refused[0] == 422
    assert (await (await client.get(DRAFT)).json())["total_entries"] == 0
    _, sent = await _post(client, DRAFT, event_type="send")
    assert sent["include_link_to_client_invoice"] is True


async def test_the_four_events_make_a_round(client: Client) -> None:
    await _bring(client, ("send", "close", "re-open", "draft", "send"))


async def test_an_event_is_answered_as_documented(client: Client) -> None:
    status, answer = await _post(client, OPEN, event_type="close")
    assert status == 201
    assert answer == {
        "id": 27835324,
        "sent_by": "Bob Powell",
        "sent_by_email": "bobpowell@example.com",
        "sent_from": "Bob Powell",
        "sent_from_email": "bobpowell@example.com",
        "include_link_to_client_invoice": False,
        "send_me_a_copy": False,
        "thank_you": False,
        "reminder": False,
        "send_reminder_on": None,
        "created_at": "2017-08-23T22:25:59Z",
        "updated_at": "2017-08-23T22:25:59Z",
        "attach_pdf": False,
        "event_type": "close",
        "recipients": [],
        "subject": None,
        "body": None,
    }


async def test_an_event_keeps_what_is_given_with_it(client: Client) -> None:
    jane = {"name": "Jane Doe", "email": "jane@doe.org"}
    _, answer = await _post(
        client, OPEN, event_type="close", subject="S", body="B", recipients=[jane]
    )
    assert (answer["subject"], answer["body"], answer["recipients"]) == ("S", "B", [jane])


@pytest.mark.parametrize(
    ("state", "next_event"), [("draft", "close"), ("open", "close"), ("closed", "re-open")]
)
async def test_an_ordinary_message_sends_a_draft_and_leaves_other_states(
    client: Client, state: str, next_event: str
) -> None:
    await _bring(client, WAY_TO[state])
    status, _ = await _post(client, DRAFT, send_me_a_copy=True)
    assert status == 201
    await _bring(client, (next_event,))
