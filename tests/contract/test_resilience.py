"""A v2 that fails, is slow or asks to wait, as legacy clients and operators see it."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bridge.identity.callers import Way
from bridge.server.service import Service
from bridge.upstream import gateway as gateway_module
from tests.support.books import enter, write_token
from tests.support.clocks import Leaps
from tests.support.gateways import free_port
from tests.support.held_upstream import HeldUpstream, running_held_upstream
from tests.support.legacy import LegacyClient
from tests.support.logged import Logged, logging
from tests.support.running import LOOPBACK, running_bridge, running_service
from tests.support.upstream import page
from tests.support.writing import HELLO, SEND, XML, caught_up, getting, hello, posting

COLLEAGUE = aiohttp.encode_basic_auth("bob@example.com", "another-token")
FINAL = "/invoices/1420/messages"


@pytest.fixture(autouse=True)
async def leaps() -> Leaps:
    """First of all, for a gateway keeps the clock that it finds."""
    return Leaps()


@pytest.fixture
def log() -> Iterator[Logged]:
    with logging() as logged:
        yield logged


@pytest.fixture
async def held(leaps: Leaps) -> AsyncIterator[HeldUpstream]:
    async with running_held_upstream() as upstream:
        yield upstream


@pytest.fixture
async def client(log: Logged, held: HeldUpstream) -> AsyncIterator[LegacyClient]:
    async with running_bridge(held.base_url) as legacy:
        yield legacy


def line_of(log: Logged, request_id: str) -> dict[str, Any]:
    (line,) = (line for line in log.lines("legacy_call") if line["request_id"] == request_id)
    return line


async def readiness(service: Service) -> tuple[int, dict[str, Any]]:
    url = f"http://{LOOPBACK}:{service.admin_port}/readyz"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, json.loads(await response.read())


class TestTime:
    async def test_is_shared_by_all_calls_that_one_legacy_call_takes(
        self, held: HeldUpstream, client: LegacyClient, leaps: Leaps
    ) -> None:
        answer = getting(client)
        first = await held.next()
        leaps.ahead(20)
        first.answer(page(following=f"{held.base_url}/invoices/1420/messages?cursor=2"))
        second = await held.next()
        leaps.ahead(12)

        assert ((await answer).status, (await answer).errors) == (
            504,
            ["Harvest took too long to answer."],
        )
        await second.until_left()

    async def test_is_set_by_the_operator(self, held: HeldUpstream, leaps: Leaps) -> None:
        async with running_bridge(held.base_url, call_timeout=300) as client:
            answer = getting(client)
            call = await held.next()
            leaps.ahead(200)
            call.answer(page())

            assert (await answer).status == 200

    async def test_of_one_who_joined_is_not_begun_anew(
        self, held: HeldUpstream, client: LegacyClient, leaps: Leaps
    ) -> None:
        """Who joined after 20 of 30 seconds has 20 left when the others' time is up, not 30."""
        first = getting(client)
        await held.next()
        leaps.ahead(20)
        second = getting(client)
        await caught_up(client)
        leaps.ahead(12)
        assert (await first).status == 504
        await held.next()
        leaps.ahead(22)

        assert (await second).status == 504


