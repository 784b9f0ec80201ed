"""The sandbox under watch: what arrived, what took effect, and calls held until a test says so.

Faults are the sandbox's own business; `ROUGH` and `UNEASY` are rules for it.
"""

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

import aiohttp
from aiohttp import web
from aiohttp.typedefs import Handler

from bridge.sandbox.app import (
    SANDBOX_ACCOUNT_ID,
    SANDBOX_SECOND_ACCOUNT_ID,
    SANDBOX_SECOND_TOKEN,
    SANDBOX_TOKEN,
    create_sandbox,
)
from bridge.sandbox.calls import CALL
from bridge.sandbox.control import ROOT
from bridge.sandbox.faults import read_rules
from bridge.sandbox.seeds import (
    CLASSIC_INVOICE_ID,
    DRAFT_INVOICE_ID,
    LONG_INVOICE_ID,
    PRINTED_INVOICE_ID,
    SECOND_INVOICE_ID,
    seed_messages,
)
from tests.support.running import running_app

SHARED_INVOICES = (PRINTED_INVOICE_ID, CLASSIC_INVOICE_ID, LONG_INVOICE_ID)
LONE_INVOICE = SECOND_INVOICE_ID
"""The second account's only one."""
CLERKS_INVOICE = DRAFT_INVOICE_ID
INVOICES = (*SHARED_INVOICES, LONE_INVOICE, CLERKS_INVOICE)

Rule = dict[str, Any]


def token_of(invoice: int) -> str:
    """The token of the account that an invoice belongs to."""
    return SANDBOX_SECOND_TOKEN if invoice == LONE_INVOICE else SANDBOX_TOKEN


def account_of(invoice: int) -> int:
    """The account that an invoice belongs to."""
    return SANDBOX_SECOND_ACCOUNT_ID if invoice == LONE_INVOICE else SANDBOX_ACCOUNT_ID


def _rule(fault: str, probability: float, method: str, **more: Any) -> Rule:
    # Breakers count shares: a run that begins with failures would begin with a pause.
    return {"fault": fault, "probability": probability, "method": method, "skip": 15, **more}


def _broken(method: str, probability: float) -> list[Rule]:
    return [
        _rule(fault, probability, method, at=at, applied=applied)
        for fault in ("reset", "close")
        for at, applied in (
            ("before", False),
            ("before", True),
            ("head", True),
            ("body", True),
        )
    ]


def _failed(method: str, probability: float) -> list[Rule]:
    return [
        _rule("status", probability, method, status=status, applied=applied)
        for status in (500, 502, 503, 504)
        for applied in (False, True)
    ]


def _unreadable(method: str, probability: float) -> list[Rule]:
    return [
        _rule("truncate", probability, method),
        _rule("html", probability, method),
        _rule("html", probability, method, status=502, applied=False),
        _rule("malformed-json", probability, method),
        _rule("malformed-json", probability, method, applied=False),
        _rule("wrong-shape", probability, method, shape="object"),
        _rule("wrong-type", probability, method),
        _rule("not-http", probability, method, applied=True),
    ]


def _late(method: str, probability: float) -> list[Rule]:
    # Shorter by far than a POST's share of the call's time, lest it be applied after the look.
    return [
        _rule("delay", probability, method, seconds=0.03, applied=applied)
        for applied in ("before", "after")
    ]


UNEASY: tuple[Rule, ...] = (
    *_broken("POST", 0.006),
    *_failed("POST", 0.003),
    *_unreadable("POST", 0.006),
    *_late("POST", 0.02),
    *_broken("GET", 0.005),
    *_failed("GET", 0.004),
    *_unreadable("GET", 0.005),
    *_late("GET", 0.02),
)
"""About one call in six goes wrong: few enough that no breaker opens at the start of a life."""

