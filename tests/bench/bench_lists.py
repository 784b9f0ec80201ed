"""What a long list costs: the event loop's time, memory, and time per message. See README.md.

Run it as `python -m tests.bench.bench_lists`, with `loop`, `time` or `memory` for a part of it.
"""

import asyncio
import os
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from statistics import median
from time import perf_counter, thread_time
from typing import Any, NamedTuple

from lxml import etree

from bridge.cli import _loop_factory
from bridge.resources.invoice_messages import list_messages
from bridge.secret import Secret
from bridge.v1 import writer
from bridge.v1.dialects import Dialect
from bridge.v1.notes import Notes
from bridge.v1.wire import V1Request
from bridge.v1.writer import ListDocument
from bridge.v2.client import Upstream, V2Client
from bridge.v2.paging import PER_PAGE
from bridge.v2.wire import V2Request
from tests.bench.processes import Server, running
from tests.bench.reports import say
from tests.bench.spans import Spans, Step
from tests.bench.upstream import body
from tests.bench.watched_bridge import LONG
from tests.support.legacy import LegacyClient
from tests.support.running import LOOPBACK

PATHS = {
    Dialect.CLASSIC: "/invoice/{}/messages",
    Dialect.FINAL: "/invoices/{}/messages",
}
PLAIN, GZIPPED = "/v2", "/gzip/v2"
CALLS = 16
LONG_LIST = 100_000
SIZES = (PER_PAGE, 4500)
RUNS = 9
WHOLE = "whole call"

WRITE_STEPS = (
    Step("build", writer, "_item"),
    Step("validate", writer, "require_valid"),
    Step("indent", etree, "indent"),
    Step("serialise", etree, "tostring"),
)


class Watched(NamedTuple):
    """A watched bridge and a client of it."""

    server: Server
    client: LegacyClient

    async def list(self, count: int, dialect: Dialect, *, together: int = 1) -> "Cost":
        """Ask for a list of `count` messages, `together` times at once, and measure."""
        before = await self.server.told("watch")
        path = PATHS[dialect].format(count)
        answers = await asyncio.gather(*(self.client.get(path) for _ in range(together)))
        report = await self.server.told("report")
        for answer in answers:
            assert answer.status == 200
            assert answer.body.count(b"<invoice-message>") == count
        return Cost(before["resident"], len(answers[0].body), report)

    async def seconds(self, count: int, dialect: Dialect) -> tuple[float, float]:
        """Return the bridge's CPU time and the client's wait for a call that is not watched."""
        cpu, started = await self.server.told("cpu"), perf_counter()
        await self.client.get(PATHS[dialect].format(count))
        waited = perf_counter() - started
        return await self.server.told("cpu") - cpu, waited


class Cost(NamedTuple):
    """What a call cost its bridge."""

    resident: int
    """Bytes, before the call."""
    answer: int
    """Bytes."""
    report: dict[str, Any]


@asynccontextmanager
async def watched_bridge(upstream: str) -> AsyncIterator[Watched]:
    """Run a bridge that has served a list in each dialect already."""
    async with (
        running("tests.bench.watched_bridge", upstream) as server,
        LegacyClient(LOOPBACK, server.port) as client,
    ):
        watched = Watched(server, client)
        for dialect in Dialect:
            await watched.list(PER_PAGE, dialect)
        yield watched


def spread(values: Sequence[float]) -> str:
    """Return the median and the maximum, in ms."""
    return f"{median(values) * 1e3:7.2f} {max(values) * 1e3:7.2f}"


def causes(report: dict[str, Any]) -> list[tuple[str, float]]:
    """Return what ran in the longest stretch and for how long, the longest first."""
    steps = dict(report["causes"])
    known = sum(took for name, took in steps.items() if not name.startswith("("))
    steps["other, after " + report["after"]] = report["longest"] - known
    return sorted(steps.items(), key=lambda step: -step[1])


