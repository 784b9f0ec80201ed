"""What a new sandbox holds: two accounts, their tokens, invoices, messages, payments. Data only.

The printed examples of the v1 and v2 documentation are here as printed, but for the e-mail
addresses that the v2 documentation hides; and one invoice has long lists to page through.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from bridge.sandbox.clients import Client, Project
from bridge.sandbox.invoices import Invoice, InvoiceState
from bridge.sandbox.messages import Event, Message, Recipient
from bridge.sandbox.payments import Gateway, Payment
from bridge.sandbox.times import write_time
from bridge.sandbox.users import Company, User

SANDBOX_ACCOUNT_ID = 1000
SANDBOX_TOKEN = "sandbox-token"  # noqa: S105 - opens nothing but the sandbox
SANDBOX_LIMITED_TOKEN = "sandbox-limited"  # noqa: S105 - likewise
SANDBOX_SECOND_ACCOUNT_ID = 2000
SANDBOX_SECOND_TOKEN = "second-sandbox-token"  # noqa: S105 - likewise

BOB = User(
    id=1782884,
    first_name="Bob",
    last_name="Powell",
    email="bobpowell@example.com",
    timezone="Mountain Time (US & Canada)",
    account_id=SANDBOX_ACCOUNT_ID,
    access_roles=("administrator",),
    created_at="2017-06-26T20:41:00Z",
)
MARY = User(
    id=1782959,
    first_name="Mary",
    last_name="Major",
    email="marymajor@example.com",
    timezone="Eastern Time (US & Canada)",
    account_id=SANDBOX_ACCOUNT_ID,
    access_roles=("member",),
    created_at="2017-06-26T22:15:45Z",
)
SUE = User(
    id=2084359,
    first_name="Sue",
    last_name="Second",
    email="suesecond@example.com",
    timezone="Berlin",
    account_id=SANDBOX_SECOND_ACCOUNT_ID,
    access_roles=("administrator",),
    created_at="2018-01-15T08:00:00Z",
)


def _integration(user_id: int, first_name: str, last_name: str, email: str) -> User:
    return User(
        id=user_id,
        first_name=first_name,
        last_name=last_name,
        email=email,
        timezone="Eastern Time (US & Canada)",
        account_id=SANDBOX_ACCOUNT_ID,
        access_roles=("administrator",),
        created_at="2012-03-01T09:00:00Z",
    )


USERS: Mapping[str, User] = {
    SANDBOX_TOKEN: BOB,
    SANDBOX_LIMITED_TOKEN: MARY,
    SANDBOX_SECOND_TOKEN: SUE,
    "billing-token": _integration(1782961, "Billing", "Run", "billing@example.com"),
    "reports-token": _integration(1782962, "Nightly", "Reports", "reports@example.com"),
    "shop-token": _integration(1782963, "Web", "Shop", "shop@example.com"),
}
"""By token. The last three are what a company made for its integrations, one each."""

COMPANIES: Mapping[int, Company] = {
    SANDBOX_ACCOUNT_ID: Company(
        base_uri="https://api-examples.harvestapp.com",
        full_domain="api-examples.harvestapp.com",
        name="API Examples",
    ),
    SANDBOX_SECOND_ACCOUNT_ID: Company(
        base_uri="https://second.harvestapp.com",
        full_domain="second.harvestapp.com",
        name="Second Company",
        wants_timestamp_timers=True,
        clock="24h",
        decimal_symbol=",",
        thousands_separator=".",
        estimate_feature=False,
    ),
}
"""By account."""

V1_PASSWORDS: Mapping[str, str] = {
    SANDBOX_TOKEN: "bobs-v1-password",
    SANDBOX_LIMITED_TOKEN: "marys-v1-password",
    SANDBOX_SECOND_TOKEN: "sues-v1-password",
    "billing-token": "billings-v1-password",
    "reports-token": "reports-v1-password",
    "shop-token": "shops-v1-password",
}
"""What each token's user gives v1 with their e-mail address."""