class TestTries:
    @pytest.mark.parametrize("status", [502, 503, 504])
    async def test_a_read_bears_a_v2_that_fails_now_and_then(
        self, held: HeldUpstream, client: LegacyClient, log: Logged, status: int
    ) -> None:
        answer = getting(client, headers={"X-Request-Id": "r-1"})
        (await held.next()).answer(status=status)
        (await held.next()).reset()
        (await held.next()).answer(page(hello()))

        assert (await answer).texts("id") == ["501"]
        calls = line_of(log, "r-1")["upstream"]
        assert [(call["status"], call.get("error")) for call in calls] == [
            (status, None),
            (None, "UpstreamUnreachable"),
            (200, None),
        ]

    async def test_a_delete_that_is_gone_after_a_broken_try_is_done(
        self, held: HeldUpstream, client: LegacyClient
    ) -> None:
        answer = asyncio.create_task(client.call("DELETE", f"{SEND}/403"))
        (await held.next()).reset()
        (await held.next()).answer(status=404)

        assert (await answer).status == 200
        assert (await answer).body == b""

    async def test_a_delete_of_what_is_gone_is_404(
        self, held: HeldUpstream, client: LegacyClient
    ) -> None:
        answer = asyncio.create_task(client.call("DELETE", f"{SEND}/403"))
        (await held.next()).answer(status=404)

        assert (await answer).status == 404

    async def test_a_delete_of_what_is_gone_is_404_even_after_a_refused_connection(
        self, leaps: Leaps, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gateway_module, "_backoff", lambda _tries: 5.0)
        port = free_port()
        with logging() as log:
            async with running_bridge(f"http://{LOOPBACK}:{port}/v2") as client:
                answer = asyncio.create_task(client.call("DELETE", f"{SEND}/403"))
                await caught_up(client)
                async with running_held_upstream(port=port) as held:
                    leaps.ahead(5)
                    (await held.next()).answer(status=404)
                    assert (await answer).status == 404
        (line,) = (line for line in log.lines("legacy_call") if line["method"] == "DELETE")
        assert [call["status"] for call in line["upstream"]] == [None, 404]


class TestWaitingAsTold:
    async def test_is_a_503_with_the_seconds_that_are_left_and_v2_is_not_asked(
        self, held: HeldUpstream, client: LegacyClient, leaps: Leaps
    ) -> None:
        answer = getting(client)
        (await held.next()).answer(status=429, headers={"Retry-After": "9"})
        assert ((await answer).status, (await answer).headers["Retry-After"]) == (503, "9")

        leaps.ahead(3.5)
        for call in (getting(client), posting(client), getting(client, "/invoice/7/messages")):
            answer_ = await call
            assert (answer_.status, answer_.headers["Retry-After"]) == (503, "6")
            assert answer_.errors
        assert len(held.calls) == 1

    async def test_concerns_one_token_only(self, held: HeldUpstream, client: LegacyClient) -> None:
        answer = getting(client)
        (await held.next()).answer(status=429, headers={"Retry-After": "9"})
        assert (await answer).status == 503

        other = getting(client, authorization=COLLEAGUE)
        (await held.next()).answer(page())
        assert (await other).status == 200

    @pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
    async def test_is_done_for_the_client_where_the_operator_wants_that(
        self, held: HeldUpstream, leaps: Leaps, method: str
    ) -> None:
        async with running_bridge(held.base_url, throttle_wait=9) as client:
            path = f"{SEND}/403" if method == "DELETE" else SEND
            body = HELLO if method == "POST" else None
            answer = asyncio.create_task(client.call(method, path, body=body, headers=XML))
            (await held.next()).answer(status=429, headers={"Retry-After": "9"})
            await caught_up(client)
            leaps.ahead(9)
            (await held.next()).answer(page() if method == "GET" else hello())

            assert (await answer).status == {"GET": 200, "POST": 201, "DELETE": 200}[method]


