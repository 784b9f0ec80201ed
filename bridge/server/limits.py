"""What a client may take of the bridge: bytes, time, connections and calls at once.

How connections are held to their limits is written in `bridge.server.front`.
"""

import asyncio
import resource
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from aiohttp import HttpVersion11, web
from aiohttp.http_exceptions import PayloadEncodingError

from bridge.server.negotiation import expects_continue
from bridge.server.shadow.asked import ShadowLimits
from bridge.upstream.gateway import UpstreamLimits
from bridge.upstream.spare import SpareLimits
from bridge.v1.errors import BodyTooLarge, InvalidRequest, Overloaded, RequestTimeout
from bridge.v1.problems import Problem
from bridge.v1.wire import PAGE_LIMIT
from bridge.v2.client import BODY_LIMIT, CONNECT_TIMEOUT, CONNECTIONS


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What holds for every connection of the legacy side. Times are in seconds, sizes in bytes."""

    connections: int = 10_000
    """The most at once. One more takes the place of one that matters less; see `Front.admit`."""
    connections_per_address: int = 5_000
    """The most at once of one address that is no trusted proxy's: half of all."""
    handshake_timeout: float = 10.0
    """For a TLS handshake."""
    head_timeout: float = 20.0
    """For a request's head: from the connection's start, later from the head's first byte. Apache
    gives as much (mod_reqtimeout)."""
    idle_timeout: float = 75.0
    """Between an answer and the next request: as nginx has it."""
    send_timeout: float = 60.0
    """For the client to take the next 300 KiB of an answer, about, or the rest of it."""
    half_close_time: float = 5.0
    """After its request, for a client to say that it sends no more and waits for the answer. Those
    that do so (PHP's stream_socket_shutdown, Ruby's close_write) do it at once; who says it later
    has given up waiting, which TCP tells in the same words."""
    lingering_time: float = 5.0
    """For the rest of a body that was refused, so that the client gets to read why."""
    line_size: int = 8190
    """Of the request's target."""
    field_size: int = 8190
    """Of the value of one header."""
    fields: int = 100
    """Headers of one request."""
    head_size: int = 64 * 1024
    """Of a head that comes in pieces."""
    heads_limit: int = 64 * 1024 * 1024
    """Of all such heads at once."""
    heads_per_address: int = 16 * 1024 * 1024


DESCRIPTORS_BESIDE = 500
"""What the process opens beside legacy connections: those to v2, files, pipes, the admin side."""


def allow_connections(wanted: int) -> int:
    """Let the process open `wanted` legacy connections, and return how many it really may.

    Many a shell and container starts processes with no more than 1,024 descriptors, but lets them
    ask for more.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + DESCRIPTORS_BESIDE
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    granted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, granted), hard))
    return min(wanted, max(granted - DESCRIPTORS_BESIDE, granted // 2))


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """What holds for the body of every request."""

    size: int = 1024 * 1024
    """The most bytes, after decompression."""
    seconds: float = 30.0
    """From the end of the head to the end of the body: as long as a call may take after that."""
    grace: float = 5.0
    """Seconds without a minimum rate."""
    minimum_rate: float = 1024.0
    """Bytes a second."""

    def due(self, received: int) -> float:
        """Return when, in seconds after the head, more must have come than `received` bytes."""
        return min(self.seconds, self.grace + received / self.minimum_rate)


async def read_body(
    request: web.BaseRequest, limits: BodyLimits, take: Callable[[int], None] = lambda _count: None
) -> bytes:
    """Read the body of `request`, as long as it keeps within `limits`.

    `take` is told of every byte that is kept. What remains unread is for whoever answers to pass
    over: close the connection after the answer.

    Raises:
        Overloaded: `take` has no more to give.
        BodyTooLarge: it has more bytes than it may, or its Content-Length says so.
        RequestTimeout: it takes too long, or comes in a trickle.
        InvalidRequest: it broke off, or its chunks or its compression are wrong.
    """
    too_large = BodyTooLarge(f"The body has more than {limits.size} bytes.")
    if (request.content_length or 0) > limits.size:
        raise too_large
    if request.version >= HttpVersion11 and expects_continue(request.headers):
        # Only now: what is refused by its head alone need not be sent (RFC 9110, 10.1.1).
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    started: float | None = None
    body = bytearray()
    while True:
        try:
            if request.content.is_eof():
                # All of it has come, most often with its head: there is nothing to wait for.
                chunk = request.content.read_nowait()
            else:
                if started is None:
                    started = asyncio.get_running_loop().time()
                async with asyncio.timeout_at(started + limits.due(len(body))):
                    chunk = await request.content.readany()
        except TimeoutError:
            raise RequestTimeout("The body took too long to arrive.") from None
        # aiohttp says RuntimeError of a connection that is closed already.
        except (PayloadEncodingError, web.RequestPayloadError, OSError, RuntimeError) as error:
            told = "The body broke off, or is not encoded as its head says."
            raise InvalidRequest(told, Problem.BODY_BROKEN_OFF) from error
        if not chunk:
            return bytes(body)
        if len(body) + len(chunk) > limits.size:
            raise too_large
        take(len(chunk))
        body += chunk


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits(ConnectionLimits):
    """All limits that no installation has to set. Times are in seconds, sizes in bytes.

    The settings have those that it does: `connections`, `calls_per_account`, `body_limit`.
    """

    calls: int = 500
    """Legacy calls at once: what five accounts may have by default. More would wait for v2, which
    takes 100 calls in 15 seconds of each."""
    calls_per_login: int = 50
    """Of one login or token: half of what its account may have by default. v1's clients make one
    call after the other."""
    calls_per_address: int = 100
    """Of one address, with logins that are not the book's: a fifth of all, for those can be made
    up, one for each call."""
    bodies_limit: int = 128 * 1024 * 1024
    """All bodies at once: as many of the longest as there are calls would take half a gigabyte."""
    bodies_per_login: int = 32 * 1024 * 1024
    bodies_per_address: int = 16 * 1024 * 1024
    """Of one address, with logins that are not the book's. At least the longest body that there may
    be is let pass."""
    passed_through: int = 200
    """Calls at v1's origin at once: each holds two connections, for as long as its bodies take."""
    passed_through_per_address: int = 40
    """Of one address, with credentials that v1 has not accepted: a fifth of all, likewise."""
    shadow: ShadowLimits = field(default_factory=ShadowLimits)
    """What comparing v1's answers with the bridge's may take."""
    spare: SpareLimits = field(default_factory=SpareLimits)
    """Calls to v2 that are made for that."""
    # The reasons for these are told where they are used.
    body_timeout: float = BodyLimits().seconds
    page_limit: int = PAGE_LIMIT
    connect_timeout: float = CONNECT_TIMEOUT
    upstream_body_limit: int = BODY_LIMIT
    upstream_connections: int = CONNECTIONS
    upstream_calls_per_account: int = UpstreamLimits().calls_per_account


