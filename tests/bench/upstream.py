"""An upstream in a process of its own: `/v2/invoices/{count}/messages` holds `count` messages.

Run it as `python -m tests.bench.upstream`; it prints its port and serves until its standard input
closes. Under `/gzip/v2` it compresses, as the real one does.
"""

import asyncio
import gzip
import json
from functools import cache

import msgspec
from aiohttp import web

from bridge.v2.paging import PER_PAGE
from tests.bench.processes import serve
from tests.support.upstream import JSON, message, page

_NAMES = ("Richard Roe", "Zoë Müller", "Roe, Jane (accounts)", "Søren Kierkegård", "ACME Ltd.")
_BODY = (
    "Dear {name},\r\n\r\nThis is a friendly reminder that invoice #{number} — for the work we did "
    "in May & June — is due. You can view, print & pay it online at any time:\r\n\r\n"
    "https://example.harvestapp.com/client/invoices/abc123456{number}\r\n\r\n"
    "Thank you for your business; we are glad to be of service.\r\n\r\n"
    "Best regards,\r\nBob Powell"
)


def message_of_list(number: int) -> bytes:
    """Return a message of about 1 KB, as Rails encodes it."""
    name = _NAMES[number % len(_NAMES)]
    text = json.dumps(
        message(
            id=27_000_000 + number,
            subject=f"Past due invoice reminder: #{number} from “API Examples”",
            body=_BODY.format(name=name, number=number),
            reminder=number % 3 == 0,
            send_reminder_on="2017-09-01" if number % 7 == 0 else None,
            recipients=[
                {"name": _NAMES[(number + each) % len(_NAMES)], "email": f"to{each}@example.com"}
                for each in range(1 + number % 3)
            ],
        ),
        ensure_ascii=False,
        separators=(",", ":"),
    )
    return text.replace("&", r"\u0026").encode()


@cache
def _messages() -> list[msgspec.Raw]:
    return [msgspec.Raw(message_of_list(number)) for number in range(PER_PAGE)]


def body(count: int, cursor: int, base: str) -> bytes:
    """Return the page of a list of `count` messages that starts at `cursor`."""
    following = cursor + PER_PAGE
    link = f"{base}/invoices/{count}/messages?cursor={following}&per_page={PER_PAGE}"
    return msgspec.json.encode({
        **page(following=link if following < count else None),
        "invoice_messages": _messages()[: max(0, count - cursor)],
    })  # fmt: skip


@cache
def _compressed(count: int, cursor: int, base: str) -> bytes:
    return gzip.compress(body(count, cursor, base), 6)


async def _answer(request: web.Request) -> web.Response:
    root = request.path.partition("/invoices/")[0]
    page_of = _compressed if root == "/gzip/v2" else body
    count, cursor = int(request.match_info["count"]), int(request.query.get("cursor", 0))
    headers = {"Content-Type": JSON}
    if page_of is _compressed:
        headers["Content-Encoding"] = "gzip"
    return web.Response(
        body=page_of(count, cursor, f"http://{request.host}{root}"), headers=headers
    )


def _app() -> web.Application:
    app = web.Application()
    app.router.add_get("/v2/invoices/{count}/messages", _answer)
    app.router.add_get("/gzip/v2/invoices/{count}/messages", _answer)
    return app


if __name__ == "__main__":
    _messages()
    asyncio.run(serve(web.AppRunner(_app(), access_log=None)))
