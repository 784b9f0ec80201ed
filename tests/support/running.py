"""Servers of a test, on free ports of the loopback address."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from aiohttp import web

from bridge.identity.callers import Way
from bridge.record.log.database import load_key, open_database
from bridge.server.limits import Limits
from bridge.server.service import Service, running
from bridge.server.serving import listening
from bridge.settings import Settings
from tests.support.legacy import LegacyClient

LOOPBACK = "127.0.0.1"


@asynccontextmanager
async def running_bridge(upstream: str, **settings: Any) -> AsyncIterator[LegacyClient]:
    """Run a bridge with one account to `upstream`, and yield a client of it."""
    async with running_service(upstream, **{"account_id": 1000, **settings}) as (_, client):
        yield client


@asynccontextmanager
async def running_service(
    upstream: str, **settings: Any
) -> AsyncIterator[tuple[Service, LegacyClient]]:
    """Run a bridge to `upstream` as `harvest-bridge serve` would; yield it and a client of it."""
    defaults: dict[str, Any] = {
        "auth": frozenset({Way.TOKEN_AS_PASSWORD, Way.BEARER}),
        "port": 0,
        "admin_port": 0,
        "contact": "tests@example.com",
    }
    with TemporaryDirectory() as directory:
        defaults["journal"] = Path(directory) / "journal.sqlite"
        defaults["database"] = empty_log(Path(directory))
        async with (
            running(*configured(upstream=upstream, **{**defaults, **settings})) as service,
            LegacyClient(LOOPBACK, service.port) as client,
        ):
            yield service, client


def empty_log(folder: Path) -> str:
    """Put the translation log of a first start into a folder that has none; return where it is.

    To make its tables anew takes longer than most tests that want a bridge. All have one key: who
    wants another names a database that is not there.
    """
    database = str(folder / "log.sqlite")
    if not Path(database).exists():
        for suffix, content in _first_start().items():
            file = Path(f"{database}{suffix}")
            file.touch(0o600)
            file.write_bytes(content)
    return database


@cache
def _first_start() -> Mapping[str, bytes]:
    with TemporaryDirectory() as directory:
        database = str(Path(directory) / "log.sqlite")
        open_database(database, load_key(database, None)).dispose()
        return {suffix: Path(f"{database}{suffix}").read_bytes() for suffix in ("", ".key")}


def configured(**given: Any) -> tuple[Settings, Limits]:
    """Return the settings among what is given, and what else it may be: limits."""
    limits = {name: given.pop(name) for name in given.keys() - Settings.model_fields.keys()}
    return Settings(**given), Limits(**limits)


@asynccontextmanager
async def running_app(app: web.Application) -> AsyncIterator[str]:
    """Run `app` and yield its base URL."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    async with listening(runner, LOOPBACK, 0) as port:
        yield f"http://{LOOPBACK}:{port}"
