"""v2's JSON into typed values. Which types is the caller's business."""

import re
from functools import cache
from typing import Any, TypeVar

import msgspec

from bridge.v2.errors import UpstreamFault

T = TypeVar("T")

_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(?P<lone>u[dD][89a-fA-F][0-9a-fA-F]{2})"
    rb"|.)"
)


def decode(data: bytes | msgspec.Raw, type_: type[T]) -> T:
    """Decode a JSON document, or a part of one, as `type_`.

    Raises:
        UpstreamFault: the data is not JSON, or not of this type. Names the place, not the value.
    """
    try:
        decoded: T = _decoder(type_).decode(data)  # type: ignore[arg-type] # classes are hashable
    except msgspec.ValidationError as error:
        raise UpstreamFault(f"v2 sent JSON of the wrong shape: {error}") from None
    except msgspec.DecodeError as error:
        if (repaired := _replace_lone_surrogates(octets := bytes(data))) != octets:
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


def _replace_lone_surrogates(data: bytes) -> bytes:
    r"""Replace `\ud800` and its like by U+FFFE.

    RFC 8259, section 8.2, lets JSON carry lone surrogates; msgspec does not. U+FFFE is as foreign
    to XML as they are, so the writer replaces it with a note that names the element.
    """
    return _ESCAPE.sub(lambda found: rb"\ufffe" if found["lone"] else found[0], data)
