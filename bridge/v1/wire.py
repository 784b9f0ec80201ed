"""A legacy call and its answer, as values. How they travel is the server's business."""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from bridge.v1.dialects import Dialect
from bridge.v1.notes import Notes
from bridge.v1.reuse import Reuse

PAGE_LIMIT = 1000
"""Pages of 2,000: no invoice has two million messages; a v2 that never comes to an end has."""


class V1Request(msgspec.Struct, frozen=True, kw_only=True):
    """One legacy call, after its path has been matched."""

    path: str
    """As the client spelled it, but for what was set right (schemas/README.md, "Paths")."""
    ids: Mapping[str, int]
    """The ids in the path, by the template's names."""
    dialect: Dialect
    base_uri: str | None = None
    """What the client called, as it said itself, such as `https://acme.harvestapp.com`."""
    query: Mapping[str, str] = msgspec.field(default_factory=dict)
    body: bytes = b""
    content_type: str | None = None
    page_limit: int = PAGE_LIMIT
    """The most pages a list may have upstream."""
    notes: Notes = msgspec.field(default_factory=Notes)
    reuse: Reuse | None = None
    """Whence an unchanged answer of v2 is told again; None: it is translated each time."""
    out_of_time: Callable[[], bool] = bool
    """Whether the call's time is up; asked while a long answer is translated."""


class V1Response(msgspec.Struct, frozen=True):
    """The answer to a legacy call."""

    status: int
    body: Sequence[bytes] = ()
    """A validated document, in parts; none: no body."""
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
