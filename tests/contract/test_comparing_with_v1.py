"""v1's answers, as the sandbox's v1 gives them, and the bridge's differ by what is known alone."""

from collections.abc import Mapping

import aiohttp

from bridge.comparing import Answer, Comparison, Result, compare
from bridge.sandbox.app import create_sandbox
from bridge.sandbox.seeds import SANDBOX_LIMITED_TOKEN, SANDBOX_TOKEN, USERS, V1_PASSWORDS
from bridge.sandbox.v1.app import create_v1
from tests.support.legacy import LegacyClient
from tests.support.running import running_app, running_bridge

OF_ALL: Mapping[str, dict[str, int]] = {
    "/invoice/1420/messages": {},
    "/invoices/1420/messages": {},
    "/invoices/1420/messages/409": {},
    "/invoice/1420/messages/403": {},
    "/invoices/1420/message/403": {},
    "/invoice/1420/messages.xml?updated_since=2008-04-09+20:46": {},
    "/invoice/1421/messages": {"empty-list": 1},
    "/invoices/1421/messages/": {},
    "/invoice/13150403/messages": {"line-ends": 2},
    "/invoices/13150403/messages/27835209": {"line-ends": 1},
    "/invoice/4500/messages": {"line-ends": 1929},
    "/invoice/1420/payments": {},
    "/invoices/1420/payments": {},
    "/invoice/1420/payment/45": {},
    "/invoices/1420/payments/46": {},
    "/invoice/1421/payments": {"empty-list": 1},
    "/invoices/1421/payments": {},
    "/account/who_am_i": {"host-called": 2, "avatar-host": 1},
    "/invoices/1420/messages/1": {"error-body": 1},
    "/invoices/99/payments": {"error-body": 1},
}
"""Which known differences each call of an administrator meets, and how often."""

OF_A_MEMBER: Mapping[str, dict[str, int]] = {
    "/account/who_am_i": {"host-called": 2, "avatar-host": 1},
    "/invoices/1420/messages": {"error-status": 1},
}
OF_NOBODY: Mapping[str, dict[str, int]] = {"/invoices/1420/messages": {"error-body": 1}}


async def compared(v1: str, bridge: LegacyClient, path: str, token: str | None) -> Comparison:
    """Ask both sides for a path, as the user of a token or as nobody."""
    as_v1_knows, as_v2_knows = {}, None
    if token is not None:
        login = USERS[token].email
        as_v1_knows = {"Authorization": aiohttp.encode_basic_auth(login, V1_PASSWORDS[token])}
        as_v2_knows = aiohttp.encode_basic_auth(login, token)
    async with aiohttp.request("GET", f"{v1}{path}", headers=as_v1_knows) as answer:
        of_v1 = Answer(answer.status, answer.headers.get("Content-Type"), await answer.read())
    told = await bridge.get(path, authorization=as_v2_knows)
    of_bridge = Answer(told.status, told.headers.get("Content-Type"), told.body)
    return compare(of_v1, of_bridge, wants_values=True)


async def test_the_answers_differ_by_what_is_known_alone() -> None:
    asked: dict[str | None, Mapping[str, dict[str, int]]] = {
        SANDBOX_TOKEN: OF_ALL,
        SANDBOX_LIMITED_TOKEN: OF_A_MEMBER,
        None: OF_NOBODY,
    }
    v2 = create_sandbox()
    async with (
        running_app(v2) as url,
        running_app(create_v1(v2)) as v1,
        running_bridge(f"{url}/v2") as bridge,
    ):
        for token, known in asked.items():
            found = {path: await compared(v1, bridge, path, token) for path in known}
            assert [
                (path, each.differences) for path, each in found.items() if each.differences
            ] == []
            assert {
                path for path, each in found.items() if each.result is not Result.EQUAL
            } == set()
            assert {path: each.known for path, each in found.items()} == known


async def test_of_the_rate_limit_each_side_has_its_own_count() -> None:
    v2 = create_sandbox()
    async with (
        running_app(v2) as url,
        running_app(create_v1(v2)) as v1,
        running_bridge(f"{url}/v2") as bridge,
    ):
        found = await compared(v1, bridge, "/account/rate_limit_status", SANDBOX_TOKEN)
    assert found.result is Result.EQUAL
    assert set(found.known) - {"time-spelling"} == {"own-count"}  # or the second is the same
