"""What the journal takes: writes a second, alone and together, and bytes a write. See README.

Run it as `python -m tests.bench.bench_journal`; no HTTP and no v2 are in it.
"""

import argparse
import asyncio
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import psycopg

from bridge.record.journal import open_journal
from bridge.v2.writes import Outcome
from tests.bench.reports import say
from tests.record.support import a_write
from tests.support.postgres import running_server

WINDOW = timedelta(hours=12)


async def writes_a_second(where: Path | str, writes: int, at_once: int) -> float:
    """Note so many writes as a bridge does that makes `at_once` of them at a time."""
    async with open_journal(where, window=WINDOW) as journal:
        left = iter(range(writes))

        async def caller() -> None:
            for number in left:
                intent = await journal.begin(
                    a_write(f"Invoice {number}"), account_id=1000, request_id=f"{number:032x}"
                )
                await journal.settle(intent.id, Outcome.DONE, 10_000_000 + number)
                await journal.delivered(intent.id)

        began = perf_counter()
        await asyncio.gather(*(caller() for _ in range(at_once)))
        return writes / (perf_counter() - began)


def tell(store: str, at_once: int, speed: float, size: float) -> None:
    """Say what came out."""
    say(f"| {store} | {at_once} | {speed:,.0f} | {size:,.0f} |")


def main() -> None:
    """Measure both stores, the server durable."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--writes", type=int, default=3000, help="of each measurement")
    parser.add_argument("--at-once", type=int, nargs="*", default=[1, 16, 64])
    options = parser.parse_args()
    say("| journal | writes at a time | a second | bytes a write |")
    say("| --- | --- | --- | --- |")
    for at_once in options.at_once:
        with TemporaryDirectory() as folder:
            file = Path(folder) / "journal.sqlite"
            speed = asyncio.run(writes_a_second(file, options.writes, at_once))
            tell("SQLite", at_once, speed, file.stat().st_size / options.writes)
    with running_server(durable=True) as server:
        for at_once in options.at_once:
            database = server.new_database()
            speed = asyncio.run(writes_a_second(database, options.writes, at_once))
            with psycopg.connect(database) as connection:
                asked = "SELECT pg_total_relation_size('intents')"
                (size,) = connection.execute(asked).fetchone() or (0,)
            tell("PostgreSQL", at_once, speed, size / options.writes)


if __name__ == "__main__":
    main()
