"""What the journal takes: a write's turn, intent, outcome and delivery, in each store. See README.

Run it as `python -m tests.bench.bench_journal`, with `sqlite` or `postgresql` for one store.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from itertools import count
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import NamedTuple

from bridge.record.journal import Journal, open_journal
from bridge.record.journal.rules import Turn
from bridge.v2.writes import Outcome
from tests.bench.reports import say
from tests.record.support import a_write
from tests.support.postgres import Server, running_server

WRITERS = (1, 10, 50)
JOURNALS = {"sqlite": (1,), "postgresql": (1, 2)}
"""How many bridges share a store."""
PATIENCE = 60.0


class Figures(NamedTuple):
    """How one measurement came out."""

    store: str
    journals: int
    writers: int
    a_second: float
    median_ms: float
    p99_ms: float
    cpu_ms: float
    """Of this process a write, its threads in, and without the server's."""


async def _write(journal: Journal, number: int) -> None:
    turn = Turn([2 * number, 2 * number + 1], seconds=PATIENCE)
    deadline = asyncio.get_running_loop().time() + PATIENCE
    assert await journal.take_turn(turn, deadline)
    write = a_write(str(number), invoice_id=number)
    intent = await journal.begin(write, account_id=1000, request_id="bench", turn=turn)
    await journal.settle(intent.id, Outcome.DONE, number)
    await journal.delivered(intent.id)
    journal.give_turn_back(turn)


async def _measured(
    store: str, journals: Sequence[Journal], writers: int, seconds: float, numbers: "count[int]"
) -> Figures:
    waits: list[float] = []

    async def writing(journal: Journal) -> None:
        while perf_counter() < until:
            began = perf_counter()
            await _write(journal, next(numbers))
            waits.append(perf_counter() - began)

    started, cpu = perf_counter(), process_time()
    until = started + seconds
    await asyncio.gather(*(writing(journals[n % len(journals)]) for n in range(writers)))
    took, cpu = perf_counter() - started, process_time() - cpu
    p99 = quantiles(waits, n=100)[98] if len(waits) > 1 else waits[0]
    return Figures(
        store,
        len(journals),
        writers,
        len(waits) / took,
        median(waits) * 1e3,
        p99 * 1e3,
        cpu / len(waits) * 1e3,
    )


async def _measure(store: str, where: str | Path, number: int, seconds: float) -> list[Figures]:
    numbers = count(1)
    async with AsyncExitStack() as stack:
        journals = [
            await stack.enter_async_context(open_journal(where, window=timedelta(hours=12)))
            for _ in range(number)
        ]
        await _measured(store, journals, max(WRITERS), seconds / 4, numbers)  # to warm up
        return [await _measured(store, journals, n, seconds, numbers) for n in WRITERS]


def _apart(checkout: Path, store: str, where: str | Path, number: int, seconds: float) -> str:
    """Measure the journal of a checkout in a process of its own; return its figures as JSON."""
    python = str(checkout / ".venv" / "bin" / "python")
    done = subprocess.run(
        [python, __file__, "--one", store, str(where), str(number), "--seconds", str(seconds)],
        env={**os.environ, "PYTHONPATH": f"{checkout}:{_HERE}"},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return done.stdout


_HERE = Path(__file__).resolve().parents[2]


def _rounds(store: str, server: Server | None, folder: Path, options: argparse.Namespace) -> None:
    builds = {"this": _HERE, **({"baseline": options.baseline} if options.baseline else {})}
    found: dict[tuple[int, int, str], list[Figures]] = {}
    names = count()
    for each in range(options.rounds):
        # Forth and back, so that what a machine does besides is spread.
        for build in list(builds) if each % 2 else list(builds)[::-1]:
            for number in JOURNALS[store]:
                where = server.new_database() if server else folder / f"{next(names)}.sqlite"
                told = _apart(builds[build], store, where, number, options.seconds)
                for one in json.loads(told):
                    figures = Figures(*one)
                    key = (figures.journals, figures.writers, build)
                    found.setdefault(key, []).append(figures)
    for (number, writers, build), each_round in sorted(found.items()):
        speeds = [each.a_second for each in each_round]
        middle = [median(column) for column in zip(*(each[3:] for each in each_round), strict=True)]
        say(
            f"{store:10} {number} bridges {writers:3} writers {build:8} {middle[0]:6.0f}/s "
            f"({min(speeds):.0f} to {max(speeds):.0f})  {middle[1]:6.1f} ms, p99 {middle[2]:6.1f} "
            f"ms  CPU {middle[3]:.2f} ms"
        )


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_journal")
    parser.add_argument("store", nargs="*", choices=[*JOURNALS, []], default=[])
    parser.add_argument("--seconds", type=float, default=3, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--baseline", type=Path, help="another checkout with its own .venv")
    parser.add_argument("--folder", type=Path, help="for the SQLite files")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        store, text, number = options.one
        where = text if "://" in text else Path(text)
        sys.stdout.write(
            json.dumps(asyncio.run(_measure(store, where, int(number), options.seconds)))
        )
        return
    stores = options.store or list(JOURNALS)
    with TemporaryDirectory(dir=options.folder) as made:
        if "sqlite" in stores:
            _rounds("sqlite", None, Path(made), options)
        if "postgresql" in stores:
            with running_server(durable=True) as server:
                _rounds("postgresql", server, Path(made), options)


if __name__ == "__main__":
    main()