ACCOUNT_IDS = frozenset(user.account_id for user in USERS.values())

# The ids of what the v2 documentation's examples of create calls make.
FIRST_NEW_MESSAGE_ID = 27835324
FIRST_NEW_PAYMENT_ID = 10336386

PRINTED_INVOICE_ID = 13150403
CLASSIC_INVOICE_ID = 1420
DRAFT_INVOICE_ID = 1421
LONG_INVOICE_ID = 4500
LONG_LIST_LENGTH = 4500
SECOND_INVOICE_ID = 2420

# Whose an invoice is that is not the first account's. Ids are unique across accounts.
OTHER_OWNERS: Mapping[int, int] = {SECOND_INVOICE_ID: SANDBOX_SECOND_ACCOUNT_ID}


def owner(invoice_id: int) -> int:
    """Return the account whose an invoice is, or would be if there were one."""
    return OTHER_OWNERS.get(invoice_id, SANDBOX_ACCOUNT_ID)


INVOICES: tuple[Invoice, ...] = (
    # The v2 documentation calls this invoice #1001 in its messages and #1002, 20 days past due,
    # in the example of a suggested reminder. Both examples come out as printed.
    Invoice(
        id=PRINTED_INVOICE_ID,
        state=InvoiceState.OPEN,
        payment_options=(),
        number="1002",
        client="123 Industries",
        currency="€",
        amount=Decimal("288.90"),
        issued="04/01/2017",
        due="04/01/2017 (upon receipt)",
        days_past_due=20,
    ),
    Invoice(
        id=CLASSIC_INVOICE_ID,
        state=InvoiceState.OPEN,
        payment_options=(),
        number="1420",
        client="Jane Doe",
        currency="$",
        amount=Decimal("150.00"),
        issued="04/09/2008",
        due="04/09/2008 (upon receipt)",
        days_past_due=30,
    ),
    Invoice(
        id=DRAFT_INVOICE_ID,
        state=InvoiceState.DRAFT,
        payment_options=("credit_card", "paypal"),
        number="1421",
        client="123 Industries",
        currency="€",
        amount=Decimal("1250.00"),
        issued="08/23/2017",
        due="09/22/2017 (Net 30)",
        days_past_due=0,
    ),
    Invoice(
        id=LONG_INVOICE_ID,
        state=InvoiceState.OPEN,
        payment_options=("credit_card",),
        number="4500",
        client="Żółw & Söhne GmbH",
        currency="€",
        amount=Decimal("45000.00"),
        issued="01/04/2016",
        due="02/03/2016 (Net 30)",
        days_past_due=365,
    ),
    Invoice(
        id=SECOND_INVOICE_ID,
        state=InvoiceState.OPEN,
        payment_options=(),
        number="2420",
        client="Second Client Ltd.",
        currency="$",
        amount=Decimal("200.00"),
        issued="08/01/2017",
        due="08/31/2017 (Net 30)",
        days_past_due=0,
    ),
)

FIRST_NEW_CLIENT_ID = 5735777

CLIENTS: tuple[Client, ...] = (
    Client(
        id=5735774,
        account_id=SANDBOX_ACCOUNT_ID,
        name="ABC Corp",
        details="456 Main St.\r\nAnytown, CA 12345",
        created_at="2017-06-26T21:01:52Z",
        updated_at="2017-06-26T21:27:07Z",
    ),
    Client(
        id=5735776,
        account_id=SANDBOX_ACCOUNT_ID,
        name="123 Industries",
        currency="Euro - EUR",
        currency_symbol="€",
        details="123 Main St.\r\nAnytown, LA 71223",
        created_at="2017-06-26T21:02:12Z",
        updated_at="2017-06-26T21:34:11Z",
    ),
    Client(
        id=4711,
        account_id=SANDBOX_ACCOUNT_ID,
        name="Jane Doe",
        highrise_id=12,
        created_at="2008-04-01T08:00:00Z",
        updated_at="2008-04-09T20:40:00Z",
    ),
    Client(
        id=4712,
        account_id=SANDBOX_ACCOUNT_ID,
        name="Żółw & Söhne GmbH",
        currency="Euro - EUR",
        currency_symbol="€",
        active=False,
        details="  Straße <1>\r\nKöln",
        created_at="2016-01-02T10:00:00Z",
        updated_at="2016-01-02T10:00:00Z",
    ),
    Client(
        id=4713,
        account_id=SANDBOX_SECOND_ACCOUNT_ID,
        name="Second Client Ltd.",
        created_at="2017-07-30T10:00:00Z",
        updated_at="2017-07-30T10:00:00Z",
    ),
)

