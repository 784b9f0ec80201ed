"""What a running bridge tells its operator: at the start, in readiness and at a reload."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
import pytest
import trustme

from bridge.identity.callers import Way
from bridge.secret import Secret
from bridge.server.service import READ_ONCE, Service
from tests.support.books import enter, write_token
from tests.support.certificates import put_in_place
from tests.support.gateways import free_port
from tests.support.held_upstream import running_held_upstream
from tests.support.legacy import Answer, LegacyClient
from tests.support.logged import Logged, logging
from tests.support.running import LOOPBACK, running_app, running_service
from tests.support.upstream import ScriptedUpstream

NOW = datetime.now(UTC)

PAGE = {"invoice_messages": [], "links": {"next": None}}


def issue(folder: Path, days: int) -> tuple[Path, Path]:
    """Put a certificate that ends in so many days, and its key, into a folder."""
    issued = trustme.CA().issue_cert("localhost", not_after=NOW + timedelta(days=days, hours=1))
    return put_in_place(issued, folder)


@pytest.fixture
def book(tmp_path: Path) -> Path:
    path = tmp_path / "book.toml"
    enter(path, "acme", "jane@doe.org", "word", 1, write_token(tmp_path, "token", "t0ken"))
    return path


@pytest.fixture
def log() -> Any:
    with logging() as stream:
        yield stream


@asynccontextmanager
async def serving(upstream: str, folder: Path, days: int = 90) -> AsyncIterator[Service]:
    certificate, key = issue(folder, days)
    settings: dict[str, Any] = {"auth": {Way.BOOK}, "book": folder / "book.toml"}
    settings |= {"tls_certificate": certificate, "tls_key": key}
    async with running_service(upstream, **settings) as (service, _):
        yield service


class Shared:
    """A database that bridges share, and one that has it."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url, self._key = url, folder / "database.key"

    @asynccontextmanager
    async def running(self, upstream: str) -> AsyncIterator[Service]:
        settings = {"database": self._url, "database_key": self._key, "account_id": 1000}
        async with running_service(upstream, **settings) as (service, _):
            yield service

    def connection(self) -> psycopg.Connection:
        return psycopg.connect(self._url, autocommit=True)

    def drop(self) -> None:
        """Take it away from whoever has it."""
        server, _, name = self._url.rpartition("/")
        with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture
