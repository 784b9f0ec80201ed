"""One after another, and nobody for longer than they have."""

import asyncio
from dataclasses import dataclass, field
from math import inf

import pytest

from bridge.server.writes import Turns
from bridge.v1.errors import Overloaded
from tests.support.clocks import Leaps, until


@dataclass
class Queue:
    """Who has had a turn, and lets it go when told."""

    turns: Turns = field(default_factory=Turns)
    began: list[str] = field(default_factory=list)
    may_end: dict[str, asyncio.Event] = field(default_factory=dict)

    async def take(self, name: str, key: str, seconds: float) -> None:
        deadline = asyncio.get_running_loop().time() + seconds
        await self.turns.take(key, deadline)
        try:
            self.began.append(name)
            await self.may_end.setdefault(name, asyncio.Event()).wait()
        finally:
            self.turns.give_back(key)

    async def joins(
        self, name: str, key: str = "key", *, seconds: float = 30
    ) -> asyncio.Task[None]:
        """Have somebody ask for a turn, and let them get as far as they can."""
        task = asyncio.create_task(self.take(name, key, seconds))
        for _ in range(5):
            await asyncio.sleep(0)
        return task

    async def ends(self, name: str, task: asyncio.Task[None]) -> None:
        """Let somebody end their turn."""
        self.may_end[name].set()
        await task


@pytest.fixture(autouse=True)
async def leaps() -> Leaps:
    return Leaps()


@pytest.fixture
async def queue() -> Queue:
    return Queue()


async def test_the_first_need_not_wait(queue: Queue) -> None:
    await queue.ends("first", await queue.joins("first"))

    assert queue.began == ["first"]


async def test_each_waits_for_those_before(queue: Queue) -> None:
    names = ["first", "second", "third"]
    tasks = [await queue.joins(name) for name in names]
    for number, name in enumerate(names):
        await until(lambda name=name: name in queue.began)  # type: ignore[misc]
        assert queue.began == names[: number + 1]
        await queue.ends(name, tasks[number])


async def test_keys_do_not_wait_for_each_other(queue: Queue) -> None:
    await queue.joins("one", "one")
    await queue.joins("another", "another")

    assert queue.began == ["one", "another"]


async def test_who_cannot_begin_in_time_does_not_begin_at_all(queue: Queue, leaps: Leaps) -> None:
    first = await queue.joins("first")
    second = await queue.joins("second", seconds=10)
    leaps.ahead(10)

    with pytest.raises(Overloaded) as overloaded:
        await second
    assert overloaded.value.retry_after >= 1
    await queue.ends("first", first)
    assert queue.began == ["first"]


async def test_time_that_is_up_does_not_matter_to_who_need_not_wait(queue: Queue) -> None:
    await queue.joins("late", seconds=-1)

    assert queue.began == ["late"]


async def test_who_has_left_is_passed_over(queue: Queue, leaps: Leaps) -> None:
    first = await queue.joins("first")
    cancelled = await queue.joins("cancelled")
    too_late = await queue.joins("too late", seconds=10)
    last = await queue.joins("last")
    cancelled.cancel()
    leaps.ahead(10)
    await asyncio.wait([cancelled, too_late])
    await queue.ends("first", first)
    await until(lambda: len(queue.began) == 2)
    await queue.ends("last", last)

    assert queue.began == ["first", "last"]
    assert isinstance(too_late.exception(), Overloaded)


async def test_a_turn_ends_with_whoever_has_it(queue: Queue) -> None:
    first = await queue.joins("first")
    await queue.joins("second")
    first.cancel()
    await until(lambda: "second" in queue.began)


async def test_a_turn_that_comes_to_who_has_just_been_cancelled_goes_to_the_next(
    queue: Queue,
) -> None:
    first = await queue.joins("first")
    second = await queue.joins("second")
    third = await queue.joins("third")
    queue.turns.give_back("key")  # "second" has it, and has not been told yet
    second.cancel()
    await asyncio.wait([second])
    await until(lambda: "third" in queue.began)

    assert queue.began == ["first", "third"]
    for task in (first, third):
        task.cancel()


async def test_keys_that_nobody_wants_are_forgotten(queue: Queue, leaps: Leaps) -> None:
    """There are as many as there are invoices: they must not fill the memory."""
    tasks = [await queue.joins(name) for name in ("first", "second")]
    late = await queue.joins("late", seconds=10)
    leaps.ahead(10)
    await asyncio.wait([late])
    for name, task in zip(("first", "second"), tasks, strict=True):
        await until(lambda name=name: name in queue.began)  # type: ignore[misc]
        await queue.ends(name, task)
    assert isinstance(late.exception(), Overloaded)

    assert queue.turns._taken == {}


async def test_a_turn_that_comes_just_when_nobody_waits_any_longer_leaves_nothing_behind() -> None:
    turns = Turns()
    await turns.take("key", inf)
    waiting = asyncio.create_task(turns.take("key", inf))
    await asyncio.sleep(0)
    turns.give_back("key")
    waiting.cancel()
    await asyncio.wait([waiting])

    assert turns._taken == {}


async def test_who_stops_waiting_just_when_a_turn_ends_takes_it_from_nobody() -> None:
    """A stop cancels both, the one who has the turn first."""
    turns = Turns()
    await turns.take("key", inf)
    waiting = asyncio.create_task(turns.take("key", inf))
    await asyncio.sleep(0)
    waiting.cancel()
    turns.give_back("key")
    await turns.take("key", inf)
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert list(turns._taken) == ["key"]
