"""The body of a create call, JSON, read as a struct. What its fields mean is said there."""

from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

import msgspec

from bridge.sandbox.errors import MalformedBodyError, UnprocessableError

_Parameters = TypeVar("_Parameters", bound=msgspec.Struct)

# Decimals are kept as they are written: a float would round them.
_DECODER: msgspec.json.Decoder[Any] = msgspec.json.Decoder(float_hook=Decimal)


def read_body(body: bytes, kind: type[_Parameters]) -> _Parameters:
    """Read the body of a create call.

    Unknown fields are ignored. A null counts as an absent field: the v2 documentation writes
    null for the default of `event_type` and gives it no other meaning elsewhere. A decimal has to
    be a number, for that is how v2 answers one; text is refused.

    Raises:
        MalformedBodyError: the body is not JSON, or not an object.
        UnprocessableError: a field is missing, or a value is of the wrong type.
    """
    given = {name: value for name, value in _json_object(body).items() if value is not None}
    try:
        # What is said to be built in is not made of text.
        return msgspec.convert(given, kind, builtin_types=(Decimal,))
    except msgspec.ValidationError as error:
        raise UnprocessableError(str(error)) from error


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        value = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedBodyError(f"Request body is not JSON: {error}") from error
    except InvalidOperation as error:
        raise MalformedBodyError("Request body is not JSON: a number is out of range") from error
    if not isinstance(value, dict):
        raise MalformedBodyError("Request body is not a JSON object")
    return value
