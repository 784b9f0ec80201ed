"""The one handler of the legacy side: from an HTTP request to a flow, and the flow driven."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import structlog
from aiohttp import web

from bridge.identity.callers import Caller, Identification, Way
from bridge.identity.credentials import ACCESS_TOKEN, credentials
from bridge.identity.hosts import Origin, origin, subdomain
from bridge.record.store import JournalError
from bridge.resources.failures import answer_to
from bridge.resources.routes import Match, Router
from bridge.server.answers import Rendered, http_response, render
from bridge.server.driving import Driver, Means, latest_start
from bridge.server.limits import BodyBudget, BodyLimits, CallLimiter, read_body
from bridge.server.logs import CallRecord
from bridge.server.middlewares import RECORD
from bridge.server.negotiation import admits_xml
from bridge.server.parts import Parts
from bridge.server.turns import Turns
from bridge.upstream.gateway import Credential
from bridge.upstream.single_flight import SingleFlight
from bridge.v1.errors import NotAcceptable, UnsupportedMediaType
from bridge.v1.notes import Notes
from bridge.v1.wire import V1Request, V1Response
from bridge.v2.errors import OwnTokenRefused, UpstreamRefusal, UpstreamSilence

_log = structlog.get_logger("bridge.calls")


class LegacyHandler:
    """Serves legacy calls, one at a time each, any number at once."""

    def __init__(self, parts: Parts, router: Router, identification: Identification) -> None:
        settings = self._settings = parts.settings
        self._router = router
        self._identification = identification
        self._gateway = parts.gateway
        self._journal = parts.journal
        self._departure = parts.departure
        self._means = Means(parts.gateway, parts.journal, settings.call_timeout)
        self._turns = Turns()
        self._reads: SingleFlight[Rendered] = SingleFlight()
        self._writes: set[asyncio.Task[web.Response]] = set()
        self._calls = CallLimiter(settings.calls, settings.calls_per_login)
        self._calls_by_account = CallLimiter(settings.calls, settings.calls_per_account)
        self._calls_by_address = CallLimiter(settings.calls, settings.calls_per_address)
        self._bodies = BodyBudget(settings.bodies_limit)
        self._turn = asyncio.Lock()
        self._body_limits = BodyLimits(settings.body_limit, settings.body_timeout)

    async def __call__(self, request: web.Request) -> web.Response:
        """Answer one legacy call; raises what `bridge.resources.failures` knows to answer."""
        with self._departure.call():
            return await self._answer(request)

    async def close(self) -> None:
        """Give up the writes that are still under way; the journal has them as open."""
        writes = list(self._writes)
        for write in writes:
            write.cancel()
        await asyncio.gather(*writes, return_exceptions=True)

    async def _answer(self, request: web.Request) -> web.Response:
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
        if match.call.method == "GET":
            return await self._read(request, match, caller, address)
        return await self._write(request, match, caller, address)

    @asynccontextmanager
    async def _place(self, caller: Caller, address: str) -> AsyncIterator[None]:
        async with AsyncExitStack() as places:
            if caller.way is not Way.BOOK:
                # Tokens are the callers' to make up, one for each call if they like.
                await places.enter_async_context(self._calls_by_address.slot(address))
            await places.enter_async_context(self._calls.slot(caller.key))
            if self._gateway.knows(_credential(caller)):
                await places.enter_async_context(
                    self._calls_by_account.slot(str(caller.account_id))
                )
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

    async def _read(
        self, request: web.Request, match: Match, caller: Caller, address: str
    ) -> web.Response:
        """Answer a call that changes nothing, together with all who ask the same just now."""
        record = request[RECORD]
        deadline = self._deadline()
        # Notes of its own, for they go to all who share the answer.
        call = self._v1_request(request, match, b"", Notes())
        key = self._key(call, match, caller)
        while key in self._reads:
            record.shared_with = self._reads.begun_by(key)
            try:
                rendered = await self._reads.join(key)
                break
            except UpstreamSilence as silence:
                # It may have been the time of whoever began it that was up.
                if not silence.time_is_up or asyncio.get_running_loop().time() >= deadline:
                    raise
        else:
            record.shared_with = None
            driver = self._driver(caller, record, deadline, _not_needed)
            rendered = await self._reads.begin(
                key, self._render_read(call, match, caller, address, driver), record.request_id
            )
        record.notes.merge(rendered.notes)
        return http_response(rendered)

    def _key(self, call: V1Request, match: Match, caller: Caller) -> Hashable:
        return (
            caller.key,
            caller.account_id,
            match.call.path,
            call.path,
            tuple(sorted(call.query.items())),
            call.dialect,
            # Who has written something gets to read it.
            self._gateway.writes(caller.account_id),
        )

    async def _render_read(
        self,
        call: V1Request,
        match: Match,
        caller: Caller,
        address: str,
        driver: Driver,
    ) -> Rendered:
        # Only who begins takes a place: to join costs nothing.
        async with self._place(caller, address):
            answer = await self._drive(driver, call, match, caller)
            return await render(answer, call.notes, self._turn)

    async def _write(
        self, request: web.Request, match: Match, caller: Caller, address: str
    ) -> web.Response:
        """Answer a call that changes something, and go on with it even if its client hangs up."""
        record = request[RECORD]
        async with AsyncExitStack() as held:
            take = held.enter_context(self._bodies.share())
            # Before a place is taken: who trickles would keep it from those who have asked.
            body = await self._read_body(request, take) if match.call.method == "POST" else b""
            await held.enter_async_context(self._place(caller, address))
            held.enter_context(self._departure.work())
            call = self._v1_request(request, match, body, record.notes)
            write = asyncio.create_task(
                self._write_and_hand_over(request, call, match, caller, held.pop_all())
            )
        self._writes.add(write)
        write.add_done_callback(self._writes.discard)
        try:
            return await asyncio.shield(write)
        except asyncio.CancelledError:
            if write.done() and not write.cancelled() and write.exception() is None:
                # The client has its answer; it was just quick to hang up.
                return write.result()
            write.add_done_callback(partial(_log_outcome, record))
            raise

    async def _write_and_hand_over(
        self,
        request: web.Request,
        call: V1Request,
        match: Match,
        caller: Caller,
        held: AsyncExitStack,
    ) -> web.Response:
        record = request[RECORD]
        async with held:
            credential, deadline = _credential(caller), self._deadline()
            due = latest_start(deadline, self._settings.call_timeout)
            take_turn = partial(self._take_turn, held, match, credential.account_id, due)
            if match.call.method == "POST":
                # In the order in which they came, whose clients are gone among them: before the
                # body goes to a thread, which may take any time.
                await self._take_turn(held, match, credential.key, due)
                if self._gateway.knows(credential):
                    # Strangers must not keep the account from its own invoice.
                    await take_turn()
            driver = self._driver(caller, record, deadline, take_turn)
            try:
                answer = await self._drive(driver, call, match, caller)
            finally:
                if self._gateway.knows(credential):
                    self._gateway.wrote(caller.account_id)
            response = http_response(await render(answer, call.notes, self._turn))
            if await _hand_over(request, response) and driver.intent is not None:
                await self._note_delivery(driver.intent.id)
            return response

    async def _take_turn(
        self, held: AsyncExitStack, match: Match, whose: Hashable, due: float
    ) -> None:
        """Wait until nobody else writes to the same; see schemas/README.md, "Unknown outcomes"."""
        what = (whose, match.resource.name, tuple(match.ids.items()))
        await held.enter_async_context(self._turns.turn(what, due))

    async def _note_delivery(self, intent_id: int) -> None:
        try:
            await self._journal.delivered(intent_id)
        except JournalError as error:
            _log.error("delivery_not_noted", intent=intent_id, error=str(error))

    def _v1_request(
        self, request: web.Request, match: Match, body: bytes, notes: Notes
    ) -> V1Request:
        return V1Request(
            path=match.call.path.format_map(match.ids),
            ids=match.ids,
            dialect=request[RECORD].dialect or match.call.dialect,
            query={name: text for name, text in request.query.items() if name != ACCESS_TOKEN},
            body=body,
            content_type=request.headers.get("Content-Type"),
            page_limit=self._settings.page_limit,
            notes=notes,
        )

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._settings.call_timeout

    def _driver(
        self,
        caller: Caller,
        record: CallRecord,
        deadline: float,
        take_turn: Callable[[], Awaitable[None]],
    ) -> Driver:
        return Driver(
            self._means,
            credential=_credential(caller),
            deadline=deadline,
            record=record,
            take_turn=take_turn,
        )

    async def _drive(
        self, driver: Driver, call: V1Request, match: Match, caller: Caller
    ) -> V1Response:
        try:
            # The worst of bodies take a second to read: in a thread of its own, reading can be
            # interrupted, and the parser needs no lock.
            return await driver.drive(match.call.flow(call), in_thread=bool(call.body))
        except UpstreamRefusal as refusal:
            if refusal.message is not None:
                # Of the book's token, its client must not learn even from v2.
                refusal.message = refusal.message.replace(caller.token.reveal(), "…")
            if refusal.status == 401 and caller.way is Way.BOOK:
                _log.error("book_token_refused", account_id=caller.account_id)
                raise OwnTokenRefused("v2 refuses the token that the book has") from refusal
            raise


async def _not_needed() -> None:
    """Wait for no turn: who only reads has none."""


def _credential(caller: Caller) -> Credential:
    return Credential(caller.account_id, caller.token, vouched=caller.way is Way.BOOK)


async def _hand_over(request: web.Request, response: web.Response) -> bool:
    """Send the answer now rather than later, and tell whether there was anybody to take it."""
    await asyncio.sleep(0)  # for the loop to hear of those who hung up just now
    if request.transport is None or request.transport.is_closing():
        return False
    try:
        await response.prepare(request)
        await response.write_eof()
    except ConnectionError:
        return False
    return True


def _log_outcome(record: CallRecord, write: "asyncio.Task[web.Response]") -> None:
    """Say what came of a write whose client has hung up: its own log line came too early."""
    if write.cancelled():
        status, cause = None, "CancelledError"
    elif isinstance(error := write.exception(), Exception):
        status, cause = answer_to(error).status, type(error).__name__
    else:
        status, cause = write.result().status, None
    _log.info("client_gone", cause=cause, **record.line(status))