ROUGH: tuple[Rule, ...] = (
    _rule("hang", 0.02, "POST", times=1, applied=True),
    _rule("hang", 0.02, "POST", times=1, applied=False),
    _rule("hang", 0.02, "GET", times=1),
    _rule("throttle", 0.01, "POST", times=2, retry_after=1),
    _rule("throttle", 0.01, "GET", times=1, retry_after=1),
    _rule("status", 0.01, "POST", status=408, applied=True),
    *_broken("POST", 0.012),
    *_failed("POST", 0.006),
    *_unreadable("POST", 0.012),
    *_late("POST", 0.02),
    *_broken("GET", 0.01),
    *_failed("GET", 0.008),
    *_unreadable("GET", 0.008),
    *_late("GET", 0.02),
    *_broken("DELETE", 0.04),
    *_failed("DELETE", 0.03),
)
"""About three in ten do, and a few of them cost seconds."""


class Content(NamedTuple):
    """What tells the messages of one write from those of others."""

    invoice: int
    event: str | None
    text: str | None


class Moment(StrEnum):
    """What a test can wait for, and keep from going on."""

    TRYING = "a client is about to send a write"
    SENT = "a client has sent a write"
    TOLD = "a client has read its answer"
    ARRIVED = "a call has arrived at v2"
    APPLIED = "v2 has served it, and its answer has not left"
    ANSWERED = "its answer, or what a fault makes of it, is about to leave or has left"


@dataclass(frozen=True)
class Occasion:
    """Something that happens to a write, on its way or at v2."""

    moment: Moment
    method: str
    content: Content
    fault: str | None = None
    looks: bool = False


class Hold:
    """The next occasion of a kind: it waits until it is let go."""

    def __init__(self, wanted: Callable[[Occasion], bool], skip: int) -> None:
        self._wanted = wanted
        self._skip = skip
        self._let_go = asyncio.Event()
        self.reached: asyncio.Future[Occasion] = asyncio.get_running_loop().create_future()
        self.lost = False

    def takes(self, occasion: Occasion) -> bool:
        """Whether it is this one."""
        if self.reached.done() or self._let_go.is_set() or not self._wanted(occasion):
            return False
        self._skip -= 1
        return self._skip < 0

    async def keep(self, occasion: Occasion) -> None:
        """Wait until it is let go."""
        self.reached.set_result(occasion)
        await self._let_go.wait()

    def let_go(self, *, lost: bool = False) -> None:
        """Let it go on, or get lost on its way."""
        self.lost = lost
        self._let_go.set()


class Moments:
    """Where occasions pass, and are held."""

    def __init__(self) -> None:
        self._holds: list[Hold] = []

    @asynccontextmanager
    async def hold(
        self, wanted: Callable[[Occasion], bool], *, skip: int = 0
    ) -> AsyncIterator[Hold]:
        """Hold the first occasion that is wanted, after `skip` such, until the block's end."""
        hold = Hold(wanted, skip)
        self._holds.append(hold)
        try:
            yield hold
        finally:
            self._holds.remove(hold)
            hold.let_go()

    async def come(self, occasion: Occasion) -> bool:
        """Pass, or wait; false: it is to be lost."""
        for hold in tuple(self._holds):
            if hold.takes(occasion):
                await hold.keep(occasion)
                return not hold.lost
        return True


@dataclass
class WatchedCall:
    """One call that v2 has got."""

    number: int
    method: str
    path: str
    query: str
    content: Content
    fault: str | None = None
    status: int | None = None
    made: int | None = None

    def __str__(self) -> str:
        made = "" if self.made is None else f" made {self.made}"
        return (
            f"#{self.number} {self.method} {self.path}?{self.query} {self.content.event or ''} "
            f"{self.content.text or ''}: {self.fault or 'served'}, {self.status}{made}"
        )


_WATCHED = web.RequestKey("watched", WatchedCall)


