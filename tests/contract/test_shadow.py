"""Shadow: v1 and the bridge are both asked, one of them answers, and what differs is told."""

from pathlib import Path

import pytest

from bridge.record.log.policies import Side
from bridge.upstream.spare import SparePolicy
from tests.support.logged import Logged
from tests.support.mixed_reads import PAGES, PLANTED, SMALL, places, reads
from tests.support.shadows import compared, running_both, score_of

LIST, SHOW = "/invoice/1420/messages", "/invoice/1420/messages/409"
PAYMENT = "/invoices/1420/payments/45"

READS = [
    LIST, SHOW, "/invoices/1420/messages", "/invoices/1420/messages/403", PAYMENT,
    "/invoice/1420/payments", "/account/who_am_i", "/account/rate_limit_status",
    "/invoice/1420/messages/1", "/invoice/999999/payments",
]  # fmt: skip
"""Some that are there, and two that are not."""

PLENTY = SparePolicy(calls=100_000, left_alone=100_000)

both_sides = pytest.mark.parametrize("side", Side)


@both_sides
async def test_answers_that_say_the_same_are_equal(tmp_path: Path, log: Logged, side: Side) -> None:
    async with running_both(tmp_path, answered_by=side, spare=PLENTY) as both:
        answers = [await both.get(path) for path in READS]
        counts = await both.told(len(READS))

    assert [each.status for each in answers] == [200] * 8 + [404] * 2
    assert counts == {"equal": len(READS)}
    assert str(score_of(both.database)) == "10 of 10 equal"
    assert not log.lines("compared")  # at the level of info


@both_sides
async def test_a_difference_is_found_where_it_is(tmp_path: Path, log: Logged, side: Side) -> None:
    async with running_both(tmp_path, answered_by=side, spare=PLENTY) as both:
        await both.plant(fault="other-value", element="notes", value="planted", path=PAYMENT)
        for path in (SHOW, PAYMENT):
            await both.get(path, **{"X-Request-Id": f"of-{path[1:7]}"})
        counts = await both.told(2)

    assert counts == {"equal": 1, "different": 1}
    (place,) = score_of(both.database).places
    assert (place.place, place.calls) == ("/payment/notes", 1)
    assert place.route == "/invoices/{invoice_id}/payments/{payment_id}"
    assert [each.request_id for each in place.latest] == ["of-invoic"]
    (line,) = log.lines("compared")
    assert line["differences"] == {"/payment/notes": 1}
    assert (line["request_id"], line["result"]) == ("of-invoic", "different")
    assert line["v1_milliseconds"] > 0
    assert line["bridge_milliseconds"] > 0
    assert "planted" not in log.getvalue()


async def test_the_client_gets_the_side_that_its_policy_says(tmp_path: Path) -> None:
    async with running_both(tmp_path, answered_by=Side.V1, spare=PLENTY) as both:
        await both.plant(fault="other-value", element="notes", value="v1", path=PAYMENT)
        assert b"<notes>v1</notes>" in (await both.get(PAYMENT)).body
    (tmp_path / "other").mkdir()
    async with running_both(tmp_path / "other", answered_by=Side.BRIDGE, spare=PLENTY) as both:
        await both.plant(fault="other-value", element="notes", value="v1", path=PAYMENT)
        assert b"<notes>v1</notes>" not in (await both.get(PAYMENT)).body


async def test_every_difference_that_stays_is_found_and_no_other(tmp_path: Path) -> None:
    """tests/bench/bench_shadow.py has ten thousand of them."""
    async with running_both(tmp_path, spare=PLENTY) as both:
        for fault in PLANTED:
            await both.plant(**fault)
        asked = list(enumerate([*SMALL, *PAGES, *reads(60, share_of_pages=0.0)]))
        for number, path in asked:
            await both.get(path, **{"X-Request-Id": f"r-{number}"})
            await both.keep_up()
        counts = await both.told(len(asked))
        planted = places(await both.planted())

    assert set(counts) == {"equal", "different"}
    found = compared(both.database)
    assert {name: set(told) for name, told in found.items() if told} == planted


async def test_a_difference_that_does_not_stay_counts_for_none(tmp_path: Path) -> None:
    async with running_both(tmp_path, spare=PLENTY) as both:
        await both.plant(fault="other-value", element="notes", path=PAYMENT, times=1)
        await both.get(PAYMENT)
        assert await both.told(1) == {"equal": 1}
        assert len(await both.planted()) == 1
