"""The one module that talks to v1: sends a call as it came, once, and hands over what is answered.

Which calls those are, and how they come and go to the client, is not known here.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import aiohttp
import yarl

from bridge.origin.loops import LeadsBack
from bridge.origin.place import Place
from bridge.v2.client import CONNECT_TIMEOUT
from bridge.v2.errors import UpstreamFault, UpstreamTimeout, UpstreamUnreachable
from bridge.v2.once import Broken, OnlyOnce, Request
from bridge.v2.unreachable import is_no_such_name, why_no_answer

IDLE = 4.0
"""Seconds that a connection is kept for the next read: less than servers of the time kept theirs
(5 was Apache's), so that it is seldom closed just as it is used."""

FIELD_SIZE = 32 * 1024
"""Bytes of one field of an answer, and of its status line: cookies may take some."""

FIELDS = 200

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""The methods that change nothing (RFC 9110, section 9.2.1)."""

_AUTOMATIC = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
"""What aiohttp would add."""


class Body(NamedTuple):
    """That of a request, as it comes."""

    pieces: AsyncIterator[bytes]
    length: int | None
    """Bytes; None: not known before its end."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A call on its way to the origin."""

    method: str
    target: str
    """Path and query, byte for byte."""
    fields: Sequence[tuple[str, str]]
    """Without `Host`, and without what tells the length of the body."""
    body: Body | None = None


class OriginClient:
    """Carries calls to v1. Sends no write twice, follows no redirect, keeps no cookie.

    Reads share kept-alive connections. Each write has one of its own: one that idled may be closed
    by the origin in the very moment, and nobody could tell whether the write was done.
    """

    def __init__(
        self,
        *,
        connect_timeout: float = CONNECT_TIMEOUT,
        resolver: Callable[[], aiohttp.abc.AbstractResolver] = aiohttp.ThreadedResolver,
    ) -> None:
        """Give a connection `connect_timeout` seconds; `resolver` makes what looks up names."""
        self._connect_timeout = connect_timeout
        # How many there may be is for who sends to say: nobody waits in a queue.
        self._reads = _session(
            aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE, resolver=resolver())
        )
        self._writes = _session(
            aiohttp.TCPConnector(limit=0, force_close=True, resolver=resolver())
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._reads.close()
        await self._writes.close()

    async def send(
        self, place: Place, call: Outgoing, patience: asyncio.Timeout, seconds: float
    ) -> aiohttp.ClientResponse:
        """Send a call, and return its answer once there is a head; close it when it is read.

        `patience` runs out after `seconds` without a head: whoever writes the body moves that.
        `seconds` may pass between two pieces of the answer's body.

        Raises:
            UpstreamTimeout: there was no head in time.
            UpstreamUnreachable: the connection could not be made, or broke.
            UpstreamFault: the answer is not HTTP.
        """
        session = self._reads if call.method in SAFE and call.body is None else self._writes
        progress = OnlyOnce()
        fields = list(call.fields)
        if call.body is not None and call.body.length is not None:
            fields.append(("Content-Length", str(call.body.length)))
        # What changes nothing may be asked again by aiohttp, if its idle connection was closed.
        may_repeat = call.method in {"GET", "HEAD"} and session is self._reads
        try:
            async with patience:
                patience.reschedule(asyncio.get_running_loop().time() + seconds)
                response = await session.request(
                    call.method,
                    yarl.URL(place.url + call.target, encoded=True),
                    data=None if call.body is None else call.body.pieces,
                    headers=fields,
                    skip_auto_headers=_AUTOMATIC,
                    allow_redirects=False,
                    middlewares=() if may_repeat else (progress,),
                    timeout=aiohttp.ClientTimeout(
                        total=None, sock_connect=self._connect_timeout, sock_read=seconds
                    ),
                )
        # Not `from error`: aiohttp's errors quote what the origin sent, and the URL.
        except (aiohttp.ConnectionTimeoutError, aiohttp.ClientConnectorError) as error:
            unreached = UpstreamUnreachable(why_no_answer(error, place.url), request_left=False)
            unreached.no_such_name = is_no_such_name(error)
            unreached.leads_back = isinstance(getattr(error, "os_error", error), LeadsBack)
            raise unreached from None
        except TimeoutError:
            raise UpstreamTimeout("no answer in time", request_left=progress.has_left) from None
        except Broken as broken:
            reason, left = why_no_answer(broken.error, place.url), progress.has_left
            raise UpstreamUnreachable(reason, request_left=left) from None
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, OSError) as error:
            raise UpstreamUnreachable(why_no_answer(error, place.url)) from None
        except (aiohttp.ClientError, ValueError) as error:
            raise UpstreamFault(why_no_answer(error, place.url)) from None
        if response.status < 200:
            response.close()
            raise UpstreamFault("it switches to a protocol that nobody has asked for")
        return response


async def pieces(
    response: aiohttp.ClientResponse, place: Place, seconds: float
) -> AsyncGenerator[bytes, None]:
    """Yield the body of an answer, as it comes; `seconds` may pass between two pieces.

    Raises:
        UpstreamUnreachable: it broke off.
        UpstreamTimeout: the next piece took too long.
    """
    try:
        while True:
            # aiohttp's own time-out ends with the connection, which it closes without a word to
            # its reader where chunks are malformed.
            async with asyncio.timeout(seconds):
                piece = await response.content.readany()
            if not piece:
                return
            yield piece
    except TimeoutError:
        raise UpstreamTimeout("the answer came to a standstill") from None
    except (aiohttp.ClientError, OSError) as error:
        raise UpstreamUnreachable(why_no_answer(error, place.url)) from None


def _session(connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        auto_decompress=False,
        # One caller's cookies are none of the next one's business.
        cookie_jar=aiohttp.DummyCookieJar(),
        max_line_size=FIELD_SIZE,
        max_field_size=FIELD_SIZE,
        max_headers=FIELDS,
        request_class=Request,
    )
