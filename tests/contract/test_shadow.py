"""Shadow: v1 and the bridge are both asked, one of them answers, and what differs is told."""

import asyncio
from pathlib import Path

import aiohttp
import pytest

from bridge.record.log.policies import Policy
from bridge.server.shadow.asked import ShadowLimits
from bridge.side import Side
from bridge.upstream.spare import SpareLimits
from tests.support.legacy import BASIC
from tests.support.logged import Logged
from tests.support.mixed_reads import PAGES, PLANTED, SMALL, places, reads
from tests.support.shadows import (
    BOB,
    capture_all,
    compared,
    decide,
    exchange_of,
    running_both,
    score_of,
)

LIST, SHOW = "/invoice/1420/messages", "/invoice/1420/messages/409"
PAYMENT = "/invoices/1420/payments/45"

READS = [
    LIST, SHOW, "/invoices/1420/messages", "/invoices/1420/messages/403", PAYMENT,
    "/invoice/1420/payments", "/account/who_am_i", "/account/rate_limit_status",
    "/invoice/1420/messages/1", "/invoice/999999/payments",
]  # fmt: skip
"""Some that are there, and two that are not."""

PLENTY = SpareLimits(calls=100_000, left_alone=100_000)

OFTEN = ShadowLimits(v1_calls=100_000)

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
        asked = list(enumerate([*SMALL, PAGES[0], *reads(20, share_of_pages=0.0)]))
        for number, path in asked:
            await both.get(path, **{"X-Request-Id": f"r-{number}"})
            await both.keep_up()
        counts = await both.told(len(asked))
        planted = places(await both.planted())

    assert set(counts) == {"equal", "different"}
    found = compared(both.database)
    assert {name: told for name, told in found.items() if told} == planted


async def test_a_difference_that_does_not_stay_counts_for_none(tmp_path: Path) -> None:
    async with running_both(tmp_path, spare=PLENTY) as both:
        await both.plant(fault="other-value", element="notes", path=PAYMENT, times=1)
        await both.get(PAYMENT)
        assert await both.told(1) == {"equal": 1}
        assert len(await both.planted()) == 1


async def test_another_difference_at_the_second_look_says_that_something_changes(
    tmp_path: Path,
) -> None:
    async with running_both(tmp_path, spare=PLENTY) as both:
        await both.plant(fault="other-value", element="notes", path=PAYMENT, times=1)
        await both.plant(fault="other-value", element="recorded-by", path=PAYMENT)
        await both.get(PAYMENT)

        assert await both.told(1) == {"changing": 1}


class TestWhatIsLookedAt:
    @pytest.mark.parametrize("method", ["POST", "DELETE", "HEAD", "PUT"])
    async def test_only_gets(self, tmp_path: Path, method: str) -> None:
        async with running_both(tmp_path) as both:
            await both.client.call(method, SHOW, authorization=BOB, body=b"<x/>")
            await both.get(SHOW)

            assert await both.told(1) == {"equal": 1}
            assert [each["method"] for each in await both.v2_calls()] == ["GET"]

    async def test_only_what_the_bridge_translates(self, tmp_path: Path) -> None:
        async with running_both(tmp_path) as both:
            assert (await both.get("/clients")).status == 200
            await both.get(SHOW)

            assert await both.told(1) == {"equal": 1}

    async def test_none_where_the_share_is_nothing(self, tmp_path: Path) -> None:
        async with running_both(tmp_path, percent=0) as both:
            await both.get(SHOW)
            await both.keep_up(0)

            assert await both.counts() == {}
            assert await both.v2_calls() == []

    async def test_not_what_v1_has_refused_so_that_no_password_is_tried_twice(
        self, tmp_path: Path
    ) -> None:
        async with running_both(tmp_path) as both:
            for _ in range(12):
                assert (await both.client.get(SHOW, authorization=BASIC)).status == 401

            assert await both.told(12) == {"refused": 12}
            await both.get(SHOW)
            assert (await both.told(13))["equal"] == 1

    async def test_not_what_v1_has_failed_to_answer(self, tmp_path: Path) -> None:
        async with running_both(tmp_path) as both:
            await both.plant(fault="status", status=500, path=SHOW)
            assert (await both.get(SHOW)).status == 500

            assert await both.told(1) == {"failed": 1}
            assert await both.v2_calls() == []

    @both_sides
    async def test_not_what_was_turned_away_on_purpose(self, tmp_path: Path, side: Side) -> None:
        past = Policy(answered_by=side, shadow_percent=100, sunset=1)
        async with running_both(tmp_path, answered_by=side, spare=PLENTY, shadow=OFTEN) as both:
            decide(both.database, past)
            asked = 1
            while (await both.get(SHOW)).status != 410:
                asked += 1
                await both.told(asked - 1)
            counts = await both.told(asked)

            assert (counts["failed"], counts["different"]) == (1, 0)

    async def test_paths_that_an_operator_ignores_may_differ(self, tmp_path: Path) -> None:
        ignored = ("/payment/notes",)
        async with running_both(tmp_path, spare=PLENTY, shadow_ignored=ignored) as both:
            await both.plant(fault="other-value", element="notes", path=PAYMENT)
            await both.get(PAYMENT)

            assert await both.told(1) == {"equal": 1}

    async def test_an_answer_that_is_too_large_is_incomparable(self, tmp_path: Path) -> None:
        async with running_both(tmp_path) as both:
            await both.plant(fault="framed", by="chunks", bytes=9_000_000, path=SHOW)
            assert len((await both.get(SHOW)).body) == 9_000_000

            assert await both.told(1) == {"incomparable": 1}
            assert await both.v2_calls() == []
        (place,) = score_of(both.database).places
        assert place.place == "v1: too-large"


