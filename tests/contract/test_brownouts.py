"""Calls that are turned away on purpose, over real sockets: what their clients read, what is done,
and when it is over. The clock is the test's own.
"""

import json
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bridge.record.log.brownouts import Brownout, Brownouts
from bridge.record.log.events import ALL
from bridge.record.log.policies import NEVER
from bridge.record.log.reports import Log
from bridge.record.log.times import HOUR
from bridge.server.service import Service
from tests.support.clocks import HandClock, until
from tests.support.held_upstream import HeldCall, HeldUpstream
from tests.support.legacy import Answer, LegacyClient
from tests.support.logged import Logged
from tests.support.origins import running_origin
from tests.support.running import LOOPBACK, running_service
from tests.support.upstream import page
from tests.support.writing import HELLO, SEND, XML, getting, hello, outcomes, posting

LIST = "/invoice/1420/messages"

TUESDAY = datetime(2027, 3, 2, 10, 5, tzinfo=UTC)
"""In the middle of `WEEKLY`."""
WEEKLY = "Tue 10:00-10:15"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> HandClock:
    """What the bridge takes for the time by which brownouts are judged."""
    clock = HandClock()
    clock.now = TUESDAY.timestamp()
    monkeypatch.setattr("bridge.server.service.Brownouts", partial(Brownouts, clock, clock))
    return clock


@pytest.fixture
def database(tmp_path: Path) -> str:
    return str(tmp_path / "log.sqlite")


@pytest.fixture
def table(database: str) -> Iterator[Log]:
    """The database as the commands see it: to be asked once a bridge has been there."""
    log: list[Log] = []

    class Late:
        def __getattr__(self, name: str) -> Any:
            if not log:
                log.append(Log.open(database))
            return getattr(log[0], name)

    yield Late()  # type: ignore[misc]
    for each in log:
        each.close()


Run = Any


@pytest.fixture
def run(clock: HandClock, log: Logged, held: HeldUpstream, journal: Path, database: str) -> Run:
    """Run a bridge to the upstream."""

    @asynccontextmanager
    async def run(**settings: Any) -> AsyncIterator[tuple[Service, LegacyClient]]:
        given = {"journal": journal, "database": database, "account_id": 1000, **settings}
        async with running_service(held.base_url, **given) as both:
            yield both

    return run


def once(clock: HandClock, whose: str = ALL, hours: int = 1, **more: Any) -> Brownout:
    now = int(clock() * 1000)
    return Brownout(integration=whose, since=now, until=now + hours * HOUR, **more)


def begin(table: Log, clock: HandClock, brownout: Brownout) -> None:
    table.decisions.put_brownout(brownout, int(clock() * 1000))


async def until_on(log: Logged, times: int = 1) -> None:
    await until(lambda: len(log.lines("brownout_on")) >= times)


async def served(client: LegacyClient, held: HeldUpstream, path: str = LIST) -> Answer:
    """Call, and have v2 answer."""
    calling = getting(client, path)
    (await held.next()).answer(page())
    return await calling


async def integration_of(client: LegacyClient, held: HeldUpstream, log: Logged) -> str:
    """Whose the client's calls are."""
    await served(client, held)
    await until(lambda: log.lines("legacy_call"))
    return str(log.lines("legacy_call")[-1]["integration"])


def assert_browned_out(answer: Answer, seconds: int, spread: int = 30) -> None:
    assert answer.status == 503
    assert seconds <= int(answer.headers["Retry-After"]) <= seconds + spread
    (sentence,) = answer.errors
    assert sentence.startswith("Turned away on purpose until ")
    assert "and nothing was done." in sentence


# What a client reads.


async def test_a_call_is_503_with_when_to_come_again_and_where_to_go(
    run: Run, held: HeldUpstream
) -> None:
    async with run(brownout=WEEKLY) as (_, client):
        answer = await client.get(LIST)

    assert_browned_out(answer, 600)
    (sentence,) = answer.errors
    assert sentence == (
        "Turned away on purpose until 2027-03-02 10:15 UTC, and nothing was done. Harvest is "
        "switching API v1 off. Call v2: https://help.getharvest.com/api-v2/"
    )
    assert held.calls == []


async def test_where_to_go_is_said_in_the_operators_words(run: Run) -> None:
    async with run(brownout=WEEKLY, brownout_message="Ask <Jane> & Bob.") as (_, client):
        answer = await client.get(LIST)

    (sentence,) = answer.errors
    assert sentence.endswith("nothing was done. Ask <Jane> & Bob.")


