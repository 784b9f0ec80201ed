"""The one module that talks to the upstream: a pooled session that carries v2 calls."""

import asyncio
from dataclasses import dataclass
from types import SimpleNamespace

import aiohttp
import yarl

from bridge.secret import Secret
from bridge.v2.errors import (
    UpstreamFault,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from bridge.v2.wire import V2Request, V2Response


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where v2 is, and how to behave towards it."""

    base_url: str
    """Without a trailing slash, such as `https://api.harvestapp.com/v2`."""
    user_agent: str
    """Names the application and a contact: v2 answers 400 without."""
    connect_timeout: float
    """Seconds."""
    body_limit: int
    """Bytes of an answer, after decompression."""
    connections: int
    """The most that are open at once."""


@dataclass(slots=True)
class _Progress:
    """How far a call has come."""

    request_left: bool = False


def _tracing() -> aiohttp.TraceConfig:
    async def headers_sent(
        _session: aiohttp.ClientSession,
        context: SimpleNamespace,
        _sent: aiohttp.TraceRequestHeadersSentParams,
    ) -> None:
        context.trace_request_ctx.request_left = True

    tracing = aiohttp.TraceConfig()
    tracing.on_request_headers_sent.append(headers_sent)
    return tracing


class V2Client:
    """Carries v2 calls over kept-alive connections. Sends nothing twice, follows nothing."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=upstream.connections),
            # One caller's cookies are none of the next one's business.
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": upstream.user_agent, "Accept": "application/json"},
            trace_configs=[_tracing()],
        )

        # aiohttp would send a GET or DELETE again when a kept-alive connection breaks, and tell
        # nobody: a DELETE that was done the first time then comes back as 404. There is no public
        # switch; aiohttp's own test client uses this one.
        self._session._retry_connection = False  # noqa: SLF001

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def send(
        self, request: V2Request, *, account_id: int, token: Secret, seconds: float
    ) -> V2Response:
        """Make one call and read its answer, whatever its status, within `seconds`.

        Raises:
            UpstreamTimeout: the answer was not there in time.
            UpstreamUnreachable: the connection could not be made, or broke.
            UpstreamFault: the answer is not HTTP, or longer than the limit.
        """
        url = f"{self._upstream.base_url}{request.path}"
        if request.query:
            url = f"{url}?{request.query}"
        headers = {
            "Authorization": f"Bearer {token.reveal()}",
            "Harvest-Account-Id": str(account_id),
        }
        if request.body is not None:
            headers["Content-Type"] = "application/json"
        progress = _Progress()
        try:
            async with self._session.request(
                request.method,
                yarl.URL(url, encoded=True),
                data=request.body,
                headers=headers,
                allow_redirects=False,
                trace_request_ctx=progress,
                timeout=aiohttp.ClientTimeout(
                    total=seconds, sock_connect=self._upstream.connect_timeout
                ),
            ) as response:
                return V2Response(
                    response.status, await self._read(response), url, response.headers
                )
        # Not `from error`: aiohttp's errors quote what v2 sent, and the URL.
        except (aiohttp.ConnectionTimeoutError, aiohttp.ClientConnectorError) as error:
            raise UpstreamUnreachable(type(error).__name__, request_left=False) from None
        except TimeoutError as error:
            raise UpstreamTimeout(
                type(error).__name__, request_left=progress.request_left
            ) from None
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, OSError) as error:
            raise UpstreamUnreachable(type(error).__name__) from None
        except (aiohttp.ClientError, ValueError) as error:
            raise UpstreamFault(type(error).__name__) from None

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        chunks = []
        left = self._upstream.body_limit
        async for chunk in response.content.iter_any():
            chunks.append(chunk)
            left -= len(chunk)
            if left < 0:
                raise UpstreamFault(f"v2's answer exceeds {self._upstream.body_limit} bytes")
            # What is being inflated is ready at once: without this, it is so in one turn.
            await asyncio.sleep(0)
        body = b"".join(chunks)
        # Putting a long page together, and scanning it, are a turn's work each.
        await asyncio.sleep(0)
        return body
