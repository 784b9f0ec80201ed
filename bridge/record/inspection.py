"""A look at a journal from outside, for the command: whether or not a bridge runs with it.

What comes of looking at v2, and how that is told, is not known here.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime
from pathlib import Path

from bridge.record.lock import is_locked, locked
from bridge.record.store import Entry, JournalError, Store, reported
from bridge.v2.writes import Outcome


class Inspection:
    """An open journal, which a bridge may be using at the same time. For one thread."""

    def __init__(
        self, path: Path, store: Store, clock: Callable[[], datetime], *, in_use: bool
    ) -> None:
        """Inspect `store`; the arguments are those of `inspecting`."""
        self._path = path
        self._store = store
        self._clock = clock
        self.in_use = in_use
        """Whether a bridge runs with it: then what is open is being made."""

    def unsettled(self) -> tuple[Entry, ...]:
        """Return what is open or unknown, oldest first.

        Raises:
            JournalError: it cannot be read.
        """
        with reported(self._path):
            return self._store.unsettled()

    def settle(
        self, entry: Entry, outcome: Outcome, made_id: int | None = None, *, found: bool = False
    ) -> bool:
        """Record how an intent came out if it still is as it was listed; else as `Journal.settle`.

        Raises:
            TakenUp: something has been recorded of it since.
            JournalError: nothing could be recorded.
        """
        with reported(self._path), self._store.transaction():
            self._store.require_same(entry)
            return self._store.settle(entry.intent.id, outcome, made_id, self._clock(), found=found)


@contextmanager
def inspecting(
    path: Path, clock: Callable[[], datetime], *, take: bool = False
) -> Iterator[Inspection]:
    """Open the journal at `path`, which has to exist, and close it at the end of the block.

    Args:
        path: the journal's file.
        clock: answers the time, UTC.
        take: take the place of the bridge that is not running, if none is. No bridge can begin to
            use the file before the end of the block, and what an earlier one left open is unknown.

    Raises:
        JournalError: it cannot be opened, or is no journal.
    """
    with ExitStack() as stack:
        with reported(path):
            if not path.exists():
                raise JournalError(path, "there is no such file")
            taken = take and stack.enter_context(locked(path))
            in_use = not taken and is_locked(path)
            store = stack.enter_context(closing(Store.open(path)))
            if taken:
                with store.transaction():
                    store.interrupt(clock())
        yield Inspection(path, store, clock, in_use=in_use)
