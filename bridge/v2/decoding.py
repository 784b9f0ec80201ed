"""v2's JSON into typed values. Which types is the caller's business."""

import re
from collections.abc import Iterator
from functools import cache
from itertools import islice
from typing import Any, TypeVar

import msgspec

from bridge.v2.errors import UpstreamFault

T = TypeVar("T")

MOST_OBJECTS = 200_000
"""In one answer: a hundred for each item of a full page. Braces in texts count, too."""

MOST_VALUES = 1_000_000
"""In one answer: as many as data that is not counted can have. Commas in texts count, too."""

COUNTED = 2 * 1024 * 1024
"""Bytes: in longer data, objects and values are counted before they are made. A full page is
shorter, most of the time, and to count takes a fiftieth of the time that it takes to translate."""

REPAIRABLE = 16 * 1024 * 1024
"""Bytes: longer data is not searched for lone surrogates, which takes a second at this length."""

MOST_REPAIRS = 100_000
"""Lone surrogates of one answer: each takes a microsecond to replace."""

_COUNTED_BY = ((b"{", MOST_OBJECTS, "objects"), (b",", MOST_VALUES, "values"))
"""Every value stands behind one of these, or is the first of its list; and lists nest not deep."""

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPE = re.compile(
    rb"(?:\\\\)++"  # a backslash that begins nothing
    rb"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(?P<lone>\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)
_LONGEST_ESCAPE = len(rb"\ud83d\ude00")

_WINDOW = 64 * 1024
"""Bytes that are searched before another thread can have the interpreter: a millisecond or two."""


def decode(data: bytes | msgspec.Raw, type_: type[T]) -> T:
    """Decode a JSON document, or a part of one, as `type_`.

    Raises:
        UpstreamFault: the data is not JSON, or not of this type, or has more than `MOST_OBJECTS`
            or `MOST_VALUES`. Names the place, not the value.
    """
    octets = bytes(data)
    # Before they are made, which nothing interrupts.
    if len(octets) > COUNTED:
        for sign, most, what in _COUNTED_BY:
            if octets.count(sign) > most:
                raise UpstreamFault(f"v2 sent more than {most} {what} at once")
    try:
        decoded: T = _decoder(type_).decode(octets)  # type: ignore[arg-type] # classes are hashable
    except msgspec.ValidationError as error:
        raise UpstreamFault(f"v2 sent JSON of the wrong shape: {error}") from None
    except msgspec.DecodeError as error:
        if (repaired := replace_lone_surrogates(octets)) is not octets:
            return decode(repaired, type_)
        raise UpstreamFault(f"v2 sent no JSON: {error}") from None
    except (ValueError, RecursionError) as error:
        # UnicodeDecodeError prints the bytes it stumbled over; its class says enough.
        raise UpstreamFault(f"v2 sent no JSON: {type(error).__name__}") from None
    return decoded


def convert(value: object, type_: type[T]) -> T:
    """Understand as `type_` what has been decoded as a type with the same members.

    Raises:
        UpstreamFault: that cannot be. Names the place, not the value.
    """
    try:
        return msgspec.convert(value, type_, from_attributes=True)
    except msgspec.ValidationError as error:
        raise UpstreamFault(f"v2 sent JSON of the wrong shape: {error}") from None


@cache
def _decoder(type_: Any) -> "msgspec.json.Decoder[Any]":  # noqa: ANN401 - whatever is decoded
    return msgspec.json.Decoder(type_)


def replace_lone_surrogates(data: bytes) -> bytes:
    r"""Replace `\ud800` and its like by U+FFFE.

    RFC 8259, section 8.2, lets JSON carry lone surrogates; msgspec does not. U+FFFE is as foreign
    to XML as they are, so the writer replaces it with a note that names the element.

    Returns `data` itself where there is nothing to replace, or too much: where v2 is broken, the
    repair must not cost more than a long answer does.
    """
    if len(data) > REPAIRABLE or _SURROGATE.search(data) is None:
        return data
    lone = list(islice(_lone_surrogates(data), MOST_REPAIRS + 1))
    if not lone or len(lone) > MOST_REPAIRS:
        return data
    repaired = bytearray(data)
    for at in lone:
        repaired[at : at + 6] = rb"\ufffe"
    return bytes(repaired)


def _lone_surrogates(data: bytes) -> Iterator[int]:
    """Find where lone surrogates stand, window by window; each begins where no escape is cut."""
    at = 0
    while at < len(data):
        end = at + _WINDOW
        for found in _ESCAPE.finditer(data, at, end + _LONGEST_ESCAPE):
            if found.start() >= end:
                break
            at = found.end()
            if found["lone"]:
                yield found.start()
        at = max(at, end)
