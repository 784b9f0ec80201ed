"""A real `harvest-bridge serve`, which can be killed, stopped and started again, and its log."""

import asyncio
import json
import os
import random
import signal
import socket
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from bridge.identity.callers import Way
from bridge.sandbox.app import (
    SANDBOX_ACCOUNT_ID,
    SANDBOX_SECOND_ACCOUNT_ID,
    SANDBOX_SECOND_TOKEN,
    SANDBOX_TOKEN,
)
from bridge.settings import PREFIX
from tests.support.books import enter
from tests.support.running import LOOPBACK

Line = dict[str, Any]

TOKENS = {"FIRST_TOKEN": SANDBOX_TOKEN, "SECOND_TOKEN": SANDBOX_SECOND_TOKEN}


class Login(NamedTuple):
    """What a legacy client of one account says of itself."""

    subdomain: str
    name: str
    password: str


LOGINS = {
    SANDBOX_ACCOUNT_ID: Login("first", "first@example.com", "first password"),
    SANDBOX_SECOND_ACCOUNT_ID: Login("second", "second@example.com", "second password"),
}
_COMMAND = (sys.executable, "-X", "faulthandler", "-m", "bridge")
_ENVIRONMENT = {
    **{name: text for name, text in os.environ.items() if not name.startswith(PREFIX)},
    **TOKENS,
}
_LONGEST_LINE = 2**20

RAW = "raw"
"""What it says that is no line of a log."""


def _parsed(text: bytes) -> Line:
    try:
        line: Line = json.loads(text)
    except ValueError:
        return {"event": RAW, RAW: text.decode(errors="replace").rstrip()}
    return line


def _lasting_port() -> int:
    """Find a free port that the system gives to nobody who asks for any: it is kept between lives.

    What listens there meanwhile would be called by clients of the bridge.
    """
    while True:
        with socket.socket() as probe, suppress(OSError):
            probe.bind((LOOPBACK, port := random.randrange(10_000, 30_000)))
            return port


class BridgeProcess:
    """One bridge: life after life, on one port and with one journal."""

    def __init__(
        self, directory: Path, upstream: str, *options: str, database: str | None = None
    ) -> None:
        """With the URL of a `database`, it shares its journal with others; by default, it does not.

        Those have one `directory`, and so one book and key. Of `options`, the last of a name counts.
        """
        self.journal = directory / "journal.sqlite"
        self.database = database
        self.lines: list[Line] = []
        """All that it has logged."""
        self.port = _lasting_port()
        self.admin_port = _lasting_port()
        self._upstream = upstream
        self._options = options
        self._book = directory / "book.toml"
        self._smaller_book = directory / "smaller-book.toml"
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._waiting: list[tuple[Callable[[Line], bool], asyncio.Future[Line]]] = []
        for (account_id, login), name in zip(LOGINS.items(), TOKENS, strict=True):
            enter(self._book, *login, account_id, f"env:{name}")
            if account_id != SANDBOX_ACCOUNT_ID:
                enter(self._smaller_book, *login, account_id, f"env:{name}")

    async def start(self) -> None:
        """Begin a life, and wait until it listens."""
        self._process = await asyncio.create_subprocess_exec(
            *_COMMAND,
            "serve",
            f"--auth={Way.BOOK}",
            f"--book={self._book}",
            "--contact=tests@example.com",
            f"--upstream={self._upstream}",
            f"--journal={self.journal}",
            f"--database={self.database or self.journal.with_name('log.sqlite')}",
            f"--database-key={self.journal.with_name('log.key')}",
            f"--port={self.port}",
            f"--admin-port={self.admin_port}",
            "--call-timeout=3",
            "--throttle-wait=2",
            *self._options,
            env=_ENVIRONMENT,
            stderr=asyncio.subprocess.PIPE,
            limit=_LONGEST_LINE,
        )
        listens = self.told(
            lambda line: line["event"] == "listening" and line.get("what") == "bridge"
        )
        self._reading = asyncio.create_task(self._read(self._process))
        self.port = (await listens)["port"]

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        async for text in process.stderr:
            line = _parsed(text)
            self.lines.append(line)
            for wanted, told in self._waiting:
                if not told.done() and wanted(line):
                    told.set_result(line)
        for _, told in self._waiting:
            if not told.done():
                told.set_exception(ConnectionError("the bridge has ended"))
        self._waiting.clear()

    @property
    def runs(self) -> bool:
        """Whether there is a process of it."""
        return self._process is not None and self._process.returncode is None

    def told(self, wanted: Callable[[Line], bool]) -> asyncio.Future[Line]:
        """The next line of its log that is wanted; `ConnectionError` if it ends before."""
        told: asyncio.Future[Line] = asyncio.get_running_loop().create_future()
        self._waiting.append((wanted, told))
        # Nobody may wait for it any more when the bridge ends.
        told.add_done_callback(lambda done: done.cancelled() or done.exception())
        return told

    def tell(self, which: signal.Signals) -> None:
        """Send it a signal that does not end it."""
        assert self._process is not None
        self._process.send_signal(which)

    async def end(self, how: signal.Signals) -> int:
        """Send it a signal and return its exit status when it has ended."""
        assert self._process is not None
        assert self._reading is not None
        self._process.send_signal(how)
        await self._reading
        return await self._process.wait()

    async def stack(self) -> str:
        """End it, and return what it was about, thread by thread."""
        known = len(self.lines)
        if self._process is not None and self._process.returncode is None:
            await self.end(signal.SIGABRT)
        return "\n".join(line[RAW] for line in self.lines[known:] if RAW in line)

    async def kill(self) -> None:
        """End its life without a warning."""
        assert await self.end(signal.SIGKILL) == -signal.SIGKILL

    async def close(self) -> None:
        """End whatever there is."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        if self._reading is not None:
            await self._reading

    async def journal_command(self, *arguments: str) -> tuple[int | None, list[list[str]]]:
        """Run `harvest-bridge journal` on its journal; the exit status and the cells it prints."""
        process = await asyncio.create_subprocess_exec(
            *_COMMAND,
            "journal",
            f"--database={self.database}" if self.database else f"--journal={self.journal}",
            *arguments,
            env=_ENVIRONMENT,
            stdout=asyncio.subprocess.PIPE,
        )
        told, _ = await process.communicate()
        return process.returncode, [line.split("\t") for line in told.decode().splitlines()]

    async def reconcile(self) -> tuple[int | None, list[list[str]]]:
        """Have what is not settled settled by looking: with a token, and a book for the rest."""
        return await self.journal_command(
            "--reconcile",
            f"--book={self._smaller_book}",
            "--token=env:FIRST_TOKEN",
            f"--upstream={self._upstream}",
            "--contact=tests@example.com",
        )

    @contextmanager
    def journal_locked(self) -> Iterator[None]:
        """Keep it from recording anything; for less than the five seconds that it waits."""
        with closing(sqlite3.connect(self.journal, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            finally:
                connection.execute("ROLLBACK")


@asynccontextmanager
async def running_bridge_process(
    directory: Path, upstream: str, *options: str
) -> AsyncIterator[BridgeProcess]:
    """Run a bridge to `upstream` which keeps its files in `directory`."""
    bridge = BridgeProcess(directory, upstream, *options)
    try:
        await bridge.start()
        yield bridge
    finally:
        await bridge.close()