PROJECTS: tuple[Project, ...] = (
    Project(
        id=14308069,
        client_id=5735776,
        name="Online Store - Phase 1",
        code="OS1",
        hourly_rate="100.0",
        created_at="2017-06-26T21:52:18Z",
        updated_at="2017-06-26T21:54:06Z",
    ),
    Project(
        id=14307913,
        client_id=5735774,
        name="Marketing Website",
        code="MW",
        bill_by="Tasks",
        notes="Ready & waiting",
        created_at="2017-06-26T21:36:23Z",
        updated_at="2017-06-26T21:54:46Z",
    ),
    Project(
        id=4714,
        client_id=4713,
        name="Second project",
        active=False,
        billable=False,
        bill_by="none",
        created_at="2017-07-30T11:00:00Z",
        updated_at="2017-07-30T11:00:00Z",
    ),
)


class SeedMessage(NamedTuple):
    """A message and the invoice it belongs to."""

    invoice_id: int
    message: Message


class SeedPayment(NamedTuple):
    """A payment and the invoice it belongs to."""

    invoice_id: int
    payment: Payment


_RICHARD = Recipient(name="Richard Roe", email="richardroe@example.com")

PRINTED_MESSAGES: tuple[Message, ...] = (
    Message(
        id=27835209,
        sent_by=BOB.name,
        sent_by_email=BOB.email,
        sent_from=BOB.name,
        sent_from_email=BOB.email,
        created_at="2017-08-23T22:15:06Z",
        updated_at="2017-08-23T22:15:06Z",
        attach_pdf=True,
        recipients=(_RICHARD,),
        subject="Past due invoice reminder: #1001 from API Examples",
        body=(
            "Dear Customer,\r\n\r\n"
            "This is a friendly reminder to let you know that Invoice 1001 is 144 days past due. "
            "If you have already sent the payment, please disregard this message. If not, we "
            "would appreciate your prompt attention to this matter.\r\n\r\n"
            "Thank you for your business.\r\n\r\nCheers,\r\nAPI Examples"
        ),
    ),
    Message(
        id=27835207,
        sent_by=BOB.name,
        sent_by_email=BOB.email,
        sent_from=BOB.name,
        sent_from_email=BOB.email,
        send_me_a_copy=True,
        created_at="2017-08-23T22:14:49Z",
        updated_at="2017-08-23T22:14:49Z",
        attach_pdf=True,
        recipients=(_RICHARD, Recipient(name=BOB.name, email=BOB.email)),
        subject="Invoice #1001 from API Examples",
        body=(
            "---------------------------------------------\r\nInvoice Summary\r\n"
            "---------------------------------------------\r\nInvoice ID: 1001\r\n"
            "Issue Date: 04/01/2017\r\nClient: 123 Industries\r\nP.O. Number: \r\n"
            "Amount: €288.90\r\nDue: 04/01/2017 (upon receipt)\r\n\r\n"
            "The detailed invoice is attached as a PDF.\r\n\r\nThank you!\r\n"
            "---------------------------------------------"
        ),
    ),
)


