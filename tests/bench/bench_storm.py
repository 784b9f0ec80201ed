"""The long storm: two bridges behind a real front, killed and drained in turn. See README.md.

`python -m tests.bench.bench_storm` ends with status 1, and tells what is known of each write that was
lost or made twice, if any was; and if a read failed.
"""

import argparse
import asyncio
import sys
from collections import Counter
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from time import monotonic

from tests.support.postgres import Server, running_server
from tests.support.storm_fronted import RULES, FrontedStorm, brewing_fronted_storm
from tests.support.tls_fronts import FRONTS


async def weather(options: argparse.Namespace, server: Server, folder: Path) -> bool:
    """Have a storm, tell of it, and return whether all went well."""
    database = server.new_database()
    began = monotonic()
    restarts = [
        options.seconds * (number + 1) / (options.restarts + 1)
        for number in range(options.restarts)
    ]

    async def between() -> None:
        if restarts and monotonic() - began >= restarts[0]:
            restarts.pop(0)
            await asyncio.to_thread(server.stop, "fast")
            await storm.at_some_moment(dice)
            await asyncio.to_thread(server.start)

    def enough() -> bool:
        done = monotonic() - began >= options.seconds
        return done and storm.acknowledged >= options.writes and not restarts

    dice = Random(options.seed)
    async with brewing_fronted_storm(
        options.front, folder, options.seed, RULES, (database, database)
    ) as storm:
        wrong = None
        try:
            await storm.within(3 * options.seconds + 300, lambda: storm.rage(dice, enough, between))
            await storm.check()
            await storm.settle()
        except AssertionError as error:
            wrong = str(error)
        tell(storm, monotonic() - began, options)
        if wrong is not None:
            sys.stdout.write(f"{wrong}\n")
        return wrong is None and set(storm.read) == {"200"}


def tell(storm: FrontedStorm, seconds: float, options: argparse.Namespace) -> None:
    """Print what came of a storm."""
    answers = Counter(
        "broken off" if status is None else str(status)
        for write in storm.writes
        for status in write.answers
    )
    sys.stdout.write(
        f"{options.front}, seed {options.seed}: {seconds:.0f} s, {storm.turns} bridges killed and "
        f"{storm.turns} told to stop, PostgreSQL restarted {options.restarts} times\n"
        f"  writes: {len(storm.writes)} begun, {storm.acknowledged} acknowledged\n"
        f"  answers to them: {_listed(answers)}\n"
        f"  reads: {_listed(storm.read)}\n"
    )
    for line in storm.refused_reads():
        sys.stdout.write(f"  {line}\n")


def _listed(counted: Counter[str]) -> str:
    return ", ".join(f"{number} x {what}" for what, number in counted.most_common())


def main() -> int:
    """Parse the options and have the storm."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_storm", description=__doc__)
    parser.add_argument("--front", choices=FRONTS, default="haproxy")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--writes", type=int, default=2000, help="at least")
    parser.add_argument("--restarts", type=int, default=0, help="of PostgreSQL")
    parser.add_argument("--seed", type=int, default=20080409)
    options = parser.parse_args()
    with running_server() as server, TemporaryDirectory() as folder:
        return 0 if asyncio.run(weather(options, server, Path(folder))) else 1


if __name__ == "__main__":
    sys.exit(main())
