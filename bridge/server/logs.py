"""JSON lines on standard error: how a line looks, and the one line of each legacy call."""

import logging
import sys
import time
from dataclasses import dataclass, field
from typing import TextIO

import structlog

from bridge.identity.callers import Caller, Way
from bridge.masking import without_addresses
from bridge.upstream.calls import UpstreamCall, milliseconds_since
from bridge.v1.dialects import Dialect
from bridge.v1.notes import Notes

_USER_AGENT_LENGTH = 200


def configure(stream: TextIO = sys.stderr) -> None:
    """Send every log line of the process, the libraries' too, to `stream` as JSON."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                # Plain tracebacks: the ones with local variables would print tokens.
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


@dataclass(slots=True)
class CallRecord:
    """What is known of a legacy call while it is served; the source of its log line.

    Holds no body and no secret; its line holds no e-mail address either.
    """

    request_id: str
    method: str
    user_agent: str | None
    started: float = field(default_factory=time.monotonic)
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

    def told_of(self, caller: Caller) -> None:
        """Note who is calling, as far as a log may know."""
        self.way = caller.way
        self.account_id = caller.account_id
        self.label = caller.label

    def line(self, status: int | None) -> dict[str, object]:
        """Return the fields of the log line; no status means the client was gone before it."""
        return {
            "method": self.method,
            "route": self.route,
            "dialect": self.dialect,
            "way": self.way,
            "account_id": self.account_id,
            "label": self.label and without_addresses(self.label),
            "status": status,
            "milliseconds": milliseconds_since(self.started),
            "upstream": [call.line() for call in self.upstream_calls],
            **({"shared_with": self.shared_with} if self.shared_with else {}),
            "notes": [
                {"code": note.code, "subject": note.subject, "count": count}
                for note, count in self.notes
            ],
            # v2's etiquette made a habit of naming a contact there.
            "user_agent": self.user_agent
            and without_addresses(self.user_agent)[:_USER_AGENT_LENGTH],
            **({"cause": self.cause} if self.cause else {}),
        }


def started(what: str, host: str, port: int, **details: str) -> None:
    """Write the line that says that something listens."""
    structlog.get_logger("bridge").info("listening", what=what, host=host, port=port, **details)
