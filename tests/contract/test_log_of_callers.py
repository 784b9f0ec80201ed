"""What the log tells an operator of who called, and why they were refused (docs/log.md)."""

import hashlib
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bridge.identity.callers import Way
from bridge.record.log.events import OTHERS
from bridge.server.records import INTEGRATIONS, NOTED, PATHS
from tests.support.books import enter, write_token
from tests.support.legacy import LegacyClient
from tests.support.logged import Logged
from tests.support.running import running_bridge
from tests.support.upstream import Reply, ScriptedUpstream, message, page

LIST = "/invoice/7/messages"
ACME, BETA, GAMMA = (f"{name}.harvestapp.com" for name in ("acme", "beta", "gamma"))
JANE, BOB = "jane@acme.example", "bob@beta.example"

Bridge = Callable[..., AbstractAsyncContextManager[LegacyClient]]


def basic(login: str, password: str) -> str:
    return "Basic " + b64encode(f"{login}:{password}".encode()).decode()


@pytest.fixture
def bridge(tmp_path: Path, upstream: ScriptedUpstream) -> Bridge:
    """Run a bridge with a book of two tenants."""
    book = tmp_path / "book.toml"
    token = write_token(tmp_path, "token", "token-of-the-book")
    enter(book, "acme", JANE, "janes-word", 1, token, label="nightly")
    enter(book, "beta", BOB, "bobs-word", 2, token)
    upstream.says(page(message()))

    @asynccontextmanager
    async def run(*ways: Way, **settings: Any) -> AsyncIterator[LegacyClient]:
        given = {"auth": set(ways or {Way.BOOK}), "book": book, "account_id": None, **settings}
        async with running_bridge(upstream.base_url, **given) as client:
            yield client

    return run


async def get(client: LegacyClient, host: str, authorization: str | None, **more: Any) -> Any:
    headers = {"Host": host, **more.pop("headers", {})}
    path = more.pop("path", LIST)
    return await client.get(path, headers=headers, authorization=authorization, **more)


def calls(log: Logged) -> list[dict[str, Any]]:
    return log.lines("legacy_call")


class TestRefusals:
    @pytest.mark.parametrize(
        ("host", "authorization", "refusal"),
        [
            (ACME, None, "no-credential"),
            (ACME, "Basic nonsense", "garbled-credential"),
            (ACME, "Digest username=x", "garbled-credential"),
            (ACME, basic(JANE, "word"), "wrong-password"),
            (ACME, basic("joe@acme.example", "word"), "unknown-login"),
            (GAMMA, basic("joe@acme.example", "word"), "unknown-subdomain"),
            (BETA, basic(JANE, "janes-word"), "wrong-subdomain"),
            (GAMMA, basic(JANE, "janes-word"), "wrong-subdomain"),
            ("bridge.internal", basic(JANE, "janes-word"), "no-subdomain"),
            (ACME, "Bearer token", "way-not-enabled"),
        ],
    )
    async def test_a_caller_that_the_book_refuses(
        self, log: Logged, bridge: Bridge, host: str, authorization: str | None, refusal: str
    ) -> None:
        async with bridge() as client:
            answer = await get(client, host, authorization)

        assert (answer.status, answer.errors) == (401, ["Authentication failed for API request."])
        (line,) = calls(log)
        assert (line["refusal"], line["outcome"]) == (refusal, "refused")
        assert "is_known" not in line

    @pytest.mark.parametrize(
        ("host", "token", "refusal"),
        [(GAMMA, "token", "no-account"), (ACME, "no token", "not-a-token")],
    )
    async def test_a_token_that_nobody_is_asked_with(
        self, log: Logged, bridge: Bridge, host: str, token: str, refusal: str
    ) -> None:
        async with bridge(Way.BEARER) as client:
            await get(client, host, f"Bearer {token}")

        assert calls(log)[0]["refusal"] == refusal

    @pytest.mark.parametrize(
        ("status", "authorization", "refusal", "answered"),
        [
            (401, "Bearer token", "token-refused", 401),
            (401, basic(JANE, "janes-word"), "book-token-refused", 502),
            (403, "Bearer token", "forbidden", 403),
            (404, "Bearer token", None, 404),
        ],
    )
    async def test_what_v2_refuses(
        self,
        log: Logged,
        bridge: Bridge,
        upstream: ScriptedUpstream,
        status: int,
        authorization: str,
        refusal: str | None,
        answered: int,
    ) -> None:
        async with bridge(Way.BOOK, Way.BEARER) as client:
            upstream.says(Reply(b"", status))
            answer = await get(client, ACME, authorization)

        (line,) = calls(log)
        assert (answer.status, line.get("refusal")) == (answered, refusal)

    @pytest.mark.parametrize("path", [LIST, "/people", "/invoice/x/messages"])
    async def test_a_login_that_is_locked_out_is_so_at_every_path(
        self, log: Logged, bridge: Bridge, path: str
    ) -> None:
        async with bridge() as client:
            for _ in range(6):
                await get(client, ACME, basic(JANE, "word"), path=path)

        assert [line["refusal"] for line in calls(log)] == ["wrong-password"] * 5 + ["locked-out"]
        assert len({line["integration"] for line in calls(log)}) == 1


