"""What the translation log is told, as values: a call that has ended, a connection that failed.

They hold no secret, no body and no e-mail address. As JSON they are the log line, and from that
every other sink takes what it shows: the field names here are the ones that README.md documents.
"""

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

import msgspec

from bridge.record.log.overheard import Overheard, OverheardOther

ALL = ""
"""In the place of an integration, where something is decided: all of which nothing else is."""


class Outcome(StrEnum):
    """What became of a legacy call, in one word; a status says it finer."""

    SERVED = "served"
    """2xx."""
    INVALID = "invalid"
    """The request cannot be understood: 400, 405, 406, 408, 413, 415."""
    REFUSED = "refused"
    """Whoever called may not: 401, 403."""
    MISSING = "missing"
    """404."""
    UNTRANSLATED = "untranslated"
    """501: a path of v1 that the bridge does not translate."""
    BUSY = "busy"
    """503: v2 asks to wait, or the bridge has no room."""
    WITHDRAWN = "withdrawn"
    """503 in a brownout, 410 after a sunset: turned away on purpose."""
    FAILED = "failed"
    """500, 502, 504."""
    PASSED_THROUGH = "passed-through"
    """v1 has answered, whatever its status is."""
    GONE = "gone"
    """There was no answer, for the client had hung up."""


def outcome_of(status: int | None, *, passed_through: bool = False) -> Outcome:
    """Return the word for a status; None is that of a call without an answer."""
    if passed_through:
        return Outcome.PASSED_THROUGH
    if status is None:
        return Outcome.GONE
    if status < 300:
        return Outcome.SERVED
    return _OUTCOMES.get(status, Outcome.INVALID if status < 500 else Outcome.FAILED)


def is_well(outcome: str, status: int | None) -> bool:
    """Tell whether nothing of a call is for an operator to look into.

    What v1 says to its client is between the two, unless it fails.
    """
    passed_well = outcome == Outcome.PASSED_THROUGH and (status or 0) < 500
    return outcome == Outcome.SERVED or passed_well


_OUTCOMES = {
    401: Outcome.REFUSED,
    403: Outcome.REFUSED,
    404: Outcome.MISSING,
    410: Outcome.WITHDRAWN,
    501: Outcome.UNTRANSLATED,
    503: Outcome.BUSY,
}


