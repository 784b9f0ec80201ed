"""An upstream that says exactly what a test tells it to, over a real socket."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.support.running import LOOPBACK, running_app

JSON = "application/json; charset=utf-8"


@dataclass(frozen=True)
class Reply:
    """One answer of the upstream, whatever it is asked."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": JSON})


@dataclass(frozen=True)
class Received:
    """One v2 call as it arrived."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class ScriptedUpstream:
    """Gives its replies in turn, the last one again and again, and remembers what it was asked."""

    replies: Sequence[Reply] = ()
    received: list[Received] = field(default_factory=list)
    base_url: str = ""

    def says(self, *replies: Reply | bytes | dict[str, Any]) -> None:
        """Set what it answers from now on; bytes and objects are the body of a 200."""
        self.replies = [_reply(each) for each in replies]
        self.received.clear()

    async def answer(self, request: web.Request) -> web.Response:
        """Answer a call with the reply whose turn it is."""
        self.received.append(
            Received(
                request.method,
                request.rel_url.raw_path,
                request.rel_url.raw_query_string,
                dict(request.headers),
                await request.read(),
            )
        )
        reply = self.replies[min(len(self.received), len(self.replies)) - 1]
        return web.Response(status=reply.status, body=reply.body, headers=reply.headers)


def _reply(what: Reply | bytes | dict[str, Any]) -> Reply:
    if isinstance(what, Reply):
        return what
    return Reply(what if isinstance(what, bytes) else json.dumps(what).encode())


@asynccontextmanager
async def running_upstream() -> AsyncIterator[ScriptedUpstream]:
    """Run a scripted upstream whose v2 lies under `/v2`."""
    upstream = ScriptedUpstream()
    app = web.Application(client_max_size=2**30)
    app.router.add_route("*", "/{path:.*}", upstream.answer)
    async with running_app(app) as url:
        upstream.base_url = f"{url}/v2"
        yield upstream


def page(
    *items: Mapping[str, Any], following: str | None = None, key: str = "invoice_messages"
) -> dict[str, Any]:
    """Return a page of messages, or of what has another `key`, as v2 would send it."""
    return {
        key: list(items),
        "per_page": 2000,
        "total_pages": 1,
        "total_entries": len(items),
        "next_page": None,
        "previous_page": None,
        "page": None,
        "links": {"first": None, "next": following, "previous": None, "last": None},
    }


def message(**fields: Any) -> dict[str, Any]:
    """Return a message as the vendor documents it, but for `fields`."""
    return {
        "id": 27835209,
        "sent_by": "Bob Powell",
        "sent_by_email": "bobpowell@example.com",
        "sent_from": "Bob Powell",
        "sent_from_email": "bobpowell@example.com",
        "include_link_to_client_invoice": False,
        "send_me_a_copy": False,
        "thank_you": False,
        "reminder": False,
        "send_reminder_on": None,
        "created_at": "2017-08-23T22:15:06Z",
        "updated_at": "2017-08-23T22:15:06Z",
        "attach_pdf": True,
        "event_type": None,
        "recipients": [{"name": "Richard Roe", "email": "richardroe@example.com"}],
        "subject": "Past due invoice reminder: #1001 from API Examples",
        "body": "Dear Customer,\r\n\r\nThis is a friendly reminder.",
        **fields,
    }


@asynccontextmanager
async def running_raw_upstream(reply: bytes, *, hang: bool = False) -> AsyncIterator[str]:
    """Run a server that answers each connection's first call with exactly these bytes.

    Then it closes the connection, or with `hang` leaves it open for good. Yields the base URL.
    """
    connections: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(writer)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        await writer.drain()
        if not hang:
            writer.close()

    server = await asyncio.start_server(serve, LOOPBACK, 0)
    async with server:
        yield f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}/v2"
        for writer in connections:
            writer.close()
