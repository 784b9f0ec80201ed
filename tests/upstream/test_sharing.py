"""Those who ask the same at the same time, without anything to ask."""

import asyncio
from dataclasses import dataclass, field

import pytest

from bridge.upstream.single_flight import SingleFlight
from tests.support.clocks import until


@dataclass
class Errand:
    """Something to find out, which a test lets come to its end."""

    outcome: asyncio.Future[str] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    began: int = 0
    cancelled: bool = False

    async def run(self) -> str:
        self.began += 1
        try:
            return await self.outcome
        except asyncio.CancelledError:
            self.cancelled = True
            raise


@pytest.fixture
async def errand() -> Errand:
    return Errand()


@pytest.fixture
async def flights() -> SingleFlight[str]:
    return SingleFlight()


async def begun(
    flights: SingleFlight[str], errand: Errand, joiners: int
) -> list[asyncio.Task[str]]:
    """Begin the errand under "key" and have so many join it."""
    began = errand.began
    waiting = [asyncio.create_task(flights.begin("key", errand.run()))]
    await until(lambda: errand.began > began)
    for _ in range(joiners):
        waiting.append(asyncio.create_task(flights.join("key")))
        await asyncio.sleep(0)
    return waiting


async def test_all_get_what_the_one_finds_out(flights: SingleFlight[str], errand: Errand) -> None:
    waiting = await begun(flights, errand, joiners=3)
    errand.outcome.set_result("found")

    assert await asyncio.gather(*waiting) == ["found"] * 4
    assert errand.began == 1


async def test_all_get_the_error_it_ends_in(flights: SingleFlight[str], errand: Errand) -> None:
    waiting = await begun(flights, errand, joiners=3)
    errand.outcome.set_exception(LookupError("nothing"))

    assert [
        str(error) for error in await asyncio.gather(*waiting, return_exceptions=True)
    ] == ["nothing"] * 4  # fmt: skip


async def test_what_has_ended_cannot_be_joined(flights: SingleFlight[str], errand: Errand) -> None:
    (began,) = await begun(flights, errand, joiners=0)
    assert "key" in flights
    errand.outcome.set_result("found")
    await began

    assert "key" not in flights
    with pytest.raises(KeyError):
        await flights.join("key")


async def test_keys_have_nothing_to_do_with_each_other(
    flights: SingleFlight[str], errand: Errand
) -> None:
    await begun(flights, errand, joiners=0)

    assert "another" not in flights
    with pytest.raises(KeyError):
        await flights.join("another")


@pytest.mark.parametrize("leaving", [0, 1, 2], ids=["who began", "a joiner", "the last"])
async def test_who_leaves_does_not_take_the_others_along(
    flights: SingleFlight[str], errand: Errand, leaving: int
) -> None:
    waiting = await begun(flights, errand, joiners=2)
    waiting[leaving].cancel()
    await asyncio.wait([waiting[leaving]])

    assert waiting[leaving].cancelled()
    assert "key" in flights
    errand.outcome.set_result("found")
    rest = [each for each in waiting if each is not waiting[leaving]]
    assert await asyncio.gather(*rest) == ["found"] * 2


async def test_it_is_given_up_when_all_have_left(
    flights: SingleFlight[str], errand: Errand
) -> None:
    waiting = await begun(flights, errand, joiners=2)
    for each in waiting:
        assert not errand.cancelled
        each.cancel()
        await asyncio.wait([each])
    await until(lambda: errand.cancelled)

    assert "key" not in flights


async def test_nobody_joins_what_is_about_to_be_given_up(
    flights: SingleFlight[str], errand: Errand
) -> None:
    (first,) = await begun(flights, errand, joiners=0)
    first.cancel()
    await asyncio.wait([first])

    assert "key" not in flights
    another = Errand()
    (second,) = await begun(flights, another, joiners=0)
    await until(lambda: errand.cancelled)
    assert "key" in flights  # the end of the first is not that of the second
    another.outcome.set_result("found")
    assert await second == "found"


async def test_an_error_that_nobody_waits_for_is_passed_over(
    flights: SingleFlight[str], caplog: pytest.LogCaptureFixture
) -> None:
    async def stubborn() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            raise LookupError("nothing")

    task = asyncio.create_task(flights.begin("key", stubborn()))
    await until(lambda: "key" in flights)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    del task
    await asyncio.sleep(0)

    assert not caplog.records
