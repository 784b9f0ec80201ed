"""Writes whose answer is lost: what is asked of v2 then, and what the client is told."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import aiohttp
import pytest

from bridge.sandbox.app import create_sandbox
from bridge.sandbox.faults import read_rules
from tests.support.clocks import Leaps, until
from tests.support.held_upstream import HeldCall, HeldUpstream, running_held_upstream
from tests.support.legacy import BASIC, Answer, LegacyClient, assert_valid
from tests.support.running import running_app, running_bridge
from tests.support.upstream import page
from tests.support.writing import HELLO, SEND, caught_up, getting, hello, outcomes, posting, v2_time

NOT_DONE = (502, ["Harvest has not done this: it may be sent again."])
NOT_KNOWN = (504, ["Whether Harvest has done this is not known: look first."])
COLLEAGUE = aiohttp.encode_basic_auth("bob@example.com", "another-token")


@pytest.fixture(autouse=True)
async def leaps() -> Leaps:
    """First of all, for a gateway keeps the clock that it finds."""
    return Leaps()


@pytest.fixture
async def held(leaps: Leaps) -> AsyncIterator[HeldUpstream]:
    async with running_held_upstream() as upstream:
        yield upstream


@pytest.fixture
async def client(held: HeldUpstream, journal: Path) -> AsyncIterator[LegacyClient]:
    async with running_bridge(held.base_url, journal=journal) as legacy:
        yield legacy


async def the_post(held: HeldUpstream) -> HeldCall:
    """The next call, which is known to be the write."""
    call = await held.next()
    assert (call.received.method, call.received.path) == ("POST", "/v2/invoices/1420/messages")
    return call


async def the_look(held: HeldUpstream) -> HeldCall:
    """The next call, which is known to be the look; before it, a token may have to prove itself."""
    call = await held.next()
    if call.received.query == "per_page=1":
        call.answer(page())
        call = await held.next()
    received = call.received
    assert (received.method, received.path) == ("GET", "/v2/invoices/1420/messages")
    assert received.query == "per_page=100"
    return call


async def find_nothing(
    held: HeldUpstream, leaps: Leaps, answering: asyncio.Task[Answer], **found: Any
) -> None:
    """Let every look find nothing, or what is `found`, until the bridge gives up looking.

    The clock leaps when the bridge pauses, and not while it is at work.
    """
    turn = asyncio.sleep

    async def leap(seconds: float) -> None:
        leaps.ahead(seconds)
        await turn(0)

    with patch.object(asyncio, "sleep", leap):
        while not answering.done():
            look = await the_look(held)
            look.answer(page(hello(**found)) if found else page())
            await until(lambda look=look: answering.done() or look is not held.calls[-1])  # type: ignore[misc]


def posts(held: HeldUpstream) -> int:
    return sum(call.received.method == "POST" for call in held.calls)


def told(answer: Answer) -> tuple[int, list[str]]:
    return answer.status, answer.errors


async def leave_unknown(held: HeldUpstream, client: LegacyClient, _leaps: Leaps) -> None:
    """Make a write whose outcome stays unknown."""
    answer = posting(client)
    (await the_post(held)).reset()
    (await the_look(held)).answer(status=500)
    assert told(await answer) == NOT_KNOWN


async def leave_absent(held: HeldUpstream, client: LegacyClient, leaps: Leaps) -> None:
    """Make a write of which a look shows that it was not done."""
    answer = posting(client)
    (await the_post(held)).reset()
    await find_nothing(held, leaps, answer)
    assert told(await answer) == NOT_DONE


async def leave_undelivered(held: HeldUpstream, client: LegacyClient) -> None:
    """Make a write that is done, but whose client does not stay for the answer."""
    head = (
        f"POST {SEND} HTTP/1.1\r\nHost: a\r\nAuthorization: {COLLEAGUE}\r\n"
        f"Content-Type: application/xml\r\nContent-Length: {len(HELLO)}\r\n\r\n"
    )
    async with client.connection() as (_, writer):
        writer.write(head.encode() + HELLO)
        post = await the_post(held)
    await caught_up(client)
    post.answer(hello(), 201)


LOSSES: dict[str, Callable[[HeldCall, Leaps], None]] = {
    "broken connection": lambda call, _: call.reset(),
    "too late": lambda _, leaps: leaps.ahead(21),
    "502": lambda call, _: call.answer(status=502),
}
"""One of each kind; tests/resources/test_outcomes.py has them all, with all that can follow."""


class TestTheLook:
    @pytest.mark.parametrize("loss", LOSSES)
    async def test_that_finds_it_makes_the_answer_what_it_would_have_been(
        self, held: HeldUpstream, client: LegacyClient, leaps: Leaps, journal: Path, loss: str
    ) -> None:
        answering = posting(client)
        LOSSES[loss](await the_post(held), leaps)
        (await the_look(held)).answer(page(hello()))
        answer = await answering

        assert (answer.status, answer.headers["Location"]) == (201, f"{SEND}/501")
        assert_valid(answer.body, "invoice-messages/classic-item")
        assert (answer.texts("id"), answer.texts("body")) == (
            ["501"],
            ["Dear Jane,\r\n\r\npay me."],
        )
        assert outcomes(journal) == ["done"]
        assert len(held.calls) == 2

    @pytest.mark.parametrize("loss", LOSSES)
    async def test_that_does_not_find_it_says_so(
        self, held: HeldUpstream, client: LegacyClient, leaps: Leaps, journal: Path, loss: str
    ) -> None:
        answering = posting(client)
        LOSSES[loss](await the_post(held), leaps)
        await find_nothing(held, leaps, answering)

        assert told(await answering) == NOT_DONE
        assert outcomes(journal) == ["absent"]
        assert posts(held) == 1

    async def test_finds_what_v2_was_still_at_work_on(
        self, held: HeldUpstream, client: LegacyClient, leaps: Leaps, journal: Path
    ) -> None:
        answering = posting(client)
        (await the_post(held)).reset()
        for seconds in (1, 2, 4):
            (await the_look(held)).answer(page())
            await caught_up(client)
            assert not answering.done()
            leaps.ahead(seconds)
        (await the_look(held)).answer(page(hello()))

        assert (await answering).status == 201
        assert outcomes(journal) == ["done"]

    @pytest.mark.parametrize(
        "answer",
        [
            pytest.param((b"", 500), id="500"),
            pytest.param((b"<html>", 200), id="HTML"),
        ],
    )
    async def test_that_fails_leaves_it_unknown(
        self, held: HeldUpstream, client: LegacyClient, journal: Path, answer: tuple[bytes, int]
    ) -> None:
        answering = posting(client)
        (await the_post(held)).reset()
        (await the_look(held)).answer(*answer)

        assert told(await answering) == NOT_KNOWN
        assert outcomes(journal) == ["unknown"]
        assert posts(held) == 1

    async def test_that_gets_no_answer_in_time_leaves_it_unknown(
        self, held: HeldUpstream, client: LegacyClient, leaps: Leaps, journal: Path
    ) -> None:
        answering = posting(client)
        await the_post(held)
        leaps.ahead(21)
        look = await the_look(held)
        leaps.ahead(10)

        assert told(await answering) == NOT_KNOWN
        await look.until_left()
        assert outcomes(journal) == ["unknown"]

    async def test_that_breaks_is_made_again(
        self, held: HeldUpstream, client: LegacyClient
    ) -> None:
        answering = posting(client)
        (await the_post(held)).reset()
        (await the_look(held)).reset()
        (await the_look(held)).answer(page(hello()))

        assert (await answering).status == 201

    async def test_passes_a_breaker_that_the_loss_has_opened(
        self, held: HeldUpstream, client: LegacyClient
    ) -> None:
        for number in range(4):
            answering = posting(client, f"/invoice/{number + 1}/messages")
            (await held.next()).answer(status=500)
            (await held.next()).answer(page(hello(id=number + 1)))
            assert (await answering).status == 201
        answering = posting(client)
        (await the_post(held)).answer(status=500)
        (await the_look(held)).answer(page(hello()))

        assert (await answering).status == 201

    @pytest.mark.parametrize(
        ("segment", "event"),
        [
            ("mark_as_sent", "send"),
            ("mark_as_closed", "close"),
            ("re_open", "re-open"),
            ("mark_as_draft", "draft"),
        ],
    )
    async def test_finds_changes_of_state_by_their_event(
        self, held: HeldUpstream, client: LegacyClient, segment: str, event: str
    ) -> None:
        answering = posting(client, f"/invoices/1420/messages/{segment}", b"")
        (await the_post(held)).reset()
        found = hello(id=777, event_type=event, recipients=[])
        (await the_look(held)).answer(page(hello(recipients=[]), found))
        answer = await answering

        assert answer.status == 200
        assert answer.headers["Location"] == "/invoices/1420/messages/777"
        assert_valid(answer.body, "invoice-messages/final-item")

    @pytest.mark.parametrize(
        "fields",
        [
            pytest.param({}, id="nothing"),
            pytest.param({"body": "Dear Jane,\n\npay  me.\n"}, id="white space in the body"),
            pytest.param({"subject": " Hello "}, id="white space in the subject"),
            pytest.param(
                {"recipients": [{"email": "BOB@doe.org"}, {"name": "J.", "email": "jane@doe.org"}]},
                id="names, order and case of recipients",
            ),
            pytest.param(
                {
                    "recipients": [
                        *hello()["recipients"],
                        {"name": "Bob Powell", "email": "bobpowell@example.com"},
                    ]
                },
                id="the sender's own copy",
            ),
            pytest.param(
                {"recipients": [*hello()["recipients"], {"email": "archive@doe.org"}]},
                id="an account's standing copy",
            ),
            pytest.param({"event_type": "send"}, id="the event, for it has sent a draft"),
            pytest.param(
                {"attach_pdf": False, "thank_you": True, "reminder": True}, id="what is not asked"
            ),
            pytest.param({"seconds": -20}, id="clocks of v2 that differ a little"),
        ],
    )
    async def test_takes_a_message_for_it_that_differs_by(
        self, held: HeldUpstream, client: LegacyClient, fields: dict[str, Any]
    ) -> None:
        answering = posting(client)
        (await the_post(held)).reset()
        (await the_look(held)).answer(page(hello(**fields)))

        assert (await answering).status == 201

    @pytest.mark.parametrize(
        "fields",
        [
            pytest.param({"subject": "Hello!"}, id="subject"),
            pytest.param({"subject": None}, id="no subject"),
            pytest.param({"body": "Dear Jane, pay me"}, id="body"),
            pytest.param({"body": None}, id="no body"),
            pytest.param({"recipients": [{"email": "jane@doe.org"}]}, id="a recipient less"),
            pytest.param(
                {"recipients": [hello()["recipients"][0], {"email": "eve@doe.org"}]},
                id="another recipient",
            ),
            pytest.param({"recipients": None}, id="no recipients"),
            pytest.param({"event_type": "close"}, id="event"),
            pytest.param({"seconds": -120}, id="time"),
        ],
    )
    async def test_takes_no_message_for_it_that_differs_by(
        self, held: HeldUpstream, client: LegacyClient, leaps: Leaps, fields: dict[str, Any]
    ) -> None:
        answering = posting(client)
        (await the_post(held)).reset()
        await find_nothing(held, leaps, answering, **fields)

        assert told(await answering) == NOT_DONE

    async def test_finds_a_mail_that_the_account_has_sent_a_standing_copy_of(
        self, journal: Path
    ) -> None:
        lost = read_rules(b'{"fault": "reset", "applied": true, "method": "POST", "times": 1}')
        v2 = create_sandbox(standing_copy="archive@doe.org", faults=lost)
        async with (
            running_app(v2) as url,
            running_bridge(f"{url}/v2", journal=journal) as client,
        ):
            answer = await posting(client)
            listed = await client.get(SEND)

        assert answer.status == 201
        assert answer.texts("full-recipient-list") == [
            "Jane <jane@doe.org>, bob@doe.org, archive@doe.org"
        ]
        assert listed.texts("id")[0] == answer.texts("id")[0]
        assert len(listed.texts("id")) == 3
        assert outcomes(journal) == ["done"]

    async def test_does_not_compare_what_was_not_given(
        self, held: HeldUpstream, client: LegacyClient
    ) -> None:
        body = b"<invoice-message><recipients>jane@doe.org</recipients></invoice-message>"
        answering = posting(client, body=body)
        (await the_post(held)).reset()
        found = hello(recipients=[{"email": "jane@doe.org"}], subject="Invoice #1", body="Pay!")
        (await the_look(held)).answer(page(found))

        assert (await answering).status == 201

    @pytest.mark.parametrize("ahead", [3600, -3600])
    @pytest.mark.parametrize(("age", "found"), [(20, 501), (120, 502)])
    async def test_goes_by_the_clock_of_v2(
        self, held: HeldUpstream, client: LegacyClient, ahead: int, age: int, found: int
    ) -> None:
        answering = posting(client)
        (await the_post(held)).reset()
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=ahead), usegmt=True)
        newest, older = v2_time(ahead), v2_time(ahead - age)
        (await the_look(held)).answer(
            page(hello(id=502, created_at=newest), hello(id=501, created_at=older)),
            headers={"Date": date},
        )

        assert (await answering).headers["Location"] == f"{SEND}/{found}"

    @pytest.mark.parametrize(
        "date",
        [
            "",
            "yesterday",
            "Thu, 1 Jan 1970 00:00:00 GMT",
            "Mon, 1 Jan 99999999999999999999 00:00:00 GMT",
            "Mon, 1 Jan 2020 00:00:00 +99999999999999",
        ],
    )
    async def test_fails_where_v2_does_not_say_what_time_it_is(
        self, held: HeldUpstream, client: LegacyClient, journal: Path, date: str
    ) -> None:
        """What is new cannot be told then, and "not done" would be an invitation to send again."""
        answering = posting(client)
        (await the_post(held)).reset()
        (await the_look(held)).answer(page(hello()), headers={"Date": date})

        assert (await answering).status == 504
        assert outcomes(journal) == ["unknown"]

    async def test_goes_on_to_the_page_that_has_it(
        self, held: HeldUpstream, client: LegacyClient
    ) -> None:
        answering = posting(client)
        (await the_post(held)).reset()
        link = f"{held.base_url}/invoices/1420/messages?cursor=2&per_page=100"
        (await the_look(held)).answer(page(hello(id=9, subject="Another"), following=link))
        second = await held.next()
        assert second.received.query == "cursor=2&per_page=100"
        second.answer(page(hello()))

        assert (await answering).status == 201

    async def test_stops_at_the_first_message_that_is_older(
        self, held: HeldUpstream, client: LegacyClient
    ) -> None:
        answering = posting(client)
        (await the_post(held)).reset()
        link = f"{held.base_url}/invoices/1420/messages?cursor=2&per_page=100"
        older = hello(id=500, seconds=-120)
        (await the_look(held)).answer(page(hello(), older, hello(id=499), following=link))

        assert (await answering).headers["Location"] == f"{SEND}/501"
        assert len(held.calls) == 2

    async def test_takes_the_oldest_of_several(
        self, held: HeldUpstream, client: LegacyClient
    ) -> None:
        answering = posting(client)
        (await the_post(held)).reset()
        (await the_look(held)).answer(page(hello(id=503), hello(id=502)))

        assert (await answering).headers["Location"] == f"{SEND}/502"

    async def test_takes_no_message_that_another_write_has_made(
        self, held: HeldUpstream, client: LegacyClient, leaps: Leaps
    ) -> None:
        answering = posting(client)
        (await the_post(held)).answer(hello(), 201)
        assert (await answering).status == 201

        answering = posting(client)
        (await the_post(held)).reset()
        await find_nothing(held, leaps, answering, id=501)
        assert told(await answering) == NOT_DONE

        answering = posting(client)
        (await the_look(held)).answer(page(hello(id=502), hello()))
        assert (await answering).headers["Location"] == f"{SEND}/502"


class TestNothingWasSent:
    async def test_where_v2_refuses_there_is_no_look(
        self, held: HeldUpstream, client: LegacyClient, journal: Path
    ) -> None:
        answering = posting(client)
        (await the_post(held)).answer(status=422)

        assert (await answering).status == 400
        assert outcomes(journal) == ["not-done"]
        assert len(held.calls) == 1

    async def test_where_v2_cannot_be_reached_there_is_no_look(self, journal: Path) -> None:
        async with running_bridge("http://127.0.0.1:1/v2", journal=journal) as client:
            answer = await posting(client)

        assert told(answer) == (502, ["Harvest could not be reached."])
        assert outcomes(journal) == ["not-done"]

    async def test_where_the_journal_cannot_be_written(
        self, held: HeldUpstream, client: LegacyClient, journal: Path
    ) -> None:
        moved = journal.with_name("moved")
        os.rename(journal, moved)  # noqa: PTH104 - in no time
        answer = await posting(client)

        assert answer.status == 503
        assert answer.errors == ["The bridge cannot keep its journal: nothing was sent."]
        assert int(answer.headers["Retry-After"]) >= 1
        assert held.calls == []

        os.rename(moved, journal)  # noqa: PTH104
        answering = posting(client)
        (await the_post(held)).answer(hello(), 201)
        assert (await answering).status == 201

    @pytest.mark.parametrize("size", [0, 4096])
    async def test_where_the_journal_has_been_cut_behind_its_back(
        self, held: HeldUpstream, client: LegacyClient, journal: Path, size: int
    ) -> None:
        os.truncate(journal, size)
        for _ in range(2):
            answer = await posting(client)

            assert answer.status == 503
            assert answer.errors == ["The bridge cannot keep its journal: nothing was sent."]
        assert held.calls == []

    async def test_where_an_earlier_write_to_the_invoice_takes_too_long(
        self, held: HeldUpstream, client: LegacyClient, leaps: Leaps
    ) -> None:
        first = posting(client)
        post = await the_post(held)
        second = posting(client, body=b"<invoice-message><body>2</body></invoice-message>")
        await caught_up(client)
        leaps.ahead(16)
        answer = await second

        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) >= 1
        assert posts(held) == 1
        post.answer(hello(), 201)
        assert (await first).status == 201

    async def test_where_too_little_time_is_left_after_a_look(
        self, held: HeldUpstream, client: LegacyClient, leaps: Leaps
    ) -> None:
        await leave_unknown(held, client, leaps)
        answering = posting(client)
        look = await the_look(held)
        leaps.ahead(16)
        look.answer(page())
        answer = await answering

        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) >= 1
        assert posts(held) == 1

    async def test_a_429_is_no_unknown_outcome(
        self, held: HeldUpstream, client: LegacyClient, journal: Path
    ) -> None:
        answering = posting(client)
        (await the_post(held)).answer(status=429, headers={"Retry-After": "9"})
        answer = await answering

        assert (answer.status, answer.headers["Retry-After"]) == (503, "9")
        assert outcomes(journal) == ["not-done"]
        assert len(held.calls) == 1


class TestTheRecord:
    async def test_is_made_before_the_write_leaves(
        self, held: HeldUpstream, client: LegacyClient, journal: Path
    ) -> None:
        answering = posting(client)
        post = await the_post(held)
        assert outcomes(journal) == ["open"]
        post.answer(hello(), 201)
        await answering

        assert outcomes(journal) == ["done"]

    async def test_is_made_of_changes_of_state_too(
        self, held: HeldUpstream, client: LegacyClient, journal: Path
    ) -> None:
        answering = posting(client, f"{SEND}/mark_as_sent", b"")
        (await the_post(held)).answer(hello(event_type="send"), 201)
        await answering

        assert outcomes(journal) == ["done"]


class TestTheSameAgain:
    async def test_finds_what_was_unknown_and_sends_nothing(
        self, held: HeldUpstream, client: LegacyClient, leaps: Leaps, journal: Path
    ) -> None:
        await leave_unknown(held, client, leaps)
        answering = posting(client)
        (await the_look(held)).answer(page(hello()))
        answer = await answering

        assert (answer.status, answer.headers["Location"]) == (201, f"{SEND}/501")
        assert posts(held) == 1
        assert outcomes(journal) == ["done"]

    async def test_is_sent_where_the_look_finds_nothing(
        self, held: HeldUpstream, client: LegacyClient, leaps: Leaps, journal: Path
    ) -> None:
        await leave_absent(held, client, leaps)
        answering = posting(client)
        (await the_look(held)).answer(page())
        (await the_post(held)).answer(hello(), 201)

        assert (await answering).status == 201
        assert posts(held) == 2
        assert outcomes(journal) == ["done"]

    async def test_is_shown_what_was_done_though_its_client_had_left(
        self, held: HeldUpstream, client: LegacyClient
    ) -> None:
        await leave_undelivered(held, client)
        answering = posting(client)
        # Long ago, and changed since: it is known by its id.
        (await the_look(held)).answer(
            page(hello(id=502), hello(subject="Edited", created_at="2017-08-23T22:15:06Z"))
        )
        answer = await answering

        assert (answer.status, answer.headers["Location"]) == (201, f"{SEND}/501")
        assert posts(held) == 1

    async def test_is_404_where_what_was_done_is_gone(
        self, held: HeldUpstream, client: LegacyClient
    ) -> None:
        await leave_undelivered(held, client)
        answering = posting(client)
        (await the_look(held)).answer(page(hello(id=502)))

        assert (await answering).status == 404
        assert posts(held) == 1

    async def test_is_a_new_write_once_the_answer_was_handed_over(
        self, held: HeldUpstream, client: LegacyClient, journal: Path
    ) -> None:
        for made_id in (501, 502):
            answering = posting(client)
            (await the_post(held)).answer(hello(id=made_id), 201)
            assert (await answering).headers["Location"] == f"{SEND}/{made_id}"

        assert outcomes(journal) == ["done", "done"]

    async def test_is_a_new_write_once_what_a_look_found_was_handed_over(
        self, held: HeldUpstream, client: LegacyClient
    ) -> None:
        answering = posting(client)
        (await the_post(held)).reset()
        (await the_look(held)).answer(page(hello()))
        assert (await answering).status == 201

        answering = posting(client)
        (await the_post(held)).answer(hello(id=502), 201)
        assert (await answering).headers["Location"] == f"{SEND}/502"

    async def test_is_the_same_with_any_credential_of_the_account(
        self, held: HeldUpstream, client: LegacyClient, leaps: Leaps
    ) -> None:
        await leave_unknown(held, client, leaps)
        answering = posting(client, authorization=COLLEAGUE)
        look = await the_look(held)
        assert look.token == "another-token"
        look.answer(page(hello()))

        assert (await answering).status == 201

    @pytest.mark.parametrize("path", [SEND, "/invoices/1420/messages"])
    async def test_is_the_same_in_either_dialect(
        self, held: HeldUpstream, client: LegacyClient, leaps: Leaps, path: str
    ) -> None:
        await leave_unknown(held, client, leaps)
        answering = posting(client, path)
        (await the_look(held)).answer(page(hello()))

        assert (await answering).headers["Location"] == f"{path}/501"

    @pytest.mark.parametrize(
        ("path", "body"),
        [
            pytest.param("/invoice/7/messages", HELLO, id="invoice"),
            pytest.param(SEND, HELLO.replace(b"Hello", b"Hi"), id="subject"),
            pytest.param(SEND, HELLO.replace(b"Jane &", b"J. &"), id="name of a recipient"),
            pytest.param(f"{SEND}/mark_as_sent", b"", id="change of state"),
        ],
    )
    async def test_is_another_write_with_another(
        self, held: HeldUpstream, client: LegacyClient, leaps: Leaps, path: str, body: bytes
    ) -> None:
        await leave_unknown(held, client, leaps)
        answering = posting(client, path, body)
        call = await held.next()
        assert call.received.method == "POST"
        call.answer(hello(), 201)

        assert (await answering).status in {200, 201}

    async def test_is_another_write_after_the_window(
        self, held: HeldUpstream, leaps: Leaps, journal: Path
    ) -> None:
        async with running_bridge(held.base_url, journal=journal, repeat_window=0) as client:
            await leave_unknown(held, client, leaps)
            answering = posting(client)
            (await the_post(held)).answer(hello(), 201)
            assert (await answering).status == 201

        assert outcomes(journal) == ["unknown", "done"]

    async def test_is_the_same_after_a_restart(
        self, held: HeldUpstream, leaps: Leaps, journal: Path
    ) -> None:
        async with running_bridge(held.base_url, journal=journal) as client:
            await leave_unknown(held, client, leaps)
        async with running_bridge(held.base_url, journal=journal) as client:
            answering = posting(client)
            (await the_look(held)).answer(page(hello()))
            assert (await answering).status == 201

        assert posts(held) == 1

    async def test_looks_first_after_a_look_that_was_no_use_to_the_bridge(
        self, held: HeldUpstream, client: LegacyClient, journal: Path
    ) -> None:
        """No write stays open: another one like it would be sent without a look."""
        answering = posting(client)
        (await the_post(held)).reset()
        date = "Mon, 1 Jan 99999999999999999999 00:00:00 GMT"
        (await the_look(held)).answer(page(hello()), headers={"Date": date})
        assert (await answering).status == 504
        again = posting(client)
        (await the_look(held)).answer(page(hello()))

        assert (await again).status == 201
        assert (outcomes(journal), posts(held)) == (["done"], 1)


class TestTurns:
    async def test_writes_to_one_invoice_are_made_one_after_another(
        self, held: HeldUpstream, client: LegacyClient
    ) -> None:
        bodies = [b"<invoice-message><body>%d</body></invoice-message>" % n for n in range(3)]
        answering = [posting(client, body=bodies[0])]
        call = await the_post(held)
        for body in bodies[1:]:
            answering.append(posting(client, body=body))
            await caught_up(client)
        for number in range(3):
            assert json.loads(call.received.body) == {"body": str(number)}
            assert posts(held) == number + 1
            call.answer(hello(id=number + 1), 201)
            if number < 2:
                call = await the_post(held)

        assert [(await each).status for each in answering] == [201] * 3

    async def test_the_look_belongs_to_the_turn(
        self, held: HeldUpstream, client: LegacyClient
    ) -> None:
        """An equal write waits until it is known what came of the first."""
        first = posting(client)
        post = await the_post(held)
        second = posting(client)
        await caught_up(client)
        post.reset()
        look = await the_look(held)
        await caught_up(client)
        assert len(held.calls) == 2
        look.answer(page(hello()))
        assert (await first).headers["Location"] == f"{SEND}/501"

        (await the_post(held)).answer(hello(id=502), 201)  # its client knew of no trouble
        assert (await second).headers["Location"] == f"{SEND}/502"

    async def test_writes_to_different_invoices_do_not_wait(
        self, held: HeldUpstream, client: LegacyClient
    ) -> None:
        answering = [posting(client, f"/invoice/{number}/messages") for number in (1, 2, 3)]
        calls = [await held.next() for _ in answering]
        for number, call in enumerate(calls):
            call.answer(hello(id=number + 1), 201)

        assert {(await each).status for each in answering} == {201}

    async def test_reads_do_not_wait_for_writes(
        self, held: HeldUpstream, client: LegacyClient
    ) -> None:
        writing = posting(client)
        post = await the_post(held)
        reading = asyncio.create_task(client.get(SEND))
        (await held.next()).answer(page())
        assert (await reading).status == 200
        post.answer(hello(), 201)
        assert (await writing).status == 201

    async def test_one_that_does_not_come_in_time_is_503_and_nothing_is_sent(
        self, held: HeldUpstream, client: LegacyClient, leaps: Leaps
    ) -> None:
        first = posting(client)
        post = await the_post(held)
        second = posting(client)
        await caught_up(client)
        leaps.ahead(16)

        late = await second
        assert (late.status, late.headers["Retry-After"]) == (503, "1")
        post.answer(hello(), 201)
        assert (await first).status == 201
        assert posts(held) == 1

    async def test_strangers_do_not_keep_the_account_from_its_invoice(
        self, held: HeldUpstream, client: LegacyClient
    ) -> None:
        """Until v2 has accepted a token, its writes wait for those with the same token only."""
        another = aiohttp.encode_basic_auth("any@example.com", "another-token")
        strange = posting(client, authorization=another)
        strangers = await the_post(held)
        own = posting(client)
        (await the_post(held)).answer(hello(id=502), 201)
        assert (await own).status == 201

        strangers.answer(hello(id=503), 201)
        assert (await strange).status == 201

    async def test_tokens_that_v2_has_accepted_wait_for_each_other(
        self, held: HeldUpstream, client: LegacyClient
    ) -> None:
        another = aiohttp.encode_basic_auth("any@example.com", "another-token")
        for authorization in (another, BASIC):
            known = getting(client, authorization=authorization)
            (await held.next()).answer(page())
            assert (await known).status == 200
        first = posting(client)
        post = await the_post(held)
        second = posting(client, authorization=another)
        await caught_up(client)

        assert posts(held) == 1
        post.answer(hello(id=502), 201)
        assert (await first).status == 201
        (await the_post(held)).answer(hello(id=503), 201)
        assert (await second).status == 201

    async def test_strangers_do_not_take_up_what_others_have_asked(
        self, held: HeldUpstream, client: LegacyClient, journal: Path, leaps: Leaps
    ) -> None:
        """Or a write would be open to them while its own client sends it again."""
        await leave_unknown(held, client, leaps)
        made_up = aiohttp.encode_basic_auth("any@example.com", "made-up")
        strange = posting(client, authorization=made_up)
        proof = await held.next()
        assert (proof.received.method, proof.received.query) == ("GET", "per_page=1")
        assert outcomes(journal) == ["unknown"]

        again = posting(client)
        (await the_look(held)).answer(page(hello()))
        assert (await again).status == 201
        proof.answer(status=401)
        assert (await strange).status == 401
        assert (outcomes(journal), posts(held)) == (["done"], 1)

    async def test_a_change_of_state_that_was_undone_since_is_a_new_one(
        self, held: HeldUpstream, client: LegacyClient
    ) -> None:
        close, re_open = f"{SEND}/mark_as_closed", f"{SEND}/re_open"
        closing = posting(client, close, b"")
        (await the_post(held)).reset()
        (await the_look(held)).answer(status=500)
        assert (await closing).status == 504
        opening = posting(client, re_open, b"")
        (await the_post(held)).answer(hello(id=502, event_type="re-open"), 201)
        assert (await opening).status == 200

        again = posting(client, close, b"")
        (await the_post(held)).answer(hello(id=503, event_type="close"), 201)

        assert (await again).headers["Location"] == f"{SEND}/503"
