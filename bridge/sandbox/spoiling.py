"""Right answers made wrong: bytes in, bytes out. Pure; when that is done is in misbehaviour.py."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

WRONG_SHAPES: Mapping[str, bytes] = {
    "list": b"[]",
    "object": b"{}",
    "string": b'"OK"',
    "null": b"null",
}

_OTHER_TYPES: Mapping[type, Callable[[Any], object]] = {
    int: str,
    float: str,
    bool: lambda value: "true" if value else "false",
    str: len,
    type(None): lambda _: {},
    list: lambda _: "none",
    dict: lambda _: [],
}


def first_half(body: bytes) -> bytes:
    """Return JSON that ends in its middle; what has no middle becomes JSON that has no end."""
    return body[: len(body) // 2] or b"{"


def with_wrong_type(body: bytes, field: str) -> bytes:
    """Give every member called `field`, however deep, a value of another type."""
    if not body:
        return body
    return msgspec.json.encode(_with_wrong_type(msgspec.json.decode(body), field))


def _with_wrong_type(value: object, field: str) -> object:
    if isinstance(value, dict):
        return {
            name: _OTHER_TYPES[type(member)](member)
            if name == field
            else _with_wrong_type(member, field)
            for name, member in value.items()
        }
    if isinstance(value, list):
        return [_with_wrong_type(each, field) for each in value]
    return value


def with_next_link(body: bytes, url: str) -> bytes:
    """Have a list's `links.next` be `url`; what is no list stays as it is."""
    value = msgspec.json.decode(body) if body else None
    if not isinstance(value, dict) or not isinstance(value.get("links"), dict):
        return body
    value["links"]["next"] = url
    return msgspec.json.encode(value)


_PADDING_STARTS = b'{"padding":"'


def padded(body: bytes, size: int) -> tuple[bytes, int, bytes]:
    """Return how a body of `size` bytes starts, how long its padding is, and how it ends.

    The body is that of `body`, a JSON object or nothing, with the member `padding` in front. It is
    longer than `size` where that is too little for the rest.
    """
    ends = b'",' + body[1:] if len(body) > len(b"{}") else b'"}'
    return _PADDING_STARTS, max(0, size - len(_PADDING_STARTS) - len(ends)), ends
