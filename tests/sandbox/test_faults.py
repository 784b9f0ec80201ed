"""Rules: how they are read, which calls they are for, and which of those they have misbehave."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sandbox.app import (
    SANDBOX_ACCOUNT_ID,
    SANDBOX_SECOND_ACCOUNT_ID,
    SANDBOX_SECOND_TOKEN,
    SANDBOX_TOKEN,
)
from bridge.sandbox.errors import WrongFaultError
from bridge.sandbox.faults import (
    FAULTS,
    Arrival,
    FaultRules,
    Reset,
    Status,
    Throttle,
    chance,
    describe,
    read_fault,
    read_rules,
)
from tests.sandbox.conftest import Clock

LIST = "/v2/invoices/1420/messages"
GET = Arrival("GET", LIST, str(SANDBOX_ACCOUNT_ID), SANDBOX_TOKEN)
POST = GET._replace(method="POST")


def rules(*given: dict[str, Any], **options: Any) -> FaultRules:
    return FaultRules(read_rules(json.dumps(given).encode()), **options)


def fired(of: FaultRules, calls: int, arrival: Arrival = GET) -> list[int]:
    """Return the numbers of the calls that misbehave, of so many alike."""
    return [number for number in range(1, calls + 1) if of.befalls(arrival) is not None]


class TestReading:
    def test_one_rule_or_a_list_of_them(self) -> None:
        assert [rule.fault for rule in read_rules(b'{"fault": "reset"}')] == [Reset()]
        both = read_rules(b'[{"fault": "reset", "at": "head"}, {"fault": "status", "status": 503}]')
        assert [rule.fault for rule in both] == [Reset(at="head"), Status(status=503)]
        assert read_rules(b"[]") == []

    @pytest.mark.parametrize(
        ("rule", "complaint"),
        [
            ([], "not a JSON object"),
            ("reset", "not a JSON object"),
            ({}, "`fault` must be one of delay, hang, "),
            ({"fault": "rest"}, "'rest'"),
            ({"fault": 5}, "5"),
            ({"fault": ["reset"]}, "['reset']"),
            ({"fault": "delay"}, "missing required field `seconds`"),
            ({"fault": "delay", "seconds": -1}, "`$.seconds`"),
            ({"fault": "delay", "seconds": 1e300}, "`$.seconds`"),
            ({"fault": "delay", "seconds": "1"}, "`$.seconds`"),
            ({"fault": "delay", "seconds": 1, "applied": True}, "`$.applied`"),
            ({"fault": "reset", "at": "middle"}, "'middle' - at `$.at`"),
            ({"fault": "reset", "applied": 1}, "`$.applied`"),
            ({"fault": "reset", "bytes": 1}, "unknown field `bytes`"),
            ({"fault": "reset", "tiems": 1}, "unknown field `tiems`"),
            ({"fault": "status", "status": 100}, "`$.status`"),
            ({"fault": "status", "status": 600}, "`$.status`"),
            ({"fault": "status", "status": 503, "retry_after": -1}, "`$.retry_after`"),
            ({"fault": "status", "status": 503, "retry_after": "1\r\nA: b"}, "`$.retry_after`"),
            ({"fault": "status", "status": 503, "retry_after": "1\n"}, "`$.retry_after`"),
            ({"fault": "status", "status": 503, "content_type": "a\nb"}, "`$.content_type`"),
            ({"fault": "html", "status": 101}, "`$.status`"),
            ({"fault": "trickle", "bytes": 0, "seconds": 1}, "`$.bytes`"),
            ({"fault": "throttle", "calls": 1}, "`calls` and `seconds` belong together"),
            ({"fault": "throttle", "seconds": 1}, "`calls` and `seconds` belong together"),
            ({"fault": "hang", "method": "post"}, "'post' - at `$.method`"),
            ({"fault": "hang", "method": []}, "`$.method`"),
            ({"fault": "hang", "path": "("}, "`path` is no regular expression"),
            ({"fault": "hang", "account_id": 3}, "`account_id` is none of the sandbox's: 1000, "),
            ({"fault": "hang", "account_id": "1000"}, "`$.account_id`"),
            ({"fault": "hang", "skip": -1}, "`$.skip`"),
            ({"fault": "hang", "times": 0}, "`$.times`"),
            ({"fault": "hang", "probability": 1.1}, "`$.probability`"),
        ],
        ids=str,
    )
    def test_a_wrong_rule_is_told_by_its_member(self, rule: Any, complaint: str) -> None:
        with pytest.raises(WrongFaultError) as refused:
            read_rules(json.dumps([{"fault": "reset"}, rule]).encode())
        assert str(refused.value).startswith("rule 2: ")
        assert complaint in str(refused.value)

    def test_a_token_that_is_not_the_sandboxs_is_refused_and_not_repeated(self) -> None:
        with pytest.raises(WrongFaultError) as refused:
            read_rules(b'{"fault": "hang", "token": "a real one"}')
        assert "`token` is none of the sandbox's" in str(refused.value)
        assert "a real one" not in str(refused.value)

    @given(st.binary())
    def test_whatever_is_no_rule_is_refused_as_such(self, data: bytes) -> None:
        with suppress(WrongFaultError):
            assert read_rules(data) == []

    @given(
        st.dictionaries(
            st.sampled_from(["fault", "seconds", "at", "applied", "path", "times", "x"]),
            st.one_of(
                st.sampled_from([*FAULTS, "before", "body", "("]),
                st.none(),
                st.booleans(),
                st.integers(),
                st.floats(allow_nan=False, allow_infinity=False),
                st.text(max_size=3),
            ),
        )
    )
    def test_what_is_read_is_described_so_that_it_reads_the_same(self, rule: Any) -> None:
        try:
            (new,) = read_rules(json.dumps(rule).encode())
        except WrongFaultError:
            return
        (in_force,) = FaultRules([new])
        described = describe(in_force)
        for member in ("id", "matched", "fired"):
            del described[member]
        assert read_rules(json.dumps(described).encode()) == [new]

    def test_a_calls_own_fault_is_a_name_or_an_object(self) -> None:
        assert read_fault("reset") == Reset()
        assert read_fault('{"fault": "reset", "at": "body"}') == Reset(at="body")

    @pytest.mark.parametrize(
        "text", ["", "rest", "{", '{"fault": "reset", "skip": 1}', "delay", '{"\udcff": 1}']
    )
    def test_a_calls_own_fault_may_be_wrong(self, text: str) -> None:
        with pytest.raises(WrongFaultError):
            read_fault(text)


class TestMatching:
    @pytest.mark.parametrize(
        ("matching", "others"),
        [
            ({"method": "POST"}, {"method": "GET"}),
            ({"method": ["POST", "DELETE"]}, {"method": "GET"}),
            ({"path": r"/v2/invoices/\d+/messages"}, {"path": f"{LIST}/new"}),
            ({"path": r".*/messages"}, {"path": f"{LIST}/409"}),
            ({"account_id": 1000}, {"account_id": str(SANDBOX_SECOND_ACCOUNT_ID)}),
            ({"account_id": 1000}, {"account_id": ""}),
            ({"token": SANDBOX_TOKEN}, {"token": SANDBOX_SECOND_TOKEN}),
        ],
        ids=str,
    )
    def test_a_rule_is_for_calls_that_match_in_everything_given(
        self, matching: dict[str, Any], others: dict[str, str]
    ) -> None:
        of = rules({"fault": "hang", **matching})
        assert of.befalls(POST._replace(**others)) is None
        assert of.befalls(POST) is not None
        (rule,) = of
        assert (rule.matched, rule.fired) == (1, 1)

    def test_the_first_that_fires_wins_and_those_behind_it_do_not_count(self) -> None:
        of = rules({"fault": "hang", "times": 2}, {"fault": "reset", "skip": 1})
        names = [
            None if fault is None else type(fault).__name__ for fault in map(of.befalls, [GET] * 5)
        ]
        assert names == ["Hang", "Hang", None, "Reset", "Reset"]
        assert [(rule.matched, rule.fired) for rule in of] == [(5, 2), (3, 2)]

    def test_the_first_calls_are_skipped_and_only_so_many_misbehave(self) -> None:
        assert fired(rules({"fault": "hang", "skip": 2, "times": 3}), 9) == [3, 4, 5]

    def test_a_limit_is_each_tokens_own(self, clock: Clock) -> None:
        of = rules({"fault": "throttle", "calls": 2, "seconds": 10}, monotonic=clock.monotonic)
        assert fired(of, 4) == [3, 4]
        assert fired(of, 2, GET._replace(token=SANDBOX_SECOND_TOKEN)) == []
        clock.advance(6.5)
        assert of.befalls(GET) == Throttle(retry_after=4, calls=2, seconds=10)
        clock.advance(3.5)
        assert of.befalls(GET) is None


class TestChance:
    def test_the_same_seed_has_the_same_calls_misbehave(self) -> None:
        rule = {"fault": "hang", "probability": 0.3}
        first = fired(rules(rule, seed=7), 200)
        assert fired(rules(rule, seed=7), 200) == first
        assert fired(rules(rule, seed=8), 200) != first
        assert 30 < len(first) < 90

    def test_calls_that_do_not_match_change_nothing(self) -> None:
        of = rules({"fault": "hang", "probability": 0.3, "method": "GET"}, seed=7)
        alone = fired(rules({"fault": "hang", "probability": 0.3, "method": "GET"}, seed=7), 50)
        mixed = []
        for number in range(1, 51):
            of.befalls(POST)
            mixed += fired(of, 1) and [number]
        assert mixed == alone

    def test_two_rules_draw_apart(self) -> None:
        of = rules(*[{"fault": "hang", "probability": 0.5}] * 2)
        first, second = of
        draws = [(first.befalls(GET, 0) is None, second.befalls(GET, 0) is None) for _ in range(50)]
        assert len(set(draws)) == 4

    def test_a_seed_starts_the_run_again(self) -> None:
        of = rules({"fault": "hang", "probability": 0.3, "skip": 3, "times": 9}, seed=7)
        first = fired(of, 100)
        of.restart(7)
        assert fired(of, 100) == first

    def test_rules_cleared_and_given_again_repeat_the_run(self) -> None:
        rule = {"fault": "hang", "probability": 0.3}
        of = rules({"fault": "hang", "probability": 0.0}, rule, seed=7)
        first = fired(of, 100)
        of.clear()
        of.add(read_rules(json.dumps([{"fault": "hang", "probability": 0.0}, rule]).encode()))
        assert fired(of, 100) == first

    def test_never_and_always(self) -> None:
        assert fired(rules({"fault": "hang", "probability": 0}), 100) == []
        assert fired(rules({"fault": "hang", "probability": 1}), 100) == list(range(1, 101))

    @given(st.integers(), st.integers(min_value=1), st.integers(min_value=1))
    def test_a_chance_is_from_0_up_to_1(self, seed: int, rule_id: int, number: int) -> None:
        assert 0 <= chance(seed, rule_id, number) < 1

    def test_a_chance_is_the_same_on_every_machine(self) -> None:
        drawn = [round(chance(1, 1, number), 6) for number in (1, 2, 3)]
        assert drawn == [0.60422, 0.509663, 0.367017]
