"""A v2 call and its answer, as values. How they travel is `bridge.v2.client`'s business."""

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from bridge.v2.clock import steady_time
from bridge.v2.errors import UpstreamRefusal
from bridge.v2.refusals import words_of
from bridge.v2.retry_after import read_retry_after


class V2Request(msgspec.Struct, frozen=True):
    """One call to v2."""

    method: str
    path: str
    """Below the upstream's base URL, such as `/invoices/1420/messages`."""
    query: str = ""
    """Percent-encoded, without the question mark; sent as it is."""
    body: bytes | None = None
    """A JSON document."""
    settles: bool = False
    """Whether it is part of a look that settles a write: nothing older can stand in for it."""
    event: str | None = None
    """The `event_type` in its body, for a log."""


class V2Response(msgspec.Struct, frozen=True):
    """The whole answer of v2."""

    status: int
    body: bytes
    url: str
    """The absolute URL that was asked."""
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    """By names of any case."""
    received_at: datetime = msgspec.field(default_factory=lambda: datetime.now(UTC))
    """By the bridge's clock, UTC."""
    came_at: float = msgspec.field(default_factory=steady_time)
    """When it began, by the count of seconds that nobody sets."""
    repeated: bool = False
    """Whether the call was tried before, and may have been served then."""

    @property
    def retry_after(self) -> float | None:
        """The seconds that v2 asks to wait before the next call, if it does."""
        return read_retry_after(self.headers.get("Retry-After"), self.received_at)


def require_status(response: V2Response, expected: int) -> None:
    """Make sure that v2 answered with the status its documentation gives for success.

    Raises:
        UpstreamRefusal: it did not.
    """
    if response.status != expected:
        raise _refusal(response)


def require_success(response: V2Response) -> None:
    """Make sure that v2 has done what has no answer of its own: whatever 2xx says so.

    Raises:
        UpstreamRefusal: it has not.
    """
    if response.status // 100 != 2:
        raise _refusal(response)


def _refusal(response: V2Response) -> UpstreamRefusal:
    return UpstreamRefusal(response.status, words_of(response.body), response.retry_after)
