"""One legacy call, top to bottom: from an HTTP request to its answer, sent and recorded.

How connections are held, what a call means, and how v2 is asked, is written elsewhere.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import perf_counter
from traceback import format_tb
from typing import TYPE_CHECKING, Any

import structlog
from aiohttp import web

from bridge.identity.book import Book
from bridge.identity.callers import Caller, Identification, Refusal, Way
from bridge.identity.credentials import ACCESS_TOKEN
from bridge.identity.hosts import (
    address_for_a_log,
    for_a_log,
    is_trusted,
    origin,
    subdomain,
    subdomain_for_a_log,
)
from bridge.identity.masking import without_token
from bridge.identity.passwords import PasswordChecker
from bridge.record.journal import Journal
from bridge.resources import RESOURCES
from bridge.resources.failures import V2_MAY_SAY, answer_to
from bridge.resources.flow import Step, run
from bridge.resources.routes import Match, Router, is_v1s, path_for_a_log
from bridge.server.answers import headers_of, http_response, request_id_of, send
from bridge.server.call import Call
from bridge.server.connection import Connection
from bridge.server.deciding import Deciding
from bridge.server.leaving import Departure
from bridge.server.limits import (
    LIMITS,
    BodyLimits,
    Budget,
    Limits,
    Share,
    for_writes,
    read_body,
)
from bridge.server.logs import REQUEST_ID
from bridge.server.negotiation import in_format, list_field
from bridge.server.passing import Passing
from bridge.server.records import CallRecord, Recorder
from bridge.server.shadow.running import Shadow
from bridge.server.withdrawal import Withdrawal
from bridge.server.writes import Turns, Writing
from bridge.settings import Settings
from bridge.tape import Room, Tape
from bridge.upstream.gateway import Credential, Errand, Gateway
from bridge.upstream.sharing import Abandoned, Sharing
from bridge.v1.errors import (
    AttemptsPaused,
    BodyTooLarge,
    BrownedOut,
    InvalidAnswer,
    InvalidRequest,
    LegacyCallError,
    MethodNotAllowed,
    NotFound,
    NotIdentified,
    OriginGone,
    PastSunset,
    RequestTimeout,
    UnsupportedMediaType,
)
from bridge.v1.notes import NoteCode, Notes
from bridge.v1.problems import Problem
from bridge.v1.reuse import Reuse
from bridge.v1.wire import V1Request, V1Response
from bridge.v2.errors import (
    OwnTokenRefused,
    UpstreamError,
    UpstreamRefusal,
    UpstreamSilence,
    UpstreamTimeout,
)
from bridge.v2.rate_limit import Rate

if TYPE_CHECKING:
    from bridge.server.traces import Tracer  # which needs what is optional

_log = structlog.get_logger("bridge.calls")

TRANSLATORS = 1
"""Threads that translate long lists. Each more is one more to wait for the interpreter with: small
calls then take three times as long, and long lists no less, for half of their time is Python's."""

REUSE = 64 * 1024 * 1024
"""Bytes of translations that are kept for lists that are asked for again and have not changed."""

NO_BOOK = Book(())

STOPPED = "Stopped: cut off by the stop of the bridge"
"""The cause of a call that was given up because the bridge had to stop."""

_LEFT_BEHIND = {
    "POST": "; what became of it is not known: it stands in the journal",
    "DELETE": "; it may have been done",
}
"""What is said besides, if a v2 call by this method was made."""

_DEFECT = answer_to(RuntimeError())
"""Where not even an answer can be made of what went wrong."""


