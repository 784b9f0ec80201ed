"""The one module that talks to the upstream: a pooled session that carries v2 calls."""

import asyncio
from codecs import BOM_UTF8
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import aiohttp
import yarl

from bridge.secret import Secret
from bridge.tape import Take
from bridge.v2.clock import V2Clock, steady_time
from bridge.v2.errors import UpstreamFault, UpstreamTimeout, UpstreamUnreachable
from bridge.v2.once import Broken, OnlyOnce, Request
from bridge.v2.unreachable import why_no_answer
from bridge.v2.wire import V2Request, V2Response

CONNECT_TIMEOUT = 5.0
"""Seconds for a connection and its handshake: two lost packets and their repetitions (RFC 6298) fit
in, and a call of 30 seconds has time left to try again."""

BODY_LIMIT = 64 * 1024 * 1024
"""Bytes of an answer, after decompression: 2,000 messages, the most on a page, are 2 MB or so."""

CONNECTIONS = 100
"""The most that are open at once: as many as v2 takes calls of one token in 15 seconds."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where v2 is, and how to behave towards it."""

    base_url: str
    """Without a trailing slash, such as `https://api.harvestapp.com/v2`."""
    user_agent: str
    """Names the application and a contact: v2 answers 400 without."""
    connect_timeout: float = CONNECT_TIMEOUT
    body_limit: int = BODY_LIMIT
    connections: int = CONNECTIONS


class V2Client:
    """Carries v2 calls over kept-alive connections. Sends nothing twice, follows nothing."""

    def __init__(self, upstream: Upstream, clock: V2Clock | None = None) -> None:
        """Call `upstream`; `clock` is told what time it says it is."""
        self._upstream = upstream
        self._clock = clock or V2Clock()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=upstream.connections),
            # One caller's cookies are none of the next one's business.
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": upstream.user_agent, "Accept": "application/json"},
            request_class=Request,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def send(  # noqa: PLR0913 - what a call is made of
        self,
        request: V2Request,
        *,
        account_id: int,
        token: Secret,
        seconds: float,
        trace: Mapping[str, str] | None = None,
        take: Take | None = None,
    ) -> V2Response:
        """Make one call and read its answer, whatever its status, within `seconds`.

        `trace` has the headers that tell v2 of the trace it is part of. A `take` hears what is
        said, its token too.

        Raises:
            UpstreamTimeout: the answer was not there in time.
            UpstreamUnreachable: the connection could not be made, or broke.
            UpstreamFault: the answer is not HTTP, or longer than the limit.
        """
        url = _base(self._upstream.base_url, request.query)
        url = url.with_path(url.raw_path + request.path, encoded=True, keep_query=True)
        headers = {
            "Authorization": f"Bearer {token.reveal()}",
            "Harvest-Account-Id": str(account_id),
        }
        if request.body is not None:
            headers["Content-Type"] = "application/json"
        if trace is not None:
            headers.update(trace)
        progress = OnlyOnce()
        try:
            async with self._session.request(
                request.method,
                url,
                data=request.body,
                headers=headers,
                allow_redirects=False,
                middlewares=(progress,),
                timeout=_timeout(max(0.01, round(seconds, 2)), self._upstream.connect_timeout),
            ) as response:
                came_at = steady_time()
                body = await self._read(response, take)
                # What answers in v2's place has a clock of its own.
                if response.status // 100 == 2 and body.startswith(b"{"):
                    self._clock.heard(response.headers.get("Date"), came_at)
                return V2Response(
                    response.status, body, str(url), response.headers, came_at=came_at
                )
        # Not `from error`: aiohttp's errors quote what v2 sent, and the URL.
        except (aiohttp.ConnectionTimeoutError, aiohttp.ClientConnectorError) as error:
            raise UpstreamUnreachable(self._why(error), request_left=False) from None
        except TimeoutError:
            raise UpstreamTimeout("no answer in time", request_left=progress.has_left) from None
        except Broken as broken:
            reason, left = self._why(broken.error), progress.has_left
            raise UpstreamUnreachable(reason, request_left=left) from None
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, OSError) as error:
            raise UpstreamUnreachable(self._why(error)) from None
        except (aiohttp.ClientError, ValueError) as error:
            raise UpstreamFault(self._why(error)) from None
        finally:
            if take is not None:
                made = progress.request
                take.sent(str(url), {} if made is None else made.headers, request.body)

    def _why(self, error: Exception) -> str:
        return why_no_answer(error, self._upstream.base_url)

    async def _read(self, response: aiohttp.ClientResponse, take: Take | None) -> bytes:
        if take is not None:
            take.began(response.headers)
        limit = self._upstream.body_limit
        chunks: list[bytes] = []
        length = 0
        while chunk := await response.content.readany():
            if chunks:
                # What is being inflated is ready at once: without this, it is so in one turn.
                await asyncio.sleep(0)
            chunks.append(chunk)
            length += len(chunk)
            if length > limit:
                raise UpstreamFault(f"v2's answer exceeds {limit} bytes")
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        if take is not None:
            take.answered(response.headers, body)
        return body.removeprefix(BOM_UTF8)  # which JSON has no use for (RFC 8259, section 8.1)


@lru_cache(maxsize=64)
def _base(url: str, query: str) -> yarl.URL:
    # Of nearly all calls, only the path is their own: to parse the rest takes thrice as long.
    return yarl.URL(f"{url}?{query}" if query else url, encoded=True)


@lru_cache(maxsize=64)
def _timeout(seconds: float, connect: float) -> aiohttp.ClientTimeout:
    # Most calls have the same time but for a few milliseconds. To aiohttp, 0 would be for ever.
    return aiohttp.ClientTimeout(total=seconds, sock_connect=connect)
