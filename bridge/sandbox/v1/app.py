"""The sandbox's v1 over HTTP: routes, the checks every call has to pass, and answers as XML.

How an answer is written is in documents.py, how a request is read in requests.py. The state, and
what a write does to it, are the sandbox's own.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from ipaddress import ip_address
from operator import attrgetter
from typing import TypeVar

from aiohttp import BodyPartReader, hdrs, web
from aiohttp.typedefs import Handler, Middleware

from bridge.sandbox.answers import json_answer
from bridge.sandbox.app import CLOCK, STATE
from bridge.sandbox.calls import Calls
from bridge.sandbox.clients import Client, Project
from bridge.sandbox.control import ROOT, Control
from bridge.sandbox.errors import MalformedBodyError, NotFoundError, RequestError, WrongFaultError
from bridge.sandbox.faults import FaultRules, NewRule
from bridge.sandbox.invoices import InvoiceState
from bridge.sandbox.messages import Event, NewMessage
from bridge.sandbox.misbehaviour import Misbehaviour, Sleep, reason
from bridge.sandbox.paging import ABOVE_ALL, Direction, Window
from bridge.sandbox.seeds import (
    COMPANIES,
    PROJECTS,
    SANDBOX_ACCOUNT_ID,
    USERS,
    V1_PASSWORDS,
    owner,
)
from bridge.sandbox.state import SandboxState
from bridge.sandbox.throttle import MAX_CALLS, WINDOW_SECONDS, SlidingWindow
from bridge.sandbox.times import write_time
from bridge.sandbox.users import User
from bridge.sandbox.v1.documents import (
    CLIENT,
    INVOICE,
    MESSAGE,
    PAYMENT,
    PROJECT,
    SHOWN_INVOICE,
    Edition,
    Element,
    InvoiceFor,
    MessageOn,
    PaymentOn,
    errors,
    many,
    one,
    rate_limit_status,
    who_am_i,
    write,
)
from bridge.sandbox.v1.faults import V1_FAULTS
from bridge.sandbox.v1.misbehaviour import DIFFERENCES, V1_CARRY_OUT
from bridge.sandbox.v1.planting import Differences
from bridge.sandbox.v1.receipts import Receipts
from bridge.sandbox.v1.requests import (
    read_event,
    read_login,
    read_new_client,
    read_new_message,
    read_new_payment,
    read_updated_since,
)

MAX_BODY_BYTES = 1024 * 1024
INVOICES_A_PAGE = 50

# What v1 said, to the letter: clients compare it.
NOT_AUTHENTICATED = "Authentication failed for API request."

_LARGEST_ID = 2**63 - 1

_EVENTS: Mapping[str, Event] = {
    "mark_as_sent": Event.SEND,
    "mark_as_closed": Event.CLOSE,
    "re_open": Event.REOPEN,
    "mark_as_draft": Event.DRAFT,
}

_V2 = web.AppKey("v2", web.Application)
_CALLS = web.AppKey("calls", Calls)
_RECEIPTS = web.AppKey("receipts", Receipts)
_WINDOW = web.AppKey("window", SlidingWindow)
_USER = web.RequestKey("user", User)

_Item = TypeVar("_Item")
_id: Callable[[Client | Project], int] = attrgetter("id")

logger = logging.getLogger(__name__)


def create_v1(  # noqa: PLR0913 - each has a default
    v2: web.Application,
    *,
    throttle: bool = False,
    faults: Sequence[NewRule] = (),
    seed: int = 0,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Sleep = asyncio.sleep,
) -> web.Application:
    """Make the application of v1 over the state of `v2`, a sandbox that runs for longer.

    Args:
        v2: what `create_sandbox` made: its state and its clock are v1's, too.
        throttle: refuse more than 100 calls of an account in 15 seconds, as v1 did.
        faults: the rules of misbehaviour to start with; more can be given at `/sandbox/faults`.
        seed: what rules with a probability depend on.
        monotonic: answers the seconds that the throttle measures with.
        sleep: waits the seconds that a fault takes.
    """
    rules = FaultRules(faults, seed=seed, monotonic=monotonic)
    calls = Calls()
    window = SlidingWindow(monotonic)
    misbehaviour = Misbehaviour(
        rules,
        account_and_token=_account_and_token,
        sleep=sleep,
        carry_out=V1_CARRY_OUT,
        error=head,
    )
    # From the outside in; errors are answered twice, as v2's are.
    middlewares: list[Middleware] = [
        let_control_pass,
        calls.record,
        answer_errors,
        misbehaviour.misbehave,
        answer_errors,
        authenticate,
        limit_rate(window, refuse=throttle),
        require_permission,
    ]
    app = web.Application(middlewares=middlewares, client_max_size=MAX_BODY_BYTES)
    app[_V2] = v2
    app[_CALLS] = calls
    app[_WINDOW] = window
    app[_RECEIPTS] = Receipts()
    app[DIFFERENCES] = Differences()
    app.on_shutdown.append(misbehaviour.stop)
    app.on_cleanup.append(forget_receipts)
    _add_routes(app.router)
    Control(rules, calls, V1_FAULTS).add_routes(app.router)
    app.router.add_get(f"{ROOT}differences", list_differences)
    app.router.add_delete(f"{ROOT}differences", forget_differences)
    return app


def _add_routes(router: web.UrlDispatcher) -> None:
    ends = r"{ends:(?:\.xml)?/?}"
    root = "/{root:invoices?}"
    invoice = f"{root}/{{invoice_id:[0-9]+}}"
    routes: Mapping[tuple[str, str], Handler] = {
        (hdrs.METH_GET, "/account/who_am_i"): show_caller,
        (hdrs.METH_GET, "/account/rate_limit_status"): show_rate_limit_status,
        (hdrs.METH_GET, "/clients"): list_clients,
        (hdrs.METH_POST, "/clients"): create_client,
        (hdrs.METH_GET, "/clients/{client_id:[0-9]+}"): show_client,
        (hdrs.METH_GET, "/projects"): list_projects,
        (hdrs.METH_GET, "/projects/{project_id:[0-9]+}"): show_project,
        (hdrs.METH_GET, "/expenses/{expense_id:[0-9]+}/receipt"): show_receipt,
        (hdrs.METH_POST, "/expenses/{expense_id:[0-9]+}/receipt"): attach_receipt,
        (hdrs.METH_GET, root): list_invoices,
        (hdrs.METH_GET, invoice): show_invoice,
        (hdrs.METH_GET, f"{invoice}/messages"): list_messages,
        (hdrs.METH_POST, f"{invoice}/messages"): create_message,
        (hdrs.METH_POST, f"{invoice}/messages/{{event:{'|'.join(_EVENTS)}}}"): change_state,
        (hdrs.METH_GET, f"{invoice}/{{_:messages?}}/{{message_id:[0-9]+}}"): show_message,
        (hdrs.METH_DELETE, f"{invoice}/{{_:messages?}}/{{message_id:[0-9]+}}"): delete_message,
        (hdrs.METH_GET, f"{invoice}/payments"): list_payments,
        (hdrs.METH_POST, f"{invoice}/payments"): create_payment,
        (hdrs.METH_GET, f"{invoice}/{{_:payments?}}/{{payment_id:[0-9]+}}"): show_payment,
        (hdrs.METH_DELETE, f"{invoice}/{{_:payments?}}/{{payment_id:[0-9]+}}"): delete_payment,
    }
    for (method, path), handler in routes.items():
        router.add_route(method, f"{path}{ends}", handler)
        if method == hdrs.METH_GET:
            router.add_route(hdrs.METH_HEAD, f"{path}{ends}", handler)


# The calls, one for each section of v1's documentation.


async def show_caller(request: web.Request) -> web.Response:
    """Who am I."""
    user = request[_USER]
    return _document(who_am_i(user, COMPANIES[user.account_id], _now(request)))


async def show_rate_limit_status(request: web.Request) -> web.Response:
    """How near the account is to its limit."""
    count = request.app[_WINDOW].count(str(request[_USER].account_id))
    return _document(
        rate_limit_status(count, _now(request), calls=MAX_CALLS, seconds=WINDOW_SECONDS)
    )


async def list_clients(request: web.Request) -> web.Response:
    """Show all clients."""
    since = read_updated_since(request.query.get("updated_since"))
    clients = await _state(request).clients(request[_USER].account_id)
    return _document(many(CLIENT, [each for each in clients if each.updated_at >= since]))


async def show_client(request: web.Request) -> web.Response:
    """Show one client."""
    clients = await _state(request).clients(request[_USER].account_id)
    return _document(one(CLIENT, _found(clients, _read_id(request, "client_id"), _id)))


async def create_client(request: web.Request) -> web.Response:
    """Create a client."""
    new = read_new_client(
        await request.read(),
        account_id=request[_USER].account_id,
        now=write_time(_clock(request)),
    )
    client = await _state(request).create_client(new)
    return _created(f"/clients/{client.id}")


async def list_projects(request: web.Request) -> web.Response:
    """Show all projects, or those for a client."""
    since = read_updated_since(request.query.get("updated_since"))
    client = request.query.get("client")
    clients = {each.id for each in await _state(request).clients(request[_USER].account_id)}
    return _document(
        many(
            PROJECT,
            [
                each
                for each in PROJECTS
                if each.client_id in clients
                and client in {None, str(each.client_id)}
                and each.updated_at >= since
            ],
        )
    )


async def show_project(request: web.Request) -> web.Response:
    """Show one project."""
    clients = {each.id for each in await _state(request).clients(request[_USER].account_id)}
    projects = [each for each in PROJECTS if each.client_id in clients]
    return _document(one(PROJECT, _found(projects, _read_id(request, "project_id"), _id)))


async def list_invoices(request: web.Request) -> web.Response:
    """Browse invoices, 50 a page."""
    status, client = request.query.get("status"), request.query.get("client")
    page = request.query.get("page", "1")
    start = (max(1, int(page)) - 1) * INVOICES_A_PAGE if page.isdecimal() else 0
    invoices = [
        each
        for each in await _invoices(request)
        if client in {None, str(each.client.id)} and (status is None or _has_status(each, status))
    ]
    return _document(many(INVOICE, invoices[start : start + INVOICES_A_PAGE]))


def _has_status(of: InvoiceFor, status: str) -> bool:
    if status == "unpaid":
        return of.invoice.state is InvoiceState.OPEN
    return of.state == status


async def show_invoice(request: web.Request) -> web.Response:
    """Show an invoice with its line items."""
    found = _found(
        await _invoices(request), _read_id(request, "invoice_id"), lambda of: of.invoice.id
    )
    return _document(one(SHOWN_INVOICE, found))


async def list_messages(request: web.Request) -> web.Response:
    """Show all messages sent for an invoice."""
    invoice_id = _invoice_id(request)
    since = read_updated_since(request.query.get("updated_since"))
    page = await _state(request).messages(invoice_id, _all_since(since))
    items = [MessageOn(invoice_id, each) for each in page.items]
    return _document(many(MESSAGE[_edition(request)], items))


async def show_message(request: web.Request) -> web.Response:
    """Show a particular message."""
    invoice_id = _invoice_id(request)
    message = await _state(request).message(invoice_id, _read_id(request, "message_id"))
    return _document(one(MESSAGE[_edition(request)], MessageOn(invoice_id, message)))


async def create_message(request: web.Request) -> web.Response:
    """Create a new message, which is mailed."""
    invoice_id = _invoice_id(request)
    message_id = await _create_message(request, invoice_id, read_new_message(await request.read()))
    return _created(f"/{request.match_info['root']}/{invoice_id}/messages/{message_id}")


async def change_state(request: web.Request) -> web.Response:
    """Mark an invoice as sent, closed, open again or a draft; a message records it."""
    event = _EVENTS[request.match_info["event"]]
    await _create_message(request, _invoice_id(request), read_event(event, await request.read()))
    return head(HTTPStatus.OK)


async def _create_message(request: web.Request, invoice_id: int, new: NewMessage) -> int:
    message = await _state(request).create_message(
        invoice_id, new, sender=request[_USER], now=write_time(_clock(request))
    )
    request.app[_CALLS].created += 1
    return message.id


async def delete_message(request: web.Request) -> web.Response:
    """Delete an existing message."""
    await _state(request).delete_message(_invoice_id(request), _read_id(request, "message_id"))
    return _deleted(request)


async def list_payments(request: web.Request) -> web.Response:
    """Show all payments recorded for an invoice."""
    invoice_id = _invoice_id(request)
    page = await _state(request).payments(invoice_id, _all_since(""))
    items = [PaymentOn(invoice_id, each) for each in page.items]
    return _document(many(PAYMENT[_edition(request)], items))


async def show_payment(request: web.Request) -> web.Response:
    """Show a particular payment."""
    invoice_id = _invoice_id(request)
    payment = await _state(request).payment(invoice_id, _read_id(request, "payment_id"))
    return _document(one(PAYMENT[_edition(request)], PaymentOn(invoice_id, payment)))


async def create_payment(request: web.Request) -> web.Response:
    """Create a new payment. Every edition prints its Location under `/invoice/`."""
    invoice_id = _invoice_id(request)
    payment = await _state(request).create_payment(
        invoice_id,
        read_new_payment(await request.read()),
        recorder=request[_USER],
        now=write_time(_clock(request)),
    )
    request.app[_CALLS].created += 1
    return _created(f"/invoice/{invoice_id}/payments/{payment.id}")


async def delete_payment(request: web.Request) -> web.Response:
    """Delete an existing payment."""
    await _state(request).delete_payment(_invoice_id(request), _read_id(request, "payment_id"))
    return _deleted(request)


async def attach_receipt(request: web.Request) -> web.Response:
    """Attach a file to an expense: the first part of a form, of any length."""
    expense_id = _read_id(request, "expense_id")
    if not request.content_type.startswith("multipart/"):
        raise MalformedBodyError("The body is no form with a file")
    part = await (await request.multipart()).next()
    if not isinstance(part, BodyPartReader):
        raise MalformedBodyError("The form has no file")
    await request.app[_RECEIPTS].keep(
        (request[_USER].account_id, expense_id),
        part.headers.get(hdrs.CONTENT_TYPE, "application/octet-stream"),
        part,
    )
    return head(HTTPStatus.OK)


async def show_receipt(request: web.Request) -> web.StreamResponse:
    """Show the file that is attached to an expense."""
    place = (request[_USER].account_id, _read_id(request, "expense_id"))
    receipt = request.app[_RECEIPTS].find(place)
    answer = web.StreamResponse(headers={hdrs.CONTENT_TYPE: receipt.content_type})
    answer.content_length = receipt.length
    await answer.prepare(request)
    if request.method != hdrs.METH_HEAD:
        async for piece in receipt.pieces():
            await answer.write(piece)
    return answer


async def list_differences(request: web.Request) -> web.Response:
    """List the differences that were planted in answers."""
    return json_answer(request.app[DIFFERENCES].report())


async def forget_receipts(app: web.Application) -> None:
    """Forget the files, which end with the application."""
    app[_RECEIPTS].close()


async def forget_differences(request: web.Request) -> web.Response:
    """Forget the differences that were planted."""
    request.app[DIFFERENCES].forget()
    return web.Response(status=204)


async def _invoices(request: web.Request) -> list[InvoiceFor]:
    account_id = request[_USER].account_id
    clients = {each.name: each for each in await _state(request).clients(account_id)}
    return [
        InvoiceFor(invoice, due, clients[invoice.client])
        for invoice, due in await _state(request).invoices(account_id)
    ]


def _state(request: web.Request) -> SandboxState:
    return request.app[_V2][STATE]


def _clock(request: web.Request) -> datetime:
    return request.app[_V2][CLOCK]()


def _now(request: web.Request) -> datetime:
    return _clock(request).astimezone(UTC)


def _all_since(updated_since: str) -> Window:
    return Window(Direction.OLDER, ABOVE_ALL, offset=0, limit=-1, updated_since=updated_since)


def _edition(request: web.Request) -> Edition:
    return Edition.CLASSIC if request.match_info["root"] == "invoice" else Edition.FINAL


def _invoice_id(request: web.Request) -> int:
    invoice_id = _read_id(request, "invoice_id")
    if owner(invoice_id) != request[_USER].account_id:
        raise NotFoundError("Not found")
    return invoice_id


def _read_id(request: web.Request, name: str) -> int:
    digits = request.match_info[name].lstrip("0")
    if not 1 <= len(digits) <= len(str(_LARGEST_ID)) or int(digits) > _LARGEST_ID:
        raise NotFoundError("Not found")
    return int(digits)


def _found(items: Iterable[_Item], item_id: int, id_of: Callable[[_Item], int]) -> _Item:
    for item in items:
        if id_of(item) == item_id:
            return item
    raise NotFoundError("Not found")


# Answers.


def _document(document: Element, *, status: int = HTTPStatus.OK) -> web.Response:
    return _answer(status, write(document))


def head(status: int) -> web.Response:
    """Make an answer that says no more than its status: the body is a blank, as Rails wrote it."""
    return _answer(status, b" ")


def _answer(status: int, body: bytes) -> web.Response:
    return web.Response(
        body=body,
        status=status,
        headers={
            "Status": f"{int(status)} {reason(status)}".rstrip(),
            hdrs.CACHE_CONTROL: "private, max-age=0, must-revalidate",
        },
        content_type="application/xml",
        charset="utf-8",
    )


def _created(location: str) -> web.Response:
    answer = head(HTTPStatus.CREATED)
    answer.headers[hdrs.LOCATION] = location
    return answer


def _deleted(request: web.Request) -> web.Response:
    request.app[_CALLS].deleted += 1
    return head(HTTPStatus.OK)


# The checks of every call, unknown paths included, in the order they are made.


@web.middleware
async def let_control_pass(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Serve the control endpoint past all that v1's calls have to pass, faults included."""
    if not request.path.startswith(ROOT):
        return await handler(request)
    try:
        return await request.match_info.handler(request)
    except WrongFaultError as error:
        return json_answer({"message": str(error)}, status=400)
    except NotFoundError as error:
        return json_answer({"message": str(error)}, status=404)


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every refusal and failure as v1 did.

    What cannot be found has no body, and neither has what v1 did not route: v1 knew no 405. What
    cannot be done is 400, with a sentence in `Hint`.
    """
    try:
        return await handler(request)
    except NotFoundError:
        return head(HTTPStatus.NOT_FOUND)
    except RequestError as error:
        answer = _document(errors(str(error)), status=HTTPStatus.BAD_REQUEST)
        answer.headers["Hint"] = str(error).encode("ascii", "backslashreplace").decode()
        return answer
    except web.RequestPayloadError:
        return head(HTTPStatus.BAD_REQUEST)
    except web.HTTPException as error:
        unrouted = error.status in {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}
        return head(HTTPStatus.NOT_FOUND if unrouted else error.status)
    except Exception:
        logger.exception("The sandbox's v1 failed to serve %s %s", request.method, request.path)
        return head(HTTPStatus.INTERNAL_SERVER_ERROR)


@web.middleware
async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse with 401 a login that is missing, wrong, or of another account."""
    user = _user(request)
    if user is None:
        answer = web.Response(text=NOT_AUTHENTICATED, status=HTTPStatus.UNAUTHORIZED)
        answer.headers[hdrs.WWW_AUTHENTICATE] = 'Basic realm="Harvest"'
        return answer
    request[_USER] = user
    return await handler(request)


