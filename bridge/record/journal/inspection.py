"""A look at a journal from outside, for the command: whether or not a bridge runs with it.

What comes of looking at v2, and how that is told, is not known here.
"""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bridge.record.journal.rules import Entry, JournalError, Store
from bridge.record.journal.sqlite import FileStore, is_locked, locked, reported
from bridge.v2.clock import V2Clock
from bridge.v2.writes import Outcome


@dataclass(frozen=True, slots=True)
class Inspection:
    """An open journal, which a bridge may be using at the same time. For one thread.

    Both methods raise `JournalError` when it cannot be read, or nothing could be recorded.
    """

    path: Path | str
    store: Store
    in_use: bool
    """Whether a bridge runs with it: then what is open is being made, if the entry does not say."""

    def unsettled(self) -> tuple[Entry, ...]:
        """Return what is open or unknown, oldest first."""
        with reported(self.path), self.store.reading():
            return self.store.unsettled()

    def is_in_flight(self, entry: Entry) -> bool:
        """Tell whether what is open is being made, or was interrupted."""
        return self.in_use if entry.in_flight is None else entry.in_flight

    def settle(
        self, entry: Entry, outcome: Outcome, made_id: int | None = None, *, found: bool = False
    ) -> bool:
        """Record how an intent came out if it still is as it was listed; else as `Journal.settle`.

        Raises:
            TakenUp: something has been recorded of it since.
        """
        now = V2Clock().now()
        with reported(self.path), self.store.transaction():
            self.store.require_same(entry)
            return self.store.settle(
                entry.intent.id, outcome, made_id, now, found=found, by_operator=True
            )()


@contextmanager
def inspecting(where: Path | str, *, take: bool = False) -> Iterator[Inspection]:
    """Open a journal, which has to exist, and close it at the end of the block.

    With `take`, take the place of the bridge that is not running, if none is: no bridge can begin
    to use the file before the end of the block, and what an earlier one left open is unknown. So is
    what is open in a server's database, where no bridge that lives has it.

    Raises:
        JournalError: it cannot be opened, or is no journal.
    """
    with ExitStack() as stack:
        if isinstance(where, str):
            yield _inspected_server(where, take, stack)
            return
        path = where
        with reported(path):
            if not path.exists():
                raise JournalError(path, "there is no such file")
            taken = take and stack.enter_context(locked(path))
            in_use = not taken and is_locked(path)
            store = stack.enter_context(closing(FileStore(path, upgrade=not in_use)))
            if taken:
                with store.transaction():
                    store.interrupt(V2Clock().now())
        yield Inspection(path, store, in_use)


def _inspected_server(database: str, take: bool, stack: ExitStack) -> Inspection:
    from bridge.record.journal.postgresql import inspected_server  # noqa: PLC0415 - psycopg

    store = stack.enter_context(inspected_server(database))
    with store.transaction():
        if take:
            store.interrupt(V2Clock().now())
    return Inspection(store.where, store, in_use=True)
