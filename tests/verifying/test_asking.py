"""Asking a running bridge: what is sent to it, and how it is left time."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from bridge.secret import Secret
from bridge.verifying.asking import (
    LONGEST_WAIT,
    TRIES,
    USER_AGENT,
    Asking,
    CannotBeSent,
    Pace,
    Told,
    Unreachable,
)
from bridge.verifying.har import Recording
from bridge.verifying.reads import Read, plan
from tests.support.recordings import Call, record
from tests.support.running import running_app

PATH = "/invoices/1420/payments"


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Bridge:
    """A bridge that answers what it is told to, and remembers what it was asked."""

    def __init__(self, *answers: web.Response) -> None:
        self.asked: list[web.Request] = []
        self._answers = list(answers)
        self.app = web.Application()
        self.app.router.add_route("*", "/{_:.*}", self._answer)

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked.append(request)
        return self._answers.pop(0) if self._answers else web.Response(text="<payments/>")


def busy(**headers: str) -> web.Response:
    return web.Response(
        status=503, headers={each.replace("_", "-"): headers[each] for each in headers}
    )


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def read(tmp_path: Path) -> Callable[[Call], Read]:
    def of(call: Call) -> Read:
        (found,) = plan(
            [Recording(record(tmp_path / "v1.har", [call]))], drops_repeated=False
        ).reads
        return found

    return of


@asynccontextmanager
async def asking(
    bridge: Bridge, clock: Clock, credential: Secret | None = None, per_second: float = 2
) -> AsyncIterator[Asking]:
    pace = Pace(per_second, clock, clock.sleep)
    async with running_app(bridge.app) as url, Asking(f"{url}/", pace, credential) as asked:
        yield asked


async def test_the_bridge_is_asked_as_the_client_asked_v1(
    clock: Clock, read: Callable[[Call], Read]
) -> None:
    bridge = Bridge()
    async with asking(bridge, clock) as asked:
        told = await asked.ask(read(Call(f"{PATH}?updated_since=2010-09-25+18%3A30", "<a/>")))

    assert (told.answer.status, told.answer.body) == (200, b"<payments/>")
    (request,) = bridge.asked
    assert (request.method, request.raw_path) == ("GET", f"{PATH}?updated_since=2010-09-25+18%3A30")
    assert request.host == "acme.harvestapp.com"
    assert request.headers["Authorization"] == "Basic YTpi"
    assert request.headers["Accept"] == "application/xml"
    assert request.headers["User-Agent"] == USER_AGENT


@pytest.mark.parametrize(
    ("credential", "header"), [("jane:s3cret", "Basic amFuZTpzM2NyZXQ="), ("t0ken", "Bearer t0ken")]
)
async def test_a_credential_that_is_given_counts(
    clock: Clock, read: Callable[[Call], Read], credential: str, header: str
) -> None:
    bridge = Bridge()
    async with asking(bridge, clock, Secret(credential)) as asked:
        await asked.ask(read(Call(f"{PATH}?access_token=old", "<a/>")))

    (request,) = bridge.asked
    assert (request.headers["Authorization"], request.raw_path) == (header, PATH)


async def test_a_token_of_the_query_is_sent_as_it_came(
    clock: Clock, read: Callable[[Call], Read]
) -> None:
    bridge = Bridge()
    async with asking(bridge, clock) as asked:
        await asked.ask(read(Call(f"{PATH}?access_token=t0ken", "<a/>", sent={})))

    assert [request.raw_path for request in bridge.asked] == [f"{PATH}?access_token=t0ken"]


async def test_without_any_credential_nothing_can_be_asked(
    clock: Clock, read: Callable[[Call], Read]
) -> None:
    without = read(Call(PATH, "<a/>", sent={}))
    async with asking(Bridge(), clock) as asked:
        assert not asked.can_ask(without)
    async with asking(Bridge(), clock, Secret("t0ken")) as asked:
        assert asked.can_ask(without)


async def test_no_more_calls_are_made_in_a_second_than_may_be(
    clock: Clock, read: Callable[[Call], Read]
) -> None:
    call = read(Call(PATH, "<a/>"))
    async with asking(Bridge(), clock, per_second=4) as asked:
        for _ in range(3):
            await asked.ask(call)

    assert clock.slept == [0.25, 0.25]


async def test_time_that_a_call_took_is_no_reason_to_hurry(clock: Clock) -> None:
    pace = Pace(2, clock, clock.sleep)
    await pace.turn()
    clock.now += 10
    await pace.turn()
    await pace.turn()

    assert clock.slept == [0.5]


async def test_a_bridge_that_asks_to_wait_is_asked_again_after_that(
    clock: Clock, read: Callable[[Call], Read]
) -> None:
    bridge = Bridge(busy(Retry_After="15"), busy(Retry_After="7"))
    async with asking(bridge, clock) as asked:
        told = await asked.ask(read(Call(PATH, "<a/>")))

    assert told.answer.status == 200
    assert clock.slept == [15, 7]


@pytest.mark.parametrize(
    ("answer", "times"),
    [
        (busy(), 1),
        (busy(Retry_After=str(int(LONGEST_WAIT) + 1)), 1),
        (busy(Retry_After="1"), TRIES),
        (web.Response(status=502, headers={"Retry-After": "1"}), 1),
    ],
)
async def test_a_call_is_given_up_in_the_end(
    clock: Clock, read: Callable[[Call], Read], answer: web.Response, times: int
) -> None:
    bridge = Bridge(
        *(web.Response(status=answer.status, headers=answer.headers) for _ in range(TRIES + 1))
    )
    async with asking(bridge, clock) as asked:
        told: Told = await asked.ask(read(Call(PATH, "<a/>")))

    assert told.answer.status == answer.status
    assert len(bridge.asked) == times


async def test_a_redirect_is_not_followed(clock: Clock, read: Callable[[Call], Read]) -> None:
    bridge = Bridge(web.Response(status=302, headers={"Location": "/elsewhere"}))
    async with asking(bridge, clock) as asked:
        assert (await asked.ask(read(Call(PATH, "<a/>")))).answer.status == 302
    assert len(bridge.asked) == 1


async def test_a_bridge_that_is_not_there_is_told_without_a_secret(
    clock: Clock, read: Callable[[Call], Read]
) -> None:
    async with Asking("http://127.0.0.1:1", Pace(2, clock, clock.sleep)) as asked:
        with pytest.raises(Unreachable) as refusal:
            await asked.ask(read(Call(f"{PATH}?access_token=t0ken", "<a/>", sent={})))
    assert "t0ken" not in str(refusal.value)


async def test_a_header_that_cannot_be_sent_is_told(
    clock: Clock, read: Callable[[Call], Read]
) -> None:
    async with asking(Bridge(), clock) as asked:
        with pytest.raises(CannotBeSent):
            await asked.ask(read(Call(PATH, "<a/>", sent={"Authorization": "a\r\nX-Evil: 1"})))
