"""A legacy call that is being served: what is known of it so far, for all who have to do with it.

What becomes of it is written in `bridge.server.endpoint`.
"""

from collections.abc import Iterator, Mapping, Sequence

import structlog
from aiohttp import web

from bridge.identity.callers import NOBODY
from bridge.identity.credentials import Basic, credentials
from bridge.identity.credentials import Credential as Offered
from bridge.identity.hosts import Network, scheme
from bridge.secret import Secret
from bridge.server.connection import Connection
from bridge.server.limits import Key
from bridge.server.records import CallRecord
from bridge.server.shadow.asked import Look
from bridge.tape import Tape
from bridge.upstream.gateway import Credential
from bridge.upstream.sharing import Worker

_log = structlog.get_logger("bridge.calls")

_NO_QUERY: Mapping[str, str] = {}


class Call(Worker):
    """Is served by aiohttp's task for its connection."""

    __slots__ = (
        "base_uri",
        "claim",
        "client_is_gone",
        "connection",
        "credential",
        "host",
        "is_last",
        "is_v1s",
        "is_write",
        "look",
        "network",
        "record",
        "request",
        "response",
        "shares",
        "subdomain",
        "sunset",
        "tape",
    )

    def __init__(
        self, request: web.BaseRequest, connection: Connection, record: CallRecord
    ) -> None:
        super().__init__(request.task)
        self.request = request
        self.connection = connection
        self.record = record
        self.credential: Credential
        """With what v2 is asked, once it is known who calls."""
        self.shares: list[Key]
        """With whom it shares what everybody may have a part of, known as soon."""
        self.network = ""
        """Whence it came."""
        self.host = ""
        """What was called, as the client knows it."""
        self.subdomain: str | None = None
        """Whose account was called, by the host or by the settings; None: nobody's."""
        self.base_uri: str | None = None
        """What was called: scheme and host; None: the answer does not tell."""
        self.sunset: str | None = None
        """When there will be nobody to answer such calls any more, an HTTP-date."""
        self.is_write = False
        """Whether it is a write that has begun, which goes on to its end."""
        self.is_v1s = False
        """Whether v1 answers it."""
        self.is_last = False
        """Whether the connection has to be closed after the answer."""
        self.client_is_gone = False
        self.response: web.StreamResponse | None = None
        """The answer that was sent, or that nobody was there to take."""
        self.claim = NOBODY
        """Who says that they call, where that was asked before it was judged."""
        self.tape: Tape | None = None
        """Who hears what is said, if anybody does."""
        self.look: Look | None = None
        """Who hears the answer, if the other side's is to be compared with it."""

    @property
    def query(self) -> Mapping[str, str]:
        """The parameters; to parse nothing would take aiohttp a few microseconds."""
        return self.request.query if self.request.rel_url.raw_query_string else _NO_QUERY

    def offered(self) -> Iterator[Offered]:
        """Return the credentials that came with it."""
        return credentials(self.request.headers.get("Authorization"), self.query)

    def secrets(self) -> tuple[Secret, ...]:
        """Return what came with it that must not be kept, and what v2 was asked with."""
        came = [each.password if isinstance(each, Basic) else each.token for each in self.offered()]
        if self.record.way is not None and not self.is_v1s:
            came.append(self.credential.token)
        return tuple(came)

    def called_at(self, proxies: Sequence[Network]) -> str:
        """Return scheme and host as the client knows them; from `proxies`, as they say."""
        request = self.request
        lines = request.headers.getall("X-Forwarded-Proto", ())
        return f"{scheme(request.remote or '', request.scheme, lines, proxies)}://{self.host}"

    def client_left(self) -> None:
        """Give the call up, unless it is a write, or others wait for what it finds out."""
        self.client_is_gone = True
        if not self.is_write:
            self.leave()
        elif self.response is None:
            _log.info("client_left", request_id=self.record.request_id)

    @property
    def was_plain(self) -> bool:
        """Whether it was a read that went well, and nobody listened: that may be told later."""
        served = self.record.status == 200 and not self.is_write
        return served and self.tape is None and self.trace is None and self.look is None

    async def was_taken(self) -> bool:
        """Wait until the answer has reached its client's machine, and tell whether it has."""
        self.record.stop_the_clock()
        taken = await self.connection.acknowledged(self.record.bytes_out)
        self.record.outlived_client = not taken
        return taken
