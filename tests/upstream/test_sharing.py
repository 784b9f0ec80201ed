"""Those who ask the same at the same time, without anything to ask."""

import asyncio
from dataclasses import dataclass, field

import pytest

from bridge.upstream.sharing import Abandoned, Sharing, Worker
from tests.support.clocks import until


@dataclass
class Errand:
    """Something to find out, which a test lets come to its end."""

    outcome: asyncio.Future[str] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    began: int = 0
    task: asyncio.Task[str] | None = None
    """Whose work it is."""
    cancelled: bool = False

    async def run(self) -> str:
        self.began += 1
        self.task = asyncio.current_task()
        try:
            return await asyncio.shield(self.outcome)
        except asyncio.CancelledError:
            self.cancelled = True
            raise


@dataclass
class Asker:
    """One who asks: works if nobody does, and may leave."""

    task: asyncio.Task[str]
    worker: Worker

    def leaves(self) -> None:
        self.worker.leave()

    async def stops(self) -> None:
        """Have its task cancelled, whoever follows."""
        self.task.cancel()
        await asyncio.wait([self.task])


@pytest.fixture
async def errand() -> Errand:
    return Errand()


@pytest.fixture
async def sharing() -> Sharing[str]:
    return Sharing()


def asks(sharing: Sharing[str], errand: Errand, name: str = "") -> Asker:
    """Have somebody ask under "key", in a task of their own."""

    async def ask() -> str:
        while "key" in sharing.under_way:
            try:
                return await sharing.follow("key")
            except Abandoned:
                continue
        return await sharing.work("key", worker, errand.run(), name)

    task = asyncio.create_task(ask())
    worker = Worker(task)
    return Asker(task, worker)


async def begun(sharing: Sharing[str], errand: Errand, followers: int) -> list[Asker]:
    """Have somebody work on the errand, and so many follow."""
    askers = [asks(sharing, errand)]
    await until(lambda: errand.began)
    for _ in range(followers):
        askers.append(asks(sharing, errand))
        await asyncio.sleep(0)
    return askers


async def found_by(*askers: Asker) -> list[str | BaseException]:
    return await asyncio.gather(*(each.task for each in askers), return_exceptions=True)


async def test_the_first_works_in_a_task_of_their_own(
    sharing: Sharing[str], errand: Errand
) -> None:
    first, *_ = await begun(sharing, errand, followers=2)

    assert errand.task is first.task


async def test_all_get_what_the_one_finds_out(sharing: Sharing[str], errand: Errand) -> None:
    askers = await begun(sharing, errand, followers=3)
    errand.outcome.set_result("found")

    assert await found_by(*askers) == ["found"] * 4
    assert errand.began == 1


async def test_all_get_the_error_it_ends_in(sharing: Sharing[str], errand: Errand) -> None:
    askers = await begun(sharing, errand, followers=3)
    errand.outcome.set_exception(LookupError("nothing"))

    assert [str(error) for error in await found_by(*askers)] == ["nothing"] * 4
    assert errand.began == 1


async def test_who_follows_can_tell_whom(sharing: Sharing[str], errand: Errand) -> None:
    asks(sharing, errand, "the first")
    await until(lambda: errand.began)

    assert sharing.under_way["key"].name == "the first"


async def test_what_has_ended_cannot_be_followed(sharing: Sharing[str], errand: Errand) -> None:
    (first,) = await begun(sharing, errand, followers=0)
    assert "key" in sharing.under_way
    errand.outcome.set_result("found")
    await first.task

    assert "key" not in sharing.under_way
    with pytest.raises(KeyError):
        await sharing.follow("key")


async def test_keys_have_nothing_to_do_with_each_other(
    sharing: Sharing[str], errand: Errand
) -> None:
    await begun(sharing, errand, followers=0)

    assert "another" not in sharing.under_way
    with pytest.raises(KeyError):
        await sharing.follow("another")


async def test_who_works_goes_on_while_anybody_follows(
    sharing: Sharing[str], errand: Errand
) -> None:
    first, second, third = await begun(sharing, errand, followers=2)
    first.leaves()
    await second.stops()
    assert "key" in sharing.under_way
    errand.outcome.set_result("found")

    assert await found_by(first, third) == ["found"] * 2
    assert errand.began == 1


