"""Made-up days of mixed clients, as the translation log is told of them; a seed makes them again.

They look like an operator's: cron jobs and polls in four languages, each with its own login, some
that have stopped, some that fail, and strangers. What becomes of the events is not known here.
"""

import random
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from itertools import accumulate
from typing import NamedTuple

from bridge.record.log.events import (
    CallEvent,
    ConnectionEvent,
    NoteEvent,
    UpstreamCallEvent,
    outcome_of,
)

DAY = 86_400_000
"""Milliseconds."""

UNTIL = datetime(2027, 3, 1, tzinfo=UTC)
"""When the days end, unless told otherwise."""

AGENTS = (
    "PHP/5.3.29 Harvest-API-Wrapper/2.1",
    "HarvestAPI-PHP/1.1.1 (+billing)",
    "Java/1.6.0_45",
    "Apache-HttpClient/4.1.1 (java 1.5)",
    "Ruby",
    "harvested/1.2.0 HTTParty",
    "rest-client/1.6.7 (linux-gnu x86_64) ruby/1.9.3p484",
    "Mozilla/4.0 (compatible; MSIE 6.0; MS Web Services Client Protocol 2.0.50727.5420)",
    "RestSharp/104.1.0.0",
    "curl/7.19.7 (x86_64-redhat-linux-gnu) libcurl/7.19.7",
    "Python-urllib/2.6",
    None,
)


class Habit(NamedTuple):
    """A call that clients make, and what comes of it where nothing goes wrong."""

    method: str
    route: str | None
    path: str | None
    status: int
    v2: tuple[tuple[str, str, str | None], ...] = ()
    """Method, route and `event_type` of each v2 call."""
    notes: tuple[NoteEvent, ...] = ()
    problem: str | None = None
    milliseconds: float = 90.0
    bytes_in: int = 0
    bytes_out: int = 0


_MESSAGES, _PAYMENTS = "/invoices/{invoice_id}/messages", "/invoices/{invoice_id}/payments"


def _habits(root: str) -> tuple[Habit, ...]:
    messages, payments = f"/{root}/{{invoice_id}}/messages", f"/{root}/{{invoice_id}}/payments"
    dropped = NoteEvent("element-dropped", "attach-pdf", 1)
    return (
        Habit("GET", messages, None, 200, (("GET", _MESSAGES, None),), bytes_out=2_900),
        Habit("GET", payments, None, 200, (("GET", _PAYMENTS, None),), bytes_out=1_800),
        Habit(
            "GET", f"{messages}/{{message_id}}", None, 200,
            (("GET", _MESSAGES, None), ("GET", _MESSAGES, None)), bytes_out=1_100,
        ),
        Habit(
            "POST", messages, None, 201, (("POST", _MESSAGES, None),), (dropped,), None, 260.0, 640,
        ),
        Habit("POST", payments, None, 201, (("POST", _PAYMENTS, None),), (), None, 240.0, 310),
        Habit(
            "POST", f"{messages}/mark_as_sent", None, 200, (("POST", _MESSAGES, "send"),),
            (NoteEvent("body-dropped", "body", 1), NoteEvent("xml-suffix", "path", 1)), None,
            230.0, 120,
        ),
        Habit("DELETE", f"{payments}/{{payment_id}}", None, 200, (
            ("DELETE", f"{_PAYMENTS}/{{payment_id}}", None),), (), None, 180.0,
        ),
        Habit("GET", "/account/who_am_i", None, 200, (
            ("GET", "/users/me", None), ("GET", "/company", None)), bytes_out=900,
        ),
        Habit("GET", None, "/clients/{…}", 501, milliseconds=1.0, bytes_out=310),
        Habit("GET", None, "/daily/{…}/{…}", 501, milliseconds=1.0, bytes_out=310),
        Habit("GET", None, f"/{root}/{{…}}/pdf", 404, milliseconds=1.0, bytes_out=250),
        Habit(
            "POST", messages, None, 400, problem="malformed-xml", milliseconds=3.0, bytes_in=512,
            bytes_out=300,
        ),
    )  # fmt: skip


_HABITS = {"classic": _habits("invoice"), "final": _habits("invoices")}


class Client(NamedTuple):
    """A client as it is on all of its days."""

    weight: float
    began: float
    """Days from the first one on."""
    ended: float
    habits: tuple[Habit, ...]
    chances: tuple[float, ...]
    """Of the habits, summed up."""
    known: dict[str, object]
    """The fields of its events that are always the same."""


def _digest(*parts: object, size: int = 6) -> str:
    return blake2b(repr(parts).encode(), digest_size=size).hexdigest()


def clients(count: int, days: int, seed: int = 0) -> list[Client]:
    """Return so many clients of one kind or another."""
    made = random.Random(f"clients {seed}")
    return [_client(made, number, days) for number in range(count)]


