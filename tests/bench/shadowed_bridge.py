"""A bridge in a process of its own between the sandbox's v1 and v2, whose shadow the limits of neither
hold back: the sandbox has none.
"""

import asyncio
import os
import sys
from pathlib import Path

from bridge.cli.loop import new_event_loop_factory as _loop_factory
from bridge.identity.callers import Way
from bridge.server import logs
from bridge.server.limits import Limits
from bridge.server.service import running
from bridge.server.shadow.asked import ShadowLimits
from bridge.settings import Settings
from bridge.upstream.spare import SpareLimits
from tests.bench.lateness import Lateness
from tests.bench.machine import memory
from tests.bench.processes import obey


async def _main(v1: str, v2: str, folder: Path) -> None:
    settings = Settings(
        upstream=f"{v2}/v2",
        legacy_origin=v1,
        auth=frozenset({Way.BOOK}),
        book=folder / "book.toml",
        subdomain="api-examples",
        contact="bench@example.com",
        port=0,
        admin_port=0,
        journal=folder / "journal.sqlite",
        database=str(folder / "log.sqlite"),
    )
    limits = Limits(
        spare=SpareLimits(calls=1_000_000, left_alone=1_000_000),
        shadow=ShadowLimits(v1_calls=1_000_000),
    )
    async with running(settings, limits) as service:
        lateness = Lateness()
        await obey(
            service.port,
            {
                "admin": lambda: service.admin_port,
                "lateness": lateness.told,
                "memory": lambda: memory(os.getpid(), "VmHWM"),
            },
        )


if __name__ == "__main__":
    with Path(os.devnull).open("w") as nowhere:
        logs.configure(nowhere)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
