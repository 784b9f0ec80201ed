"""The invoice itself: its states, what is due, what moves it between states, suggested texts.

Pure. The message is in messages.py, the payment in payments.py, how all are kept in state.py.
"""

from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

import msgspec

from bridge.sandbox.errors import UnprocessableError
from bridge.sandbox.messages import Event, NewMessage, Recipient


class InvoiceState(StrEnum):
    """Where an invoice stands; "closed" is the v2 documentation's "written off"."""

    DRAFT = "draft"
    OPEN = "open"
    CLOSED = "closed"
    PAID = "paid"


class Invoice(msgspec.Struct, frozen=True, kw_only=True):
    """As much of an invoice as its messages and payments need.

    `number`, `client`, `currency`, `issued`, `due` and `days_past_due` only fill the suggested
    texts, so they are kept as those print them; `currency` is a sign.
    """

    id: int
    state: InvoiceState
    payment_options: tuple[str, ...]
    number: str
    client: str
    currency: str
    amount: Decimal
    issued: str
    due: str
    days_past_due: int


class Transition(NamedTuple):
    """One row of the state machine: the only state an event may find, and the one it leaves."""

    source: InvoiceState
    target: InvoiceState
    done: str


# The four "Mark …" and "Re-open …" sections of the v2 documentation, a row each.
TRANSITIONS: Mapping[Event, Transition] = {
    Event.SEND: Transition(InvoiceState.DRAFT, InvoiceState.OPEN, "marked as sent"),
    Event.CLOSE: Transition(InvoiceState.OPEN, InvoiceState.CLOSED, "closed"),
    Event.REOPEN: Transition(InvoiceState.CLOSED, InvoiceState.OPEN, "re-opened"),
    Event.DRAFT: Transition(InvoiceState.OPEN, InvoiceState.DRAFT, "marked as a draft"),
}

# A message without an event: "meaning the invoice was sent" (v2 documentation, `event_type`).
# Sending a reminder of a written-off invoice does not bring it back, nor does mail un-pay one.
AFTER_SENDING: Mapping[InvoiceState, InvoiceState] = {
    InvoiceState.DRAFT: InvoiceState.OPEN,
    InvoiceState.OPEN: InvoiceState.OPEN,
    InvoiceState.CLOSED: InvoiceState.CLOSED,
    InvoiceState.PAID: InvoiceState.PAID,
}

_A_STATE: Mapping[InvoiceState, str] = {
    InvoiceState.DRAFT: "a draft",
    InvoiceState.OPEN: "open",
    InvoiceState.CLOSED: "closed",
    InvoiceState.PAID: "paid",
}
_AN_INVOICE: Mapping[InvoiceState, str] = {
    InvoiceState.DRAFT: "a draft invoice",
    InvoiceState.OPEN: "an open invoice",
    InvoiceState.CLOSED: "a closed invoice",
    InvoiceState.PAID: "a paid invoice",
}


def after_message(invoice: Invoice, new: NewMessage) -> Invoice:
    """Return the invoice as it stands once `new` has been created on it.

    `include_link_to_client_invoice: false` clears the payment options, true is ignored
    (v2 documentation, "Create and send an invoice message").

    Raises:
        UnprocessableError: the event makes no sense in the invoice's state.
    """
    return msgspec.structs.replace(
        invoice,
        state=_next_state(invoice, new.event_type),
        payment_options=invoice.payment_options if new.include_link_to_client_invoice else (),
    )


def _next_state(invoice: Invoice, event: Event | None) -> InvoiceState:
    if event is None:
        return AFTER_SENDING[invoice.state]
    transition = TRANSITIONS[event]
    if invoice.state is not transition.source:
        raise UnprocessableError(
            f"Invoice {invoice.id} is {_A_STATE[invoice.state]}: "
            f"only {_AN_INVOICE[transition.source]} can be {transition.done}."
        )
    return transition.target


