"""What can be asked of the translation log: one function a question, for commands and pages alike.

How an answer is shown is not known here; how the tables are filled is in `ingest`.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Self

import msgspec

from bridge.record.log.events import Outcome


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
    last_seen: int
    """The beginning of the latest hour that has one."""


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """What happened in a period of time."""

    since: int
    by: str
    """An outcome or an integration, as was asked."""
    calls: int


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which calls; None: any. Times are milliseconds since 1970, `until` excluded."""

    integration: str | None = None
    method: str | None = None
    route: str | None = None
    """A route, or a path without one."""
    status: int | None = None
    outcome: Outcome | None = None
    refusal: str | None = None
    note: str | None = None
    """A code."""
    request_id: str | None = None
    since: int | None = None
    until: int | None = None


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


class Log:
    """The translation log, opened to be asked. For one thread at a time.

    Every method raises `LogError` where the database does not answer.
    """

    @classmethod
    def open(cls, database: str) -> Self:
        """Open the database, a path or a URL, which has to exist."""
        raise NotImplementedError

    def close(self) -> None: ...

    def integrations(
        self, *, since: int | None = None, quiet_since: int | None = None
    ) -> list[Integration]:
        """Return who calls, the latest first, with what they did since then (None: ever).

        With `quiet_since`, only those that have not called since then.
        """
        raise NotImplementedError

    def integration(self, id_: str, *, since: int | None = None) -> Integration | None:
        raise NotImplementedError

    def find_integration(self, text: str) -> Integration:
        """Return the one whose id begins with `text`, or whose name or label it is."""
        raise NotImplementedError

    def describe(
        self,
        id_: str,
        *,
        name: str | None = None,
        owner: str | None = None,
        state: State | None = None,
        remark: str | None = None,
    ) -> None:
        """Write down what the operator says; None leaves it as it is, '' takes it away."""
        raise NotImplementedError

    def routes(self, integration: str | None, *, since: int | None = None) -> list[Route]:
        """Return what an integration (None: all together) did, the most frequent first."""
        raise NotImplementedError

    def timeline(
        self, *, by: str, since: int, until: int, step: int, integration: str | None = None
    ) -> list[Bucket]:
        """Return the calls of each period of `step` ms (hours or days), `by` outcome or
        integration.
        """
        raise NotImplementedError

    def calls(self, filter_: Filter, *, before: int | None = None, limit: int = 50) -> Page:
        raise NotImplementedError

    def call(self, id_or_request_id: str) -> CallRow | None:
        """Return the call with this id, or else the latest with this request id."""
        raise NotImplementedError

    def exchange(self, id_: int) -> bytes | None:
        """Return the captured exchange of a call, as `capture` reads it; None: there is none."""
        raise NotImplementedError

    def failed_connections(self, *, since: int | None = None) -> Sequence[FailedConnection]:
        raise NotImplementedError

    def unrecorded(self, *, since: int | None = None) -> int:
        """Return how many calls were served and not kept."""
        raise NotImplementedError