def _user(request: web.Request) -> User | None:
    _, token = _account_and_token(request)
    return USERS.get(token)


def _account_and_token(request: web.Request) -> tuple[str, str]:
    """Return the account whose subdomain is called, and the v2 token of who calls; or blanks."""
    account_id = _account_id(request.host)
    given = read_login(request.headers.get(hdrs.AUTHORIZATION, ""))
    if account_id is None or given is None:
        return "", ""
    login, password = given
    for token, user in USERS.items():
        known = (user.account_id, user.email, V1_PASSWORDS[token])
        if known == (account_id, login.strip().lower(), password):
            return str(account_id), token
    return str(account_id), ""


def _account_id(host: str) -> int | None:
    """Return the account of a host's subdomain; that of a host without one is the first."""
    name = host.rpartition("]")[0].lstrip("[") or host.partition(":")[0]
    try:
        ip_address(name)
    except ValueError:
        subdomain, dot, _ = name.lower().partition(".")
        return SUBDOMAINS.get(subdomain) if dot else SANDBOX_ACCOUNT_ID
    return SANDBOX_ACCOUNT_ID


SUBDOMAINS: Mapping[str, int] = {
    company.full_domain.partition(".")[0]: account_id for account_id, company in COMPANIES.items()
}
"""The accounts, by the first label of the host that v1 is called at."""


def limit_rate(window: SlidingWindow, *, refuse: bool) -> Middleware:
    """Make the check that counts an account's calls, and can refuse with 503 those too many."""

    @web.middleware
    async def refuse_too_many(request: web.Request, handler: Handler) -> web.StreamResponse:
        wait = window.admit(str(request[_USER].account_id))
        if wait is None or not refuse:
            return await handler(request)
        answer = head(HTTPStatus.SERVICE_UNAVAILABLE)
        answer.headers[hdrs.RETRY_AFTER] = str(int(wait) + 1)
        return answer

    return refuse_too_many


@web.middleware
async def require_permission(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer 404, as v1 did, to what a user may not see; who they are is shown to all."""
    if not request.path.startswith("/account/") and not request[_USER].may_edit_invoices:
        raise NotFoundError("Not found")
    return await handler(request)
