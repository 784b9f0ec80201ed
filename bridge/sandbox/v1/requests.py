"""What clients of v1 sent, read: messages, payments, clients, and who is calling. Pure."""

import base64
import binascii
from decimal import Decimal, InvalidOperation
from email.utils import getaddresses

from lxml import etree

from bridge.sandbox.clients import Client
from bridge.sandbox.errors import MalformedBodyError, UnprocessableError
from bridge.sandbox.messages import Event, NewMessage, Recipient, checked
from bridge.sandbox.payments import NewPayment, payable
from bridge.sandbox.times import read_date, read_lower_bound, read_moment

_BOOLEANS = {"true": True, "1": True, "t": True, "false": False, "0": False, "f": False}


def read_login(authorization: str) -> tuple[str, str] | None:
    """Return the login and password of HTTP Basic; v1 let parentheses around them pass."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        pair = base64.b64decode(encoded.strip().strip("()"), validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    login, colon, password = pair.partition(":")
    return (login, password) if colon else None


def read_new_message(body: bytes) -> NewMessage:
    """Read the body of a call that sends a message.

    Raises:
        MalformedBodyError: it is no XML, or another document.
        UnprocessableError: it makes no message.
    """
    given = _parameters(body, "invoice-message")
    return checked(
        NewMessage(
            recipients=_recipients(
                given.get("recipients") or given.get("full-recipient-list") or ""
            ),
            subject=given.get("subject"),
            body=given.get("body"),
            attach_pdf=_flag(given, "attach-pdf"),
            send_me_a_copy=_flag(given, "send-me-a-copy"),
            thank_you=_flag(given, "thank-you"),
        )
    )


def read_event(event: Event, body: bytes) -> NewMessage:
    """Read the body, which may be none, of a call that changes the invoice's state.

    Raises:
        MalformedBodyError: it is no XML, or another document.
    """
    if event is Event.REOPEN or not body.strip():
        return NewMessage(event_type=event)
    return NewMessage(event_type=event, body=_parameters(body, "invoice-message").get("body"))


def read_new_payment(body: bytes) -> NewPayment:
    """Read the body of a call that records a payment; v1 never mailed because of one.

    Raises:
        MalformedBodyError: it is no XML, or another document.
        UnprocessableError: it makes no payment.
    """
    given = _parameters(body, "payment")
    try:
        amount = Decimal(given.get("amount") or "")
    except InvalidOperation as error:
        raise UnprocessableError("Amount is not a number") from error
    return NewPayment(
        amount=payable(amount),
        paid_at=_moment(given.get("paid-at")),
        notes=given.get("notes"),
        send_thank_you=False,
    )


def read_new_client(body: bytes, *, account_id: int, now: str) -> Client:
    """Read the body of a call that creates a client; its id is still to be given (0).

    Raises:
        MalformedBodyError: it is no XML, or another document.
        UnprocessableError: it has no name.
    """
    given = _parameters(body, "client")
    name = (given.get("name") or "").strip()
    if not name:
        raise UnprocessableError("Name can't be blank")
    return Client(
        id=0,
        account_id=account_id,
        name=name,
        currency=given.get("currency") or "United States Dollar - USD",
        currency_symbol=given.get("currency-symbol") or "$",
        active=_flag(given, "active", default=True),
        details=given.get("details"),
        created_at=now,
        updated_at=now,
    )


def read_updated_since(text: str | None) -> str:
    """Return a filter's time as the state compares it; nothing where none was given.

    Raises:
        UnprocessableError: it is no time.
    """
    if not text:
        return ""
    try:
        return read_lower_bound(text)
    except ValueError as error:
        raise UnprocessableError("updated_since is not a time") from error


def _parameters(body: bytes, root: str) -> dict[str, str | None]:
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, remove_comments=True, remove_pis=True
    )
    try:
        document = etree.fromstring(body, parser)
    except etree.XMLSyntaxError as error:
        raise MalformedBodyError("The body is not well-formed XML") from error
    if document.getroottree().docinfo.internalDTD is not None:
        raise MalformedBodyError("The body has a document type")
    if _name(document) != root:
        raise MalformedBodyError(f"The root is not {root}")
    return {_name(child): child.text for child in document}


def _name(element: etree._Element) -> str:
    return str(element.tag).replace("_", "-")


def _flag(given: dict[str, str | None], name: str, *, default: bool = False) -> bool:
    text = (given.get(name) or "").strip().lower()
    return _BOOLEANS.get(text, default)


def _recipients(text: str) -> tuple[Recipient, ...]:
    return tuple(
        Recipient(name=name or None, email=email)
        for name, email in getaddresses([text])
        if name or email
    )


def _moment(text: str | None) -> str | None:
    if text is None or not text.strip():
        return None
    try:
        return f"{read_date(text.strip())}T00:00:00Z"
    except ValueError:
        pass
    try:
        return read_moment(text.strip())
    except ValueError as error:
        raise UnprocessableError("Paid at is not a time") from error