class Endpoint:
    """Serves legacy calls, any number at once."""

    def __init__(  # noqa: PLR0913 - the parts that outlive a call
        self,
        settings: Settings,
        gateway: Gateway,
        journal: Journal,
        *,
        departure: Departure,
        recorder: Recorder,
        withdrawal: Withdrawal,
        book: Callable[[], Book] = lambda: NO_BOOK,
        limits: Limits = LIMITS,
        tracer: "Tracer | None" = None,
        passing: Passing | None = None,
        shadow: Shadow | None = None,
    ) -> None:
        """Serve calls with these parts; `recorder` is told of every call that has ended.

        What `passing` takes is answered by v1; None: nothing is. Of what v1 or the bridge answers,
        `shadow` asks the other one, too; None: of nothing.
        """
        self._shadow = shadow
        self._page_limit = limits.page_limit
        self._gateway = gateway
        self._journal = journal
        self._departure = departure
        self._recorder = recorder
        self._withdrawal = withdrawal
        self._tracer = tracer
        self._heard = Room()
        self._loop = asyncio.get_running_loop()
        self._passwords = PasswordChecker(lambda: book().usual_cost)
        self._identification = Identification(
            settings.auth, settings.account_id, book, self._passwords, recorder.digests
        )
        self._deciding = (
            None
            if passing is None
            else Deciding(settings, passing, shadow, self._identification, recorder)
        )
        self._router = Router(RESOURCES)
        self.calls = Budget(
            "calls",
            limits.calls,
            {
                Share.LOGIN: limits.calls_per_login,
                Share.ADDRESS: limits.calls_per_address,
            },
        )
        """The places of calls under way."""
        self._recording = Budget(
            "writes",
            limits.calls,
            {
                Share.LOGIN: for_writes(limits.calls_per_login),
                Share.ADDRESS: for_writes(limits.calls_per_address),
            },
        )
        """Those of them that wait for the journal."""
        self.bodies = Budget("bodies", limits.bodies_limit, {Share.ACCOUNT: limits.bodies_limit})
        """The bytes of bodies that are held."""
        self._reads: Sharing[tuple[V1Response, Notes]] = Sharing()
        self.reuse = Reuse(REUSE)
        self._turns = Turns()
        self._translators = ThreadPoolExecutor(TRANSLATORS, "translator")
        self._under_way: set[Call] = set()
        self._limits = limits
        self.go_by(settings)

    def go_by(self, settings: Settings) -> None:
        """Take these settings for what begins from now on, but for those that take a restart."""
        limits, longest = self._limits, settings.body_limit
        self._settings = settings
        self.calls.allow(Share.ACCOUNT, settings.calls_per_account)
        self._recording.allow(Share.ACCOUNT, for_writes(settings.calls_per_account))
        self.bodies.allow(Share.LOGIN, max(limits.bodies_per_login, longest))
        self.bodies.allow(Share.ADDRESS, max(limits.bodies_per_address, longest))
        self._body_limits = BodyLimits(longest, limits.body_timeout)
        self._withdrawal.go_by(settings)
        if self._deciding is not None:
            self._deciding.go_by(settings)

    async def close(self) -> int:
        """Give up the calls that are still under way, and return how many of them there were.

        Their writes stay open in the journal. No more calls are to come.
        """
        calls = list(self._under_way)
        for call in calls:
            record = call.record
            record.cause = record.cause or _stopped(call)
            record.is_grave = call.is_write
            call.request.task.cancel()
        await asyncio.gather(*(call.request.task for call in calls), return_exceptions=True)
        self._recorder.catch_up()
        self._translators.shutdown(cancel_futures=True)
        await self._passwords.close()
        return len(calls)

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one legacy call, whatever becomes of it, and tell the sinks."""
        headers = request.headers
        record = CallRecord(
            request_id_of(headers.get("X-Request-Id")), request.method, headers.get("User-Agent")
        )
        # For this call alone: aiohttp serves each in a task of its own.
        REQUEST_ID.set(record.request_id)
        connection = request.protocol
        assert isinstance(connection, Connection)  # noqa: S101 - the front makes no others
        call = Call(request, connection, record)
        call.sunset = self._withdrawal.sunset()
        trace = None if self._tracer is None else self._tracer.begin(request.method, headers)
        call.trace = trace
        if self._recorder.capture.is_on():
            target = request.rel_url.raw_path_qs
            call.tape = Tape(self._heard, request.scheme, request.host, target, headers)
        connection.begin(call.client_left)
        self._under_way.add(call)
        try:
            try:
                self._whence(call)
                with self._departure.call():
                    if call.client_is_gone:
                        await asyncio.sleep(0)  # where the call is given up
                    await self._serve(call)
            except Exception as error:  # noqa: BLE001 - the one place that answers every failure
                await self._send(call, self._answer_to(call, error))
        finally:
            self._under_way.discard(call)
            response = call.response
            connection.end(request, is_last=response is None or not response.keep_alive)
            if record.way is not None and not call.is_v1s:
                record.is_known = self._gateway.knows(call.credential)
            if call.tape is not None:
                call.tape.end(call.secrets())
            if self._under_way and call.was_plain:
                self._recorder.ended_among_others(record)
            else:
                event = self._recorder.ended(record, call.tape)
                if trace is not None:
                    trace.ended(event)
                if call.look is not None and self._shadow is not None:
                    self._shadow.begin(call.look, event)
        assert response is not None  # noqa: S101 - it was sent
        return response

    async def _serve(self, call: Call) -> None:
        """Find out what is called, and have it answered by v1 or here."""
        if call.connection.fault is not None:
            raise call.connection.fault
        for repair in call.connection.repairs:
            call.record.notes.add(repair, "head")
        match, is_somebodys = self._find(call)
        deciding = self._deciding
        if deciding is not None and deciding.is_v1s(call, match):
            self._turn_away_if_asked(call)
            try:
                with self.calls.place(call.shares):
                    await deciding.passing.serve(call)
            except OriginGone:
                # Who answers what the bridge could is not decided anew by what becomes of v1.
                if deciding.passing.takes_all or not isinstance(match, LegacyCallError):
                    raise
                call.is_v1s, call.record.way = False, None
            else:
                return
        if isinstance(match, LegacyCallError) and not is_somebodys:
            raise match
        caller = await self._who(call)
        if isinstance(match, LegacyCallError):
            raise match
        self._turn_away_if_asked(call)
        await self._answer(call, match, caller)

    async def _answer(self, call: Call, match: Match, caller: Caller) -> None:
        """Read or write."""
        request, record = call.request, call.record
        # Not sooner: it tells that there is something.
        record.successor = match.resource.successor.format_map(match.ids)
        record.dialect = caller.dialect or record.dialect
        xml, match = match, in_format(match, list_field(request.headers, "Accept"))
        if match is not xml:
            record.format = "json"
        if match.call.tells_host:
            call.base_uri = call.called_at(self._settings.trusted_proxies)
        if not match.call.asks_v2:
            await self._tell(call, match, caller)
            return
        serve = self._read if match.call.method == "GET" else self._write
        await serve(call, match, caller)

    def _whence(self, call: Call) -> None:
        """Note where a call comes from, and the host and the subdomain that it is for."""
        request, record = call.request, call.record
        peer, proxies = request.remote or "", self._settings.trusted_proxies
        network, host, address = origin(
            peer,
            request.host,
            request.headers.getall("X-Forwarded-For", ()),
            request.headers.getall("X-Forwarded-Host", ()),
            proxies,
        )
        call.host, call.network, record.http = host, network, call.connection.http
        call.subdomain = subdomain(host, self._settings.domains) or self._settings.subdomain
        record.host, record.subdomain = for_a_log(host), subdomain_for_a_log(call.subdomain)
        if proxies and is_trusted(peer, proxies):
            # The proxy has it from whoever called, and TLS ends there.
            record.network, record.address = map(address_for_a_log, (network, address))
        else:
            record.network, record.address = network, address
            record.tls = call.connection.tls
            if call.connection.old_tls is not None:
                record.notes.add(NoteCode.OLD_TLS, call.connection.old_tls)

    def _find(self, call: Call) -> tuple[Match | LegacyCallError, bool]:
        """Return what is called, or why nothing is; and whether it is under v1's roots.

        There, even nothing is somebody's.
        """
        record, path = call.record, call.request.rel_url.raw_path
        if not path.startswith("/"):  # `OPTIONS *`, or a URL without a path
            record.path = path_for_a_log(f"/{path}")
            return NotFound("Nothing is at this path."), False
        try:
            match = self._router.match(call.request.method, path, record.notes)
        except MethodNotAllowed as error:
            record.route = error.route
            return error, True
        except LegacyCallError as error:
            record.path = path_for_a_log(path)
            return error, is_v1s(path)
        record.route = match.call.path
        record.dialect = self._settings.dialect or match.call.dialect
        return match, True

    async def _who(self, call: Call) -> Caller:
        """Find out who calls, and note it."""
        record = call.record
        try:
            caller = await self._identification.identify(
                call.offered(), call.subdomain, call.network, record.claims
            )
        except NotIdentified as error:
            if error.code is Refusal.NO_CREDENTIAL and call.request.headers.get("Authorization"):
                error.code = Refusal.GARBLED_CREDENTIAL
                error.reason = "the credential that came with the call cannot be read"
            if call.subdomain is None:
                error.reason += f" ({self._why_no_subdomain(call.host)})"
            raise
        call.credential = Credential(
            caller.account_id, caller.token, vouched=caller.way is Way.BOOK
        )
        call.shares = [(Share.LOGIN, caller.key)]
        if self._gateway.knows(call.credential):
            call.connection.serves_known()
            call.shares.append((Share.ACCOUNT, caller.account_id))
        else:
            # Tokens are the callers' to make up, one for each call if they like.
            call.shares.append((Share.ADDRESS, call.network))
        record.told_of(caller)
        return caller

    def _turn_away_if_asked(self, call: Call) -> None:
        """Raise why a call is not answered on purpose; before anything is done or asked for it."""
        if not self._withdrawal.asks_who:
            return
        record = call.record
        integration = self._recorder.integration(record)
        call.sunset = self._withdrawal.sunset(integration)
        self._withdrawal.turn_away(integration, record.method, record.route or record.path or "")

    async def _tell(self, call: Call, match: Match, caller: Caller) -> None:
        """Answer what the bridge knows by itself: at once, so that it needs no place."""

        async def perform(_step: Step) -> Rate:
            return self._gateway.rate(call.credential)

        legacy = self._v1_request(call, match, b"", call.record.notes)
        await self._send(call, await self._run(call, legacy, match, caller, perform))

    async def _read(self, call: Call, match: Match, caller: Caller) -> None:
        """Answer a call that changes nothing, together with all who ask the same just now."""
        record = call.record
        errand = self._errand(call)
        # Notes of its own, for they go to all who share the answer.
        legacy = self._v1_request(
            call, match, b"", Notes(), lambda: self._loop.time() >= errand.deadline
        )
        key = (
            caller.key,
            caller.account_id,
            legacy.path,
            match.call.name,
            tuple(legacy.query.items()),
            legacy.dialect,
            legacy.base_uri,
            # Who has written something gets to read it.
            self._gateway.writes(caller.account_id),
        )
        while (shared := self._reads.under_way.get(key)) is not None:
            record.shared_with = shared.name
            followed = perf_counter()
            try:
                answer, notes = await self._reads.follow(key)
                if call.trace is not None:
                    call.trace.shares(shared.worker.trace)
                break
            except Abandoned:
                pass
            except UpstreamSilence as silence:
                # It may have been the time of whoever began it that was up.
                if not silence.time_is_up or self._loop.time() >= errand.deadline:
                    raise
            finally:
                record.waited += perf_counter() - followed
        else:
            record.shared_with = None
            translating = self._translate(call, legacy, match, caller, errand)
            answer, notes = await self._reads.work(key, call, translating, record.request_id)
        record.notes.merge(notes)
        await self._send(call, answer)

    async def _translate(
        self, call: Call, legacy: V1Request, match: Match, caller: Caller, errand: Errand
    ) -> tuple[V1Response, Notes]:
        perform = partial(self._gateway.send, errand=errand)
        # Only who works takes a place: to share costs nothing.
        with self.calls.place(call.shares):
            answer = await self._run(call, legacy, match, caller, perform, errand, errand.deadline)
            return answer, legacy.notes

    async def _write(self, call: Call, match: Match, caller: Caller) -> None:
        """Answer a call that changes something, and go on with it even if its client hangs up."""
        posts = match.call.method == "POST"
        with self.bodies.growing(call.shares) as take:
            # Before a place is taken: a client that sends slowly would keep it from those who have
            # asked.
            body = await self._read_body(call, take) if posts else b""
            if call.tape is not None:
                call.tape.sent(body)
            errand = self._errand(call)
            with self.calls.place(call.shares):
                call.is_write = True
                legacy = self._v1_request(call, match, body, call.record.notes)
                writing = Writing(
                    gateway=self._gateway,
                    journal=self._journal,
                    turns=self._turns,
                    recording=self._recording.place(call.shares),
                    errand=errand,
                    seconds=self._settings.call_timeout,
                    what=(match.resource.name, tuple(match.ids.items())),
                    request_id=call.record.request_id,
                )
                try:
                    if posts:
                        began = perf_counter()
                        try:
                            await writing.take_turns()
                        finally:
                            call.record.waited += perf_counter() - began
                    try:
                        answer = await self._run(
                            call, legacy, match, caller, writing.perform, errand
                        )
                    finally:
                        if self._gateway.knows(errand.credential):
                            self._gateway.wrote(caller.account_id)
                    await asyncio.sleep(0)  # for the loop to hear of those who hung up just now
                    call.connection.is_about_to_answer()
                    sent = await self._send(call, answer)
                    if sent and writing.intent is not None and await call.was_taken():
                        await writing.handed_over()
                finally:
                    writing.give_turns_back()

    async def _read_body(self, call: Call, take: Callable[[int], None]) -> bytes:
        request, record = call.request, call.record

        def count(size: int) -> None:
            record.bytes_in += size
            take(size)

        codings = (list_field(request.headers, "Content-Encoding") or "identity").lower()
        if any(each.strip() != "identity" for each in codings.split(",")):
            # No v1 client compresses what it sends, and what is not inflated is no bomb.
            raise UnsupportedMediaType("Send the body without a Content-Encoding.")
        return await read_body(request, self._body_limits, count)

    async def _run(  # noqa: PLR0913, PLR0917 - whose flow, and what it is run with
        self,
        call: Call,
        legacy: V1Request,
        match: Match,
        caller: Caller,
        perform: Callable[[Step], Awaitable[Any]],
        errand: Errand | None = None,
        deadline: float | None = None,
    ) -> V1Response:
        """Take a call's flow to its end; past a `deadline`, no long answer of v2 is waited for."""
        elsewhere = partial(self._translate_elsewhere, deadline)
        began = perf_counter()
        try:
            return await run(match.call.flow(legacy), perform, elsewhere, self._read_elsewhere)
        except UpstreamRefusal as refusal:
            if refusal.message is not None:
                # Of the book's token, its client must not learn even from v2.
                refusal.message = without_token(refusal.message, caller.token)
            if refusal.status == 401 and caller.way is Way.BOOK:
                _log.error("book_token_refused", account_id=caller.account_id)
                raise OwnTokenRefused("v2 refuses the token that the book has") from refusal
            raise
        finally:
            call.record.ran(perf_counter() - began, 0.0 if errand is None else errand.spent)

    async def _translate_elsewhere(self, deadline: float | None, work: Callable[[], Any]) -> Any:  # noqa: ANN401
        try:
            async with asyncio.timeout_at(deadline):
                return await self._loop.run_in_executor(self._translators, work)
        except TimeoutError:
            raise UpstreamTimeout("the call's time was up") from None

    def _read_elsewhere(self, work: Callable[[], Any]) -> Awaitable[Any]:
        return self._loop.run_in_executor(None, work)  # not behind somebody's long lists

    def _v1_request(
        self,
        call: Call,
        match: Match,
        body: bytes,
        notes: Notes,
        out_of_time: Callable[[], bool] = bool,
    ) -> V1Request:
        request = call.request
        return V1Request(
            path=match.call.path.format_map(match.ids),
            ids=match.ids,
            dialect=call.record.dialect or match.call.dialect,
            base_uri=call.base_uri,
            # Noted for this call alone: what is ignored keeps nobody from sharing an answer.
            query=match.call.read_query(_query(call), call.record.notes),
            body=body,
            content_type=request.headers.get("Content-Type"),
            page_limit=self._page_limit,
            notes=notes,
            reuse=self.reuse,
            out_of_time=out_of_time,
        )

    def _errand(self, call: Call) -> Errand:
        return Errand(
            call.credential,
            self._settings.call_timeout,
            self._loop.time() + self._settings.call_timeout,
            call,
            call.network,
            call.record.upstream_calls,
            tape=call.tape,
        )

    def _why_no_subdomain(self, host: str) -> str:
        domains = ", ".join(self._settings.domains) or "none"
        return f"host name {for_a_log(host)}, domains {domains}"

    def _answer_to(self, call: Call, error: Exception) -> V1Response:
        """Return the answer to a call that failed, and note why."""
        try:
            self._note(call, error)
            return answer_to(error)
        except Exception as defect:  # noqa: BLE001 - the answer says that the log has the reason
            # Without its words, which may be those of what it was to answer.
            where = format_tb(defect.__traceback__)
            _log.error("defect", cause=type(defect).__name__, where="".join(where))
            return _DEFECT

    def _note(self, call: Call, error: Exception) -> None:
        record = call.record
        record.cause = type(error).__name__
        record.refusal = _refusal(error)
        if isinstance(error, InvalidRequest):
            record.problem = error.problem
        elif isinstance(error, UpstreamRefusal) and error.status in V2_MAY_SAY:
            record.problem, record.v2_words = Problem.REFUSED_BY_V2, error.message
        if isinstance(error, UpstreamError | InvalidAnswer):
            record.cause += f": {error}"
        elif isinstance(error, NotIdentified):
            record.cause += f": {error.reason}"
        elif not isinstance(error, LegacyCallError):  # whose sentence may quote the call
            _log.error("defect", exc_info=error)
        if isinstance(error, BodyTooLarge | RequestTimeout):
            # The rest of the body may be long in coming (RFC 9110, sections 15.5.9 and 15.5.14).
            call.is_last = True

    async def _send(self, call: Call, answer: V1Response) -> bool:
        """Send an answer, and tell whether there was anybody to take it."""
        record = call.record
        if call.response is not None:
            # A defect after the answer was under way: there is no second one.
            return False
        headers = headers_of(answer, record.request_id, record.successor, call.sunset)
        call.response = response = http_response(answer, headers)
        if self._departure.begun or call.is_last or call.connection.is_ending:
            response.headers["Connection"] = "close"
            response.force_close()
        if call.is_write or not call.client_is_gone:
            record.status = answer.status
        if call.tape is not None:
            call.tape.answered(
                response.headers, () if call.request.method == "HEAD" else answer.body
            )
        if call.look is not None and not call.is_v1s:
            content_type = response.headers.get("Content-Type")
            call.look.overheard.answered(answer.status, content_type, answer.body)
        record.outlived_client = call.is_write and call.client_is_gone
        if call.client_is_gone:
            return False
        try:
            await send(call.request, response, answer.body if len(answer.body) > 1 else ())
        except ConnectionError:
            record.outlived_client = call.is_write
            return False
        record.bytes_out = 0 if call.request.method == "HEAD" else sum(map(len, answer.body))
        return True


def _refusal(error: Exception) -> str | None:
    """Return the code of why its caller was refused; None: that is not what went wrong."""
    match error:
        case NotIdentified(code=code):
            return code
        case UpstreamRefusal(status=401):
            return Refusal.TOKEN_REFUSED
        case UpstreamRefusal(status=403):
            return Refusal.FORBIDDEN
    return _REFUSALS.get(type(error))


_REFUSALS: Mapping[type[Exception], Refusal] = {
    AttemptsPaused: Refusal.LOCKED_OUT,
    BrownedOut: Refusal.BROWNOUT,
    OwnTokenRefused: Refusal.BOOK_TOKEN_REFUSED,
    PastSunset: Refusal.SUNSET,
}


def _stopped(call: Call) -> str:
    if call.is_v1s and call.is_write:
        return f"{STOPPED}; v1 may have done it"
    methods = {each.method for each in call.record.upstream_calls}
    return STOPPED + "".join(told for method, told in _LEFT_BEHIND.items() if method in methods)


def _query(call: Call) -> Mapping[str, str]:
    """Return the parameters of a call, but for its token."""
    return {name: text for name, text in call.query.items() if name != ACCESS_TOKEN}