def print_stretches(title: str, dialect: Dialect, reports: Sequence[dict[str, Any]]) -> None:
    """Print a row about the longest stretches of calls."""
    usual = Counter(causes(report)[0][0] for report in reports).most_common()
    middle = sorted(reports, key=lambda report: float(report["longest"]))[len(reports) // 2]
    parts = [f"{name} {took * 1e3:.1f}" for name, took in causes(middle) if took > 1e-4]
    say(
        f"{title:<17} {dialect:<8}"
        f" {spread([report['longest'] for report in reports])}"
        f"  {spread([report['longest_wall'] for report in reports])}"
        f" {median(report['long_ones'] for report in reports):6.0f}"
        f"  {', '.join(f'{name} ×{times}' for name, times in usual)}"
        f" | the middle one: {', '.join(parts)}"
    )


async def event_loop(upstream: str) -> None:
    """Measure how long the event loop is held at a stretch."""
    say(
        f"\nEvent loop: the longest stretch of a call of {PER_PAGE} messages, ms, {CALLS} calls",
        f"{'':<26} {'CPU time':>15}  {'wall clock':>15} {f'>{LONG * 1e3:.0f} ms':>6}",
        f"{'':<26}  median     max   median     max  count  cause of the longest",
    )
    for title, base, together in (
        ("plain JSON", PLAIN, 1),
        ("gzipped JSON", GZIPPED, 1),
        ("plain, 4 at once", PLAIN, 4),
    ):
        async with watched_bridge(upstream + base) as bridge:
            # In turns, so that a busy spell of the machine hits both.
            costs = [
                (dialect, await bridge.list(PER_PAGE, dialect, together=together))
                for _ in range(CALLS)
                for dialect in Dialect
            ]
        for dialect in Dialect:
            print_stretches(title, dialect, [cost.report for d, cost in costs if d is dialect])


async def memory(upstream: str) -> None:
    """Measure how far a very long list lets the process grow, and whether a second one more."""
    json_size = sum(len(body(LONG_LIST, at, upstream)) for at in range(0, LONG_LIST, PER_PAGE))
    say(
        f"\nMemory: a list of {LONG_LIST} messages, {json_size / 1e6:.1f} MB of JSON",
        "                   answer   warm  peak growth  ÷ answer  ÷ JSON  ÷ both  left after",
    )
    stretches = []
    for dialect in Dialect:
        async with watched_bridge(upstream + PLAIN) as bridge:
            warm = None
            for call in ("first", "second"):
                cost = await bridge.list(LONG_LIST, dialect)
                warm = warm or cost.resident
                growth = cost.report["peak"] - warm
                say(
                    f"{dialect:<8} {call:<7} {cost.answer / 1e6:6.1f} MB {warm / 1e6:5.1f}"
                    f" {growth / 1e6:9.1f} MB  {growth / cost.answer:8.2f}"
                    f" {growth / json_size:7.2f} {growth / (cost.answer + json_size):7.2f}"
                    f" {(cost.report['resident'] - warm) / 1e6:8.1f} MB"
                )
                stretches.append((dialect, cost.report))
    say("and its longest stretches, ms, in the columns of the event loop")
    for dialect in Dialect:
        print_stretches(f"{LONG_LIST} messages", dialect, [r for d, r in stretches if d is dialect])


@dataclass
class Stages:
    """CPU seconds of one call, served by hand in this process, by stage."""

    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    async def run(self, client: V2Client, count: int, dialect: Dialect) -> None:
        """Serve a list of `count` messages and add up the stages."""
        clock = thread_time()

        def lap(stage: str) -> None:
            nonlocal clock
            now = thread_time()
            self.seconds[stage] += now - clock
            clock = now

        call = V1Request(path="", ids={"invoice_id": count}, dialect=dialect)
        flow = list_messages(call)
        request = next(flow)
        while True:
            assert isinstance(request, V2Request)
            response = await client.send(request, account_id=1, token=Secret("token"), seconds=60)
            lap("upstream")
            try:
                request = flow.send(response)
            except StopIteration as stop:
                document = stop.value.document
                break
            finally:
                lap("page scan")
        assert isinstance(document, ListDocument)
        document = replace(document, records=list(document.records))
        lap("decode")
        spans = Spans()
        with spans.watching(WRITE_STEPS):
            b"".join(document.parts(Notes()))
        lap("write")
        for step in WRITE_STEPS:
            self.seconds[f"  {step.name}"] += spans.seconds[step.name]

    def total(self) -> float:
        """Return the time of all stages."""
        return sum(took for stage, took in self.seconds.items() if not stage.startswith(" "))


async def time_per_message(upstream: str) -> None:
    """Measure where the time of a call goes."""
    client = V2Client(
        Upstream(upstream + PLAIN, "bench", connect_timeout=5, body_limit=2**30, connections=1)
    )
    async with watched_bridge(upstream + PLAIN) as bridge:
        runs: dict[tuple[Dialect, int, str], list[float]] = {}
        for _ in range(RUNS):
            for dialect in Dialect:
                for count in SIZES:
                    stages = Stages()
                    await stages.run(client, count, dialect)
                    whole, waited = await bridge.seconds(count, dialect)
                    stages.seconds["serving it"] = whole - stages.total()
                    stages.seconds[WHOLE] = whole
                    stages.seconds["the client's wait"] = waited
                    for stage, seconds in stages.seconds.items():
                        runs.setdefault((dialect, count, stage), []).append(seconds / count)
        medians = {key: median(values) for key, values in runs.items()}
    await client.close()
    columns = [(dialect, count) for dialect in Dialect for count in SIZES]
    say(
        f"\nTime: µs of CPU a message, median of {RUNS} runs; in brackets its share of the whole call",
        " " * 22 + "".join(f"{f'{dialect} {count}':>18}" for dialect, count in columns),
    )
    stage_names = dict.fromkeys(stage for _, _, stage in medians)
    for stage in stage_names:
        cells = "".join(
            f"{medians[*column, stage] * 1e6:11.2f}"
            f" ({medians[*column, stage] / medians[*column, WHOLE]:4.0%})"
            for column in columns
        )
        say(f"{stage:<22}{cells}")
    for dialect in Dialect:
        ratio = medians[dialect, SIZES[1], WHOLE] / medians[dialect, SIZES[0], WHOLE]
        say(f"{dialect}: a message of {SIZES[1]} costs {ratio:.2f} of one of {SIZES[0]}")


PARTS: dict[str, Callable[[str], Awaitable[None]]] = {
    "loop": event_loop,
    "time": time_per_message,
    "memory": memory,
}


async def main(parts: Sequence[str]) -> None:
    """Measure `parts`, or everything."""
    page = len(body(PER_PAGE, 0, ""))
    say(f"A page of {PER_PAGE} messages is {page / 1e6:.2f} MB; {os.cpu_count()} cores.")
    async with running("tests.bench.upstream") as server:
        for part in parts or PARTS:
            await PARTS[part](f"http://{LOOPBACK}:{server.port}")


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(main(sys.argv[1:]))
