"""What v1 answered, as XML documents: which elements, in which order and of which types.

Pure. Where an edition is named: `classic` is the documentation of 2008, `final` what was recorded
from 2015 on. Which call gets which is in app.py.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Generic, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

from lxml import etree

from bridge.sandbox.clients import Client, Project
from bridge.sandbox.invoices import Invoice, InvoiceState
from bridge.sandbox.messages import Message, Recipient
from bridge.sandbox.payments import Payment
from bridge.sandbox.users import Company, User

Element = etree._Element  # noqa: SLF001 - the only name that lxml has for it

_Item = TypeVar("_Item")


class Edition(StrEnum):
    """An age of v1."""

    CLASSIC = "classic"
    FINAL = "final"


class Row(NamedTuple, Generic[_Item]):
    """An element: its name, its type as v1 wrote it, where it has one, and what stands in it."""

    name: str
    type: str | None
    value: Callable[[_Item], object]


class Shape(NamedTuple, Generic[_Item]):
    """How items are written. A list without items had a root of its own before its root was set."""

    item: str
    list: str
    empty_list: str
    rows: Sequence[Row[_Item]]


def write(document: Element) -> bytes:
    """Write a document as v1 did: with a declaration, an element a line.

    Rails wrote carriage returns as they are, so that a reader takes them for line feeds.
    """
    etree.indent(document)
    written = etree.tostring(document, encoding="UTF-8", xml_declaration=False)
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + written.replace(b"&#13;", b"\r") + b"\n"


def one(shape: Shape[_Item], item: _Item) -> Element:
    """Make the document of an item."""
    return _filled(etree.Element(shape.item), shape.rows, item)


def many(shape: Shape[_Item], items: Iterable[_Item]) -> Element:
    """Make the document of a list."""
    children = [one(shape, item) for item in items]
    root = etree.Element(shape.list if children else shape.empty_list, {"type": "array"})
    root.extend(children)
    return root


def _filled(parent: Element, rows: Sequence[Row[_Item]], item: _Item) -> Element:
    for row in rows:
        _add(parent, row.name, row.type, row.value(item))
    return parent


def _add(parent: Element, name: str, kind: str | None, value: object) -> None:
    element = etree.SubElement(parent, name)
    if kind is not None:
        element.set("type", kind)
    if value is None:
        element.set("nil", "true")
    elif isinstance(value, bool):
        element.text = "true" if value else "false"
    elif isinstance(value, Decimal):
        element.text = _decimal(value)
    else:
        element.text = _printable(str(value))


def _decimal(value: Decimal) -> str:
    text = f"{value.normalize():f}"
    return text if "." in text else f"{text}.0"


def _printable(text: str) -> str:
    return "".join(character if _is_xml(character) else "\ufffd" for character in text)


def _is_xml(character: str) -> bool:
    # XML 1.0, section 2.2.
    return (
        character in "\t\n\r"
        or " " <= character <= "\ud7ff"
        or "\ue000" <= character <= "\ufffd"
        or character >= "\U00010000"
    )


class MessageOn(NamedTuple):
    """A message and its invoice, which v2's message does not name."""

    invoice_id: int
    message: Message


class PaymentOn(NamedTuple):
    """A payment and its invoice."""

    invoice_id: int
    payment: Payment


def _of_message(name: str, kind: str | None = None, field: str | None = None) -> Row[MessageOn]:
    field = field or name.replace("-", "_")
    return Row(name, kind, lambda on: getattr(on.message, field))


def _of_payment(name: str, kind: str | None = None) -> Row[PaymentOn]:
    field = name.replace("-", "_")
    return Row(name, kind, lambda on: getattr(on.payment, field))


def _mailbox(recipient: Recipient, *, always_quoted: bool) -> str:
    if not recipient.name:
        return recipient.email
    if always_quoted or any(character in _SPECIAL for character in recipient.name):
        quoted = recipient.name.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{quoted}" <{recipient.email}>'
    return f"{recipient.name} <{recipient.email}>"


