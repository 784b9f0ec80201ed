"""Carrying out the steps of one flow: v2 calls, and entries in the journal.

What the steps are, and what follows from an answer, is the flow's business.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import structlog

from bridge.record.journal import Journal
from bridge.record.store import JournalError
from bridge.resources.flow import Begin, Flow, Pause, Settle, Step, drive
from bridge.server.logs import CallRecord
from bridge.upstream.gateway import Credential, Gateway
from bridge.v1.errors import NotOnRecord
from bridge.v1.wire import V1Response
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


def latest_start(deadline: float, call_timeout: float) -> float:
    """Return when a write must leave for a call that ends at `deadline`; all are seconds."""
    return deadline - call_timeout * (LOOK_SHARE + LEAST_SHARE)


@dataclass(frozen=True, slots=True)
class Means:
    """What all flows are carried out with."""

    gateway: Gateway
    journal: Journal
    call_timeout: float
    """Seconds that a legacy call may take in all."""


class Driver:
    """Drives one flow to its end."""

    def __init__(
        self,
        means: Means,
        *,
        credential: Credential,
        deadline: float,
        record: CallRecord,
        take_turn: Callable[[], Awaitable[None]],
    ) -> None:
        """Prepare to drive.

        Args:
            means: what steps are carried out with.
            credential: for whom v2 is called.
            deadline: when the flow's time is up, by the event loop's clock.
            record: that of the legacy call; it is told of every v2 call.
            take_turn: waits until nobody else of the account writes to the same.
        """
        self._means = means
        self._credential = credential
        self._record = record
        self._take_turn = take_turn
        self._seconds = means.call_timeout
        self._deadline = deadline
        self.intent: Intent | None = None
        """The write that the flow has made, if any."""

    async def drive(self, flow: Flow, *, in_thread: bool) -> V1Response:
        """Return the answer that `flow` ends in; raises what it raises.

        Args:
            flow: not started yet.
            in_thread: whether its start, up to its first step, has work for a thread of its own.
        """
        return await drive(flow, self._carry_out, asyncio.to_thread if in_thread else None)

    async def _carry_out(self, step: Step) -> Any:  # noqa: ANN401 - what the step says
        match step:
            case V2Request():
                return await self._ask(step)
            case Begin(write):
                return await self._begin(write)
            case Settle():
                return await self._settle(step)
            case Pause(share):
                return await self._pause(share * self._seconds)

    async def _ask(self, request: V2Request) -> V2Response:
        deadline = leave_by = self._deadline
        if request.method == "POST":
            deadline -= self._seconds * LOOK_SHARE
            leave_by = latest_start(self._deadline, self._seconds)
        return await self._means.gateway.send(
            request, self._credential, deadline, self._record.upstream_calls, leave_by=leave_by
        )

    async def _begin(self, write: Write) -> Intent:
        try:
            self.intent = await self._put_on_record(write)
        except JournalError as error:
            _log.error("not_on_record", error=str(error))
            raise NotOnRecord(
                "The bridge cannot keep its journal: nothing was sent.", retry_after=5
            ) from error
        return self.intent

    async def _put_on_record(self, write: Write) -> Intent:
        journal, credential = self._means.journal, self._credential
        account_id, request_id = credential.account_id, self._record.request_id
        if not self._means.gateway.knows(credential):
            if intent := await journal.begin_new(
                write, account_id=account_id, request_id=request_id
            ):
                return intent
            # Somebody has asked for the same before. That is not for strangers to interfere with.
            require_status(await self._ask(V2Request("GET", write.request.path, "per_page=1")), 200)
            await self._take_turn()
        return await journal.begin(write, account_id=account_id, request_id=request_id)

    async def _settle(self, step: Settle) -> bool:
        try:
            return await self._means.journal.settle(
                step.intent.id, step.outcome, step.made_id, found=step.found
            )
        except JournalError as error:
            _log.error("not_settled", intent=step.intent.id, outcome=step.outcome, error=str(error))
            if step.found:
                raise OutcomeUnknown("the journal cannot say whether it is another's") from error
            # What happened has happened, and the client is told; the journal makes up for it later.
            return True

    async def _pause(self, seconds: float) -> bool:
        left = self._deadline - asyncio.get_running_loop().time()
        if left - seconds < self._seconds * LAST_SHARE:
            return False
        await asyncio.sleep(seconds)
        return True
