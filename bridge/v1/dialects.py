"""The dialects of v1: the two shapes its XML took on the wire.

What differs between them is data, kept in tables keyed by `Dialect` where it is used.
"""

from enum import StrEnum


class Dialect(StrEnum):
    """A shape of v1 XML (schemas/README.md, "Dialects")."""

    CLASSIC = "classic"
    """As v1 was published in 2008, on `/invoice/…`."""
    FINAL = "final"
    """As v1 was published in 2015, on `/invoices/…`."""

    __hash__ = str.__hash__  # of the text that it equals; and a call of Python less than Enum's