# RFC 5322, section 3.2.3.
_SPECIAL = frozenset('()<>[]:;@\\,."')


def _recipients(*, always_quoted: bool) -> Row[MessageOn]:
    def listed(on: MessageOn) -> str:
        return ", ".join(
            _mailbox(each, always_quoted=always_quoted) for each in on.message.recipients
        )

    return Row("full-recipient-list", None, listed)


def _of_processor(name: str, *, paypal: bool) -> Row[PaymentOn]:
    def transaction(on: PaymentOn) -> str | None:
        by_paypal = "paypal" in (on.payment.payment_gateway.name or "").lower()
        return on.payment.transaction_id if by_paypal is paypal else None

    return Row(name, None, transaction)


_ON_INVOICE: Row[Any] = Row("invoice-id", "integer", lambda on: on.invoice_id)

# Roots: `nil-classes` is what Rails made of an empty list, and was recorded in 2010. The final
# edition's lists have a root that was set, so they have it empty, too.
MESSAGE: Mapping[Edition, Shape[MessageOn]] = {
    Edition.CLASSIC: Shape(
        "invoice-message",
        "invoice-messages",
        "nil-classes",
        (
            _of_message("body"),
            _of_message("created-at", "datetime"),
            _of_message("id", "integer"),
            _ON_INVOICE,
            _of_message("send-me-a-copy", "boolean"),
            _of_message("sent-by"),
            _of_message("sent-by-email"),
            _recipients(always_quoted=False),
        ),
    ),
    Edition.FINAL: Shape(
        "invoice-message",
        "invoice-message",
        "invoice-message",
        (
            _of_message("id", "integer"),
            _ON_INVOICE,
            _of_message("send-me-a-copy", "boolean"),
            _of_message("body"),
            _of_message("created-at", "dateTime"),
            _of_message("sent-by"),
            _of_message("sent-by-email"),
            _of_message("thank-you", "boolean"),
            _of_message("subject"),
            _of_message("include-pay-pal-link", "boolean", field="include_link_to_client_invoice"),
            _of_message("updated-at", "dateTime"),
            _of_message("sent-from-email"),
            _of_message("sent-from"),
            _of_message("send-reminder-on", "date"),
            _recipients(always_quoted=True),
        ),
    ),
}

PAYMENT: Mapping[Edition, Shape[PaymentOn]] = {
    Edition.CLASSIC: Shape(
        "payment",
        "payments",
        "nil-classes",
        (
            _of_payment("amount", "decimal"),
            _of_payment("created-at", "datetime"),
            _of_payment("id", "integer"),
            _ON_INVOICE,
            _of_payment("notes"),
            _of_payment("paid-at", "datetime"),
            _of_payment("recorded-by"),
            _of_payment("recorded-by-email"),
        ),
    ),
    Edition.FINAL: Shape(
        "payment",
        "payments",
        "payments",
        (
            _of_payment("amount", "decimal"),
            _of_payment("id", "integer"),
            _ON_INVOICE,
            _of_payment("notes"),
            _of_payment("paid-at", "dateTime"),
            _of_payment("recorded-by"),
            _of_payment("recorded-by-email"),
            _of_payment("updated-at", "dateTime"),
            _of_payment("created-at", "dateTime"),
            _of_processor("pay-pal-transaction-id", paypal=True),
            _of_processor("authorization", paypal=False),
            Row("payment-gateway-id", "integer", lambda on: on.payment.payment_gateway.id),
        ),
    ),
}


def _of(name: str, kind: str | None = None) -> Row[Any]:
    field = name.replace("-", "_")
    return Row(name, kind, lambda item: getattr(item, field))


def _never(name: str, kind: str | None = None) -> Row[Any]:
    return Row(name, kind, lambda _: None)


