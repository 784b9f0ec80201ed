"""Which calls are turned away, by what was decided: until when, and what is said of it."""

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Connection, insert
from structlog.testing import capture_logs

from bridge.record.log.brownouts import (
    MOST,
    TOLD_EVERY,
    Brownout,
    Brownouts,
    By,
    Chosen,
    UnusableBrownout,
    brownouts,
    end,
    planned,
    put,
    remove,
)
from bridge.record.log.events import ALL
from bridge.record.log.tables import BROWNOUTS
from bridge.record.log.times import DAY, HOUR
from tests.support.clocks import HandClock

ONE, OTHER = "0123456789ab", "ba9876543210"
LIST, SEND = ("GET", "/invoice/{invoice_id}/messages"), ("POST", "/invoice/{invoice_id}/messages")

TUESDAY = datetime(2027, 3, 2, 10, 5, tzinfo=UTC)
"""In the middle of `WEEKLY`."""
WEEKLY = "Tue 10:00-10:15"


class Clocks(HandClock):
    """The time of the day, and the time that goes by: the one may be put back."""

    def __init__(self) -> None:
        super().__init__()
        self.now = TUESDAY.timestamp()
        self.elapsed = HandClock()

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        self.elapsed.advance(seconds)

    @property
    def milliseconds(self) -> int:
        return int(self.now * 1000)


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def known(clocks: Clocks) -> Brownouts:
    return Brownouts(clocks, clocks.elapsed, window=12 * 3600)


def once(clocks: Clocks, whose: str = ALL, *, hours: float = 1, **more: Any) -> Brownout:
    now = clocks.milliseconds
    return Brownout(integration=whose, since=now, until=now + int(hours * HOUR), **more)


def over(clocks: Clocks, whose: str = ALL) -> Brownout:
    """An end, as it stands in the table."""
    now = clocks.milliseconds
    return Brownout(integration=whose, calls="none", since=now, until=now + MOST)


def is_turned_away(known: Brownouts, whose: str = ONE, call: tuple[str, str] = LIST) -> bool:
    return known.turns_away(whose, *call) is not None


# Which calls.


@pytest.mark.parametrize(
    ("chosen", "call", "is_meant"),
    [
        ("all", LIST, True),
        ("reads", LIST, True),
        ("reads", ("HEAD", "/account/who_am_i"), True),
        ("reads", SEND, False),
        ("writes", SEND, True),
        ("writes", ("DELETE", "/invoices/{invoice_id}/payments/{payment_id}"), True),
        ("writes", LIST, False),
        ("/invoice", LIST, True),
        ("/invoice/", LIST, True),
        ("/invoice", ("GET", "/invoices/{invoice_id}/messages"), False),
        ("/invoice/{invoice_id}/messages", LIST, True),
        ("/invoice/{invoice_id}/mess", LIST, False),
        ("POST /invoice", LIST, False),
        ("POST /invoice", SEND, True),
        ("/clients,  POST  /invoice", SEND, True),
        ("/clients, /people", LIST, False),
        ("reads, /clients", ("PUT", "/clients/{…}"), True),
    ],
)
def test_calls_are_chosen_by_method_and_route(
    chosen: str, call: tuple[str, str], is_meant: bool
) -> None:
    assert Chosen(chosen).has(*call) == is_meant


@pytest.mark.parametrize("text", ["", "some", "none", "invoices", "post /invoices", "all,", "GET"])
def test_what_names_no_calls_is_refused(text: str) -> None:
    with pytest.raises(UnusableBrownout, match="must be all, reads, writes, or routes"):
        Chosen(text)


# What is on.


def test_nothing_is_on_to_begin_with(known: Brownouts) -> None:
    known.take([])

    assert not known.are_any
    assert not is_turned_away(known)
    assert known.warning() is None


def test_one_of_an_integration_is_nobody_elses(known: Brownouts, clocks: Clocks) -> None:
    known.take([once(clocks, ONE)])

    assert (is_turned_away(known, ONE), is_turned_away(known, OTHER)) == (True, False)


def test_one_of_all_is_everybodys(known: Brownouts, clocks: Clocks) -> None:
    known.take([once(clocks)])

    assert is_turned_away(known, ONE)


def test_only_the_calls_that_were_chosen_are_turned_away(known: Brownouts, clocks: Clocks) -> None:
    known.take([once(clocks, calls="writes")])

    assert (is_turned_away(known, call=LIST), is_turned_away(known, call=SEND)) == (False, True)


def test_of_several_the_last_end_counts(known: Brownouts, clocks: Clocks) -> None:
    known.take([once(clocks, hours=2), once(clocks, ONE, hours=1)])

    found = known.turns_away(ONE, *LIST)

    assert found is not None
    assert found.end == clocks.milliseconds + 2 * HOUR


