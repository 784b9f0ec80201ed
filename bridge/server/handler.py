"""The one handler of the legacy side: from an HTTP request to a flow, and the flow driven."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import structlog
from aiohttp import web

from bridge.identity.callers import Caller, Identification, Way
from bridge.identity.credentials import ACCESS_TOKEN, credentials
from bridge.identity.hosts import Origin, origin, subdomain
from bridge.resources.base import Flow
from bridge.resources.routing import Match, Router
from bridge.server.answers import legacy_answer
from bridge.server.limits import BodyBudget, BodyLimits, CallLimiter, read_body
from bridge.server.logs import CallRecord, UpstreamCall
from bridge.server.middlewares import RECORD
from bridge.server.negotiation import admits_xml
from bridge.settings import Settings
from bridge.v1.errors import NotAcceptable, UnsupportedMediaType
from bridge.v1.wire import V1Request, V1Response
from bridge.v2.client import V2Client
from bridge.v2.errors import OwnTokenRefused, UpstreamError, UpstreamRefusal, UpstreamTimeout
from bridge.v2.wire import V2Request, V2Response

_log = structlog.get_logger("bridge.calls")


async def _start(flow: Flow, call: V1Request) -> V2Request | V1Response:
    """Run a flow up to its first v2 call.

    Reading the request is the first thing that a flow does. The worst of bodies take a second, so
    reading has a thread of its own, where it can be interrupted and the parser needs no lock.
    """
    if call.body:
        return await asyncio.to_thread(_advance, flow.__next__)
    return _advance(flow.__next__)


def _advance(resume: Callable[[], V2Request]) -> V2Request | V1Response:
    """Run a flow up to its next v2 call, or to its end."""
    try:
        return resume()
    except StopIteration as stop:
        answer: V1Response = stop.value
        return answer


class LegacyHandler:
    """Serves legacy calls, one at a time each, any number at once."""

    def __init__(
        self, settings: Settings, router: Router, identification: Identification, client: V2Client
    ) -> None:
        self._settings = settings
        self._router = router
        self._identification = identification
        self._client = client
        self._calls = CallLimiter(settings.calls, settings.calls_per_login)
        self._calls_by_address = CallLimiter(settings.calls, settings.calls_per_address)
        self._bodies = BodyBudget(settings.bodies_limit)
        self._turn = asyncio.Lock()
        self._body_limits = BodyLimits(settings.body_limit, settings.body_timeout)

    async def __call__(self, request: web.Request) -> web.Response:
        """Answer one legacy call; raises what `bridge.resources.failures` knows to answer."""
        record = request[RECORD]
        match = self._router.match(request.method, request.rel_url.raw_path, record.notes)
        record.route = match.call.path
        record.successor = match.resource.successor.format_map(match.ids)
        record.dialect = self._settings.dialect or match.call.dialect
        address, host = self._origin(request)
        caller = await self._identify(request, host, address)
        record.told_of(caller)
        record.dialect = caller.dialect or record.dialect
        if not admits_xml(request.headers.get("Accept")):
            raise NotAcceptable("Only XML is spoken here: send Accept: application/xml.")
        with self._bodies.share() as take:
            # Before a place is taken: who trickles would keep it from those who have asked.
            body = await self._read_body(request, take) if match.call.method == "POST" else b""
            async with self._place(caller, address):
                return await self._serve(request, body, match, caller, record)

    @asynccontextmanager
    async def _place(self, caller: Caller, address: str) -> AsyncIterator[None]:
        async with AsyncExitStack() as places:
            if caller.way is not Way.BOOK:
                # Tokens are the callers' to make up, one for each call if they like.
                await places.enter_async_context(self._calls_by_address.slot(address))
            await places.enter_async_context(self._calls.slot(caller.key))
            yield

    def _origin(self, request: web.Request) -> Origin:
        return origin(
            request.remote or "",
            request.host,
            request.headers.getall("X-Forwarded-For", ()),
            request.headers.getall("X-Forwarded-Host", ()),
            self._settings.trusted_proxies,
        )

    async def _identify(self, request: web.Request, host: str, address: str) -> Caller:
        offered = credentials(request.headers.get("Authorization"), request.query)
        named = subdomain(host, self._settings.domains) or self._settings.subdomain
        return await self._identification.identify(offered, named, address)

    async def _read_body(self, request: web.Request, take: Callable[[int], None]) -> bytes:
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            # No v1 client compresses what it sends, and what is not inflated is no bomb.
            raise UnsupportedMediaType("Send the body without a Content-Encoding.")
        return await read_body(request, self._body_limits, take)

    async def _serve(
        self, request: web.Request, body: bytes, match: Match, caller: Caller, record: CallRecord
    ) -> web.Response:
        call = V1Request(
            path=match.call.path.format_map(match.ids),
            ids=match.ids,
            dialect=record.dialect or match.call.dialect,
            query={name: text for name, text in request.query.items() if name != ACCESS_TOKEN},
            body=body,
            content_type=request.headers.get("Content-Type"),
            page_limit=self._settings.page_limit,
            notes=record.notes,
        )
        try:
            answer = await self._drive(match.call.flow(call), call, caller, record)
        except UpstreamRefusal as refusal:
            if refusal.message is not None:
                # Of the book's token, its client must not learn even from v2.
                refusal.message = refusal.message.replace(caller.token.reveal(), "…")
            if refusal.status == 401 and caller.way is Way.BOOK:
                _log.error("book_token_refused", account_id=caller.account_id)
                raise OwnTokenRefused("v2 refuses the token that the book has") from refusal
            raise
        return await legacy_answer(answer, record.notes, self._turn)

    async def _drive(
        self, flow: Flow, call: V1Request, caller: Caller, record: CallRecord
    ) -> V1Response:
        deadline = asyncio.get_running_loop().time() + self._settings.call_timeout
        step = await _start(flow, call)
        while isinstance(step, V2Request):
            try:
                response = await self._send(step, caller, record, deadline)
            except UpstreamError as error:
                step = _advance(partial(flow.throw, error))
            else:
                step = _advance(partial(flow.send, response))
        return step

    async def _send(
        self, request: V2Request, caller: Caller, record: CallRecord, deadline: float
    ) -> V2Response:
        left = deadline - asyncio.get_running_loop().time()
        if left <= 0:
            raise UpstreamTimeout("the call's time was up", request_left=False)
        call = UpstreamCall(request.method, request.path)
        record.upstream_calls.append(call)
        try:
            response = await self._client.send(
                request, account_id=caller.account_id, token=caller.token, seconds=left
            )
        except BaseException as error:
            call.ended(error=type(error).__name__)
            raise
        call.ended(status=response.status)
        return response
