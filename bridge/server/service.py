"""The whole service of `harvest-bridge serve`: both sides listening, and what they keep fresh."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any

import aiohttp
import structlog
from aiohttp import web

from bridge.identity.book_keeper import BookKeeper
from bridge.identity.digests import Digests
from bridge.record.journal import Journal, open_journal
from bridge.record.log.capture import READ_EVERY, Capture, keep
from bridge.record.log.writer import LogWriter, open_log_writer
from bridge.server import logs
from bridge.server.admin import OK, AdminSide, Check, Readiness, upstream_check
from bridge.server.endpoint import NO_BOOK, Endpoint
from bridge.server.front import Front, listening_front
from bridge.server.leaving import Departure
from bridge.server.limits import LIMITS, Limits, allow_connections
from bridge.server.records import Recorder
from bridge.server.serving import listening, told_if_taken
from bridge.server.tls import CertificateReloader
from bridge.settings import Settings, unknown_variables
from bridge.upstream.acquaintances import Acquaintances
from bridge.upstream.gateway import Gateway, Policy
from bridge.v1.xsd import compile_all
from bridge.v2.client import V2Client
from bridge.v2.clock import V2Clock

_log = structlog.get_logger("bridge")

PATIENCE_AFTER = 0.1
"""Seconds for what is left when all waiting is over; to aiohttp, 0 would be for ever."""


READ_ONCE = "settings and environment variables, tokens in them included: restart for those"
"""What a reload leaves as it is."""


@dataclass(frozen=True, slots=True)
class Service:
    """A running bridge."""

    port: int
    admin_port: int
    reload: Callable[[], Awaitable[None]]
    """Reads the credential book and the certificate again, and logs what came of it."""
    say_what_is_wrong: Callable[[], Coroutine[Any, Any, None]]
    """Logs what keeps it from being ready, if anything does."""
    hurry: Callable[[], None]
    """Makes the end not wait for calls that are under way."""


@asynccontextmanager
async def running(settings: Settings, limits: Limits = LIMITS) -> AsyncIterator[Service]:
    """Run a bridge until the end of the block; then it finishes what it has begun, and stops.

    Whatever can be wrong with its files shows before it listens. The admin side is there first and
    goes last: it says when calls can be sent here, and when no longer.

    Raises:
        BookError: the credential book cannot be used.
        JournalError: the journal cannot be used.
        LogError: the translation log cannot be used, and waiting will not help.
        UnusableCertificate: the certificate or its key cannot be used.
        CannotListen: an address cannot be listened on.
    """
    compile_all()
    in_the_clear = settings.upstream_warning()
    if in_the_clear:
        _log.warning("upstream_in_the_clear", reason=in_the_clear)
    async with AsyncExitStack() as stack:
        keeper = None
        if settings.book is not None:
            keeper = await stack.enter_async_context(BookKeeper(settings.book))
        _tell_of_unknown_variables(keeper)
        tls = await _keep_certificate(settings, stack)
        v2_clock = V2Clock()
        window = timedelta(seconds=settings.repeat_window)
        journal = await stack.enter_async_context(
            open_journal(settings.journal, window=window, clock=v2_clock)
        )
        log_writer = await stack.enter_async_context(
            open_log_writer(
                settings.database,
                settings.database_key,
                days=settings.calls_kept_days,
                size=settings.calls_kept_bytes,
                keep=keep,
            )
        )
        capture = Capture()
        log_writer.every(READ_EVERY, capture.read)
        upstream = replace(
            settings.upstream_client(),
            connect_timeout=limits.connect_timeout,
            body_limit=limits.upstream_body_limit,
            connections=limits.upstream_connections,
        )
        client = V2Client(upstream, v2_clock)
        stack.push_async_callback(client.close)
        policy = Policy(
            throttle_wait=settings.throttle_wait,
            calls=limits.upstream_connections,
            calls_per_account=limits.upstream_calls_per_account,
        )
        gateway = Gateway(client, policy, _acquaintances(journal))
        session = await stack.enter_async_context(
            aiohttp.ClientSession(headers={"User-Agent": upstream.user_agent})
        )
        departure, listens = Departure(), asyncio.Event()

        def phase() -> str:
            """Say where the bridge stands between its start and its end."""
            return "stopping" if departure.begun else OK if listens.is_set() else "starting"

        checks = {
            "journal": journal.check,
            "breakers": _at_once(gateway.outage),
            "upstream": upstream_check(settings.upstream, session, v2_clock.heard),
        }
        if keeper is not None:
            checks["book"] = _at_once(partial(_book_problem, keeper))
        if tls is not None:
            checks["certificate"] = _at_once(tls.problem)
        readiness = Readiness(checks)
        admin = AdminSide(
            readiness,
            names=[settings.admin_host],
            phase=phase,
            state=lambda: {
                "warnings": _warnings(keeper, tls, log_writer, capture, in_the_clear),
                "breakers": gateway.breakers(),
            },
        )
        admin_port = await stack.enter_async_context(
            listening(
                web.ServerRunner(admin),
                settings.admin_host,
                settings.admin_port,
                "admin_port",
            )
        )
        recorder = Recorder((logs.call_log(), log_writer.ended), Digests(log_writer.key), capture)
        endpoint = Endpoint(
            settings,
            gateway,
            journal,
            departure=departure,
            book=(lambda: NO_BOOK) if keeper is None else lambda: keeper.book,
            recorder=recorder,
            limits=limits,
        )
        stack.push_async_callback(endpoint.close)
        connections = allow_connections(settings.connections)
        of_connections = replace(
            limits, connections=connections, connections_per_address=max(1, connections // 2)
        )
        front = listening_front(
            Front(endpoint, of_connections, recorder.ended, settings.trusted_proxies),
            settings.host,
            settings.port,
            tls=None if tls is None else tls.context,
            shutdown_timeout=PATIENCE_AFTER,
        )
        with told_if_taken(settings.host, settings.port):
            port, stop_listening = await stack.enter_async_context(front)
        stack.push_async_callback(
            _leave, stop_listening, departure, endpoint, settings.stop_timeout
        )
        # What is there now stays: the garbage collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        stack.callback(gc.unfreeze)
        listens.set()

        yield Service(
            port,
            admin_port,
            reload=partial(_reload, keeper, tls),
            say_what_is_wrong=partial(_say_what_is_wrong, readiness),
            hurry=departure.hurry,
        )


async def _reload(keeper: BookKeeper | None, tls: CertificateReloader | None) -> None:
    said = {}
    if keeper is not None:
        before, state = keeper.book, await keeper.reload()
        same = keeper.book == before
        said["book"] = "broken" if state.error else "unchanged" if same else "changed"
    if tls is not None:
        said["certificate"] = tls.reload()
    _log.info("reloaded", **said, not_read_again=READ_ONCE)


async def _say_what_is_wrong(readiness: Readiness) -> None:
    results = await readiness.results()
    if wrong := {name: said for name, said in results.items() if said != OK}:
        _log.warning("not_ready", checks=wrong)


async def _leave(
    stop_listening: Callable[[], None], departure: Departure, endpoint: Endpoint, seconds: float
) -> None:
    """Finish the calls under way; meanwhile new ones are refused, where they still get through."""
    departure.begin()
    _log.info("stopping", seconds=seconds)
    stop_listening()
    await departure.until_quiet(seconds)
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


async def _keep_certificate(
    settings: Settings, stack: AsyncExitStack
) -> CertificateReloader | None:
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    tls = CertificateReloader(settings.tls_certificate, settings.tls_key)
    await stack.enter_async_context(tls.watching())
    return tls


def _book_problem(keeper: BookKeeper) -> str | None:
    # An older book still serves, which `_warnings` tells.
    return None if keeper.book.entries or not keeper.state.error else "no book in force"


def _tell_of_unknown_variables(keeper: BookKeeper | None) -> None:
    entries = keeper.book.entries if keeper is not None else ()
    known = {entry.reference.removeprefix("env:") for entry in entries}
    if unknown := sorted(set(unknown_variables()) - known):
        _log.warning("unknown_variables", names=unknown)


def _warnings(
    keeper: BookKeeper | None,
    tls: CertificateReloader | None,
    log_writer: LogWriter,
    capture: Capture,
    in_the_clear: str | None,
) -> Mapping[str, str]:
    """Return what serves yet, but not for long, not safely, or not after the next start."""
    told = {
        "upstream": in_the_clear,
        "book": keeper and keeper.warning(),
        "certificate": tls and tls.warning(),
        "log": logs.problem(),
        "database": log_writer.problem(),
        "capture": capture.warning(),
    }
    return {name: warning for name, warning in told.items() if warning}
