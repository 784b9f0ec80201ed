"""Typed values as v1 spells them: text from a value and a value from text.

Elements, attributes and nil are not known here; what is read has a `name` for the error to say.
"""

import re
from datetime import UTC, date, datetime
from decimal import Decimal

from bridge.v1.errors import InvalidRequest

_OFFSET_WITHOUT_PLUS = re.compile(r"(T[0-9:.,]+) (\d\d:?\d\d)$")
"""`…T18:30 02:00`: what is left of `+02:00` in a query whose client did not escape the plus."""

_HOUR_OF_ONE_DIGIT = re.compile(r"^(\d{4}-\d\d-\d\d[ T])(\d:)")
"""PHP's `G:i`, which a widespread client uses."""


def boolean_text(value: bool) -> str:
    """Spell a boolean in XML Schema's canonical form: `true` or `false`."""
    return "true" if value else "false"


def decimal_text(value: Decimal) -> str:
    """Spell a finite number as Rails did: plainly, with one decimal or as many as it needs."""
    if not value:
        return "0.0"  # of whatever exponent and sign
    whole, _, fraction = f"{value:f}".partition(".")
    return f"{whole}.{fraction.rstrip('0') or '0'}"


def datetime_text(value: date) -> str:
    """Spell a point in time as xs:dateTime in UTC, with `Z` and whole seconds.

    A time without an offset is UTC, the only zone that v2 documents. A day is its midnight.

    Raises:
        OverflowError: the UTC time lies outside the years 1 to 9999.
    """
    if not isinstance(value, datetime):
        return f"{value.isoformat()}T00:00:00Z"
    utc = value.astimezone(UTC) if value.tzinfo else value
    return utc.replace(microsecond=0, tzinfo=None).isoformat() + "Z"


_BOOLEANS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}


def read_boolean(text: str, name: str) -> bool:
    """Read a boolean as Rails did: true, false, t, f, 1 or 0, in any case.

    Raises:
        InvalidRequest: `text` is none of these.
    """
    value = _BOOLEANS.get(text.strip().lower())
    if value is None:
        raise InvalidRequest(f"{name} must be true or false.")
    return value


def read_datetime(text: str, name: str) -> datetime:
    """Read v1's `2010-09-25 18:30`, or any other ISO 8601 form; without an offset it is UTC.

    Raises:
        InvalidRequest: `text` is no date and time.
    """
    try:
        return read_clock(text, name).astimezone(UTC)
    except OverflowError:
        raise _no_datetime(name) from None


def read_clock(text: str, name: str) -> datetime:
    """Read what `read_datetime` reads, as the clock shows it that it was read from.

    Raises:
        InvalidRequest: `text` is no date and time.
    """
    try:
        iso = _HOUR_OF_ONE_DIGIT.sub(r"\g<1>0\2", text.strip())
        value = datetime.fromisoformat(_OFFSET_WITHOUT_PLUS.sub(r"\1+\2", iso))
    except ValueError:
        raise _no_datetime(name) from None
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _no_datetime(name: str) -> InvalidRequest:
    return InvalidRequest(f"{name} is no UTC date and time such as 2010-09-25 18:30.")


_DECIMAL = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)")


def read_decimal(text: str, name: str, most_digits: int) -> Decimal:
    """Read a decimal number, written plainly: no exponent, and no separators but the point.

    Raises:
        InvalidRequest: `text` is no such number, or has too many digits.
    """
    number = text.strip()
    if _DECIMAL.fullmatch(number) is None:
        raise InvalidRequest(f"{name} is no decimal number such as 1200.50.")
    if sum(map(str.isdigit, number)) > most_digits:
        raise InvalidRequest(f"{name} has more than {most_digits} digits.")
    return Decimal(number)
