"""Typed values as v1 spells them: text from a value and a value from text.

Elements, attributes and nil are not known here; what is read has a `name` for the error to say.
"""

import re
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal

from bridge.v1.errors import InvalidRequest
from bridge.v1.problems import Problem


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
        raise InvalidRequest(f"{name} must be true or false.", Problem.BAD_BOOLEAN)
    return value


_LONGEST_DATETIME = 64
"""Characters: nearly twice as many as nanoseconds and an offset take."""

_DATETIME = re.compile(
    r"""
    (?P<year>[0-9]{4})
    (?: -(?P<month>[0-9]{2})-(?P<day>[0-9]{2}) | (?P<month_>[0-9]{2})(?P<day_>[0-9]{2})
      | -?W(?P<week>[0-9]{2}) (?: -?(?P<weekday>[1-7]) )?
      | -?(?P<ordinal>[0-9]{3})
    )
    (?: (?: [Tt+] | [ ]+ )  # a plus is a blank that was escaped twice
        (?P<hour> [0-9]{2} | [0-9](?=:) )  # one digit: PHP's `G:i`, of a widespread client
        (?: :?(?P<minute>[0-5][0-9]) (?: :?(?P<second>[0-5][0-9]|60) )? )?
        (?: [.,](?P<fraction>[0-9]+) )?
        (?: [ ]* (?: [Zz] | UTC | GMT )
          | (?: [ ]*(?P<sign>[+-]) | [ ]+(?=[0-9]{2}:?[0-9]) )  # a plus that was not escaped
            (?P<offset_hours>[01][0-9]|2[0-3]) (?: :?(?P<offset_minutes>[0-5][0-9]) )?
        )?
    )?
    """,
    re.VERBOSE,
)
"""ISO 8601, and what Ruby writes: `2010-09-25 18:30:00 UTC`, `2010-09-25 18:30:00 +0200`."""

_MICROSECONDS = {"second": 10**6, "minute": 60 * 10**6, "hour": 3600 * 10**6}


def read_datetime(text: str, name: str) -> datetime:
    """Read a point in time; without an offset it is UTC (schemas/README.md, "List messages").

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
    text = text.strip()
    found = _DATETIME.fullmatch(text) if len(text) <= _LONGEST_DATETIME else None
    if found is None:
        raise _no_datetime(name)
    try:
        return datetime.combine(_day(found), time(), _zone(found)) + _since_midnight(found)
    except (ValueError, OverflowError):
        raise _no_datetime(name) from None


def _day(found: re.Match[str]) -> date:
    year = int(found["year"])
    if found["week"]:
        return date.fromisocalendar(year, int(found["week"]), int(found["weekday"] or 1))
    if found["ordinal"]:
        day = date(year, 1, 1) + timedelta(days=int(found["ordinal"]) - 1)
        if day.year != year:
            raise ValueError("no day of this year")
        return day
    return date(year, int(found["month"] or found["month_"]), int(found["day"] or found["day_"]))


def _zone(found: re.Match[str]) -> timezone:
    offset = timedelta(
        hours=int(found["offset_hours"] or 0), minutes=int(found["offset_minutes"] or 0)
    )
    return timezone(-offset if found["sign"] == "-" else offset)


def _since_midnight(found: re.Match[str]) -> timedelta:
    """Return how long after its midnight a time of day is; `24:00` is the end of the day.

    Raises:
        ValueError: it is later than that.
    """
    told = {unit: found[unit] for unit in _MICROSECONDS if found[unit]}
    passed = sum(int(text) * _MICROSECONDS[unit] for unit, text in told.items())
    if fraction := found["fraction"]:
        smallest = next(iter(told))  # whose fraction it is (ISO 8601-1, section 5.3.1.4)
        passed += int(fraction) * _MICROSECONDS[smallest] // 10 ** len(fraction)
    since = timedelta(microseconds=passed)
    if since > timedelta(days=1):
        raise ValueError("after the end of the day")
    return since


def _no_datetime(name: str) -> InvalidRequest:
    return InvalidRequest(
        f"{name} is no UTC date and time such as 2010-09-25 18:30.", Problem.BAD_TIME
    )


_DECIMAL = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)")


def read_decimal(text: str, name: str, most_digits: int) -> Decimal:
    """Read a decimal number, written plainly: no exponent, and no separators but the point.

    Raises:
        InvalidRequest: `text` is no such number, or has too many digits.
    """
    number = text.strip()
    if _DECIMAL.fullmatch(number) is None:
        raise InvalidRequest(f"{name} is no decimal number such as 1200.50.", Problem.BAD_NUMBER)
    if sum(map(str.isdigit, number)) > most_digits:
        raise InvalidRequest(f"{name} has more than {most_digits} digits.", Problem.BAD_NUMBER)
    return Decimal(number)
