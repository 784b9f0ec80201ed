"""A v2 that misbehaves, and a clock that has nobody wait for it.

The v2 is a sandbox. What its rules can do is said in bridge/sandbox/README.md; what goes wrong
before a call can reach it, here.
"""

import asyncio
import socket
import sqlite3
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, suppress
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
from aiohttp import web

from bridge.sandbox.app import SANDBOX_ACCOUNT_ID, SANDBOX_TOKEN, create_sandbox
from bridge.server.serving import listening
from tests.support.clocks import Leaps
from tests.support.running import LOOPBACK

UNRESOLVABLE = ".".join(["x" * 63] * 4 + ["invalid"])
"""A name that is too long for DNS: the resolver itself refuses it, and asks nobody."""


class Impatience(Leaps):
    """The running event loop's own clock, which leaps whenever anybody sleeps.

    The sandbox does not sleep so: what it delays comes at its time, to which a test has to leap.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        turn = asyncio.sleep

        async def sleep(seconds: float) -> None:
            self.ahead(seconds)
            await turn(0)

        monkeypatch.setattr(asyncio, "sleep", sleep)

    def ahead_to(self, moment: float) -> None:
        """Leap to a moment, if it is not over."""
        self.ahead(max(0.0, moment - self()))


class Door(StrEnum):
    """How v2 is reached."""

    OPEN = "open"
    REFUSES = "refuses"
    UNRESOLVABLE = "unresolvable"
    HANGS = "hangs"
    """Connections are made, and nothing is read from them."""
    HANGS_BEFORE_TLS = "hangs-before-tls"
    UNKNOWN_CA = "unknown-ca"
    NO_TLS = "no-tls"


class FaultyV2:
    """A sandbox behind a door that can be shut, and what has become of the calls."""

    def __init__(
        self,
        door: Door,
        front: socket.socket,
        runner: web.AppRunner,
        back: aiohttp.ClientSession,
        origin: str,
    ) -> None:
        self._door = door
        self._front = front
        self._runner = runner
        self._back = back
        self._origin = origin
        self._held: list[socket.socket] = []
        self._holding: asyncio.Task[None] | None = None

    @property
    def base_url(self) -> str:
        """Where the bridge is told that v2 is."""
        host, port = self._front.getsockname()
        match self._door:
            case Door.OPEN:
                return f"{self._origin}/v2"
            case Door.UNRESOLVABLE:
                return f"http://{UNRESOLVABLE}/v2"
            case Door.REFUSES | Door.HANGS:
                return f"http://{host}:{port}/v2"
            case Door.UNKNOWN_CA | Door.NO_TLS | Door.HANGS_BEFORE_TLS:
                return f"https://{host}:{port}/v2"

    async def misbehave(self, rules: Sequence[Mapping[str, Any]], *, once: bool) -> None:
        """Begin: shut the door, put the rules in force, and forget the calls until now."""
        await self._control("DELETE", "calls")
        times = {"times": 1} if once else {}
        await self._control("POST", "faults", [{**rule, **times} for rule in rules])
        match self._door:
            case Door.HANGS | Door.HANGS_BEFORE_TLS:
                self._front.listen()
                self._holding = asyncio.create_task(self._hold(once=once))
            case Door.UNKNOWN_CA:
                await self._serve_at_front(_tls())
            case Door.NO_TLS:
                await self._serve_at_front()

    async def behave(self) -> str:
        """End; returns the base URL at which v2 is from then on."""
        await self._control("DELETE", "faults")
        if self._door is Door.REFUSES:
            await self._serve_at_front()
            return self.base_url
        if self._door is Door.HANGS:
            if await self._stop_holding():
                await self._serve_at_front()
            return self.base_url
        return f"{self._origin}/v2"

    async def misserved(self) -> list[str]:
        """Return the methods of the v2 calls that have met a fault; empty where it is unreadable."""
        calls = (await self.calls())["calls"]
        return self._unread() + [call["method"] for call in calls if call["fault"]]

    async def received(self) -> Counter[str]:
        """Return how many v2 calls have arrived, by their methods."""
        return Counter((await self.calls())["by_method"]) + Counter(self._unread())

    async def applied(self) -> int:
        """Return how many messages and payments have been made and deleted."""
        return sum((await self.calls())["applied"].values())

    async def calls(self) -> Any:
        """Return the sandbox's own account of the calls."""
        return await self._control("GET", "calls")

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Make a v2 call that no door is in the way of."""
        headers = {
            "Authorization": f"Bearer {SANDBOX_TOKEN}",
            "Harvest-Account-Id": str(SANDBOX_ACCOUNT_ID),
        }
        async with self._back.request(method, f"/v2{path}", headers=headers, json=body) as answer:
            answer.raise_for_status()
            return await answer.json()

    async def ids(self, invoice: int, collection: str) -> list[int]:
        """Return the ids of an invoice's `invoice_messages`, or the like, newest first."""
        page = await self.ask("GET", f"/invoices/{invoice}/{collection.removeprefix('invoice_')}")
        return [item["id"] for item in page[collection]]

    async def close(self) -> None:
        """Let go of what is held."""
        await self._stop_holding()
        for connection in self._held:
            connection.close()

    async def _control(self, method: str, what: str, body: Any = None) -> Any:
        async with self._back.request(method, f"/sandbox/{what}", json=body) as answer:
            answer.raise_for_status()
            return await answer.json() if answer.status != 204 else None

    async def _serve_at_front(self, tls: ssl.SSLContext | None = None) -> None:
        await web.SockSite(self._runner, self._front, ssl_context=tls).start()

    async def _hold(self, *, once: bool) -> None:
        loop = asyncio.get_running_loop()
        while not (once and self._held):
            connection, _ = await loop.sock_accept(self._front)
            self._held.append(connection)
        await self._serve_at_front()

    async def _stop_holding(self) -> bool:
        """Return whether connections were still held."""
        if self._holding is None or self._holding.done():
            return False
        self._holding.cancel()
        with suppress(asyncio.CancelledError):
            await self._holding
        return True

    def _unread(self) -> list[str]:
        """Return the methods of the calls that wait on held connections for somebody to read."""
        return [method for each in self._held if (method := _method_that_waits(each)) is not None]


def _method_that_waits(connection: socket.socket) -> str | None:
    try:
        waits = connection.recv(16, socket.MSG_PEEK)
    except BlockingIOError:
        return None
    method = waits.partition(b" ")[0]
    return method.decode() if method in {b"GET", b"POST", b"DELETE"} else ""


@cache
def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert(LOOPBACK).configure_cert(context)
    return context


@asynccontextmanager
async def running_faulty_v2(door: Door) -> AsyncIterator[FaultyV2]:
    """Run a sandbox behind `door`; nothing goes wrong until it is told to misbehave."""
    runner = web.AppRunner(create_sandbox(), access_log=None, shutdown_timeout=0.1)
    with closing(socket.socket()) as front:
        front.setblocking(False)
        front.bind((LOOPBACK, 0))  # nobody listens yet, so connections are refused
        async with listening(runner, LOOPBACK, 0) as port:
            origin = f"http://{LOOPBACK}:{port}"
            async with aiohttp.ClientSession(origin) as back:
                v2 = FaultyV2(door, front, runner, back, origin)
                try:
                    yield v2
                finally:
                    await v2.close()


def outcomes(journal: Path) -> list[str]:
    """Return the outcomes that stand in a journal, oldest first, without touching it."""
    with closing(sqlite3.connect(f"{journal.as_uri()}?mode=ro", uri=True)) as connection:
        return [row[0] for row in connection.execute("SELECT outcome FROM intents ORDER BY id")]
