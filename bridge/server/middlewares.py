"""What every legacy call gets, whatever it asks for: an id, a log line, an answer to its errors."""

import re
import uuid

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from bridge.resources.failures import answer_to
from bridge.server.answers import short_answer
from bridge.server.logs import CallRecord
from bridge.v1.errors import (
    BodyTooLarge,
    InvalidAnswer,
    LegacyCallError,
    NotFound,
    NotTranslated,
    RequestTimeout,
)
from bridge.v2.errors import UpstreamError

RECORD = web.RequestKey("record", CallRecord)

_log = structlog.get_logger("bridge.calls")
_SANE_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


def request_id_of(offered: str | None) -> str:
    """Return the client's own request id if it is a sane one, else a new one."""
    if offered is not None and _SANE_ID.fullmatch(offered):
        return offered
    return uuid.uuid4().hex


@web.middleware
async def record_call(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the call an id and a record, and write its log line."""
    record = CallRecord(
        request_id_of(request.headers.get("X-Request-Id")),
        request.method,
        request.headers.get("User-Agent"),
    )
    request[RECORD] = record
    status = None
    with structlog.contextvars.bound_contextvars(request_id=record.request_id):
        try:
            response = await handler(request)
            status = response.status
            return response
        finally:
            _log.info("legacy_call", **record.line(status))


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever a call ended in into its answer."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        # aiohttp's own router says this of what is no path at all, such as `OPTIONS *`.
        known: Exception = NotFound("Nothing is at this path.") if error.status == 404 else error
        return _answer(request[RECORD], known)
    except Exception as error:  # noqa: BLE001 - the one place that answers every failure
        return _answer(request[RECORD], error)


def _answer(record: CallRecord, error: Exception) -> web.Response:
    if isinstance(error, NotTranslated):
        record.route = error.route
    if isinstance(error, LegacyCallError):
        # Its sentence may quote the call.
        record.cause = type(error).__name__
    elif isinstance(error, UpstreamError | InvalidAnswer):
        record.cause = f"{type(error).__name__}: {error}"
    else:
        record.cause = type(error).__name__
        _log.error("defect", exc_info=error)
    response = short_answer(answer_to(error))
    if isinstance(error, BodyTooLarge | RequestTimeout):
        # The rest of the body may be long in coming (RFC 9110, sections 15.5.9 and 15.5.14).
        response.force_close()
    return response
