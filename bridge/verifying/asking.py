"""Asking a running bridge what a recording asked v1, at a pace that v2 allows.

What is asked, and what its answer is compared with, is not known here.
"""

import asyncio
from base64 import b64encode
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import urlsplit

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout
from yarl import URL

from bridge import __version__
from bridge.comparing import LONGEST, Answer
from bridge.secret import Secret
from bridge.v2.retry_after import read_retry_after
from bridge.verifying.reads import ACCESS_TOKEN, Read

PACE = 3.0
"""Calls in a second, unless told otherwise: v2 takes 100 in 15 seconds, a read takes one or two,
and half of them are for the bridge's own clients."""

TRIES = 4
"""Times that one call is made, if the bridge asks to wait each time."""

LONGEST_WAIT = 120.0
"""Seconds: a call is given up when the bridge asks to wait for longer."""

PATIENCE = 60.0
"""Seconds for one call: a bridge takes 30, unless its `call_timeout` says otherwise."""

USER_AGENT = f"harvest-bridge-verify/{__version__}"
"""Its own, so that the log shows these calls as an integration of their own."""


class Unreachable(Exception):
    """The bridge gave no answer; `str()` says why, in one line, without a secret."""


class CannotBeSent(Exception):
    """A call cannot be made as the recording has it."""


class Told(NamedTuple):
    """What the bridge answered."""

    answer: Answer
    request_id: str | None
    """By which its log knows the call."""
    is_v1s: bool = False
    """Whether v1 gave it: the bridge named the call, and added no other header of its own."""


class Pace:
    """So many calls in a second, and none before a wait is over."""

    def __init__(
        self,
        per_second: float,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Let the first call be made at once; `clock` counts seconds."""
        self._between = 1 / per_second
        self._clock = clock
        self._sleep = sleep
        self._next = clock()

    async def turn(self) -> None:
        """Wait until the next call may be made."""
        if (wait := self._next - self._clock()) > 0:
            await self._sleep(wait)
        self._next = max(self._next, self._clock()) + self._between

    def hold(self, seconds: float) -> None:
        """Let no call be made for so long."""
        self._next = max(self._next, self._clock() + seconds)


class Asking:
    """A bridge that is asked, call by call."""

    def __init__(
        self,
        base_url: str,
        pace: Pace,
        credential: Secret | None = None,
        waits: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        """Ask the bridge at `base_url`.

        Args:
            base_url: scheme, host and port.
            pace: when it may be asked.
            credential: who asks, whatever the recording says; a login and password with a colon
                between them, or a token.
            waits: is told of each wait that the bridge asks for, in seconds.
        """
        self._base_url = base_url.rstrip("/")
        self._pace = pace
        self._credential = credential
        self._waits = waits
        self._session = ClientSession(
            timeout=ClientTimeout(total=PATIENCE), headers={"User-Agent": USER_AGENT}
        )

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _: TracebackType | None,
    ) -> None:
        """Close the connections."""
        await self._session.close()

    def can_ask(self, read: Read) -> bool:
        """Tell whether there is a credential for a call."""
        ways = (self._credential, read.authorization, read.token)
        return any(each is not None for each in ways)

    async def ask(self, read: Read) -> Told:
        """Ask what `read` asked, as often as the bridge asks to wait and try again.

        Raises:
            Unreachable: it gives no answer.
            CannotBeSent: what was recorded is no call that could be made.
        """
        for _ in range(TRIES - 1):
            told, wait = await self._try(read)
            if wait is None or wait > LONGEST_WAIT:
                return told
            self._waits(wait)
            self._pace.hold(wait)
        return (await self._try(read))[0]

    async def _try(self, read: Read) -> tuple[Told, float | None]:
        await self._pace.turn()
        url = self._base_url + read.target
        headers = {"Host": read.host or urlsplit(self._base_url).netloc}
        if read.accept is not None:
            headers["Accept"] = read.accept
        if (authorization := self._authorization(read)) is not None:
            headers["Authorization"] = authorization
        elif read.token is not None:
            mark = "&" if "?" in url else "?"
            url += f"{mark}{ACCESS_TOKEN}={read.token.reveal()}"
        try:
            async with self._session.request(
                read.method, URL(url, encoded=True), headers=headers, allow_redirects=False
            ) as response:
                body = await _read(response)
                told = Told(
                    Answer(response.status, response.headers.get("Content-Type"), body),
                    response.headers.get("X-Request-Id"),
                    "X-Request-Id" in response.headers and "Deprecation" not in response.headers,
                )
                return told, _wait(response)
        except (ClientError, TimeoutError, OSError) as error:
            raise Unreachable(_words(error)) from None
        except ValueError:  # such as a line break in a header
            raise CannotBeSent from None

    def _authorization(self, read: Read) -> str | None:
        if self._credential is None:
            return None if read.authorization is None else read.authorization.reveal()
        text = self._credential.reveal()
        return f"Basic {b64encode(text.encode()).decode()}" if ":" in text else f"Bearer {text}"


def _wait(response: ClientResponse) -> float | None:
    """Return the seconds that the bridge asks to wait before the same is asked again, if any."""
    if response.status != 503:
        return None
    return read_retry_after(response.headers.get("Retry-After"), datetime.now(UTC))


async def _read(response: ClientResponse) -> bytes:
    """Return the body, or so much of it that it is known to be too long."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > LONGEST:
            break
    return bytes(body)


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {PATIENCE:.0f} seconds"
    # Not the error's own words, which may hold the URL and so a token.
    reason = error.strerror if isinstance(error, OSError) else None
    return f"{type(error).__name__}: {reason}" if reason else type(error).__name__
