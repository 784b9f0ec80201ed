"""The event loop that servers run on."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from bridge.cli.terminal import failing_at
from bridge.server.serving import CannotListen


def new_event_loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes a loop of uvloop's, where that is installed, else None: asyncio's own."""
    try:
        from uvloop import new_event_loop  # noqa: PLC0415 - not on every platform
    except ImportError:
        return None
    return new_event_loop


def run(server: Coroutine[Any, Any, None], *unusable: type[Exception]) -> None:
    """Run `server` to its end; `unusable` are the errors that say what is wrong with its files.

    What the operator has to put right, addresses among it, is exit status 2.
    """
    with (
        failing_at(OSError, status=1),
        failing_at(CannotListen, *unusable),
        asyncio.Runner(loop_factory=new_event_loop_factory()) as runner,
    ):
        runner.run(server)
