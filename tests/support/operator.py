"""An operator at a terminal: commands that are run to their end, and servers beside them."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from typer.testing import CliRunner

from bridge.cli import app
from bridge.settings import PREFIX
from tests.support.running import LOOPBACK

PATIENCE = 60
"""Seconds until a server counts as hanging."""

Lines = list[dict[str, Any]]


@dataclass
class Server:
    """A server that was started in another terminal, and what its log has said."""

    ports: list[int] = field(default_factory=list)
    """Those it listens on, in the order of its log."""
    log: Lines = field(default_factory=list)
    said: str = ""
    """All that it has printed."""
    _told: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        """Where the first of its ports is."""
        return f"http://{LOOPBACK}:{self.ports[0]}"

    def tells(self) -> None:
        """Have whoever waits look again: there is more of it."""
        self._told.set()

    async def until(self, true: Callable[[], object]) -> None:
        """Wait until what it has told makes something true."""
        async with asyncio.timeout(PATIENCE):
            while not true():
                self._told.clear()
                await self._told.wait()

    def lines(self, event: str) -> Lines:
        """Return its log's lines about an event."""
        return [line for line in self.log if line["event"] == event]


@asynccontextmanager
async def serving(*arguments: str, ready: Callable[[Server], object]) -> AsyncIterator[Server]:
    """Run a command that serves until the end, and yield it once it is `ready`."""
    environment = {name: text for name, text in os.environ.items() if not name.startswith(PREFIX)}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "bridge", *arguments),
        env={**environment, "PYTHONUNBUFFERED": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    server = Server()
    assert process.stdout is not None
    assert process.stderr is not None
    reading = asyncio.gather(_read_log(server, process.stderr), _read(server, process.stdout))
    reading.add_done_callback(lambda _: server.tells())
    try:
        await server.until(lambda: ready(server) or reading.done())
        assert ready(server), server.log
        yield server
        process.terminate()
        async with asyncio.timeout(PATIENCE):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reading


async def _read_log(server: Server, stream: asyncio.StreamReader) -> None:
    async for line in stream:
        told = json.loads(line)
        server.log.append(told)
        if told["event"] == "listening":
            server.ports.append(told["port"])
        server.tells()


async def _read(server: Server, stream: asyncio.StreamReader) -> None:
    async for line in stream:
        server.said += line.decode()
        server.tells()


class Operator:
    """Gives commands, all with the same database."""

    def __init__(self, database: str) -> None:
        self._database = database

    async def runs(self, command: str, *arguments: str, given: str = "", status: int = 0) -> str:
        """Run a command to its end, in this process, and return what it prints."""
        done = await asyncio.to_thread(
            CliRunner().invoke,
            app,
            [command, *arguments],
            input=given,
            env={f"{PREFIX}DATABASE": self._database},
            catch_exceptions=False,
        )
        assert done.exit_code == status, done.output
        return done.stdout

    async def asks(self, command: str, *arguments: str) -> Any:
        """Run a command for what it knows."""
        return json.loads(await self.runs(command, *arguments, "--json"))
