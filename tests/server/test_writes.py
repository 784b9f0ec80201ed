"""The steps of a flow carried out: how much time each has, and what is held meanwhile.

The gateway and the journal are stand-ins that note what they are told.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from bridge.record.journal import Journal
from bridge.record.journal.rules import JournalError, Turn
from bridge.resources.flow import Begin, Flow, Pause, Settle, Step, run
from bridge.secret import Secret
from bridge.server.limits import Budget
from bridge.server.writes import Turns, Writing
from bridge.upstream.calls import UpstreamCall
from bridge.upstream.gateway import Credential, Errand, Gateway
from bridge.upstream.sharing import Worker
from bridge.v1.errors import NotOnRecord, Overloaded
from bridge.v1.wire import V1Response
from bridge.v2.errors import (
    OutcomeUnknown,
    UpstreamError,
    UpstreamRefusal,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from bridge.v2.wire import V2Request, V2Response
from bridge.v2.writes import Intent, Outcome, Write
from tests.support.clocks import Leaps
from tests.support.logged import logging

PATH = "/invoices/1420/messages"
LIST = V2Request("GET", PATH)
LOOK = V2Request("GET", PATH, settles=True)
CREATE = V2Request("POST", PATH, body=b"{}")
DELETE = V2Request("DELETE", f"{PATH}/403")
WRITE = Write("invoice-messages", CREATE, b"")
TIME = 30.0


@dataclass
class Backstage:
    """What a write is made with, and what it did with it."""

    leaps: Leaps
    seconds: list[float] = field(default_factory=list)
    """That each v2 call was given."""
    asked: list[V2Request] = field(default_factory=list)
    fails: UpstreamError | None = None
    status: int = 200
    known: bool = True
    broken: bool = False
    asked_before: bool = False
    begun: list[int] = field(default_factory=list)
    settled: list[tuple[Any, ...]] = field(default_factory=list)
    told: list[int] = field(default_factory=list)
    turns: Turns = field(default_factory=Turns)

    async def send(
        self,
        request: V2Request,
        errand: Errand,
        *,
        deadline: float | None = None,
        leave_by: float | None = None,
    ) -> V2Response:
        now = asyncio.get_running_loop().time()
        if leave_by is not None and now > leave_by:
            raise UpstreamUnavailable("too late", 1)
        self.asked.append(request)
        self.seconds.append(round((deadline or errand.deadline) - now, 1))
        errand.calls.append(UpstreamCall(request.method, request.path))
        if self.fails:
            raise self.fails
        return V2Response(self.status, b"{}", "")

    def knows(self, _credential: Credential) -> bool:
        return self.known

    is_shared = False

    async def begin_new(
        self, write: Write, *, account_id: int, request_id: str, turn: Turn
    ) -> Intent | None:
        if self.asked_before:
            return None
        return await self.begin(write, account_id=account_id, request_id=request_id, turn=turn)

    async def begin(self, write: Write, *, account_id: int, request_id: str, turn: Turn) -> Intent:
        self.fail_if_broken()
        assert request_id == "r-1"
        assert not turn.keys
        self.begun.append(account_id)
        return Intent(
            len(self.begun),
            account_id,
            write.resource,
            write.request.path,
            b"",
            datetime.now(UTC),
            Outcome.OPEN,
        )

    async def settle(self, *told: Any, found: bool) -> bool:
        self.fail_if_broken()
        self.settled.append((*told, found))
        return not found

    async def delivered(self, intent_id: int) -> None:
        self.fail_if_broken()
        self.told.append(intent_id)

    def fail_if_broken(self) -> None:
        if self.broken:
            raise JournalError(Path("journal"), "the disk is full")

    def writing(self, *, account_id: int = 1000, token: str = "t", invoice: int = 1420) -> Writing:
        task = asyncio.current_task()
        assert task
        return Writing(
            gateway=cast(Gateway, self),
            journal=cast(Journal, self),
            turns=self.turns,
            recording=Budget("writes", 1, {}).place(()),
            errand=Errand(
                Credential(account_id, Secret(token)),
                TIME,
                asyncio.get_running_loop().time() + TIME,
                Worker(task),
            ),
            seconds=TIME,
            what=("invoice-messages", invoice),
            request_id="r-1",
        )


@pytest.fixture
async def stage() -> Backstage:
    return Backstage(Leaps())


def steps(*given: Step | Callable[[], None], answers: list[Any] | None = None) -> Flow:
    """A flow of these steps, of which functions are just called; notes the answers."""
    for step in given:
        if callable(step):
            step()
            continue
        try:
            answer = yield step
        except UpstreamError as error:
            answer = error
        if answers is not None:
            answers.append(answer)
    return V1Response(200)


async def driven(writing: Writing, *given: Step | Callable[[], None]) -> list[Any]:
    """Carry out a flow of these steps and return the answers."""
    answers: list[Any] = []
    assert (await run(steps(*given, answers=answers), writing.perform)).status == 200
    return answers


class TestTime:
    async def test_is_one_for_all_steps(self, stage: Backstage) -> None:
        await driven(stage.writing(), LIST, lambda: stage.leaps.ahead(12), DELETE, LOOK)

        assert stage.seconds == [30.0, 18.0, 18.0]

    async def test_of_a_post_leaves_a_third_for_the_look(self, stage: Backstage) -> None:
        await driven(stage.writing(), CREATE, lambda: stage.leaps.ahead(20), LOOK)

        assert stage.seconds == [20.0, 10.0]

    @pytest.mark.parametrize(("passed", "sent"), [(14.5, True), (15.5, False), (40, False)])
    async def test_too_short_for_a_post_means_that_none_is_sent(
        self, stage: Backstage, passed: float, sent: bool
    ) -> None:
        (answer,) = await driven(stage.writing(), lambda: stage.leaps.ahead(passed), CREATE)

        if sent:
            assert answer.status == 200
        else:
            assert isinstance(answer, UpstreamUnavailable)
            assert not answer.request_left
            assert answer.retry_after >= 1
            assert stage.seconds == []

    @pytest.mark.parametrize(("passed", "answer"), [(22, True), (26, False)])
    async def test_passes_between_looks_if_enough_is_left(
        self, stage: Backstage, passed: float, answer: bool
    ) -> None:
        writing = stage.writing()
        driving = asyncio.create_task(
            driven(writing, lambda: stage.leaps.ahead(passed), Pause(4 / 30), LOOK)
        )
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert driving.done() is (not answer)
        stage.leaps.ahead(4)

        assert (await driving)[0] is answer


class TestAnswers:
    async def test_an_upstream_error_is_one(self, stage: Backstage) -> None:
        stage.fails = UpstreamTimeout("late")

        assert await driven(stage.writing(), LIST, CREATE) == [stage.fails] * 2

    async def test_what_a_flow_raises_is_raised(self, stage: Backstage) -> None:
        def fail() -> None:
            raise LookupError

        with pytest.raises(LookupError):
            await driven(stage.writing(), fail)


class TestTheRecord:
    async def test_is_of_the_account_and_is_remembered(self, stage: Backstage) -> None:
        writing = stage.writing(account_id=7)
        assert writing.intent is None
        (intent,) = await driven(writing, Begin(WRITE))

        assert stage.begun == [7]
        assert writing.intent is intent

    async def test_is_settled_as_the_flow_says(self, stage: Backstage) -> None:
        writing = stage.writing()
        (intent,) = await driven(writing, Begin(WRITE))

        assert await driven(
            writing, Settle(intent, Outcome.ABSENT), Settle(intent, Outcome.DONE, 5, found=True)
        ) == [True, False]
        assert stage.settled == [(1, Outcome.ABSENT, None, False), (1, Outcome.DONE, 5, True)]

    async def test_that_cannot_be_made_ends_the_flow(self, stage: Backstage) -> None:
        stage.broken = True
        with logging() as log, pytest.raises(NotOnRecord) as raised:
            await driven(stage.writing(), Begin(WRITE), CREATE)

        assert raised.value.retry_after >= 1
        assert stage.seconds == []
        assert len(log.lines("not_on_record")) == 1

    async def test_that_cannot_be_settled_does_not_keep_the_client_from_its_answer(
        self, stage: Backstage
    ) -> None:
        writing = stage.writing()
        (intent,) = await driven(writing, Begin(WRITE))
        stage.broken = True
        with logging() as log:
            assert await driven(writing, Settle(intent, Outcome.DONE, 5)) == [True]

        (line,) = log.lines("not_settled")
        assert (line["intent"], line["outcome"]) == (1, "done")

    async def test_that_cannot_say_whose_a_find_is_leaves_the_outcome_unknown(
        self, stage: Backstage
    ) -> None:
        writing = stage.writing()
        (intent,) = await driven(writing, Begin(WRITE))
        stage.broken = True

        with logging() as log:
            (answer,) = await driven(writing, Settle(intent, Outcome.DONE, 5, found=True))

        assert isinstance(answer, OutcomeUnknown)
        assert len(log.lines("not_settled")) == 1

    async def test_notes_that_the_client_was_told(self, stage: Backstage) -> None:
        writing = stage.writing()
        await writing.handed_over()
        assert stage.told == []
        await driven(writing, Begin(WRITE))
        await writing.handed_over()

        assert stage.told == [1]

    async def test_that_cannot_note_it_says_so_in_the_log_alone(self, stage: Backstage) -> None:
        writing = stage.writing()
        await driven(writing, Begin(WRITE))
        stage.broken = True
        with logging() as log:
            await writing.handed_over()

        assert [line["intent"] for line in log.lines("delivery_not_noted")] == [1]


class TestStrangers:
    async def test_begin_what_is_new_without_asking(self, stage: Backstage) -> None:
        stage.known = False
        await driven(stage.writing(), Begin(WRITE))

        assert stage.asked == []

    async def test_are_tried_on_the_list_before_they_take_up_what_was_asked_before(
        self, stage: Backstage
    ) -> None:
        stage.known, stage.asked_before = False, True
        await driven(stage.writing(), Begin(WRITE))

        assert [(each.method, each.path) for each in stage.asked] == [("GET", PATH)]
        assert stage.begun == [1000]

    async def test_that_v2_refuses_get_no_further(self, stage: Backstage) -> None:
        stage.known, stage.asked_before, stage.status = False, True, 401

        (answer,) = await driven(stage.writing(), Begin(WRITE))

        assert isinstance(answer, UpstreamRefusal)
        assert stage.begun == []


async def has_to_wait(writing: Writing) -> bool:
    """Tell whether the turn does not come as long as nobody gives one back."""
    taking = asyncio.create_task(writing.take_turns())
    for _ in range(5):
        await asyncio.sleep(0)
    waits = not taking.done()
    taking.cancel()
    await asyncio.wait([taking])
    writing.give_turns_back()
    return waits


class TestTurns:
    @pytest.mark.parametrize(
        ("known", "account_id", "token", "invoice", "waits"),
        [
            pytest.param(True, 1000, "t", 1420, True, id="the same"),
            pytest.param(True, 1000, "another", 1420, True, id="another token of the account"),
            pytest.param(True, 1000, "t", 7, False, id="another invoice"),
            pytest.param(True, 7, "t", 1420, False, id="another account"),
            pytest.param(False, 1000, "another", 1420, False, id="a stranger"),
            pytest.param(False, 1000, "t", 1420, True, id="a token that was accepted"),
        ],
    )
    async def test_are_for_writes_of_one_account_to_the_same(
        self,
        stage: Backstage,
        known: bool,
        account_id: int,
        token: str,
        invoice: int,
        waits: bool,
    ) -> None:
        await stage.writing().take_turns()
        stage.known = known
        other = stage.writing(account_id=account_id, token=token, invoice=invoice)

        assert await has_to_wait(other) is waits

    async def test_come_when_they_are_given_back(self, stage: Backstage) -> None:
        first = stage.writing()
        await first.take_turns()
        first.give_turns_back()

        assert not await has_to_wait(stage.writing())
        assert stage.turns._taken == {}

    async def test_a_stranger_that_v2_accepts_waits_for_the_account_after_all(
        self, stage: Backstage
    ) -> None:
        await stage.writing().take_turns()
        stage.known, stage.asked_before = False, True
        stranger = stage.writing(token="another")
        await stranger.take_turns()
        beginning = asyncio.create_task(driven(stranger, Begin(WRITE)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not beginning.done()
        stage.leaps.ahead(TIME / 2)

        with pytest.raises(Overloaded):
            await beginning
        assert stage.begun == []
