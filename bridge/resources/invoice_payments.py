"""Invoice payments: v1 `/invoice/{id}/payments` served by v2 `/v2/invoices/{id}/payments`.

Read it with schemas/README.md, "Invoice payments", whose tables these are.
"""

from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from functools import partial
from typing import Any, TypeVar

import msgspec

from bridge.resources.collection_calls import create, delete_one, list_all, read, show_one
from bridge.resources.flow import Flow
from bridge.resources.look import Found, digest, given_digest, look_for
from bridge.resources.routes import INVOICES, Resource, below, calls
from bridge.resources.table import (
    DATE,
    DATETIME,
    DECIMAL,
    ID,
    MOST_DIGITS,
    OTHER_ID,
    PATH_ID,
    STRING,
    Collection,
    Entity,
    Field,
    Given,
    Source,
    form,
    is_told_plainly,
    place,
)
from bridge.v1 import elements
from bridge.v1.elements import PerDialect
from bridge.v1.errors import InvalidRequest
from bridge.v1.problems import Problem
from bridge.v1.values import datetime_text, decimal_text, read_clock, read_datetime, read_decimal
from bridge.v1.wire import V1Request
from bridge.v2.wire import V2Request
from bridge.v2.writes import Write

T = TypeVar("T")


def _of_pay_pal(transaction: str | None, gateway: str | None) -> str | None:
    return transaction if "paypal" in (gateway or "").casefold() else None


def _of_others(transaction: str | None, gateway: str | None) -> str | None:
    return transaction if _of_pay_pal(transaction, gateway) is None else None


def _moment_or_day(paid_at: object, paid_date: object) -> object:
    return paid_date if paid_at is None else paid_at


_DAY = Source("paid_date", DATE)
_GATEWAY = Source("payment_gateway.name", STRING)

PAYMENT = Entity(
    schema="invoice-payments",
    element="payment",
    fields=(
        Field("id", "id", ID, place(classic=3, final=2)),
        Field("invoice_id", "invoice-id", PATH_ID, place(classic=4, final=3)),
        Field("amount", "amount", DECIMAL, place(classic=1, final=1)),
        Field("paid_at", "paid-at", DATETIME, place(classic=6, final=5), (_DAY,), _moment_or_day),
        Field("recorded_by", "recorded-by", STRING, place(classic=7, final=6)),
        Field("recorded_by_email", "recorded-by-email", STRING, place(classic=8, final=7)),
        Field("notes", "notes", STRING, place(classic=5, final=4)),
        Field(
            "transaction_id",
            "pay-pal-transaction-id",
            STRING,
            place(final=10),
            (_GATEWAY,),
            _of_pay_pal,
        ),
        Field("transaction_id", "authorization", STRING, place(final=11), (_GATEWAY,), _of_others),
        Field("payment_gateway.id", "payment-gateway-id", OTHER_ID, place(final=12)),
        Field("created_at", "created-at", DATETIME, place(classic=2, final=9)),
        Field("updated_at", "updated-at", DATETIME, place(final=8)),
    ),
    unsaid=(_GATEWAY.path,),
)

PAYMENTS = Collection(
    PAYMENT,
    root=PerDialect(classic="payments", final="payments"),
    path="/invoices/{invoice_id}/payments",
    key="invoice_payments",
)

GIVEN = (
    Given("amount", elements.DECIMAL, "amount"),
    Given("paid-at", elements.DATETIME, "paid_at"),
    Given("notes", elements.STRING, "notes"),
)

PAYMENT_FORM = form("invoice-payments/request", PAYMENT, GIVEN)

_encode = msgspec.json.Encoder(decimal_format="number").encode

list_payments = partial(list_all, PAYMENTS, parameters={})
show_payment = partial(show_one, PAYMENTS)
delete_payment = partial(delete_one, PAYMENTS)


