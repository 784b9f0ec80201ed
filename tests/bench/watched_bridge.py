"""A bridge in a process of its own, as `harvest-bridge serve` runs it, and how it is held up.

Told `watch`, it begins to measure; told `report`, it says what it saw since.
"""

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from time import perf_counter, thread_time
from typing import Any

from bridge.cli.loop import new_event_loop_factory as _loop_factory
from bridge.identity.callers import Way
from bridge.server import logs
from bridge.server.service import running
from bridge.settings import Settings
from tests.bench import machine
from tests.bench.processes import obey


@dataclass
class Watch:
    """Measures the stretches between two turns of the event loop, and the process's memory."""

    watching: bool = False
    tick: tuple[float, float] = (0.0, 0.0)
    longest: float = 0.0
    """CPU seconds, which a busy machine does not stretch."""
    longest_wall: float = 0.0

    def watch(self) -> dict[str, Any]:
        """Forget what was seen and begin."""
        resident = memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
        self.longest = self.longest_wall = 0.0
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
            "peak": memory("VmHWM"),
        }

    def _turn(self) -> None:
        before, self.tick = self.tick, (thread_time(), perf_counter())
        self.longest = max(self.longest, self.tick[0] - before[0])
        self.longest_wall = max(self.longest_wall, self.tick[1] - before[1])
        if self.watching:
            asyncio.get_running_loop().call_soon(self._turn)


def memory(what: str) -> int:
    """Return a figure of this process's status, such as VmHWM, in bytes."""
    return machine.memory(os.getpid(), what)


async def _main(upstream: str) -> None:
    settings = Settings(
        upstream=upstream,
        account_id=1000,
        auth=frozenset({Way.TOKEN_AS_PASSWORD}),
        contact="bench@example.com",
        port=0,
        admin_port=0,
        journal=Path(mkdtemp()) / "journal.sqlite",
        database=f"{mkdtemp()}/log.sqlite",
    )
    watch = Watch()
    async with running(settings) as service:
        await obey(service.port, {"watch": watch.watch, "report": watch.report})


if __name__ == "__main__":
    with Path(os.devnull).open("w") as nowhere:
        logs.configure(nowhere)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_main(sys.argv[1]))
