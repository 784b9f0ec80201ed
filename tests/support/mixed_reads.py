"""Mixed GETs of one integration, differences to plant in v1's answers, and what has to be found."""

import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

SMALL = (
    "/invoice/1420/messages", "/invoices/1420/messages", "/invoices/13150403/messages",
    "/invoice/1421/messages", "/invoice/1420/messages/403", "/invoice/1420/messages/409",
    "/invoices/1420/messages/403", "/invoices/1420/messages/409", "/invoice/1420/payments",
    "/invoices/1420/payments", "/invoice/1420/payments/45", "/invoice/1420/payments/46",
    "/invoices/1420/payments/45", "/invoices/1420/payments/46", "/account/who_am_i",
    "/account/rate_limit_status", "/invoice/1420/messages/1", "/invoices/999999/payments",
)  # fmt: skip
"""The last two are not there."""

PAGES = ("/invoice/4500/messages", "/invoices/4500/payments", "/invoices/4500/messages/10000")
"""Three pages of v2 each."""

PLANTED: tuple[dict[str, Any], ...] = (
    {"fault": "other-value", "element": "body", "path": "/invoice/1420/messages/409"},
    {"fault": "other-value", "element": "created-at", "path": "/invoices/13150403/messages",
     "number": 2, "value": "2001-01-01T00:00:00Z"},
    {"fault": "other-type", "element": "amount", "path": "/invoice/1420/payments/45"},
    {"fault": "missing-element", "element": "sent-by", "path": "/invoices/1420/messages/403"},
    {"fault": "missing-element", "element": "payment", "path": "/invoices/1420/payments"},
    {"fault": "extra-element", "element": "notes", "path": "/invoices/1420/payments/46"},
    {"fault": "swapped-elements", "element": "invoice-message", "path": "/invoice/1420/messages"},
    {"fault": "other-value", "element": "body", "path": "/invoice/4500/messages", "number": 4321},
)  # fmt: skip
"""Differences that stay; what is planted in every second answer does not."""

FLEETING: tuple[dict[str, Any], ...] = (
    {"fault": "other-value", "element": "subject", "path": "/invoices/1420/messages",
     "probability": 0.05},
    {"fault": "missing-element", "element": "company", "path": "/account/who_am_i", "every": 7},
)  # fmt: skip
"""Differences that come and go: another look may not find them."""


def reads(count: int, *, share_of_pages: float, seed: int = 7) -> Iterator[str]:
    """Yield so many paths."""
    chance = random.Random(seed)
    for _ in range(count):
        yield chance.choice(PAGES if chance.random() < share_of_pages else SMALL)


_WHAT = {
    "other-value": "{at}",
    "other-type": "{at}/@type (type)",
    "missing-element": "{at} (only the bridge has it)",
    "extra-element": "{above}/planted (only v1 has it)",
    "swapped-elements": "{above}/order() (order)",
}


def places(planted: Iterable[Mapping[str, Any]]) -> dict[str, set[str]]:
    """Return where the answers to each request have to differ, by what v1 says of them."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for each in planted:
        at = re.sub(r"\[[0-9]+\]", "", each["at"])
        above = at.rpartition("/")[0]
        found[each["request_id"]].add(_WHAT[each["fault"]].format(at=at, above=above))
    return dict(found)
