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
from bridge.record.store import JournalError
from bridge.resources.flow import Begin, Flow, Pause, Settle, Step
from bridge.secret import Secret
from bridge.server.driving import Driver, Means
from bridge.server.logs import CallRecord
from bridge.upstream.calls import UpstreamCall
from bridge.upstream.gateway import Credential, Gateway
from bridge.v1.errors import NotOnRecord
from bridge.v1.wire import V1Response
from bridge.v2.errors import UpstreamError, UpstreamTimeout, UpstreamUnavailable
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
ANSWER = V2Response(200, b"{}", "")


@dataclass
class Backstage:
    """What a driver is given, and what it did with it."""

    leaps: Leaps
    seconds: list[float] = field(default_factory=list)
    """That each v2 call was given."""
    fails: UpstreamError | None = None
    broken: bool = False
    begun: list[int] = field(default_factory=list)
    settled: list[tuple[Any, ...]] = field(default_factory=list)

    async def send(
        self,
        request: V2Request,
        _credential: Credential,
        deadline: float,
        calls: list[UpstreamCall],
        *,
        leave_by: float,
    ) -> V2Response:
        if asyncio.get_running_loop().time() > leave_by:
            raise UpstreamUnavailable("too late", 1)
        self.seconds.append(round(deadline - asyncio.get_running_loop().time(), 1))
        calls.append(UpstreamCall(request.method, request.path))
        if self.fails:
            raise self.fails
        return ANSWER

    def knows(self, _credential: Credential) -> bool:
        return True

    async def take_turn(self) -> None:
        raise AssertionError("nobody has to wait here")

    async def begin(self, write: Write, *, account_id: int, request_id: str) -> Intent:
        if self.broken:
            raise JournalError(Path("journal"), "the disk is full")
        assert request_id == "r-1"
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
        if self.broken:
            raise JournalError(Path("journal"), "the disk is full")
        self.settled.append((*told, found))
        return not found

    def driver(self, *, account_id: int = 1000, token: str = "t", time: float = TIME) -> Driver:
        means = Means(cast(Gateway, self), cast(Journal, self), time)
        return Driver(
            means,
            credential=Credential(account_id, Secret(token)),
            deadline=asyncio.get_running_loop().time() + time,
            record=CallRecord("r-1", "POST", None),
            take_turn=self.take_turn,
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


async def driven(driver: Driver, *given: Step | Callable[[], None]) -> list[Any]:
    """Drive a flow of these steps and return the answers."""
    answers: list[Any] = []
    assert (await driver.drive(steps(*given, answers=answers), in_thread=False)).status == 200
    return answers


class TestTime:
    async def test_is_one_for_all_steps(self, stage: Backstage) -> None:
        await driven(stage.driver(), LIST, lambda: stage.leaps.ahead(12), DELETE, LOOK)

        assert stage.seconds == [30.0, 18.0, 18.0]

    async def test_of_a_post_leaves_a_third_for_the_look(self, stage: Backstage) -> None:
        await driven(stage.driver(), CREATE, lambda: stage.leaps.ahead(20), LOOK)

        assert stage.seconds == [20.0, 10.0]

    @pytest.mark.parametrize(("passed", "sent"), [(14.5, True), (15.5, False), (40, False)])
    async def test_too_short_for_a_post_means_that_none_is_sent(
        self, stage: Backstage, passed: float, sent: bool
    ) -> None:
        (answer,) = await driven(stage.driver(), lambda: stage.leaps.ahead(passed), CREATE)

        if sent:
            assert answer is ANSWER
        else:
            assert isinstance(answer, UpstreamUnavailable)
            assert not answer.request_left
            assert answer.retry_after >= 1
            assert stage.seconds == []

    @pytest.mark.parametrize(("passed", "answer"), [(22, True), (26, False)])
    async def test_passes_between_looks_if_enough_is_left(
        self, stage: Backstage, passed: float, answer: bool
    ) -> None:
        driver = stage.driver()
        driving = asyncio.create_task(
            driven(driver, lambda: stage.leaps.ahead(passed), Pause(4 / 30), LOOK)
        )
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert driving.done() is (not answer)
        stage.leaps.ahead(4)

        assert (await driving)[0] is answer


class TestAnswers:
    async def test_an_upstream_error_is_one(self, stage: Backstage) -> None:
        stage.fails = UpstreamTimeout("late")

        assert await driven(stage.driver(), LIST, CREATE) == [stage.fails] * 2

    @pytest.mark.parametrize("in_thread", [True, False])
    async def test_a_flow_without_steps_has_its_own(
        self, stage: Backstage, in_thread: bool
    ) -> None:
        driver = stage.driver()

        assert (await driver.drive(steps(), in_thread=in_thread)).status == 200

    @pytest.mark.parametrize("in_thread", [True, False])
    async def test_what_a_flow_raises_is_raised(self, stage: Backstage, in_thread: bool) -> None:
        def fail() -> None:
            raise LookupError

        with pytest.raises(LookupError):
            await stage.driver().drive(steps(fail), in_thread=in_thread)


class TestTheRecord:
    async def test_is_of_the_account_and_the_driver_remembers_it(self, stage: Backstage) -> None:
        driver = stage.driver(account_id=7)
        assert driver.intent is None
        (intent,) = await driven(driver, Begin(WRITE))

        assert stage.begun == [7]
        assert driver.intent is intent

    async def test_is_settled_as_the_flow_says(self, stage: Backstage) -> None:
        driver = stage.driver()
        (intent,) = await driven(driver, Begin(WRITE))

        assert await driven(
            driver, Settle(intent, Outcome.ABSENT), Settle(intent, Outcome.DONE, 5, found=True)
        ) == [True, False]
        assert stage.settled == [(1, Outcome.ABSENT, None, False), (1, Outcome.DONE, 5, True)]

    async def test_that_cannot_be_made_ends_the_flow(self, stage: Backstage) -> None:
        stage.broken = True
        with logging() as log, pytest.raises(NotOnRecord) as raised:
            await driven(stage.driver(), Begin(WRITE), CREATE)

        assert raised.value.retry_after >= 1
        assert stage.seconds == []
        assert len(log.lines("not_on_record")) == 1

    async def test_that_cannot_be_settled_does_not_keep_the_client_from_its_answer(
        self, stage: Backstage
    ) -> None:
        driver = stage.driver()
        (intent,) = await driven(driver, Begin(WRITE))
        stage.broken = True
        with logging() as log:
            assert await driven(driver, Settle(intent, Outcome.DONE, 5)) == [True]

        (line,) = log.lines("not_settled")
        assert (line["intent"], line["outcome"]) == (1, "done")