def test_it_ends_by_its_time_though_nobody_reads_the_table_any_more(
    known: Brownouts, clocks: Clocks
) -> None:
    known.take([once(clocks)])
    clocks.advance(3599)
    assert is_turned_away(known)

    clocks.advance(1)

    assert not is_turned_away(known)
    assert known.in_force() == []


def test_it_ends_though_the_clock_is_put_back(known: Brownouts, clocks: Clocks) -> None:
    known.take([once(clocks)])
    assert is_turned_away(known)

    clocks.advance(1800)
    clocks.now -= 1200  # the time that goes by goes on
    assert is_turned_away(known)
    clocks.advance(1800)
    assert not is_turned_away(known)

    clocks.now -= 86_400
    assert not is_turned_away(known)


def test_it_ends_though_the_clock_is_put_ahead(known: Brownouts, clocks: Clocks) -> None:
    known.take([once(clocks)])

    clocks.now += 3600

    assert not is_turned_away(known)


def test_a_schedule_is_on_again_and_again(known: Brownouts, clocks: Clocks) -> None:
    known.go_by(WEEKLY, "UTC")

    seen = []
    for _ in range(4):
        seen.append(is_turned_away(known))
        clocks.advance(7 * 86_400 / 2)
    assert seen == [True, False, True, False]


def test_without_the_database_the_settings_hold(known: Brownouts) -> None:
    known.go_by(WEEKLY, "UTC")

    assert is_turned_away(known)
    assert "decided by command is not known" in str(known.warning())


def test_new_settings_take_the_place_of_the_old(known: Brownouts) -> None:
    known.go_by(WEEKLY, "UTC")
    known.go_by(WEEKLY, "Europe/Berlin")  # where it was an hour ago

    assert not is_turned_away(known)


def test_an_end_ends_what_is_on_and_a_schedule_goes_on_the_next_time(
    known: Brownouts, clocks: Clocks
) -> None:
    known.go_by(WEEKLY, "UTC")
    known.take([once(clocks), over(clocks)])

    assert not is_turned_away(known)
    clocks.advance(7 * 86_400)
    assert is_turned_away(known)


def test_what_begins_behind_an_end_is_on(known: Brownouts, clocks: Clocks) -> None:
    ended = over(clocks)
    clocks.advance(1)
    known.take([ended, once(clocks)])

    assert is_turned_away(known)


def test_an_end_for_one_leaves_the_others(known: Brownouts, clocks: Clocks) -> None:
    known.take([once(clocks), over(clocks, ONE)])

    assert (is_turned_away(known, ONE), is_turned_away(known, OTHER)) == (False, True)


def test_an_end_for_all_ends_those_of_each(known: Brownouts, clocks: Clocks) -> None:
    known.take([once(clocks, ONE), over(clocks)])

    assert not is_turned_away(known, ONE)


def test_what_is_planned_comes_in_the_order_of_time(clocks: Clocks) -> None:
    weekly = Brownout(schedule=WEEKLY, by=By.SETTING)
    later = Brownout(integration=ONE, schedule="Wed 10:00-10:15")

    found = planned([later, over(clocks), weekly, once(clocks, hours=2)], clocks.milliseconds)

    assert [(each.brownout.schedule, each.is_on) for each in found] == [
        ("Wed 10:00-10:15", False),
        (WEEKLY, False),
    ]


# What is said of it.


def told(logs: list[Any]) -> list[tuple[str, str]]:
    return [(each["event"], each["log_level"]) for each in logs]


def test_its_begin_and_its_end_are_announced_and_that_it_is_still_on(
    known: Brownouts, clocks: Clocks
) -> None:
    known.take([once(clocks, hours=1)])
    with capture_logs() as logs:
        known.announce()
        known.announce()
    assert told(logs) == [("brownout_on", "warning")]
    assert logs[0]["until"] == "2027-03-02T11:05:00Z"

    clocks.advance(TOLD_EVERY)
    with capture_logs() as logs:
        known.announce()
    assert told(logs) == [("brownout_on", "warning")]

    clocks.advance(3600)
    with capture_logs() as logs:
        known.announce()
        known.announce()
    assert told(logs) == [("brownout_ended", "warning")]


def test_that_it_was_ended_for_one_is_announced(known: Brownouts, clocks: Clocks) -> None:
    on = once(clocks)
    known.take([on])
    known.announce()
    known.take([on, over(clocks, ONE)])
    with capture_logs() as logs:
        known.announce()

    assert [each["but_not"] for each in logs] == [[ONE]]
    assert f"of all integrations but {ONE} are turned away" in str(known.warning())


