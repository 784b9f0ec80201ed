"""A bridge in a process of its own, as `harvest-bridge serve` runs it, and what it costs there.

Told `watch`, it begins to measure; told `report`, it says what it saw since.
"""

import asyncio
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from time import perf_counter, process_time, thread_time
from typing import Any

from aiohttp.client_proto import ResponseHandler
from aiohttp.payload import BytesIOPayload

from bridge.cli import _loop_factory
from bridge.identity.callers import Way
from bridge.resources import base
from bridge.server import logs
from bridge.server.service import running
from bridge.settings import Settings
from bridge.v1.writer import ListDocument
from bridge.v2 import paging
from bridge.v2.client import V2Client
from tests.bench.processes import obey
from tests.bench.spans import Spans, Step

STEPS = (
    Step("receive", ResponseHandler, "data_received"),
    Step("read body", V2Client, "_read"),
    Step("page scan", paging, "decode"),
    Step("decode", base, "_record"),
    Step("write batch", ListDocument, "_batch"),
    Step("send", BytesIOPayload, "write_with_length"),
)


@dataclass
class Watch:
    """Measures the stretches between two turns of the event loop, and the process's memory."""

    spans: Spans
    watching: bool = False
    tick: tuple[float, float] = (0.0, 0.0)
    longest: float = 0.0
    """CPU seconds, which a busy machine does not stretch."""
    longest_wall: float = 0.0
    causes: dict[str, float] = field(default_factory=dict)
    """What ran in the longest stretch."""
    after: str = ""
    long_ones: int = 0

    def watch(self) -> dict[str, Any]:
        """Forget what was seen and begin."""
        resident = memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
        self.longest = self.longest_wall = 0.0
        self.long_ones = 0
        self.watching = True
        self.tick = thread_time(), perf_counter()
        self._turn()
        return {"resident": resident}

    def report(self) -> dict[str, Any]:
        """End and say what was seen: seconds and bytes."""
        self.watching = False
        return {
            "longest": self.longest,
            "longest_wall": self.longest_wall,
            "causes": self.causes,
            "after": self.after,
            "long_ones": self.long_ones,
            "peak": memory("VmHWM"),
            "resident": memory("VmRSS"),
        }

    def _turn(self) -> None:
        before, self.tick = self.tick, (thread_time(), perf_counter())
        stretch = self.tick[0] - before[0]
        self.longest_wall = max(self.longest_wall, self.tick[1] - before[1])
        if stretch > self.longest:
            self.longest = stretch
            self.causes, self.after = dict(self.spans.seconds), self.spans.latest
        self.long_ones += stretch > LONG
        self.spans.seconds.clear()
        if self.watching:
            asyncio.get_running_loop().call_soon(self._turn)


LONG = 0.002
"""Seconds: a stretch worth counting."""


def memory(what: str) -> int:
    """Return a figure of /proc/self/status, in bytes."""
    found = re.search(rf"^{what}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * 1024


async def _main(upstream: str) -> None:
    settings = Settings(
        upstream=upstream,
        account_id=1000,
        auth=frozenset({Way.TOKEN_AS_PASSWORD}),
        contact="bench@example.com",
        port=0,
        admin_port=0,
        journal=Path(mkdtemp()) / "journal.sqlite",
    )
    spans = Spans()
    watch = Watch(spans)
    commands = {"watch": watch.watch, "report": watch.report, "cpu": process_time}
    with spans.watching(STEPS):
        async with running(settings) as service:
            await obey(service.port, commands)


if __name__ == "__main__":
    with Path(os.devnull).open("w") as nowhere:
        logs.configure(nowhere)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_main(sys.argv[1]))
