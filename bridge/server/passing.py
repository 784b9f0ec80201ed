"""Passing one call through to v1: its body up, the answer down, and what is noted of both.

Which calls are passed through is decided in `bridge.server.endpoint`.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from secrets import token_bytes

import aiohttp
import structlog
from aiohttp import HttpVersion11, web
from aiohttp.http_exceptions import PayloadEncodingError
from multidict import CIMultiDict

from bridge.identity.credentials import ACCESS_TOKEN, Basic, Bearer, credentials
from bridge.identity.hosts import is_trusted
from bridge.origin.client import SAFE, Body, OriginClient, Outgoing, pieces
from bridge.origin.fields import Fields, Moved, NotForwardable, framing, head, passed_by, to_origin
from bridge.origin.health import Origin, Origins
from bridge.origin.place import Place, Template
from bridge.record.log.policies import Policies
from bridge.resources.routes import V1_ROOTS
from bridge.server.call import Call
from bridge.server.leaving import Departure
from bridge.server.limits import BodyLimits, Budget, Limits, Share
from bridge.server.negotiation import expects_continue
from bridge.server.records import CallRecord
from bridge.server.relayed import Relayed
from bridge.server.shadow.v1_side import V1Side
from bridge.settings import Mode, Settings
from bridge.upstream.acquaintances import Acquaintances
from bridge.upstream.breaker import State
from bridge.v1.errors import (
    InvalidRequest,
    LegacyCallError,
    NotFound,
    OriginGone,
    OriginLoops,
    RequestTimeout,
)
from bridge.v1.problems import Problem
from bridge.v2.errors import (
    OutcomeUnknown,
    UpstreamFault,
    UpstreamSilence,
)

_log = structlog.get_logger("bridge.origin")


class Passing:
    """Passes calls through to v1."""

    def __init__(  # noqa: PLR0913 - the parts that outlive a call
        self,
        settings: Settings,
        client: OriginClient,
        policies: Policies,
        *,
        origins: Origins,
        via: str,
        limits: Limits,
        departure: Departure,
    ) -> None:
        """Pass to `legacy_origin`; `via` is the bridge's pseudonym, `origins` how v1 fares."""
        assert settings.legacy_origin is not None  # noqa: S101 - else there is nothing to pass to
        self.policies = policies
        self._client = client
        self._via = via
        self._most_calls = limits.shadow.v1_calls
        self._departure = departure
        self._at_origin = Budget(
            "calls",
            limits.passed_through,
            {
                Share.LOGIN: limits.calls_per_login,
                Share.ADDRESS: limits.passed_through_per_address,
                Share.ACCOUNT: limits.passed_through,
            },
        )
        self._known = Acquaintances(asyncio.get_running_loop().time)
        self._key = token_bytes(32)
        self._template = Template(settings.legacy_origin)
        self._origins = origins
        self.go_by(settings)

    def go_by(self, settings: Settings) -> None:
        """Take these settings for what begins from now on."""
        self._settings = settings
        self.takes_all = settings.mode is Mode.OBSERVE

    @property
    def under_way(self) -> int:
        """How many calls are at the origin."""
        return self._at_origin.used

    def admit(self, call: Call) -> None:
        """Note whose call it is, and with whom it shares what everybody may have a part of."""
        claim, record = call.claim, call.record
        record.way, record.label = claim.way, claim.label
        network = (Share.ADDRESS, call.network)
        if (credential := self._credential(call)) is None:
            call.shares = [network]
        elif credential in self._known:
            call.connection.serves_known()
            call.shares = [(Share.LOGIN, credential)]
        else:
            call.shares = [(Share.LOGIN, credential), network]

    def _credential(self, call: Call) -> tuple[int, bytes] | None:
        """Return what tells apart who calls with which secret; None: nothing does.

        However a secret is spelled, it is one: each that v1 has accepted has a share of its own.
        Of several, nobody could tell which v1 has accepted.
        """
        request = call.request
        lines = request.headers.getall("Authorization", ())
        tokens = request.query.getall(ACCESS_TOKEN, ())
        if len(lines) + len(tokens) != 1:
            return None
        offered: tuple[object, ...]
        match next(credentials(lines[0] if lines else None, request.query), None):
            case Basic(login, password):
                offered = login.strip().lower(), password.reveal()
            case Bearer(token):
                offered = (token.reveal(),)
            case None:
                return None
        digest = hashlib.blake2b(key=self._key, digest_size=32)
        digest.update(ascii((self._template.place(call.subdomain), *offered)).encode())
        return 0, digest.digest()

    async def serve(self, call: Call) -> None:
        """Pass a call through, and give its client what v1 answers.

        Raises:
            NotFound: the host that was called has no v1.
            OriginLoops: the call has come from this bridge.
            OriginGone: v1 is there no more.
            UpstreamUnavailable: v1 is not asked just now.
            Overloaded: there is no room for it.
            OutcomeUnknown: something was to be changed, and no answer came.
            UpstreamSilence: nothing came of it.
            UpstreamFault: the answer is not HTTP.
            InvalidRequest: the body broke off.
            RequestTimeout: it came too slowly.
        """
        request = call.request
        if passed_by(request.raw_headers, self._via):
            raise self._loops(call)
        place = self._template.place(call.subdomain)
        if place is None:
            raise NotFound("No account of Harvest is at this host.")
        origin = self._origins.of(place)
        if not origin.is_worth_asking:
            raise OriginGone("Harvest v1 is not there any more.")
        with self._at_origin.place(call.shares):
            probe = origin.breaker.admit()
            origin.looks()
            self._origins.recent.add(place)
            failed: bool | None = None
            try:
                async with aclosing(_Answer(await self._ask(call, place, origin))) as answer:
                    failed = False
                    self._note(call, origin, answer.response)
                    await self._relay(call, place, answer.response)
            except (OutcomeUnknown, UpstreamFault, UpstreamSilence):
                failed = True if failed is None else failed
                raise
            finally:
                origin.breaker.ended(failed, probe=probe)

    def fields(self, call: Call) -> list[tuple[str, str]]:
        """Return the fields of a call's head as they go on to v1."""
        request, proxies = call.request, self._settings.trusted_proxies
        return to_origin(
            request.raw_headers,
            self._via,
            call.record.http or "1.1",
            came_by_proxy=bool(proxies) and is_trusted(request.remote or "", proxies),
        )

    def side(self) -> V1Side:
        """Return what asks v1 for the comparison alone."""
        return V1Side(
            self._client,
            self._template,
            self._origins,
            self._settings.call_timeout,
            self._most_calls,
        )

    def _loops(self, call: Call) -> OriginLoops:
        _log.error("legacy_origin_loops", origin=str(self._template), host=call.record.host)
        return OriginLoops("legacy_origin leads back to the bridge itself: tell its operator.")

    async def _ask(self, call: Call, place: Place, origin: Origin) -> aiohttp.ClientResponse:
        request = call.request
        patience = asyncio.timeout(None)
        upload = _Upload(call, patience, self._settings.call_timeout)
        outgoing = Outgoing(
            request.method,
            request.rel_url.raw_path_qs,
            self.fields(call),
            upload.body,
        )
        changes = request.method not in SAFE
        if upload.body is None:
            upload.is_whole()
        try:
            return await self._client.send(place, outgoing, patience, self._settings.call_timeout)
        except (UpstreamSilence, UpstreamFault) as error:
            if upload.failure is not None:
                raise upload.failure from None
            left = True
            if isinstance(error, UpstreamSilence):
                left = error.request_left
                if error.leads_back:
                    raise self._loops(call) from None
                if error.no_such_name:
                    if origin.has_no_address() and self._origins.matters(origin):
                        _tell_gone(origin, str(error))
                    raise OriginGone("Harvest v1 is not there any more.") from None
            if changes and left:
                raise OutcomeUnknown(f"v1 gave no answer: {error}") from None
            raise

    def _note(self, call: Call, origin: Origin, response: aiohttp.ClientResponse) -> None:
        """Note what an answer says of the credential that came, and of v1 itself."""
        record = call.record
        if (credential := self._credential(call)) is not None:
            if response.status == 401:
                self._known.refused(credential)
            elif response.status < 300 and _asks_who(call):
                self._known.accepted(credential)
            record.is_known = credential in self._known
        if origin.answered(response.status, _standing(record.route or record.path or "")):
            if origin.is_gone and self._origins.matters(origin):
                _tell_gone(origin, "it answers 404 or 410 to everything")
            elif not origin.is_gone:
                _log.warning("legacy_origin_back", origin=origin.place.authority)

    async def _relay(self, call: Call, place: Place, response: aiohttp.ClientResponse) -> None:
        """Give the client what v1 answers, at the pace at which it takes that."""
        request, record = call.request, call.record
        relayed = self._head(call, place, response)
        framed, call.response = relayed.framed, relayed
        record.status, record.passed_through = response.status, True
        hearers = _hearers(call, response)
        if call.client_is_gone:
            record.outlived_client = call.is_write
            return
        try:
            await relayed.prepare(request)
            if framed.has_body:
                async with aclosing(pieces(response, place, self._settings.call_timeout)) as body:
                    await _pass_down(body, call.record, hearers, relayed)
            await relayed.write_eof()
            if call.look is not None:
                call.look.overheard.ended()
        except ConnectionError:
            relayed.broke_off()
            record.outlived_client = call.is_write
        except (UpstreamSilence, asyncio.CancelledError) as error:
            relayed.broke_off()
            call.connection.break_off(looks_whole=framed.until_end)
            if isinstance(error, asyncio.CancelledError):
                raise
            record.cause = f"{type(error).__name__}: {error}"

    def _head(self, call: Call, place: Place, response: aiohttp.ClientResponse) -> Relayed:
        """Return what carries v1's answer to the client.

        Raises:
            OutcomeUnknown: its head makes no sense, and something was to be changed.
            UpstreamFault: it makes no sense.
        """
        request, fields = call.request, response.raw_headers
        try:
            framed = framing(request.method, request.version, response.status, fields)
            keeps = self._keeps(call, has_an_end=not framed.until_end)
            besides = [("X-Request-Id", call.record.request_id)]
            octets = head(
                response.status,
                response.reason,
                fields,
                framed,
                besides=[*besides, *_connection(request, keeps=keeps)],
                moved=Moved(place, call.called_at(self._settings.trusted_proxies)),
            )
        except NotForwardable as error:
            told = f"v1's answer makes no sense: {error}"
            raise (UpstreamFault if request.method in SAFE else OutcomeUnknown)(told) from None
        if call.tape is not None:
            call.tape.answered(_texts(fields), ())
        return Relayed(response.status, octets, framed, keep_alive=keeps)

    def _keeps(self, call: Call, has_an_end: bool) -> bool:
        request = call.request
        return (
            has_an_end
            and bool(request.keep_alive)
            and request.content.is_eof()
            and not (call.is_last or self._departure.begun or call.connection.is_ending)
        )


