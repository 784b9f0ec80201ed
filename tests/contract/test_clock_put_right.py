"""A clock that is put right between a write whose answer is lost and its repetition.

Told the other way round, as only how v2's clock and the bridge's differ can be seen: the bridge's
goes on, and v2's says by so much another time.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from tests.support.held_upstream import HeldCall, HeldUpstream
from tests.support.legacy import LegacyClient
from tests.support.running import running_bridge
from tests.support.upstream import page
from tests.support.writing import SEND, getting, hello, outcomes, posting

FIVE_MINUTES = 300


def date(seconds: float) -> Mapping[str, str]:
    """Return what v2 tells the time by, so many seconds from what the bridge takes for now."""
    now = datetime.now(UTC) + timedelta(seconds=seconds)
    return {"Date": format_datetime(now, usegmt=True)}


async def read(held: HeldUpstream, client: LegacyClient, skew: float) -> None:
    reading = getting(client)
    (await held.next()).answer(page(), headers=date(skew))
    assert (await reading).status == 200


async def lose(held: HeldUpstream, client: LegacyClient) -> None:
    """Make a write whose answer is lost, and so is what the look would have found.

    What answers the look has a clock of its own.
    """
    answering = posting(client)
    (await held.next()).reset()
    (await held.next()).answer(b"", 500, date(-4 * FIVE_MINUTES))
    assert (await answering).status == 504


async def the_look(held: HeldUpstream) -> HeldCall:
    """Return the look; before it, a token that v2 has not accepted yet has to prove itself."""
    call = await held.next()
    if call.received.query == "per_page=1":
        call.answer(page(), headers=date(0))
        call = await held.next()
    assert call.received.query == "per_page=100"
    return call


async def test_five_minutes_fast_and_put_right_is_no_second_mail(
    held: HeldUpstream, journal: Path
) -> None:
    async with running_bridge(held.base_url, journal=journal) as client:
        await lose(held, client)
        again = posting(client)
        own, now = hello(seconds=-FIVE_MINUTES), date(-FIVE_MINUTES)
        (await the_look(held)).answer(page(own), headers=now)

        assert (await again).headers["Location"] == f"{SEND}/501"
        assert outcomes(journal) == ["done"]


async def test_five_minutes_slow_and_put_right_takes_no_others_message_for_it(
    held: HeldUpstream, journal: Path
) -> None:
    elsewhere = hello(id=500, seconds=FIVE_MINUTES - 120)
    async with running_bridge(held.base_url, journal=journal) as client:
        await lose(held, client)
        again = posting(client)
        (await the_look(held)).answer(page(elsewhere), headers=date(FIVE_MINUTES))
        post = await held.next()
        assert post.received.method == "POST"
        post.answer(hello(id=502), 201)

        assert (await again).headers["Location"] == f"{SEND}/502"


@pytest.mark.parametrize("skew", [-FIVE_MINUTES, FIVE_MINUTES])
async def test_nor_if_the_bridge_starts_again_meanwhile(
    held: HeldUpstream, journal: Path, skew: float
) -> None:
    async with running_bridge(held.base_url, journal=journal) as client:
        await read(held, client, skew)
        await lose(held, client)
    async with running_bridge(held.base_url, journal=journal) as client:
        await read(held, client, 0)
        again = posting(client)
        own, elsewhere = hello(seconds=skew), hello(id=500, seconds=skew - 120)
        (await the_look(held)).answer(page(own, elsewhere), headers=date(0))

        assert (await again).headers["Location"] == f"{SEND}/501"
    assert outcomes(journal) == ["done"]


async def test_what_v2_had_told_before_is_known_though_it_says_nothing_at_the_look(
    held: HeldUpstream, journal: Path
) -> None:
    async with running_bridge(held.base_url, journal=journal) as client:
        await read(held, client, 0)
        answering = posting(client)
        (await held.next()).reset()
        (await held.next()).answer(page(hello()), headers={"Date": "yesterday"})

        assert (await answering).status == 201


@pytest.mark.parametrize("skew", [-20 * 60, 20 * 60])
@pytest.mark.parametrize(
    ("status", "body"),
    [(403, b"<html>Forbidden</html>"), (403, b'{"message": "Forbidden"}'), (200, b"<html></html>")],
)
async def test_the_clock_of_a_proxy_that_answers_instead_of_v2_is_not_v2s(
    held: HeldUpstream, journal: Path, status: int, body: bytes, skew: float
) -> None:
    async with running_bridge(held.base_url, journal=journal) as client:
        await read(held, client, 0)
        reading = getting(client)
        (await held.next()).answer(body, status, date(skew))
        assert (await reading).status in {403, 502}
        answering = posting(client)
        (await held.next()).reset()
        own, elsewhere = hello(), hello(id=500, seconds=-120)
        # A `Date` that says nothing, so that what was known before has to do.
        (await held.next()).answer(page(own, elsewhere), headers={"Date": "yesterday"})

        assert (await answering).headers["Location"] == f"{SEND}/501"


@pytest.mark.parametrize("skew", [-20 * 60, 20 * 60])
async def test_what_the_look_itself_says_counts_before_what_was_said_earlier(
    held: HeldUpstream, journal: Path, skew: float
) -> None:
    async with running_bridge(held.base_url, journal=journal) as client:
        await read(held, client, skew)
        answering = posting(client)
        (await held.next()).reset()
        own, elsewhere = hello(), hello(id=500, seconds=-120)
        (await held.next()).answer(page(own, elsewhere), headers=date(0))

        assert (await answering).headers["Location"] == f"{SEND}/501"
