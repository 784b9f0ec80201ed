"""An upstream that answers a call when its test says so, and never before."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from bridge.server.admin.health import PROBE
from bridge.server.serving import listening
from tests.support.running import LOOPBACK
from tests.support.upstream import JSON, Received, Reply


@dataclass(eq=False)
class HeldCall:
    """One v2 call that waits for its answer."""

    received: Received
    _transport: asyncio.Transport | None
    _reply: asyncio.Future[Reply | None]
    _left: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def token(self) -> str:
        """The token that it came with."""
        return self.received.headers["Authorization"].removeprefix("Bearer ")

    @property
    def account_id(self) -> str:
        """The account that it is about."""
        return self.received.headers["Harvest-Account-Id"]

    @property
    def is_open(self) -> bool:
        """Whether the caller still waits."""
        return not self._left.is_set()

    def answer(
        self,
        what: Mapping[str, Any] | bytes = b"{}",
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Let it have its answer."""
        body = what if isinstance(what, bytes) else json.dumps(what).encode()
        self._reply.set_result(Reply(body, status, {"Content-Type": JSON, **(headers or {})}))

    def reset(self) -> None:
        """Break its connection, so that the caller is told of a reset."""
        assert self._transport is not None
        raw = self._transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    async def until_left(self) -> None:
        """Wait for the caller to hang up."""
        await self._left.wait()


@dataclass
class HeldUpstream:
    """Keeps every call until it is told what to answer."""

    base_url: str = ""
    calls: list[HeldCall] = field(default_factory=list)
    """All that have arrived."""
    _arrived: asyncio.Queue[HeldCall] = field(default_factory=asyncio.Queue)

    async def next(self) -> HeldCall:
        """Wait for the next call to arrive."""
        return await self._arrived.get()

    async def next_of(self, calling: asyncio.Future[bytes]) -> HeldCall | None:
        """Wait for the next call to arrive; None: who is to make it has had an answer before."""
        asking = asyncio.create_task(self.next())
        try:
            await asyncio.wait((calling, asking), return_when=asyncio.FIRST_COMPLETED)
            return asking.result() if asking.done() else None
        finally:
            asking.cancel()

    @property
    def holds_any(self) -> bool:
        """Whether a call waits for its answer, or nobody has asked for it yet."""
        return not self._arrived.empty() or any(not call._reply.done() for call in self.calls)

    async def serve(self, request: web.Request) -> web.Response:
        """Keep a call until it is answered, or its caller hangs up; but say at once that it is v2."""
        if request.path == f"/v2{PROBE}" and "Authorization" not in request.headers:
            return web.json_response({"error": "invalid_token"}, status=401)
        received = Received(
            request.method,
            request.rel_url.raw_path,
            request.rel_url.raw_query_string,
            dict(request.headers),
            await request.read(),
        )
        reply: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()
        call = HeldCall(received, request.transport, reply)
        self.calls.append(call)
        self._arrived.put_nowait(call)
        try:
            answer = await reply or Reply(status=500)
        except asyncio.CancelledError:
            call._left.set()
            raise
        return web.Response(status=answer.status, body=answer.body, headers=answer.headers)

    def end(self) -> None:
        """Answer whatever still waits, lest the end waits for it."""
        for call in self.calls:
            if not call._reply.done():
                call._reply.set_result(None)

    def forget(self) -> None:
        """Begin anew, as if no call had come."""
        self.end()
        self.calls.clear()
        while not self._arrived.empty():
            self._arrived.get_nowait()


@asynccontextmanager
async def running_held_upstream(*, port: int = 0) -> AsyncIterator[HeldUpstream]:
    """Run an upstream that holds every call; its v2 lies under `/v2`."""
    upstream = HeldUpstream()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", upstream.serve)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    async with listening(runner, LOOPBACK, port) as taken:
        upstream.base_url = f"http://{LOOPBACK}:{taken}/v2"
        yield upstream
        upstream.end()
