"""Every answer that is not 2xx: from the exception a call ended in to what its client reads.

The rows are those of schemas/README.md, "Answers that are not 2xx".
"""

from typing import NamedTuple

from bridge.excerpt import excerpt
from bridge.v1 import errors as v1
from bridge.v1.wire import V1Response
from bridge.v1.writer import write_errors
from bridge.v2 import errors as v2
from bridge.v2.retry_after import wait_after_429, whole_seconds


class Failure(NamedTuple):
    """A status, and the sentence that goes with it where the exception has none for clients."""

    status: int
    message: str = ""


AUTHENTICATION_FAILED = "Authentication failed for API request."
"""v1's own sentence, letter by letter: clients compare it."""

FAILURES: dict[type[Exception], Failure] = {
    v1.InvalidRequest: Failure(400),
    v1.UnreadableHead: Failure(400),
    v1.NotIdentified: Failure(401, AUTHENTICATION_FAILED),
    v1.NotFound: Failure(404),
    v1.MethodNotAllowed: Failure(405),
    v1.NotAcceptable: Failure(406),
    v1.RequestTimeout: Failure(408),
    v1.PastSunset: Failure(410),
    v1.BodyTooLarge: Failure(413),
    v1.UnsupportedMediaType: Failure(415),
    v1.NotTranslated: Failure(501),
    v1.OriginGone: Failure(502),
    v1.OriginLoops: Failure(508),
    v1.Overloaded: Failure(503),
    v1.AttemptsPaused: Failure(503),
    v1.NotOnRecord: Failure(503),
    v1.Leaving: Failure(503),
    v1.BrownedOut: Failure(503),
    v1.InvalidAnswer: Failure(502, "Harvest's answer cannot be told in this XML."),
    v2.OwnTokenRefused: Failure(502, "Harvest refuses the bridge's own token: tell its operator."),
    v2.UpstreamFault: Failure(502, "Harvest's answer could not be understood."),
    v2.UpstreamUnreachable: Failure(502, "Harvest could not be reached."),
    v2.UpstreamUnavailable: Failure(503, "Harvest is not asked just now: try again later."),
    v2.WriteNotDone: Failure(502, "Harvest has not done this: it may be sent again."),
    v2.UpstreamTimeout: Failure(504, "Harvest took too long to answer."),
    v2.OutcomeUnknown: Failure(504, "Whether Harvest has done this is not known: look first."),
}

V2_MAY_SAY = frozenset({400, 422})
"""The statuses with which v2's own words are passed on: they say what to change in the request."""

REFUSALS: dict[int, Failure] = {
    400: Failure(400, "Harvest refused the request."),
    401: Failure(401, AUTHENTICATION_FAILED),
    403: Failure(403, "Harvest does not allow this user to do that."),
    404: Failure(404, "Harvest has nothing by this id."),
    408: Failure(504, "Harvest took too long to answer."),
    422: Failure(400, "Harvest refused the request."),
    429: Failure(503, "Harvest asks to wait before the next call."),
}
"""What becomes of the statuses that v2 refuses with; any other is a 502."""

OTHER_REFUSAL = Failure(502, "Harvest failed.")
DEFECT = Failure(500, "The bridge failed. Its log has the reason under this X-Request-Id.")


def answer_to(error: Exception) -> V1Response:
    """Return the answer to a legacy call that ended in `error`, written and validated."""
    if isinstance(error, v2.UpstreamRefusal):
        failure = REFUSALS.get(error.status, OTHER_REFUSAL)
        words = error.message if error.status in V2_MAY_SAY else None
        # Not sooner: what must not be told has been taken out of the whole.
        message = excerpt(words or failure.message)
    else:
        failure = FAILURES.get(type(error), DEFECT)
        message = failure.message or str(error)
    return V1Response(
        failure.status, (write_errors(message),), _headers(error, failure.status, message)
    )


def _headers(error: Exception, status: int, message: str) -> dict[str, str]:
    if isinstance(error, v1.MethodNotAllowed):
        return {"Allow": ", ".join(error.allowed)}
    if isinstance(error, v1.Overloaded | v2.UpstreamUnavailable):
        return {"Retry-After": str(error.retry_after)}
    if isinstance(error, v2.UpstreamRefusal) and status == 503:
        return {"Retry-After": str(whole_seconds(wait_after_429(error.retry_after)))}
    if status == 400:
        return {"Hint": _header_value(message)}
    if status == 401:
        return {"WWW-Authenticate": 'Basic realm="Harvest"'}
    return {}


def _header_value(text: str) -> str:
    """Make `text` fit for a header: printable ASCII on one line (RFC 9110, section 5.5)."""
    one_line = " ".join(text.split())
    return "".join(character if " " <= character <= "~" else "?" for character in one_line)
