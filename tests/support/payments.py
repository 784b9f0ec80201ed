"""Payments: as v2 answers them, as a legacy client sends one, and what v2 makes of that."""

from typing import Any

PAY = b"""<payment>
  <amount type="decimal">1200.50</amount><paid-at>2010-09-25 18:30</paid-at><notes>By  cheque</notes>
</payment>"""
PAID = {
    "amount": 1200.5,
    "paid_at": "2010-09-25T18:30:00Z",
    "notes": "By  cheque",
    "send_thank_you": False,
}
"""What v2 is sent for it."""


def payment(**fields: Any) -> dict[str, Any]:
    """Return a payment as the vendor documents it, but for `fields`."""
    return {
        "id": 10112854,
        "amount": 10700,
        "paid_at": "2017-02-21T00:00:00Z",
        "paid_date": "2017-02-21",
        "recorded_by": "Alice Doe",
        "recorded_by_email": "alice@example.com",
        "notes": "Paid via check #4321",
        "transaction_id": None,
        "payment_gateway": {"id": 1234, "name": "Linkpoint International"},
        "created_at": "2017-06-27T16:24:30Z",
        "updated_at": "2017-06-27T16:24:30Z",
        **fields,
    }


def paid(**fields: Any) -> dict[str, Any]:
    """Return the payment that v2 makes of `PAY`, but for `fields`."""
    return payment(
        **{
            "id": 501,
            "amount": 1200.5,
            "paid_at": "2010-09-25T18:30:00Z",
            "paid_date": "2010-09-25",
            "notes": "By cheque",
            **fields,
        }
    )
