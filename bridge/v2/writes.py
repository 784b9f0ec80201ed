"""A write to v2 and what is known of it, as values. What keeps them is `bridge.record.journal`."""

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from bridge.v2.wire import V2Request


class Outcome(StrEnum):
    """What is known of a write (schemas/README.md, "Unknown outcomes")."""

    OPEN = "open"
    """It is being made."""
    DONE = "done"
    """v2 has made it."""
    NOT_DONE = "not-done"
    """v2 refused it, or was never asked."""
    ABSENT = "absent"
    """Its answer was lost, and a look did not find what it would have made."""
    UNKNOWN = "unknown"
    """Its answer was lost, and no look has succeeded."""


@dataclass(frozen=True, slots=True)
class Write:
    """A v2 call that must not be made twice."""

    resource: str
    """The name of the v1 resource that it belongs to."""
    request: V2Request
    likeness: bytes
    """What the resource needs, to tell by looking whether something is what this write made."""
    sets_state: bool = False
    """Whether it changes a state: then whatever was done later has left it behind."""

    @property
    def fingerprint(self) -> str:
        """The same for every write that asks for exactly the same, and for no other."""
        request = self.request
        said = (request.method, request.path, request.query, (request.body or b"").hex())
        return hashlib.sha256("\n".join(said).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Intent:
    """A write as the journal has it."""

    id: int
    account_id: int
    resource: str
    path: str
    """That of the v2 call."""
    likeness: bytes
    intended_at: datetime
    """When it was put on record for the first time, before it left: UTC."""
    outcome: Outcome
    made_id: int | None = None
    """The id of what v2 made, where that is known."""
    by_v2: bool = False
    """Whether `intended_at` is by v2's clock; else it is by the bridge's."""
    steady: float | None = field(default=None, compare=False)
    """The count of seconds then (`bridge.v2.clock`); None if it was in an earlier life."""
