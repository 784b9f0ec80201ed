"""Recordings in HAR 1.2, each as the program writes it that it is named for."""

import json
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

XML = "application/xml; charset=utf-8"
ACME = "https://acme.harvestapp.com"


class Call(NamedTuple):
    """A call to be recorded."""

    target: str
    body: str | bytes = ""
    status: int = 200
    method: str = "GET"
    headers: Mapping[str, str] = {}
    content_type: str = XML
    origin: str = ACME
    sent: Mapping[str, str] = {"Authorization": "Basic YTpi", "Accept": "application/xml"}

    @property
    def octets(self) -> bytes:
        return self.body.encode() if isinstance(self.body, str) else self.body


def _pairs(headers: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in headers.items()]


def chromium(call: Call) -> dict[str, Any]:
    """As the network panel exports it, with the credentials left out, over HTTP/2."""
    sent = {name: value for name, value in call.sent.items() if name != "Authorization"}
    pseudo = {":method": call.method, ":authority": "acme.harvestapp.com", ":scheme": "https"}
    return {
        "_initiator": {"type": "other"},
        "_resourceType": "fetch",
        "cache": {},
        "connection": "443",
        "pageref": "page_1",
        "request": {
            "method": call.method,
            "url": call.origin + call.target,
            "httpVersion": "http/2.0",
            "headers": _pairs({**pseudo, **sent}),
            "queryString": [],
            "cookies": [],
            "headersSize": -1,
            "bodySize": 0,
        },
        "response": {
            "status": call.status,
            "statusText": "",
            "httpVersion": "http/2.0",
            "headers": _pairs({"content-type": call.content_type, **call.headers}),
            "cookies": [],
            "content": {
                "size": len(call.octets),
                "mimeType": call.content_type.partition(";")[0],
                "text": call.octets.decode(),
            },
            "redirectURL": "",
            "headersSize": -1,
            "bodySize": -1,
            "_transferSize": 300,
            "_error": None,
        },
        "serverIPAddress": "203.0.113.7",
        "startedDateTime": "2026-11-01T10:00:00.000Z",
        "time": 12.3,
        "timings": {"blocked": 1, "send": 0, "wait": 11, "receive": 0.3, "_blocked_queueing": 1},
    }


def mitmproxy(call: Call) -> dict[str, Any]:
    """As `savehar` writes it: what looks binary is base64, with its encoding undone."""
    return {
        "startedDateTime": "2026-11-01T10:00:00.000000+00:00",
        "time": 12.3,
        "request": {
            "method": call.method,
            "url": call.origin + call.target,
            "httpVersion": "HTTP/1.1",
            "cookies": [],
            "headers": _pairs(call.sent),
            "queryString": [],
            "headersSize": 100,
            "bodySize": 0,
        },
        "response": {
            "status": call.status,
            "statusText": "OK",
            "httpVersion": "HTTP/1.1",
            "cookies": [],
            "headers": _pairs({"Content-Type": call.content_type, **call.headers}),
            "content": {
                "size": len(call.octets),
                "compression": 0,
                "mimeType": call.content_type,
                "text": b64encode(call.octets).decode(),
                "encoding": "base64",
            },
            "redirectURL": "",
            "headersSize": 100,
            "bodySize": len(call.octets),
        },
        "cache": {},
        "timings": {"connect": -1, "ssl": -1, "send": 1, "receive": 1, "wait": 10},
        "serverIPAddress": "203.0.113.7",
    }


def sparse(call: Call) -> dict[str, Any]:
    """With hardly anything, as scripts write it."""
    content = {"text": call.octets.decode()}
    return {
        "request": {"method": call.method.lower(), "url": call.origin + call.target},
        "response": {"status": call.status, "content": content},
    }


def document(entries: Iterable[Any], **more: Any) -> dict[str, Any]:
    log = {"version": "1.2", "creator": {"name": "test", "version": "1"}, **more}
    return {"log": {**log, "entries": list(entries)}}


def record(
    path: Path,
    calls: Iterable[Call],
    by: Callable[[Call], Mapping[str, Any]] = mitmproxy,
    mark: bytes = b"",
) -> Path:
    """Write a recording of calls, made by a program, and return where it is."""
    path.write_bytes(mark + json.dumps(document(map(by, calls))).encode())
    return path
