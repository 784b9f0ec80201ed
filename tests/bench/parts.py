"""The measurements of bridges alone; how their figures are shown is `tables`' business."""

import re
import shutil
import signal
import subprocess
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import process_time, sleep
from typing import NamedTuple

from bridge.v1.dialects import Dialect
from bridge.v2.paging import PER_PAGE
from tests.bench.candidates import Candidate
from tests.bench.load import WARM, Calls, Load, call_in_turn, load, loading, require_wrk
from tests.bench.machine import (
    NotMeasured,
    await_idle,
    cpu_seconds,
    memory,
    pinned,
    upstream_process,
)
from tests.bench.stage import BASELINE, Bench, Stage, ratios, stage
from tests.bench.static_upstream import list_json
from tests.bench.upstream import body

_SMALL_CLIENTS, _LARGE_CLIENTS, _WRITERS = 4, 8, 8
_TRACED_CALLS = 200
_LONG_LIST = 100_000
_TRANSLATIONS = 5
"""Of each kind in a round."""
_POST = (
    "<invoice-message><subject>Invoice {id}</subject><body>Number {id} is due.</body>"
    "<recipients>to@example.com</recipients></invoice-message>"
)


@dataclass(frozen=True)
class Translation:
    """How fast a list of 2,000 messages is translated within a process."""

    dialect: Dialect
    kind: str
    megabytes_per_second: float
    """Of v2's JSON, by CPU time; the median."""


def translate(bench: Bench) -> list[Translation]:
    """Measure the translation on its own."""
    from tests.bench.translating import translate_once  # noqa: PLC0415 - no other part needs it

    bench.progress("translating")
    pages = [list_json(PER_PAGE, variant) for variant in range(4)]
    new = count(2)
    taken: defaultdict[tuple[Dialect, str], list[float]] = defaultdict(list)
    with pinned(bench.server_core):
        for dialect in Dialect:
            translate_once(pages[0], dialect, 1)
        for _ in range(bench.rounds * _TRANSLATIONS):
            for dialect in Dialect:
                for kind, invoice in (("cold", next(new)), ("unchanged", 1)):
                    page = pages[(invoice - 1) % len(pages)]
                    begun = process_time()
                    translate_once(page, dialect, invoice)
                    taken[dialect, kind].append((process_time() - begun) / len(page) * 1e6)
    return [Translation(*key, 1 / median(each)) for key, each in taken.items()]


@dataclass(frozen=True)
class Fairness:
    """What small calls wait, in seconds: with nothing else to do, and while large lists are asked.

    All are medians of the rounds.
    """

    bridge: str
    idle_median: float
    idle_p99: float
    busy_median: float
    busy_p99: float
    p99_ratio: float
    small_per_second: float
    large_per_second: float
    """Lists that were answered meanwhile."""
    failed: int


class _Turn(NamedTuple):
    idle: Load
    small: Load
    large: Load


def fairness(bench: Bench) -> list[Fairness]:
    """Measure how far large lists keep small calls waiting.

    Raises:
        NotMeasured: nginx or wrk is missing.
    """
    require_wrk()
    core = bench.server_core if bench.pin_fairness else None
    turns: defaultdict[str, list[_Turn]] = defaultdict(list)
    with stage(bench, (1, PER_PAGE)) as set_up:
        candidates = bench.start_bridges(set_up.stack, set_up.upstream, set_up.folder, core)
        for turn in range(bench.rounds):
            for candidate in candidates:
                bench.progress(f"fairness, round {turn + 1}: {candidate.name}")
                turns[candidate.name].append(_fairness_turn(bench, set_up, candidate))
    return [_fairness(name, each) for name, each in turns.items()]


def _fairness_turn(bench: Bench, set_up: Stage, candidate: Candidate) -> _Turn:
    port, core = candidate.port, bench.load_core
    first = set_up.ids.unused(PER_PAGE)
    large_calls = Calls(bench.path, first, connections=_LARGE_CLIENTS)
    call_in_turn(port, Calls(bench.path, set_up.ids.unused(1)), 20)
    idle = load(port, _small(bench, set_up), bench.seconds, core, warm=0)
    with loading(port, large_calls, bench.seconds + 1, core) as large:
        sleep(WARM)
        small = load(port, _small(bench, set_up), bench.seconds, core, warm=0)
        turn = _Turn(idle, small, large.result())
    await_idle(candidate.pid)
    return turn


def _small(bench: Bench, set_up: Stage) -> Calls:
    return Calls(bench.path, set_up.ids.unused(1), connections=_SMALL_CLIENTS)


def _fairness(name: str, turns: list[_Turn]) -> Fairness:
    idle_p99 = median(turn.idle.p99 for turn in turns)
    busy_p99 = median(turn.small.p99 for turn in turns)
    return Fairness(
        name,
        median(turn.idle.median for turn in turns),
        idle_p99,
        median(turn.small.median for turn in turns),
        busy_p99,
        busy_p99 / idle_p99,
        median(turn.small.per_second for turn in turns),
        median(turn.large.per_second for turn in turns),
        sum(load.failed for turn in turns for load in turn),
    )


@dataclass(frozen=True)
class Posting:
    """What a POST costs, medians of the rounds."""

    bridge: str
    cpu_seconds: float
    """Of the bridge, a POST."""
    per_second: float
    failed: int
    of: dict[str, float]
    """The ratio of CPU time to the baseline's."""