def _classic(message_id: int, created_at: str, body: str) -> Message:
    return Message(
        id=message_id,
        sent_by="My Name",
        sent_by_email="my@email.com",
        sent_from="My Name",
        sent_from_email="my@email.com",
        send_me_a_copy=True,
        created_at=created_at,
        updated_at=created_at,
        recipients=(
            Recipient(name="Jane Doe", email="jane@doe.org"),
            Recipient(name="My Name", email="my@email.com"),
        ),
        body=body,
    )


CLASSIC_MESSAGES: tuple[Message, ...] = (
    _classic(409, "2008-04-09T20:44:54Z", "The message body goes here"),
    _classic(403, "2008-04-09T20:46:34Z", "Anther message body goes here"),
)

SECOND_MESSAGES: tuple[Message, ...] = (
    Message(
        id=27835100,
        sent_by=SUE.name,
        sent_by_email=SUE.email,
        sent_from=SUE.name,
        sent_from_email=SUE.email,
        created_at="2017-08-01T09:00:00Z",
        updated_at="2017-08-01T09:00:00Z",
        recipients=(Recipient(name="Sam Stone", email="samstone@example.com"),),
        subject="Invoice #2420 from API Examples",
        body="The second account's message.",
    ),
)

_PEOPLE: tuple[Recipient, ...] = (
    _RICHARD,
    Recipient(name="Zoë Müller", email="zoe.mueller@example.com"),
    Recipient(name="Łukasz Żółć", email="lukasz@example.org"),
    Recipient(name="山田 太郎", email="yamada@example.jp"),
    Recipient(name="Ó Briain, Seán", email="sean@example.ie"),
    Recipient(name='Jim "Jimbo" Moe', email="jim@example.net"),
    Recipient(name=None, email="accounts@example.com"),
)


class _Kind(NamedTuple):
    """A row of the long list's pattern."""

    subject: str | None
    body: str | None
    thank_you: bool = False
    reminder: bool = False
    event: Event | None = None


_KINDS: tuple[_Kind, ...] = (
    _Kind("Invoice #4500 from API Examples", "Message {n}.\r\n\r\nThank you!\r\nAPI Examples"),
    _Kind(
        "Past due invoice reminder: #4500 from API Examples",
        "Dear Customer,\r\n\r\nInvoice 4500 is {n} days past due.\r\n",
        reminder=True,
    ),
    _Kind(None, "  A note without a subject & with <markup>: {n}"),
    _Kind("Danke für Ihre Zahlung №{n} 🎉", "Grüße aus Köln\r\nAPI Examples", thank_you=True),
    _Kind(None, None, event=Event.CLOSE),
    _Kind(None, None, event=Event.REOPEN),
    _Kind("Invoice #4500 from API Examples", None),
)

_LONG_LIST_STARTS = datetime(2016, 1, 4, 9, tzinfo=UTC)
_FIRST_LONG_LIST_ID = 4_500_001
_FIRST_LONG_PAYMENTS_ID = 4_600_001