class TestWhoItWas:
    async def test_a_caller_of_the_book(self, log: Logged, bridge: Bridge) -> None:
        async with bridge() as client:
            await get(client, f"{ACME}:443", basic(JANE, "janes-word"))

        (line,) = calls(log)
        assert (line["way"], line["account_id"], line["label"]) == ("book", 1, "nightly")
        assert (line["host"], line["subdomain"]) == (ACME, "acme")
        assert (line["address"], line["network"]) == ("127.0.0.1", "127.0.0.1")
        assert line["http"] == "1.1"
        assert line["is_known"] is True
        assert "token" not in line
        assert "tls" not in line

    async def test_a_wrong_password_is_accounted_to_whose_it_would_be(
        self, log: Logged, bridge: Bridge
    ) -> None:
        async with bridge() as client:
            for password in ("word", "janes-word"):
                await get(client, ACME, basic(JANE, password))
            await get(client, BETA, basic(BOB, "bobs-word"))

        wrong, right, other = calls(log)
        assert wrong["integration"] == right["integration"] != other["integration"]
        assert (wrong["login"], wrong["account_id"]) == (right["login"], 1)

    async def test_digests_are_the_same_for_one_login_and_one_bridge(
        self, log: Logged, bridge: Bridge, tmp_path: Path
    ) -> None:
        for name in ("one", "another"):
            async with bridge(database=str(tmp_path / name)) as client:
                for login in (JANE, f" {JANE.upper()}", BOB):
                    await get(client, ACME, basic(login, "word"))

        digests = [line["login"] for line in calls(log)]
        assert digests[0] == digests[1] != digests[2]
        assert digests[3] == digests[4]
        assert len(set(digests)) == 4  # the other bridge has another key
        for way in ("sha1", "sha256", "blake2b", "md5"):
            assert hashlib.new(way, JANE.encode()).hexdigest()[:16] not in log.getvalue()

    async def test_a_token_is_told_by_its_digest_and_known_once_v2_has_accepted_it(
        self, log: Logged, bridge: Bridge, upstream: ScriptedUpstream
    ) -> None:
        async with bridge(Way.TOKEN_AS_PASSWORD, Way.BEARER) as client:
            await get(client, ACME, "Bearer t0ken")
            await get(client, ACME, basic("any@doe.org", "t0ken"))
            upstream.says(Reply(b"", 401))
            await get(client, ACME, "Bearer 0ther")

        bearer, as_password, refused = calls(log)
        assert bearer["token"] == as_password["token"] != refused["token"]
        assert bearer["integration"] == as_password["integration"] != refused["integration"]
        assert ("login" in bearer, "login" in as_password) == (False, True)
        assert [line.get("is_known", False) for line in calls(log)] == [True, True, False]

    async def test_clients_differ_by_their_name_and_not_by_its_version(
        self, log: Logged, bridge: Bridge
    ) -> None:
        async with bridge() as client:
            for user_agent in ("HaPi/1.0", "HaPi/2.1", "Java/1.6.0_20"):
                headers = {"User-Agent": user_agent}
                await get(client, ACME, basic(JANE, "janes-word"), headers=headers)

        assert [line["agent"] for line in calls(log)] == ["HaPi", "HaPi", "Java"]
        old, new, other = (line["integration"] for line in calls(log))
        assert old == new != other

    @pytest.mark.parametrize(
        ("forwarded", "address", "network"),
        [
            ("203.0.113.7", "203.0.113.7", "203.0.113.7"),
            ("198.51.100.1, 203.0.113.7, 127.0.0.1", "203.0.113.7", "203.0.113.7"),
            ("2001:db8::7", "2001:db8::7", "2001:db8::/64"),
            ("jane@doe.org", "…", "…"),
        ],
    )
    async def test_behind_a_trusted_proxy_the_last_untrusted_hop_counts(
        self, log: Logged, bridge: Bridge, forwarded: str, address: str, network: str
    ) -> None:
        async with bridge(trusted_proxies=["127.0.0.0/8"]) as client:
            headers = {"X-Forwarded-For": forwarded, "X-Forwarded-Host": ACME}
            await get(client, "bridge.internal", basic(JANE, "janes-word"), headers=headers)

        (line,) = calls(log)
        assert (line["address"], line["network"]) == (address, network)
        assert (line["host"], line["subdomain"]) == (ACME, "acme")

    async def test_what_is_no_host_name_is_not_told(self, log: Logged, bridge: Bridge) -> None:
        async with bridge() as client:
            await get(client, "jane@doe.org.harvestapp.com", basic(JANE, "janes-word"))

        (line,) = calls(log)
        assert line["host"] == "…"
        assert "jane" not in log.getvalue()


