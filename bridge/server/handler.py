"""The one handler of the legacy side: from an HTTP request to a flow, and the flow driven."""

import asyncio

from aiohttp import web

from bridge.identity.callers import Caller, identify
from bridge.identity.credentials import ACCESS_TOKEN, credentials
from bridge.resources.base import Flow
from bridge.resources.routing import Router
from bridge.server.answers import legacy_answer
from bridge.server.logs import CallRecord, UpstreamCall
from bridge.server.middlewares import RECORD
from bridge.server.negotiation import admits_xml
from bridge.settings import Settings
from bridge.v1.errors import NotAcceptable
from bridge.v1.wire import V1Request, V1Response
from bridge.v2.client import V2Client
from bridge.v2.errors import UpstreamError, UpstreamTimeout
from bridge.v2.wire import V2Request, V2Response


class LegacyHandler:
    """Serves legacy calls, one at a time each, any number at once."""

    def __init__(self, settings: Settings, router: Router, client: V2Client) -> None:
        self._settings = settings
        self._router = router
        self._client = client

    async def __call__(self, request: web.Request) -> web.Response:
        """Answer one legacy call; raises what `bridge.resources.failures` knows to answer."""
        record = request[RECORD]
        path = request.rel_url.raw_path
        match = self._router.match(request.method, path, record.notes)
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
            path=path,
            ids=match.ids,
            dialect=record.dialect,
            query={name: text for name, text in request.query.items() if name != ACCESS_TOKEN},
            page_limit=self._settings.page_limit,
            notes=record.notes,
        )
        answer = await self._drive(match.call.flow(call), caller, record)
        return await legacy_answer(answer, record.notes)

    async def _drive(self, flow: Flow, caller: Caller, record: CallRecord) -> V1Response:
        deadline = asyncio.get_running_loop().time() + self._settings.call_timeout
        try:
            request = next(flow)
            while True:
                try:
                    response = await self._send(request, caller, record, deadline)
                except UpstreamError as error:
                    request = flow.throw(error)
                else:
                    request = flow.send(response)
        except StopIteration as stop:
            answer: V1Response = stop.value
            return answer

    async def _send(
        self, request: V2Request, caller: Caller, record: CallRecord, deadline: float
    ) -> V2Response:
        left = deadline - asyncio.get_running_loop().time()
        if left <= 0:
            raise UpstreamTimeout("the call's time was up")
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
