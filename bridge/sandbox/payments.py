"""The invoice payment: as it is answered, as a request asks for it, and the checks in between.

Pure, and not about the invoice a payment is made on: what is due is in invoices.py.
"""

from decimal import Decimal

import msgspec

from bridge.sandbox.bodies import read_body
from bridge.sandbox.errors import UnprocessableError
from bridge.sandbox.times import read_date, read_moment
from bridge.sandbox.users import User

# The v2 documentation limits no amount. The sandbox does, so that an amount is the same number
# to a client that reads JSON's numbers as doubles: these have 15 digits at most.
AMOUNTS_BELOW = Decimal(10**11)
SMALLEST_PART = Decimal("0.0001")


class Gateway(msgspec.Struct, frozen=True, kw_only=True):
    """What processed the payment; nothing, if somebody recorded it by hand."""

    id: int | None = None
    name: str | None = None


class Payment(msgspec.Struct, frozen=True, kw_only=True):
    """The v2 invoice payment object, its fields in the order of the v2 documentation's table.

    Times are UTC, `YYYY-MM-DDTHH:MM:SSZ`, so they sort as text; `paid_date` is the date in
    `paid_at`. `transaction_id` is "either the card authorization or PayPal transaction ID".
    """

    id: int
    amount: Decimal
    paid_at: str
    paid_date: str
    recorded_by: str
    recorded_by_email: str
    notes: str | None = None
    transaction_id: str | None = None
    payment_gateway: Gateway = Gateway()
    created_at: str
    updated_at: str


class NewPayment(msgspec.Struct, frozen=True, kw_only=True):
    """What a create call asks for; `paid_at` is in v2's form, and null for now."""

    amount: Decimal
    paid_at: str | None = None
    notes: str | None = None
    send_thank_you: bool = True


class _Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of a create call, with the defaults of the v2 documentation."""

    amount: int | Decimal
    paid_at: str | None = None
    paid_date: str | None = None
    notes: str | None = None
    send_thank_you: bool = True


def read_new_payment(body: bytes) -> NewPayment:
    """Read and check the body of a create call.

    A date alone stands for its midnight, UTC; a time without an offset is taken as UTC.

    Raises:
        MalformedBodyError: the body is not JSON, or not an object.
        UnprocessableError: no amount, or none that a payment can have; a `paid_at` that is no
            time, a `paid_date` that is no date, or both of them ("not both", v2 documentation);
            a value of the wrong type.
    """
    given = read_body(body, _Parameters)
    return NewPayment(
        amount=payable(Decimal(given.amount)),
        paid_at=_paid_at(given),
        notes=given.notes,
        send_thank_you=given.send_thank_you,
    )


def record(new: NewPayment, *, recorder: User, now: str) -> Payment:
    """Make the payment that `recorder` records at `now`; its id is still to be given (0)."""
    paid_at = new.paid_at or now
    return Payment(
        id=0,
        amount=new.amount,
        paid_at=paid_at,
        paid_date=paid_at[: len("YYYY-MM-DD")],
        recorded_by=recorder.name,
        recorded_by_email=recorder.email,
        notes=new.notes,
        created_at=now,
        updated_at=now,
    )


def payable(given: Decimal) -> Decimal:
    """Return an amount with no more digits than it needs.

    Raises:
        UnprocessableError: no payment can have it.
    """
    if not 0 < given < AMOUNTS_BELOW or given != given.quantize(SMALLEST_PART):
        raise UnprocessableError(
            f"amount must be above 0 and below {AMOUNTS_BELOW}, with 4 decimals at most: {given}"
        )
    # With no more digits than it needs, as v2 prints amounts: 10700 and 1575.86.
    return Decimal(f"{given.normalize():f}")


def _paid_at(given: _Parameters) -> str | None:
    if given.paid_at is not None and given.paid_date is not None:
        raise UnprocessableError("Give paid_at or paid_date, not both")
    if given.paid_at is not None:
        try:
            return read_moment(given.paid_at)
        except ValueError as error:
            raise UnprocessableError(
                f"paid_at is not an ISO 8601 date and time: {given.paid_at!r}"
            ) from error
    if given.paid_date is not None:
        try:
            return f"{read_date(given.paid_date)}T00:00:00Z"
        except ValueError as error:
            raise UnprocessableError(
                f"paid_date is not a date YYYY-MM-DD: {given.paid_date!r}"
            ) from error
    return None
