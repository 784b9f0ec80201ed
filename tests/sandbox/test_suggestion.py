"""The subject and body that a message would have."""

from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

Client = TestClient[web.Request, web.Application]
NEW = "/v2/invoices/13150403/messages/new"


async def _suggestion(client: Client, query: str) -> dict[str, Any]:
    response = await client.get(f"{NEW}?{query}")
    assert response.status == 200
    assert response.headers["Content-Type"] == "application/json; charset=utf-8"
    answer: dict[str, Any] = await response.json()
    return answer


async def test_the_documented_reminder_is_answered_as_documented(client: Client) -> None:
    assert await _suggestion(client, "reminder=true") == {
        "invoice_id": 13150403,
        "subject": "Past due invoice reminder: #1002 from API Examples",
        "body": (
            "Dear Customer,\n\nThis is a friendly reminder to let you know that Invoice 1002 is "
            "20 days past due. If you have already sent the payment, please disregard this "
            "message. If not, we would appreciate your prompt attention to this matter.\n\n"
            "Thank you for your business.\n\nCheers,\nAPI Examples\n"
        ),
        "reminder": False,
        "thank_you": False,
    }


@pytest.mark.parametrize("query", ["", "reminder=false", "reminder=0&thank_you=false"])
async def test_without_a_flag_it_is_the_general_message(client: Client, query: str) -> None:
    answer = await _suggestion(client, query)
    assert answer["subject"] == "Invoice #1002 from API Examples"
    assert "Amount: €288.90\n" in answer["body"]
    assert answer["reminder"] is answer["thank_you"] is False


async def test_thank_you_is_a_text_of_its_own(client: Client) -> None:
    answer = await _suggestion(client, "thank_you=true")
    assert answer["subject"] == "Thank you for your payment of invoice #1002 from API Examples"
    assert answer["reminder"] is answer["thank_you"] is False


async def test_a_reminder_wins_over_a_thank_you(client: Client) -> None:
    both = await _suggestion(client, "thank_you=true&reminder=true")
    assert both == await _suggestion(client, "reminder=true")


@pytest.mark.parametrize("flag", ["reminder", "thank_you"])
async def test_a_flag_that_is_no_boolean_is_422(client: Client, flag: str) -> None:
    response = await client.get(f"{NEW}?{flag}=maybe")
    assert response.status == 422
    assert (await response.json())["message"].startswith(f"{flag} must be true or false")


async def test_asking_creates_nothing(client: Client) -> None:
    await _suggestion(client, "")
    listed = await (await client.get("/v2/invoices/13150403/messages")).json()
    assert listed["total_entries"] == 2


@pytest.mark.parametrize("invoice", [1420, 1421, 4500])
async def test_every_invoice_has_a_suggestion(client: Client, invoice: int) -> None:
    response = await client.get(f"/v2/invoices/{invoice}/messages/new")
    assert (await response.json())["subject"] == f"Invoice #{invoice} from API Examples"
