"""The one handler of the legacy side: from an HTTP request to a flow, and the flow driven."""

import asyncio
from collections.abc import Callable
from functools import partial

from aiohttp import web
from aiohttp.http_exceptions import PayloadEncodingError

from bridge.identity.callers import Caller, identify
from bridge.identity.credentials import ACCESS_TOKEN, credentials
from bridge.resources.base import Flow
from bridge.resources.routing import Router
from bridge.server.answers import legacy_answer
from bridge.server.logs import CallRecord, UpstreamCall
from bridge.server.middlewares import RECORD
from bridge.server.negotiation import admits_xml
from bridge.settings import Settings
from bridge.v1.errors import BodyTooLarge, InvalidRequest, NotAcceptable
from bridge.v1.wire import V1Request, V1Response
from bridge.v2.client import V2Client
from bridge.v2.errors import UpstreamError, UpstreamTimeout
from bridge.v2.wire import V2Request, V2Response


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

    def __init__(self, settings: Settings, router: Router, client: V2Client) -> None:
        self._settings = settings
        self._router = router
        self._client = client

    async def __call__(self, request: web.Request) -> web.Response:
        """Answer one legacy call; raises what `bridge.resources.failures` knows to answer."""
        record = request[RECORD]
        match = self._router.match(request.method, request.rel_url.raw_path, record.notes)
        record.route = match.call.path
        record.successor = match.resource.successor.format_map(match.ids)
        record.dialect = self._settings.dialect or match.call.dialect
        caller = identify(
            credentials(request.headers.get("Authorization"), request.query),
            self._settings.auth,
            self._settings.account_id,
        )
        if not admits_xml(request.headers.get("Accept")):
            raise NotAcceptable("Only XML is spoken here: send Accept: application/xml.")
        call = V1Request(
            path=match.call.path.format_map(match.ids),
            ids=match.ids,
            dialect=record.dialect,
            query={name: text for name, text in request.query.items() if name != ACCESS_TOKEN},
            body=await self._read_body(request) if match.call.method == "POST" else b"",
            content_type=request.headers.get("Content-Type"),
            page_limit=self._settings.page_limit,
            notes=record.notes,
        )
        answer = await self._drive(match.call.flow(call), call, caller, record)
        return await legacy_answer(answer, record.notes)

    async def _read_body(self, request: web.Request) -> bytes:
        limit = self._settings.body_limit
        if (request.content_length or 0) > limit:
            raise BodyTooLarge(f"The body has more than {limit} bytes.")
        if request.headers.get("Expect", "").lower() == "100-continue":
            # Only now: what is refused by its head alone need not be sent (RFC 9110, 10.1.1).
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        body = bytearray()
        try:
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > limit:
                    raise BodyTooLarge(f"The body has more than {limit} bytes.")
        except (PayloadEncodingError, web.RequestPayloadError, ConnectionError) as error:
            raise InvalidRequest(
                "The body broke off, or is not encoded as its head says."
            ) from error
        return bytes(body)

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
