"""Who is calling, and how near to v2's limit, over real sockets (schemas/README.md, "Account")."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from bridge.identity.callers import Way
from bridge.sandbox.app import SANDBOX_LIMITED_TOKEN, create_sandbox
from bridge.v1.dialects import Dialect
from tests.support.books import enter, write_token
from tests.support.clocks import Leaps, until
from tests.support.gateways import free_port
from tests.support.hardy import JSON, STATUS, GivenUp, HardyClient
from tests.support.held_upstream import HeldUpstream, running_held_upstream
from tests.support.legacy import Answer, LegacyClient, assert_valid
from tests.support.running import LOOPBACK, running_app, running_bridge, running_service
from tests.support.upstream import Reply, ScriptedUpstream, page
from tests.support.writing import getting

WHO = "/account/who_am_i"
LIST = "/invoices/1420/messages"
MARY = aiohttp.encode_basic_auth("mary@example.com", SANDBOX_LIMITED_TOKEN)
NOT_IDENTIFIED = (401, ["Authentication failed for API request."])
BOTH = pytest.mark.parametrize("path", [WHO, STATUS])


@pytest.fixture(autouse=True)
async def leaps() -> Leaps:
    """First of all, for a gateway keeps the clock that it finds."""
    return Leaps()


@pytest.fixture
async def for_admins() -> AsyncIterator[LegacyClient]:
    """A client of a bridge to a v2 that shows companies to administrators only."""
    async with (
        running_app(create_sandbox(company_for_admins=True)) as url,
        running_bridge(f"{url}/v2") as client,
    ):
        yield client


@pytest.fixture
async def held() -> AsyncIterator[HeldUpstream]:
    async with running_held_upstream() as upstream:
        yield upstream


def count(status: Answer) -> int:
    (text,) = status.texts("count")
    return int(text)


@BOTH
class TestBoth:
    @pytest.mark.parametrize("dialect", [None, *Dialect])
    async def test_are_classic_unless_an_operator_decides(
        self, sandbox: str, path: str, dialect: Dialect | None
    ) -> None:
        async with running_bridge(sandbox, dialect=dialect) as client:
            answer = await client.get(path)

        folder = path.removeprefix("/account/").replace("_", "-")
        assert answer.status == 200
        assert answer.xml.tag == "hash"
        assert_valid(answer.body, f"account/{folder}/{dialect or Dialect.CLASSIC}-item")

    async def test_are_for_nobody_without_a_credential(
        self, bridge: LegacyClient, path: str
    ) -> None:
        answer = await bridge.get(path, authorization=None)

        assert (answer.status, answer.errors) == NOT_IDENTIFIED
        assert answer.headers["WWW-Authenticate"] == 'Basic realm="Harvest"'

    async def test_are_for_nobody_with_a_wrong_password(
        self, sandbox: str, tmp_path: Path, path: str
    ) -> None:
        book = tmp_path / "book.toml"
        token = write_token(tmp_path, "acme", "sandbox-token")
        enter(book, "acme", "jane@acme.example", "janes-word", 1000, token)
        async with running_service(sandbox, auth={Way.BOOK}, book=book, subdomain="acme") as (
            _,
            client,
        ):
            right, wrong = [
                await client.get(
                    path, authorization=aiohttp.encode_basic_auth("jane@acme.example", password)
                )
                for password in ("janes-word", "another")
            ]

        assert right.status == 200
        assert (wrong.status, wrong.errors) == NOT_IDENTIFIED

    async def test_can_be_asked_as_clients_spell_them(
        self, bridge: LegacyClient, path: str
    ) -> None:
        for spelling in (f"{path}.xml", f"{path}/"):
            assert (await bridge.get(spelling)).status == 200
        head = await bridge.call("HEAD", path)
        assert (head.status, head.body) == (200, b"")
        assert int(head.headers["Content-Length"]) > 0

    async def test_can_be_asked_and_nothing_else(self, bridge: LegacyClient, path: str) -> None:
        answer = await bridge.call("POST", path, body=b"<hash/>")

        assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


async def test_the_rest_of_the_account_is_not_translated(bridge: LegacyClient) -> None:
    assert (await bridge.get("/account")).status == 501
    assert (await bridge.get("/account/other")).status == 501


class TestWhoAmI:
    async def test_tells_the_user_and_the_company(self, bridge: LegacyClient) -> None:
        answer = await bridge.get(WHO)

        assert answer.texts("email") == ["bobpowell@example.com"]
        assert answer.texts("admin") == ["true"]
        assert answer.texts("name") == ["API Examples"]
        assert answer.headers["Link"].startswith("<https://api.harvestapp.com/v2/users/me>")

    @pytest.mark.parametrize("host", ["acme.harvestapp.com", "bridge.internal:8080"])
    async def test_keeps_a_client_at_the_host_that_it_called(
        self, bridge: LegacyClient, host: str
    ) -> None:
        answer = await bridge.get(WHO, headers={"Host": host})

        assert answer.texts("base-uri") == [f"http://{host}"]
        assert answer.texts("full-domain") == [host]

    async def test_who_calls_another_host_at_the_same_time_is_told_that_one(
        self, held: HeldUpstream
    ) -> None:
        async with running_bridge(held.base_url) as client:
            answers = [
                asyncio.create_task(client.get(WHO, headers={"Host": host}))
                for host in ("acme.harvestapp.com", "beta.harvestapp.com")
            ]
            # What v2 is asked for can be shared.
            (await held.next()).answer({"id": 1})
            (await held.next()).answer({})
            await until(lambda: all(each.done() for each in answers))

        assert [each.result().texts("full-domain") for each in answers] == [
            ["acme.harvestapp.com"],
            ["beta.harvestapp.com"],
        ]

    async def test_behind_a_proxy_the_host_is_what_the_proxy_says(self, sandbox: str) -> None:
        forwarded = {"X-Forwarded-Host": "acme.harvestapp.com", "X-Forwarded-Proto": "https"}
        async with running_bridge(sandbox, trusted_proxies="127.0.0.1") as trusting:
            trusted = await trusting.get(WHO, headers=forwarded)
        async with running_bridge(sandbox) as wary:
            unknown = await wary.get(WHO, headers=forwarded)

        assert trusted.texts("base-uri") == ["https://acme.harvestapp.com"]
        assert unknown.texts("base-uri") == [f"http://{LOOPBACK}:{wary.port}"]

    @pytest.mark.parametrize("host", [b"a b", b"<x>", b"\xff", b"a/b@c"])
    async def test_a_host_that_is_none_does_no_harm(
        self, bridge: LegacyClient, host: bytes
    ) -> None:
        authorization = aiohttp.encode_basic_auth("a", "sandbox-token").encode()
        answer = await bridge.raw(
            b"GET /account/who_am_i HTTP/1.1\r\nConnection: close\r\n"
            b"Authorization: " + authorization + b"\r\nHost: " + host + b"\r\n\r\n"
        )

        head, _, body = answer.partition(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 200"):
            assert_valid(body, "account/who-am-i/classic-item")
            assert b'<base-uri nil="true"/>' in body
        else:
            assert head.startswith(b"HTTP/1.1 400")

    async def test_logs_in_whom_v2_does_not_show_the_company(
        self, for_admins: LegacyClient
    ) -> None:
        answer = await for_admins.get(WHO, authorization=MARY)

        assert answer.status == 200
        assert_valid(answer.body, "account/who-am-i/classic-item")
        assert answer.texts("email") == ["marymajor@example.com"]
        assert answer.texts("full-domain") == [f"{for_admins.host}:{for_admins.port}"]
        assert answer.xml.findtext("company/active") == "true"

    async def test_a_token_that_v2_refuses_logs_nobody_in(self, bridge: LegacyClient) -> None:
        answer = await bridge.get(WHO, authorization=aiohttp.encode_basic_auth("a", "made-up"))

        assert (answer.status, answer.errors) == NOT_IDENTIFIED


class TestRateLimitStatus:
    async def test_counts_the_v2_calls_of_the_token(self, bridge: LegacyClient) -> None:
        assert count(await bridge.get(STATUS)) == 0
        await bridge.get(WHO)
        await bridge.get(LIST)

        assert count(await bridge.get(STATUS)) == 3
        assert count(await bridge.get(STATUS, authorization=MARY)) == 0

    async def test_never_asks_v2(
        self, upstream: ScriptedUpstream, scripted_bridge: LegacyClient
    ) -> None:
        upstream.says(Reply(status=500))

        answer = await scripted_bridge.get(STATUS)

        assert answer.status == 200
        assert upstream.received == []

    async def test_says_when_v2_has_told_the_token_to_wait(
        self, upstream: ScriptedUpstream, scripted_bridge: LegacyClient
    ) -> None:
        upstream.says(Reply(status=429, headers={"Retry-After": "900"}))
        assert (await scripted_bridge.get(LIST)).status == 503

        answer = await scripted_bridge.get(STATUS)

        assert count(answer) == 101
        assert answer.texts("max-calls") == ["100"]
        assert 890 <= int(answer.texts("lockout-seconds")[0]) <= 900

    @pytest.mark.parametrize("limit", ["calls", "calls_per_login", "calls_per_account"])
    async def test_is_answered_when_other_calls_are_too_many(
        self, held: HeldUpstream, limit: str
    ) -> None:
        async with running_bridge(held.base_url, **{limit: 1}) as client:
            first = getting(client)
            call = await held.next()
            call.answer(page())
            await first  # now, v2 knows the token, and the account's limit holds
            first = getting(client)
            call = await held.next()
            other = await client.get("/invoice/7/messages")
            status = await client.get(STATUS)
            call.answer(page())
            await first

        assert (other.status, status.status) == (503, 200)
        assert count(status) == 2

    @pytest.mark.parametrize(
        ("accept", "content_type"),
        [
            ("application/json", "application/json; charset=utf-8"),
            ("application/json, text/xml;q=0.1", "application/xml; charset=utf-8"),
            ("*/*", "application/xml; charset=utf-8"),
        ],
    )
    async def test_is_in_json_for_who_takes_nothing_else(
        self, bridge: LegacyClient, accept: str, content_type: str
    ) -> None:
        answer = await bridge.get(STATUS, headers={"Accept": accept})

        assert (answer.status, answer.headers["Content-Type"]) == (200, content_type)

    async def test_is_in_neither_for_who_takes_neither(self, bridge: LegacyClient) -> None:
        assert (await bridge.get(STATUS, headers={"Accept": "image/png"})).status == 406

    async def test_is_the_only_call_in_json(self, bridge: LegacyClient) -> None:
        for path in (LIST, WHO):
            answer = await bridge.get(path, headers={"Accept": JSON})
            assert (answer.status, len(answer.errors)) == (406, 1)


class TestAClientThatAsksWheneverACallFails:
    """harvested's hardy client: made thousands of calls in seconds of one that failed."""

    @pytest.mark.parametrize("accept", ["application/xml", JSON])
    @pytest.mark.parametrize(
        ("v2", "path", "status"),
        [
            (403, LIST, 403),
            (502, LIST, 502),
            (504, LIST, 502),
            (408, LIST, 504),
            (200, "/clients", 501),
            (200, WHO, 502),
        ],
    )
    async def test_comes_to_its_end(
        self,
        upstream: ScriptedUpstream,
        scripted_bridge: LegacyClient,
        leaps: Leaps,
        accept: str,
        v2: int,
        path: str,
        status: int,
    ) -> None:
        upstream.says(Reply(b"[]", v2))
        hardy = HardyClient(scripted_bridge, leaps.ahead, accept)

        with pytest.raises(GivenUp) as given_up:
            await hardy.get(path)

        told = given_up.value.answer
        assert told.status in ({status} if "xml" in accept else {status, 406})
        assert hardy.calls <= 2 * hardy.retries + 1 + len(hardy.slept)

    async def test_comes_to_its_end_when_v2_is_not_to_be_reached(self, leaps: Leaps) -> None:
        async with running_bridge(f"http://{LOOPBACK}:{free_port()}/v2") as client:
            hardy = HardyClient(client, leaps.ahead)

            with pytest.raises(GivenUp) as given_up:
                await hardy.get(LIST)

        assert given_up.value.answer.status == 502
        assert min(hardy.slept) >= 5
        assert hardy.calls <= 2 * hardy.retries + 1 + len(hardy.slept)

    async def test_sleeps_when_v2_has_told_it_to_wait(
        self, upstream: ScriptedUpstream, scripted_bridge: LegacyClient, leaps: Leaps
    ) -> None:
        upstream.says(Reply(status=429, headers={"Retry-After": "9"}))
        assert (await scripted_bridge.get(LIST)).status == 503
        hardy = HardyClient(scripted_bridge, leaps.ahead, retries=1)

        with pytest.raises(GivenUp):
            await hardy.get("/clients")

        assert hardy.slept == [16]