def post(bench: Bench) -> list[Posting]:
    """Measure the CPU time of messages that are sent, each to another invoice.

    Raises:
        NotMeasured: nginx, wrk or /proc is missing.
    """
    require_wrk()
    _require_proc()
    costs: defaultdict[str, list[tuple[float, Load]]] = defaultdict(list)
    with stage(bench, (1,)) as set_up:
        candidates = bench.start_bridges(
            set_up.stack, set_up.upstream, set_up.folder, bench.server_core
        )
        for turn in range(bench.rounds):
            for candidate in candidates:
                bench.progress(f"POST, round {turn + 1}: {candidate.name}")
                costs[candidate.name].append(_post_turn(bench, set_up, candidate))
    seconds = {name: median(cost for cost, _ in each) for name, each in costs.items()}
    return [
        Posting(
            name,
            seconds[name],
            median(load.per_second for _, load in each),
            sum(load.failed for _, load in each),
            ratios(seconds, name, (BASELINE,)),
        )
        for name, each in costs.items()
    ]


def _post_turn(bench: Bench, set_up: Stage, candidate: Candidate) -> tuple[float, Load]:
    def calls() -> Calls:
        first = set_up.ids.unused(1)
        return Calls(bench.path, first, connections=_WRITERS, method="POST", body=_POST)

    load(candidate.port, calls(), 1, bench.load_core, warm=0)
    await_idle(candidate.pid)
    before = cpu_seconds(candidate.pid)
    result = load(candidate.port, calls(), bench.seconds, bench.load_core, warm=0)
    await_idle(candidate.pid)
    if not result.answered:
        raise NotMeasured(f"{candidate.name} answers no POST")
    return (cpu_seconds(candidate.pid) - before) / result.answered, result


@dataclass(frozen=True)
class SystemCalls:
    """What a call of one message asks of the system, when it comes alone."""

    bridge: str
    a_call: dict[str, float]
    """How often, by the system call's name."""


def syscalls(bench: Bench) -> list[SystemCalls]:
    """Count system calls.

    Raises:
        NotMeasured: nginx or strace is missing, or may not look.
    """
    if shutil.which("strace") is None:
        raise NotMeasured("strace is not installed")
    with stage(bench, (1,)) as set_up:
        candidates = bench.start_bridges(
            set_up.stack, set_up.upstream, set_up.folder, bench.server_core
        )
        return [
            SystemCalls(candidate.name, _traced(bench, set_up, candidate))
            for candidate in candidates
        ]


def _traced(bench: Bench, set_up: Stage, candidate: Candidate) -> dict[str, float]:
    bench.progress(f"system calls: {candidate.name}")
    report = set_up.folder / "strace.txt"
    call_in_turn(candidate.port, Calls(bench.path, set_up.ids.unused(1)), _TRACED_CALLS)
    with subprocess.Popen(
        ["strace", "-f", "-c", "-o", report, "-p", str(candidate.pid)],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as tracer:
        try:
            assert tracer.stderr
            said = tracer.stderr.readline().strip()
            if "attached" not in said:
                raise NotMeasured(f"strace said: {said}")
            call_in_turn(candidate.port, Calls(bench.path, set_up.ids.unused(1)), _TRACED_CALLS)
            tracer.send_signal(signal.SIGINT)
            tracer.wait(10)
        finally:
            tracer.kill()
    rows = re.findall(
        r"^ *[\d.]+ +[\d.]+ +\d+ +(\d+)(?: +\d+)? +(\w+)$", report.read_text(), re.MULTILINE
    )
    return {name: int(times) / _TRACED_CALLS for times, name in rows}


@dataclass(frozen=True)
class Memory:
    """What one very long list makes of a bridge; all but the count are bytes."""

    bridge: str
    messages: int
    json: int
    answer: int
    before: int
    peak: int

    @property
    def growth(self) -> int:
        """How much more the bridge held at its worst."""
        return self.peak - self.before


def peak_memory(bench: Bench) -> list[Memory]:
    """Measure the peak over one list of many pages.

    Raises:
        NotMeasured: /proc is missing, or no bridge answers.
    """
    _require_proc()
    with TemporaryDirectory(prefix="harvest-bridge-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        upstream = stack.enter_context(upstream_process(bench.load_core))
        return [
            _memory(bench, candidate, upstream)
            for candidate in bench.start_bridges(stack, upstream, folder, bench.server_core)
        ]


def _memory(bench: Bench, candidate: Candidate, upstream: str) -> Memory:
    bench.progress(f"memory: {candidate.name}")
    call_in_turn(candidate.port, Calls(bench.path, PER_PAGE), 1)
    before = memory(candidate.pid, "VmRSS")
    answer = len(call_in_turn(candidate.port, Calls(bench.path, _LONG_LIST), 1))
    json = sum(len(body(_LONG_LIST, at, upstream)) for at in range(0, _LONG_LIST, PER_PAGE))
    peak = memory(candidate.pid, "VmHWM")
    return Memory(candidate.name, _LONG_LIST, json, answer, before, peak)


def _require_proc() -> None:
    if not Path("/proc/self/stat").exists():
        raise NotMeasured("there is no /proc")
