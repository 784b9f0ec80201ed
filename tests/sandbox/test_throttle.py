"""The rate limit: 100 calls in any 15 seconds with one token."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from aiohttp import web
from aiohttp.test_utils import TestClient

from bridge.sandbox.app import SANDBOX_LIMITED_TOKEN
from bridge.sandbox.throttle import SlidingWindow

Client = TestClient[web.Request, web.Application]
Start = Callable[..., Awaitable[Client]]
SUGGESTION = "/v2/invoices/1420/messages/new"


class Clock(Protocol):
    def monotonic(self) -> float: ...
    def advance(self, seconds: float) -> None: ...


async def _statuses(client: Client, calls: int) -> set[int]:
    statuses = set()
    for _ in range(calls):
        async with client.get(SUGGESTION) as response:
            statuses.add(response.status)
    return statuses


async def test_the_101st_call_in_15_seconds_is_429_until_the_first_is_past(
    start: Start, clock: Clock
) -> None:
    client = await start(throttle=True)
    assert await _statuses(client, 60) == {200}
    clock.advance(10)
    assert await _statuses(client, 40) == {200}
    clock.advance(0.5)

    response = await client.get(SUGGESTION)
    assert response.status == 429
    assert response.headers["Retry-After"] == "5"
    assert response.headers["Content-Type"] == "application/json; charset=utf-8"
    assert await response.json() == {"message": "Too many requests"}

    clock.advance(5)
    assert await _statuses(client, 60) == {200}
    assert await _statuses(client, 1) == {429}


async def test_each_token_has_its_own_count(start: Start) -> None:
    client = await start(throttle=True)
    assert await _statuses(client, 101) == {200, 429}
    limited = {"Authorization": f"Bearer {SANDBOX_LIMITED_TOKEN}"}
    assert (await client.get(SUGGESTION, headers=limited)).status == 403


async def test_there_is_no_limit_unless_it_is_asked_for(client: Client) -> None:
    assert await _statuses(client, 120) == {200}


def test_a_refused_call_does_not_put_off_the_next(clock: Clock) -> None:
    window = SlidingWindow(clock.monotonic, calls=1, seconds=15)
    assert window.admit("a") is None
    clock.advance(14)
    assert window.admit("a") == 1
    clock.advance(1)
    assert window.admit("a") is None
