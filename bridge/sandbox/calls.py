"""What calls have come and what became of them, for whoever rehearses. No token, no body.

Recorded here; shown by control.py.
"""

from collections import Counter, deque
from typing import Any
from urllib.parse import unquote_plus

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

MOST_KEPT = 1000

# The parameters v2 documents for these calls. A value of any other is not kept: v2 also takes a
# token from the query.
_SHOWN = frozenset({"page", "per_page", "cursor", "updated_since", "reminder", "thank_you"})


class Call(msgspec.Struct, kw_only=True):
    """A call. `fault` is null if it was served; `status`, until the head of an answer has left."""

    method: str
    path: str
    query: str
    fault: str | None = None
    status: int | None = None


CALL = web.RequestKey("call", Call)


class Severed(web.StreamResponse):
    """Stands for the answer where a connection is broken: nothing more is sent.

    `sent` is the status, if its whole head was sent.
    """

    def __init__(self, sent: int | None = None) -> None:
        """Remember what was sent."""
        super().__init__()
        self.sent = sent

    async def prepare(self, request: web.BaseRequest) -> None:  # noqa: ARG002 - as aiohttp calls it
        """Tell aiohttp that there is nobody to send to."""
        raise ConnectionResetError("The connection is broken")


class Calls:
    """The calls since the start, or since they were forgotten."""

    def __init__(self) -> None:
        """Start with none."""
        self.forget()

    def forget(self) -> None:
        """Start again with none."""
        self._methods: Counter[str] = Counter()
        self._last: deque[Call] = deque(maxlen=MOST_KEPT)
        self.created = 0
        self.deleted = 0

    @web.middleware
    async def record(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Record a call, and what it was answered when that is known."""
        url = request.rel_url
        call = Call(method=request.method, path=url.raw_path, query=shown(url.raw_query_string))
        self._methods[call.method] += 1
        self._last.append(call)
        request[CALL] = call
        answer = await handler(request)
        if isinstance(answer, Severed):
            call.status = answer.sent
        elif request.transport is not None:
            call.status = answer.status
        return answer

    def report(self) -> dict[str, Any]:
        """Return all of it as JSON: counts of everything, and the last calls, oldest first."""
        return {
            "total": self._methods.total(),
            "by_method": dict(self._methods),
            "applied": {"created": self.created, "deleted": self.deleted},
            "calls": list(self._last),
        }


def shown(query: str) -> str:
    """Return a raw query with the values left out that may be secret."""
    if not query:
        return query
    return "&".join(map(_shown_parameter, query.split("&")))


def _shown_parameter(parameter: str) -> str:
    name, equals, _ = parameter.partition("=")
    if unquote_plus(name) in _SHOWN:
        return parameter
    return f"{name}=***" if equals else "***"