async def test_a_password_that_v1_takes_and_the_book_does_not_is_a_difference(
    tmp_path: Path,
) -> None:
    async with running_both(tmp_path, book_has="another password") as both:
        await both.get(SHOW)
        assert await both.told(1) == {"different": 1}

    (place,) = score_of(both.database).places
    assert place.place == "status (v1 200, bridge 401)"


async def test_and_shuts_nobody_out_of_the_bridge(tmp_path: Path) -> None:
    """Of one login, five wrong passwords bring the first pause."""
    async with running_both(tmp_path, book_has="another password") as both:
        for _ in range(8):
            await both.get(SHOW)
        counts = await both.told(8)
        assert counts["different"] <= 5
        decide(both.database, Policy(answered_by=Side.BRIDGE, shadow_percent=0))
        right = aiohttp.encode_basic_auth("bobpowell@example.com", "another password")
        await both.until_answered_by_the_bridge(SHOW, right)


class TestWhatV2IsAsked:
    async def test_no_more_than_clients_can_spare(self, tmp_path: Path) -> None:
        async with running_both(tmp_path) as both:
            for _ in range(12):
                await both.get(LIST)
            counts = await both.told(12)

            assert counts == {"equal": 5, "budget": 7}  # the other half is for second looks
            assert len(await both.v2_calls()) == 5

    async def test_every_page_counts(self, tmp_path: Path) -> None:
        async with running_both(tmp_path, spare=SpareLimits(calls=4)) as both:
            await both.get("/invoice/4500/messages")

            assert await both.told(1) == {"budget": 1}
            assert len(await both.v2_calls()) == 2

    async def test_v1_is_not_asked_for_what_clients_need_of_its_limit(self, tmp_path: Path) -> None:
        few = ShadowLimits(v1_calls=8)
        async with running_both(tmp_path, answered_by=Side.BRIDGE, shadow=few) as both:
            for _ in range(3):
                assert (await both.get("/clients")).status == 200  # v1 answers
            for _ in range(3):
                await both.get(SHOW)

            assert await both.told(3) == {"equal": 1, "budget": 2}

    async def test_a_v1_that_asks_to_wait_is_left_alone(self, tmp_path: Path) -> None:
        async with running_both(tmp_path, answered_by=Side.BRIDGE) as both:
            await both.plant(fault="status", status=503, retry_after=30, times=1)
            for number in range(1, 4):
                await both.get(SHOW)
                await both.told(number)

            assert await both.counts() == {"budget": 3}

    async def test_a_v2_that_fails_opens_no_breaker(self, tmp_path: Path) -> None:
        async with running_both(tmp_path, spare=PLENTY) as both:
            await both.trouble_v2(fault="status", status=500)
            for _ in range(8):
                assert (await both.get(LIST)).status == 200
            assert await both.told(8) == {"incomparable": 8}

            async with aiohttp.request("GET", f"{both.admin}/metrics") as answer:
                told = await answer.text()
            assert 'harvest_bridge_breakers{state="open"} 0.0' in told
        (place,) = score_of(both.database).places
        assert place.place == "bridge: status (v1 200, bridge 502)"

    async def test_its_answer_is_nothing_that_a_client_waits_for(self, tmp_path: Path) -> None:
        async with running_both(tmp_path) as both:
            await both.trouble_v2(fault="hang")
            for _ in range(6):
                assert (await both.get(LIST)).status == 200

            assert await both.counts() == {}  # they hang, or wait behind those that do


async def test_a_stop_waits_for_no_look(tmp_path: Path, log: Logged) -> None:
    began = asyncio.get_running_loop().time()
    async with running_both(tmp_path, stop_timeout=3000.0) as both:
        await both.trouble_v2(fault="hang")
        for _ in range(6):
            await both.get(LIST)

    assert asyncio.get_running_loop().time() - began < 1000  # and not a `call_timeout` either
    assert log.lines("stopped")


async def test_what_the_other_side_said_is_kept_where_the_call_is_captured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.server.service.READ_EVERY", 0.0)
    async with running_both(tmp_path, spare=PLENTY) as both:
        capture_all(both.database, raw=True)
        await both.until_captured()
        await both.plant(fault="other-value", element="notes", value="planted", path=PAYMENT)
        await both.get(PAYMENT, **{"X-Request-Id": "differs"})
        counts = await both.counts()
        while not counts["different"]:
            counts = await both.counts()

    exchange = exchange_of(both.database, "differs")
    assert exchange.answer is not None
    assert exchange.other is not None
    assert b"<notes>planted</notes>" in exchange.answer.body
    assert (exchange.other.side, exchange.other.status) == ("bridge", 200)
    assert b"<notes>" in exchange.other.answer.body
    assert b"planted" not in exchange.other.answer.body
