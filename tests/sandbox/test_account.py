"""Who is calling and for which company, as v2's documentation has them."""

from collections.abc import Mapping

import pytest

from bridge.sandbox.app import (
    SANDBOX_LIMITED_TOKEN,
    SANDBOX_SECOND_ACCOUNT_ID,
    SANDBOX_SECOND_TOKEN,
)
from tests.sandbox.conftest import Client, Start

MARY = {"Authorization": f"Bearer {SANDBOX_LIMITED_TOKEN}"}
SUE = {
    "Authorization": f"Bearer {SANDBOX_SECOND_TOKEN}",
    "Harvest-Account-Id": str(SANDBOX_SECOND_ACCOUNT_ID),
}

USER = {
    "id", "first_name", "last_name", "email", "telephone", "timezone",
    "has_access_to_all_future_projects", "is_contractor", "is_active", "weekly_capacity",
    "default_hourly_rate", "cost_rate", "roles", "access_roles", "avatar_url", "created_at",
    "updated_at",
}  # fmt: skip
COMPANY = {
    "base_uri", "full_domain", "name", "is_active", "week_start_day", "wants_timestamp_timers",
    "time_format", "date_format", "plan_type", "clock", "currency_code_display",
    "currency_symbol_display", "decimal_symbol", "thousands_separator", "color_scheme",
    "weekly_capacity", "expense_feature", "invoice_feature", "estimate_feature",
    "approval_feature", "team_feature",
}  # fmt: skip


@pytest.mark.parametrize(
    ("headers", "email", "roles"),
    [
        ({}, "bobpowell@example.com", ["administrator"]),
        (MARY, "marymajor@example.com", ["member"]),
        (SUE, "suesecond@example.com", ["administrator"]),
    ],
)
async def test_everybody_may_see_who_they_are(
    client: Client, headers: Mapping[str, str], email: str, roles: list[str]
) -> None:
    response = await client.get("/v2/users/me", headers=headers)

    user = await response.json()
    assert response.status == 200
    assert set(user) == USER
    assert (user["email"], user["access_roles"]) == (email, roles)


@pytest.mark.parametrize(
    ("headers", "domain"),
    [
        ({}, "api-examples.harvestapp.com"),
        (MARY, "api-examples.harvestapp.com"),
        (SUE, "second.harvestapp.com"),
    ],
)
async def test_everybody_may_see_their_company(
    client: Client, headers: Mapping[str, str], domain: str
) -> None:
    response = await client.get("/v2/company", headers=headers)

    company = await response.json()
    assert response.status == 200
    assert set(company) == COMPANY
    assert company["full_domain"] == domain
    assert company["base_uri"] == f"https://{domain}"


@pytest.mark.parametrize(("headers", "status"), [({}, 200), (MARY, 403)])
async def test_the_company_can_be_for_administrators_only(
    start: Start, headers: Mapping[str, str], status: int
) -> None:
    client = await start(company_for_admins=True)

    assert (await client.get("/v2/company", headers=headers)).status == status
    assert (await client.get("/v2/users/me", headers=headers)).status == 200


@pytest.mark.parametrize("path", ["/v2/users/me", "/v2/company"])
async def test_both_need_what_every_call_needs(client: Client, path: str) -> None:
    assert (await client.get(path, headers={"Authorization": ""})).status == 401
    assert (await client.get(path, headers={"User-Agent": ""})).status == 400
    assert (await client.post(path)).status == 405