def shared(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shared:
    monkeypatch.setattr("bridge.record.journal.keeping.TICK", 0.05)
    return Shared(postgres, tmp_path)


async def asked(service: Service, path: str) -> str:
    url = f"http://{LOOPBACK}:{service.admin_port}{path}"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return await response.text()


async def readiness(service: Service) -> tuple[int, dict[str, Any]]:
    url = f"http://{LOOPBACK}:{service.admin_port}/readyz"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.json()


@pytest.mark.usefixtures("book")
class TestReadiness:
    async def test_is_given_where_nothing_is_wrong(self, sandbox: str, tmp_path: Path) -> None:
        async with serving(sandbox, tmp_path) as service:
            status, told = await readiness(service)

        checks = ("phase", "journal", "breakers", "upstream", "book", "certificate")
        assert (status, told["checks"]) == (200, dict.fromkeys(checks, "ok"))
        assert told["warnings"] == {}

    async def test_warns_of_files_that_the_next_start_would_die_of(
        self, sandbox: str, book: Path, tmp_path: Path
    ) -> None:
        async with serving(sandbox, tmp_path) as service:
            _break(tmp_path)
            await service.reload()
            status, told = await readiness(service)

        assert (status, told["checks"]["book"], told["checks"]["certificate"]) == (200, "ok", "ok")
        assert told["warnings"]["book"].startswith(f"{book}: it is empty; the one of ")
        assert told["warnings"]["certificate"] == (
            f"{tmp_path}/tls.crt: holds no certificate that can be used (PEM); "
            "the one before is in force"
        )

    async def test_names_no_login_of_a_broken_book(
        self, sandbox: str, book: Path, tmp_path: Path
    ) -> None:
        async with serving(sandbox, tmp_path) as service:
            _double(book)
            await service.reload()
            _, told = await readiness(service)

        assert told["warnings"]["book"].startswith(
            f"{book}: credential 2: credential 1 has this subdomain and login already; "
        )

    async def test_warns_of_a_certificate_that_ends_soon(
        self, sandbox: str, tmp_path: Path
    ) -> None:
        async with serving(sandbox, tmp_path, days=5) as service:
            status, told = await readiness(service)

        assert (status, told["warnings"]["certificate"]) == (
            200, f"it expires on {NOW + timedelta(days=5, hours=1):%Y-%m-%d}, in 5 days"
        )  # fmt: skip


class TestJournal:
    async def test_an_idle_bridge_that_can_record_nothing_is_not_ready(
        self, sandbox: str, tmp_path: Path
    ) -> None:
        """Its next write would be a 503."""
        journal = tmp_path / "journal.sqlite"
        async with running_service(sandbox, account_id=1000, journal=journal) as (service, _):
            journal.rename(tmp_path / "elsewhere")
            status, told = await readiness(service)

        assert status == 503
        assert "removed or replaced" in told["checks"]["journal"]

    @pytest.mark.parametrize("name", ["journal", "database"])
    async def test_what_all_bridges_lack_is_a_warning_that_a_scrape_shows_too(
        self, sandbox: str, shared: Shared, name: str
    ) -> None:
        """To send calls elsewhere would help nobody, and end the reads. Nobody has called."""
        async with shared.running(sandbox) as service:
            shared.drop()
            while name not in (answer := await readiness(service))[1]["warnings"]:
                pass
            scraped = await asked(service, "/metrics")

        assert answer[0] == 200
        assert "journal" not in answer[1]["checks"]
        gauge = {"journal": "journal_failing", "database": "log_failing"}[name]
        assert f"\nharvest_bridge_{gauge} 1" in scraped

    async def test_the_dashboard_tells_it_once(self, sandbox: str, shared: Shared) -> None:
        async with shared.running(sandbox) as service:
            with shared.connection() as connection:
                connection.execute("ALTER TABLE intents RENAME TO others")
            while "journal" not in (await readiness(service))[1]["warnings"]:
                pass
            facts = json.loads(await asked(service, "/overview.json"))["attention"]["facts"]

        assert [*facts["checks"]] == ["journal"]
        assert facts["warnings"] == {}

    async def test_whom_v2_has_accepted_is_no_stranger_after_a_restart(
        self, tmp_path: Path
    ) -> None:
        """Under a flood of tokens that somebody makes up, for which v2 takes its time."""
        settings = {"account_id": 1000, "journal": tmp_path / "journal.sqlite", "call_timeout": 2.0}
        async with running_held_upstream() as upstream, asyncio.TaskGroup() as tasks:

            def asks(client: LegacyClient, token: str) -> "asyncio.Task[Answer]":
                asking = client.get("/invoice/7/messages", authorization=f"Bearer {token}")
                return tasks.create_task(asking)

            async with running_service(upstream.base_url, **settings) as (_, client):
                first = asks(client, "good")
                (await upstream.next()).answer(PAGE)
                assert (await first).status == 200
            async with running_service(
                upstream.base_url, upstream_calls_per_account=5, **settings
            ) as (_, client):
                stranger = asks(client, "made-up")
                await upstream.next()
                good = asks(client, "good")
                served = tasks.create_task(upstream.next())
                await asyncio.wait((good, served), return_when=asyncio.FIRST_COMPLETED)
                for call in upstream.calls[1:]:
                    call.answer(PAGE)
                served.cancel()

                assert (await good).status == 200
                await stranger

    async def test_it_holds_no_token(self, upstream: ScriptedUpstream, tmp_path: Path) -> None:
        upstream.says(PAGE)
        journal = tmp_path / "journal.sqlite"
        async with running_service(upstream.base_url, account_id=1000, journal=journal) as (
            _,
            client,
        ):
            answer = await client.get("/invoice/1420/messages", authorization="Bearer qktoken")

        kept = journal.read_bytes()
        assert answer.status == 200
        assert Secret("qktoken").digest() in kept
        assert b"qktoken" not in kept


class TestStart:
    async def test_says_nothing_where_nothing_is_wrong(self, sandbox: str, log: Logged) -> None:
        async with running_service(sandbox, account_id=1000) as (service, _):
            await service.say_what_is_wrong()

        assert log.lines("not_ready") == []

    async def test_warns_of_tokens_in_the_clear(self, sandbox: str, log: Logged) -> None:
        elsewhere = sandbox.replace(LOOPBACK, "0.0.0.0")  # this machine, but no loopback address
        async with running_service(elsewhere, account_id=1000) as (service, _):
            status, told = await readiness(service)

        warning = f"tokens travel to {elsewhere} in the clear: it should be https"
        assert [line["reason"] for line in log.lines("upstream_in_the_clear")] == [warning]
        assert (status, told["warnings"]) == (200, {"upstream": warning})

    async def test_says_that_the_upstream_is_a_web_server(self, log: Logged) -> None:
        async with (
            running_app(aiohttp.web.Application()) as url,
            running_service(url, account_id=1000) as (service, _),
        ):
            await service.say_what_is_wrong()
            status, told = await readiness(service)

        wrong = (
            f"no v2: {url}/users/me answered 404 with text/plain, where v2 refuses a call without "
            "a token, in JSON: upstream should end in /v2"
        )
        assert [(line["level"], line["checks"]) for line in log.lines("not_ready")] == [
            ("warning", {"upstream": wrong})
        ]
        assert (status, told["checks"]["upstream"]) == (503, wrong)

    async def test_outlives_a_v2_that_is_not_there_yet(self, log: Logged) -> None:
        port = free_port()
        upstream = f"http://{LOOPBACK}:{port}/v2"
        async with running_service(upstream, account_id=1000) as (service, client):
            await service.say_what_is_wrong()
            answer = await client.get("/invoice/1420/messages")

        assert answer.status == 502
        (line,) = log.lines("not_ready")
        assert line["checks"] == {"upstream": f"unreachable: {LOOPBACK}:{port} refuses connections"}
        (call,) = log.lines("legacy_call")
        assert call["cause"] == f"UpstreamUnreachable: {LOOPBACK}:{port} refuses connections"


def _nothing(_folder: Path) -> None:
    pass


def _renew(folder: Path) -> None:
    issue(folder, 60)


def _edit(folder: Path) -> None:
    enter(folder / "book.toml", "acme", "bob@doe.org", "w", 1, f"file:{folder / 'token'}")


def _double(book: Path) -> None:
    book.write_text(book.read_text() * 2)


def _break(folder: Path) -> None:
    (folder / "book.toml").write_text("")
    (folder / "tls.crt").write_text("")


@pytest.mark.usefixtures("book")
@pytest.mark.parametrize(
    ("change", "changed"),
    [
        (_nothing, ("unchanged", "unchanged")),
        (_renew, ("unchanged", "renewed")),
        (_edit, ("changed", "unchanged")),
        (_break, ("broken", "broken")),
    ],
)
async def test_a_reload_says_what_has_changed_and_what_it_leaves_alone(
    sandbox: str,
    log: Logged,
    tmp_path: Path,
    change: Callable[[Path], None],
    changed: tuple[str, str],
) -> None:
    async with serving(sandbox, tmp_path) as service:
        change(tmp_path)
        await service.reload()

    (line,) = log.lines("reloaded")
    assert (line["book"], line["certificate"]) == changed
    assert line["not_read_again"] == READ_ONCE
    assert len(log.lines("certificate_renewed")) == (changed[1] == "renewed")
    assert len(log.lines("book_loaded")) == 1 + (changed[0] == "changed")


async def test_a_reload_says_so_where_there_is_nothing_to_read(sandbox: str, log: Logged) -> None:
    async with running_service(sandbox, account_id=1000) as (service, _):
        await service.reload()

    (line,) = log.lines("reloaded")
    assert {*line} == {"event", "level", "timestamp", "not_read_again"}
