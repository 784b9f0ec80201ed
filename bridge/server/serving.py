"""How servers come to listen, and when they stop."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog
from aiohttp import web

_log = structlog.get_logger("bridge")


@asynccontextmanager
async def listening(runner: web.BaseRunner, host: str, port: int) -> AsyncIterator[int]:
    """Serve `runner` on `host` and `port` (0 takes a free one) and yield the port it got.

    An address that cannot be listened on is an `OSError`.
    """
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


class Signals:
    """What the operator tells the process: to stop (SIGINT, SIGTERM), to reload (SIGHUP).

    Make it before anything is announced: what is heard from then on is kept until it is waited for.
    """

    def __init__(self) -> None:
        self._stop = asyncio.Event()
        self._reload = asyncio.Event()
        self._hurry: Callable[[], None] = lambda: None
        loop = asyncio.get_running_loop()
        for each in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(each, self._told_to_stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload.set)

    def _told_to_stop(self) -> None:
        if self._stop.is_set():
            self._hurry()
        self._stop.set()

    async def until_stop(
        self,
        reload: Callable[[], Awaitable[object]] = lambda: asyncio.sleep(0),
        hurry: Callable[[], None] = lambda: None,
    ) -> None:
        """Wait to be told to stop; `reload` when that is asked for, `hurry` when told again."""

        async def keep_reloading() -> None:
            while True:
                await self._reload.wait()
                self._reload.clear()
                try:
                    await reload()
                except Exception:  # noqa: BLE001 - the next one may fare better
                    _log.exception("not_reloaded")

        self._hurry = hurry
        reloading = asyncio.create_task(keep_reloading())
        await self._stop.wait()
        reloading.cancel()
