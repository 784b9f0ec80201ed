"""What probes ask of the admin side: whether the process lives, and whether it is of use.

What is checked is handed in; nothing of the legacy side can be reached here.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec
import structlog
from aiohttp import ClientError, ClientSession, web

from bridge.server.admin.requests import AdminRequest, Protection, Route
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

    @property
    def latest(self) -> Mapping[str, str]:
        """What each check said when they were asked last; nothing before that."""
        return self._results

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


def health_routes(
    readiness: Readiness,
    phase: Callable[[], str] = lambda: OK,
    state: Callable[[], Mapping[str, object]] = dict,
) -> Sequence[Route]:
    """Return what probes ask for, without a token; both are JSON.

    `/healthz` is 200 as long as the event loop turns: if not, restart the process. `/readyz` is 200
    if no check finds something wrong and `phase` is `OK`, which is asked anew each time, else 503:
    send calls elsewhere for now. It also shows what `state` returns. Checks that the query names as
    `exclude` are shown and do not count, for a balancer that has nowhere else to send calls to when
    what all bridges share is amiss; `phase` always counts.
    """

    async def healthz(_request: AdminRequest) -> web.Response:
        return web.json_response({"status": OK})

    async def readyz(request: AdminRequest) -> web.Response:
        results = {"phase": phase(), **await readiness.results()}
        excluded = set(request.query.getall("exclude", ())) - {"phase"}
        ready = all(said == OK for name, said in results.items() if name not in excluded)
        told = {"status": OK if ready else "unavailable", "checks": results, **state()}
        return web.json_response(told, status=200 if ready else 503)

    return (
        Route("GET", "/healthz", healthz, Protection.OPEN),
        Route("GET", "/readyz", readyz, Protection.OPEN),
    )


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
