"""What a legacy call that writes takes beside its v2 calls: its turn, and entries in the journal.

The steps of a write, and what follows from an answer, are its flow's business.
"""

import asyncio
import hashlib
import math
from collections.abc import Hashable
from time import perf_counter
from typing import Any

import structlog

from bridge.record.journal import Journal, JournalError
from bridge.record.journal.rules import Turn, UnderWay
from bridge.resources.flow import Begin, Pause, Settle, Step
from bridge.server.limits import Place
from bridge.upstream.gateway import Errand, Gateway
from bridge.upstream.places import Places
from bridge.v1.errors import NotOnRecord, Overloaded
from bridge.v2.errors import OutcomeUnknown
from bridge.v2.wire import V2Request, V2Response, require_status
from bridge.v2.writes import Intent, Write

_log = structlog.get_logger("bridge.calls")

LOOK_SHARE = 1 / 3
"""Of a call's time, what is kept back from a write for the look that may have to settle it."""

LEAST_SHARE = 1 / 6
"""Of a call's time, what a write must have: none leaves that is likely to be cut off."""

LAST_SHARE = 1 / 15
"""Of a call's time, what the last look for a write must have."""


LONGEST_RETRY_AFTER = 3600
"""Seconds: v1 clients sleep that many."""


def _earlier_write(seconds: float = 1) -> Overloaded:
    return Overloaded(
        "An earlier write to the same is still under way: try again soon.",
        retry_after=max(1, min(math.ceil(seconds), LONGEST_RETRY_AFTER)),
    )


def name_of_turn(key: Hashable) -> int:
    """Return the number by which bridges that share a journal know what is written to, and whose.

    `key` is made of numbers, texts and bytes.
    """
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8, person=b"HB turn").digest()
    return int.from_bytes(digest, signed=True)


class Turns:
    """Gives each key to one at a time, in the order they ask."""

    def __init__(self) -> None:
        self._taken: dict[Hashable, Places] = {}

    async def take(self, key: Hashable, deadline: float) -> None:
        """Take `key`; give it back with `give_back`.

        Raises:
            Overloaded: it was not to be had before `deadline`, by the event loop's clock.
        """
        if (turn := self._taken.get(key)) is None:
            turn = self._taken[key] = Places(1)
        try:
            await turn.take(deadline)
        except BaseException as error:
            # It may have been passed on just then, and nobody else waits. But if it was given back
            # before, it is forgotten already, and a later one may have begun a turn of their own.
            if turn.free and self._taken.get(key) is turn:
                del self._taken[key]
            if isinstance(error, TimeoutError):
                raise _earlier_write() from None
            raise

    def give_back(self, key: Hashable) -> None:
        """Let the next one have `key`."""
        turn = self._taken[key]
        turn.give_back()
        if turn.free:
            del self._taken[key]


