"""The machine: its cores, the processes that are started on them, and what those use of it."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep

from tests.support.running import LOOPBACK

Command = Sequence[str | Path]

_START_SECONDS = 30.0
_STOP_SECONDS = 5.0
_IDLE_SECONDS = 10.0
_GLANCE = 0.2
"""Seconds between two looks at what a process does."""
_IDLE_SHARE = 0.06
"""Of a core: two ticks of the clock in a glance."""


class NotMeasured(Exception):
    """Something cannot be measured here; `str()` is one line that says why."""


def cores() -> tuple[int, int] | None:
    """Return a core for load and upstream, and one for the server; None: nothing can be pinned."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    usable = sorted(os.sched_getaffinity(0))
    return (usable[0], usable[1]) if len(usable) > 1 else None


@contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Keep what is started in the block on `core`; None lets it run anywhere."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def started(
    command: Command,
    log: Path,
    *,
    core: int | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `command` beside its `log` for the block, then end it and all that it has started."""
    with log.open("wb") as output, pinned(core):
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=log.parent,
            env={**_environment(), **(environment or {})},
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _end(process)


def _environment() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("HARVEST_BRIDGE_", "PYTHONPATH"))
    }


def _end(process: subprocess.Popen[bytes]) -> None:
    for how in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)


@contextmanager
def upstream_process(core: int | None) -> Iterator[str]:
    """Run `tests.bench.upstream`, whose lists may have many pages; yields its base URL."""
    with (
        pinned(core),
        subprocess.Popen(
            [sys.executable, "-m", "tests.bench.upstream"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        ) as process,
    ):
        assert process.stdout
        try:
            if not (port := process.stdout.readline()):
                raise NotMeasured("its upstream does not start")
            yield f"http://{LOOPBACK}:{int(port)}/v2"
        finally:
            _end(process)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        port: int = taken.getsockname()[1]
        return port


def await_listening(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait until `process` listens.

    Raises:
        NotMeasured: it ended instead, or does not.
    """
    end = monotonic() + _START_SECONDS
    while process.poll() is None and monotonic() < end:
        with suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1):
            return
        sleep(0.05)
    said = log.read_text(errors="replace").strip().splitlines() or ["nothing"]
    raise NotMeasured(f"it did not start, and said: {said[-1][:200]}")


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process and its children have used, of those that live."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == pid:  # `started` gives each a session of its own
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def await_idle(pid: int) -> None:
    """Wait until a process has done what it is still at though nobody waits for it any more."""
    end = monotonic() + _IDLE_SECONDS
    before, used = -1.0, cpu_seconds(pid)
    while used - before > _IDLE_SHARE * _GLANCE and monotonic() < end:
        sleep(_GLANCE)
        before, used = used, cpu_seconds(pid)


def memory(pid: int, what: str) -> int:
    """Return a figure of a process's status, such as VmHWM, in bytes."""
    found = re.search(
        rf"^{what}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE
    )
    assert found
    return int(found[1]) * 1024