class UpstreamCallEvent(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One try to call v2 for a legacy call."""

    method: str
    path: str
    """Below the upstream's base URL, ids and all."""
    route: str
    """The same with ids in braces, such as `/invoices/{invoice_id}/messages`."""
    status: int | None
    milliseconds: float | None
    error: str | None = None
    """The class of the exception, when there was no answer."""
    shared: bool = False
    """Whether it was made for another legacy call, which asked the same at the same time."""
    page: int | None = None
    """Which page of a list it asked for, from 1 on; None: no list."""
    event: str | None = None
    """The `event_type` that it sent."""


class NoteEvent(msgspec.Struct, frozen=True, gc=False):
    """A note on the translation, and how often it was made (schemas/README.md, "Notes")."""

    code: str
    subject: str
    count: int


OTHERS = "0" * 12
"""The integration of all callers beyond the number of those that are told apart: most are made up.
What makes up an integration differs from call to call of it, so its row has none of that."""


LEGACY_CALL, CLIENT_GONE = CALL_EVENTS = ("legacy_call", "client_gone")
CONNECTION_EVENTS = ("tls_handshake_failed", "not_http", "connection_refused", "admin_refused")
"""The last one is a wrong token on the admin side."""


class CallEvent(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """A legacy call that has ended. Times in milliseconds, sizes in bytes."""

    # By a factory: what is equal to a plain default is left out of the line.
    event: str = msgspec.field(default_factory=lambda: LEGACY_CALL)
    """`client_gone` where it was served to its end without its client."""
    level: str
    timestamp: datetime
    """When it ended, UTC."""
    id: int
    """Unique in a database, and in the order of time: milliseconds since 1970, shifted by 22."""
    request_id: str
    integration: str
    """Who calls, as an operator can act on: `Integration.id`, or `OTHERS`."""
    method: str
    route: str | None
    """The path's template; None: it is none that the bridge knows."""
    path: str | None = None
    """Where there is no route, the path, with all that is no plain word replaced."""
    dialect: str | None
    format: str | None = None
    """`json`, where the answer was not XML."""
    way: str | None
    account_id: int | None
    label: str | None
    """What the book calls the caller."""
    subdomain: str | None = None
    host: str | None = None
    login: str | None = None
    """Keyed digest of the login that came with the call."""
    token: str | None = None
    """Keyed digest of the token that v2 is asked with, unless it is the book's."""
    is_known: bool = False
    """Whether the credential is no invention: the operator's, or one that v2 has accepted."""
    address: str | None = None
    """Where the call comes from, behind trusted proxies too."""
    network: str | None = None
    """What addresses are counted by: an IPv4 address, or the /64 network of an IPv6 one."""
    user_agent: str | None
    agent: str | None = None
    """The family of the User-Agent: its first product without the version."""
    http: str | None = None
    """The HTTP version, such as `1.1`."""
    tls: str | None = None
    """The TLS version, such as `TLSv1.3`; None: in the clear, or not known behind a proxy."""
    status: int | None
    outcome: str
    refusal: str | None = None
    """Why the caller was refused, by code: `no-credential`, `wrong-password`, …"""
    problem: str | None = None
    """What was wrong with a request that got 400, by code."""
    cause: str | None = None
    """Why the answer is not 2xx, for the operator."""
    v2_says: str | None = None
    """v2's own words on a 400 or 422, where capture allows."""
    milliseconds: float
    v2_milliseconds: float | None = None
    waiting_milliseconds: float | None = None
    translation_milliseconds: float | None = None
    bytes_in: int = 0
    """Of the request's body."""
    bytes_out: int = 0
    """Of the answer's body."""
    shared_with: str | None = None
    """The request id of the call whose answer this one got, too."""
    upstream: tuple[UpstreamCallEvent, ...]
    notes: tuple[NoteEvent, ...]


class ConnectionEvent(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Connections that failed alike, from one network: no call came of them."""

    event: str
    """One of `CONNECTION_EVENTS`."""
    level: str = "warning"
    timestamp: datetime
    network: str
    reason: str
    """A code: `protocol-version`, `unknown-ca`, `plain-http`, `bad-head`, `no-room`, …"""
    detail: str | None = None
    """What else is known of the latest one, on one line."""
    count: int = 1


class ComparisonEvent(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """What comparing v1's answer to a call with the bridge's came to (docs/shadow.md)."""

    id: int
    """That of the call, as are the next three."""
    request_id: str
    integration: str
    route: str
    result: str
    """`equal`, `different` or `incomparable`."""
    differences: dict[str, int] = {}
    """How often each place is different; of what is incomparable, why it is."""
    known: dict[str, int] = {}
    """How often each known difference was met, by its name."""
    v1_milliseconds: float | None = None
    bridge_milliseconds: float | None = None


class Compared(NamedTuple):
    """A comparison, as the log's writer is told of it."""

    comparison: ComparisonEvent
    other: OverheardOther | None = None
    """What the client was not answered, where it is to be kept."""


class Ended(NamedTuple):
    """A call that has ended, as every sink is told of it."""

    call: CallEvent
    line: bytes
    """`call` as JSON, encoded once for all."""
    exchange: Overheard | None = None
    """Both sides of it, where they are to be kept."""


_encode = msgspec.json.Encoder(enc_hook=str).encode


def line_of(event: CallEvent | ConnectionEvent) -> bytes:
    """Return an event as JSON, on one line."""
    try:
        return _encode(event)
    except UnicodeEncodeError:  # what comes of a header may be no Unicode
        return json.dumps(msgspec.to_builtins(event)).encode()


Sink = Callable[[Sequence[Ended]], None]
"""Is told of legacy calls that have ended, in their order, of each once. It must not wait, and must
not raise."""
