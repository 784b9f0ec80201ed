"""Who is let in, and as whom v2 sees them (schemas/README.md, "Who is calling")."""

import base64

import aiohttp
import pytest

from bridge.identity.callers import Way
from tests.support.legacy import LegacyClient
from tests.support.running import running_bridge
from tests.support.upstream import Reply, ScriptedUpstream, page

LIST = "/invoice/1420/messages"
PAIR = base64.b64encode(b"any@example.com:sandbox-token").decode()


@pytest.mark.parametrize(
    "authorization",
    [
        pytest.param(f"Basic {PAIR}", id="basic"),
        pytest.param(f"basic {PAIR}", id="basic in lower case"),
        pytest.param(f"Basic ({PAIR})", id="in the parentheses of v1's documentation"),
        pytest.param("Bearer sandbox-token", id="bearer"),
    ],
)
async def test_accepted_authorization(bridge: LegacyClient, authorization: str) -> None:
    assert (await bridge.get(LIST, authorization=authorization)).status == 200


async def test_accepted_access_token(bridge: LegacyClient) -> None:
    answer = await bridge.get(f"{LIST}?access_token=sandbox-token", authorization=None)

    assert answer.status == 200


@pytest.mark.parametrize(
    "authorization",
    [
        pytest.param(None, id="none"),
        pytest.param("", id="empty"),
        pytest.param("Basic", id="scheme only"),
        pytest.param("Basic !!!", id="not base64"),
        pytest.param(f"Digest {PAIR}", id="another scheme"),
        pytest.param(aiohttp.encode_basic_auth("any@example.com", ""), id="empty password"),
        pytest.param(
            aiohttp.encode_basic_auth("a", "sandbox-token\r\nX: y"), id="header injection"
        ),
        pytest.param(aiohttp.encode_basic_auth("a", "wrong"), id="a token v2 does not know"),
        pytest.param("Bearer wrong", id="a bearer v2 does not know"),
    ],
)
async def test_no_or_wrong_credential_is_401(
    bridge: LegacyClient, authorization: str | None
) -> None:
    answer = await bridge.get(LIST, authorization=authorization)

    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == 'Basic realm="Harvest"'
    assert answer.errors


async def test_without_a_usable_credential_v2_is_not_asked(
    upstream: ScriptedUpstream, scripted_bridge: LegacyClient
) -> None:
    upstream.says(page())

    await scripted_bridge.get(LIST, authorization=None)

    assert not upstream.received


async def test_a_token_without_invoice_permission_is_403(bridge: LegacyClient) -> None:
    answer = await bridge.get(LIST, authorization="Bearer sandbox-limited")

    assert answer.status == 403
    assert answer.errors


@pytest.mark.parametrize(
    ("way", "accepted"),
    [(Way.TOKEN_AS_PASSWORD, f"Basic {PAIR}"), (Way.BEARER, "Bearer sandbox-token")],
)
async def test_a_way_that_is_off_is_401(sandbox: str, way: Way, accepted: str) -> None:
    for enabled in (Way.TOKEN_AS_PASSWORD, Way.BEARER):
        async with running_bridge(sandbox, auth=frozenset({enabled})) as client:
            answer = await client.get(LIST, authorization=accepted)

            assert answer.status == (200 if enabled is way else 401)


async def test_v2_is_told_token_account_application_and_contact(
    upstream: ScriptedUpstream,
) -> None:
    upstream.says(page())
    async with running_bridge(
        upstream.base_url, account_id=77, contact="ops@example.com"
    ) as client:
        await client.get(LIST, authorization="Bearer abc")

    headers = upstream.received[0].headers
    assert headers["Authorization"] == "Bearer abc"
    assert headers["Harvest-Account-Id"] == "77"
    assert headers["User-Agent"].startswith("harvest-bridge/")
    assert headers["User-Agent"].endswith("(ops@example.com)")


async def test_the_access_token_goes_no_further_than_the_authorization_header(
    upstream: ScriptedUpstream, scripted_bridge: LegacyClient
) -> None:
    upstream.says(page())

    answer = await scripted_bridge.get(f"{LIST}?access_token=sesame", authorization=None)

    assert upstream.received[0].headers["Authorization"] == "Bearer sesame"
    assert "sesame" not in upstream.received[0].query
    assert "sesame" not in str(answer.headers)


async def test_cookies_of_one_caller_do_not_reach_the_next(
    upstream: ScriptedUpstream, scripted_bridge: LegacyClient
) -> None:
    upstream.says(Reply(b"{}", 404, {"Set-Cookie": "session=1"}), page())

    await scripted_bridge.get(LIST)
    await scripted_bridge.get(LIST)

    assert "Cookie" not in upstream.received[1].headers
