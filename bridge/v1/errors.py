"""What can be wrong with a legacy call, as exceptions.

Which status each one becomes is not said here but in `bridge.resources.failures`.
"""

from bridge.excerpt import excerpt
from bridge.v1.problems import Problem


class LegacyCallError(Exception):
    """A legacy call that is refused; `str()` is the sentence its caller gets to read."""

    def __init__(self, sentence: str) -> None:
        super().__init__(excerpt(sentence))


class InvalidRequest(LegacyCallError):
    """The call names a resource that exists but says something that cannot be understood.

    `problem` says what, by code.
    """

    def __init__(self, sentence: str, problem: Problem) -> None:
        super().__init__(sentence)
        self.problem = problem


class UnreadableHead(LegacyCallError):
    """What came is no request of HTTP/1.1, or is one that is too long."""


class NotIdentified(LegacyCallError):
    """No credential came with the call, or none that any enabled way of calling accepts.

    `reason`, and its code, are for the operator: to callers, all of these are one.
    """

    def __init__(self, message: str, reason: str, code: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.code = code


class NotFound(LegacyCallError):
    """Nothing is at this path, or what it names does not exist."""


class MethodNotAllowed(LegacyCallError):
    """The path is known, the method is not one of `allowed`; `route` is its template, if any."""

    def __init__(self, method: str, allowed: tuple[str, ...], route: str | None = None) -> None:
        super().__init__(f"{method} is not supported here: try {', '.join(allowed)}.")
        self.allowed = allowed
        self.route = route


class NotAcceptable(LegacyCallError):
    """The call's Accept header admits no XML."""


class RequestTimeout(LegacyCallError):
    """The client was too slow to send its request (RFC 9110, section 15.5.9)."""


class Overloaded(LegacyCallError):
    """The bridge has too much to do; the call may be made again in `retry_after` seconds."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class AttemptsPaused(Overloaded):
    """A password was not looked at, because others have failed before it."""


class NotOnRecord(Overloaded):
    """The journal cannot be written, and without a record no write is made."""


class Leaving(Overloaded):
    """The bridge is about to stop, and takes no more calls."""


class BrownedOut(Overloaded):
    """The call is turned away on purpose, for as long as a brownout lasts."""


class PastSunset(LegacyCallError):
    """The call is turned away on purpose: whoever makes it had until some day to move to v2."""


class BodyTooLarge(LegacyCallError):
    """The call's body is longer than the limit."""


class UnsupportedMediaType(LegacyCallError):
    """The call's body is of a type that is not spoken here."""


class NotTranslated(LegacyCallError):
    """The path belongs to v1, but to a part of it that the bridge does not translate."""


class OriginGone(LegacyCallError):
    """v1 is to answer the call, and is there no more."""


class OriginLoops(LegacyCallError):
    """The call has come through this bridge before: v1's origin leads back to it."""


class InvalidAnswer(Exception):
    """A document that is not valid against the XSD of its dialect and so must not leave.

    `element` is the offending element's path; that and the rule it broke are safe to log.
    """

    def __init__(self, element: str, violation: str) -> None:
        super().__init__(excerpt(f"{element}: {violation}"))
        self.element = element
