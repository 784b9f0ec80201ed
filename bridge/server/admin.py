"""The admin side: whether the process lives and whether it is of use, on an address of its own.

What is checked is handed in; nothing of the legacy side can be reached here.
"""

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

import msgspec
import structlog
from aiohttp import ClientError, ClientSession, web

from bridge.identity.hosts import without_port
from bridge.v2.unreachable import why_no_answer

_log = structlog.get_logger("bridge.admin")

Check = Callable[[], Awaitable[str | None]]
"""Returns what is wrong, in a few words that may be shown, or None."""

CHECK_TIMEOUT = 2.0
"""Seconds that a check may take."""

CACHE_TIME = 1.5
"""Seconds that the results of checks are good for."""

OK = "ok"


class Readiness:
    """Runs named checks, all at the same time, and not more often than they are worth it."""

    def __init__(
        self,
        checks: Mapping[str, Check],
        *,
        timeout: float = CHECK_TIMEOUT,
        cache_time: float = CACHE_TIME,
    ) -> None:
        """Remember the checks; times are in seconds."""
        self._checks = checks
        self._timeout = timeout
        self._cache_time = cache_time
        self._running = asyncio.Lock()
        self._results: dict[str, str] = {}
        self._good_until = float("-inf")

    async def results(self) -> Mapping[str, str]:
        """Return what each check says, `OK` or what is wrong; those who ask together share it."""
        clock = asyncio.get_running_loop().time
        async with self._running:
            if clock() >= self._good_until:
                said = await asyncio.gather(*map(self._run, self._checks.values()))
                self._results = dict(zip(self._checks, said, strict=True))
                self._good_until = clock() + self._cache_time
        return self._results

    async def _run(self, check: Check) -> str:
        try:
            async with asyncio.timeout(self._timeout):
                return await check() or OK
        except TimeoutError:
            return f"no answer within {self._timeout:g} s"
        except Exception as error:  # noqa: BLE001 - a check that fails must not take the page along
            # Its words may hold what must not be shown.
            _log.warning("check_failed", exc_info=error)
            return type(error).__name__


CONNECTIONS = 64
"""The most at once. One more takes the place of another: one that has asked nothing, if any."""

LIFETIME = 10.0
"""Seconds that a connection may last: it is closed after one answer."""


class AdminSide(web.Server):
    """Answers on the admin side, one request a connection.

    `/healthz` is 200 as long as the event loop turns: if not, restart the process. `/readyz` is 200
    if no check finds something wrong and `phase` is `OK`, which is asked anew each time, else 503:
    send calls elsewhere for now. It also shows what `state` returns. Both are JSON.

    It has to be called by an IP address, as `localhost`, or by one of `names`; else it is 421 (RFC
    9110, section 15.5.20). A page in somebody's browser can have a name of its own lead here, but
    not these, and would read what is shown (DNS rebinding).
    """

    def __init__(
        self,
        readiness: Readiness,
        *,
        names: Iterable[str] = (),
        phase: Callable[[], str] = lambda: OK,
        state: Callable[[], Mapping[str, object]] = dict,
    ) -> None:
        """Belongs to the event loop it is made in."""
        super().__init__(self._answer, access_log=None)
        self._readiness = readiness
        self._names = {"localhost", *(name.lower() for name in names if not _is_address(name))}
        self._phase = phase
        self._state = state
        self._silent: dict[web.RequestHandler, asyncio.Transport | None] = {}
        """The connections on which nothing has been asked yet, the oldest first."""
        self._asked: dict[web.RequestHandler, asyncio.Transport | None] = {}
        """The others, in the same order."""

    def __call__(self) -> web.RequestHandler:
        """Make the protocol of a new connection."""
        return _Connection(self, loop=asyncio.get_running_loop(), access_log=None)

    @property
    def open(self) -> int:
        """How many connections there are."""
        return len(self._silent) + len(self._asked)

    def opened(self, connection: web.RequestHandler) -> None:
        """Count a connection, in the place of another if there are too many."""
        if self.open >= CONNECTIONS:
            self.close_at_once(next(iter(self._silent or self._asked)))
        self._silent[connection] = connection.transport

    def close_at_once(self, connection: web.RequestHandler) -> None:
        """Close a connection, whatever it is at, even if its client does not take the answer."""
        if (transport := self.closed(connection)) is not None:
            transport.abort()

    def closed(self, connection: web.RequestHandler) -> asyncio.Transport | None:
        """Forget a connection, and return its transport."""
        return self._silent.pop(connection, None) or self._asked.pop(connection, None)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.protocol in self._silent:
            self._asked[request.protocol] = self._silent.pop(request.protocol)
        response = await self._answer_to(request)
        response.headers["Cache-Control"] = "no-store"
        response.force_close()
        return response

    async def _answer_to(self, request: web.BaseRequest) -> web.Response:
        host = request.headers.get("Host")
        if host is not None and not self._is_ours(host):
            said = f"call it by an IP address, or as {' or '.join(sorted(self._names))}"
            return web.json_response({"status": said}, status=421)
        if request.path not in {"/healthz", "/readyz"}:
            return web.json_response({"status": "not found"}, status=404)
        if request.method not in {"GET", "HEAD"}:
            allowed = {"Allow": "GET, HEAD"}
            return web.json_response({"status": "not allowed"}, status=405, headers=allowed)
        if request.path == "/healthz":
            return web.json_response({"status": OK})
        results = {"phase": self._phase(), **await self._readiness.results()}
        ready = set(results.values()) == {OK}
        told = {"status": OK if ready else "unavailable", "checks": results, **self._state()}
        return web.json_response(told, status=200 if ready else 503)

    def _is_ours(self, host: str) -> bool:
        name = without_port(host)
        return name.rstrip(".").lower() in self._names or _is_address(name)


