"""Callers of the credential book: each with its own token only (schemas/README.md)."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import structlog
from multidict import CIMultiDict

from bridge.identity import passwords
from bridge.identity.callers import Way
from tests.support.books import enter, write_token
from tests.support.legacy import Answer, LegacyClient
from tests.support.running import LOOPBACK, running_service
from tests.support.upstream import Reply, ScriptedUpstream, message, page

LIST = "/invoice/7/messages"
ACME, BETA = "acme.harvestapp.com", "beta.harvestapp.com"


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """A book of two tenants, of which acme has two logins."""
    path = tmp_path / "book.toml"
    acme, beta, carol = (
        write_token(tmp_path, name, f"token-of-{name}") for name in ("acme", "beta", "carol")
    )
    enter(path, "acme", "jane@acme.example", "janes-word", 1, acme, label="nightly")
    enter(path, "acme", "carol@acme.example", "carols-word", 1, carol, dialect="final")
    enter(path, "beta", "bob@beta.example", "bobs-word", 2, beta)
    return path


@pytest.fixture
async def tenants(upstream: ScriptedUpstream, book: Path) -> AsyncIterator[LegacyClient]:
    """A client of a bridge with that book."""
    upstream.says(page(message()))
    async with running_service(upstream.base_url, auth={Way.BOOK}, book=book) as (_, client):
        yield client


async def call(client: LegacyClient, host: str, login: str, password: str, **more: Any) -> Answer:
    headers = {"Host": host, **more.pop("headers", {})}
    authorization = aiohttp.encode_basic_auth(login, password, "utf-8")
    return await client.get(LIST, authorization=authorization, headers=headers, **more)


def ways_to_break(book: Path) -> list[Callable[[], object]]:
    """Return edits of which each but the last leaves something that is no book."""
    whole = book.read_bytes()

    def mend() -> None:
        book.touch(mode=0o600)
        book.write_bytes(whole)

    return [
        lambda: book.write_bytes(whole[: len(whole) // 2]),
        lambda: book.write_bytes(b""),
        lambda: book.write_bytes(b"[[credential]]\n"),
        lambda: book.chmod(0o644),
        book.unlink,
        mend,
    ]


def asked_with(upstream: ScriptedUpstream) -> list[tuple[str, str]]:
    return [
        (each.headers["Authorization"].removeprefix("Bearer "), each.headers["Harvest-Account-Id"])
        for each in upstream.received
    ]


class TestIsolation:
    @pytest.mark.parametrize(
        ("host", "login", "password", "token", "account"),
        [
            (ACME, "jane@acme.example", "janes-word", "token-of-acme", "1"),
            (ACME, "carol@acme.example", "carols-word", "token-of-carol", "1"),
            (BETA, "bob@beta.example", "bobs-word", "token-of-beta", "2"),
            ("ACME.harvestapp.com:443", "JANE@acme.example", "janes-word", "token-of-acme", "1"),
        ],
    )
    async def test_each_login_calls_with_its_own_token_and_account(
        self,
        upstream: ScriptedUpstream,
        tenants: LegacyClient,
        host: str,
        login: str,
        password: str,
        token: str,
        account: str,
    ) -> None:
        answer = await call(tenants, host, login, password)

        assert answer.status == 200
        assert asked_with(upstream) == [(token, account)]

    @pytest.mark.parametrize(
        ("host", "login", "password"),
        [
            pytest.param(BETA, "jane@acme.example", "janes-word", id="at the other tenant"),
            pytest.param(ACME, "bob@beta.example", "bobs-word", id="the other way round"),
            pytest.param(ACME, "jane@acme.example", "carols-word", id="a colleague's password"),
            pytest.param(ACME, "jane@acme.example", "wrong", id="wrong password"),
            pytest.param(ACME, "jane@acme.example", "", id="no password"),
            pytest.param(ACME, "jane@acme.example", "token-of-acme", id="the token as password"),
            pytest.param(ACME, "nobody@acme.example", "janes-word", id="unknown login"),
            pytest.param("gamma.harvestapp.com", "jane@acme.example", "janes-word", id="subdomain"),
            pytest.param("acme.example.com", "jane@acme.example", "janes-word", id="domain"),
            pytest.param("x.acme.harvestapp.com", "jane@acme.example", "janes-word", id="deeper"),
            pytest.param("harvestapp.com", "jane@acme.example", "janes-word", id="no subdomain"),
            pytest.param("127.0.0.1", "jane@acme.example", "janes-word", id="an address"),
        ],
    )
    async def test_anything_else_is_the_same_401_and_asks_nothing(
        self,
        upstream: ScriptedUpstream,
        tenants: LegacyClient,
        host: str,
        login: str,
        password: str,
    ) -> None:
        answer = await call(tenants, host, login, password)

        assert answer.status == 401
        assert answer.errors == ["Authentication failed for API request."]
        assert upstream.received == []

    async def test_many_at_once_do_not_mix(
        self, upstream: ScriptedUpstream, tenants: LegacyClient
    ) -> None:
        answers = await asyncio.gather(
            *[call(tenants, ACME, "jane@acme.example", "janes-word") for _ in range(20)],
            *[call(tenants, BETA, "bob@beta.example", "bobs-word") for _ in range(20)],
            *[call(tenants, BETA, "jane@acme.example", "janes-word") for _ in range(3)],
        )

        assert [answer.status for answer in answers] == [200] * 40 + [401] * 3
        # They share calls, but not with each other.
        assert set(asked_with(upstream)) == {("token-of-acme", "1"), ("token-of-beta", "2")}

    @pytest.mark.parametrize("authorization", ["Bearer token-of-acme", None])
    async def test_a_way_that_is_off_stays_off(
        self, tenants: LegacyClient, authorization: str | None
    ) -> None:
        answer = await tenants.get(
            f"{LIST}?access_token=token-of-acme",
            authorization=authorization,
            headers={"Host": ACME},
        )

        assert answer.status == 401


class TestEntries:
    async def test_a_dialect_of_the_login_beats_the_path(self, tenants: LegacyClient) -> None:
        answer = await call(tenants, ACME, "carol@acme.example", "carols-word")

        assert answer.xml.tag == "invoice-message"

    async def test_a_token_that_v2_refuses_is_the_operators_problem(
        self, upstream: ScriptedUpstream, tenants: LegacyClient
    ) -> None:
        upstream.says(Reply(b"", 401))

        answer = await call(tenants, ACME, "jane@acme.example", "janes-word")

        assert answer.status == 502
        assert answer.errors == ["Harvest refuses the bridge's own token: tell its operator."]
        assert "WWW-Authenticate" not in answer.headers

    async def test_and_is_logged_as_such(
        self, upstream: ScriptedUpstream, tenants: LegacyClient
    ) -> None:
        upstream.says(Reply(b"", 401))

        with structlog.testing.capture_logs() as lines:
            await call(tenants, ACME, "jane@acme.example", "janes-word")

        (refused,) = [line for line in lines if line["log_level"] == "error"]
        assert (refused["event"], refused["account_id"]) == ("book_token_refused", 1)


class TestWaysTogether:
    @pytest.fixture
    async def both(self, upstream: ScriptedUpstream, book: Path) -> AsyncIterator[LegacyClient]:
        upstream.says(page())
        async with running_service(upstream.base_url, auth=set(Way), book=book) as (_, client):
            yield client

    @pytest.mark.parametrize("host", [ACME, BETA, "gamma.harvestapp.com", "127.0.0.1"])
    @pytest.mark.parametrize("password", ["janes-wrod", "bobs-word", "token-of-beta"])
    async def test_what_comes_with_a_login_of_the_book_is_never_sent_as_a_token(
        self, upstream: ScriptedUpstream, both: LegacyClient, host: str, password: str
    ) -> None:
        assert (await call(both, host, "jane@acme.example", password)).status == 401

        assert upstream.received == []

    async def test_a_login_the_book_does_not_know_brings_its_own_token(
        self, upstream: ScriptedUpstream, both: LegacyClient
    ) -> None:
        assert (await call(both, BETA, "any@example.com", "own-token")).status == 200

        assert asked_with(upstream) == [("own-token", "2")]

    async def test_a_bearer_calls_the_account_of_its_subdomain(
        self, upstream: ScriptedUpstream, both: LegacyClient
    ) -> None:
        await both.get(LIST, authorization="Bearer own-token", headers={"Host": BETA})

        assert asked_with(upstream) == [("own-token", "2")]

    async def test_a_token_for_no_known_account_is_401(
        self, upstream: ScriptedUpstream, both: LegacyClient
    ) -> None:
        answer = await both.get(LIST, authorization="Bearer own-token", headers={"Host": "x.org"})

        assert answer.status == 401
        assert upstream.received == []

    async def test_or_calls_the_account_that_is_set(
        self, upstream: ScriptedUpstream, book: Path
    ) -> None:
        upstream.says(page())
        async with running_service(
            upstream.base_url, auth={Way.BEARER}, book=book, account_id=9
        ) as (_, client):
            await client.get(LIST, authorization="Bearer own", headers={"Host": "x.org"})

        assert asked_with(upstream) == [("own", "9")]


class TestHosts:
    async def test_a_subdomain_can_be_assumed(self, upstream: ScriptedUpstream, book: Path) -> None:
        upstream.says(page())
        async with running_service(
            upstream.base_url, auth={Way.BOOK}, book=book, subdomain="acme"
        ) as (_, client):
            ours = await call(client, "bridge.internal", "jane@acme.example", "janes-word")
            theirs = await call(client, BETA, "jane@acme.example", "janes-word")

        assert (ours.status, theirs.status) == (200, 401)

    async def test_other_domains_can_be_named(self, upstream: ScriptedUpstream, book: Path) -> None:
        upstream.says(page())
        async with running_service(
            upstream.base_url, auth={Way.BOOK}, book=book, domains="bridge.example, b.example"
        ) as (_, client):
            for host, status in [("acme.b.example", 200), (ACME, 401)]:
                answer = await call(client, host, "jane@acme.example", "janes-word")
                assert answer.status == status

    @pytest.mark.parametrize(("trusted", "status"), [((LOOPBACK,), 200), (("192.0.2.1",), 401)])
    async def test_a_forwarded_host_counts_from_a_trusted_proxy_only(
        self, upstream: ScriptedUpstream, book: Path, trusted: tuple[str, ...], status: int
    ) -> None:
        upstream.says(page())
        async with running_service(
            upstream.base_url, auth={Way.BOOK}, book=book, trusted_proxies=trusted
        ) as (_, client):
            answer = await call(
                client,
                "bridge.internal",
                "jane@acme.example",
                "janes-word",
                headers={"X-Forwarded-Host": f"evil.example, {ACME}"},
            )

        assert answer.status == status

    async def test_the_last_line_of_a_forwarded_host_counts(
        self, upstream: ScriptedUpstream, book: Path
    ) -> None:
        upstream.says(page())
        async with running_service(
            upstream.base_url, auth={Way.BOOK}, book=book, trusted_proxies=LOOPBACK
        ) as (_, client):
            headers = CIMultiDict([("X-Forwarded-Host", ACME), ("X-Forwarded-Host", BETA)])
            answer = await client.get(
                LIST,
                authorization=aiohttp.encode_basic_auth("jane@acme.example", "janes-word"),
                headers=headers,
            )

        assert answer.status == 401


class TestEdits:
    """The book is edited while clients call."""

    async def test_no_call_fails_while_it_changes_or_breaks(
        self, upstream: ScriptedUpstream, book: Path, tmp_path: Path
    ) -> None:
        upstream.says(page(message()))
        statuses: list[int] = []
        done = asyncio.Event()

        async def keep_calling(client: LegacyClient) -> None:
            while not done.is_set():
                answer = await call(client, ACME, "jane@acme.example", "janes-word")
                statuses.append(answer.status)

        async with running_service(upstream.base_url, auth={Way.BOOK}, book=book) as (
            service,
            client,
        ):
            clients = [asyncio.create_task(keep_calling(client)) for _ in range(50)]
            for number in range(5):
                token = write_token(tmp_path, f"new-{number}", f"token-{number}")
                login = f"g{number}@example.com"
                await asyncio.to_thread(enter, book, "gamma", login, "word", 3, token)
                await service.reload()
                new = await call(client, "gamma.harvestapp.com", login, "word")
                assert new.status == 200
                for state in ways_to_break(book):
                    await asyncio.to_thread(state)
                    await service.reload()
            done.set()
            await asyncio.gather(*clients)

        assert len(statuses) > len(clients)
        assert set(statuses) == {200}

    async def test_a_removed_login_and_a_changed_password_count_at_once(
        self, upstream: ScriptedUpstream, book: Path, tmp_path: Path
    ) -> None:
        upstream.says(page())
        async with running_service(upstream.base_url, auth={Way.BOOK}, book=book) as (
            service,
            client,
        ):
            assert (await call(client, ACME, "jane@acme.example", "janes-word")).status == 200
            enter(book, "acme", "jane@acme.example", "new word", 1, f"file:{tmp_path}/acme")
            await service.reload()

            old = await call(client, ACME, "jane@acme.example", "janes-word")
            new = await call(client, ACME, "jane@acme.example", "new word")

        assert (old.status, new.status) == (401, 200)


class TestBackOff:
    @pytest.fixture
    def verified(self, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
        """Every password that has been put through Argon2."""
        octets_of: list[bytes] = []

        def matches(encoded: str, octets: bytes) -> bool:
            octets_of.append(octets)
            return real(encoded, octets)

        real = passwords._matches
        monkeypatch.setattr(passwords, "_matches", matches)
        monkeypatch.setattr(passwords, "FIRST_PAUSE", passwords.LONGEST_PAUSE)  # no test is as long
        return octets_of

    async def test_failures_stop_further_tries_but_not_who_was_right(
        self, verified: list[bytes], tenants: LegacyClient
    ) -> None:
        assert (await call(tenants, ACME, "jane@acme.example", "janes-word")).status == 200

        wrong = [await call(tenants, ACME, "jane@acme.example", f"guess {n}") for n in range(10)]

        assert [answer.status for answer in wrong] == [401] * 5 + [503] * 5
        assert len(verified) == 1 + 5
        assert (await call(tenants, ACME, "jane@acme.example", "janes-word")).status == 200
        assert len(verified) == 1 + 5

    @pytest.mark.parametrize(
        "forwarded",
        [
            pytest.param([("X-Forwarded-For", "6.6.6.{n}, 203.0.113.7")], id="one line"),
            pytest.param(
                [("X-Forwarded-For", "6.6.6.{n}"), ("X-Forwarded-For", "203.0.113.7")],
                id="a line of its own",
            ),
            pytest.param([("X-Forwarded-For", "203.0.113.7:1{n}")], id="with a port"),
            pytest.param([("X-Forwarded-For", "[2001:db8::7]:1{n}")], id="IPv6 with a port"),
        ],
    )
    async def test_no_forged_address_gets_around_it(
        self,
        verified: list[bytes],
        upstream: ScriptedUpstream,
        book: Path,
        forwarded: list[tuple[str, str]],
    ) -> None:
        async with running_service(
            upstream.base_url, auth={Way.BOOK}, book=book, trusted_proxies=LOOPBACK
        ) as (_, client):
            for number in range(10):
                headers = CIMultiDict(
                    [
                        ("Host", ACME),
                        *((name, text.format(n=number)) for name, text in forwarded),
                    ]
                )
                authorization = aiohttp.encode_basic_auth("jane@acme.example", f"guess-{number}")
                answer = await client.get(LIST, authorization=authorization, headers=headers)
                assert answer.status == (401 if number < 5 else 503)

        assert len(verified) == 5

    async def test_who_guesses_shuts_no_neighbour_out_with_401(
        self, verified: list[bytes], tenants: LegacyClient
    ) -> None:
        """Behind one address. To v1's clients a 401 is final, and after a 503 they come again."""
        remembered = await call(tenants, ACME, "jane@acme.example", "janes-word")
        guesses = [await call(tenants, ACME, f"user-{n}", "guess") for n in range(30)]
        known = await call(tenants, ACME, "jane@acme.example", "janes-word")
        not_looked_at = await call(tenants, BETA, "bob@beta.example", "bobs-word")

        assert [answer.status for answer in guesses] == [401] * 25 + [503] * 5
        assert (remembered.status, known.status) == (200, 200)
        assert (not_looked_at.status, not_looked_at.headers["Retry-After"]) == (503, "60")
        assert len(verified) == 1 + 25
