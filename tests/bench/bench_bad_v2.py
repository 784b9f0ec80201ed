"""What sharing saves, and what a v2 that hangs for one tenant costs the others. See README.md.

Run it as `python -m tests.bench.bench_bad_v2`, with `pollers` or `neighbours` for a part of it.
"""

import asyncio
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, NamedTuple

import aiohttp
from aiohttp import web

from bridge.cli.loop import new_event_loop_factory as _loop_factory
from bridge.identity.callers import Way
from bridge.sandbox.app import (
    SANDBOX_ACCOUNT_ID,
    SANDBOX_SECOND_ACCOUNT_ID,
    SANDBOX_SECOND_TOKEN,
    SANDBOX_TOKEN,
    SECOND_INVOICE_ID,
    create_sandbox,
)
from bridge.server import logs
from bridge.server.service import running
from bridge.settings import Settings
from tests.bench.processes import obey, serve
from tests.bench.processes import running as running_process
from tests.bench.reports import say
from tests.support.books import enter, write_token
from tests.support.running import LOOPBACK

MODULE = "tests.bench.bench_bad_v2"
LONG = "/invoice/4500/messages"
POLLERS = 200
ROUNDS = 3
PACE = 0.5
"""Seconds that a poller that polls on its own waits at most before it begins."""

HEALTHY = 10
HANGING = 150
SECONDS = 10.0
"""How long each situation is watched: shorter than a call may take, so that all of it hangs."""
TURNS = 3
"""How often the two situations take turns."""
PAUSE = 0.02
"""Seconds between two calls of a healthy client."""

TENANTS: Mapping[str, tuple[int, str, int]] = {
    "healthy": (SANDBOX_ACCOUNT_ID, SANDBOX_TOKEN, 1420),
    "hanging": (SANDBOX_SECOND_ACCOUNT_ID, SANDBOX_SECOND_TOKEN, SECOND_INVOICE_ID),
}
LOGINS = 5
"""Of each tenant."""


class Stage(NamedTuple):
    """A sandbox, a bridge to it, and a session that calls both."""

    sandbox: str
    bridge: str
    session: aiohttp.ClientSession

    async def call(self, tenant: str, path: str, login: int = 0, method: str = "GET") -> int:
        """Make a legacy call, read its answer, and return the status."""
        headers = {
            "Host": f"{tenant}.harvestapp.com",
            "Authorization": aiohttp.encode_basic_auth(f"{login}@{tenant}.example", "password"),
        }
        async with self.session.request(method, f"{self.bridge}{path}", headers=headers) as answer:
            async for _ in answer.content.iter_any():
                pass
            return answer.status

    async def upstream_calls(self) -> int:
        """Return how many v2 calls the sandbox has had since it was asked last."""
        async with self.session.get(f"{self.sandbox}/sandbox/calls") as answer:
            told = await answer.json()
        await self.session.delete(f"{self.sandbox}/sandbox/calls")
        return sum(told["by_method"].values())

    async def rule(self, **rule: Any) -> None:
        """Have the sandbox misbehave."""
        async with self.session.post(f"{self.sandbox}/sandbox/faults", json=rule) as answer:
            answer.raise_for_status()


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    """Run a sandbox and a bridge, a process each."""
    async with (
        running_process(MODULE, "run-sandbox") as sandbox,
        running_process(MODULE, "run-bridge", str(sandbox.port)) as bridge,
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=600)
        ) as session,
    ):
        yield Stage(
            f"http://{LOOPBACK}:{sandbox.port}", f"http://{LOOPBACK}:{bridge.port}", session
        )


async def run_bridge(sandbox_port: str) -> None:
    """Serve a bridge with two tenants."""
    logs.configure(Path(os.devnull).open("w"))  # noqa: ASYNC230, SIM115 - for as long as it runs
    with TemporaryDirectory() as name:
        directory = Path(name)
        for tenant, (account_id, token, _) in TENANTS.items():
            reference = write_token(directory, tenant, token)
            for login in range(LOGINS):
                enter(directory / "book.toml", tenant, f"{login}@{tenant}.example", "password",
                      account_id, reference)  # fmt: skip
        settings = Settings(
            auth=frozenset({Way.BOOK}),
            book=directory / "book.toml",
            contact="bench@example.com",
            upstream=f"http://{LOOPBACK}:{sandbox_port}/v2",
            port=0,
            admin_port=0,
            journal=directory / "journal.sqlite",
            database=str(directory / "log.sqlite"),
        )
        async with running(settings) as service:
            await obey(service.port)