class _Connection(web.RequestHandler):
    """One connection of the admin side: aiohttp's protocol, but for its patience."""

    __slots__ = ("_admin", "_end")

    def __init__(self, admin: AdminSide, **options: Any) -> None:  # noqa: ANN401 - aiohttp's own
        super().__init__(admin, **options)
        self._admin = admin
        self._end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._admin.opened(self)
        later = asyncio.get_running_loop().call_later
        self._end = later(LIFETIME, self._admin.close_at_once, self)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._admin.closed(self)
        if self._end is not None:
            self._end.cancel()
        super().connection_lost(exc)


def _is_address(name: str) -> bool:
    with suppress(ValueError):
        ipaddress.ip_address(name)
        return True
    return False


PROBE = "/users/me"
"""The v2 path that is asked for who is calling."""

REFUSAL_LIMIT = 4096
"""Bytes of an answer that may be v2's refusal: its own has less than 200."""


def upstream_check(
    base_url: str,
    session: ClientSession,
    heard: Callable[[str | None], None] = lambda _date: None,
) -> Check:
    """Return the check that v2 can be reached, and is what answers at `base_url`.

    No credential is sent, so v2 refuses, with a JSON object that says why; what is no v2 has no
    reason to. No call of anybody's rate limit is used. A v2 that is down or throttles (429, 5xx)
    cannot be told from something else, and passes: how it serves calls is the breakers' to say.
    The `Date` of a 401 of v2's is `heard`; a 403 in JSON may be a gateway's.
    """
    url = base_url + PROBE

    async def check() -> str | None:
        try:
            async with session.get(url, allow_redirects=False) as response:
                body = bytearray()
                async for chunk in response.content.iter_any():
                    body += chunk
                    if len(body) > REFUSAL_LIMIT:
                        break
        except (ClientError, OSError) as error:
            return f"unreachable: {why_no_answer(error, base_url)}"
        if response.status == 429 or response.status >= 500:
            return None
        if response.status in {400, 401, 403} and _says_why(body):
            if response.status == 401:
                heard(response.headers.get("Date"))
            return None
        said = (
            f"no v2: {url} answered {response.status} with {response.content_type}, where v2 "
            "refuses a call without a token, in JSON"
        )
        return said if base_url.endswith("/v2") else f"{said}: upstream should end in /v2"

    return check


def _says_why(body: bytes | bytearray) -> bool:
    try:
        members = msgspec.json.decode(body, type=dict[str, object])
    except (ValueError, RecursionError):
        return False
    return any(isinstance(members.get(name), str) for name in ("error", "message"))
