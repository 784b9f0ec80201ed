"""The admin side of a whole bridge: its token and where that comes from, TLS, and what is told."""

import asyncio
import sqlite3
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import structlog
import trustme

from bridge.server.admin.token import SHORTEST, TokenKeeper, UnusableToken
from bridge.server.service import Service
from tests.support.certificates import put_in_place
from tests.support.logged import Logged, logging
from tests.support.running import LOOPBACK, running_service

TOKEN = "correct-horse-battery-staple"
NEW = "another-horse-another-staple"
EVERYWHERE = "0.0.0.0"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    write(path, TOKEN)
    return path


def write(path: Path, text: str, mode: int = 0o600) -> None:
    fresh = path.with_suffix(".new")
    fresh.touch(mode)
    fresh.write_text(text)
    fresh.chmod(mode)
    fresh.replace(path)


class TestToken:
    def test_is_read_from_a_file_or_the_environment(
        self, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ADMIN_TOKEN", NEW)
        write(file, f"{TOKEN}\n")

        assert TokenKeeper(f"file:{file}").token.reveal() == TOKEN
        assert TokenKeeper("env:ADMIN_TOKEN").token.reveal() == NEW

    @pytest.mark.parametrize(
        ("spoil", "complaint"),
        [
            pytest.param(lambda path: path.unlink(), "No such file", id="missing"),
            pytest.param(lambda path: write(path, TOKEN, 0o644), "chmod 600", id="others may read it"),
            pytest.param(lambda path: write(path, "x" * (SHORTEST - 1)), "fewer than 16", id="short"),
            pytest.param(lambda path: write(path, ""), "it is empty", id="empty"),
            pytest.param(lambda path: write(path, "two words, and more"), "holds no token", id="blanks"),
        ],
    )  # fmt: skip
    async def test_that_cannot_be_used_is_told_and_the_old_one_stays(
        self, file: Path, spoil: Callable[[Path], None], complaint: str
    ) -> None:
        keeper = TokenKeeper(f"file:{file}")
        spoil(file)
        with pytest.raises(UnusableToken, match=complaint) as raised:
            TokenKeeper(f"file:{file}")
        with structlog.testing.capture_logs() as logs:
            assert await keeper.reload() == "broken"

        assert keeper.token.reveal() == TOKEN
        assert complaint in (keeper.warning() or "")
        assert [line["event"] for line in logs] == ["admin_token_broken"]
        assert TOKEN not in f"{raised.value}{logs}"

    async def test_is_read_again_when_its_file_has_changed(self, file: Path) -> None:
        keeper = TokenKeeper(f"file:{file}")
        with structlog.testing.capture_logs() as logs:
            async with keeper.watching(interval=0.001):
                write(file, NEW)
                while not logs:  # noqa: ASYNC110 - logs have no event
                    await asyncio.sleep(0.001)

        assert (keeper.token.reveal(), keeper.warning()) == (NEW, None)
        assert [line["event"] for line in logs] == ["admin_token_changed"]


@asynccontextmanager
async def served(sandbox: str, **settings: Any) -> AsyncIterator[tuple[Service, Logged]]:
    with logging() as log:
        async with running_service(sandbox, account_id=1000, **settings) as (service, _):
            yield service, log


async def asked(
    service: Service, path: str, headers: dict[str, str] | None = None, **more: Any
) -> tuple[int, str]:
    url = f"{more.pop('scheme', 'http')}://{LOOPBACK}:{service.admin_port}{path}"
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, headers=headers, allow_redirects=False, **more) as response,
    ):
        return response.status, await response.text()


class TestOffTheLoopback:
    async def test_without_a_token_only_probes_are_answered_and_the_start_warns(
        self, sandbox: str
    ) -> None:
        async with served(sandbox, admin_host=EVERYWHERE) as (service, log):
            assert (await asked(service, "/healthz"))[0] == 200
            assert (await asked(service, "/metrics"))[0] == 403

        assert [line["admin_host"] for line in log.lines("admin_not_served")] == [EVERYWHERE]

    async def test_without_tls_only_trusted_proxies_are_and_the_start_warns(
        self, sandbox: str, file: Path
    ) -> None:
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        settings = {"admin_host": EVERYWHERE, "admin_bearer_token": f"file:{file}"}
        async with served(sandbox, **settings) as (service, log):
            assert (await asked(service, "/nothing", bearer))[0] == 403
        assert len(log.lines("admin_in_the_clear")) == 1
        async with served(sandbox, **settings, trusted_proxies=("127.0.0.1",)) as (service, _):
            assert (await asked(service, "/nothing", bearer))[0] == 404

    async def test_it_speaks_the_tls_of_the_legacy_side(
        self, sandbox: str, file: Path, tmp_path: Path
    ) -> None:
        authority = trustme.CA()
        certificate, key = put_in_place(authority.issue_cert(LOOPBACK), tmp_path)
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        async with served(
            sandbox,
            admin_host=EVERYWHERE,
            admin_bearer_token=f"file:{file}",
            tls_certificate=certificate,
            tls_key=key,
        ) as (service, log):
            bearer = {"Authorization": f"Bearer {TOKEN}"}
            found = await asked(service, "/nothing", bearer, scheme="https", ssl=trusting)
            with pytest.raises(aiohttp.ClientError):
                await asked(service, "/healthz")

        assert found[0] == 404
        assert {line["reason"] for line in log.lines("tls_handshake_failed")} == {"plain-http"}


async def test_a_token_is_wanted_on_the_loopback_too_and_its_change_takes_effect(
    sandbox: str, file: Path
) -> None:
    async with served(sandbox, admin_bearer_token=f"file:{file}") as (service, log):
        assert (await asked(service, "/nothing"))[0] == 401
        assert (await asked(service, "/nothing", {"Authorization": f"Bearer {TOKEN}"}))[0] == 404
        write(file, NEW)
        await service.reload()
        assert (await asked(service, "/nothing", {"Authorization": f"Bearer {TOKEN}"}))[0] == 401
        assert (await asked(service, "/nothing", {"Authorization": f"Bearer {NEW}"}))[0] == 404

    assert [line["reason"] for line in log.lines("admin_refused")] == ["wrong-token"]
    assert [line["admin_bearer_token"] for line in log.lines("reloaded")] == ["changed"]
    assert TOKEN not in log.getvalue()
    assert NEW not in log.getvalue()


async def test_connections_that_fail_are_kept_with_their_number(
    sandbox: str, tmp_path: Path
) -> None:
    database = tmp_path / "log.sqlite"
    with logging():
        async with running_service(sandbox, account_id=1000, database=str(database)) as (_, client):
            for _ in range(3):
                await client.raw(b"nonsense\r\n\r\n")

    with closing(sqlite3.connect(database)) as kept:
        rows = kept.execute(
            "SELECT event, network, reason, sum(count) FROM failed_connections GROUP BY 1, 2, 3"
        )
        assert rows.fetchall() == [("not_http", LOOPBACK, "bad-head", 3)]