@dataclass
class WatchedSandbox:
    """What a sandbox was asked, and what it made."""

    moments: Moments
    base_url: str = ""
    calls: list[WatchedCall] = field(default_factory=list)
    answers: Counter[int] = field(default_factory=Counter)
    """For each invoice, how many calls have been served or spoilt."""
    _under_way: set[int] = field(default_factory=set)
    _quiet: asyncio.Event = field(default_factory=asyncio.Event)

    @web.middleware
    async def watch(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """See a call from without, before it meets its fault."""
        if request.path.startswith(ROOT) or "/invoices/" not in request.path:
            return await handler(request)
        call = WatchedCall(
            len(self.calls),
            request.method,
            request.path,
            request.query_string,
            _content(request, await request.read()),
        )
        self.calls.append(call)
        request[_WATCHED] = call
        self._under_way.add(call.number)
        self._quiet.clear()
        try:
            if not await self.moments.come(_occasion(Moment.ARRIVED, call)):
                return web.Response(status=500)
            answer = await handler(request)
            call.fault, call.status = request[CALL].fault, answer.status
            self.answers[call.content.invoice] += 1
            await self.moments.come(_occasion(Moment.ANSWERED, call))
            return answer
        finally:
            self._under_way.discard(call.number)
            if not self._under_way:
                self._quiet.set()

    @web.middleware
    async def serve(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """See a call from within, when it has taken effect."""
        answer = await handler(request)
        if _WATCHED not in request:
            return answer
        call = request[_WATCHED]
        if request.method == "POST" and isinstance(answer, web.Response) and answer.status == 201:
            call.made = json.loads(_body(answer))["id"]
        await self.moments.come(_occasion(Moment.APPLIED, call))
        return answer

    async def quiet(self) -> None:
        """Wait until no call is under way."""
        if self._under_way:
            await self._quiet.wait()

    def made(self) -> dict[Content, list[int]]:
        """What it has made, deleted or not, in that order."""
        made: dict[Content, list[int]] = defaultdict(list)
        for call in self.calls:
            if call.made is not None:
                made[call.content].append(call.made)
        return {content: sorted(ids) for content, ids in made.items()}

    async def add_rule(self, **rule: Any) -> None:
        """Have more calls go wrong."""
        async with self._control() as session, session.post("/sandbox/faults", json=rule):
            pass

    async def lift_faults(self) -> None:
        """Have no more calls go wrong."""
        async with self._control() as session, session.delete("/sandbox/faults"):
            pass

    def _control(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(self.base_url.removesuffix("/v2"), raise_for_status=True)

    async def messages(self) -> dict[int, Content]:
        """What it holds now, without what it held at first."""
        known = {seed.message.id for seed in seed_messages()}
        held: dict[int, Content] = {}
        for invoice in INVOICES:
            headers = {
                "Authorization": f"Bearer {token_of(invoice)}",
                "Harvest-Account-Id": str(account_of(invoice)),
            }
            url: str | None = f"{self.base_url}/invoices/{invoice}/messages"
            async with aiohttp.ClientSession(headers=headers, raise_for_status=True) as session:
                while url:
                    async with session.get(url) as response:
                        page = await response.json()
                    url = page["links"]["next"]
                    held |= {
                        each["id"]: Content(invoice, each["event_type"], each["body"])
                        for each in page["invoice_messages"]
                        if each["id"] not in known
                    }
        return held


def _content(request: web.Request, body: bytes) -> Content:
    given = json.loads(body) if body else {}
    invoice = int(request.path.split("/")[3])
    return Content(invoice, given.get("event_type"), given.get("body"))


def _occasion(moment: Moment, call: WatchedCall) -> Occasion:
    looks = call.method == "GET" and "per_page=100" in call.query.split("&")
    return Occasion(moment, call.method, call.content, call.fault, looks)


def _body(answer: web.Response) -> bytes:
    assert isinstance(answer.body, bytes)
    return answer.body


@asynccontextmanager
async def running_watched_sandbox(
    moments: Moments, rules: Sequence[Rule] = (), seed: int = 0, **options: Any
) -> AsyncIterator[WatchedSandbox]:
    """Run a sandbox that misbehaves by `rules`."""
    watched = WatchedSandbox(moments)
    faults = read_rules(json.dumps(list(rules)).encode())
    app = create_sandbox(faults=faults, seed=seed, **options)
    app.middlewares.insert(0, watched.watch)
    app.middlewares.append(watched.serve)
    async with running_app(app) as url:
        watched.base_url = f"{url}/v2"
        yield watched
