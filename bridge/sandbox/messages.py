"""The invoice message: as it is answered, as a request asks for it, and the checks in between.

Pure, and not about the invoice a message belongs to: its states are in invoices.py.
"""

import re
from enum import StrEnum

import msgspec

from bridge.sandbox.bodies import read_body
from bridge.sandbox.errors import UnprocessableError
from bridge.sandbox.users import User


class Recipient(msgspec.Struct, frozen=True, kw_only=True):
    """One addressee; the v2 documentation makes `email` required and `name` optional."""

    name: str | None = None
    email: str


class Event(StrEnum):
    """The v2 documentation's `event_type`: what happens to the invoice, with no e-mail sent."""

    SEND = "send"
    CLOSE = "close"
    REOPEN = "re-open"
    DRAFT = "draft"


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """The v2 invoice message object, its fields in the order the v2 documentation prints them.

    `created_at` and `updated_at` are UTC, `YYYY-MM-DDTHH:MM:SSZ`, so they sort as text.
    `include_link_to_client_invoice` is the invoice's: whether it has payment options now.
    """

    id: int
    sent_by: str
    sent_by_email: str
    sent_from: str
    sent_from_email: str
    include_link_to_client_invoice: bool = False
    send_me_a_copy: bool = False
    thank_you: bool = False
    reminder: bool = False
    send_reminder_on: str | None = None
    created_at: str
    updated_at: str
    attach_pdf: bool = False
    event_type: Event | None = None
    recipients: tuple[Recipient, ...] = ()
    subject: str | None = None
    body: str | None = None


class NewMessage(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of a create call, with the defaults of the v2 documentation.

    `include_link_to_client_invoice` is true by default because the documentation ignores true:
    only false does something.
    """

    recipients: tuple[Recipient, ...] = ()
    subject: str | None = None
    body: str | None = None
    include_link_to_client_invoice: bool = True
    attach_pdf: bool = False
    send_me_a_copy: bool = False
    thank_you: bool = False
    event_type: Event | None = None


# The documentation says no more than "email". So this refuses what nobody would call an address
# and leaves the finer points (RFC 5321 lengths, top-level domains) to whoever delivers the mail.
_EMAIL = re.compile(
    r"""
    (?: [^\s@<>(),;:\\"]+ | "(?:[^"\\\r\n] | \\[^\r\n])+" )     # local part, or a quoted one
    @ [^\s@<>(),;:\\"]+
    """,
    re.VERBOSE,
)


def is_address(text: str) -> bool:
    """Tell whether an e-mail can be sent to `text`, as far as that can be seen."""
    return _EMAIL.fullmatch(text) is not None


def read_new_message(body: bytes) -> NewMessage:
    """Read and check the body of a create call.

    Raises:
        MalformedBodyError: the body is not JSON, or not an object.
        UnprocessableError: a value of the wrong type, an unknown event, an address that is none,
            or (v2 documentation, "Create and send an invoice message") no event and nobody to
            send to: no recipients, and `send_me_a_copy` not true.
    """
    return checked(read_body(body, NewMessage))


def checked(new: NewMessage) -> NewMessage:
    """Return what a create call asks for, if it can be done.

    Raises:
        UnprocessableError: an address that is none, or no event and nobody to send to.
    """
    for recipient in new.recipients:
        if not is_address(recipient.email):
            raise UnprocessableError(f"Recipient email is invalid: {recipient.email!r}")
    if new.event_type is None and not new.recipients and not new.send_me_a_copy:
        raise UnprocessableError("Message has no recipients")
    return new


def compose(
    new: NewMessage, *, sender: User, now: str, standing_copy: str | None = None
) -> Message:
    """Make the message that `sender` creates at `now`; its id is still to be given (0).

    `send_me_a_copy` adds the sender behind the recipients, as the v2 documentation's example of
    a create call shows, and `standing_copy` an address that every mail of the account goes to, too;
    who is among them already is not added twice.
    """
    recipients = new.recipients
    if new.send_me_a_copy:
        recipients = _with(recipients, Recipient(name=sender.name, email=sender.email))
    if standing_copy is not None and new.event_type is None:
        recipients = _with(recipients, Recipient(email=standing_copy))
    return Message(
        id=0,
        sent_by=sender.name,
        sent_by_email=sender.email,
        sent_from=sender.name,
        sent_from_email=sender.email,
        send_me_a_copy=new.send_me_a_copy,
        thank_you=new.thank_you,
        created_at=now,
        updated_at=now,
        attach_pdf=new.attach_pdf,
        event_type=new.event_type,
        recipients=recipients,
        subject=new.subject,
        body=new.body,
    )


def _with(recipients: tuple[Recipient, ...], other: Recipient) -> tuple[Recipient, ...]:
    if any(recipient.email.casefold() == other.email.casefold() for recipient in recipients):
        return recipients
    return (*recipients, other)