class TestBreakers:
    async def test_v2_that_fails_an_account_is_not_asked_until_the_pause_is_over(
        self, held: HeldUpstream, leaps: Leaps, log: Logged
    ) -> None:
        async with running_service(held.base_url, account_id=1000) as (service, client):
            for _ in range(5):
                answer = getting(client)
                (await held.next()).answer(status=500)
                assert (await answer).status == 502
            refused = await client.get(SEND)
            assert (refused.status, refused.headers["Retry-After"]) == (503, "5")
            assert refused.errors == ["Harvest is not asked just now: try again later."]
            assert (await posting(client)).status == 503
            assert len(held.calls) == 5

            # It says so without being asked anything, and so it does when it is over.
            status, told = await readiness(service)
            assert (status, told["checks"]["breakers"]) == (503, "v2 fails every account")
            assert told["breakers"] == {
                "upstream": "closed",
                "upstream (strangers)": "closed",
                "account 1000 (strangers)": "open",
            }
            leaps.ahead(5)
            status, told = await readiness(service)
            assert (status, told["checks"]["breakers"]) == (200, "ok")

            answer = getting(client)
            (await held.next()).answer(page())
            assert (await answer).status == 200
        assert [line["state"] for line in log.lines("breaker")] == ["open", "half-open", "closed"]

    async def test_v2_that_cannot_be_reached_is_not_asked(self, leaps: Leaps, log: Logged) -> None:
        port = free_port()
        async with running_service(f"http://{LOOPBACK}:{port}/v2", account_id=1000) as (
            service,
            client,
        ):
            for _ in range(5):
                assert (await posting(client)).status == 502
            refused = await client.get(SEND)
            assert (refused.status, refused.headers["Retry-After"]) == (503, "5")

            status, told = await readiness(service)
            assert (status, told["checks"]["breakers"]) == (503, "v2 is not to be reached")
            assert told["breakers"] == {
                "upstream": "closed",
                "upstream (strangers)": "open",
                "account 1000 (strangers)": "closed",
            }
            leaps.ahead(5)
            _, told = await readiness(service)
            assert told["checks"]["breakers"] == "ok"

            async with running_held_upstream(port=port) as held:
                answer = getting(client)
                (await held.next()).answer(page())
                assert (await answer).status == 200
        assert [(line["of"], line["state"]) for line in log.lines("breaker")] == [
            ("upstream (strangers)", "open"),
            ("upstream (strangers)", "half-open"),
            ("upstream (strangers)", "closed"),
        ]

    async def test_of_one_account_leave_the_others_alone(
        self, held: HeldUpstream, tmp_path: Path
    ) -> None:
        book = tmp_path / "book.toml"
        for account_id, subdomain in ((1, "acme"), (2, "globex")):
            token = write_token(tmp_path, f"token-{account_id}", f"token-{account_id}")
            enter(book, subdomain, "jane@doe.org", "sesame", account_id, token)
        jane = aiohttp.encode_basic_auth("jane@doe.org", "sesame")
        acme, globex = ({"Host": f"{each}.harvestapp.com"} for each in ("acme", "globex"))
        async with running_service(held.base_url, book=book, auth=frozenset({Way.BOOK})) as (
            service,
            client,
        ):
            for _ in range(5):
                answer = getting(client, authorization=jane, headers=acme)
                (await held.next()).answer(status=500)
                assert (await answer).status == 502
            assert (await getting(client, authorization=jane, headers=acme)).status == 503

            answer = getting(client, authorization=jane, headers=globex)
            (await held.next()).answer(page())
            assert (await answer).status == 200
            status, told = await readiness(service)
            assert (status, told["checks"]["breakers"]) == (200, "ok")
            assert told["breakers"]["account 1"] == "open"