async def test_of_a_long_one_a_client_is_told_to_come_again_in_an_hour(
    run: Run, table: Log, clock: HandClock, log: Logged
) -> None:
    async with run() as (_, client):
        begin(table, clock, once(clock, hours=5))
        await until_on(log)

        assert (await client.get(LIST)).headers["Retry-After"] == "3600"


async def test_it_is_over_when_it_said(run: Run, held: HeldUpstream, clock: HandClock) -> None:
    async with run(brownout=WEEKLY) as (_, client):
        clock.advance(599)
        assert_browned_out(await client.get(LIST), 1, spread=0)
        clock.advance(1)

        assert (await served(client, held)).status == 200


@pytest.mark.parametrize("path", ["/account/rate_limit_status", "/account/who_am_i"])
async def test_the_account_is_a_read(
    run: Run, table: Log, clock: HandClock, log: Logged, path: str
) -> None:
    async with run() as (_, client):
        begin(table, clock, once(clock, calls="reads"))
        await until_on(log)

        assert_browned_out(await client.get(path), 3600, spread=0)


async def test_chosen_calls_are_turned_away_and_others_are_not(
    run: Run, table: Log, clock: HandClock, log: Logged, held: HeldUpstream
) -> None:
    async with run() as (_, client):
        begin(table, clock, once(clock, calls="writes"))
        await until_on(log)

        assert (await posting(client)).status == 503
        assert (await served(client, held)).status == 200


async def test_an_integrations_brownout_is_nobody_elses(
    run: Run, table: Log, clock: HandClock, log: Logged, held: HeldUpstream
) -> None:
    async with run() as (_, client):
        whose = await integration_of(client, held, log)
        begin(table, clock, once(clock, whose))
        await until_on(log)

        assert (await client.get(LIST)).status == 503
        other = getting(client, headers={"User-Agent": "Another/1"})
        (await held.next()).answer(page())
        assert (await other).status == 200


async def test_who_has_no_credential_is_401_as_ever(run: Run) -> None:
    async with run(brownout=WEEKLY) as (_, client):
        assert (await client.get(LIST, authorization=None)).status == 401


async def test_no_body_is_asked_for(run: Run) -> None:
    head = (
        b"POST /invoice/1420/messages HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n"
        b"Authorization: Bearer sandbox-token\r\nExpect: 100-continue\r\n\r\n"
    )
    async with run(brownout=WEEKLY) as (_, client), client.connection() as (reader, writer):
        writer.write(head)

        assert (await reader.readline()).startswith(b"HTTP/1.1 503 ")


# What is told of it.


async def test_it_is_an_outcome_of_its_own(run: Run, log: Logged) -> None:
    async with run(brownout=WEEKLY) as (service, client):
        await client.get(LIST)
        await until(lambda: log.lines("legacy_call"))
        metrics = await admin(service, "/metrics")

    (line,) = log.lines("legacy_call")
    assert (line["status"], line["outcome"], line["refusal"]) == (503, "withdrawn", "brownout")
    assert 'outcome="withdrawn",route="/invoice/{invoice_id}/messages"} 1.0' in metrics
    assert 'harvest_bridge_refusals_total{reason="brownout"} 1.0' in metrics
    assert "harvest_bridge_brownouts_on 1.0" in metrics


async def admin(service: Service, path: str) -> str:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{LOOPBACK}:{service.admin_port}{path}") as response,
    ):
        assert response.status in {200, 503}
        return await response.text()


async def test_it_is_a_warning_and_neither_ill_nor_unready(run: Run) -> None:
    async with run(brownout=WEEKLY) as (service, _):
        health, readiness = await admin(service, "/healthz"), await admin(service, "/readyz")

    assert json.loads(health) == {"status": "ok"}
    told = json.loads(readiness)
    assert told["status"] == "ok"
    assert told["warnings"]["brownout"] == (
        "all calls of all integrations are turned away until 2027-03-02T10:15:00Z"
    )


async def test_the_dashboard_knows_what_the_settings_decide(run: Run) -> None:
    async with run(brownout=WEEKLY) as (service, _):
        shown = json.loads(await admin(service, "/brownouts.json"))

    (found,) = shown["planned"]
    assert found["planned"]["brownout"]["schedule"] == WEEKLY


