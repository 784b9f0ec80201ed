"""What is remembered of each try to call v2, for the log."""

import time
from dataclasses import dataclass, field

from bridge.upstream.traces import CallSpan


@dataclass(slots=True)
class UpstreamCall:
    """One v2 call, as the log tells it. Holds no secret and no value."""

    method: str
    path: str
    started: float = field(default_factory=time.monotonic)
    status: int | None = None
    error: str | None = None
    """The class of the exception, when there was no answer."""
    milliseconds: float | None = None
    shared: bool = False
    """Whether it was made for another legacy call, which asked the same at the same time."""
    query: str = ""
    """Tells the pages of a list apart; not for a log."""
    event: str | None = None
    """The `event_type` that it sends."""

    span: CallSpan | None = None
    """Itself as a trace tells it; None: nobody traces it."""

    def ended(self, *, status: int | None = None, error: str | None = None) -> None:
        """Note how the call came out, and how long it took."""
        self.status = status
        self.error = error
        self.milliseconds = milliseconds_since(self.started)
        if self.span is not None:
            self.span.ended(status, error)


def milliseconds_since(started: float) -> float:
    """Return the milliseconds since `started`, a time of `time.monotonic`, to one decimal."""
    return milliseconds(time.monotonic() - started)


def milliseconds(seconds: float) -> float:
    """Return seconds as milliseconds, to one decimal."""
    return int(seconds * 10_000 + 0.5) / 10  # `round` goes by way of a text, for thrice the time
