"""The sandbox over HTTP: routes, the checks every call has to pass, and answers as JSON.

What a call means is in invoices.py, messages.py and paging.py; what is kept, in state.py.
"""

import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime

import msgspec
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from bridge.sandbox import paging
from bridge.sandbox.errors import (
    MalformedBodyError,
    NotFoundError,
    RequestError,
    UnprocessableError,
)
from bridge.sandbox.invoices import suggest
from bridge.sandbox.messages import read_new_message
from bridge.sandbox.seeds import (
    SANDBOX_ACCOUNT_ID,
    SANDBOX_LIMITED_TOKEN,
    SANDBOX_TOKEN,
    USERS,
)
from bridge.sandbox.state import SandboxState, open_state
from bridge.sandbox.throttle import SlidingWindow
from bridge.sandbox.times import write_time

__all__ = ["SANDBOX_ACCOUNT_ID", "SANDBOX_LIMITED_TOKEN", "SANDBOX_TOKEN", "create_sandbox"]

MAX_BODY_BYTES = 1024 * 1024

_LARGEST_ID = 2**63 - 1

_STATE = web.AppKey("state", SandboxState)
_CLOCK: web.AppKey[Callable[[], datetime]] = web.AppKey("clock")

logger = logging.getLogger(__name__)


def utc_now() -> datetime:
    """Return the time of day."""
    return datetime.now(UTC)


def create_sandbox(
    *,
    database: str = ":memory:",
    throttle: bool = False,
    clock: Callable[[], datetime] = utc_now,
    monotonic: Callable[[], float] = time.monotonic,
) -> web.Application:
    """Make the application; starting it opens the state and raises SandboxStateError if it can't.

    Args:
        database: a file's path, or ":memory:" for a state that ends with the application.
        throttle: refuse more than 100 calls in 15 seconds with a token, as v2 does.
        clock: answers the aware time that messages are created at.
        monotonic: answers the seconds that the throttle measures with.
    """
    # From the outside in. What is put before the list's head sees a call untouched and an answer
    # ready to leave; behind its end, only calls that the API accepts.
    middlewares: list[Middleware] = [answer_errors_as_json, require_user_agent, authenticate]
    if throttle:
        middlewares.append(limit_rate(SlidingWindow(monotonic)))
    middlewares.append(require_permission)

    app = web.Application(middlewares=middlewares, client_max_size=MAX_BODY_BYTES)
    app[_CLOCK] = clock
    app.cleanup_ctx.append(_keep_state(database))
    messages = "/v2/invoices/{invoice_id:[0-9]+}/messages"
    app.router.add_get(messages, list_messages)
    app.router.add_post(messages, create_message)
    app.router.add_get(f"{messages}/new", suggest_message)
    app.router.add_delete(f"{messages}/{{message_id:[0-9]+}}", delete_message)
    return app


def _keep_state(database: str) -> Callable[[web.Application], AsyncIterator[None]]:
    async def keep_state(app: web.Application) -> AsyncIterator[None]:
        async with open_state(database) as state:
            app[_STATE] = state
            yield

    return keep_state


# The calls, one for each section of the v2 documentation.


async def list_messages(request: web.Request) -> web.Response:
    """List all messages for an invoice."""
    invoice_id = _read_id(request, "invoice_id")
    asked = paging.read_page_request(invoice_id, request.query)
    page = await request.app[_STATE].page(invoice_id, asked.window)
    # Not `request.url`, which fails on a Host header that is none.
    url = f"{request.scheme}://{request.host}{request.path}"
    return _json({"invoice_messages": page.messages, **paging.envelope(asked, page, url)})


async def create_message(request: web.Request) -> web.Response:
    """Create and send a message, or have one of the four events happen to the invoice."""
    message = await request.app[_STATE].create_message(
        _read_id(request, "invoice_id"),
        read_new_message(await request.read()),
        sender=USERS[_bearer_token(request)],
        now=write_time(request.app[_CLOCK]()),
    )
    return _json(message, status=201)


