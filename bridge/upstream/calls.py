"""What is remembered of each try to call v2, for the log."""

import time
from dataclasses import dataclass, field


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

    def ended(self, *, status: int | None = None, error: str | None = None) -> None:
        """Note how the call came out, and how long it took."""
        self.status = status
        self.error = error
        self.milliseconds = milliseconds_since(self.started)

    def line(self) -> dict[str, object]:
        """Return what stands in the log."""
        return {
            "method": self.method,
            "path": self.path,
            "status": self.status,
            "milliseconds": self.milliseconds,
            **({"error": self.error} if self.error else {}),
            **({"shared": True} if self.shared else {}),
        }


def milliseconds_since(started: float) -> float:
    """Return the milliseconds since `started`, a time of `time.monotonic`, to one decimal."""
    return round((time.monotonic() - started) * 1000, 1)
