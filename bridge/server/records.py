"""What is known of a legacy call, while it is served and when it has ended.

Every sink of the end of a call (the log, and whoever else wants to know) takes what it shows from
here.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bridge.identity.callers import Caller, Way
from bridge.identity.masking import without_addresses
from bridge.upstream.calls import UpstreamCall, milliseconds_since
from bridge.v1.dialects import Dialect
from bridge.v1.notes import Notes

_USER_AGENT_LENGTH = 200


@dataclass(slots=True)
class CallRecord:
    """A legacy call, as the operator may know it.

    Holds no body and no secret; its line holds no e-mail address either.
    """

    request_id: str
    method: str
    user_agent: str | None
    started: float = field(default_factory=time.monotonic)
    milliseconds: float | None = None
    """From its start to its answer, once the clock is stopped."""
    route: str | None = None
    successor: str | None = None
    """The v2 path that takes the place of what was called."""
    dialect: Dialect | None = None
    way: Way | None = None
    account_id: int | None = None
    label: str | None = None
    """What the book calls the caller."""
    upstream_calls: list[UpstreamCall] = field(default_factory=list)
    shared_with: str | None = None
    """The request id of the call whose answer this one got, too."""
    notes: Notes = field(default_factory=Notes)
    cause: str | None = None
    """Why the answer is not 2xx, for the operator."""
    status: int | None = None
    """That of the answer; None: the call was given up, because its client was gone."""
    is_grave: bool = False
    """Whether an operator should look into it: a write that was cut off."""
    outlived_client: bool = False
    """Whether it was served to its end although its client was gone."""

    def told_of(self, caller: Caller) -> None:
        """Note who is calling, as far as a log may know."""
        self.way, self.account_id, self.label = caller.way, caller.account_id, caller.label

    def stop_the_clock(self) -> None:
        """Note how long it took: what comes now is not its client's waiting."""
        self.milliseconds = milliseconds_since(self.started)

    def line(self) -> dict[str, object]:
        """Return the fields of the log line."""
        line: dict[str, object] = {
            "request_id": self.request_id,
            "method": self.method,
            "route": self.route,
            "dialect": self.dialect,
            "way": self.way,
            "account_id": self.account_id,
            "label": self.label and without_addresses(self.label),
            "status": self.status,
            "milliseconds": milliseconds_since(self.started)
            if self.milliseconds is None
            else self.milliseconds,
            "upstream": [call.line() for call in self.upstream_calls],
            "notes": [
                {"code": note.code, "subject": note.subject, "count": count}
                for note, count in self.notes
            ],
            # v2's etiquette made a habit of naming a contact there.
            "user_agent": self.user_agent
            and without_addresses(self.user_agent)[:_USER_AGENT_LENGTH],
        }
        if self.shared_with:
            line["shared_with"] = self.shared_with
        if self.cause:
            line["cause"] = self.cause
        return line


Sink = Callable[[CallRecord], None]
"""Is told of every legacy call that has ended, once."""
