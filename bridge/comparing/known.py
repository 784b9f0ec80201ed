"""The known differences: what v1 answered and the bridge answers otherwise by nature, as a table.

One row, one fact, each with its reason; `docs/verify.md` has the same table.
"""

from collections.abc import Callable, Iterable
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

from bridge.comparing.findings import Kind
from bridge.comparing.paths import Paths, Steps
from bridge.v1.errors import InvalidRequest
from bridge.v1.values import read_datetime

Value = str | None
"""Of an element or attribute; None: it is null, or not there."""


class Known(NamedTuple):
    """A known difference."""

    name: str
    kind: Kind
    paths: Paths | None
    """Where it can be; None: anywhere."""
    holds: Callable[[Value, Value], bool]
    """Whether these two values differ by it only; they may come in either order."""
    reason: str
    types: frozenset[str] = frozenset()
    """What the elements may say in `type`, on either side; none: anything."""


def known_at(kind: Kind, place: Steps) -> tuple[Known, ...]:
    """Return the known differences of a kind that there can be at a place."""
    return tuple(
        each
        for each in KNOWN
        if each.kind is kind and (each.paths is None or each.paths.has(place))
    )


def name_of(
    candidates: Iterable[Known], types: frozenset[str], one: Value, other: Value
) -> str | None:
    """Return the name of the one by which two values differ; None: by none of them."""
    for each in candidates:
        if (not each.types or types <= each.types) and each.holds(one, other):
            return each.name
    return None


ERROR = "error"
"""Stands for the type of an element where it is an error that is compared."""

NULL = "nil"
"""Stands for the type of an element that is null on both sides."""

UNTYPED = frozenset({""})
"""The types of an element that has none on either side."""

LONGEST_NUMBER = 64
"""Characters of a number: twice as many as any that the bridge writes."""


def _whatever(_one: Value, _other: Value) -> bool:
    return True


def _same_second(one: Value, other: Value) -> bool:
    try:
        times = [read_datetime(each or "", "") for each in (one, other)]
    except InvalidRequest:
        return False
    return times[0].replace(microsecond=0) == times[1].replace(microsecond=0)


def _same_day(one: Value, other: Value) -> bool:
    """Tell whether one is midnight UTC, and the other of that day."""
    try:
        times = [read_datetime(each or "", "") for each in (one, other)]
    except InvalidRequest:
        return False
    midnights = [each for each in times if not (each.hour or each.minute or each.second)]
    return bool(midnights) and times[0].date() == times[1].date()


def _same_number(one: Value, other: Value) -> bool:
    try:
        numbers = [Decimal((each or "")[:LONGEST_NUMBER]) for each in (one, other)]
    except InvalidOperation:
        return False
    return max(len(one or ""), len(other or "")) <= LONGEST_NUMBER and numbers[0] == numbers[1]


_SPELLING = str.maketrans("", "", ' \t\r\n"\\')


LONGEST_LIST = 64 * 1024
"""Characters of a list of recipients: twice as many as the bridge takes."""


def _same_recipients(one: Value, other: Value) -> bool:
    if max(len(one or ""), len(other or "")) > LONGEST_LIST:
        return False
    return (one or "").translate(_SPELLING) == (other or "").translate(_SPELLING)


def _same_lines(one: Value, other: Value) -> bool:
    if one is None or other is None:
        return False
    return one.replace("\r\n", "\n") == other.replace("\r\n", "\n")


def _no_text(one: Value, other: Value) -> bool:
    return not one and not other


def _same_beyond_the_host(one: Value, other: Value) -> bool:
    if not one or not other:
        return False
    shorter, longer = sorted((one, other), key=len)
    return shorter.startswith("/") and longer.endswith(shorter)


def _times(one: Value, other: Value) -> bool:
    return {one, other} == {"datetime", "dateTime"}


def _one_only(one: Value, other: Value) -> bool:
    return one is None or other is None


def _both_4xx_or_5xx(one: Value, other: Value) -> bool:
    return one is not None and other is not None and one[0] == other[0] and one[0] in "45"


