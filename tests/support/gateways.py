"""Gateways for tests, and callers of theirs."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bridge.secret import Secret
from bridge.upstream.calls import UpstreamCall
from bridge.upstream.gateway import Credential, Errand, Gateway, UpstreamLimits
from bridge.upstream.sharing import Worker
from bridge.v2.client import Upstream, V2Client
from bridge.v2.wire import V2Request, V2Response
from tests.support.clocks import until
from tests.support.running import LOOPBACK

PATIENCE = 30.0
"""Seconds that a call may take unless its test says otherwise."""


@dataclass
class Asking:
    """One call that a gateway has been asked to make."""

    task: asyncio.Task[V2Response]
    errand: Errand

    @property
    def calls(self) -> list[UpstreamCall]:
        """Every try, in their order."""
        return self.errand.calls

    async def response(self) -> V2Response:
        """Wait for its end."""
        return await self.task

    async def joined(self) -> None:
        """Wait until it has joined another."""
        await until(lambda: self.calls and self.calls[-1].shared)

    async def hang_up(self) -> None:
        """Leave, as its client does; whoever follows keeps it going."""
        self.errand.worker.leave()
        if self.task.cancelling():
            await asyncio.wait([self.task])

    async def stop(self) -> None:
        """Cancel it, whoever follows."""
        self.task.cancel()
        await asyncio.wait([self.task])


@dataclass
class Asker:
    """Asks a gateway for one credential."""

    gateway: Gateway
    token: str = "s3cret"
    account_id: int = 1000
    vouched: bool = True
    network: str = "192.0.2.1"

    def ask(self, request: V2Request, *, seconds: float = PATIENCE) -> Asking:
        """Have a call made; its answer can be waited for."""

        async def send() -> V2Response:
            return await self.gateway.send(request, errand)

        task = asyncio.create_task(send())
        credential = Credential(self.account_id, Secret(self.token), self.vouched)
        deadline = asyncio.get_running_loop().time() + seconds
        errand = Errand(credential, seconds, deadline, Worker(task), self.network)
        return Asking(task, errand)

    async def send(self, request: V2Request, *, seconds: float = PATIENCE) -> V2Response:
        """Have a call made and wait for its answer."""
        return await self.ask(request, seconds=seconds).response()

    def state(self) -> str:
        """The state of the account's breaker."""
        return str(self.gateway.breakers()[f"account {self.account_id}"])


@asynccontextmanager
async def running_gateway(
    base_url: str, limits: UpstreamLimits | None = None, *, connections: int = 100
) -> AsyncIterator[Gateway]:
    """Yield a gateway to `base_url`."""
    client = V2Client(
        Upstream(
            base_url,
            user_agent="harvest-bridge/test (tests@example.com)",
            connect_timeout=PATIENCE,
            body_limit=100_000,
            connections=connections,
        )
    )
    try:
        yield Gateway(client, limits or UpstreamLimits())
    finally:
        await client.close()


def free_port() -> int:
    """Return a port at which nobody listens."""
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        port: int = taken.getsockname()[1]
        return port