async def pollers() -> None:
    """Print how many v2 calls it takes to serve those who poll one long list."""
    say(f"{POLLERS} pollers of one invoice of 4,500 messages (3 pages), {ROUNDS} rounds each")
    async with stage() as on:

        async def poll(number: int, told: Counter[int], pace: float) -> None:
            for _ in range(ROUNDS):
                await asyncio.sleep(pace * number / POLLERS)
                told[await on.call("healthy", LONG)] += 1

        for name, pace in (("all at once", 0.0), (f"spread over {PACE} s", PACE)):
            await on.upstream_calls()
            told: Counter[int] = Counter()
            began = perf_counter()
            await asyncio.gather(*[poll(number, told, pace) for number in range(POLLERS)])
            asked = await on.upstream_calls()
            calls = told.total()
            say(
                f"  {name}: {calls} legacy calls {dict(told)}, {asked} v2 calls: "
                f"{asked / calls:.4f} v2 calls a legacy call (alone: 3), "
                f"in {perf_counter() - began:.0f} s"
            )


class Times(NamedTuple):
    """What healthy clients had to wait, in milliseconds."""

    calls: int
    failed: int
    middle: float
    p99: float

    def __str__(self) -> str:
        return (
            f"{self.calls} calls, {self.failed} failed, "
            f"median {self.middle:.1f} ms, p99 {self.p99:.1f} ms"
        )


async def watch(on: Stage) -> Times:
    """Call as healthy clients do, and measure."""
    took: list[float] = []
    failed = 0
    end = perf_counter() + SECONDS

    async def use(number: int) -> None:
        nonlocal failed
        path = f"/invoice/{TENANTS['healthy'][2]}/messages"
        # A list of their own each: what is shared says nothing of the way to v2.
        query = f"?updated_since=20{number:02d}-01-01"
        while perf_counter() < end:
            began = perf_counter()
            failed += await on.call("healthy", path + query, number % LOGINS) != 200
            took.append((perf_counter() - began) * 1000)
            await asyncio.sleep(PAUSE)

    await asyncio.gather(*[use(number) for number in range(HEALTHY)])
    return Times(len(took), failed, median(took), quantiles(took, n=100)[98])


async def neighbours() -> None:
    """Print what healthy tenants wait while v2 answers another one, and while it hangs for it."""
    say(f"{HEALTHY} clients of a healthy tenant; {HANGING} of another one whose v2 hangs")
    async with stage() as on:
        account_id, _, invoice_id = TENANTS["hanging"]
        told: Counter[int] = Counter()

        async def hang(number: int) -> None:
            path = f"/invoice/{invoice_id}/messages?updated_since=2001-01-01 00:{number % 60:02d}"
            while True:
                told[await on.call("hanging", path, number % LOGINS)] += 1
                await asyncio.sleep(0.1)

        await watch(on)  # warm
        quiet, hung = [], []
        for _ in range(TURNS):
            quiet.append(await watch(on))
            await on.rule(fault="hang", account_id=account_id)
            tasks = [asyncio.create_task(hang(number)) for number in range(HANGING)]
            hung.append(await watch(on))
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await on.session.delete(f"{on.sandbox}/sandbox/faults")
        for name, turns in (("while nobody's hangs", quiet), ("while it hangs", hung)):
            say(f"  {name}: " + "; ".join(map(str, turns)))
        say(
            f"  medians: x{median(h.middle for h in hung) / median(q.middle for q in quiet):.2f}, "
            f"p99: x{median(h.p99 for h in hung) / median(q.p99 for q in quiet):.2f}",
            f"  the hanging tenant was told: {dict(told)}",
        )


PARTS: Mapping[str, Callable[[], Awaitable[None]]] = {
    "pollers": pollers,
    "neighbours": neighbours,
}


async def _main(arguments: list[str]) -> None:
    match arguments:
        case ["run-sandbox"]:
            await serve(web.AppRunner(create_sandbox(), access_log=None, shutdown_timeout=0.1))
        case ["run-bridge", sandbox_port]:
            await run_bridge(sandbox_port)
        case _:
            for name in arguments or PARTS:
                await PARTS[name]()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_main(sys.argv[1:]))
