"""What a call costs the event loop: turns, writes to the client, tasks. No clock is looked at.

A layer that creeps back shows here first: each task, future that is not done yet, or `sleep(0)` is
another turn, and each turn asks the kernel once more. Another thread runs the bridge, on a loop
whose selector counts; a bare pass-through on aiohttp's low-level server is the yardstick.
"""

import asyncio
import selectors
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from bridge.server.connection import Connection
from tests.support.held_upstream import HeldUpstream, running_held_upstream
from tests.support.legacy import LegacyClient
from tests.support.running import LOOPBACK, running_service
from tests.support.upstream import page
from tests.support.writing import HELLO, SEND, getting, hello, posting


class CountingSelector(selectors.DefaultSelector):
    """Counts how often the loop turns."""

    def __init__(self) -> None:
        super().__init__()
        self.turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.turns += 1
        return super().select(timeout)


class CountingTransport:
    """A client's connection, on which every write counts."""

    def __init__(self, transport: asyncio.Transport, cost: "Cost") -> None:
        self._transport = transport
        self._cost = cost

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        self._cost.answered()
        self._transport.write(data)

    def writelines(self, data: list[bytes]) -> None:
        self._cost.answered()
        self._transport.writelines(data)


@dataclass
class Cost:
    """What the latest call has cost."""

    selector: CountingSelector = field(default_factory=CountingSelector)
    turns: int = 0
    """From the one in which the request arrived to the one in which the answer left."""
    writes: int = 0
    tasks: int = 0
    thread: int = 0
    """The one that is counted in; others serve, too."""
    _began: int = 0

    def arrived(self) -> None:
        self._began, self.writes, self.tasks = self.selector.turns, 0, 0

    def answered(self) -> None:
        self.writes += 1
        self.turns = self.selector.turns - self._began

    def task(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
        self.tasks += 1
        return asyncio.Task(coroutine, loop=loop, **options)


Serving = Callable[[str], Any]
"""Makes a context in which something serves, given the base URL of v2; yields its port."""


@asynccontextmanager
async def counted(serving: Serving, upstream: str) -> AsyncIterator[tuple[int, Cost]]:
    """Have another thread serve, and count what each call costs its loop."""
    cost = Cost()
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    here = asyncio.get_running_loop()
    stop: list[Callable[[], object]] = []

    async def serve() -> None:
        asyncio.get_running_loop().set_task_factory(cost.task)
        over = asyncio.Event()
        there = asyncio.get_running_loop()
        stop.append(lambda: there.call_soon_threadsafe(over.set))
        async with serving(upstream) as taken:
            here.call_soon_threadsafe(port.set_result, taken)
            await over.wait()

    def run() -> None:
        cost.thread = threading.get_ident()
        try:
            with asyncio.Runner(
                loop_factory=lambda: asyncio.SelectorEventLoop(cost.selector)
            ) as runner:
                runner.run(serve())
        except BaseException as error:  # noqa: BLE001 - the test has to hear of it
            here.call_soon_threadsafe(port.set_exception, error)

    with pytest.MonkeyPatch.context() as patch:
        for protocol in (Connection, web.RequestHandler):
            _count_in(protocol, cost, patch)
        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield await port, cost
        finally:
            if not port.done() or port.exception() is None:
                stop[0]()
            await asyncio.to_thread(thread.join)


def _count_in(protocol: type[web.RequestHandler], cost: Cost, patch: pytest.MonkeyPatch) -> None:
    made, received = protocol.connection_made, protocol.data_received

    def connection_made(self: web.RequestHandler, transport: Any) -> None:
        if threading.get_ident() == cost.thread and not isinstance(transport, CountingTransport):
            transport = CountingTransport(transport, cost)
        made(self, transport)

    def data_received(self: web.RequestHandler, data: bytes) -> None:
        if threading.get_ident() == cost.thread:
            cost.arrived()
        received(self, data)

    patch.setattr(protocol, "connection_made", connection_made)
    patch.setattr(protocol, "data_received", data_received)


@asynccontextmanager
async def passing_through(upstream: str) -> AsyncIterator[int]:
    """A bare pass-through: what aiohttp itself costs."""
    async with aiohttp.ClientSession() as session:

        async def pass_through(request: web.BaseRequest) -> web.StreamResponse:
            async with session.get(f"{upstream}{request.path}") as response:
                return web.Response(body=await response.read())

        runner = web.ServerRunner(web.Server(pass_through))
        await runner.setup()
        await web.TCPSite(runner, LOOPBACK, 0).start()
        yield runner.addresses[0][1]
        await runner.cleanup()


@pytest.fixture
async def held() -> AsyncIterator[HeldUpstream]:
    async with running_held_upstream() as upstream:
        yield upstream


@asynccontextmanager
async def bridging(upstream: str) -> AsyncIterator[int]:
    """A bridge, everything on."""
    async with running_service(upstream, account_id=1000) as (service, _):
        yield service.port


async def warm(client: LegacyClient, held: HeldUpstream, **options: Any) -> None:
    """Make a call, so that connections are there."""
    answer = getting(client, **options)
    (await held.next()).answer(page(hello()))
    assert (await answer).status == 200


async def cost_of_a_read(serving: Serving, held: HeldUpstream) -> Cost:
    async with (
        counted(serving, held.base_url) as (port, cost),
        LegacyClient(LOOPBACK, port) as client,
    ):
        for _ in range(2):
            await warm(client, held)
        return replace(cost)  # before the end makes tasks of its own


async def test_a_small_read_alone_costs_no_more_than_passing_it_through(held: HeldUpstream) -> None:
    bare = await cost_of_a_read(passing_through, held)
    cost = await cost_of_a_read(bridging, held)

    assert cost.turns <= bare.turns <= 4
    assert (cost.writes, cost.tasks) == (1, bare.tasks)


async def test_a_read_that_joins_another_makes_no_task_of_its_own(held: HeldUpstream) -> None:
    async with (
        counted(bridging, held.base_url) as (port, cost),
        LegacyClient(LOOPBACK, port) as client,
        LegacyClient(LOOPBACK, port) as other,
    ):
        await warm(client, held)
        await warm(other, held)
        first = getting(client)
        call = await held.next()
        second = getting(other)
        await until_joined(cost)
        call.answer(page(hello()))
        assert [(await each).status for each in (first, second)] == [200, 200]

        assert len(held.calls) == 3
        # Both answers: they leave after the last arrival.
        assert cost.writes == 2
        assert cost.tasks == TASKS_OF_A_REQUEST


TASKS_OF_A_REQUEST = 0 if (3, 12) <= sys.version_info < (3, 14) else 1
"""aiohttp's own; to start them eagerly it does not ask the loop to make them, until it could."""


async def until_joined(cost: Cost) -> None:
    """Wait until the bridge has nothing left to do but to wait for v2."""
    before = -1
    while before != cost.selector.turns:
        before = cost.selector.turns
        await asyncio.sleep(0.05)


async def test_a_post_waits_for_its_journal_and_for_v2_and_for_little_else(
    held: HeldUpstream,
) -> None:
    async with (
        counted(bridging, held.base_url) as (port, cost),
        LegacyClient(LOOPBACK, port) as client,
    ):
        await warm(client, held)
        for number in range(2):
            answer = posting(client, SEND, HELLO.replace(b"Hello", b"Hello %d" % number))
            (await held.next()).answer(hello(id=501 + number, subject=f"Hello {number}"), 201)
            assert (await answer).status == 201

        # Two answers of the journal's thread and one of v2, each a turn to hear and a turn to go
        # on; two to begin, and one to hear of those who have hung up.
        assert cost.turns <= 9
        assert (cost.writes, cost.tasks) == (1, TASKS_OF_A_REQUEST)
