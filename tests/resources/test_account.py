"""The account's flows, driven by hand (schemas/README.md, "Account")."""

import json
import tracemalloc
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from bridge.resources.account import rate_limit_status, rate_limit_status_in_json, who_am_i
from bridge.resources.flow import CountCalls, Flow
from bridge.sandbox.seeds import BOB, COMPANIES, MARY
from bridge.v1.dialects import Dialect
from bridge.v1.errors import InvalidAnswer
from bridge.v1.notes import Note
from bridge.v1.wire import V1Request, V1Response
from bridge.v2.errors import UpstreamFault, UpstreamRefusal
from bridge.v2.rate_limit import Rate
from bridge.v2.wire import V2Request, V2Response
from tests.resources.driving import BASE
from tests.support.legacy import assert_valid

SUMMER = datetime(2013, 9, 1, 12, tzinfo=UTC)
USER: dict[str, Any] = BOB.described()
COMPANY: dict[str, Any] = {
    name: getattr(COMPANIES[1000], name) for name in COMPANIES[1000].__struct_fields__
}


def asked(dialect: Dialect = Dialect.CLASSIC, base_uri: str | None = None) -> V1Request:
    return V1Request(path="/account/who_am_i", ids={}, dialect=dialect, base_uri=base_uri)


def response(what: object, status: int = 200) -> V2Response:
    body = what if isinstance(what, bytes) else json.dumps(what).encode()
    return V2Response(status, body, BASE, received_at=SUMMER)


def answered(flow: Flow, *answers: object) -> V1Response:
    """Give a flow these answers to its steps, and return what it comes to."""
    next(flow)
    for answer in answers:
        try:
            flow.send(answer)
        except StopIteration as end:
            told: V1Response = end.value
            return told
    raise AssertionError("the flow wants more answers")


def told(
    user: object = None, company: object = None, call: V1Request | None = None
) -> dict[str, str | None]:
    """Return the texts of the answer by their paths; None: null."""
    flow = who_am_i(call or asked())
    answer = answered(
        flow,
        response(USER if user is None else user),
        response(COMPANY if company is None else company),
    )
    return texts(answer)


def texts(answer: V1Response) -> dict[str, str | None]:
    root = etree.fromstring(b"".join(answer.body))
    tree = root.getroottree()
    return {
        tree.getpath(each).removeprefix("/hash/"): None if each.get("nil") else each.text or ""
        for each in root.iter()
        if not len(each)
    }