CLIENT: Shape[Client] = Shape(
    "client",
    "clients",
    "clients",
    (
        _of("id", "integer"),
        _of("name"),
        _of("active", "boolean"),
        _of("currency"),
        _of("highrise-id", "integer"),
        Row("cache-version", "integer", lambda _: 1),
        _of("updated-at", "dateTime"),
        _of("created-at", "dateTime"),
        _of("currency-symbol"),
        _of("details"),
        _never("default-invoice-timeframe"),
        _never("last-invoice-kind"),
    ),
)

PROJECT: Shape[Project] = Shape(
    "project",
    "projects",
    "projects",
    (
        _of("id", "integer"),
        _of("client-id", "integer"),
        _of("name"),
        _of("code"),
        _of("active", "boolean"),
        _of("billable", "boolean"),
        _of("bill-by"),
        _of("hourly-rate", "decimal"),
        Row("budget-by", None, lambda _: "none"),
        _never("budget", "decimal"),
        Row("notify-when-over-budget", "boolean", lambda _: False),
        Row("over-budget-notification-percentage", "decimal", lambda _: "80.0"),
        _never("over-budget-notified-at", "date"),
        Row("show-budget-to-all", "boolean", lambda _: False),
        _of("created-at", "dateTime"),
        _of("updated-at", "dateTime"),
        _never("starts-on", "date"),
        _never("ends-on", "date"),
        _never("hint-earliest-record-at", "date"),
        _never("hint-latest-record-at", "date"),
        _of("notes"),
        _never("cost-budget", "decimal"),
        Row("cost-budget-include-expenses", "boolean", lambda _: False),
    ),
)


class InvoiceFor(NamedTuple):
    """An invoice, what is due on it, and the client it is for."""

    invoice: Invoice
    due: Decimal
    client: Client

    @property
    def state(self) -> str:
        """The state as v1 told it: `partial` where something, but not all, has been paid."""
        if self.invoice.state is InvoiceState.OPEN and self.due < self.invoice.amount:
            return "partial"
        return str(self.invoice.state)


def _date(printed: str) -> str:
    month, day, year = printed[: len("MM/DD/YYYY")].split("/")
    return f"{year}-{month}-{day}"


def _term(invoice: Invoice) -> str:
    return invoice.due.partition("(")[2].rstrip(")")


INVOICE: Shape[InvoiceFor] = Shape(
    "invoice",
    "invoices",
    "invoices",
    (
        Row("id", "integer", lambda of: of.invoice.id),
        Row("client-id", "integer", lambda of: of.client.id),
        _never("period-start", "date"),
        _never("period-end", "date"),
        Row("number", None, lambda of: of.invoice.number),
        Row("issued-at", "date", lambda of: _date(of.invoice.issued)),
        Row("due-at", "date", lambda of: _date(of.invoice.due)),
        Row("amount", "decimal", lambda of: of.invoice.amount),
        Row("currency", None, lambda of: of.client.currency),
        Row("state", None, lambda of: of.state),
        Row("notes", None, lambda _: ""),
        Row("purchase-order", None, lambda _: ""),
        Row("due-amount", "decimal", lambda of: of.due),
        Row("due-at-human-format", None, lambda of: _term(of.invoice)),
        Row("created-at", "dateTime", lambda of: f"{_date(of.invoice.issued)}T08:00:00Z"),
        Row("updated-at", "dateTime", lambda of: f"{_date(of.invoice.issued)}T08:00:00Z"),
        _never("tax", "decimal"),
        Row("tax-amount", "decimal", lambda _: Decimal(0)),
        Row("subject", None, lambda _: ""),
        _never("recurring-invoice-id", "integer"),
        _never("tax2", "decimal"),
        Row("tax2-amount", "decimal", lambda _: Decimal(0)),
        Row("client-key", None, lambda of: f"{of.invoice.id:040x}"),
        _never("estimate-id", "integer"),
        _never("discount", "decimal"),
        Row("discount-amount", "decimal", lambda _: Decimal(0)),
        _never("retainer-id", "integer"),
        _never("created-by-id", "integer"),
        Row("client-name", None, lambda of: of.client.name),
    ),
)


