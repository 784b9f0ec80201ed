"""The whole service of `harvest-bridge serve`: both sides listening, and what they keep fresh."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import aiohttp
from aiohttp import web

from bridge.identity.book_keeper import BookKeeper
from bridge.server.admin import Check, create_admin_app, upstream_check
from bridge.server.app import NO_BOOK, create_app
from bridge.server.limits import ConnectionLimits, allow_connections
from bridge.server.protocol import LegacyRunner
from bridge.server.serving import listening
from bridge.server.tls import CertificateReloader
from bridge.settings import Settings


@dataclass(frozen=True, slots=True)
class Service:
    """A running bridge."""

    port: int
    admin_port: int
    reload: Callable[[], Awaitable[None]]
    """Reads the credential book and the certificate again, changed or not."""


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Service]:
    """Run a bridge until the end of the block.

    Whatever can be wrong with its files shows before it listens.

    Raises:
        BookError: the credential book cannot be used.
        UnusableCertificate: the certificate or its key cannot be used.
        OSError: an address cannot be listened on.
    """
    async with AsyncExitStack() as stack:
        keeper = await _keep_book(settings, stack)
        tls = await _keep_certificate(settings, stack)
        app = create_app(settings, (lambda: NO_BOOK) if keeper is None else lambda: keeper.book)
        port = await stack.enter_async_context(
            listening(
                LegacyRunner(
                    app,
                    limits=_connection_limits(settings),
                    access_log=None,
                    auto_decompress=False,
                ),
                settings.host,
                settings.port,
                tls=None if tls is None else tls.context,
            )
        )
        session = await stack.enter_async_context(aiohttp.ClientSession())
        admin = create_admin_app(_checks(settings, session, keeper))
        admin_port = await stack.enter_async_context(
            listening(
                web.AppRunner(admin, access_log=None), settings.admin_host, settings.admin_port
            )
        )

        async def reload() -> None:
            if keeper is not None:
                await keeper.reload()
            if tls is not None:
                tls.reload()

        yield Service(port, admin_port, reload)


async def _keep_book(settings: Settings, stack: AsyncExitStack) -> BookKeeper | None:
    if settings.book is None:
        return None
    return await stack.enter_async_context(BookKeeper(settings.book))


async def _keep_certificate(
    settings: Settings, stack: AsyncExitStack
) -> CertificateReloader | None:
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    tls = CertificateReloader(settings.tls_certificate, settings.tls_key)
    await stack.enter_async_context(tls.watching())
    return tls


def _connection_limits(settings: Settings) -> ConnectionLimits:
    return ConnectionLimits(
        connections=allow_connections(settings.connections),
        head_timeout=settings.head_timeout,
        idle_timeout=settings.idle_timeout,
    )


def _checks(
    settings: Settings, session: aiohttp.ClientSession, keeper: BookKeeper | None
) -> dict[str, Check]:
    checks = {"upstream": upstream_check(settings.upstream, session)}
    if keeper is not None:

        async def book() -> str | None:
            # An older book still serves; the log says what is wrong with the newer one.
            return None if keeper.book.entries or not keeper.state.error else "no book in force"

        checks["book"] = book
    return checks