# When it begins, and when it ends.


async def test_a_write_that_is_under_way_when_it_begins_goes_on_to_its_end(
    run: Run, table: Log, clock: HandClock, log: Logged, held: HeldUpstream, journal: Path
) -> None:
    async with run() as (_, client):
        writing = posting(client)
        v2 = await held.next()
        begin(table, clock, once(clock))
        await until_on(log)
        assert (await posting(client, "/invoice/1421/messages")).status == 503

        v2.answer(hello(), 201)
        answer = await writing

    assert answer.status == 201
    assert outcomes(journal) == ["done"]
    assert len(held.calls) == 1


async def test_a_write_whose_body_comes_slowly_when_it_begins_goes_on(
    run: Run, table: Log, clock: HandClock, log: Logged, held: HeldUpstream
) -> None:
    head = (
        f"POST {SEND} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(HELLO)}\r\n"
        "Content-Type: text/xml\r\nAuthorization: Bearer sandbox-token\r\n"
        "Expect: 100-continue\r\n\r\n"
    )
    async with run() as (_, client), client.connection() as (reader, writer):
        writer.write(head.encode())
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        begin(table, clock, once(clock))
        await until_on(log)

        writer.write(HELLO)
        (await held.next()).answer(hello(), 201)

        assert (await reader.readline()).startswith(b"HTTP/1.1 201 ")


async def test_a_write_of_unknown_outcome_is_known_again_after_a_brownout(
    run: Run, table: Log, clock: HandClock, log: Logged, held: HeldUpstream, journal: Path
) -> None:
    async with run() as (_, client):
        writing = posting(client)
        (await held.next()).reset()
        (await the_look(held)).answer(status=500)
        assert (await writing).status == 504
        begin(table, clock, once(clock))
        await until_on(log)
        assert_browned_out(await posting(client), 3600, spread=0)
        assert outcomes(journal) == ["unknown"]

        clock.advance(3600)
        again = posting(client)
        (await the_look(held)).answer(page(hello()))

        assert (await again).status == 201
    assert sum(call.received.method == "POST" for call in held.calls) == 1


async def the_look(held: HeldUpstream) -> HeldCall:
    """The look at what a write has come to; before it, a token may have to prove itself."""
    call = await held.next()
    if call.received.query == "per_page=1":
        call.answer(page())
        call = await held.next()
    return call


async def test_it_is_on_at_once_after_a_restart_and_ends_by_itself(
    run: Run, table: Log, clock: HandClock, log: Logged, held: HeldUpstream
) -> None:
    async with run():
        begin(table, clock, once(clock))
    clock.advance(600)

    async with run() as (_, client):
        assert_browned_out(await client.get(LIST), 3000)
        clock.advance(3000)

        assert (await served(client, held)).status == 200


async def test_one_that_was_over_before_a_restart_is_over(
    run: Run, table: Log, clock: HandClock, held: HeldUpstream
) -> None:
    async with run():
        begin(table, clock, once(clock))
    clock.advance(3600)

    async with run() as (_, client):
        assert (await served(client, held)).status == 200