LIMITS = Limits()
"""Those in force. Only tests have others."""


class Share(StrEnum):
    """Whose calls are counted together."""

    LOGIN = "login"
    """Those of one login or token."""
    ADDRESS = "address"
    """Those from one address."""
    ACCOUNT = "account"
    """Those of one Harvest account."""


Key = tuple[Share, Hashable]
"""Somebody who has a share."""


def for_writes(places: int) -> int:
    """Return how many of so many places writes may have that wait for the journal.

    A journal that stands still must not keep reads out, which do not need it.
    """
    return max(1, places * 3 // 4)


class Budget:
    """Bounds how much is in use at once, in all and for each who shares something.

    Nobody queues: who waits holds a connection and memory, and may be gone when served.
    """

    def __init__(
        self, what: str, total: int, shares: Mapping[Share, int], *, retry_after: int = 1
    ) -> None:
        """Allow `total`, of each key as many as its share; `retry_after` is in seconds.

        `what` it is, is told to who is refused.
        """
        self._what = what
        self.total = total
        """How much there is."""
        self._shares = shares
        self._retry_after = retry_after
        self._used: dict[Key, int] = {}
        self.used = 0
        """How much is in use."""

    def take(self, keys: Sequence[Key], count: int = 1) -> None:
        """Take so many; give them back with `give_back`.

        Raises:
            Overloaded: there are not so many left.
        """
        used = self._used
        for key in keys:
            if used.get(key, 0) + count > self._shares[key[0]]:
                raise Overloaded(
                    f"Too many {self._what} of yours at once: wait for some.", self._retry_after
                )
        if self.used + count > self.total:
            raise Overloaded(f"Too many {self._what} at once: try again soon.", self._retry_after)
        if not count:
            return
        self.used += count
        for key in keys:
            used[key] = used.get(key, 0) + count

    def give_back(self, keys: Sequence[Key], count: int = 1) -> None:
        """Give back so many of those that were taken with `keys`."""
        self.used -= count
        for key in keys:
            if self._used[key] == count:
                # Keys are the callers' to make up: none may outlive its calls.
                del self._used[key]
            else:
                self._used[key] -= count

    def allow(self, share: Share, count: int) -> None:
        """Allow each such key as many from now on; who has more keeps what it has."""
        self._shares = {**self._shares, share: count}

    def is_used_up(self, keys: Sequence[Key]) -> bool:
        """Tell whether one of these keys has its whole share in use."""
        return any(self._used.get(key, 0) >= self._shares[key[0]] for key in keys)

    def place(self, keys: Sequence[Key]) -> "Place":
        """Return one of them, which is taken for as long as its block runs.

        Entering the block raises `Overloaded` where there is none.
        """
        return Place(self, keys)

    @contextmanager
    def growing(self, keys: Sequence[Key]) -> Iterator[Callable[[int], None]]:
        """Yield what takes so many more; all are given back at the end of the block."""
        taken = 0

        def take(count: int) -> None:
            nonlocal taken
            self.take(keys, count)
            taken += count

        try:
            yield take
        finally:
            if taken:
                self.give_back(keys, taken)


class Place(NamedTuple):
    """One of a budget's."""

    budget: Budget
    keys: Sequence[Key]

    def __enter__(self) -> None:
        self.budget.take(self.keys)

    def __exit__(self, *_raised: object) -> None:
        self.budget.give_back(self.keys)
