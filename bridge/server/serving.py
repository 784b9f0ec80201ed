"""How servers come to listen, and when they stop."""

import asyncio
import signal
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from bridge.server.protocol import LegacyRunner, LegacySite


@asynccontextmanager
async def listening(
    runner: web.BaseRunner, host: str, port: int, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """Serve `runner` on `host` and `port` (0 takes a free one) and yield the port it got.

    Raises:
        OSError: the address cannot be listened on.
    """
    await runner.setup()
    try:
        await _site(runner, host, port, tls).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def _site(runner: web.BaseRunner, host: str, port: int, tls: ssl.SSLContext | None) -> web.BaseSite:
    if isinstance(runner, LegacyRunner):
        return LegacySite(runner, host, port, tls)
    return web.TCPSite(runner, host, port, ssl_context=tls)


async def until_told_to_stop(reload: Callable[[], Awaitable[None]] | None = None) -> None:
    """Wait for SIGINT or SIGTERM; `reload` at each SIGHUP."""
    loop = asyncio.get_running_loop()
    stop, hangup = asyncio.Event(), asyncio.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(each, stop.set)
    if reload is None:
        await stop.wait()
        return
    loop.add_signal_handler(signal.SIGHUP, hangup.set)
    reloading = asyncio.create_task(_reload_at(hangup, reload))
    await stop.wait()
    reloading.cancel()


async def _reload_at(hangup: asyncio.Event, reload: Callable[[], Awaitable[None]]) -> None:
    while True:
        await hangup.wait()
        hangup.clear()
        await reload()
