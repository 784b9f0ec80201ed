"""What the translation log answers, as values; how that is found is in `reports`."""

from enum import StrEnum

import msgspec

from bridge.record.log.events import Outcome
from bridge.record.log.schedules import Stretch
from bridge.side import Side


class State(StrEnum):
    """How far the migration of an integration has come, as its operator says."""

    UNKNOWN = "unknown"
    CONTACTED = "contacted"
    MIGRATING = "migrating"
    DONE = "done"


class Integration(msgspec.Struct, frozen=True, kw_only=True):
    """Who calls, as an operator can act on it. Times are milliseconds since 1970, UTC."""

    id: str
    title: str
    """What to call it: its name, else the book's label, else what is known of it."""
    account_id: int | None
    subdomain: str | None
    login: str | None
    token: str | None
    agent: str | None
    network: str | None
    way: str | None
    is_known: bool
    label: str | None
    user_agent: str | None
    address: str | None
    host: str | None
    first_seen: int
    last_seen: int
    name: str | None
    owner: str | None
    state: State
    remark: str | None
    calls: int
    """In the time that was asked for, as all that follows."""
    not_served: int
    outcomes: dict[str, int]
    routes: list[str]
    """Methods and routes, the most frequent first: `GET /invoice/{invoice_id}/messages`."""
    dialects: list[str]
    notes: dict[str, int]
    """By code, in how many calls."""
    answered_by: Side | None = None
    """By whom its calls are, as was decided of it or of all; None: as the settings say."""


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """What an integration does at one route."""

    method: str
    route: str
    """Or the path, where there is no route."""
    dialect: str | None
    outcome: Outcome
    status: int | None
    refusal: str | None
    calls: int
    v2_calls: int
    milliseconds: float
    """The mean."""
    first_seen: int
    """The beginning of the first day that has one, of the time asked for; of late, of the hour."""
    last_seen: int
    """The beginning of the latest hour that has one; of all integrations together, of the day."""


class Noted(msgspec.Struct, frozen=True, kw_only=True):
    """A note that was made on the calls of one method and route."""

    method: str
    route: str
    code: str
    subject: str
    calls: int
    """In how many calls."""
    count: int
    """How often in all."""


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """What happened in a period of time."""

    since: int
    by: str
    """An outcome or an integration, as was asked."""
    calls: int


class CallRow(msgspec.Struct, frozen=True, kw_only=True):
    """A call as it is listed: the columns of `calls`, `upstream` and `notes` being read."""

    id: int
    time: int
    integration: str
    title: str
    request_id: str
    method: str
    route: str | None
    path: str | None
    dialect: str | None
    format: str | None
    status: int | None
    outcome: Outcome
    refusal: str | None
    problem: str | None
    cause: str | None
    v2_says: str | None
    milliseconds: float
    v2_milliseconds: float | None
    waiting_milliseconds: float | None
    translation_milliseconds: float | None
    bytes_in: int
    bytes_out: int
    address: str | None
    host: str | None
    user_agent: str | None
    http: str | None
    tls: str | None
    shared_with: str | None
    client_gone: bool
    upstream: list[dict[str, object]]
    notes: list[dict[str, object]]
    captured: bool = False


class Page(msgspec.Struct, frozen=True):
    """Some of the calls that were asked for, the latest first."""

    rows: list[CallRow]
    before: int | None
    """Where to go on: the id below which has not been looked yet; None: that is all.

    A page may be short, even empty, and yet not the last one: a look has an end."""


class FailedConnection(msgspec.Struct, frozen=True, kw_only=True):
    """Connections of one network that failed alike."""

    network: str
    event: str
    reason: str
    detail: str | None
    count: int
    first_seen: int
    last_seen: int


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """An integration whose calls are turned away on purpose, or would have been."""

    integration: str
    title: str
    owner: str | None
    calls: int
    writes: int
    routes: dict[str, int]
    """Calls by method and route, the most frequent first."""
    refusals: dict[str, int] = {}
    """Likewise by why: a brownout, or a sunset."""
    last_seen: int | None = None
    """The beginning of the latest hour that has one."""


class DryRun(msgspec.Struct, frozen=True, kw_only=True):
    """Who would have been turned away in the last seven days."""

    stretches: list[Stretch]
    """When."""
    is_exact: bool
    """False: so many at the most, for single calls are not kept for so long."""
    since: int | None
    """When the log begins; None: it is empty."""
    calls: int
    writes: int
    hits: list[Hit]
    """The most calls first."""