def _both_xml(one: Value, other: Value) -> bool:
    return {one, other} == {"application/xml", "text/xml"}


def _of_an_empty_list(one: Value, other: Value) -> bool:
    return "nil-classes" in {one, other}


_ANY_TYPE = Paths(["//@type"])
_TIMES = frozenset({"datetime", "dateTime"})

KNOWN = (
    Known(
        "time-type", Kind.TYPE, _ANY_TYPE, _times,
        "v1 wrote `datetime`, and by 2015 `dateTime`; the dialect decides.",
    ),
    Known(
        "null-type", Kind.TYPE, _ANY_TYPE, _one_only,
        "v1 wrote a null with its `type` or without; the bridge always with it.",
        frozenset({NULL}),
    ),
    Known(
        "time-spelling", Kind.VALUE, None, _same_second,
        "v1 was recorded with `+00:00` for `Z`; the bridge converts offsets, and cuts the "
        "fractions of seconds that v2 has.",
        _TIMES,
    ),
    Known(
        "paid-day", Kind.VALUE, Paths(["//paid-at"]), _same_day,
        "v2 may know only the day of a payment; the bridge says midnight UTC.",
    ),
    Known(
        "number-spelling", Kind.VALUE, None, _same_number,
        "v1 wrote `10700.0`, and v2 has a number; the bridge writes every digit that v2 has, and "
        "one behind the point at least.",
        frozenset({"decimal", "float"}),
    ),
    Known(
        "recipients-spelling", Kind.VALUE, Paths(["//full-recipient-list"]), _same_recipients,
        "By its year, v1 quoted names or not, and put a blank behind a comma or not; the dialect "
        "decides.",
    ),
    Known(
        "line-ends", Kind.VALUE, None, _same_lines,
        "v1 wrote carriage returns as they are, and XML reads those with a line feed as one line "
        "feed; the bridge writes `&#13;`, which is kept.",
    ),
    Known(
        "empty-or-null", Kind.VALUE, None, _no_text,
        "Where v1 had an empty text, v2 may have null, and the other way round; Rails reads both "
        "as nil.",
        UNTYPED,
    ),
    Known(
        "pay-pal-link", Kind.VALUE, Paths(["//include-pay-pal-link"]), _whatever,
        "v1 kept it with each message; v2 says instead whether the invoice has payment options.",
    ),
    Known(
        "host-called", Kind.VALUE,
        Paths(["/hash/company/base-uri", "/hash/company/full-domain"]), _whatever,
        "Each side names the host that it was called by.",
    ),
    Known(
        "zone-offset", Kind.VALUE, Paths(["/hash/user/timezone-utc-offset"]), _whatever,
        "It is that of the time of the call, which may lie on the other side of a change of "
        "clocks.",
    ),
    Known(
        "avatar-host", Kind.VALUE, Paths(["/hash/user/avatar-url"]), _same_beyond_the_host,
        "v1 had a path of its own host there; v2 has a whole URL.",
    ),
    Known(
        "own-count", Kind.VALUE,
        Paths([
            "/hash/last-access-at", "/hash/count", "/hash/max-calls", "/hash/lockout-seconds",
        ]),
        _whatever,
        "v1 counted its own calls, within its own limit; the bridge counts those to v2.",
    ),
    Known(
        "empty-list", Kind.ROOT, None, _of_an_empty_list,
        "Rails named the root of an empty list `nil-classes`, whatever it was a list of.",
    ),
    Known(
        "error-status", Kind.STATUS, None, _both_4xx_or_5xx,
        "v1 knew few statuses, such as 404 for what a role may not see; the bridge has the one "
        "that is true. Clients go by the class.",
    ),
    Known(
        "error-body", Kind.FORMAT, None, _whatever,
        "What v1 said in the body of an error is not known, nor read; the bridge has `<errors>`.",
        frozenset({ERROR}),
    ),
    Known(
        "media-type", Kind.FORMAT, None, _both_xml,
        "XML has two media types, and v1 may have used either; clients take both.",
    ),
)  # fmt: skip
