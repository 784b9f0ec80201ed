"""Shadow put together of the parts of a server."""

from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from bridge.comparing import Paths
from bridge.identity.book import Book
from bridge.identity.callers import Identification
from bridge.identity.digests import Digests
from bridge.identity.passwords import Limits as PasswordLimits
from bridge.identity.passwords import PasswordChecker
from bridge.record.log.capture import Capture
from bridge.record.log.events import Compared
from bridge.resources import RESOURCES
from bridge.resources.routes import Router
from bridge.server.limits import Limits
from bridge.server.shadow.apart import Comparer
from bridge.server.shadow.asked import AskV1
from bridge.server.shadow.bridge_side import BridgeSide
from bridge.server.shadow.running import Shadow
from bridge.settings import Settings
from bridge.upstream.gateway import Gateway


@asynccontextmanager
async def running_shadow(  # noqa: PLR0913 - the parts that it takes
    settings: Settings,
    limits: Limits,
    gateway: Gateway,
    *,
    book: Callable[[], Book],
    digests: Digests,
    capture: Capture,
    ask_v1: AskV1,
    tell: Callable[[Compared], bool],
) -> AsyncIterator[Shadow]:
    """Run it for the block; at its end, all that is under way is given up.

    Passwords have a checker of its own: what fails here shuts nobody out. One is looked at at a
    time, long answers are translated by one thread, and all are compared by one process, for all of
    that is at the expense of clients.
    """
    passwords = PasswordChecker(lambda: book().usual_cost, PasswordLimits(running=1))
    identification = Identification(settings.auth, settings.account_id, book, passwords, digests)
    elsewhere = ThreadPoolExecutor(1, "shadow")
    bridge = BridgeSide(
        settings,
        gateway,
        identification,
        Router(RESOURCES),
        elsewhere,
        page_limit=limits.page_limit,
    )
    comparer = Comparer()
    ignored = Paths(settings.shadow_ignored)
    shadow = Shadow(
        bridge, ask_v1, ignored, tell, capture, comparer.compare, elsewhere, limits.shadow
    )
    try:
        yield shadow
    finally:
        await shadow.close()
        await comparer.close()
        elsewhere.shutdown(wait=False, cancel_futures=True)
        await passwords.close()
