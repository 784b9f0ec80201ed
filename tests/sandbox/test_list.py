"""Listing and deleting: what the sandbox holds, the order, the envelope, the filters."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from yarl import URL

Client = TestClient[web.Request, web.Application]
Start = Callable[..., Awaitable[Client]]
PRINTED = "/v2/invoices/13150403/messages"
CLASSIC = "/v2/invoices/1420/messages"
LONG = "/v2/invoices/4500/messages"


class Clock(Protocol):
    def advance(self, seconds: float) -> None: ...


async def _list(client: Client, path: str | URL, **query: str | int) -> dict[str, Any]:
    response = await client.get(path, params=query or None)
    assert response.status == 200, await response.text()
    assert response.headers["Content-Type"] == "application/json; charset=utf-8"
    answer: dict[str, Any] = await response.json()
    return answer


async def _follow(client: Client, link: str) -> dict[str, Any]:
    url = URL(link)
    assert url.origin() == client.make_url("/").origin()
    return await _list(client, url.relative())


def _ids(answer: dict[str, Any]) -> list[int]:
    return [message["id"] for message in answer["invoice_messages"]]


async def test_the_documented_list_is_answered_as_documented(client: Client) -> None:
    answer = await _list(client, PRINTED)
    base = str(client.make_url(PRINTED))
    assert list(answer) == [
        "invoice_messages",
        "per_page",
        "total_pages",
        "total_entries",
        "next_page",
        "previous_page",
        "page",
        "links",
    ]
    newest, oldest = answer.pop("invoice_messages")
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
    assert (newest["id"], oldest["id"]) == (27835209, 27835207)
    assert newest == {
        "id": 27835209,
        "sent_by": "Bob Powell",
        "sent_by_email": "bobpowell@example.com",
        "sent_from": "Bob Powell",
        "sent_from_email": "bobpowell@example.com",
        "include_link_to_client_invoice": False,
        "send_me_a_copy": False,
        "thank_you": False,
        "reminder": False,
        "send_reminder_on": None,
        "created_at": "2017-08-23T22:15:06Z",
        "updated_at": "2017-08-23T22:15:06Z",
        "attach_pdf": True,
        "event_type": None,
        "recipients": [{"name": "Richard Roe", "email": "richardroe@example.com"}],
        "subject": "Past due invoice reminder: #1001 from API Examples",
        "body": (
            "Dear Customer,\r\n\r\nThis is a friendly reminder to let you know that Invoice 1001 "
            "is 144 days past due. If you have already sent the payment, please disregard this "
            "message. If not, we would appreciate your prompt attention to this matter.\r\n\r\n"
            "Thank you for your business.\r\n\r\nCheers,\r\nAPI Examples"
        ),
    }


async def test_the_order_is_by_creation_and_not_by_id(client: Client) -> None:
    answer = await _list(client, CLASSIC)
    assert _ids(answer) == [403, 409]
    second = answer["invoice_messages"][1]
    assert second["created_at"] == "2008-04-09T20:44:54Z"
    assert second["body"] == "The message body goes here"
    assert second["sent_by"] == "My Name"
    assert second["send_me_a_copy"] is True
    assert second["recipients"] == [
        {"name": "Jane Doe", "email": "jane@doe.org"},
        {"name": "My Name", "email": "my@email.com"},
    ]


async def test_messages_of_the_same_second_are_ordered_by_id(client: Client) -> None:
    answer = await _list(client, LONG, per_page=3)
    assert len({message["created_at"] for message in answer["invoice_messages"]}) == 1
    assert _ids(answer) == [4504500, 4504499, 4504498]


async def test_a_draft_has_an_empty_list_of_one_page(client: Client) -> None:
    answer = await _list(client, "/v2/invoices/1421/messages")
    assert answer["invoice_messages"] == []
    assert (answer["page"], answer["total_pages"], answer["total_entries"]) == (1, 1, 0)
    assert answer["links"]["next"] is answer["links"]["previous"] is None


async def test_the_long_list_takes_three_pages_by_cursor(client: Client) -> None:
    first = await _list(client, LONG)
    assert (first["page"], first["next_page"], first["total_pages"]) == (1, 2, 3)
    second = await _follow(client, first["links"]["next"])
    third = await _follow(client, second["links"]["next"])
    assert third["links"]["next"] is None
    for page in (second, third):
        assert page["page"] is page["next_page"] is page["previous_page"] is None
        assert (page["total_pages"], page["total_entries"]) == (3, 4500)
    assert [*_ids(first), *_ids(second), *_ids(third)] == list(range(4504500, 4500000, -1))


async def test_the_previous_links_lead_back(client: Client) -> None:
    first = await _list(client, LONG)
    second = await _follow(client, first["links"]["next"])
    third = await _follow(client, second["links"]["next"])
    second_again = await _follow(client, third["links"]["previous"])
    first_again = await _follow(client, second_again["links"]["previous"])
    assert _ids(second_again) == _ids(second)
    assert _ids(first_again) == _ids(first)
    assert first_again["links"]["previous"] is None


async def test_pages_by_number_still_work(client: Client) -> None:
    second = await _list(client, LONG, page=2)
    assert (second["page"], second["next_page"], second["previous_page"]) == (2, 3, 1)
    assert _ids(second)[0] == 4502500
    last = await _follow(client, second["links"]["last"])
    assert (last["page"], last["next_page"], last["previous_page"]) == (3, None, 2)
    assert len(last["invoice_messages"]) == 500


async def test_a_page_beyond_the_last_is_empty(client: Client) -> None:
    answer = await _list(client, LONG, page=4)
    assert answer["invoice_messages"] == []
    assert (answer["page"], answer["next_page"], answer["previous_page"]) == (4, None, 3)
    assert (await _list(client, LONG, page=10**15))["invoice_messages"] == []


async def test_a_cursor_wins_over_a_page(client: Client) -> None:
    link = URL((await _list(client, LONG, per_page=10))["links"]["next"])
    answer = await _follow(client, str(link.update_query(page=7)))
    assert answer["page"] is None
    assert _ids(answer)[0] == 4504490


async def test_links_are_to_the_host_that_was_asked(client: Client) -> None:
    response = await client.get(LONG, headers={"Host": "api.example.com:8443"})
    links = (await response.json())["links"]
    for name in ("first", "next", "last"):
        assert links[name].startswith("http://api.example.com:8443/v2/invoices/4500/messages?")


@pytest.mark.parametrize(
    "text", ["0", "2001", "-1", "ten", "1.5", "", " 1", "1_0", "\u0661", "9" * 5000]
)
async def test_a_per_page_outside_1_to_2000_is_422(client: Client, text: str) -> None:
    response = await client.get(LONG, params={"per_page": text})
    assert response.status == 422
    assert response.headers["Content-Type"] == "application/json; charset=utf-8"
    assert "per_page must be an integer between 1 and 2000" in (await response.json())["message"]


@pytest.mark.parametrize("text", ["0", "-1", "two", "", "9" * 19])
async def test_a_page_that_is_no_page_number_is_422(client: Client, text: str) -> None:
    response = await client.get(LONG, params={"page": text})
    assert response.status == 422


@pytest.mark.parametrize(
    "since",
    [
        "2017-08-23T22:15:06Z",
        "2017-08-23T22:14:49.5Z",
        "2017-08-24T00:15:06+02:00",
        "2017-08-23T22:15:06",
        "2017-08-23 22:15:06",
    ],
)
async def test_updated_since_keeps_what_is_no_older(client: Client, since: str) -> None:
    answer = await _list(client, PRINTED, updated_since=since)
    assert _ids(answer) == [27835209]
    assert answer["total_entries"] == 1


@pytest.mark.parametrize(
    ("since", "found"), [("2017-08-23", 2), ("2017-08-24", 0), ("9999-12-31T23:59:59Z", 0)]
)
async def test_updated_since_can_keep_all_or_nothing(
    client: Client, since: str, found: int
) -> None:
    assert (await _list(client, PRINTED, updated_since=since))["total_entries"] == found


@pytest.mark.parametrize(
    "since", ["", "yesterday", "2017-13-01", "1503526506", "0001-01-01T00:00:00+14:00"]
)
async def test_an_updated_since_that_is_no_iso_time_is_422(client: Client, since: str) -> None:
    response = await client.get(PRINTED, params={"updated_since": since})
    assert response.status == 422
    assert "updated_since" in (await response.json())["message"]


async def test_the_links_keep_the_filters(client: Client) -> None:
    since = "2018-01-01T00:00:00Z"
    pages = [await _list(client, LONG, per_page=7, updated_since="2016-07-01T00:00:00Z")]
    total = pages[0]["total_entries"]
    assert 0 < total < 4500
    for name in ("first", "next", "last"):
        query = URL(pages[0]["links"][name]).query
        assert (query["per_page"], query["updated_since"]) == ("7", "2016-07-01T00:00:00Z")
    second = await _follow(client, pages[0]["links"]["next"])
    assert (second["per_page"], second["total_entries"]) == (7, total)
    assert (await _list(client, LONG, updated_since=since))["total_entries"] < total


@pytest.mark.parametrize(
    "tamper",
    [
        lambda cursor: cursor[:-1],
        lambda cursor: cursor + "A",
        lambda cursor: cursor + "=",
        lambda cursor: "*" + cursor,
        lambda cursor: cursor[:20] + ("A" if cursor[20] != "A" else "B") + cursor[21:],
        lambda cursor: cursor.swapcase(),
        lambda cursor: cursor + "é",
    ],
)
async def test_a_tampered_cursor_is_422(client: Client, tamper: Callable[[str], str]) -> None:
    link = URL((await _list(client, LONG, per_page=10))["links"]["next"])
    response = await client.get(LONG, params={"cursor": tamper(link.query["cursor"])})
    assert response.status == 422
    assert await response.json() == {"message": "cursor is invalid"}


@pytest.mark.parametrize("cursor", ["", "AAAAAA", "2", "eyJhZnRlciI6eyJpZCI6MX19"])
async def test_a_cursor_of_somebody_elses_making_is_422(client: Client, cursor: str) -> None:
    response = await client.get(LONG, params={"cursor": cursor})
    assert response.status == 422


async def test_a_cursor_of_another_invoice_is_422(client: Client) -> None:
    link = URL((await _list(client, LONG, per_page=10))["links"]["next"])
    response = await client.get(PRINTED, params={"cursor": link.query["cursor"]})
    assert response.status == 422


async def test_a_cursor_stays_good_while_messages_come_and_go(client: Client, clock: Clock) -> None:
    first = await _list(client, LONG, per_page=10)
    clock.advance(1)
    await client.post(LONG, json={"send_me_a_copy": True})
    # The message that the cursor stands on, one before it, and one to come.
    for gone in (4504491, 4504500, 4504489):
        assert (await client.delete(f"{LONG}/{gone}")).status == 200
    second = await _follow(client, first["links"]["next"])
    assert _ids(second) == [4504490, *range(4504488, 4504479, -1)]
    assert second["total_entries"] == 4498


async def test_a_page_whose_messages_are_all_gone_is_empty_and_the_last(client: Client) -> None:
    first = await _list(client, PRINTED, per_page=1)
    await client.delete(f"{PRINTED}/27835207")
    second = await _follow(client, first["links"]["next"])
    assert second["invoice_messages"] == []
    assert second["links"]["next"] is None


async def test_a_deleted_message_is_answered_with_nothing_and_gone(client: Client) -> None:
    response = await client.delete(f"{PRINTED}/27835209")
    assert response.status == 200
    assert await response.read() == b""
    assert _ids(await _list(client, PRINTED)) == [27835207]
    assert (await client.delete(f"{PRINTED}/27835209")).status == 404


async def test_the_long_list_has_what_a_translation_may_stumble_over(client: Client) -> None:
    messages = (await _list(client, LONG))["invoice_messages"]
    names = {recipient["name"] for message in messages for recipient in message["recipients"]}
    assert {"Zoë Müller", "山田 太郎", "Ó Briain, Seán", 'Jim "Jimbo" Moe', None} <= names
    assert {message["event_type"] for message in messages} == {None, "close", "re-open"}
    assert any(message["subject"] is None and message["body"] for message in messages)
    assert any("\r\n" in (message["body"] or "") for message in messages)
    assert any(message["reminder"] and message["send_reminder_on"] for message in messages)
    assert any(message["thank_you"] for message in messages)


async def test_two_sandboxes_hold_the_same(start: Start) -> None:
    one, other = await start(), await start()
    assert (await _list(one, LONG))["invoice_messages"] == (await _list(other, LONG))[
        "invoice_messages"
    ]
