"""Captured calls as HAR 1.2, which browsers' developer tools open: an entry a legacy or v2 call.

Each legacy call is a page, so that its v2 calls stand with it. What begins with an underscore is
the bridge's own, as the format allows.
"""

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import msgspec

from bridge import __version__
from bridge.record.log.exchange import Exchange, Message, UpstreamExchange
from bridge.record.log.times import moment

Object = dict[str, Any]

_UNKNOWN = -1
"""The format's word for a size or time that nobody knows."""


class Captured(NamedTuple):
    """A call and what was kept of it."""

    id: int
    request_id: str
    title: str
    """What the page is called: the method and the route."""
    integration: str
    exchange: Exchange


def write(calls: Iterable[Captured]) -> Iterator[bytes]:
    """Return the parts of a document with these calls.

    The pages come last: what is held of a call that has been written is its page alone.
    """
    head = {"version": "1.2", "creator": {"name": "harvest-bridge", "version": __version__}}
    yield b'{"log":' + _json.encode(head)[:-1] + b',"entries":['
    pages: list[Object] = []
    for call in calls:
        for at, entry in enumerate(_entries(call)):
            yield (b",\n" if pages or at else b"\n") + _json.encode(entry)
        pages.append(_page(call))
    yield b'\n],"pages":' + _json.encode(pages) + b"}}\n"


def _page(call: Captured) -> Object:
    return {
        "startedDateTime": _time(call.exchange.began),
        "id": str(call.id),
        "title": call.title,
        "pageTimings": {},
        "_request_id": call.request_id,
        "_integration": call.integration,
        "_raw": call.exchange.raw,
    }


def _entries(call: Captured) -> Iterator[Object]:
    exchange = call.exchange
    entry = _entry(exchange, exchange.began, exchange.milliseconds, exchange.http or "1.1")
    told = {"_side": "v1", "_request_id": call.request_id}
    if exchange.shared_with:
        told["comment"] = f"Got the answer to {exchange.shared_with}, too: v2 was asked for that."
        told["_shared_with"] = exchange.shared_with
    yield {"pageref": str(call.id), **entry, **told}
    for each in exchange.upstream:
        entry = _entry(each, exchange.began + each.started, each.milliseconds or 0.0, "1.1")
        told = {"_side": "v2", "_request_id": call.request_id}
        if each.shared:
            told["comment"] = "Made for another legacy call, which asked the same."
        yield {"pageref": str(call.id), **entry, **told}


def _entry(
    said: Exchange | UpstreamExchange, began: float, milliseconds: float, http: str
) -> Object:
    version = f"HTTP/{http}"
    error = said.error if isinstance(said, UpstreamExchange) else None
    return {
        "startedDateTime": _time(began),
        "time": milliseconds,
        "request": _request(said, version),
        "response": _response(said, version, error),
        "cache": {},
        # What is measured is the whole: it goes where the waiting is.
        "timings": {"send": 0, "wait": milliseconds, "receive": 0},
    }


def _request(said: Exchange | UpstreamExchange, version: str) -> Object:
    message = said.request or Message((), b"", 0)
    request = {
        "method": said.method,
        "url": said.url,
        "httpVersion": version,
        "cookies": [],
        "headers": _headers(message),
        "queryString": [
            {"name": name, "value": value}
            for name, value in parse_qsl(said.url.partition("?")[2], keep_blank_values=True)
        ],
        "headersSize": _UNKNOWN,
        "bodySize": message.size,
    }
    if message.size:
        text = _text(message)
        request["postData"] = {
            "mimeType": _type(message),
            # The format has no word for a request that is no text: one that the bridge has is.
            "text": message.body.decode("latin-1") if text is None else text,
            **_left_out(message),
        }
    return request


def _response(said: Exchange | UpstreamExchange, version: str, error: str | None) -> Object:
    message = said.answer or Message((), b"", 0)
    status = said.status or 0
    content: Object = {"size": message.size, "mimeType": _type(message), **_left_out(message)}
    if (text := _text(message)) is None:
        content["text"] = b64encode(message.body).decode()
        content["encoding"] = "base64"
    elif text:
        content["text"] = text
    response = {
        "status": status,
        "statusText": _phrase(status),
        "httpVersion": version,
        "cookies": [],
        "headers": _headers(message),
        "content": content,
        "redirectURL": "",
        "headersSize": _UNKNOWN,
        "bodySize": message.size if said.answer else _UNKNOWN,
    }
    return {**response, "_error": error} if error else response


def _headers(message: Message) -> list[Object]:
    return [{"name": name, "value": value} for name, value in message.headers]


def _header(message: Message, wanted: str) -> str:
    return next((value for name, value in message.headers if name.lower() == wanted), "")


def _type(message: Message) -> str:
    return _header(message, "content-type") or "x-unknown"


def _text(message: Message) -> str | None:
    """Return the body as text, None if it is none: it is UTF-8, or all else is base64."""
    try:
        return message.body.decode()
    except UnicodeDecodeError:
        return None


def _left_out(message: Message) -> Mapping[str, str]:
    if message.left_out is None:
        return {}
    kept = len(message.body)
    told = f"{kept} of {message.size} bytes are kept: {message.left_out}"
    return {"comment": told, "_left_out": message.left_out}


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _time(milliseconds: float) -> str:
    return moment(milliseconds).isoformat(timespec="milliseconds").replace("+00:00", "Z")


_json = msgspec.json.Encoder()
