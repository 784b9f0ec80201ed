"""The sandbox over HTTP: routes, the checks every call has to pass, and answers as JSON.

What a call means is in invoices.py, messages.py, payments.py and paging.py; what is kept, in
state.py; how the sandbox is told to misbehave, in faults.py, misbehaviour.py and control.py.
"""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from bridge.sandbox import paging
from bridge.sandbox.answers import json_answer
from bridge.sandbox.calls import Calls
from bridge.sandbox.control import ROOT, Control
from bridge.sandbox.errors import (
    MalformedBodyError,
    NotFoundError,
    RequestError,
    UnprocessableError,
    WrongFaultError,
)
from bridge.sandbox.faults import FaultRules, NewRule
from bridge.sandbox.invoices import suggest
from bridge.sandbox.messages import read_new_message
from bridge.sandbox.misbehaviour import Misbehaviour, Sleep, too_many
from bridge.sandbox.paging import Collection, Item, Page, Window
from bridge.sandbox.payments import read_new_payment
from bridge.sandbox.seeds import (
    COMPANIES,
    SANDBOX_ACCOUNT_ID,
    SANDBOX_LIMITED_TOKEN,
    SANDBOX_SECOND_ACCOUNT_ID,
    SANDBOX_SECOND_TOKEN,
    SANDBOX_TOKEN,
    SECOND_INVOICE_ID,
    USERS,
    owner,
)
from bridge.sandbox.state import SandboxState, open_state
from bridge.sandbox.throttle import SlidingWindow
from bridge.sandbox.times import write_time

__all__ = [
    "SANDBOX_ACCOUNT_ID",
    "SANDBOX_LIMITED_TOKEN",
    "SANDBOX_SECOND_ACCOUNT_ID",
    "SANDBOX_SECOND_TOKEN",
    "SANDBOX_TOKEN",
    "SECOND_INVOICE_ID",
    "create_sandbox",
]

MAX_BODY_BYTES = 1024 * 1024

_LARGEST_ID = 2**63 - 1

_ME, _COMPANY = "/v2/users/me", "/v2/company"

STATE = web.AppKey("state", SandboxState)
_CALLS = web.AppKey("calls", Calls)
CLOCK: web.AppKey[Callable[[], datetime]] = web.AppKey("clock")

logger = logging.getLogger(__name__)


def utc_now() -> datetime:
    """Return the time of day."""
    return datetime.now(UTC)


def create_sandbox(  # noqa: PLR0913 - each has a default
    *,
    database: str = ":memory:",
    throttle: bool = False,
    standing_copy: str | None = None,
    company_for_admins: bool = False,
    faults: Sequence[NewRule] = (),
    seed: int = 0,
    clock: Callable[[], datetime] = utc_now,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Sleep = asyncio.sleep,
) -> web.Application:
    """Make the application; starting it opens the state and raises SandboxStateError if it can't.

    Args:
        database: a file's path, or ":memory:" for a state that ends with the application.
        throttle: refuse more than 100 calls in 15 seconds with a token, as v2 does.
        standing_copy: an address that every mail goes to, too, as an account may have it.
        company_for_admins: refuse the company to who is no administrator, as v2 did once.
        faults: the rules of misbehaviour to start with; more can be given at `/sandbox/faults`.
        seed: what rules with a probability depend on.
        clock: answers the aware time that messages and payments are created at.
        monotonic: answers the seconds that the throttle measures with.
        sleep: waits the seconds that a fault takes.
    """
    rules = FaultRules(faults, seed=seed, monotonic=monotonic)
    calls = Calls()
    misbehaviour = Misbehaviour(rules, account_and_token=_account_and_token, sleep=sleep)
    # From the outside in. Errors become JSON twice: within, so that a fault can spoil the API's
    # refusals too; without, because asking for a fault can be wrong itself.
    middlewares: list[Middleware] = [
        let_control_pass,
        calls.record,
        answer_errors_as_json,
        misbehaviour.misbehave,
        answer_errors_as_json,
        serve_nothing_beside,
        require_user_agent,
        authenticate,
    ]
    if throttle:
        middlewares.append(limit_rate(SlidingWindow(monotonic)))
    middlewares.append(require_permission(company_for_admins=company_for_admins))

    app = web.Application(middlewares=middlewares, client_max_size=MAX_BODY_BYTES)
    app[CLOCK] = clock
    app[_CALLS] = calls
    app.on_shutdown.append(misbehaviour.stop)
    app.cleanup_ctx.append(_keep_state(database, standing_copy))
    invoice = "/v2/invoices/{invoice_id:[0-9]+}"
    messages = f"{invoice}/{Collection.MESSAGES}"
    app.router.add_get(messages, list_messages)
    app.router.add_post(messages, create_message)
    app.router.add_get(f"{messages}/new", suggest_message)
    app.router.add_delete(f"{messages}/{{message_id:[0-9]+}}", delete_message)
    payments = f"{invoice}/{Collection.PAYMENTS}"
    app.router.add_get(payments, list_payments)
    app.router.add_post(payments, create_payment)
    app.router.add_delete(f"{payments}/{{payment_id:[0-9]+}}", delete_payment)
    app.router.add_get(_ME, show_me)
    app.router.add_get(_COMPANY, show_company)
    Control(rules, calls).add_routes(app.router)
    return app