def _line_items(of: InvoiceFor) -> str:
    price = f"{of.invoice.amount:.2f}"
    return (
        "kind,description,quantity,unit_price,amount,taxed,taxed2,project_id\n"
        f"Service,As agreed,1.00,{price},{_decimal(of.invoice.amount)},false,false,\n"
    )


SHOWN_INVOICE: Shape[InvoiceFor] = INVOICE._replace(
    rows=(*INVOICE.rows, Row("csv-line-items", None, _line_items))
)

# As Rails names the zones of the sandbox's users.
_ZONES: Mapping[str, str] = {
    "Mountain Time (US & Canada)": "America/Denver",
    "Eastern Time (US & Canada)": "America/New_York",
    "Berlin": "Europe/Berlin",
}

_COMPANY: Sequence[Row[Company]] = (
    _of("base-uri"),
    _of("full-domain"),
    _of("name"),
    Row("active", "boolean", lambda company: company.is_active),
    _of("week-start-day"),
    _of("time-format"),
    _of("clock"),
    _of("decimal-symbol"),
    _of("color-scheme"),
)
_MODULES: Sequence[Row[Company]] = (
    Row("expenses", "boolean", lambda company: company.expense_feature),
    Row("invoices", "boolean", lambda company: company.invoice_feature),
    Row("estimates", "boolean", lambda company: company.estimate_feature),
    Row("approval", "boolean", lambda company: company.approval_feature),
)
_USER: Sequence[Row[User]] = (
    _of("timezone"),
    Row("timezone-identifier", None, lambda user: _ZONES[user.timezone]),
)
_NAMES: Sequence[Row[User]] = (
    _of("id", "integer"),
    _of("email"),
    Row("admin", "boolean", lambda user: user.is_administrator),
    _of("first-name"),
    _of("last-name"),
    Row("avatar-url", None, lambda user: f"/assets/profile_images/{user.id}.png"),
)
# An administrator was recorded who is no project manager and may do all that one may.
_MANAGER: Sequence[Row[User]] = (
    Row("is-project-manager", "boolean", lambda user: "manager" in user.access_roles),
    Row("can-see-rates", "boolean", lambda user: user.is_administrator),
    Row("can-create-projects", "boolean", lambda user: user.is_administrator),
    Row("can-create-invoices", "boolean", lambda user: user.may_edit_invoices),
)


def who_am_i(user: User, company: Company, now: datetime) -> Element:
    """Make the document of a user and their company; `now` is aware, for the zone's offset."""
    root = etree.Element("hash")
    of_company = _filled(etree.SubElement(root, "company"), _COMPANY, company)
    _filled(etree.SubElement(of_company, "modules"), _MODULES, company)
    _filled(of_company, (_of("thousands-separator"), _of("plan-type")), company)
    of_user = _filled(etree.SubElement(root, "user"), _USER, user)
    offset = now.astimezone(ZoneInfo(_ZONES[user.timezone])).utcoffset()
    _add(of_user, "timezone-utc-offset", "integer", int(offset.total_seconds()) if offset else 0)
    _filled(of_user, _NAMES, user)
    _filled(etree.SubElement(of_user, "project-manager"), _MANAGER, user)
    _add(of_user, "timestamp-timers", "boolean", company.wants_timestamp_timers)
    return root


def rate_limit_status(count: int, now: datetime, *, calls: int, seconds: float) -> Element:
    """Make the document of how near the account is to its limit of `calls` in `seconds`."""
    root = etree.Element("hash")
    _add(root, "last-access-at", "datetime", f"{now:%Y-%m-%dT%H:%M:%S}+00:00")
    _add(root, "count", "integer", count)
    _add(root, "timeframe-limit", "integer", int(seconds))
    _add(root, "max-calls", "integer", calls)
    _add(root, "lockout-seconds", "integer", 5)
    return root


def errors(text: str) -> Element:
    """Make the document of a refusal."""
    root = etree.Element("errors")
    _add(root, "error", None, text)
    return root
