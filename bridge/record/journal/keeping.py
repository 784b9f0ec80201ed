"""The journal of a running bridge: callers wait in the event loop, and one thread has the store.

The rule of each change is in `rules`, what keeps the rows in `sqlite` and `postgresql`.
"""

import asyncio
import queue
import random
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import count, groupby
from pathlib import Path
from typing import Any, Literal

import structlog

from bridge.record.journal.rules import (
    LEAST_RETENTION,
    NO_TURN,
    Entry,
    JournalError,
    Store,
    Turn,
)
from bridge.record.journal.sqlite import opened_file
from bridge.v2.clock import V2Clock
from bridge.v2.writes import Intent, Outcome, Write

LINGER = 0.1
"""Seconds that word of a delivery may wait for a commit to ride along with."""

RETRY = 5.0
"""Seconds until a journal that has failed is tried again, should nobody use it meanwhile."""

PRUNE_EVERY = 1000
"""Operations between two looks for what need not be kept any longer."""

CHECKPOINT_EVERY = 200
"""Operations between two times that what is in the -wal, some 20 KiB each, gets to the file."""

TICK = 3.0
"""Seconds between two looks of a bridge that shares its journal at what others have left."""

FIRST_PAUSE = 0.01
LONGEST_PAUSE = 0.1
"""Seconds between two tries for a turn that another bridge has."""

AT_ONCE = 1000
"""Operations of one commit, at most: what came first does not wait for ever more."""

_log = structlog.get_logger("bridge.journal")

_Change = Callable[[Store], Any]
_Stage = Literal["take", "together", "within", "give", "tell"]


@dataclass(frozen=True, slots=True)
class _Operation:
    """Something to be done to the store by its thread."""

    change: _Change
    otherwise: _Change | None = None
    """What has to be done instead, before anything else, should it not be recorded."""
    answer: asyncio.Future[Any] | None = None
    """Who waits for what it returns; None: nobody does, and it may linger."""
    stage: "_Stage" = "within"
    """When it is done: turns are taken before the transaction; within it, `change` may return what
    finishes it `together` with others; turns are given back, and others told, after it."""
    given: Turn | str | None = None
    """The turn that is taken or given back, or what others are told."""