class TestWhatIsNotThere:
    @pytest.mark.parametrize(
        ("method", "path", "status", "route", "masked"),
        [
            ("GET", "/people/jane@doe.org/entries/5", 501, None, "/people/{…}/entries/{…}"),
            ("GET", "/client/5.json?x=jane", 501, None, "/client/{…}"),
            ("GET", "/invoice/x9/messages", 404, None, "/invoice/{…}/messages"),
            ("GET", "/api/invoices/1420", 404, None, "/api/invoices/{…}"),
            ("GET", "/", 404, None, "/"),
            ("PUT", "/invoices/7/messages/", 405, "/invoices/{invoice_id}/messages", None),
        ],
    )
    async def test_its_path_is_told_and_whoever_asked_for_it(
        self,
        log: Logged,
        bridge: Bridge,
        method: str,
        path: str,
        status: int,
        route: str | None,
        masked: str | None,
    ) -> None:
        async with bridge() as client:
            headers = {"Host": ACME}
            who = basic(JANE, "janes-word")
            answer = await client.call(method, path, headers=headers, authorization=who)

        (line,) = calls(log)
        assert (answer.status, line["status"]) == (status, status)
        assert (line["route"], line.get("path")) == (route, masked)
        is_asked = "api" not in path and path != "/"
        assert (line["way"], line.get("is_known", False)) == (
            ("book", True) if is_asked else (None, False)
        )

    @pytest.mark.parametrize(
        ("target", "masked"),
        [
            ("http://acme.harvestapp.com", "/"),
            ("http://acme.harvestapp.com/api/invoices/7", "/api/invoices/{…}"),
            ("*", "/{…}"),
        ],
    )
    async def test_its_path_is_told_in_whatever_form_it_was_asked_for(
        self, log: Logged, bridge: Bridge, target: str, masked: str
    ) -> None:
        async with bridge() as client:
            await client.raw(
                f"OPTIONS {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode()
            )

        (line,) = calls(log)
        assert (line["status"], line["path"]) == (404, masked)

    async def test_a_method_that_is_none_of_http_is_not_told(
        self, log: Logged, bridge: Bridge
    ) -> None:
        async with bridge() as client:
            await client.call("PROPFIND", LIST, headers={"Host": ACME})

        assert calls(log)[0]["method"] == "…"


class TestAFlood:
    async def test_of_made_up_tokens_leaves_a_bounded_number_of_integrations(
        self, log: Logged, bridge: Bridge, upstream: ScriptedUpstream
    ) -> None:
        async with bridge(Way.BEARER) as client:
            upstream.says(Reply(b"", 401))
            for number in range(INTEGRATIONS[False].of_one + 5):
                await get(client, ACME, f"Bearer made-up-{number}")
            upstream.says(page(message()))
            await get(client, ACME, "Bearer right")

        *made_up, right = (line["integration"] for line in calls(log))
        assert len(set(made_up)) == INTEGRATIONS[False].of_one + 1
        assert set(made_up[-5:]) == {OTHERS}
        assert right != OTHERS

    async def test_of_made_up_paths_leaves_a_bounded_number_of_paths(
        self, log: Logged, bridge: Bridge
    ) -> None:
        async with bridge() as client:
            for number in range(PATHS[False].of_one + 5):
                await get(client, ACME, None, path=f"/nowhere/{'a' * (number % 30)}/{'b' * number}")

        paths = [line["path"] for line in calls(log)]
        assert len(set(paths)) == PATHS[False].of_one + 1
        assert set(paths[-5:]) == {"/{…}"}

    async def test_of_made_up_parameters_leaves_a_bounded_number_of_them(
        self, log: Logged, bridge: Bridge, upstream: ScriptedUpstream
    ) -> None:
        upstream.says(Reply(b"", 401))
        async with bridge(Way.BEARER) as client:
            for first in "abcdefghijkl":
                made_up = "&".join(f"{first}{'x' * number}=1" for number in range(20))
                await get(client, ACME, "Bearer made-up", path=f"{LIST}?{made_up}")

        notes = [note for line in calls(log) for note in line["notes"]]
        assert len({note["subject"] for note in notes}) == NOTED[False].of_one + 1
        assert sum(note["count"] for note in notes) == 240
        assert [note["subject"] for note in calls(log)[-1]["notes"]] == ["…"]
