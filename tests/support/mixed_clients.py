"""A recorded day of mixed clients: a real bridge, a sandbox of v2 behind it, and old clients.

Each speaks as its kind did: what stands here is what their libraries send. What the record of the
day has to say is not known here.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from bridge.identity.callers import Way
from bridge.record.log.database import load_key, open_database, writing
from bridge.record.log.events import CallEvent
from bridge.record.log.ids import TIME_SHIFT
from bridge.record.log.ingest import ingest
from bridge.sandbox.app import create_sandbox
from bridge.sandbox.seeds import (
    SANDBOX_ACCOUNT_ID,
    SANDBOX_SECOND_ACCOUNT_ID,
    SANDBOX_SECOND_TOKEN,
    SANDBOX_TOKEN,
)
from tests.support.books import enter, write_token
from tests.support.logged import logging
from tests.support.running import running_app, running_service

QUIET_DAYS = 40
"""Days before the others since the client that has stopped was there."""

PASSWORD = "a-password-of-2009"


def _basic(login: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{login}:{password}".encode()).decode()


def _call(line: str, headers: Sequence[str], body: str = "", *, encoding: str = "utf-8") -> bytes:
    data = body.encode(encoding)
    length = [f"Content-Length: {len(data)}"] if body else []
    lines = [f"{line} HTTP/1.1", *headers, "Connection: close", *length, "", ""]
    return "\r\n".join(lines).encode() + data


_BILLING = _basic("billing@acme.example", PASSWORD)
_PHP = (
    "Host: acme.harvestapp.com",
    f"Authorization: {_BILLING}",
    "User-Agent: PHP Wrapper Library for Harvest API",
    "Accept: application/xml",
    "Content-Type: application/xml",
)
"""The billing run of a PHP application: its XML is made by gluing strings."""

_JAVA = (
    f"Authorization: {_basic('shop@acme.example', SANDBOX_TOKEN)}",
    "User-Agent: Java/1.6.0_45",
    "Host: acme.harvestapp.com",
    "Accept: text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2",
)
"""A shop in Java, which looks payments up."""

_RUBY = (
    "Accept: application/xml",
    f"Authorization: {_basic('crm@globex.example', PASSWORD)}",
    "User-Agent: Ruby",
    "Host: globex.harvestapp.com",
)
"""A CRM with ActiveResource: it needs more of v1 than the bridge translates."""

_DOT_NET = (
    f"Authorization: {_basic('ledger@globex.example', PASSWORD)}",
    "User-Agent: Mozilla/4.0 (compatible; MSIE 6.0; MS Web Services Client Protocol 4.0.30319.1)",
    "Content-Type: application/xml",
    "Host: globex.harvestapp.com",
)
"""A ledger in .NET, which records payments; its serializer says UTF-16 of what it sends."""

_CURL = (
    f"Authorization: {_basic('billing@acme.example', 'the-old-password')}",
    "User-Agent: curl/7.19.7 (x86_64-redhat-linux-gnu) libcurl/7.19.7 NSS/3.14.0.0",
    "Host: acme.harvestapp.com",
    "Accept: */*",
)
"""A cron job on a forgotten machine, with a password that was changed since."""

_STRANGER = ("Host: acme.harvestapp.com", "User-Agent: Python-urllib/2.6")

_PYTHON = (
    "Host: acme.harvestapp.com",
    f"Authorization: Bearer {SANDBOX_TOKEN}",
    "User-Agent: Python-urllib/2.6",
)
"""A script that was there for the last time long ago."""

GLUED = (
    "<invoice-message><subject>Your invoice</subject><body>Thank you!</body>"
    "<full-recipient-list>Doe, Jane <jane@doe.example></full-recipient-list>"
    "<include-pay-pal-link>true</include-pay-pal-link></invoice-message>"
)
SERIALIZED = (
    '<?xml version="1.0" encoding="utf-16"?>\r\n<payment>\r\n  <amount>100.50</amount>\r\n'
    "  <notes>Wire</notes>\r\n</payment>"
)

DAY: Sequence[bytes] = (
    *(_call("GET /invoices/1420/messages", _PHP) for _ in range(3)),
    _call("POST /invoices/1420/messages", _PHP, GLUED),
    _call("POST /invoices/1421/messages/mark_as_sent", _PHP),
    _call("GET /invoice/1420/payments", _JAVA),
    _call("GET /invoice/1420/payments/45", _JAVA),
    _call("GET /invoice/1420/payments/999", _JAVA),
    _call("GET /account/who_am_i.xml", _RUBY),
    _call("GET /clients.xml", _RUBY),
    _call("GET /clients/4711.xml", _RUBY),
    _call("GET /projects.xml?client=4711", _RUBY),
    _call("POST /invoice/2420/payments", _DOT_NET, SERIALIZED),
    _call("GET /invoice/1420/messages", _CURL),
    _call("GET /invoice/1420/messages", _STRANGER),
)
LONG_AGO: Sequence[bytes] = (
    _call("GET /invoice/1420/messages?updated_since=2010-09-25+18:30", _PYTHON),
)


@dataclass(frozen=True)
class Day:
    """What was recorded."""

    database: str
    """The translation log, which no bridge has open."""
    settings: dict[str, Any]
    """Those that the bridge ran with: another one can go on with them."""


async def record_a_day(folder: Path) -> Day:
    """Have the clients call a bridge whose files are in `folder`, which is empty; it is stopped."""
    database = str(folder / "log.sqlite")
    book = folder / "book.toml"
    first = write_token(folder, "first-token", SANDBOX_TOKEN)
    second = write_token(folder, "second-token", SANDBOX_SECOND_TOKEN)
    for login, account_id, token, label in (
        ("billing@acme.example", SANDBOX_ACCOUNT_ID, first, "the billing run"),
        ("crm@globex.example", SANDBOX_SECOND_ACCOUNT_ID, second, "the CRM"),
        ("ledger@globex.example", SANDBOX_SECOND_ACCOUNT_ID, second, "the ledger"),
    ):
        subdomain = login.partition("@")[2].partition(".")[0]
        enter(book, subdomain, login, PASSWORD, account_id, token, label=label)
    settings: dict[str, Any] = {
        "auth": frozenset(Way),
        "account_id": None,
        "book": book,
        "journal": folder / "journal.sqlite",
    }
    events = await _recorded(LONG_AGO, {**settings, "database": str(folder / "long-ago.sqlite")})
    _write_as_of_long_ago(database, events)
    settings["database"] = database
    await _recorded(DAY, settings)
    return Day(database, settings)


async def _recorded(calls: Sequence[bytes], settings: dict[str, Any]) -> list[CallEvent]:
    """Make the calls, one after another, and return what the bridge says of them."""
    with logging() as log:
        async with (
            running_app(create_sandbox()) as v2,
            running_service(f"{v2}/v2", **settings) as (_, client),
        ):
            for call in calls:
                await client.raw(call)
    return [msgspec.convert(line, CallEvent, strict=False) for line in log.lines("legacy_call")]


def _write_as_of_long_ago(database: str, events: Sequence[CallEvent]) -> None:
    earlier = timedelta(days=QUIET_DAYS)
    shift = int(earlier.total_seconds() * 1000) << TIME_SHIFT
    moved = [
        msgspec.structs.replace(each, id=each.id - shift, timestamp=each.timestamp - earlier)
        for each in events
    ]
    engine = open_database(database, load_key(database, None))
    try:
        with writing(engine) as connection:
            ingest(connection, moved)
    finally:
        engine.dispose()