class TestSharedReads:
    async def test_equal_reads_are_one_call_of_v2_and_the_log_says_with_whom(
        self, held: HeldUpstream, client: LegacyClient, log: Logged
    ) -> None:
        first = getting(client, headers={"X-Request-Id": "first"})
        call = await held.next()
        second = getting(client, headers={"X-Request-Id": "second"})
        await caught_up(client)
        call.answer(page(hello(body="\x00")))

        assert (await first).body == (await second).body
        assert (await first).headers["X-Request-Id"] == "first"
        assert (await second).headers["X-Request-Id"] == "second"
        assert len(held.calls) == 1
        assert line_of(log, "second")["shared_with"] == "first"
        assert "shared_with" not in line_of(log, "first")
        assert line_of(log, "second")["notes"] == line_of(log, "first")["notes"] != []

    async def test_of_errors_are_told_to_be_shared_too(
        self, held: HeldUpstream, client: LegacyClient, log: Logged
    ) -> None:
        first = getting(client, headers={"X-Request-Id": "first"})
        call = await held.next()
        second = getting(client, headers={"X-Request-Id": "second"})
        await caught_up(client)
        call.answer(status=403)

        assert [(await each).status for each in (first, second)] == [403, 403]
        assert len(held.calls) == 1
        assert line_of(log, "second")["shared_with"] == "first"

    @pytest.mark.parametrize("path", [FINAL, f"{SEND}/501"], ids=["dialect", "one message"])
    async def test_different_answers_that_take_the_same_call_of_v2_share_that(
        self, held: HeldUpstream, client: LegacyClient, log: Logged, path: str
    ) -> None:
        first = getting(client)
        call = await held.next()
        second = getting(client, path, headers={"X-Request-Id": "second"})
        await caught_up(client)
        call.answer(page(hello()))

        assert (await first).status == (await second).status == 200
        assert (await first).body != (await second).body
        assert len(held.calls) == 1
        line = line_of(log, "second")
        assert [call["shared"] for call in line["upstream"]] == [True]
        assert "shared_with" not in line

    @pytest.mark.parametrize(
        ("path", "authorization"),
        [
            pytest.param(SEND, COLLEAGUE, id="token"),
            pytest.param("/invoice/7/messages", None, id="invoice"),
            pytest.param(f"{SEND}?updated_since=2017-01-01", None, id="parameters"),
            pytest.param(f"{SEND}/new", None, id="call"),
        ],
    )
    async def test_nothing_is_shared_that_differs_by(
        self, held: HeldUpstream, client: LegacyClient, path: str, authorization: str | None
    ) -> None:
        first = getting(client)
        await held.next()
        options = {} if authorization is None else {"authorization": authorization}
        second = getting(client, path, **options)
        other = await held.next()
        other.answer(page(hello(id=502)) if "new" not in path else {"subject": "s"})
        assert (await second).status == 200
        held.calls[0].answer(page(hello(id=501)))

        assert (await first).texts("id") == ["501"]

    async def test_two_accounts_share_nothing_with_one_and_the_same_token(
        self, held: HeldUpstream, tmp_path: Path
    ) -> None:
        book = tmp_path / "book.toml"
        token = write_token(tmp_path, "token", "token")
        for account_id, subdomain in ((1, "acme"), (2, "globex")):
            enter(book, subdomain, "jane@doe.org", "sesame", account_id, token)
        jane = aiohttp.encode_basic_auth("jane@doe.org", "sesame")
        async with running_bridge(
            held.base_url, account_id=None, book=book, auth=frozenset({Way.BOOK})
        ) as client:
            answers = []
            for subdomain in ("acme", "globex"):
                host = {"Host": f"{subdomain}.harvestapp.com"}
                answers.append(getting(client, authorization=jane, headers=host))
            for call in [await held.next(), await held.next()]:
                call.answer(page(hello(id=int(call.account_id))))

            assert [(await answer).texts("id") for answer in answers] == [["1"], ["2"]]

    async def test_who_joined_goes_on_alone_when_the_time_of_who_began_is_up(
        self, held: HeldUpstream, client: LegacyClient, leaps: Leaps
    ) -> None:
        first = getting(client)
        call = await held.next()
        leaps.ahead(20)
        second = getting(client)
        await caught_up(client)
        leaps.ahead(12)
        assert (await first).status == 504
        await call.until_left()
        (await held.next()).answer(page(hello()))

        assert (await second).texts("id") == ["501"]


class TestReadYourOwnWrites:
    async def test_who_has_written_does_not_read_what_was_asked_before(
        self, held: HeldUpstream, client: LegacyClient
    ) -> None:
        old = getting(client)
        before = await held.next()
        writing = posting(client)
        (await held.next()).answer(hello(), 201)
        assert (await writing).status == 201

        new = getting(client)
        (await held.next()).answer(page(hello()))
        assert (await new).texts("id") == ["501"]
        before.answer(page())
        assert (await old).texts("id") == []

    async def test_nor_does_a_colleague(self, held: HeldUpstream, client: LegacyClient) -> None:
        old = getting(client, authorization=COLLEAGUE)
        before = await held.next()
        deleting = asyncio.create_task(client.call("DELETE", f"{SEND}/403"))
        (await held.next()).answer()
        assert (await deleting).status == 200

        new = getting(client, authorization=COLLEAGUE)
        (await held.next()).answer(page(hello()))
        assert (await new).texts("id") == ["501"]
        before.answer(page())
        assert (await old).status == 200

    async def test_even_if_it_took_a_look_to_know_that_it_was_written(
        self, held: HeldUpstream, client: LegacyClient
    ) -> None:
        """v2 may have made the message while the look was under way, after it read for others."""
        writing = posting(client)
        (await held.next()).reset()
        look = await held.next()
        old = getting(client)
        before = await held.next()
        look.answer(page(hello()))
        assert (await writing).status == 201

        new = getting(client)
        await caught_up(client)
        for call in held.calls[3:]:
            call.answer(page(hello()))
        before.answer(page())
        assert [(await each).texts("id") for each in (old, new)] == [[], ["501"]]
