"""What is told of v2: whether it can be reached, its clock, and what it says to each token."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from aiohttp import web

from bridge.checking import upstream
from bridge.checking.findings import Finding
from bridge.checking.upstream import check_clock, check_upstream
from bridge.identity.book import read_rows
from bridge.settings import UpstreamSettings
from tests.support.books import enter, write_token
from tests.support.gateways import free_port
from tests.support.running import LOOPBACK, running_app

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "PACE", 0.0)


async def found(folder: Path, v2: str, *tokens: tuple[str, int]) -> list[Finding]:
    """What is found with a book that has these tokens, each with an account."""
    book = folder / "book.toml"
    for position, (token, account_id) in enumerate(tokens):
        reference = write_token(folder, f"token-{position}", token)
        enter(book, f"sub{account_id}", f"jane{position}@doe.org", "w", account_id, reference)
    rows = read_rows(book) if tokens else ()
    settings = UpstreamSettings(contact="tests@example.com", upstream=v2)
    return [*await check_upstream(settings, rows)]


async def test_a_good_token_is_good(sandbox: str, tmp_path: Path) -> None:
    told = await found(tmp_path, sandbox, ("sandbox-token", 1000))

    assert [(each.check, each.verdict) for each in told] == [
        ("v2", "ok"), ("clock", "ok"), ("tokens", "ok")
    ]  # fmt: skip


async def test_each_brings_its_own_where_there_is_no_book(sandbox: str, tmp_path: Path) -> None:
    assert [each.verdict for each in await found(tmp_path, sandbox)] == ["ok", "ok", "ok"]


@pytest.mark.parametrize("token", [("wrong-token", 1000), ("sandbox-token", 2000)])
async def test_a_wrong_token_or_account_is_refused(
    sandbox: str, tmp_path: Path, token: tuple[str, int]
) -> None:
    *_, told = await found(tmp_path, sandbox, token)

    assert (told.verdict, "(401)" in told.told) == ("wrong", True)
    assert "account" in told.told
    assert token[0] not in str(told)


@pytest.mark.parametrize(
    ("who", "invoices", "verdict", "said"),
    [
        (403, 403, "wrong", "no access to this account (403)"),
        (404, 404, "wrong", "no such account for it (404)"),
        (200, 403, "wrong", "no permission for invoices (403)"),
        (429, 429, "warning", "v2 answers 429"),
        (200, 429, "warning", "throttled (429)"),
        (200, 500, "warning", "failed (500)"),
        (200, 200, "ok", "invoices too"),
    ],
)
async def test_what_v2_says_is_told_apart(
    tmp_path: Path, who: int, invoices: int, verdict: str, said: str
) -> None:
    async def answer(request: web.Request) -> web.Response:
        if "Authorization" not in request.headers:
            return web.json_response({"error": "invalid_token"}, status=401)
        status = who if request.path.endswith("/users/me") else invoices
        return web.json_response({"invoices": []}, status=status)

    app = web.Application()
    app.router.add_get("/v2/{path:.*}", answer)
    async with running_app(app) as url:
        *_, told = await found(tmp_path, f"{url}/v2", ("t0ken", 1))

    assert (told.verdict, said in told.told) == (verdict, True)
    assert bool(told.mend) == (verdict != "ok")


async def test_no_token_is_sent_to_what_is_no_v2(tmp_path: Path) -> None:
    heard = []

    async def answer(request: web.Request) -> web.Response:
        heard.append(request.headers.get("Authorization"))
        return web.Response(text="Hello")

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    async with running_app(app) as url:
        (told,) = await found(tmp_path, url, ("t0ken", 1))

    assert (told.check, told.verdict, heard) == ("v2", "wrong", [None])
    assert "upstream should end in /v2" in told.told


async def test_one_that_cannot_be_reached_is_wrong(tmp_path: Path) -> None:
    (told,) = await found(tmp_path, f"http://{LOOPBACK}:{free_port()}/v2", ("t0ken", 1))

    assert (told.verdict, "refuses connections" in told.told) == ("wrong", True)


@pytest.mark.parametrize(
    ("seconds", "verdict"), [(0, "ok"), (-5, "ok"), (6, "warning"), (-86400, "warning")]
)
def test_a_clock_that_differs_is_warned_of(seconds: int, verdict: str) -> None:
    date = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)

    assert check_clock(date, NOW).verdict == verdict


def test_so_is_one_that_v2_does_not_tell() -> None:
    assert check_clock(None).verdict == "warning"
