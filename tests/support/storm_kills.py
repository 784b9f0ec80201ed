"""The moments to kill a bridge at: each waits for its own, kills, and lets v2 finish its part.

What v2 was given before the kill takes effect before the next life begins, or never: what takes
effect later than its client comes again cannot be found.
"""

from collections.abc import Awaitable, Callable
from random import Random

from tests.support.storm import Storm
from tests.support.storm_bridge import Line
from tests.support.storm_sandbox import LONE_INVOICE, Moment, Occasion, account_of

Kill = Callable[[Storm, Random], Awaitable[None]]


def _is_post(moment: Moment) -> Callable[[Occasion], bool]:
    return lambda occasion: occasion.moment is moment and occasion.method == "POST"


def _of(moment: Moment, invoice: int) -> Callable[[Occasion], bool]:
    return lambda occasion: occasion.moment is moment and occasion.content.invoice == invoice


def _soon(dice: Random) -> int:
    return dice.randrange(3, 15)


async def before_the_intent_is_on_record(storm: Storm, dice: Random) -> None:
    """A client's request is there; and of other writes, the answer, but not the outcome."""
    async with storm.moments.hold(_of(Moment.TOLD, LONE_INVOICE)) as told:
        await told.reached
        with storm.bridge.journal_locked():
            async with storm.moments.hold(_of(Moment.SENT, LONE_INVOICE)) as sent:
                told.let_go()
                await sent.reached
                await storm.bridge.kill()


async def between_the_record_and_the_post(storm: Storm, dice: Random) -> None:
    """v2 has refused it with 429, and the bridge waits to make it again."""
    async with storm.moments.hold(
        lambda occasion: occasion.moment is Moment.ANSWERED and occasion.fault == "throttle"
    ) as refused:
        await storm.sandbox.add_rule(fault="throttle", retry_after=1, method="POST", times=1)
        told_to_wait = account_of((await refused.reached).content.invoice)
        # The other account goes on: when its next call is there, the refusal has been read.
        async with storm.moments.hold(
            lambda other: (
                other.moment is Moment.ARRIVED and account_of(other.content.invoice) != told_to_wait
            )
        ) as later:
            refused.let_go()
            await later.reached
            await storm.bridge.kill()


async def with_a_post_that_gets_lost(storm: Storm, dice: Random) -> None:
    """It has left, and will never be served."""
    async with storm.moments.hold(_is_post(Moment.ARRIVED), skip=_soon(dice)) as arrived:
        await arrived.reached
        await storm.bridge.kill()
        arrived.let_go(lost=True)


async def with_a_post_under_way(storm: Storm, dice: Random) -> None:
    """It has left, and is served when nobody waits for its answer any more."""
    async with storm.moments.hold(_is_post(Moment.ARRIVED), skip=_soon(dice)) as arrived:
        await arrived.reached
        await storm.bridge.kill()


async def before_the_answer_is_read(storm: Storm, dice: Random) -> None:
    """v2 has served it."""
    async with storm.moments.hold(_is_post(Moment.APPLIED), skip=_soon(dice)) as applied:
        await applied.reached
        await storm.bridge.kill()


async def while_looking(storm: Storm, dice: Random) -> None:
    """The answer to a POST was lost already."""
    moment = dice.choice((Moment.ARRIVED, Moment.APPLIED))
    async with storm.moments.hold(
        lambda occasion: occasion.moment is moment and occasion.looks, skip=_soon(dice)
    ) as looking:
        await looking.reached
        await storm.bridge.kill()


async def before_the_client_is_told(storm: Storm, dice: Random) -> None:
    """The outcome is on record, but the client had hung up."""
    client = storm.client_alone_on(LONE_INVOICE)
    async with storm.moments.hold(
        lambda occasion: (
            _is_post(Moment.APPLIED)(occasion) and occasion.content.invoice == LONE_INVOICE
        )
    ) as applied:
        await applied.reached
        noticed = storm.bridge.told(_about("client_left", client.attempt))
        ended = storm.bridge.told(_about("client_gone", client.attempt))
        async with storm.moments.hold(_of(Moment.TRYING, LONE_INVOICE)):
            client.hang_up()
            await noticed
            applied.let_go()
            await ended
            await storm.bridge.kill()


def _about(event: str, request_id: str) -> Callable[[Line], bool]:
    return lambda line: line["event"] == event and line.get("request_id") == request_id


async def when_a_client_has_been_told(storm: Storm, dice: Random) -> None:
    """That it has been told may not be on record yet."""
    async with storm.moments.hold(
        lambda occasion: occasion.moment is Moment.TOLD, skip=_soon(dice)
    ) as told:
        await told.reached
        await storm.bridge.kill()


async def at_any_moment(storm: Storm, dice: Random) -> None:
    """Whatever happens then."""
    async with storm.moments.hold(lambda _: True, skip=dice.randrange(50, 300)) as reached:
        await reached.reached
        reached.let_go()
        await storm.bridge.kill()


KILLS: tuple[Kill, ...] = (
    before_the_intent_is_on_record,
    between_the_record_and_the_post,
    with_a_post_that_gets_lost,
    with_a_post_under_way,
    before_the_answer_is_read,
    while_looking,
    before_the_client_is_told,
    when_a_client_has_been_told,
    at_any_moment,
    at_any_moment,
)
