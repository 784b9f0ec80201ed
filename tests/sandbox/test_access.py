"""Who may call, with which headers, how often; and what a call of nothing is told."""

from collections.abc import Mapping
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from bridge.sandbox.app import (
    SANDBOX_LIMITED_TOKEN,
    SANDBOX_SECOND_ACCOUNT_ID,
    SANDBOX_SECOND_TOKEN,
    SECOND_INVOICE_ID,
    create_sandbox,
)

Client = TestClient[web.Request, web.Application]
LIST = "/v2/invoices/13150403/messages"
JSON = "application/json; charset=utf-8"
SECOND = {
    "Authorization": f"Bearer {SANDBOX_SECOND_TOKEN}",
    "Harvest-Account-Id": str(SANDBOX_SECOND_ACCOUNT_ID),
}
SECOND_LIST = f"/v2/invoices/{SECOND_INVOICE_ID}/messages"


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": ""},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic sandbox-token"},
        {"Authorization": "sandbox-token"},
        {"Harvest-Account-Id": ""},
        {"Harvest-Account-Id": "1001"},
        {"Harvest-Account-Id": "thousand"},
        {"Harvest-Account-Id": "2000"},
        {"Authorization": f"Bearer {SANDBOX_SECOND_TOKEN}"},
    ],
    ids=str,
)
async def test_a_call_without_a_known_token_and_account_is_401(
    client: Client, headers: Mapping[str, str]
) -> None:
    response = await client.get(LIST, headers=headers)
    assert response.status == 401
    assert response.headers["Content-Type"] == JSON
    assert response.headers["WWW-Authenticate"].startswith("Bearer ")
    assert await response.json() == {
        "error": "invalid_token",
        "error_description": (
            "The access token provided is expired, revoked, malformed or invalid for other reasons."
        ),
    }


async def test_a_call_without_any_of_our_headers_is_401(aiohttp_client: AiohttpClient) -> None:
    response = await (await aiohttp_client(create_sandbox())).get(LIST)
    assert response.status == 401


@pytest.mark.parametrize(
    ("headers", "theirs", "others"), [({}, LIST, SECOND_LIST), (SECOND, SECOND_LIST, LIST)]
)
async def test_an_account_has_its_own_invoices_only(
    client: Client, headers: Mapping[str, str], theirs: str, others: str
) -> None:
    message = {"send_me_a_copy": True}
    assert (await client.post(theirs, json=message, headers=headers)).status == 201
    listed = await (await client.get(theirs, headers=headers)).json()
    newest = listed["invoice_messages"][0]["id"]
    foreign = {} if headers else SECOND
    for method, path in (
        ("GET", theirs),
        ("GET", f"{theirs}/new"),
        ("POST", theirs),
        ("DELETE", f"{theirs}/{newest}"),
    ):
        answer = await client.request(method, path, headers=foreign, json=message)
        assert answer.status == 404
    assert (await client.get(theirs, headers=headers)).status == 200
    assert (await client.get(others, headers=headers)).status == 404


async def test_the_scheme_of_the_token_is_read_in_any_case(client: Client) -> None:
    response = await client.get(LIST, headers={"Authorization": "bearer sandbox-token"})
    assert response.status == 200


@pytest.mark.parametrize("agent", ["", "   "])
async def test_a_call_without_a_user_agent_is_400(client: Client, agent: str) -> None:
    response = await client.get(LIST, headers={"User-Agent": agent})
    assert response.status == 400
    assert await response.json() == {"message": "User-Agent header is missing"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", LIST),
        ("POST", LIST),
        ("GET", f"{LIST}/new"),
        ("DELETE", f"{LIST}/27835209"),
    ],
)
async def test_a_user_who_may_not_edit_invoices_is_403_on_every_call(
    client: Client, method: str, path: str
) -> None:
    limited = {"Authorization": f"Bearer {SANDBOX_LIMITED_TOKEN}"}
    response = await client.request(method, path, headers=limited)
    assert response.status == 403
    assert response.headers["Content-Type"] == JSON
    assert "message" in await response.json()
    assert (await (await client.get(LIST)).json())["total_entries"] == 2


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/v2/invoices"),
        ("GET", "/v2/clients"),
        ("GET", "/v2/invoices/13150403"),
        ("GET", "/v2/invoices/1/messages"),
        ("GET", "/v2/invoices/1/messages/new"),
        ("GET", "/v2/invoices/0/messages"),
        ("GET", "/v2/invoices/abc/messages"),
        ("GET", "/v2/invoices/-1/messages"),
        ("GET", "/v2/invoices/%D9%A1/messages"),
        ("GET", "/v2/invoices/13150403.json/messages"),
        ("GET", "/v2/invoices/9223372036854775807/messages"),
        ("GET", "/v2/invoices/9223372036854775808/messages"),
        ("GET", f"/v2/invoices/{'9' * 5000}/messages"),
        ("DELETE", f"{LIST}/1"),
        ("DELETE", f"{LIST}/403"),
        ("DELETE", f"{LIST}/abc"),
        ("DELETE", f"{LIST}/9223372036854775808"),
        ("DELETE", "/v2/invoices/1/messages/27835209"),
    ],
)
async def test_what_is_not_there_is_404(client: Client, method: str, path: str) -> None:
    response = await client.request(method, path)
    assert response.status == 404
    assert response.headers["Content-Type"] == JSON
    assert "message" in await response.json()


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", f"{LIST}/27835209", {"DELETE"}),
        ("PATCH", f"{LIST}/27835209", {"DELETE"}),
        ("DELETE", LIST, {"GET", "HEAD", "POST"}),
        ("PUT", LIST, {"GET", "HEAD", "POST"}),
        ("POST", f"{LIST}/new", {"GET", "HEAD"}),
        ("DELETE", f"{LIST}/new", {"GET", "HEAD"}),
    ],
)
async def test_a_method_that_v2_does_not_have_is_405(
    client: Client, method: str, path: str, allowed: set[str]
) -> None:
    response = await client.request(method, path)
    assert response.status == 405
    assert set(response.headers["Allow"].split(",")) == allowed
    assert response.headers["Content-Type"] == JSON
    assert await response.json() == {"message": "Method Not Allowed"}


async def test_a_failure_of_the_sandbox_itself_is_500_as_json(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("bridge.sandbox.app.suggest", fail)
    response = await client.get(f"{LIST}/new")
    assert response.status == 500
    assert await response.json() == {"message": "Internal server error"}


@pytest.mark.parametrize(
    "path", ["/", "/users/me", "/v1/users/me", "/v2", "/invoices/1420/messages"]
)
@pytest.mark.parametrize("headers", [{}, {"Authorization": ""}], ids=["known", "unknown"])
async def test_beside_the_api_it_is_any_web_server(
    client: Client, path: str, headers: Mapping[str, str]
) -> None:
    """So that a wrong base URL shows: v2 asks for a token at every path of its own."""
    assert (await client.get(path, headers=headers)).status == 404
    assert (await client.get("/v2/users/me", headers={"Authorization": ""})).status == 401