class _Answer:
    """One of v1's, until nobody wants it."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def aclose(self) -> None:
        self.response.close()  # what has come whole has given its connection back


class _Upload:
    """The body of a request, on its way up."""

    def __init__(self, call: Call, patience: asyncio.Timeout, seconds: float) -> None:
        self.failure: LegacyCallError | None = None
        """Why it did not come whole."""
        self._call = call
        self._limits = BodyLimits(seconds=float("inf"))
        self._patience = patience
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        request = call.request
        is_chunked = "Transfer-Encoding" in request.headers
        self._left = None if is_chunked else request.content_length or 0
        self.body: Body | None = None
        if self._left != 0:
            self.body = Body(self._pieces(), self._left)

    def is_whole(self) -> None:
        """Begin to wait for the answer: the request is, or is about to be, with v1."""
        if self._call.request.method not in SAFE:
            self._call.is_write = True
        self._wait(self._seconds)

    def _wait(self, seconds: float | None) -> None:
        with suppress(RuntimeError):  # the answer is there before the whole body: nobody waits
            self._patience.reschedule(None if seconds is None else self._loop.time() + seconds)

    async def _pieces(self) -> AsyncIterator[bytes]:
        call = self._call
        request, record = call.request, call.record
        expects = request.version >= HttpVersion11 and expects_continue(request.headers)
        if expects and call.response is None:
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        waited = 0.0
        while True:
            self._wait(None)
            began = self._loop.time()
            try:
                async with asyncio.timeout(max(0.0, self._limits.due(record.bytes_in) - waited)):
                    piece = await request.content.readany()
            except TimeoutError:
                self.failure = RequestTimeout("The body took too long to arrive.")
                raise
            except (PayloadEncodingError, web.RequestPayloadError, OSError, RuntimeError):
                told = "The body broke off, or is not encoded as its head says."
                self.failure = InvalidRequest(told, Problem.BODY_BROKEN_OFF)
                raise
            waited += self._loop.time() - began
            if not piece:
                self.is_whole()
                return
            record.bytes_in += len(piece)
            if call.tape is not None:
                call.tape.sends_on(piece)
            if self._left is not None:
                self._left -= len(piece)
            if self._left == 0:
                self.is_whole()
            else:
                self._wait(self._seconds)
            yield piece


async def _pass_down(
    body: AsyncIterator[bytes],
    record: CallRecord,
    hearers: list[Callable[[bytes], None]],
    relayed: Relayed,
) -> None:
    async for piece in body:
        record.bytes_out += len(piece)
        for hear in hearers:
            hear(piece)
        await relayed.write(piece)


def _hearers(call: Call, response: aiohttp.ClientResponse) -> list[Callable[[bytes], None]]:
    """Tell who hears what is said of the head of an answer; return what is told each piece."""
    hearers: list[Callable[[bytes], None]] = []
    if call.tape is not None:
        call.tape.answered(response.headers, ())
        hearers.append(call.tape.answers_on)
    if call.look is not None:
        headers = response.headers
        encoding = headers.get("Content-Encoding")
        call.look.overheard.began(response.status, headers.get("Content-Type"), encoding)
        hearers.append(call.look.overheard.heard)
    return hearers


def _asks_who(call: "Call") -> bool:
    """Tell whether v1 answers well only to whom it knows.

    To whatever anybody makes up, it may do so at any other path, as of the pages for a client's
    clients (`/client/invoices/…`), by whatever way they are reached, and to OPTIONS.
    """
    request, record = call.request, call.record
    root = (record.route or record.path or "").strip("/").partition("/")[0]
    leads_up = ".." in request.rel_url.raw_path.lower().replace("%2e", ".")
    return root in V1_ROOTS and not leads_up and request.method != "OPTIONS"


def _standing(route: str) -> str | None:
    """Return a path that v1 has always had, whatever it holds; None: it may be missing."""
    return route if route.strip("/") in V1_ROOTS or ("{" not in route and route in _KNOWN) else None


_KNOWN = frozenset({"/account/who_am_i", "/account/rate_limit_status"})


def _texts(fields: Fields) -> CIMultiDict[str]:
    return CIMultiDict(
        (name.decode("latin-1"), value.decode(errors="replace")) for name, value in fields
    )


def _connection(request: web.BaseRequest, *, keeps: bool) -> list[tuple[str, str]]:
    if not keeps:
        return [("Connection", "close")]
    return [] if request.version >= HttpVersion11 else [("Connection", "keep-alive")]


def tell_breaker(place: Place, state: State) -> None:
    """Log the new state of an origin's breaker."""
    _log.warning("breaker", of=f"v1 {place.authority}", state=state)


def _tell_gone(origin: Origin, reason: str) -> None:
    _log.error("legacy_origin_gone", origin=origin.place.authority, reason=reason)