class Journal:
    """An open journal, as `open_journal` makes it.

    Every method that waits raises `JournalError` when the operation could not be recorded, to its
    own caller; the journal works again once the cause is gone.
    """

    def __init__(self, where: Path | str, window: timedelta, clock: V2Clock) -> None:
        self.is_shared = isinstance(where, str)
        """Whether other bridges may have it, too."""
        self._where = where
        self._name = _shown(where) if isinstance(where, str) else where
        self._window = window
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._retention = max(LEAST_RETENTION, 2 * window)
        self._queue: queue.SimpleQueue[_Operation | None] = queue.SimpleQueue()
        self._nonces = count()
        self._closed = False
        self._problem: str | None = None
        self.accepted: frozenset[tuple[int, bytes]] = frozenset()
        """The accounts and digests of the tokens that v2 accepted, when the journal was opened."""
        self.unsettled_count: int | None = None
        """How many intents are open or unknown, as of the latest commit; None: there was none."""
        # The thread's own.
        self._overdue: list[_Change] = []
        self._since_pruning = 0
        self._since_checkpoint = 0

    async def begin(
        self, write: Write, *, account_id: int, request_id: str, turn: Turn = NO_TURN
    ) -> Intent:
        """Put the intent to make `write` on record: durably, when this returns.

        Where an earlier intent of the same write is unknown, absent, or done without its client
        having been told, and was touched within the window, that one is returned as it was found,
        the newest of several. On record it is open again, unless it is done. A change of state
        that something else was done after is a thing of the past, and left alone.

        An intent that is still open is another call's that is being made, and never returned:
        callers see to it that equal writes wait for each other. If it is another bridge's, or the
        `turn` of the call has been lost to one, that is `UnderWay`.

        A caller that is cancelled here has no intent: what was recorded meanwhile is undone.
        """
        intent = await self._begin(write, account_id, request_id, turn, take_up=True)
        assert intent is not None  # noqa: S101 - there is one, earlier or new
        return intent

    async def begin_new(
        self, write: Write, *, account_id: int, request_id: str, turn: Turn = NO_TURN
    ) -> Intent | None:
        """Do as `begin`, unless that would take up an earlier one: then record nothing, None."""
        return await self._begin(write, account_id, request_id, turn, take_up=False)

    async def _begin(
        self, write: Write, account_id: int, request_id: str, turn: Turn, *, take_up: bool
    ) -> Intent | None:
        now, nonce = self._clock.now(), next(self._nonces)
        begun: list[Intent] = []  # for `withdraw`

        def begin(store: Store) -> Callable[[], Intent | None]:
            finish = store.begin(
                write,
                account_id,
                request_id,
                now,
                self._window,
                take_up=take_up,
                turn=turn,
                nonce=nonce,
            )

            def finish_and_note() -> Intent | None:
                intent = finish()
                begun.extend([intent] if intent else [])
                return intent

            return finish_and_note

        def withdraw(store: Store) -> None:
            for intent in begun:
                known = Outcome.NOT_DONE if intent.outcome is Outcome.OPEN else intent.outcome
                store.put_back(intent.id, known, now, nonce)

        def forget(store: Store) -> None:
            if store.may_have_recorded:  # and so may this, or not: it may have to be done again
                withdraw(store)
            else:
                begun.clear()  # the id that it would have had becomes another's

        try:
            intent: Intent | None = await self._done(begin, otherwise=forget, stage="together")
        except asyncio.CancelledError:
            self._queue.put(_Operation(withdraw, withdraw))
            raise
        return intent

    async def settle(
        self, intent_id: int, outcome: Outcome, made_id: int | None = None, *, found: bool = False
    ) -> bool:
        """Record durably how an intent came out, and return whether it could be.

        `found` says that a look has found `made_id`. Then nothing changes and the answer is False
        where another intent, settled later than `CLAIM_MARGIN` before this one, has made exactly
        that: equal writes are never taken for one message. What v2 says itself is always recorded.

        Should this raise, the outcome is recorded as soon as the file can be written again, or
        that it is unknown where another intent has made that by then: it does not stay open.
        """
        if outcome is Outcome.OPEN or (found and made_id is None):
            raise ValueError("an intent is not settled by that")
        now = self._clock.now()

        def settle(store: Store) -> Callable[[], bool]:
            return store.settle(intent_id, outcome, made_id, now, found=found)

        def settle_alone(store: Store) -> bool:
            return settle(store)()

        def make_good(store: Store) -> None:
            if not settle_alone(store):
                store.put_back(intent_id, Outcome.UNKNOWN, now)

        said: bool
        if found:
            said = await self._done(settle_alone, otherwise=make_good)
        else:
            said = await self._done(settle, otherwise=make_good, stage="together")
        return said

    async def delivered(self, intent_id: int) -> None:
        """Note that the client has been told what the intent made. Does not wait for the disk.

        Of an intent that is not done, nothing is noted. It is applied in its turn, and durable with
        the next commit: at the latest `LINGER` later, or at closing.
        """
        now = self._clock.now()

        def deliver(store: Store) -> Callable[[], None]:
            return store.deliver(intent_id, now)

        self._put(_Operation(deliver, deliver, stage="together"))

    async def take_turn(self, turn: Turn, deadline: float) -> bool:
        """Take `turn` from the other bridges; tell whether it was to be had before `deadline`.

        That is by the event loop's clock. Give it back with `give_turn_back`, had or not.
        """
        pause = FIRST_PAUSE
        while not await self._done(_nothing, stage="take", given=turn):
            if (left := deadline - self._loop.time()) <= 0:
                return False
            await asyncio.sleep(min(left, random.uniform(pause / 2, pause)))  # noqa: S311
            pause = min(2 * pause, LONGEST_PAUSE)
        return True

    def give_turn_back(self, turn: Turn) -> None:
        """Let the next bridge have it, when what was asked for until now is done; waits not."""
        self._queue.put(_Operation(_nothing, stage="give", given=turn))

    def tell_others(self, told: str) -> None:
        """Tell other bridges something that they can do without. Waits for nothing."""
        if self.is_shared:
            self._queue.put(_Operation(_nothing, stage="tell", given=told))

    def note_accepted(self, account_id: int, token: bytes) -> None:
        """Note that v2 accepts the token with this digest. Waits for nothing, and may be lost."""
        accept = partial(Store.accept, account_id=account_id, token=token, now=self._clock.now().at)
        self._queue.put(_Operation(accept, None))

    def note_refused(self, account_id: int, token: bytes) -> None:
        """Note that v2 does not accept it any more, in the same way."""
        refuse = partial(Store.refuse, account_id=account_id, token=token)
        self._queue.put(_Operation(refuse, None))

    async def check(self) -> str | None:
        """Try whether something can be put on record, durably; return what is wrong, or None."""
        with suppress(JournalError):  # which is the problem
            await self._done(lambda store: store.probe())
        return self._problem

    async def unsettled(self) -> tuple[Intent, ...]:
        """Return the intents that are open or unknown, oldest first."""
        entries: tuple[Entry, ...] = await self._done(Store.unsettled)
        return tuple(entry.intent for entry in entries)

    def problem(self) -> str | None:
        """Return why the last commit failed, on one line; None when it did not.

        A journal that has failed is tried every `RETRY` seconds even if nobody uses it, so that a
        bridge which takes no calls because of the problem learns that it is over.
        """
        return self._problem

    def stop(self) -> None:
        """Do what was asked for until now, and nothing more."""
        self._closed = True
        self._queue.put(None)

    async def _done(
        self,
        change: _Change,
        otherwise: _Change | None = None,
        stage: _Stage = "within",
        given: Turn | None = None,
    ) -> Any:  # noqa: ANN401 - what the change says
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._put(_Operation(change, otherwise, answer, stage, given))
        return await answer

    def _put(self, operation: _Operation) -> None:
        if self._closed:
            raise JournalError(self._name, "it has been closed")
        self._queue.put(operation)

    # What follows runs in the thread, but for `_give`.

    def run(self, opened: asyncio.Future[None], closed: asyncio.Future[None]) -> None:
        """Open the file, serve until told to stop, and close it; the thread's whole life."""
        serving = False
        try:
            with self._open() as store:
                if store.problem_at_start is None:
                    self.accepted = store.accepted()
                    self.unsettled_count = store.count_unsettled()
                else:
                    self._fail(store.problem_at_start)
                self._hand([(opened, None)])
                serving, stopping = True, False
                while not stopping:
                    batch, stopping = self._gather()
                    if batch or self._problem or self.is_shared:
                        self._carry_out(store, batch)
                store.end_life(self._clock.now())
        except Exception as error:  # noqa: BLE001 - whoever opens has to hear of it
            if serving:  # and all that is left to do is to tell
                _log.error("journal_not_closed", error=str(self._error(error)))
            else:
                self._hand([(opened, self._error(error))])
        finally:
            self._hand([(closed, None)])

    def _open(self) -> AbstractContextManager[Store]:
        now = self._clock.now()
        # What is old, nobody can say before v2 has told the time.
        self._since_pruning = 0 if now.by_v2 else PRUNE_EVERY
        if isinstance(self._where, Path):
            return opened_file(self._where, now, self._retention)
        from bridge.record.journal.postgresql import opened_server  # noqa: PLC0415 - psycopg

        return opened_server(self._where, now, self._retention)

    def _gather(self) -> tuple[list[_Operation], bool]:
        """Return what waits, and whether it is the last; nothing when it is time to try again."""
        batch: list[_Operation] = []
        patience = TICK if self.is_shared else RETRY if self._problem else None
        until = 0.0
        while len(batch) < AT_ONCE:
            try:
                operation = self._queue.get(timeout=patience)
            except queue.Empty:
                break
            if operation is None:
                return batch, True
            if not batch:
                until = time.monotonic() + LINGER
            batch.append(operation)
            if operation.answer is not None or operation.stage in {"give", "tell"}:
                until = 0.0
            patience = max(0.0, until - time.monotonic())
        return batch, False

    def _carry_out(self, store: Store, batch: Sequence[_Operation]) -> None:
        """Do all of `batch`: what has to stand in a transaction, in one."""
        self._do_outside(store.take_turns, [each for each in batch if each.stage == "take"])
        within = [each for each in batch if each.stage in {"within", "together"}]
        if within or not batch or self._problem:
            self._record(store, within)
        self._do_outside(store.give_turns_back, [each for each in batch if each.stage == "give"])
        self._do_outside(store.tell, [each for each in batch if each.stage == "tell"])

    def _do_outside(
        self, change: Callable[[Sequence[Any]], object], operations: Sequence[_Operation]
    ) -> None:
        """Do something for several at once, of what each has to give."""
        if not operations:
            return
        try:
            said = change([each.given for each in operations])
            answers = said if isinstance(said, list) else [said] * len(operations)
        except Exception as error:  # noqa: BLE001 - as below
            answers = [self._fail(error)] * len(operations)
        self._hand([(each.answer, one) for each, one in zip(operations, answers, strict=True)])

    def _record(self, store: Store, batch: Sequence[_Operation]) -> None:
        """Do all of `batch` in one transaction.

        A commit waits for the disk, a millisecond or so whatever is in it: on two cores and a
        virtual disk, fifty callers have 7,300 operations a second recorded, or 850 with one each.
        """
        now = self._clock.now()
        try:
            with store.transaction():
                store.place(now)
                self._since_pruning += len(batch)
                if self._since_pruning >= PRUNE_EVERY and now.by_v2:
                    store.prune(now.at - self._retention)
                    self._since_pruning = 0
                for change in self._overdue:
                    self._attempt(change, store)
                store.refresh(now)  # last: it takes what nobody has settled by then for forgotten
                answers = self._do(store, batch)
                if self._problem:
                    store.probe()
                unsettled_count = store.count_unsettled()
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody is to wait for ever
            answers = [self._fail(error)] * len(batch)
            self._overdue += [each.otherwise for each in batch if each.otherwise]
        else:
            if self._problem:
                _log.info("journal_works_again")
            self._problem = None
            self._overdue = []
            self.unsettled_count = unsettled_count
        self._hand([(each.answer, answer) for each, answer in zip(batch, answers, strict=True)])
        self._since_checkpoint += len(batch)
        if self._since_checkpoint >= CHECKPOINT_EVERY and self._problem is None:
            with suppress(sqlite3.Error, JournalError, OSError):  # the next commit has the same
                store.checkpoint()
                self._since_checkpoint = 0

    def _do(self, store: Store, batch: Sequence[_Operation]) -> list[Any]:
        """Do what stands in one transaction; return the answers.

        To a server, what may be done together is sent at once, and waits for its answers once: a
        round trip takes longer than the statement.
        """
        answers: list[Any] = []
        for stage, several in groupby(batch, lambda each: each.stage):
            operations = list(several)
            if stage == "together" and store.is_shared and len(operations) > 1:
                with store.together():
                    begun = [self._attempt(each.change, store) for each in operations]
                answers += [self._finish(each, store) for each in begun]
                continue
            for each in operations:
                answer = self._attempt(each.change, store)
                answers.append(self._finish(answer, store) if stage == "together" else answer)
        return answers

    def _finish(self, begun: Any, store: Store) -> Any:  # noqa: ANN401 - what came of a change
        if isinstance(begun, JournalError):
            return begun
        return self._attempt(lambda _: begun(), store)

    def _fail(self, error: Exception) -> JournalError:
        failure = self._error(error)
        if self._problem != str(failure):
            _log.error("journal_failed", error=str(failure))
        self._problem = str(failure)
        return failure

    def _attempt(self, change: _Change, store: Store) -> Any:  # noqa: ANN401 - of any kind
        """Return what came of a change; what ails it alone is no other one's business."""
        try:
            return change(store)
        except (JournalError, ValueError, OverflowError, sqlite3.ProgrammingError) as error:
            return self._error(error)

    def _error(self, error: Exception) -> JournalError:
        if isinstance(error, JournalError):
            return error
        return JournalError(self._name, error if str(error) else type(error).__name__)

    def _hand(self, answers: Sequence[tuple[asyncio.Future[Any] | None, Any]]) -> None:
        with suppress(RuntimeError):  # the loop has been closed, and nobody waits
            self._loop.call_soon_threadsafe(_give, answers)


