"""Servers of a test, on free ports of the loopback address."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from aiohttp import web

from bridge.identity.callers import Way
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
        defaults["database"] = str(Path(directory) / "log.sqlite")
        async with (
            running(*configured(upstream=upstream, **{**defaults, **settings})) as service,
            LegacyClient(LOOPBACK, service.port) as client,
        ):
            yield service, client


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
