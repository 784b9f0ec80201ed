"""What can go wrong between the bridge and v2, as exceptions.

Which status each one becomes is not said here but in `bridge.resources.failures`.
"""

from bridge.excerpt import excerpt


class UpstreamError(Exception):
    """v2 did not serve a call; `str()` is for the operator and holds no value of the call."""

    def __init__(self, reason: str) -> None:
        super().__init__(excerpt(reason))


class UpstreamRefusal(UpstreamError):
    """v2 answered, with a status that is not the one that was hoped for."""

    def __init__(self, status: int, message: str | None, retry_after: float | None) -> None:
        super().__init__(f"v2 answered {status}")
        self.status = status
        self.message = message
        """v2's own words, if it sent any."""
        self.retry_after = retry_after
        """The seconds that v2 asks to wait, if it does."""


class OwnTokenRefused(UpstreamError):
    """v2 refuses a token that the operator put in place; the client can do nothing about it."""


class UpstreamFault(UpstreamError):
    """v2 answered with something that its documentation does not allow."""


class UpstreamSilence(UpstreamError):
    """No answer. `request_left` is false when it is certain that v2 was never asked."""

    def __init__(self, reason: str, *, request_left: bool = True, time_is_up: bool = False) -> None:
        super().__init__(reason)
        self.request_left = request_left
        self.no_such_name = False
        """Whether nobody knows the name of the host."""
        self.leads_back = False
        """Whether who would have been asked is the bridge itself."""
        self.time_is_up = time_is_up
        """Whether it was the call's own time: one who has more may fare better."""


class UpstreamUnreachable(UpstreamSilence):
    """No answer: the connection could not be made, or broke."""


class UpstreamTimeout(UpstreamSilence):
    """No answer in time."""

    def __init__(self, reason: str, *, request_left: bool = True) -> None:
        super().__init__(reason, request_left=request_left, time_is_up=True)


class UpstreamUnavailable(UpstreamSilence):
    """v2 was not asked, because it would be of no use before `retry_after` seconds from now."""

    def __init__(self, reason: str, retry_after: int, *, time_is_up: bool = False) -> None:
        super().__init__(reason, request_left=False, time_is_up=time_is_up)
        self.retry_after = retry_after


class OutcomeUnknown(UpstreamError):
    """A write went out, and nobody can say whether it was done."""


class WriteNotDone(UpstreamError):
    """A write went out, no answer came back, and a look shows that it was not done."""
