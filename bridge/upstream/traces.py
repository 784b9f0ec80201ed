"""What a trace of a legacy call has to be able to do. What makes one is not known here."""

from collections.abc import Mapping
from typing import Protocol


class CallSpan(Protocol):
    """A v2 call as a trace tells it."""

    @property
    def headers(self) -> Mapping[str, str]:
        """What v2 is to be sent, so that it can go on with the trace."""

    def ended(self, status: int | None, error: str | None) -> None:
        """Say how the call came out: v2's status, or the class of the exception."""


class Trace(Protocol):
    """A legacy call as a trace tells it."""

    def asks(self, method: str, path: str, query: str) -> CallSpan:
        """Begin a v2 call, or a further try of the latest."""

    def follows(self, method: str, path: str, other: "Trace | None") -> CallSpan:
        """Begin to wait for a v2 call that is made for another legacy call."""

    def shares(self, other: "Trace | None") -> None:
        """Say that it gets the answer of another legacy call."""