class TestWhoAmI:
    def test_asks_for_the_user_and_then_for_the_company(self) -> None:
        flow = who_am_i(asked())

        assert next(flow) == V2Request("GET", "/users/me")
        assert flow.send(response(USER)) == V2Request("GET", "/company")

    @pytest.mark.parametrize("dialect", Dialect)
    def test_is_what_v1_printed(self, dialect: Dialect) -> None:
        call = asked(dialect, "https://acme.harvestapp.com")
        flow = who_am_i(call)
        answer = answered(flow, response(USER), response(COMPANY))

        assert_valid(b"".join(answer.body), f"account/who-am-i/{dialect}-item")
        assert texts(answer) == {
            "company/base-uri": "https://acme.harvestapp.com",
            "company/full-domain": "acme.harvestapp.com",
            "company/name": "API Examples",
            "company/active": "true",
            "company/week-start-day": "Monday",
            "company/time-format": "hours_minutes",
            "company/clock": "12h",
            "company/decimal-symbol": ".",
            "company/color-scheme": "orange",
            "company/modules/expenses": "true",
            "company/modules/invoices": "true",
            "company/modules/estimates": "true",
            "company/modules/approval": "true",
            "company/thousands-separator": ",",
            "company/plan-type": "simple-v4",
            "user/timezone": "Mountain Time (US & Canada)",
            "user/timezone-identifier": "America/Denver",
            "user/timezone-utc-offset": "-21600",
            "user/id": "1782884",
            "user/email": "bobpowell@example.com",
            "user/admin": "true",
            "user/first-name": "Bob",
            "user/last-name": "Powell",
            "user/avatar-url": USER["avatar_url"],
            "user/project-manager/is-project-manager": "false",
            "user/project-manager/can-see-rates": "true",
            "user/project-manager/can-create-projects": "true",
            "user/project-manager/can-create-invoices": "true",
            "user/timestamp-timers": "false",
        }
        assert list(call.notes) == []

    @pytest.mark.parametrize(
        ("roles", "expected"),
        [
            # admin, project manager, sees rates, creates projects, creates invoices
            (["administrator"], "tfttt"),
            (["member"], "fffff"),
            (["manager"], "ftfff"),
            (["manager", "billable_rates_manager"], "fttff"),
            (["manager", "project_creator"], "ftftf"),
            (["manager", "managed_projects_invoice_drafter"], "ftfft"),
            (["manager", "managed_projects_invoice_manager"], "ftfft"),
            (["manager", "estimates_manager", "a role to come"], "ftfff"),
            ([], "fffff"),
            (None, "fffff"),
        ],
    )
    def test_roles(self, roles: list[str] | None, expected: str) -> None:
        elements = told({**USER, "access_roles": roles})

        letters = {"true": "t", "false": "f"}
        assert expected == "".join(
            letters[elements[f"user/{element}"] or ""]
            for element in (
                "admin",
                "project-manager/is-project-manager",
                "project-manager/can-see-rates",
                "project-manager/can-create-projects",
                "project-manager/can-create-invoices",
            )
        )

    def test_a_zone_that_is_not_known_is_told_by_its_name_alone(self) -> None:
        elements = told({**USER, "timezone": "Atlantis"})

        assert elements["user/timezone"] == "Atlantis"
        assert elements["user/timezone-identifier"] is None
        assert elements["user/timezone-utc-offset"] is None

    @pytest.mark.parametrize(
        ("base_uri", "domain"),
        [
            ("https://acme.harvestapp.com", "acme.harvestapp.com"),
            ("http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("http://bridge_1", "bridge_1"),
            ("https://[::1]:8443", "[::1]:8443"),
        ],
    )
    def test_a_client_is_told_to_stay_where_it_is(self, base_uri: str, domain: str) -> None:
        elements = told(call=asked(base_uri=base_uri))

        assert elements["company/base-uri"] == base_uri
        assert elements["company/full-domain"] == domain

    @pytest.mark.parametrize(
        "base_uri",
        [
            None,
            "",
            "http://",
            "http://a b",
            "http://a/b",
            "http://a@b",
            "http://\udcff",
            "http://a:b",
        ],
    )
    def test_what_is_no_host_is_told_to_nobody(self, base_uri: str | None) -> None:
        elements = told(call=asked(base_uri=base_uri))

        assert elements["company/base-uri"] is None
        assert elements["company/full-domain"] is None
        assert elements["company/name"] == "API Examples"

    @pytest.mark.parametrize("dialect", Dialect)
    def test_a_company_that_is_withheld_keeps_nobody_out(self, dialect: Dialect) -> None:
        call = asked(dialect, "https://acme.harvestapp.com")
        answer = answered(who_am_i(call), response(MARY.described()), response({}, 403))

        assert_valid(b"".join(answer.body), f"account/who-am-i/{dialect}-item")
        elements = texts(answer)
        assert elements["user/email"] == "marymajor@example.com"
        company = {path: text for path, text in elements.items() if path.startswith("company/")}
        assert company == {
            "company/base-uri": "https://acme.harvestapp.com",
            "company/full-domain": "acme.harvestapp.com",
            "company/name": None,
            "company/active": "true",
            "company/week-start-day": "Monday",
            "company/time-format": None,
            "company/clock": None,
            "company/decimal-symbol": ".",
            "company/color-scheme": None,
            "company/modules/expenses": "true",
            "company/modules/invoices": "true",
            "company/modules/estimates": "true",
            "company/modules/approval": "true",
            "company/thousands-separator": ",",
            "company/plan-type": None,
        }
        assert elements["user/timestamp-timers"] == "false"
        assert list(call.notes) == [(Note("company-withheld", "company"), 1)]

    @pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
    def test_any_other_refusal_of_the_company_is_one(self, status: int) -> None:
        with pytest.raises(UpstreamRefusal) as refused:
            answered(who_am_i(asked()), response(USER), response({}, status))

        assert refused.value.status == status

    @pytest.mark.parametrize("status", [401, 403, 404, 429, 500])
    def test_who_is_refused_the_user_is_refused(self, status: int) -> None:
        flow = who_am_i(asked())
        next(flow)

        with pytest.raises(UpstreamRefusal) as refused:
            flow.send(response({}, status))
        assert refused.value.status == status

    @pytest.mark.parametrize("what", [b"[]", b"null", b"<html>", b"", b'{"id": 1} {"id": 2}'])
    def test_what_is_no_object_is_a_fault(self, what: bytes) -> None:
        with pytest.raises(UpstreamFault):
            told(user=what)
        with pytest.raises(UpstreamFault):
            told(company=what)

    def test_members_that_are_not_told_take_no_memory(self) -> None:
        more = b",".join(b'"%d": 1' % number for number in range(100_000))
        user = json.dumps(USER).encode()[:-1] + b"," + more + b"}"
        tracemalloc.start()
        try:
            answered(who_am_i(asked()), response(user), response(COMPANY))
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert most < 5 * len(user)

    def test_a_user_without_an_id_is_a_fault(self) -> None:
        with pytest.raises((UpstreamFault, InvalidAnswer)):
            told(user={"email": "a@b.example"})

    def test_anything_else_may_be_null_or_missing(self) -> None:
        assert told({"id": 1}, {})["user/id"] == "1"
        elements = told(
            {**dict.fromkeys(USER), "id": 1}, dict.fromkeys(COMPANY), asked(base_uri="http://a")
        )

        known = {path for path, text in elements.items() if text not in {None, "false"}}
        assert known == {"company/base-uri", "company/full-domain", "user/id"}

    @given(st.text(st.characters(codec=None, categories=None)))
    def test_any_text_can_be_told(self, text: str) -> None:
        answer = told({**USER, "first_name": text, "timezone": text}, {**COMPANY, "name": text})

        assert len(answer["company/name"] or "") == len(text)


def rate(calls: int, wait: float = 0.0) -> Rate:
    return Rate(datetime(2010, 4, 2, 1, 34, 59, 500_000, tzinfo=UTC), calls, wait)


class TestRateLimitStatus:
    @pytest.mark.parametrize(
        ("dialect", "type_"), [(Dialect.CLASSIC, "datetime"), (Dialect.FINAL, "dateTime")]
    )
    def test_is_what_v1_answered(self, dialect: Dialect, type_: str) -> None:
        answer = answered(rate_limit_status(asked(dialect)), rate(41))

        assert answer.status == 200
        assert_valid(b"".join(answer.body), f"account/rate-limit-status/{dialect}-item")
        assert [
            (each.tag, each.get("type"), each.text)
            for each in etree.fromstring(b"".join(answer.body))
        ] == [
            ("last-access-at", type_, "2010-04-02T01:34:59Z"),
            ("count", "integer", "41"),
            ("timeframe-limit", "integer", "15"),
            ("max-calls", "integer", "100"),
            ("lockout-seconds", "integer", "15"),
        ]

    def test_asks_for_the_count_and_for_nothing_else(self) -> None:
        assert next(rate_limit_status(asked())) == CountCalls()

    @pytest.mark.parametrize(
        ("known", "count", "lockout"),
        [
            (rate(0), "0", "15"),
            (rate(100), "100", "15"),
            (rate(130), "130", "15"),
            (rate(3, 8.2), "101", "9"),
            (rate(130, 0.1), "130", "1"),
        ],
    )
    def test_who_has_to_wait_is_over_the_limit(self, known: Rate, count: str, lockout: str) -> None:
        elements = texts(answered(rate_limit_status(asked()), known))

        assert (elements["count"], elements["lockout-seconds"]) == (count, lockout)

    def test_in_json_the_members_are_the_same(self) -> None:
        answer = answered(rate_limit_status_in_json(asked()), rate(41))

        assert answer.headers == {"Content-Type": "application/json; charset=utf-8"}
        assert json.loads(b"".join(answer.body)) == {
            "last_access_at": "2010-04-02T01:34:59Z",
            "count": 41,
            "timeframe_limit": 15,
            "max_calls": 100,
            "lockout_seconds": 15,
        }