def create_payment(call: V1Request) -> Flow:
    """Record a payment (schemas/README.md, "Record a payment")."""
    values = yield from read(call, PAYMENT_FORM)
    parameters = _parameters(values)
    request = V2Request("POST", PAYMENTS.path_of(call), body=_encode(parameters))
    write = Write(RESOURCE.name, request, likeness(parameters))
    return (yield from create(write, look, PAYMENT, call))


def _parameters(values: Mapping[str, str | None]) -> dict[str, object]:
    """Return the v2 parameters of a request.

    Raises:
        InvalidRequest: there is no amount, or what was given is no amount or no point in time.
    """
    if not (amount := values.get("amount")):
        raise InvalidRequest(
            "amount is missing: a payment needs one, such as 1200.50.", Problem.MISSING_ELEMENT
        )
    parameters: dict[str, object] = {"amount": read_decimal(amount, "amount", MOST_DIGITS)}
    if paid_at := values.get("paid-at"):
        clock = read_clock(paid_at, "paid-at")
        if clock.time() == time():
            # Who says midnight means the day. As a point in time, it could become the day before
            # in the account's time zone.
            parameters["paid_date"] = clock.date().isoformat()
        else:
            parameters["paid_at"] = datetime_text(read_datetime(paid_at, "paid-at"))
    if "notes" in values:
        parameters["notes"] = values["notes"]
    # v1 never mailed because of a payment. v2 does, unless it is told not to.
    return {**parameters, "send_thank_you": False}


class _Likeness(msgspec.Struct, frozen=True):
    """What is compared of a payment, as digests; None was not given, and v2 fills in its own."""

    amount: str
    paid_at: str | None
    paid_date: str | None
    notes: str

    def surplus(self, payment: "_Recorded") -> int | None:
        alike = (
            self.amount == _amount(payment.amount)
            and _alike(self.paid_at, payment.paid_at, _moment)
            and _alike(self.paid_date, payment.paid_date, date.isoformat)
            and self.notes == digest(payment.notes)
        )
        return 0 if alike else None


class _Recorded(Found):
    """A payment of v2, as far as it is compared."""

    amount: Decimal | None = None
    paid_at: datetime | None = None
    paid_date: date | None = None
    notes: str | None = None


def likeness(parameters: Mapping[str, Any]) -> bytes:
    """Return what tells whether a payment may be what these v2 parameters made."""
    return msgspec.json.encode(
        _Likeness(
            amount=_amount(Decimal(str(parameters["amount"]))),
            paid_at=given_digest(parameters.get("paid_at")),
            paid_date=given_digest(parameters.get("paid_date")),
            notes=digest(parameters.get("notes")),
        )
    )


def _alike(kept: str | None, found: T | None, spell: Callable[[T], str]) -> bool:
    # What v2 does not tell is no difference: to miss a payment is to have it made twice.
    return kept is None or found is None or kept == digest(spell(found))


def _amount(amount: Decimal | None) -> str:
    """Return the digest of a sum, the same however it is spelled."""
    if amount is None or not is_told_plainly(amount):
        return digest(None)
    return digest(decimal_text(amount))


def _moment(moment: datetime) -> str:
    try:
        return datetime_text(moment)
    except OverflowError:  # at the end of time, where nobody has paid
        return ""


look = look_for(PAYMENTS.key, _Recorded, _Likeness)

COLLECTIONS = below(INVOICES, "payments")
MEMBERS = (
    *below(COLLECTIONS, "{payment_id}"),
    # So spelled in v1's documentation of 2008.
    *below(INVOICES, "payment/{payment_id}"),
)

RESOURCE = Resource(
    name="invoice-payments",
    successor=PAYMENTS.path,
    collection=PAYMENTS,
    look=look,
    calls=(
        *calls("list", "GET", COLLECTIONS, list_payments, shows=PAYMENT),
        *calls("create", "POST", COLLECTIONS, create_payment, shows=PAYMENT, takes=GIVEN),
        *calls("show", "GET", MEMBERS, show_payment, shows=PAYMENT),
        *calls("delete", "DELETE", MEMBERS, delete_payment),
    ),
)
