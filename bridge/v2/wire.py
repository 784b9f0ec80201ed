"""A v2 call and its answer, as values. How they travel is `bridge.v2.client`'s business."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from bridge.v2.errors import UpstreamRefusal


@dataclass(frozen=True, slots=True)
class V2Request:
    """One call to v2."""

    method: str
    path: str
    """Below the upstream's base URL, such as `/invoices/1420/messages`."""
    query: str = ""
    """Percent-encoded, without the question mark; sent as it is."""
    body: bytes | None = None
    """A JSON document."""


@dataclass(frozen=True, slots=True)
class V2Response:
    """The whole answer of v2."""

    status: int
    body: bytes
    url: str
    """The absolute URL that was asked."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """By names of any case."""


class _Refusal(msgspec.Struct):
    """The two spellings of v2's errors: its API's and its OAuth layer's."""

    message: str | None = None
    error_description: str | None = None


def require_status(response: V2Response, expected: int) -> None:
    """Make sure that v2 answered with the status its documentation gives for success.

    Raises:
        UpstreamRefusal: it did not.
    """
    if response.status == expected:
        return
    try:
        refusal = msgspec.json.decode(response.body, type=_Refusal)
    except (ValueError, RecursionError):
        refusal = _Refusal()
    raise UpstreamRefusal(
        response.status,
        refusal.message or refusal.error_description,
        response.headers.get("Retry-After"),
    )
