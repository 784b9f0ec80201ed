"""A translation log with made-up calls, and an admin side that shows it."""

import json
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from aiohttp import web

from bridge.record.log.database import load_key, open_database
from bridge.record.log.events import CallEvent, ConnectionEvent, UpstreamCallEvent
from bridge.record.log.exchange import Exchange, Message, UpstreamExchange, pack
from bridge.record.log.ingest import ingest, ingest_connections
from bridge.record.log.tables import CAPTURES
from bridge.resources.invoice_messages import MESSAGES
from bridge.secret import Secret
from bridge.server.admin.dashboard.facts import Facts
from bridge.server.admin.dashboard.pages import PATIENCE, Dashboard
from bridge.server.admin.guard import Guard
from bridge.server.admin.health import Readiness
from bridge.server.admin.side import AdminSide
from bridge.server.serving import listening
from bridge.v1.dialects import Dialect
from bridge.v1.wire import V1Request
from tests.support.recorded_days import failed_connections, recorded_days
from tests.support.running import LOOPBACK
from tests.support.upstream import message

MINUTE = 60_000
"""Milliseconds."""

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
"""Of Chromium: it needs no display, and asks nobody but us for anything."""

QUIET = Facts()
TROUBLED = Facts(
    warnings={"certificate": "expires in 9 days"},
    breakers={"account 1007": "open"},
    unknown_writes=2,
)


def fill(
    database: Path | str,
    calls: Iterable[CallEvent],
    connections: Iterable[ConnectionEvent] = (),
    captures: Mapping[int, Exchange] | None = None,
    key: Path | None = None,
) -> str:
    """Make a translation log of what has happened; return the setting that names it."""
    name = str(database)
    engine = open_database(name, load_key(name, key))
    with engine.begin() as connection:
        ingest(connection, list(calls))
        ingest_connections(connection, list(connections))
        for id_, exchange in (captures or {}).items():
            connection.execute(CAPTURES.insert().values(id=id_, exchange=pack(exchange)))
    engine.dispose()
    return name


def a_month(calls: int = 3000, integrations: int = 30, days: int = 45) -> Iterator[CallEvent]:
    """Yield mixed calls up to now, fewer at night and few on weekends."""
    for call in recorded_days(
        calls=calls, integrations=integrations, days=days, until=datetime.now(UTC)
    ):
        at = call.timestamp
        busy = 0.25 if at.weekday() >= 5 else 0.6 if not 6 <= at.hour < 20 else 1.0
        if (call.id >> 8) % 997 / 997 < busy * (0.75 + 0.25 * (at.day % 5) / 4):
            yield call


def some_connections() -> Iterator[ConnectionEvent]:
    """Yield connections that came to nothing in the last month."""
    return failed_connections(count=40, days=30, until=datetime.now(UTC))


def a_captured_call(minutes_ago: int = 3) -> tuple[CallEvent, Exchange]:
    """Return a list of two messages that was served, and what was said on both sides."""
    now = int(time.time() * 1000) - minutes_ago * MINUTE
    items = [message(id=409, subject="Invoice 1042"), message(id=410, subject="Invoice 1043")]
    page = {
        "invoice_messages": items,
        "per_page": 2000,
        "total_pages": 1,
        "total_entries": 2,
        "links": {"next": None},
    }
    told = json.dumps(page).encode()
    asked = V1Request(path="", ids={"invoice_id": 1042}, dialect=Dialect.FINAL)
    document = b"".join(MESSAGES.document(MESSAGES.translate(told, asked).parts, asked))
    path = "/invoices/{invoice_id}/messages"
    call = CallEvent(
        level="info", timestamp=datetime.fromtimestamp(now / 1000, UTC), id=now << 22,
        request_id="captured-1", integration="c0ffee000001", method="GET", route=path,
        dialect="final", way="book", account_id=1000, label="billing", subdomain="acme",
        host="acme.harvestapp.com", is_known=True, address="192.0.2.7", network="192.0.2.7",
        user_agent="HarvestAPI-PHP/1.1.1", agent="HarvestAPI-PHP", http="1.1", tls="TLSv1.2",
        status=200, outcome="served", milliseconds=96.4, v2_milliseconds=88.1,
        waiting_milliseconds=0.0, translation_milliseconds=1.2, bytes_out=len(document),
        upstream=(UpstreamCallEvent("GET", "/invoices/1042/messages", path, 200, 88.1, page=1),),
        notes=(),
    )  # fmt: skip
    exchange = Exchange(
        method="GET", url="https://acme.harvestapp.com/invoices/1042/messages", status=200,
        began=now - 96.4, milliseconds=96.4,
        request=Message((("Host", "acme.harvestapp.com"), ("Authorization", "REMOVED")), b"", 0),
        answer=Message((("Content-Type", "application/xml; charset=utf-8"),), document,
                       len(document)),
        upstream=[UpstreamExchange(
            "GET", "https://api.harvestapp.com/v2/invoices/1042/messages?per_page=2000", 200, None,
            1.0, 88.1, Message((("User-Agent", "harvest-bridge"),), b"", 0),
            Message((("Content-Type", "application/json"),), told, len(told)),
        )],
    )  # fmt: skip
    return call, exchange


@asynccontextmanager
async def running_dashboard(
    database: str, facts: Facts = QUIET, patience: float = PATIENCE, token: str | None = None
) -> AsyncIterator[str]:
    """Serve the pages on a log, and yield their base URL; with a token, they ask for it."""

    async def known() -> Facts:
        return facts

    dashboard = Dashboard(database, known, patience=patience)
    guard = Guard(token=lambda: None if token is None else Secret(token))
    side = AdminSide(Readiness({}), routes=dashboard.routes(), guard=guard)
    runner = web.ServerRunner(side, shutdown_timeout=0.1)
    async with listening(runner, LOOPBACK, 0) as port:
        yield f"http://{LOOPBACK}:{port}"
    dashboard.close()
