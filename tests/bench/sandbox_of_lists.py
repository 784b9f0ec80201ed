"""A sandbox in a process of its own, with lists as long as those of integrations are, and one that
is long; its v1 and its v2 are told apart by their ports.
"""

import asyncio
import os
import sys
from collections.abc import Iterator

from aiohttp import web
from aiohttp.typedefs import Handler
from msgspec.structs import replace
from yarl import URL

from bridge.sandbox import seeds, state
from bridge.sandbox.app import create_sandbox
from bridge.sandbox.seeds import INVOICES, LONG_INVOICE_ID, SeedMessage, seed_messages
from bridge.sandbox.v1.app import create_v1
from tests.bench.processes import obey
from tests.support.running import running_app

LENGTHS = (20, 35, 50, 80, 120, 160, 200)
LONG = 2000
_FIRST = 9000
LISTS = tuple(f"/invoice/{_FIRST + length}/messages" for length in LENGTHS)
LONG_LIST = f"/invoice/{_FIRST + LONG}/messages"


def _messages() -> Iterator[SeedMessage]:
    yield from seed_messages()
    long = [each.message for each in seed_messages() if each.invoice_id == LONG_INVOICE_ID]
    for number, length in enumerate((*LENGTHS, LONG), 1):
        for message in long[:length]:
            own = replace(message, id=message.id + number * 1_000_000)
            yield SeedMessage(_FIRST + length, own)


def _seed() -> None:
    long = next(each for each in INVOICES if each.id == LONG_INVOICE_ID)
    more = [replace(long, id=_FIRST + length, number=str(length)) for length in (*LENGTHS, LONG)]
    state.INVOICES = (*seeds.INVOICES, *more)  # type: ignore[attr-defined]
    state.seed_messages = _messages  # type: ignore[attr-defined]


@web.middleware
async def _keep(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Make an answer once: what is measured is the bridge."""
    kept = _KEPT.get(request.url)
    if kept is None:
        answer = await handler(request)
        if request.method != "GET" or not isinstance(answer, web.Response):
            return answer
        assert isinstance(answer.body, bytes)
        kept = _KEPT[request.url] = answer.status, answer.content_type, answer.body
    status, content_type, body = kept
    return web.Response(status=status, content_type=content_type, body=body)


_KEPT: dict[URL, tuple[int, str, bytes]] = {}


async def _main(*, is_other: bool, keeps: bool) -> None:
    if is_other:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    _seed()
    v2 = create_sandbox()
    v1 = create_v1(v2)
    if keeps:
        v2.middlewares.insert(0, _keep)
        v1.middlewares.insert(0, _keep)
    async with running_app(v2) as v2_url, running_app(v1) as v1_url:
        await obey(int(v2_url.rpartition(":")[2]), {"v1": lambda: v1_url, "v2": lambda: v2_url})


if __name__ == "__main__":
    asyncio.run(_main(is_other=sys.argv[1] == "other", keeps=sys.argv[2] == "keeps"))
