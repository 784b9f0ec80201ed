"""A process that writes into a journal and prints what is on record, until it is killed.

Its arguments are the journal, and how many callers write at once.
"""

import asyncio
import sys
from datetime import timedelta
from pathlib import Path

from bridge.record.journal import Journal, open_journal
from bridge.v2.writes import Outcome
from tests.record.support import a_write


async def main(path: Path, callers: int) -> None:
    async with (
        open_journal(path, window=timedelta(hours=1)) as journal,
        asyncio.TaskGroup() as tasks,
    ):
        for caller in range(callers):
            tasks.create_task(_write(journal, caller))


async def _write(journal: Journal, caller: int) -> None:
    made_id = caller * 1_000_000
    while True:
        made_id += 1
        write = a_write(f"message {made_id}")
        intent = await journal.begin(write, account_id=1000, request_id="r")
        _tell("begun", intent.id, made_id)
        await journal.settle(intent.id, Outcome.DONE, made_id)
        _tell("done", intent.id, made_id)
        await journal.delivered(intent.id)


def _tell(what: str, intent_id: int, made_id: int) -> None:
    sys.stdout.write(f"{what} {intent_id} {made_id}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