async def suggest_message(request: web.Request) -> web.Response:
    """Retrieve the subject and body a message would have; creates nothing."""
    invoice = await request.app[_STATE].invoice(_read_id(request, "invoice_id"))
    return _json(
        suggest(
            invoice,
            reminder=_read_flag(request, "reminder"),
            thank_you=_read_flag(request, "thank_you"),
        )
    )


async def delete_message(request: web.Request) -> web.Response:
    """Delete a message; the answer's body is empty."""
    await request.app[_STATE].delete_message(
        _read_id(request, "invoice_id"), _read_id(request, "message_id")
    )
    return web.Response(content_type="application/json", charset="utf-8")


def _read_id(request: web.Request, name: str) -> int:
    digits = request.match_info[name].lstrip("0")
    if not 1 <= len(digits) <= len(str(_LARGEST_ID)) or int(digits) > _LARGEST_ID:
        raise NotFoundError("Not found")
    return int(digits)


_FLAGS: Mapping[str, bool] = {"true": True, "1": True, "false": False, "0": False}


def _read_flag(request: web.Request, name: str) -> bool:
    text = request.query.get(name, "false")
    if text not in _FLAGS:
        raise UnprocessableError(f"{name} must be true or false: {text!r}")
    return _FLAGS[text]


# The checks of every call, unknown paths included, in the order they are made.


@web.middleware
async def answer_errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every refusal and failure as `{"message": …}`."""
    try:
        return await handler(request)
    except RequestError as error:
        return _json({"message": str(error)}, status=_STATUSES[type(error)])
    except web.RequestPayloadError:
        return _json({"message": "Request body cannot be read"}, status=400)
    except web.HTTPException as error:
        allow = error.headers.get(hdrs.ALLOW)
        return _json(
            {"message": error.reason},
            status=error.status,
            headers={hdrs.ALLOW: allow} if allow else None,
        )
    except Exception:
        logger.exception("The sandbox failed to serve %s %s", request.method, request.path)
        return _json({"message": "Internal server error"}, status=500)


_STATUSES: Mapping[type[RequestError], int] = {
    MalformedBodyError: 400,
    NotFoundError: 404,
    UnprocessableError: 422,
}


@web.middleware
async def require_user_agent(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse with 400 a call that does not say who is calling (v2 documentation, overview)."""
    if not request.headers.get(hdrs.USER_AGENT, "").strip():
        return _json({"message": "User-Agent header is missing"}, status=400)
    return await handler(request)


@web.middleware
async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse with 401 a token or an account that is missing or unknown.

    The v2 documentation also takes both from the query; the sandbox knows the headers only.
    """
    account = request.headers.get("Harvest-Account-Id", "").strip()
    if _bearer_token(request) not in USERS or account != str(SANDBOX_ACCOUNT_ID):
        return _json(
            _INVALID_TOKEN,
            status=401,
            headers={hdrs.WWW_AUTHENTICATE: 'Bearer realm="Harvest", error="invalid_token"'},
        )
    return await handler(request)


def _bearer_token(request: web.Request) -> str:
    scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


_INVALID_TOKEN: Mapping[str, str] = {
    "error": "invalid_token",
    "error_description": (
        "The access token provided is expired, revoked, malformed or invalid for other reasons."
    ),
}


def limit_rate(window: SlidingWindow) -> Middleware:
    """Make the check that refuses with 429, and the whole seconds to wait, a token's calls."""

    @web.middleware
    async def refuse_too_many(request: web.Request, handler: Handler) -> web.StreamResponse:
        wait = window.admit(_bearer_token(request))
        if wait is not None:
            return _json(
                {"message": "Too many requests"},
                status=429,
                headers={hdrs.RETRY_AFTER: str(math.ceil(wait))},
            )
        return await handler(request)

    return refuse_too_many


@web.middleware
async def require_permission(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse with 403 a user who may not create and edit invoices."""
    if not USERS[_bearer_token(request)].may_edit_invoices:
        return _json({"message": "You may not create and edit invoices"}, status=403)
    return await handler(request)


def _json(
    value: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(value),
        status=status,
        headers=headers,
        content_type="application/json",
        charset="utf-8",
    )
