"""Which calls are captured: what a rule says, until when, and what is said of it."""

import zlib
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import Connection, Engine
from structlog.testing import capture_logs

from bridge.record.log.capture import (
    MOST,
    TOLD_EVERY,
    Capture,
    Mode,
    Rule,
    UnusableRule,
    put,
    read_span,
    rules,
)
from bridge.record.log.database import KEY_LENGTH, open_database, writing
from bridge.record.log.events import ALL
from bridge.record.log.exchange import LONGEST, Exchange, Message, UpstreamExchange, pack, unpack
from bridge.record.log.times import DAY
from tests.support.clocks import HandClock

HOUR = 3600 * 1000
ONE, OTHER = "0123456789ab", "ba9876543210"


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


def rule(clock: HandClock, mode: Mode = Mode.ALL, whose: str = ALL, **more: Any) -> Rule:
    now = int(clock() * 1000)
    return Rule(**{"integration": whose, "mode": mode, "since": now, "until": now + HOUR, **more})


def facts(logs: list[Any]) -> list[tuple[str, str]]:
    return [(each["event"], each["integration"]) for each in logs]


# What is on.


def test_nothing_is_captured_to_begin_with() -> None:
    capture = Capture()

    assert not capture.is_on()
    assert capture.warning() is None
    assert capture.rule(ONE) is None
    assert capture.quoted(ONE, "words") is None


def test_the_rule_of_an_integration_counts_before_that_of_all(clock: HandClock) -> None:
    capture = Capture(clock)
    for_all, own = rule(clock, Mode.ERRORS), rule(clock, Mode.ALL, ONE, raw=True)
    capture.take([for_all, own])

    assert capture.is_on()
    assert (capture.rule(ONE), capture.rule(OTHER)) == (own, for_all)


def test_off_for_one_keeps_it_out_of_the_rule_of_all(clock: HandClock) -> None:
    capture = Capture(clock)
    capture.take([rule(clock), rule(clock, Mode.OFF, ONE)])

    assert capture.rule(ONE) is None
    assert capture.rule(OTHER) is not None


def test_off_alone_captures_nothing(clock: HandClock) -> None:
    capture = Capture(clock)
    capture.take([rule(clock, Mode.OFF, ONE)])

    assert not capture.is_on()
    assert capture.in_force() == []


def test_a_rule_ends_by_its_time_though_nobody_reads_the_rules_any_more(clock: HandClock) -> None:
    capture = Capture(clock)
    capture.take([rule(clock)])
    clock.advance(3600)

    assert not capture.is_on()
    assert capture.rule(ONE) is None
    assert capture.warning() is None


def test_what_is_on_is_said_in_words(clock: HandClock) -> None:
    capture = Capture(clock)
    capture.take([rule(clock, Mode.ERRORS), rule(clock, Mode.ALL, ONE, raw=True)])

    assert capture.warning() == (
        "calls not served of all integrations until 1970-01-01T01:16:40Z; "
        f"all calls of {ONE} until 1970-01-01T01:16:40Z, raw: with addresses, names and texts"
    )


def test_v2s_words_are_told_raw_only_if_the_rule_is_and_never_an_address(clock: HandClock) -> None:
    capture = Capture(clock)
    capture.take([rule(clock), rule(clock, whose=ONE, raw=True)])

    words = "Jane is not jane@roe.example"
    assert capture.quoted(OTHER, words) == "Xxxx xx xxx xxxx@xxx.xxxxxxx"
    assert capture.quoted(ONE, words) == "Jane is not xxxx@xxx.xxxxxxx"


# What is said of it.


def test_a_rule_is_announced_once_again_and_at_its_end(clock: HandClock) -> None:
    capture, on = Capture(clock), rule(clock)
    with capture_logs() as logs:
        capture.take([on])
        clock.advance(1)
        capture.take([on])
    assert facts(logs) == [("capture_on", "all")]
    assert logs[0]["log_level"] == "warning"

    with capture_logs() as logs:
        clock.advance(TOLD_EVERY)
        capture.take([on])
    assert facts(logs) == [("capture_on", "all")]

    with capture_logs() as logs:
        clock.advance(3600)
        capture.take([])
        capture.take([])
    assert facts(logs) == [("capture_ended", "all")]


def test_a_rule_that_changes_is_announced(clock: HandClock) -> None:
    capture = Capture(clock)
    capture.take([rule(clock)])
    with capture_logs() as logs:
        capture.take([rule(clock, raw=True)])

    assert [(each["event"], each["raw"]) for each in logs] == [("capture_on", True)]


# The table.