@pytest.mark.parametrize("leaving", [1, 2])
async def test_who_follows_and_leaves_does_not_take_the_others_along(
    sharing: Sharing[str], errand: Errand, leaving: int
) -> None:
    askers = await begun(sharing, errand, followers=2)
    gone = askers.pop(leaving)
    gone.leaves()
    await asyncio.wait([gone.task])
    errand.outcome.set_result("found")

    assert gone.task.cancelled()
    assert await found_by(*askers) == ["found"] * 2


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
async def test_it_is_given_up_when_all_have_left(
    sharing: Sharing[str], errand: Errand, order: tuple[int, ...]
) -> None:
    askers = await begun(sharing, errand, followers=2)
    for number in order:
        assert not errand.cancelled
        askers[number].leaves()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await until(lambda: errand.cancelled)

    await asyncio.wait([each.task for each in askers])
    assert "key" not in sharing.under_way


async def test_who_follows_somebody_that_is_stopped_takes_over_and_the_others_follow(
    sharing: Sharing[str], errand: Errand
) -> None:
    first, second, third = await begun(sharing, errand, followers=2)
    await first.stops()
    await until(lambda: errand.began == 2)
    assert errand.task is second.task
    errand.outcome.set_result("found")

    assert first.task.cancelled()
    assert await found_by(second, third) == ["found"] * 2
    assert errand.began == 2


async def test_who_takes_over_may_leave_like_any_who_works(
    sharing: Sharing[str], errand: Errand
) -> None:
    first, second, third = await begun(sharing, errand, followers=2)
    await first.stops()
    await until(lambda: errand.began == 2)
    await asyncio.sleep(0)
    second.leaves()
    assert not second.task.cancelling()
    third.leaves()
    await asyncio.wait([second.task, third.task])

    assert "key" not in sharing.under_way


async def test_who_comes_while_it_is_being_given_up_does_not_go_without(
    sharing: Sharing[str], errand: Errand
) -> None:
    (first,) = await begun(sharing, errand, followers=0)
    first.leaves()
    another = Errand()
    second = asks(sharing, another)
    await until(lambda: another.began)
    another.outcome.set_result("found")

    assert await second.task == "found"
    assert errand.cancelled
    assert "key" not in sharing.under_way


async def test_the_end_of_one_is_not_that_of_the_next(sharing: Sharing[str]) -> None:
    """Where the same has been begun once more, by somebody who did not look."""
    older, newer = Errand(), Errand()
    current = asyncio.current_task()
    assert current
    tasks = []
    for errand in (older, newer):
        tasks.append(asyncio.create_task(sharing.work("key", Worker(current), errand.run())))
        await until(lambda errand=errand: errand.began)  # type: ignore[misc]
    older.outcome.set_result("old")
    assert await tasks[0] == "old"

    assert "key" in sharing.under_way
    newer.outcome.set_result("new")
    assert await tasks[1] == "new"
    assert "key" not in sharing.under_way


async def test_an_error_that_nobody_waits_for_any_longer_is_passed_over(
    sharing: Sharing[str], errand: Errand, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = await begun(sharing, errand, followers=1)
    await second.stops()
    errand.outcome.set_exception(LookupError("nothing"))
    with pytest.raises(LookupError):
        await first.task
    del first
    await asyncio.sleep(0)

    assert not caplog.records


async def test_who_worked_is_given_up_once_those_who_followed_have_what_they_wanted(
    sharing: Sharing[str], errand: Errand
) -> None:
    """A legacy call may go on after a v2 call that was shared: its client alone waits for that."""
    goes_on = asyncio.Event()

    async def work_and_go_on() -> str:
        found = await sharing.work("key", worker, errand.run())
        await goes_on.wait()
        return found

    task = asyncio.create_task(work_and_go_on())
    worker = Worker(task)
    await until(lambda: errand.began)
    follower = asks(sharing, errand)
    await asyncio.sleep(0)
    errand.outcome.set_result("found")
    assert await follower.task == "found"
    worker.leave()
    await asyncio.wait([task])

    assert task.cancelled()