def _keep_state(
    database: str, standing_copy: str | None
) -> Callable[[web.Application], AsyncIterator[None]]:
    async def keep_state(app: web.Application) -> AsyncIterator[None]:
        async with open_state(database, standing_copy=standing_copy) as state:
            app[STATE] = state
            yield

    return keep_state


# The calls, one for each section of the v2 documentation.


async def list_messages(request: web.Request) -> web.Response:
    """List all messages for an invoice."""
    return await _list(request, Collection.MESSAGES, request.app[STATE].messages)


async def create_message(request: web.Request) -> web.Response:
    """Create and send a message, or have one of the four events happen to the invoice."""
    message = await request.app[STATE].create_message(
        _invoice_id(request),
        read_new_message(await request.read()),
        sender=USERS[_bearer_token(request)],
        now=write_time(request.app[CLOCK]()),
    )
    return _created(request, message)


async def suggest_message(request: web.Request) -> web.Response:
    """Retrieve the subject and body a message would have; creates nothing."""
    invoice = await request.app[STATE].invoice(_invoice_id(request))
    return json_answer(
        suggest(
            invoice,
            reminder=_read_flag(request, "reminder"),
            thank_you=_read_flag(request, "thank_you"),
        )
    )


async def delete_message(request: web.Request) -> web.Response:
    """Delete a message; the answer's body is empty."""
    await request.app[STATE].delete_message(_invoice_id(request), _read_id(request, "message_id"))
    return _deleted(request)


async def list_payments(request: web.Request) -> web.Response:
    """List all payments for an invoice."""
    return await _list(request, Collection.PAYMENTS, request.app[STATE].payments)


async def create_payment(request: web.Request) -> web.Response:
    """Create a payment; thanks for it are mailed unless the call says otherwise."""
    payment = await request.app[STATE].create_payment(
        _invoice_id(request),
        read_new_payment(await request.read()),
        recorder=USERS[_bearer_token(request)],
        now=write_time(request.app[CLOCK]()),
    )
    return _created(request, payment)


async def delete_payment(request: web.Request) -> web.Response:
    """Delete a payment; the answer's body is empty."""
    await request.app[STATE].delete_payment(_invoice_id(request), _read_id(request, "payment_id"))
    return _deleted(request)


async def show_me(request: web.Request) -> web.Response:
    """Retrieve the currently authenticated user."""
    return json_answer(USERS[_bearer_token(request)].described())


async def show_company(request: web.Request) -> web.Response:
    """Retrieve the company of the currently authenticated user."""
    return json_answer(COMPANIES[USERS[_bearer_token(request)].account_id])


