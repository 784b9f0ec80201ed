"""A legacy call and its answer, as values. How they travel is the server's business."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bridge.v1.dialects import Dialect
from bridge.v1.notes import Notes
from bridge.v1.writer import Document


@dataclass(frozen=True, slots=True)
class V1Request:
    """One legacy call, after its path has been matched."""

    path: str
    """As the client spelled it, but for what was set right (schemas/README.md, "Paths")."""
    ids: Mapping[str, int]
    """The ids in the path, by the template's names."""
    dialect: Dialect
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    content_type: str | None = None
    page_limit: int = 1000
    """The most pages a list may have upstream."""
    notes: Notes = field(default_factory=Notes)


@dataclass(frozen=True, slots=True)
class V1Response:
    """The answer to a legacy call; no document means an empty body."""

    status: int
    document: Document | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