def _client(made: random.Random, number: int, days: int) -> Client:
    dialect = made.choice(("classic", "classic", "final"))
    habits = tuple(made.sample(_HABITS[dialect], made.randint(1, 5)))
    agent = made.choice(AGENTS)
    subdomain = f"tenant{number % 120}"
    address = f"198.51.{number // 250}.{number % 250 + 1}"
    way = made.choice(("book", "book", "token-as-password", "bearer"))
    is_stranger = made.random() < 0.06
    has_stopped = made.random() < 0.2
    known: dict[str, object] = {
        "integration": _digest("integration", number),
        "dialect": dialect,
        "way": None if is_stranger else way,
        "account_id": None if is_stranger else 1000 + number % 120,
        "label": f"{subdomain}-{number}" if way == "book" and not is_stranger else None,
        "subdomain": subdomain,
        "host": f"{subdomain}.harvestapp.com",
        "login": _digest("login", number, size=8) if way != "bearer" else None,
        "token": _digest("token", number, size=8) if way != "book" else None,
        "is_known": not is_stranger,
        "address": address,
        "network": address,
        "user_agent": agent,
        "agent": agent and agent.split("/")[0].split()[0],
        "http": made.choice(("1.0", "1.1", "1.1")),
        "tls": made.choice(("TLSv1.2", "TLSv1.3", None)),
        "refusal": made.choice(("wrong-password", "no-credential", "unknown-login"))
        if is_stranger
        else None,
    }
    return Client(
        weight=made.paretovariate(0.7),
        began=0.0 if made.random() < 0.8 else made.uniform(0, days * 0.8),
        ended=days * made.uniform(0.3, 0.9) if has_stopped else days,
        habits=habits,
        chances=tuple(accumulate(made.paretovariate(1.2) for _ in habits)),
        known=known,
    )


def recorded_days(
    *,
    calls: int,
    integrations: int,
    days: int,
    until: datetime = UNTIL,
    seed: int = 0,
) -> Iterator[CallEvent]:
    """Yield so many calls, in the order of time, of the days before `until`."""
    made = random.Random(seed)
    everybody = clients(integrations, days, seed)
    weights = list(accumulate(min(each.weight, 60.0) for each in everybody))
    end = int(until.timestamp() * 1000)
    start = end - days * DAY
    for number in range(calls):
        time = start + int((number + made.random()) * days * DAY / calls)
        day = (time - start) / DAY
        for _ in range(50):
            client = everybody[bisect_left(weights, made.random() * weights[-1])]
            if client.began <= day < client.ended:
                break
        yield _call(made, client, time, number)


def _call(made: random.Random, client: Client, time: int, number: int) -> CallEvent:
    chances = client.chances
    habit = client.habits[bisect_left(chances, made.random() * chances[-1])]
    status, cause = habit.status, None
    v2 = habit.v2
    luck = made.random()
    refusal = client.known["refusal"]
    if refusal is not None:
        status, cause, v2 = 401, f"NotIdentified: {refusal}", ()
    elif luck < 0.004:
        status, cause = 503, "UpstreamThrottled: v2 asks to wait for 9 s"
    elif luck < 0.006:
        status, cause = 502, "UpstreamUnreachable: connection reset"
    elif luck < 0.008 and v2:
        status, cause = 404, "UpstreamRefusal: v2 answered 404"
    served = status < 300
    took = round(habit.milliseconds * made.lognormvariate(0, 0.4), 3)
    invoice = made.randint(1000, 40_000)
    v2_took = round(took * 0.8, 3) if v2 else None
    upstream = tuple(
        UpstreamCallEvent(
            method=method,
            path=route.replace("{invoice_id}", str(invoice)).replace("{payment_id}", str(number)),
            route=route,
            status=(200 if method != "POST" else 201) if served else status,
            milliseconds=round((v2_took or 0.0) / len(v2), 3),
            page=page if route.endswith("s") and method == "GET" and route != "/users/me" else None,
            event=event,
        )
        for page, (method, route, event) in enumerate(v2, 1)
    )
    return CallEvent(
        level="info",
        timestamp=datetime.fromtimestamp(time / 1000, UTC),
        id=(time << 22) | (number & 0x3FFFFF),
        request_id=f"{time:012x}{made.getrandbits(80):020x}",
        method=habit.method,
        route=habit.route,
        path=habit.path,
        status=status,
        outcome=outcome_of(status),
        problem=habit.problem if refusal is None else None,
        cause=cause,
        milliseconds=took,
        v2_milliseconds=v2_took,
        waiting_milliseconds=0.0 if v2 else None,
        translation_milliseconds=round(took * 0.02, 3) if served else None,
        bytes_in=habit.bytes_in,
        bytes_out=habit.bytes_out if served else 260,
        upstream=upstream,
        notes=habit.notes if served and made.random() < 0.7 else (),
        **client.known,  # type: ignore[arg-type]
    )


def failed_connections(
    *, count: int, days: int, until: datetime = UNTIL, seed: int = 0
) -> Iterator[ConnectionEvent]:
    """Yield so many connections that came to nothing, in the order of time."""
    made = random.Random(f"connections {seed}")
    kinds: Sequence[tuple[str, str, str | None]] = (
        ("tls_handshake_failed", "protocol-version", "UNSUPPORTED_PROTOCOL"),
        ("tls_handshake_failed", "unknown-ca", "TLSV1_ALERT_UNKNOWN_CA"),
        ("tls_handshake_failed", "plain-http", "HTTP_REQUEST"),
        ("not_http", "bad-head", "Invalid HTTP version"),
        ("connection_refused", "no-room", None),
    )
    step = timedelta(days=days) / count
    for number in range(count):
        event, reason, detail = made.choice(kinds)
        yield ConnectionEvent(
            event=event,
            timestamp=until - timedelta(days=days) + step * number,
            network=f"203.0.113.{made.randint(1, 40)}",
            reason=reason,
            detail=detail,
            count=made.randint(1, 30),
        )
