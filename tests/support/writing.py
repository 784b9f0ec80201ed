"""A write of a legacy client, what v2 would have made of it, and what the journal has of it."""

import asyncio
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.support.legacy import BASIC, Answer, LegacyClient
from tests.support.upstream import message

SEND = "/invoice/1420/messages"
XML = {"Content-Type": "application/xml"}
HELLO = (
    b"<invoice-message><subject>Hello</subject><body>Dear Jane,\r\n\r\npay me.</body>"
    b"<recipients>Jane &lt;jane@doe.org&gt;, bob@doe.org</recipients></invoice-message>"
)


def posting(
    client: LegacyClient, path: str = SEND, body: bytes = HELLO, authorization: str = BASIC
) -> asyncio.Task[Answer]:
    """Send a write; its answer can be waited for."""
    return asyncio.create_task(
        client.call("POST", path, body=body, headers=XML, authorization=authorization)
    )


def getting(client: LegacyClient, path: str = SEND, **options: Any) -> asyncio.Task[Answer]:
    """Send a read; its answer can be waited for."""
    return asyncio.create_task(client.get(path, **options))


def v2_time(seconds: float = 0) -> str:
    """Say, as v2 does, what time it is so many seconds from now."""
    return f"{datetime.now(UTC) + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%SZ}"


def hello(**fields: Any) -> dict[str, Any]:
    """Return the message that v2 makes of `HELLO` now, but for `fields`.

    As `seconds` can be told when that was, from now.
    """
    created_at = v2_time(fields.pop("seconds", 0))
    return message(
        **{
            "id": 501,
            "subject": "Hello",
            "body": "Dear Jane,\r\n\r\npay me.",
            "recipients": [
                {"name": "Jane", "email": "jane@doe.org"},
                {"name": None, "email": "bob@doe.org"},
            ],
            "created_at": created_at,
            **fields,
        }
    )


def outcomes(journal: Path) -> list[str]:
    """Read, beside the bridge, how the writes on record came out."""
    with closing(sqlite3.connect(journal)) as connection:
        return [row[0] for row in connection.execute("SELECT outcome FROM intents ORDER BY id")]


async def caught_up(client: LegacyClient) -> None:
    """Wait until the bridge has taken up all that was sent to it before.

    It answers two calls that concern nobody, each on a connection that is opened for it.
    """
    for _ in range(2):
        await client.raw(b"GET /nowhere HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
