"""The whole service of `harvest-bridge serve`: both sides listening, and what they keep fresh."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import structlog

from bridge.identity.book import Book
from bridge.identity.book_keeper import BookKeeper
from bridge.identity.digests import Digests
from bridge.origin.client import OriginClient
from bridge.origin.health import Origins
from bridge.origin.loops import Own, Resolver, loop_of
from bridge.origin.place import Template
from bridge.record.journal import Journal, open_journal
from bridge.record.journal.moving import require_moved
from bridge.record.log import brownouts
from bridge.record.log.brownouts import Brownouts
from bridge.record.log.capture import READ_EVERY, Capture, keep
from bridge.record.log.database import is_server
from bridge.record.log.policies import Policies, Policy
from bridge.record.log.writer import LogWriter, open_log_writer
from bridge.resources import RESOURCES
from bridge.server import logs, readings
from bridge.server.admin.dashboard.facts import gather
from bridge.server.admin.dashboard.pages import Dashboard
from bridge.server.admin.guard import Guard
from bridge.server.admin.health import OK, Check, Readiness, upstream_check
from bridge.server.admin.scraping import metrics_routes
from bridge.server.admin.side import AdminSide, listening_admin
from bridge.server.admin.token import TokenKeeper
from bridge.server.endpoint import NO_BOOK, Endpoint
from bridge.server.failed_connections import FailedConnections
from bridge.server.front import Front, listening_front
from bridge.server.leaving import Departure
from bridge.server.limits import LIMITS, Limits, allow_connections
from bridge.server.metrics import CallCounts, Metrics
from bridge.server.passing import Passing, tell_breaker
from bridge.server.records import Recorder
from bridge.server.service_manager import Handed
from bridge.server.serving import Stop, told_if_taken
from bridge.server.settings_keeper import SettingsKeeper
from bridge.server.shadow.opening import running_shadow
from bridge.server.shadow.running import Shadow
from bridge.server.tls import CertificateReloader
from bridge.server.tls_versions import Accepted
from bridge.server.withdrawal import Withdrawal
from bridge.settings import Mode, Settings, Traces, where
from bridge.side import Side
from bridge.upstream.acquaintances import Acquaintances
from bridge.upstream.gateway import Gateway, UpstreamLimits
from bridge.v1.xsd import compile_all
from bridge.v2.client import V2Client
from bridge.v2.clock import V2Clock

if TYPE_CHECKING:
    from bridge.server.traces import Tracer

_log = structlog.get_logger("bridge")

PATIENCE_AFTER = 0.1
"""Seconds for what is left when all waiting is over; to aiohttp, 0 would be for ever."""

HEARING = 2.0
"""Seconds at most, at a stop, for who has connected to say what for: some round trips of TLS."""

SHARE_OF_HEARING = 0.1
"""Of the time to stop in, at most: a call that begins then has to be finished, too."""


NOTHING_HANDED = Handed()

MOST_LOOKED_UP = 20
"""Names of origins at a start: calls to the others are looked at as they come."""


READ_ONCE = "flags and environment variables, tokens in them included: restart for those"
"""What a reload leaves as it is."""


class LeadsBackHere(Exception):
    """`legacy_origin` is the bridge itself; `str()` is one line for the operator."""


class CannotTrace(Exception):
    """There can be no traces; `str()` is one line for the operator."""


@dataclass(frozen=True, slots=True)
class Service:
    """A running bridge."""

    port: int
    admin_port: int
    reload: Callable[[], Awaitable[None]]
    """Reads the settings, the book, the certificate and the admin token again, and logs what came
    of it."""
    say_what_is_wrong: Callable[[], Coroutine[Any, Any, None]]
    """Logs what keeps it from being ready, if anything does."""
    hurry: Callable[[], None]
    """Makes the end not wait for calls that are under way."""


@dataclass(frozen=True, slots=True)
class _Files:
    """What the operator may change while the bridge runs, and the bridge reads again."""

    book: BookKeeper | None
    tls: CertificateReloader | None
    admin_token: TokenKeeper | None
    settings: SettingsKeeper

    def book_in_force(self) -> Book:
        return NO_BOOK if self.book is None else self.book.book

    async def reload(self) -> None:
        said = {**await self.settings.reload()}
        if self.book is not None:
            before, state = self.book.book, await self.book.reload()
            same = self.book.book == before
            said["book"] = "broken" if state.error else "unchanged" if same else "changed"
        if self.tls is not None:
            said["certificate"] = self.tls.reload()
        if self.admin_token is not None:
            said["admin_bearer_token"] = await self.admin_token.reload()
        _log.info("reloaded", **said, not_read_again=READ_ONCE)


@dataclass(frozen=True, slots=True)
class _Told:
    """What commands tell all bridges, by the database."""

    capture: Capture
    policies: Policies
    brownouts: Brownouts

    def read_by(self, log: LogWriter) -> None:
        log.every(READ_EVERY, self.capture.read)
        log.every(brownouts.READ_EVERY, self.policies.read)
        log.every(brownouts.READ_EVERY, self.brownouts.read)
        log.at_each_turn(self.brownouts.announce)


@dataclass(frozen=True, slots=True)
class _Parts:
    """What both sides have to do with."""

    files: _Files
    clock: V2Clock
    journal: Journal
    log: LogWriter
    told: _Told
    origins: Origins
    gateway: Gateway
    counts: CallCounts
    metrics: Metrics
    failed: FailedConnections
    handed: Handed
    departure: Departure
    digests: Digests


@asynccontextmanager
async def running(
    settings: Settings,
    limits: Limits = LIMITS,
    handed: Handed = NOTHING_HANDED,
    read_again: Callable[[], Settings] | None = None,
) -> AsyncIterator[Service]:
    """Run a bridge until the end of the block; then it finishes what it has begun, and stops.

    `read_again` gathers the settings anew, for a reload, and may raise `WrongSetting`.

    Whatever can be wrong with its files shows before it listens. The admin side is there first and
    goes last: it says when calls can be sent here, and when no longer. A side for which sockets
    were `handed` over listens on those, and has their address in its settings.

    Raises:
        BookError: the credential book cannot be used.
        JournalError: the journal cannot be used.
        LeadsBackHere: v1's origin is this bridge.
        LogError: the translation log cannot be used, and waiting will not help.
        CannotTrace: what traces need is not installed, or its settings make no sense.
        UnusableCertificate: the certificate or its key cannot be used.
        UnusableToken: the admin side's token cannot be used.
        CannotListen: an address cannot be listened on.
    """
    compile_all()
    departure, listens = Departure(), asyncio.Event()

    def phase() -> str:
        """Say where the bridge stands between its start and its end."""
        return "stopping" if departure.begun else OK if listens.is_set() else "starting"

    async with AsyncExitStack() as stack:
        files = await _keep_files(settings, read_again, stack)
        _tell_of_the_settings(settings)
        parts = await _open_parts(settings, limits, files, handed, departure, stack)
        readiness = await _readiness(settings, parts, stack)
        parts.metrics.read(readings.of_readiness(readiness))
        admin_port = await _listen_to_admins(settings, parts, readiness, phase, stack)
        port = await _listen_to_clients(settings, limits, parts, stack)
        # What is there now stays: the garbage collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        stack.callback(gc.unfreeze)
        listens.set()

        yield Service(
            port,
            admin_port,
            reload=files.reload,
            say_what_is_wrong=partial(_say_what_is_wrong, readiness),
            hurry=departure.hurry,
        )


async def _keep_files(
    settings: Settings, read_again: Callable[[], Settings] | None, stack: AsyncExitStack
) -> _Files:
    """Read them, and look at them again and again."""
    book = tls = token = None
    if settings.book is not None:
        book = await stack.enter_async_context(BookKeeper(settings.book))
    if settings.tls_pairs:
        accepted = Accepted(settings.tls_minimum, settings.tls_ciphers)
        tls = CertificateReloader(
            settings.tls_pairs, accepted, serves_admins=not settings.admin_is_on_loopback
        )
        if odd := tls.warning_of_versions():
            _log.warning("old_tls", tls_minimum=settings.tls_minimum, reason=odd)
        await stack.enter_async_context(tls.watching())
    if settings.admin_bearer_token is not None:
        token = TokenKeeper(settings.admin_bearer_token)
        await stack.enter_async_context(token.watching())
    keeper = SettingsKeeper(settings, read_again)
    keeper.tell(lambda changed: logs.set_level(changed.log_level))
    return _Files(book, tls, token, keeper)


async def _open_parts(  # noqa: PLR0913, PLR0917 - what they are made of
    settings: Settings,
    limits: Limits,
    files: _Files,
    handed: Handed,
    departure: Departure,
    stack: AsyncExitStack,
) -> _Parts:
    clock = V2Clock()
    told = _Told(Capture(), Policies(_by_default(settings)), _brownouts(settings, files.settings))
    window = timedelta(seconds=settings.repeat_window)
    where: Path | str = settings.journal
    if is_server(settings.database):
        require_moved(settings.journal, window)
        where = settings.database
    journal = await stack.enter_async_context(open_journal(where, window=window, clock=clock))
    log = await stack.enter_async_context(
        open_log_writer(
            settings.database,
            settings.database_key,
            days=settings.calls_kept_days,
            size=settings.calls_kept_bytes,
            keep=keep,
            prepare=told.read_by,
        )
    )
    # A bridge that starts again in the middle of a brownout answers nobody by mistake.
    if log.state().failing_since is None:
        await asyncio.to_thread(told.brownouts.looked.wait, brownouts.LOOKED_WITHIN)
    files.settings.tell(
        lambda changed: log.keep_calls(days=changed.calls_kept_days, size=changed.calls_kept_bytes),
        lambda changed: gateway.wait_at_most(changed.throttle_wait),
    )
    gateway = await _open_gateway(settings, limits, clock, journal, stack)
    counts = CallCounts(RESOURCES)
    metrics = stack.enter_context(closing(Metrics(counts)))
    metrics.read(readings.of_what_is_kept(logs.lost, log, gateway, journal, files.tls))
    metrics.read(readings.of_brownouts(told.brownouts))
    failed = FailedConnections([logs.connection_log(), log.failed, counts.failed])
    stack.callback(failed.close)
    origins = Origins(asyncio.get_running_loop().time, tell_breaker)
    return _Parts(
        files=files,
        clock=clock,
        journal=journal,
        log=log,
        told=told,
        origins=origins,
        gateway=gateway,
        counts=counts,
        metrics=metrics,
        failed=failed,
        handed=handed,
        departure=departure,
        digests=Digests(log.key),
    )


def _by_default(settings: Settings) -> Policy:
    """Return what holds where no command has decided."""
    side = Side.V1 if settings.mode is Mode.OBSERVE else Side.BRIDGE
    return Policy(answered_by=side, shadow_percent=settings.shadow_percent)


def _brownouts(settings: Settings, keeper: SettingsKeeper) -> Brownouts:
    known = Brownouts(window=settings.repeat_window)

    def go_by(changed: Settings) -> None:
        known.go_by(changed.brownout, changed.brownout_time_zone)

    go_by(settings)
    keeper.tell(go_by)
    return known


async def _open_gateway(
    settings: Settings, limits: Limits, clock: V2Clock, journal: Journal, stack: AsyncExitStack
) -> Gateway:
    upstream = replace(
        settings.upstream_client(),
        connect_timeout=limits.connect_timeout,
        body_limit=limits.upstream_body_limit,
        # Besides, one for each look of shadow, so that it takes none of those of clients.
        connections=limits.upstream_connections + limits.shadow.at_once,
    )
    client = V2Client(upstream, clock)
    stack.push_async_callback(client.close)
    of_upstream = UpstreamLimits(
        throttle_wait=settings.throttle_wait,
        calls=limits.upstream_connections,
        calls_per_account=limits.upstream_calls_per_account,
        spare=limits.spare,
    )
    if not journal.is_shared:
        return Gateway(client, of_upstream, _acquaintances(journal))
    from bridge.record.throttles import hearing, said  # noqa: PLC0415 - psycopg

    gateway = Gateway(
        client,
        of_upstream,
        _acquaintances(journal),
        lambda key, seconds: journal.tell_others(said(key, seconds)),
    )
    await stack.enter_async_context(hearing(settings.database, gateway.throttled))
    return gateway


async def _readiness(settings: Settings, parts: _Parts, stack: AsyncExitStack) -> Readiness:
    session = await stack.enter_async_context(
        aiohttp.ClientSession(headers={"User-Agent": settings.upstream_client().user_agent})
    )
    checks = {
        "breakers": _at_once(parts.gateway.outage),
        "upstream": upstream_check(settings.upstream, session, parts.clock.heard),
    }
    if settings.mode is Mode.OBSERVE:
        checks.clear()  # no call of v2 is made
    if not parts.journal.is_shared:
        checks["journal"] = parts.journal.check
    if parts.files.book is not None:
        checks["book"] = _at_once(partial(_book_problem, parts.files.book))
    if parts.files.tls is not None:
        checks["certificate"] = _at_once(parts.files.tls.problem)
    return Readiness(checks)


async def _listen_to_admins(
    settings: Settings,
    parts: _Parts,
    readiness: Readiness,
    phase: Callable[[], str],
    stack: AsyncExitStack,
) -> int:
    """Serve the admin side, and return its port."""
    warnings = partial(_warnings, settings, parts)
    facts = partial(gather, parts.journal, parts.gateway, warnings)
    dashboard = stack.enter_context(
        closing(Dashboard(settings.database, facts, brownouts=parts.told.brownouts.of_settings))
    )
    admin = AdminSide(
        readiness,
        routes=[*dashboard.routes(), *metrics_routes(parts.metrics, readiness.results)],
        guard=_guard(settings, parts),
        names=[settings.admin_host],
        failed=parts.failed,
        phase=phase,
        state=lambda: {"warnings": warnings(), "breakers": _breakers(parts)},
    )
    parts.files.settings.tell(admin.guard.go_by)
    tls = None if settings.admin_is_on_loopback else parts.files.tls
    contexts = None if tls is None else tls.for_admins
    address = settings.admin_host, settings.admin_port
    return await stack.enter_async_context(
        listening_admin(admin, *address, contexts, parts.handed.admin)
    )


async def _listen_to_clients(
    settings: Settings, limits: Limits, parts: _Parts, stack: AsyncExitStack
) -> int:
    """Serve the legacy side, and return its port."""
    tls = parts.files.tls
    sinks = (logs.call_log(), parts.log.ended, parts.counts.ended)
    own = Own(settings.host, settings.port)
    passing = await _pass_through(settings, limits, parts, own, stack)
    shadow = await _shadow(settings, limits, parts, passing, stack)
    endpoint = Endpoint(
        settings,
        parts.gateway,
        parts.journal,
        departure=parts.departure,
        book=parts.files.book_in_force,
        recorder=Recorder(sinks, parts.digests, parts.told.capture),
        withdrawal=Withdrawal(parts.told.brownouts, parts.told.policies, settings),
        limits=limits,
        tracer=await _trace(settings, stack),
        passing=passing,
        shadow=shadow,
    )
    if passing is not None:
        parts.files.settings.tell(passing.go_by)
        parts.metrics.read(readings.of_v1(passing, parts.origins))
    stack.push_async_callback(endpoint.close)
    connections = allow_connections(settings.connections)
    of_connections = replace(
        limits, connections=connections, connections_per_address=max(1, connections // 2)
    )
    front = Front(endpoint, of_connections, parts.failed, settings.trusted_proxies)
    parts.files.settings.tell(endpoint.go_by, front.go_by)
    parts.metrics.read(readings.of_the_legacy_side(endpoint, front))
    listens_on = listening_front(
        front,
        settings.host,
        settings.port,
        tls=None if tls is None else tls.for_clients,
        shutdown_timeout=PATIENCE_AFTER,
        handed=parts.handed.legacy,
    )
    with told_if_taken(settings.host, settings.port):
        port, stop_listening = await stack.enter_async_context(listens_on)
    own.port = port
    leaving = partial(
        _leave, front, stop_listening, parts.departure, endpoint, parts.files.settings
    )
    stack.push_async_callback(leaving)
    if shadow is not None:
        stack.push_async_callback(shadow.close)  # before anybody is waited for
    return port


async def _pass_through(
    settings: Settings, limits: Limits, parts: _Parts, own: Own, stack: AsyncExitStack
) -> Passing | None:
    """Return what passes calls through to v1; None: nothing does."""
    if settings.legacy_origin is None:
        return None
    if said := await _leads_back(settings, parts, own):
        raise LeadsBackHere(f"legacy_origin: {said} {where('legacy_origin')}")
    if warning := parts.told.policies.warning():
        # A bridge that cannot read them cannot write its journal either, and so makes no write.
        parts.told.policies.are_missed = True
        _log.warning("policies_not_read", reason=warning)
    client = OriginClient(connect_timeout=limits.connect_timeout, resolver=partial(Resolver, own))
    stack.push_async_callback(client.close)
    return Passing(
        settings,
        client,
        parts.told.policies,
        origins=parts.origins,
        via=f"harvest-bridge-{parts.digests.integration('via')}",
        limits=limits,
        departure=parts.departure,
    )


async def _leads_back(settings: Settings, parts: _Parts, own: Own) -> str | None:
    """Return why v1 is the bridge itself, by the subdomains that are known before any call."""
    template = Template(settings.legacy_origin or "")
    subdomains = {*parts.files.book_in_force().accounts, settings.subdomain}
    places = {place for each in subdomains if (place := template.place(each)) is not None}
    for place in sorted(places)[:MOST_LOOKED_UP]:
        if said := await loop_of(place, own):
            return said
    return None


async def _shadow(
    settings: Settings,
    limits: Limits,
    parts: _Parts,
    passing: Passing | None,
    stack: AsyncExitStack,
) -> Shadow | None:
    """Return what compares v1's answers with the bridge's; None: nothing does."""
    if passing is None or passing.takes_all:
        return None
    opening = running_shadow(
        settings,
        limits,
        parts.gateway,
        book=parts.files.book_in_force,
        digests=parts.digests,
        capture=parts.told.capture,
        ask_v1=passing.side().answer,
        tell=parts.log.compared,
    )
    shadow = await stack.enter_async_context(opening)
    parts.files.settings.tell(shadow.go_by)
    parts.metrics.read(readings.of_shadow(shadow))
    return shadow


async def _say_what_is_wrong(readiness: Readiness) -> None:
    results = await readiness.results()
    if wrong := {name: said for name, said in results.items() if said != OK}:
        _log.warning("not_ready", checks=wrong)


async def _leave(
    front: Front,
    stop_listening: Stop,
    departure: Departure,
    endpoint: Endpoint,
    keeper: SettingsKeeper,
) -> None:
    """Hear who has connected, finish the calls under way, and refuse what comes after."""
    seconds = keeper.settings.stop_timeout
    deadline = asyncio.get_running_loop().time() + seconds
    departure.begin()
    _log.info("stopping", seconds=seconds)
    stop_listening(take_queued=True)
    front.close_idle()
    await departure.hear(front.expects, min(HEARING, seconds * SHARE_OF_HEARING))
    await departure.until_quiet(max(0.0, deadline - asyncio.get_running_loop().time()))
    _log.info("stopped", unfinished=await endpoint.close())


def _acquaintances(journal: Journal) -> Acquaintances:
    """Return those that the journal keeps, so that a restart makes nobody a stranger."""
    return Acquaintances(
        asyncio.get_running_loop().time,
        journal.accepted,
        keep=lambda key: journal.note_accepted(*key),
        drop=lambda key: journal.note_refused(*key),
    )


def _at_once(what_is_wrong: Callable[[], str | None]) -> Check:
    async def check() -> str | None:
        return what_is_wrong()

    return check


async def _trace(settings: Settings, stack: AsyncExitStack) -> "Tracer | None":
    if settings.traces is Traces.OFF:
        return None
    try:
        from bridge.server.traces import tracing  # noqa: PLC0415 - what it needs is optional
    except ImportError:
        told = "traces: needs what `pip install 'harvest-bridge[traces]'` installs"
        raise CannotTrace(f"{told} {where('traces')}") from None
    try:
        return await stack.enter_async_context(tracing(settings.upstream))
    except (OSError, ValueError) as error:
        raise CannotTrace(f"traces: an OTEL_ variable makes no sense: {error}") from None


def _guard(settings: Settings, parts: _Parts) -> Guard:
    keeper = parts.files.admin_token
    return Guard(
        token=lambda: None if keeper is None else keeper.token,
        is_loopback=settings.admin_is_on_loopback,
        proxies=settings.trusted_proxies,
        tell_refused=partial(parts.failed.count, "admin_refused"),
    )


def _tell_of_the_settings(settings: Settings) -> None:
    """Log what is odd about them, and may yet be meant so."""
    for in_the_clear in (settings.upstream_warning(), settings.origin_warning()):
        if in_the_clear is not None:
            _log.warning("upstream_in_the_clear", reason=in_the_clear)
    _tell_of_the_admin_sides_protection(settings)


def _tell_of_the_admin_sides_protection(settings: Settings) -> None:
    if settings.admin_is_on_loopback:
        return
    if settings.admin_bearer_token is None:
        reason = "off the loopback, all but /healthz and /readyz takes admin_bearer_token"
        _log.warning("admin_not_served", admin_host=settings.admin_host, reason=reason)
    elif settings.tls_certificate is None:
        reason = "without tls_certificate, its token travels in the clear from trusted_proxies"
        _log.warning("admin_in_the_clear", admin_host=settings.admin_host, reason=reason)


def _book_problem(keeper: BookKeeper) -> str | None:
    # An older book still serves, which `_warnings` tells.
    return None if keeper.book.entries or not keeper.state.error else "no book in force"


def _warning_of_policies(settings: Settings, policies: Policies) -> str | None:
    if settings.legacy_origin is not None:
        return policies.warning()
    if policies.leave_to_v1():
        return "v1 is to answer some calls, and legacy_origin is not set: the bridge answers them"
    return None


def _breakers(parts: _Parts) -> Mapping[str, str]:
    return {**parts.gateway.breakers(), **parts.origins.breakers()}


def _warnings(settings: Settings, parts: _Parts) -> Mapping[str, str]:
    """Return what serves yet, but not for long, not safely, or not after the next start."""
    book, tls, admin_token = parts.files.book, parts.files.tls, parts.files.admin_token
    told = {
        "settings": parts.files.settings.warning(),
        "upstream": settings.upstream_warning(),
        "book": book and book.warning(),
        "certificate": tls and tls.warning(),
        "tls": tls and tls.warning_of_versions(),
        "admin_bearer_token": admin_token and admin_token.warning(),
        "capture": parts.told.capture.warning(),
        "brownout": parts.told.brownouts.warning(),
        "policies": _warning_of_policies(settings, parts.told.policies),
        "legacy_origin": parts.origins.warning() or settings.origin_warning(),
        "log": logs.problem(),
        "database": parts.log.problem(),
        # What all bridges suffer is no reason to send their reads elsewhere.
        "journal": parts.journal.problem() if parts.journal.is_shared else None,
    }
    return {name: warning for name, warning in told.items() if warning}
