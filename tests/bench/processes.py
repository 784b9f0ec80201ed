"""Servers in processes of their own: started, told things by lines on standard input, stopped."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from bridge.server.serving import listening
from tests.support.running import LOOPBACK

Commands = Mapping[str, Callable[[], Any]]
"""What a server does when told a word; the result is its answer, as JSON."""


def _say(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def obey(port: int, commands: Commands | None = None) -> None:
    """Say where this process listens, then do as told until standard input closes."""
    closed = asyncio.Event()

    def hear() -> None:
        if word := sys.stdin.readline().strip():
            _say((commands or {})[word]())
        else:
            asyncio.get_running_loop().remove_reader(sys.stdin)
            closed.set()

    asyncio.get_running_loop().add_reader(sys.stdin, hear)
    _say(port)
    await closed.wait()


async def serve(runner: web.BaseRunner, commands: Commands | None = None) -> None:
    """Serve on a free port and `obey`."""
    async with listening(runner, LOOPBACK, 0) as port:
        await obey(port, commands)


class Server:
    """A server that another process is."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.port = 0

    async def told(self, word: str) -> Any:
        """Give a command and return what came of it."""
        assert self._process.stdin
        self._process.stdin.write(f"{word}\n".encode())
        return await self.heard()

    async def heard(self) -> Any:
        """Return the next thing that the server says."""
        assert self._process.stdout
        return json.loads(await self._process.stdout.readline())


@asynccontextmanager
async def running(module: str, *arguments: str) -> AsyncIterator[Server]:
    """Run `python -m module`, which is to `obey` or `serve`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin
    server = Server(process)
    try:
        server.port = await server.heard()
        yield server
    finally:
        process.stdin.close()
        await process.wait()
