"""From what is known of a call to its event: how often sinks are told, and with what."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import product
from typing import Any

import pytest

from bridge.identity.digests import Digests
from bridge.record.log.capture import Capture, Mode, Rule
from bridge.record.log.events import OTHERS, Ended, NoteEvent, line_of
from bridge.record.log.ids import TIME_SHIFT
from bridge.server.records import (
    INTEGRATIONS,
    KINDS,
    NOTED,
    TOLD_AT_ONCE,
    CallRecord,
    Recorder,
)
from bridge.server.told_apart import DAY, ToldApart
from bridge.server.upstream_events import route_of
from bridge.upstream.calls import UpstreamCall
from bridge.v1.notes import NoteCode
from tests.support.logged import Logged, logging

KEY = bytes(32)


@pytest.fixture
def told() -> list[Ended]:
    return []


@pytest.fixture
def recorder(told: list[Ended]) -> Recorder:
    return Recorder((told.extend,), Digests(KEY))


def record(**fields: Any) -> CallRecord:
    made = CallRecord("id", "GET", "HaPi/1.0")
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def failing(_calls: Sequence[Ended]) -> None:
    raise RuntimeError("sesame")


def test_the_line_is_the_event(recorder: Recorder, told: list[Ended]) -> None:
    recorder.ended(record(status=200, route="/account/who_am_i"))

    ((call, line, exchange),) = told
    assert json.loads(line) == json.loads(line_of(call))
    assert (call.event, call.level, call.outcome) == ("legacy_call", "info", "served")
    assert exchange is None


def test_nulls_are_left_out_of_a_line_where_a_field_has_a_default(
    recorder: Recorder, told: list[Ended]
) -> None:
    recorder.ended(record(status=200))

    line = json.loads(told[0].line)
    for name in ("route", "dialect", "way", "account_id", "label"):
        assert line[name] is None
    assert not {"path", "refusal", "host", "token", "is_known", "bytes_in"} & line.keys()


def test_ids_are_in_the_order_in_which_calls_end(recorder: Recorder, told: list[Ended]) -> None:
    for _ in range(1000):
        recorder.ended(record(status=200))

    ids = [call.id for call, _, _ in told]
    assert ids == sorted(set(ids))


async def test_reads_that_end_among_others_are_told_of_together(
    recorder: Recorder, told: list[Ended]
) -> None:
    for _ in range(TOLD_AT_ONCE - 1):
        recorder.ended_among_others(record(status=200))
    assert not told

    recorder.ended_among_others(record(status=200))

    assert len(told) == TOLD_AT_ONCE


async def test_a_read_among_others_is_told_of_before_what_ends_later(
    recorder: Recorder, told: list[Ended]
) -> None:
    recorder.ended_among_others(record(status=200))
    recorder.ended(record(status=502))

    assert [ended.call.status for ended in told] == [200, 502]
    assert told[0].call.timestamp <= told[1].call.timestamp


async def test_a_read_among_others_is_told_of_soon_even_if_nothing_else_ends() -> None:
    heard = asyncio.Event()
    Recorder((lambda _calls: heard.set(),), Digests(KEY)).ended_among_others(record(status=200))

    await heard.wait()


async def test_an_event_has_the_time_of_its_calls_end_however_late_it_is_made(
    recorder: Recorder, told: list[Ended]
) -> None:
    ended = record(status=200)
    recorder.ended_among_others(ended)
    took = ended.milliseconds
    recorder.catch_up()

    (call,) = (each.call for each in told)
    assert call.timestamp == datetime.fromtimestamp(ended.ended_at / 1e9, UTC)
    assert call.id >> TIME_SHIFT == ended.ended_at // 1_000_000
    assert call.milliseconds == took


def test_a_sink_that_fails_keeps_the_others_from_nothing(told: list[Ended]) -> None:
    with logging() as log:
        Recorder((failing, told.extend), Digests(KEY)).ended(record(status=200))

    assert len(told) == 1
    assert [line["cause"] for line in log.lines("not_recorded")] == ["RuntimeError"]
    assert "sesame" not in log.getvalue()


def test_a_header_that_is_no_unicode_makes_a_line(recorder: Recorder, told: list[Ended]) -> None:
    recorder.ended(record(status=200, cause="\udce9"))

    assert json.loads(told[0].line)["cause"] == "\udce9"


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ([], None),
        ([Rule(mode=Mode.ERRORS, since=0, until=2**45)], "xxxx@xxx.xxx xx xx xxxxxx"),
        ([Rule(mode=Mode.ERRORS, raw=True, since=0, until=2**45)], "xxxx@xxx.xxx is no client"),
    ],
)
def test_v2s_words_are_kept_where_they_are_captured(
    told: list[Ended], rules: list[Rule], says: str | None
) -> None:
    capture = Capture()
    capture.take(rules)
    recorder = Recorder((told.extend,), Digests(KEY), capture)

    recorder.ended(record(status=400, v2_words="jane@doe.org is no client"))

    assert told[0].call.v2_says == says


def test_what_a_flow_waited_for_is_neither_v2s_time_nor_its_own(
    recorder: Recorder, told: list[Ended]
) -> None:
    call = record(status=200, waited=0.5)
    call.upstream_calls = [UpstreamCall("GET", "/x"), UpstreamCall("GET", "/x")]
    for each in call.upstream_calls:
        each.ended(status=200)
        each.milliseconds = 200.0
    call.ran(1.0, away=0.7)

    recorder.ended(call)

    event = told[0].call
    assert event.translation_milliseconds == pytest.approx(300)
    assert event.v2_milliseconds == 400
    assert event.waiting_milliseconds == pytest.approx(500 + 300)


@pytest.mark.parametrize("known", [True, False])
def test_of_made_up_clients_so_many_are_told_apart(
    recorder: Recorder, told: list[Ended], known: bool
) -> None:
    for number in range(INTEGRATIONS[known].of_one + 5):
        name = "".join(chr(ord("a") + int(digit)) for digit in str(number))
        recorder.ended(record(status=200, user_agent=name, is_known=known, token="t", network="n"))

    integrations = [call.integration for call, _, _ in told]
    assert len(set(integrations)) == INTEGRATIONS[known].of_one + 1
    assert integrations.count(OTHERS) == 5


@pytest.mark.parametrize("known", [True, False])
def test_of_made_up_kinds_of_calls_so_many_are_told_apart(
    recorder: Recorder, told: list[Ended], known: bool
) -> None:
    """Integrations, paths and methods have bounds; what they come to together has one, too."""
    methods = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
    for agent, path, method in product("abcdefghijklmnopqrst", "abcdefghijklmnopqrst", methods):
        made_up = record(method=method, path=f"/clients/{path}", user_agent=agent, status=404)
        made_up.is_known, made_up.token, made_up.network = known, "t", "n"
        recorder.ended(made_up)

    kinds = Counter((call.integration, call.method, call.path) for call, _, _ in told)
    others = {kind for kind in kinds if kind[0] == OTHERS}
    assert len(kinds) - len(others) == KINDS[known].of_one
    assert others == {(OTHERS, method, "/{…}") for method in methods}


@pytest.mark.parametrize("known", [True, False])
def test_of_made_up_names_in_notes_so_many_are_told_apart(
    recorder: Recorder, told: list[Ended], known: bool
) -> None:
    for number in range(NOTED[known].of_one // 50 + 1):
        noted = record(status=200, is_known=known, token="t", network="n", route="/x")
        for other in range(50):
            noted.notes.add(NoteCode.ELEMENT_IGNORED, f"{number}-{other}")
        recorder.ended(noted)

    subjects = {note.subject for call, _, _ in told for note in call.notes}
    assert len(subjects) == NOTED[known].of_one + 1
    assert told[-1].call.notes == (NoteEvent("element-ignored", "…", 50),)


def test_an_integration_is_the_same_for_bridges_with_one_key(told: list[Ended]) -> None:
    for key in (KEY, KEY, bytes(31) + b"1"):
        Recorder((told.extend,), Digests(key)).ended(record(account_id=1, login="l", network="n"))

    one, same, other = (call.integration for call, _, _ in told)
    assert one == same != other


@pytest.mark.parametrize(
    "differs",
    [
        {"account_id": 2},
        {"subdomain": "beta"},
        {"login": "m"},
        {"user_agent": "Java/1.0"},
        {"network": "o"},
    ],
    ids=lambda each: next(iter(each)),
)
def test_integrations_differ_by(
    recorder: Recorder, told: list[Ended], differs: dict[str, Any]
) -> None:
    whose = {"account_id": 1, "subdomain": "acme", "login": "l", "network": "n"}
    recorder.ended(record(**whose))
    recorder.ended(record(**{**whose, **differs}))

    assert told[0].call.integration != told[1].call.integration


class TestToldApart:
    def made(
        self, *, of_one: int = 2, in_all: int = 3
    ) -> tuple[ToldApart, Callable[[float], None]]:
        now = [0.0]

        def leap(seconds: float) -> None:
            now[0] += seconds

        return ToldApart(of_one=of_one, in_all=in_all, clock=lambda: now[0]), leap

    def test_so_many_of_one_and_in_all(self) -> None:
        apart, _ = self.made()

        assert [apart.tells(each, "x") for each in "aabbcc"] == [True] * 4 + [False] * 2
        assert [apart.tells(each, "y") for each in "cdc"] == [True, False, True]

    def test_a_day_later_others_are(self) -> None:
        apart, leap = self.made(of_one=1)
        assert [apart.tells("a", "x"), apart.tells("b", "x")] == [True, False]

        leap(DAY)

        assert [apart.tells("b", "x"), apart.tells("a", "x")] == [True, False]


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/invoices/7/messages", "/invoices/{invoice_id}/messages"),
        ("/invoices/7/payments/5", "/invoices/{invoice_id}/payments/{payment_id}"),
        ("/invoices/7/messages/new", "/invoices/{invoice_id}/messages/new"),
        ("/expense_categories/5", "/expense_categories/{expense_category_id}"),
        ("/users/me", "/users/me"),
    ],
)
def test_a_route_of_v2_names_its_ids(path: str, route: str) -> None:
    assert route_of(path) == route


def test_a_logged_call_is_the_events_line() -> None:
    from bridge.server import logs  # noqa: PLC0415 - after it is configured

    log = Logged()
    logs.configure(log)
    told: list[Ended] = []
    Recorder((logs.call_log(), told.extend), Digests(KEY)).ended(record(status=200))

    assert log.getvalue().encode() == told[0].line + b"\n"
