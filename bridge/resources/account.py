"""The account: who is calling, and how near the caller's token is to v2's limit.

Read it with schemas/README.md, "Account", whose tables these are.
"""

import re
from collections.abc import Callable, Collection, Mapping
from datetime import datetime

import msgspec

from bridge.resources.flow import CountCalls, Flow, Steps
from bridge.resources.routes import Call, Resource
from bridge.resources.table import (
    BOOLEAN,
    DATETIME,
    ID,
    INTEGER,
    STRING,
    Entity,
    Field,
    Kind,
    Source,
    place,
)
from bridge.v1 import elements
from bridge.v1.dialects import Dialect
from bridge.v1.elements import PerDialect
from bridge.v1.notes import NoteCode
from bridge.v1.time_zones import identifier, utc_offset
from bridge.v1.values import datetime_text
from bridge.v1.wire import V1Request, V1Response
from bridge.v2.decoding import decode
from bridge.v2.rate_limit import MOST_CALLS, WINDOW, Rate
from bridge.v2.retry_after import whole_seconds
from bridge.v2.wire import V2Request, V2Response, require_status

ROLES = Kind(list[str] | None, elements.BOOLEAN)
ZONE_OFFSET = Kind(str | None, elements.INTEGER)
NOW = Source("at", Kind(datetime, elements.DATETIME, required=True))


def _in_both(at: int) -> PerDialect[int | None]:
    return place(classic=at, final=at)


def _any_of(*roles: str) -> Callable[[Collection[str] | None], bool | None]:
    """Return what tells whether somebody has one of these roles; null where v2 tells none."""
    wanted = frozenset(roles)
    return lambda has: None if has is None else not wanted.isdisjoint(has)


_ADMINISTRATOR = "administrator"

WHO_AM_I = Entity(
    schema="account/who-am-i",
    element="hash",
    fields=(
        Field("called.base_uri", "company/base-uri", STRING, _in_both(1)),
        Field("called.host", "company/full-domain", STRING, _in_both(2)),
        Field("company.name", "company/name", STRING, _in_both(3)),
        Field("company.is_active", "company/active", BOOLEAN, _in_both(4)),
        Field("company.week_start_day", "company/week-start-day", STRING, _in_both(5)),
        Field("company.time_format", "company/time-format", STRING, _in_both(6)),
        Field("company.clock", "company/clock", STRING, _in_both(7)),
        Field("company.decimal_symbol", "company/decimal-symbol", STRING, _in_both(8)),
        Field("company.color_scheme", "company/color-scheme", STRING, _in_both(9)),
        Field("company.expense_feature", "company/modules/expenses", BOOLEAN, _in_both(10)),
        Field("company.invoice_feature", "company/modules/invoices", BOOLEAN, _in_both(11)),
        Field("company.estimate_feature", "company/modules/estimates", BOOLEAN, _in_both(12)),
        Field("company.approval_feature", "company/modules/approval", BOOLEAN, _in_both(13)),
        Field("company.thousands_separator", "company/thousands-separator", STRING, _in_both(14)),
        Field("company.plan_type", "company/plan-type", STRING, _in_both(15)),
        Field("user.timezone", "user/timezone", STRING, _in_both(16)),
        Field(
            "user.timezone",
            "user/timezone-identifier",
            STRING,
            _in_both(17),
            choose=identifier,
        ),
        Field(
            "user.timezone",
            "user/timezone-utc-offset",
            ZONE_OFFSET,
            _in_both(18),
            (NOW,),
            utc_offset,
        ),
        Field("user.id", "user/id", ID, _in_both(19)),
        Field("user.email", "user/email", STRING, _in_both(20)),
        Field(
            "user.access_roles",
            "user/admin",
            ROLES,
            _in_both(21),
            choose=_any_of(_ADMINISTRATOR),
        ),
        Field("user.first_name", "user/first-name", STRING, _in_both(22)),
        Field("user.last_name", "user/last-name", STRING, _in_both(23)),
        Field("user.avatar_url", "user/avatar-url", STRING, _in_both(24)),
        Field(
            "user.access_roles",
            "user/project-manager/is-project-manager",
            ROLES,
            _in_both(25),
            choose=_any_of("manager"),
        ),
        Field(
            "user.access_roles",
            "user/project-manager/can-see-rates",
            ROLES,
            _in_both(26),
            choose=_any_of(_ADMINISTRATOR, "billable_rates_manager"),
        ),
        Field(
            "user.access_roles",
            "user/project-manager/can-create-projects",
            ROLES,
            _in_both(27),
            choose=_any_of(_ADMINISTRATOR, "project_creator"),
        ),
        Field(
            "user.access_roles",
            "user/project-manager/can-create-invoices",
            ROLES,
            _in_both(28),
            choose=_any_of(
                _ADMINISTRATOR,
                "managed_projects_invoice_drafter",
                "managed_projects_invoice_manager",
            ),
        ),
        Field("company.wants_timestamp_timers", "user/timestamp-timers", BOOLEAN, _in_both(29)),
    ),
)