async def _list(
    request: web.Request,
    collection: Collection,
    find: Callable[[int, Window], Awaitable[Page[Item]]],
) -> web.Response:
    invoice_id = _invoice_id(request)
    asked = paging.read_page_request(collection, invoice_id, request.query)
    page = await find(invoice_id, asked.window)
    # Not `request.url`, which fails on a Host header that is none.
    url = f"{request.scheme}://{request.host}{request.path}"
    return json_answer({f"invoice_{collection}": page.items, **paging.envelope(asked, page, url)})


def _created(request: web.Request, item: object) -> web.Response:
    request.app[_CALLS].created += 1
    return json_answer(item, status=201)


def _deleted(request: web.Request) -> web.Response:
    request.app[_CALLS].deleted += 1
    return web.Response(content_type="application/json", charset="utf-8")


def _invoice_id(request: web.Request) -> int:
    invoice_id = _read_id(request, "invoice_id")
    if owner(invoice_id) != USERS[_bearer_token(request)].account_id:
        raise NotFoundError(f"Invoice {invoice_id} does not exist")
    return invoice_id


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


@web.middleware
async def let_control_pass(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Serve the control endpoint past all that the API's calls have to pass, faults included."""
    if request.path.startswith(ROOT):
        return await answer_errors_as_json(request, request.match_info.handler)
    return await handler(request)


# The checks of every call, unknown paths included, in the order they are made.


@web.middleware
async def answer_errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every refusal and failure as `{"message": …}`."""
    try:
        return await handler(request)
    except RequestError as error:
        return json_answer({"message": str(error)}, status=_STATUSES[type(error)])
    except web.RequestPayloadError:
        return json_answer({"message": "Request body cannot be read"}, status=400)
    except web.HTTPException as error:
        allow = error.headers.get(hdrs.ALLOW)
        return json_answer(
            {"message": error.reason},
            status=error.status,
            headers={hdrs.ALLOW: allow} if allow else None,
        )
    except Exception:
        logger.exception("The sandbox failed to serve %s %s", request.method, request.path)
        return json_answer({"message": "Internal server error"}, status=500)


_STATUSES: Mapping[type[RequestError], int] = {
    MalformedBodyError: 400,
    WrongFaultError: 400,
    NotFoundError: 404,
    UnprocessableError: 422,
}


@web.middleware
async def serve_nothing_beside(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer 404 outside of the API, where no web server asks for a token."""
    if not request.path.startswith("/v2/"):
        raise NotFoundError("Not found")
    return await handler(request)


@web.middleware
async def require_user_agent(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse with 400 a call that does not say who is calling (v2 documentation, overview)."""
    if not request.headers.get(hdrs.USER_AGENT, "").strip():
        return json_answer({"message": "User-Agent header is missing"}, status=400)
    return await handler(request)


@web.middleware
async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse with 401 a token or an account that is missing or unknown.

    The v2 documentation also takes both from the query; the sandbox knows the headers only.
    """
    account_id, token = _account_and_token(request)
    user = USERS.get(token)
    if user is None or account_id != str(user.account_id):
        return json_answer(
            _INVALID_TOKEN,
            status=401,
            headers={hdrs.WWW_AUTHENTICATE: 'Bearer realm="Harvest", error="invalid_token"'},
        )
    return await handler(request)


def _account_and_token(request: web.Request) -> tuple[str, str]:
    return request.headers.get("Harvest-Account-Id", "").strip(), _bearer_token(request)


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
            return too_many(math.ceil(wait))
        return await handler(request)

    return refuse_too_many


def require_permission(*, company_for_admins: bool) -> Middleware:
    """Make the check that refuses with 403 what a user may not do.

    Who they are is shown to all, and so is their company, but `company_for_admins`.
    """

    @web.middleware
    async def refuse_forbidden(request: web.Request, handler: Handler) -> web.StreamResponse:
        user = USERS[_bearer_token(request)]
        if request.path == _COMPANY and company_for_admins and not user.is_administrator:
            return json_answer({"message": "Admin permissions required"}, status=403)
        if request.path not in {_ME, _COMPANY} and not user.may_edit_invoices:
            return json_answer({"message": "You may not create and edit invoices"}, status=403)
        return await handler(request)

    return refuse_forbidden