def due_amount(invoice: Invoice, paid: Decimal) -> Decimal:
    """Return what is still to be paid when the payments add up to `paid`; never less than 0."""
    return max(Decimal(0), invoice.amount - paid)


def after_payment(invoice: Invoice, paid: Decimal) -> Invoice:
    """Return the invoice once its payments, a new one among them, add up to `paid`.

    The v2 documentation says neither which invoices can be paid nor what happens to them. Here a
    draft cannot, since nobody was asked for the money; a closed one can, for a client may pay
    what was written off. More than is due may be paid.

    Raises:
        UnprocessableError: the invoice is a draft.
    """
    if invoice.state is InvoiceState.DRAFT:
        raise UnprocessableError(
            f"Invoice {invoice.id} is {_A_STATE[invoice.state]}: it has to be sent to be paid."
        )
    if due_amount(invoice, paid):
        return invoice
    return msgspec.structs.replace(invoice, state=InvoiceState.PAID)


def after_payment_deleted(invoice: Invoice, paid: Decimal) -> Invoice:
    """Return the invoice once its payments, without one that was deleted, add up to `paid`.

    A paid invoice is open again when something is due again; it stays paid where too much was.
    """
    if invoice.state is InvoiceState.PAID and due_amount(invoice, paid):
        return msgspec.structs.replace(invoice, state=InvoiceState.OPEN)
    return invoice


class Suggestion(msgspec.Struct, frozen=True):
    """The answer of `GET …/messages/new`, fields in the order the v2 documentation prints them."""

    invoice_id: int
    subject: str
    body: str
    reminder: bool = False
    thank_you: bool = False


class Template(NamedTuple):
    """A suggested text; the fields of `Invoice` stand in braces, the amount as `{printed}`."""

    subject: str
    body: str


_RULE = "-" * 45

GENERAL = Template(
    "Invoice #{number} from API Examples",
    f"{_RULE}\nInvoice Summary\n{_RULE}\n"
    "Invoice ID: {number}\nIssue Date: {issued}\nClient: {client}\nP.O. Number: \n"
    "Amount: {printed}\nDue: {due}\n\n"
    "The detailed invoice is attached as a PDF.\n\n"
    f"Thank you!\n{_RULE}\n",
)
REMINDER = Template(
    "Past due invoice reminder: #{number} from API Examples",
    "Dear Customer,\n\n"
    "This is a friendly reminder to let you know that Invoice {number} is {days_past_due} days "
    "past due. If you have already sent the payment, please disregard this message. If not, we "
    "would appreciate your prompt attention to this matter.\n\n"
    "Thank you for your business.\n\nCheers,\nAPI Examples\n",
)
THANK_YOU = Template(
    "Thank you for your payment of invoice #{number} from API Examples",
    "Dear Customer,\n\n"
    "We have received your payment of {printed} for Invoice {number}.\n\n"
    "Thank you for your business.\n\nCheers,\nAPI Examples\n",
)


def suggest(invoice: Invoice, *, reminder: bool, thank_you: bool) -> Suggestion:
    """Fill the general, the reminder or the thank-you text for `invoice`.

    The answer's own `reminder` and `thank_you` are always false: that is what the v2
    documentation prints for a call with `reminder=true`. It does not say what both flags at once
    mean; here a reminder wins.
    """
    template = REMINDER if reminder else THANK_YOU if thank_you else GENERAL
    blanks = msgspec.structs.asdict(invoice) | {
        "printed": f"{invoice.currency}{invoice.amount:,.2f}"
    }
    return Suggestion(
        invoice_id=invoice.id,
        subject=template.subject.format_map(blanks),
        body=template.body.format_map(blanks),
    )


def thank(invoice: Invoice, recipients: tuple[Recipient, ...]) -> NewMessage:
    """Return the message that a payment's `send_thank_you` sends: the suggested thank-you text."""
    text = suggest(invoice, reminder=False, thank_you=True)
    return NewMessage(recipients=recipients, subject=text.subject, body=text.body, thank_you=True)