class Writing:
    """One legacy call that writes: carries out the steps of its flow."""

    def __init__(  # noqa: PLR0913 - what steps are carried out with
        self,
        *,
        gateway: Gateway,
        journal: Journal,
        turns: Turns,
        recording: Place,
        errand: Errand,
        seconds: float,
        what: Hashable,
        request_id: str,
    ) -> None:
        """Prepare to write in `seconds`, which a legacy call may take in all.

        `what` is written to: the same for every write that has to wait for this one. `recording` is
        the place that is taken while the journal is waited for.
        """
        self._gateway = gateway
        self._journal = journal
        self._turns = turns
        self._recording = recording
        self._errand = errand
        self._seconds = seconds
        self._what = what
        self._request_id = request_id
        self._held: list[Hashable] = []
        self._shared = Turn()
        """What is held of the turns that bridges share."""
        self._leave_by = errand.deadline - seconds * (LOOK_SHARE + LEAST_SHARE)
        """When a write must leave, by the event loop's clock."""
        self.intent: Intent | None = None
        """The write that was made, if any."""

    async def take_turns(self) -> None:
        """Wait until nobody else writes to the same; see schemas/README.md, "Unknown outcomes".

        In the order in which they came, whose clients are gone among them. Strangers must not keep
        the account from its own invoice, so only who is known waits for all of the account.

        Raises:
            Overloaded: the turn does not come in time.
        """
        credential = self._errand.credential
        if self._gateway.knows(credential):
            await self._take_turns(credential.key, credential.account_id)
        else:
            self._shared.is_strangers = True
            await self._take_turns(credential.key)

    def give_turns_back(self) -> None:
        """Let the next one write."""
        if self._shared.keys:
            self._journal.give_turn_back(self._shared)
        while self._held:
            self._turns.give_back(self._held.pop())

    async def _take_turns(self, *those: Hashable) -> None:
        """Take the turns of those that this call has not yet: here, then from other bridges."""
        for whose in those:
            key = (whose, self._what)
            if key not in self._held:
                await self._turns.take(key, self._leave_by)
                self._held.append(key)
        if not self._journal.is_shared:
            return
        self._shared.keys = [name_of_turn(key) for key in self._held]
        try:
            with self._recording:
                is_ours = await self._journal.take_turn(self._shared, self._leave_by)
            if not is_ours:
                raise _earlier_write()
        except JournalError as error:
            raise _not_on_record(error) from error

    async def perform(self, step: Step) -> Any:  # noqa: ANN401 - what the step says
        """Carry out a step, and return the answer to it; raises what a flow has to know."""
        before, began = self._errand.spent, perf_counter()
        try:
            match step:
                case V2Request():
                    return await self._ask(step)
                case Begin(write):
                    return await self._begin(write)
                case Settle():
                    return await self._settle(step)
                case Pause(share):
                    return await self._pause(share * self._seconds)
        finally:
            self._errand.spent = before + perf_counter() - began

    async def _ask(self, request: V2Request) -> V2Response:
        if request.method != "POST":
            return await self._gateway.send(request, self._errand)
        return await self._gateway.send(
            request,
            self._errand,
            deadline=self._errand.deadline - self._seconds * LOOK_SHARE,
            leave_by=self._leave_by,
        )

    async def _begin(self, write: Write) -> Intent:
        try:
            self.intent = await self._put_on_record(write)
        except UnderWay as error:
            raise _earlier_write(error.seconds) from error
        except JournalError as error:
            raise _not_on_record(error) from error
        return self.intent

    async def _put_on_record(self, write: Write) -> Intent:
        credential = self._errand.credential
        account_id, request_id = credential.account_id, self._request_id
        turn = self._shared
        turn.seconds = max(0.0, self._errand.deadline - asyncio.get_running_loop().time())
        if not self._gateway.knows(credential):
            with self._recording:
                intent = await self._journal.begin_new(
                    write, account_id=account_id, request_id=request_id, turn=turn
                )
            if intent is not None:
                return intent
            # Somebody has asked for the same before. That is not for strangers to interfere with.
            require_status(await self._ask(V2Request("GET", write.request.path, "per_page=1")), 200)
            await self._take_turns(account_id)
            turn.is_strangers = False
        with self._recording:
            return await self._journal.begin(
                write, account_id=account_id, request_id=request_id, turn=turn
            )

    async def _settle(self, step: Settle) -> bool:
        try:
            return await self._journal.settle(
                step.intent.id, step.outcome, step.made_id, found=step.found
            )
        except JournalError as error:
            _log.error("not_settled", intent=step.intent.id, outcome=step.outcome, error=str(error))
            if step.found:
                raise OutcomeUnknown("the journal cannot say whether it is another's") from error
            # What happened has happened, and the client is told; the journal makes up for it later.
            return True

    async def _pause(self, seconds: float) -> bool:
        left = self._errand.deadline - asyncio.get_running_loop().time()
        if left - seconds < self._seconds * LAST_SHARE:
            return False
        await asyncio.sleep(seconds)
        return True

    async def handed_over(self) -> None:
        """Note that the client has been told what was made."""
        if self.intent is None:
            return
        try:
            await self._journal.delivered(self.intent.id)
        except JournalError as error:
            _log.error("delivery_not_noted", intent=self.intent.id, error=str(error))


def _not_on_record(error: JournalError) -> NotOnRecord:
    _log.error("not_on_record", error=str(error))
    return NotOnRecord("The bridge cannot keep its journal: nothing was sent.", retry_after=5)