def test_rules_are_read_as_they_were_put(connection: Connection, clock: HandClock) -> None:
    known = [rule(clock, Mode.ERRORS), rule(clock, whose=ONE, raw=True)]
    for each in reversed(known):
        put(connection, each)

    assert rules(connection, int(clock() * 1000)) == known


def test_a_new_rule_takes_the_place_of_the_old(connection: Connection, clock: HandClock) -> None:
    put(connection, rule(clock, Mode.ERRORS))
    put(connection, rule(clock, Mode.ALL))

    assert [each.mode for each in rules(connection, int(clock() * 1000))] == [Mode.ALL]


def test_a_rule_that_has_ended_is_not_read(connection: Connection, clock: HandClock) -> None:
    put(connection, rule(clock))
    clock.advance(3600)

    assert rules(connection, int(clock() * 1000)) == []


def test_off_for_all_ends_every_rule(connection: Connection, clock: HandClock) -> None:
    put(connection, rule(clock))
    put(connection, rule(clock, whose=ONE))
    put(connection, rule(clock, Mode.OFF))

    assert rules(connection, int(clock() * 1000)) == []


def test_off_for_one_lasts_as_long_as_the_rule_for_all(
    connection: Connection, clock: HandClock
) -> None:
    put(connection, rule(clock, whose=ONE))
    put(connection, rule(clock, Mode.OFF, ONE))
    assert rules(connection, int(clock() * 1000)) == []

    put(connection, rule(clock))
    put(connection, rule(clock, Mode.OFF, ONE, until=0))
    assert [(each.mode, each.until) for each in rules(connection, int(clock() * 1000))] == [
        (Mode.ALL, int(clock() * 1000) + HOUR),
        (Mode.OFF, int(clock() * 1000) + HOUR),
    ]


def test_off_for_one_outlasts_the_rule_for_all_being_put_again(
    connection: Connection, clock: HandClock
) -> None:
    put(connection, rule(clock))
    put(connection, rule(clock, Mode.OFF, ONE))
    put(connection, rule(clock, Mode.ERRORS, OTHER))
    now = int(clock() * 1000)

    put(connection, rule(clock, Mode.ERRORS, until=now + 3 * HOUR))

    assert [(each.integration, each.until - now) for each in rules(connection, now)] == [
        ("", 3 * HOUR), (ONE, 3 * HOUR), (OTHER, HOUR),
    ]  # fmt: skip


@pytest.mark.parametrize("span", [MOST + 1, 0, -1, 365 * DAY])
def test_a_rule_lasts_for_some_days_at_most(
    connection: Connection, clock: HandClock, span: int
) -> None:
    with pytest.raises(UnusableRule, match="at most 7 days"):
        put(connection, rule(clock, until=int(clock() * 1000) + span))


def test_several_bridges_read_one_table(engine: Engine, database: str, clock: HandClock) -> None:
    with writing(engine) as connection:
        put(connection, rule(clock))
    second = open_database(database, b"k" * KEY_LENGTH)
    captures = [Capture(clock), Capture(clock)]
    for each, capture in zip((engine, second), captures, strict=True):
        with closing(each.connect()) as connection:
            capture.read(connection)
    second.dispose()

    assert all(capture.is_on() for capture in captures)


@pytest.mark.parametrize(
    ("text", "milliseconds"), [("90s", 90_000), ("30m", 1_800_000), ("1h", HOUR), ("7d", MOST)]
)
def test_a_span_is_read(text: str, milliseconds: int) -> None:
    assert read_span(text) == milliseconds


@pytest.mark.parametrize("text", ["", "1", "h", "1 h", "1w", "-1h", "1.5h", "9999999h"])
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(UnusableRule):
        read_span(text)


# What is kept.


def test_an_exchange_is_read_as_it_was_packed() -> None:
    said = Message((("X", "ü"),), b"\xff\x00", 5, "cut")
    v2 = UpstreamExchange("GET", "http://v2/", None, "UpstreamTimeout", 1.5, None, said, None)
    exchange = Exchange("GET", "http://h/", 504, 1.0, 2.0, said, None, [v2], "1.1", "first", True)

    assert unpack(pack(exchange)) == exchange


@pytest.mark.parametrize("kept", [b"", b"x", pack.__name__.encode()])
def test_what_is_no_exchange_is_refused(kept: bytes) -> None:
    with pytest.raises(ValueError, match="not an exchange"):
        unpack(kept)


@pytest.mark.parametrize(
    "kept", [b"", b"nonsense", zlib.compress(b"nonsense"), zlib.compress(bytes(2 * LONGEST))]
)
def test_what_is_no_exchange_or_too_long_is_refused(kept: bytes) -> None:
    with pytest.raises(ValueError, match="not an exchange"):
        unpack(kept)