def _long_list_time(n: int) -> str:
    # Three items to a time, so that a page can end between items of one second.
    return write_time(_LONG_LIST_STARTS + timedelta(hours=n // 3 * 5))


def _long_list() -> Iterator[Message]:
    for n in range(LONG_LIST_LENGTH):
        kind = _KINDS[n % len(_KINDS)]
        person = _PEOPLE[n // len(_KINDS) % len(_PEOPLE)]
        created_at = _long_list_time(n)
        copy = kind.event is None and n % 2 == 0
        recipients = () if kind.event else (person,)
        yield Message(
            id=_FIRST_LONG_LIST_ID + n,
            sent_by=BOB.name,
            sent_by_email=BOB.email,
            sent_from=BOB.name,
            sent_from_email=BOB.email,
            send_me_a_copy=copy,
            thank_you=kind.thank_you,
            reminder=kind.reminder,
            send_reminder_on=created_at[:10] if kind.reminder else None,
            created_at=created_at,
            updated_at=created_at,
            attach_pdf=kind.event is None and n % 3 == 0,
            event_type=kind.event,
            recipients=(*recipients, Recipient(name=BOB.name, email=BOB.email))
            if copy
            else recipients,
            subject=kind.subject and kind.subject.format(n=n),
            body=kind.body and kind.body.format(n=n),
        )


def seed_messages() -> Iterator[SeedMessage]:
    """Make every message a new sandbox holds."""
    return (
        SeedMessage(invoice_id, message)
        for invoice_id, messages in (
            (PRINTED_INVOICE_ID, PRINTED_MESSAGES),
            (CLASSIC_INVOICE_ID, CLASSIC_MESSAGES),
            (LONG_INVOICE_ID, _long_list()),
            (SECOND_INVOICE_ID, SECOND_MESSAGES),
        )
        for message in messages
    )


_BY_HAND = Gateway()
_PAYPAL = Gateway(id=7, name="PayPal")
_CARDS = Gateway(id=8, name="Stripe")

CLASSIC_PAYMENTS: tuple[Payment, ...] = (
    Payment(
        id=45,
        amount=Decimal(50),
        paid_at="2008-04-10T00:00:00Z",
        paid_date="2008-04-10",
        recorded_by="My Name",
        recorded_by_email="my@email.com",
        notes="Paid by check",
        created_at="2008-04-11T09:15:00Z",
        updated_at="2008-04-11T09:15:00Z",
    ),
    Payment(
        id=46,
        amount=Decimal("25.5"),
        paid_at="2008-04-14T16:45:30Z",
        paid_date="2008-04-14",
        recorded_by="Jane Doe",
        recorded_by_email="jane@doe.org",
        transaction_id="4XK51226GL0713628",
        payment_gateway=_PAYPAL,
        created_at="2008-04-14T16:45:31Z",
        updated_at="2008-04-14T16:45:31Z",
    ),
)


class _PaymentKind(NamedTuple):
    """A row of the long list of payments' pattern; together they are far from paying it all."""

    amount: Decimal
    notes: str | None = None
    gateway: Gateway = _BY_HAND
    transaction: str | None = None


_PAYMENT_KINDS: tuple[_PaymentKind, ...] = (
    _PaymentKind(Decimal("0.1"), "Rate {n}"),
    _PaymentKind(Decimal("0.2"), gateway=_PAYPAL, transaction="PAYPAL-{n}"),
    _PaymentKind(Decimal(1), "  Überweisung & <Scheck>, №{n} 🎉\r\nDanke"),
    _PaymentKind(Decimal("9.99"), gateway=_CARDS, transaction="ch_{n}"),
    _PaymentKind(Decimal("2.25"), ""),
    _PaymentKind(Decimal(10)),
    _PaymentKind(Decimal("12.5"), "Card payment {n}", gateway=_CARDS, transaction="ch_{n}"),
)


def _long_payments() -> Iterator[Payment]:
    for n in range(LONG_LIST_LENGTH):
        kind = _PAYMENT_KINDS[n % len(_PAYMENT_KINDS)]
        created_at = _long_list_time(n)
        by_hand = kind.gateway is _BY_HAND
        paid_date = created_at[:10]
        yield Payment(
            id=_FIRST_LONG_PAYMENTS_ID + n,
            amount=kind.amount,
            paid_at=f"{paid_date}T00:00:00Z" if by_hand else created_at,
            paid_date=paid_date,
            recorded_by=BOB.name if by_hand else "Richard Roe",
            recorded_by_email=BOB.email if by_hand else _RICHARD.email,
            notes=kind.notes and kind.notes.format(n=n),
            transaction_id=kind.transaction and kind.transaction.format(n=n),
            payment_gateway=kind.gateway,
            created_at=created_at,
            updated_at=created_at,
        )


def seed_payments() -> Iterator[SeedPayment]:
    """Make every payment a new sandbox holds."""
    return (
        SeedPayment(invoice_id, payment)
        for invoice_id, payments in (
            (CLASSIC_INVOICE_ID, CLASSIC_PAYMENTS),
            (LONG_INVOICE_ID, _long_payments()),
        )
        for payment in payments
    )