async def test_where_the_database_does_not_answer_at_the_start_only_the_setting_holds(
    run: Run,
    table: Log,
    clock: HandClock,
    log: Logged,
    held: HeldUpstream,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bridge.record.log.database.BUSY_TIMEOUT", 0.1)
    async with run():
        begin(table, clock, once(clock, calls="reads"))
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        async with run(brownout="Tue 11:00-11:15") as (service, client):
            await until(lambda: log.lines("brownouts_unknown"))
            assert (await served(client, held)).status == 200
            assert "not known: the database did not answer" in await admin(service, "/readyz")
            clock.advance(55 * 60)
            assert_browned_out(await client.get(LIST), 900)

            clock.advance(-55 * 60)
            other.execute("ROLLBACK")
            await until_on(log)
            assert_browned_out(await client.get(LIST), 3600, spread=0)


@pytest.mark.parametrize("by", ["setting", "command"])
async def test_it_can_be_ended_at_once(
    run: Run, table: Log, clock: HandClock, log: Logged, held: HeldUpstream, by: str
) -> None:
    async with run(brownout=WEEKLY if by == "setting" else None) as (_, client):
        if by == "command":
            begin(table, clock, once(clock))
        await until_on(log)
        assert (await client.get(LIST)).status == 503

        table.decisions.end_brownouts(ALL, int(clock() * 1000))
        await until(lambda: log.lines("brownout_ended"))

        assert (await served(client, held)).status == 200


async def test_several_bridges_agree(
    run: Run, clock: HandClock, log: Logged, held: HeldUpstream, postgres: str, tmp_path: Path
) -> None:
    together = {"database": postgres, "database_key": tmp_path / "key"}
    async with run(**together) as (_, one), run(**together) as (_, other):
        table = Log.open(postgres)
        begin(table, clock, once(clock))
        await until_on(log, times=2)
        assert [(await each.get(LIST)).status for each in (one, other)] == [503, 503]

        table.decisions.end_brownouts(ALL, int(clock() * 1000))
        table.close()
        await until(lambda: len(log.lines("brownout_ended")) == 2)

        assert [(await served(each, held)).status for each in (one, other)] == [200, 200]


async def test_what_v1_would_answer_is_turned_away_likewise(run: Run, log: Logged) -> None:
    async with (
        running_origin() as origin,
        run(brownout=WEEKLY, legacy_origin=origin.url) as (_, client),
    ):
        answer = await client.call("POST", "/clients", body=b"<client/>", headers=XML)
        await until(lambda: log.lines("legacy_call"))

    assert_browned_out(answer, 600)
    assert origin.heads == []
    assert log.lines("legacy_call")[0]["outcome"] == "withdrawn"


# Sunsets.


def milliseconds(day: datetime) -> int:
    return int(day.timestamp() * 1000)


PAST, TO_COME = datetime(2027, 3, 1, tzinfo=UTC), datetime(2027, 6, 30, tzinfo=UTC)


async def test_after_its_sunset_an_integration_is_410(
    run: Run, table: Log, log: Logged, held: HeldUpstream
) -> None:
    async with run() as (_, client):
        whose = await integration_of(client, held, log)
        table.decisions.put_sunset(whose, milliseconds(PAST))
        await until(lambda: log.lines("policy_changed"))
        answer = await client.get(LIST)
        other = getting(client, headers={"User-Agent": "Another/1"})
        (await held.next()).answer(page())
        assert (await other).status == 200

    assert answer.status == 410
    assert answer.headers["Sunset"] == "Mon, 01 Mar 2027 00:00:00 GMT"
    (sentence,) = answer.errors
    assert sentence == (
        "API v1 has ended for this client on 2027-03-01. Harvest is switching API v1 off. "
        "Call v2: https://help.getharvest.com/api-v2/"
    )
    line = next(each for each in log.lines("legacy_call") if each["status"] == 410)
    assert (line["outcome"], line["refusal"]) == ("withdrawn", "sunset")


async def test_before_it_its_answers_say_when_it_will_be(
    run: Run, table: Log, log: Logged, held: HeldUpstream
) -> None:
    async with run(sunset=TO_COME.date()) as (_, client):
        whose = await integration_of(client, held, log)
        table.decisions.put_sunset(whose, milliseconds(datetime(2027, 4, 1, tzinfo=UTC)))
        await until(lambda: log.lines("policy_changed"))
        answer = await served(client, held)
        stranger = await client.get(LIST, authorization=None)

    assert answer.headers["Sunset"] == "Thu, 01 Apr 2027 00:00:00 GMT"
    assert stranger.headers["Sunset"] == "Wed, 30 Jun 2027 00:00:00 GMT"


async def test_that_of_all_is_everybodys_but_for_who_has_none(
    run: Run, table: Log, log: Logged, held: HeldUpstream
) -> None:
    async with run() as (_, client):
        whose = await integration_of(client, held, log)
        table.decisions.put_sunset(whose, NEVER)
        table.decisions.put_sunset(ALL, milliseconds(PAST))
        await until(lambda: len(log.lines("policy_changed")) >= 2)

        assert "Sunset" not in (await served(client, held)).headers
        assert (await client.get(LIST, headers={"User-Agent": "Another/1"})).status == 410


async def test_the_settings_sunset_only_announces(run: Run, held: HeldUpstream) -> None:
    async with run(sunset=PAST.date()) as (_, client):
        answer = await served(client, held)

    assert (answer.status, answer.headers["Sunset"]) == (200, "Mon, 01 Mar 2027 00:00:00 GMT")