def test_that_the_table_could_not_be_read_is_an_error(known: Brownouts) -> None:
    with capture_logs() as logs:
        known.announce()
        known.announce()

    assert told(logs) == [("brownouts_unknown", "error")]
    assert known.looked.is_set()


@pytest.mark.parametrize(("hours", "is_longer"), [(12, False), (13, True)])
def test_one_that_is_longer_than_repeated_writes_are_known_says_so(
    known: Brownouts, clocks: Clocks, hours: float, is_longer: bool
) -> None:
    known.take([once(clocks, hours=hours)])
    with capture_logs() as logs:
        known.announce()

    assert logs[0].get("longer_than_repeat_window", False) == is_longer


def test_what_is_on_is_said_in_words(known: Brownouts, clocks: Clocks) -> None:
    known.take([once(clocks, ONE, calls="reads")])

    assert known.warning() == f"reads calls of {ONE} are turned away until 2027-03-02T11:05:00Z"


# The table.


def test_brownouts_are_read_as_they_were_put(connection: Connection, clocks: Clocks) -> None:
    weekly = Brownout(schedule=WEEKLY, time_zone="Europe/Berlin", since=clocks.milliseconds)
    for each in (once(clocks, ONE, calls="writes"), weekly):
        put(connection, each, clocks.milliseconds)
        clocks.advance(1)

    found = brownouts(connection)

    assert [(each.integration, each.calls, each.schedule, each.time_zone) for each in found] == [
        (ONE, "writes", None, "UTC"),
        (ALL, "all", WEEKLY, "Europe/Berlin"),
    ]


def test_what_is_over_makes_room(connection: Connection, clocks: Clocks) -> None:
    put(connection, once(clocks), clocks.milliseconds)
    put(connection, Brownout(schedule="2027-03-02 10:00-11:00"), clocks.milliseconds)
    end(connection, ALL, clocks.milliseconds)
    clocks.advance(8 * 86_400)
    put(connection, once(clocks, ONE), clocks.milliseconds)

    assert [each.integration for each in brownouts(connection)] == [ONE]


@pytest.mark.parametrize(
    ("decided", "said"),
    [
        ({"until": MOST + 1}, "must last for at most 7 days"),
        ({"until": 0}, "not for no time"),
        ({"schedule": "2020-01-01 10:00-11:00"}, "is over already"),
        ({"until": HOUR, "calls": "some"}, "must be all, reads, writes, or routes"),
    ],
)
def test_what_makes_no_sense_is_refused(
    connection: Connection, clocks: Clocks, decided: dict[str, Any], said: str
) -> None:
    now = clocks.milliseconds
    if "until" in decided:
        decided = {**decided, "until": now + decided["until"]}
    with pytest.raises(UnusableBrownout, match=said):
        put(connection, Brownout(since=now, **decided), now)

    assert brownouts(connection) == []


def test_an_end_ends_what_was_begun_by_a_clock_that_is_ahead(
    connection: Connection, known: Brownouts, clocks: Clocks
) -> None:
    put(connection, once(clocks), clocks.milliseconds)
    end(connection, ALL, clocks.milliseconds - 5000)
    known.read(connection)
    assert not is_turned_away(known)

    clocks.advance(1)
    put(connection, once(clocks), clocks.milliseconds)
    known.read(connection)
    assert is_turned_away(known)


def test_an_end_and_a_removal(connection: Connection, known: Brownouts, clocks: Clocks) -> None:
    put(connection, Brownout(schedule=WEEKLY, since=clocks.milliseconds), clocks.milliseconds)
    put(connection, once(clocks, ONE), clocks.milliseconds)

    remove(connection, ONE, clocks.milliseconds)
    known.read(connection)
    assert (is_turned_away(known, ONE), is_turned_away(known, OTHER)) == (False, True)
    assert len(planned(brownouts(connection), clocks.milliseconds)) == 1

    end(connection, ALL, clocks.milliseconds)
    known.read(connection)
    assert not is_turned_away(known, OTHER)
    assert [each.is_on for each in planned(brownouts(connection), clocks.milliseconds)] == [False]

    remove(connection, ALL, clocks.milliseconds)
    assert planned(brownouts(connection), clocks.milliseconds) == []


def test_a_row_that_cannot_be_read_turns_nobody_away(
    connection: Connection, known: Brownouts, clocks: Clocks
) -> None:
    for number, wrong in enumerate(({"schedule": "whenever"}, {"calls": "most"})):
        until = clocks.milliseconds + DAY
        row = {"id": number, "integration": ALL, "since": 0, "until": until, "calls": "all"}
        connection.execute(insert(BROWNOUTS).values({**row, **wrong}))

    known.read(connection)

    assert not known.are_any
