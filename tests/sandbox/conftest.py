"""A sandbox on a real socket, and clients that say who they are."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from pytest_aiohttp.plugin import AiohttpClient

from bridge.sandbox.app import SANDBOX_ACCOUNT_ID, SANDBOX_TOKEN, create_sandbox
from bridge.sandbox.v1.app import create_v1

Client = TestClient[web.Request, web.Application]
Start = Callable[..., Awaitable[Client]]

HEADERS = {
    "Authorization": f"Bearer {SANDBOX_TOKEN}",
    "Harvest-Account-Id": str(SANDBOX_ACCOUNT_ID),
    "User-Agent": "Tests (tests@example.com)",
}


class Server(TestServer):
    """A server that lets handlers end when their clients have left, as the command's does."""

    async def _make_runner(self, **options: Any) -> web.AppRunner:
        return web.AppRunner(self.app, **{**options, "handler_cancellation": False})


class Clock:
    """A clock that stands still until it is moved; starts at the v2 documentation's example."""

    def __init__(self) -> None:
        self.now = datetime(2017, 8, 23, 22, 25, 59, tzinfo=UTC)
        self.seconds = 1000.0

    def time(self) -> datetime:
        return self.now

    def monotonic(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.seconds += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def start(aiohttp_client: AiohttpClient, clock: Clock) -> Start:
    """Start a sandbox with the given options and return an authorised client of it."""

    async def start_sandbox(**options: Any) -> Client:
        app = create_sandbox(clock=clock.time, monotonic=clock.monotonic, **options)
        return cast(Client, await aiohttp_client(Server(app), headers=HEADERS))

    return start_sandbox


@pytest.fixture
async def client(start: Start) -> Client:
    return await start()


@pytest.fixture
def v1_of(aiohttp_client: AiohttpClient, clock: Clock) -> Start:
    """Start the v1 of a sandbox that runs, and return a client of it that says nothing of itself."""

    async def start_v1(v2: Client, **options: Any) -> Client:
        app = create_v1(cast(Server, v2.server).app, monotonic=clock.monotonic, **options)
        return cast(Client, await aiohttp_client(Server(app)))

    return start_v1