def _shown(database: str) -> str:
    # SQLAlchemy takes long to import, and a file needs none of it.
    from bridge.record.log.database import shown  # noqa: PLC0415

    return shown(database)


def _nothing(_: Store) -> None:
    """Of an operation outside of transactions, which says all by what it has to give."""


def _give(answers: Sequence[tuple[asyncio.Future[Any] | None, Any]]) -> None:
    for future, answer in answers:
        if future is None or future.done():  # nobody waited, or whoever did was cancelled
            continue
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)


@asynccontextmanager
async def open_journal(
    where: Path | str, *, window: timedelta, clock: V2Clock | None = None
) -> AsyncIterator[Journal]:
    """Open a journal, made if need be, and close it at the end of the block.

    The process holds a file alone meanwhile; a server's database is shared by all bridges that have
    it, and need not be there yet. Intents that an earlier life left open are unknown, for they were
    interrupted; settled ones older than a week, and than two windows, are deleted once v2 has told
    the time. At the end, what was asked for is done first.

    Args:
        where: a file in a directory that exists, beside which lie SQLite's and the lock's files; or
            the URL of a server's database.
        window: for how long a write that is repeated counts as the same one.
        clock: v2's, which is told the time as answers of v2 come; None: one that is told nothing.

    Raises:
        JournalError: it cannot be opened, read or written, is no journal, or is in use.
    """
    loop = asyncio.get_running_loop()
    journal = Journal(where, window, clock or V2Clock())
    opened, closed = loop.create_future(), loop.create_future()
    # Should the process end without closing, it is not to wait: what had to be durable is.
    threading.Thread(target=journal.run, args=(opened, closed), name="journal", daemon=True).start()
    try:
        await opened
        yield journal
    finally:
        journal.stop()
        await closed