WITHHELD_COMPANY: Mapping[str, object] = {
    "is_active": True,
    "week_start_day": "Monday",
    "decimal_symbol": ".",
    "expense_feature": True,
    "invoice_feature": True,
    "estimate_feature": True,
    "approval_feature": True,
    "thousands_separator": ",",
    "wants_timestamp_timers": False,
}
"""What is told of a company that v2 does not show its user: what a client must have that reads v1
into types without a null, and nothing that keeps a client from asking v2."""

_HOST = re.compile(r"[A-Za-z0-9._-]+(?::[0-9]+)?|\[[0-9A-Fa-f:.]+\](?::[0-9]+)?")


def who_am_i(call: V1Request) -> Flow:
    """Tell who is calling (schemas/README.md, "Who am I")."""
    me: V2Response = yield V2Request("GET", "/users/me")
    require_status(me, 200)
    answer: V2Response = yield V2Request("GET", "/company")
    company: object = WITHHELD_COMPANY
    if answer.status == 403:
        call.notes.add(NoteCode.COMPANY_WITHHELD, "company")
    else:
        require_status(answer, 200)
        company = _object(answer)
    facts = {
        "user": _object(me),
        "company": company,
        "called": _called(call),
        "at": me.received_at,
    }
    return V1Response(200, (WHO_AM_I.write(msgspec.json.encode(facts), call),))


class _Object(msgspec.Struct):
    """Any JSON object; none of its members is kept, however many there are."""


def _object(response: V2Response) -> msgspec.Raw:
    """Return the JSON object that v2 answered.

    Raises:
        UpstreamFault: it is none.
    """
    decode(response.body, _Object)
    return msgspec.Raw(response.body)


def _called(call: V1Request) -> Mapping[str, str] | None:
    """Return where the client called; None where that is no host name."""
    scheme, _, host = (call.base_uri or "").partition("://")
    return {"base_uri": f"{scheme}://{host}", "host": host} if _HOST.fullmatch(host) else None


RATE_LIMIT_STATUS = Entity(
    schema="account/rate-limit-status",
    element="hash",
    fields=(
        Field("last_access_at", "last-access-at", DATETIME, _in_both(1)),
        Field("count", "count", INTEGER, _in_both(2)),
        Field("timeframe_limit", "timeframe-limit", INTEGER, _in_both(3)),
        Field("max_calls", "max-calls", INTEGER, _in_both(4)),
        Field("lockout_seconds", "lockout-seconds", INTEGER, _in_both(5)),
    ),
)

JSON = {"Content-Type": "application/json; charset=utf-8"}


def rate_limit_status(call: V1Request) -> Flow:
    """Tell how near the caller is to v2's limit (schemas/README.md, "Rate limit status")."""
    status = yield from _status()
    return V1Response(200, (RATE_LIMIT_STATUS.write(status, call),))


def rate_limit_status_in_json(_call: V1Request) -> Flow:
    """Tell the same to who takes no XML: a client in trouble asks this until it is told."""
    status = yield from _status()
    return V1Response(200, (status,), JSON)


def _status() -> Steps[bytes]:
    rate: Rate = yield CountCalls()
    # Others may use the token, too: what v2 has told to wait is over the limit, whoever did it.
    count = max(rate.calls, MOST_CALLS + 1) if rate.wait else rate.calls
    return msgspec.json.encode({
        "last_access_at": datetime_text(rate.at),
        "count": count,
        "timeframe_limit": WINDOW,
        "max_calls": MOST_CALLS,
        "lockout_seconds": whole_seconds(rate.wait) if rate.wait else WINDOW,
    })  # fmt: skip


RESOURCE = Resource(
    name="account",
    successor="/users/me",
    parts={"/users/me": "user", "/company": "company"},
    calls=(
        Call(
            "who_am_i",
            "GET",
            "/account/who_am_i",
            Dialect.CLASSIC,
            who_am_i,
            tells_host=True,
            shows=WHO_AM_I,
        ),
        Call(
            "rate_limit_status",
            "GET",
            "/account/rate_limit_status",
            Dialect.CLASSIC,
            rate_limit_status,
            json_flow=rate_limit_status_in_json,
            asks_v2=False,
            shows=RATE_LIMIT_STATUS,
        ),
    ),
)
