"""A strict reader of HAR 1.2: what the format asks for, and what Chromium's DevTools do besides."""

import base64
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

STRING, NUMBER, LIST, OBJECT = str, (int, float), list, dict

_FIELDS: Mapping[str, Mapping[str, Any]] = {
    "log": {"version": STRING, "creator": OBJECT, "entries": LIST},
    "creator": {"name": STRING, "version": STRING},
    "page": {"startedDateTime": STRING, "id": STRING, "title": STRING, "pageTimings": OBJECT},
    "entry": {
        "startedDateTime": STRING, "time": NUMBER, "request": OBJECT, "response": OBJECT,
        "cache": OBJECT, "timings": OBJECT,
    },
    "request": {
        "method": STRING, "url": STRING, "httpVersion": STRING, "cookies": LIST, "headers": LIST,
        "queryString": LIST, "headersSize": NUMBER, "bodySize": NUMBER,
    },
    "response": {
        "status": int, "statusText": STRING, "httpVersion": STRING, "cookies": LIST,
        "headers": LIST, "content": OBJECT, "redirectURL": STRING, "headersSize": NUMBER,
        "bodySize": NUMBER,
    },
    "content": {"size": NUMBER, "mimeType": STRING},
    "postData": {"mimeType": STRING, "text": STRING},
    "timings": {"send": NUMBER, "wait": NUMBER, "receive": NUMBER},
    "pair": {"name": STRING, "value": STRING},
}  # fmt: skip
"""By the format's objects, the fields that each must have."""

_MORE: Mapping[str, set[str]] = {
    "log": {"browser", "pages", "comment"},
    "entry": {"pageref", "serverIPAddress", "connection", "comment"},
    "request": {"postData", "comment"},
    "response": {"comment"},
    "content": {"compression", "text", "encoding", "comment"},
    "postData": {"comment"},
    "timings": {"blocked", "dns", "connect", "ssl", "comment"},
}
"""Those that it may have; all others begin with an underscore."""

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


def check(document: Any) -> None:
    """Raise AssertionError for whatever HAR 1.2 does not allow."""
    assert set(document) == {"log"}
    log = _object("log", document["log"])
    assert log["version"] == "1.2"
    _object("creator", log["creator"])
    pages = [_object("page", page)["id"] for page in log.get("pages", [])]
    assert len(set(pages)) == len(pages)
    for entry in log["entries"]:
        _entry(entry, pages)


def _entry(entry: Any, pages: list[str]) -> None:
    _object("entry", entry)
    assert entry.get("pageref", pages[0]) in pages
    timings = _object("timings", entry["timings"])
    spent = [timings[name] for name in ("send", "wait", "receive")]
    assert min(spent) >= 0
    assert abs(sum(spent) - entry["time"]) < 1e-6
    request = _object("request", entry["request"])
    assert request["url"].startswith(("http://", "https://"))
    assert re.fullmatch(r"HTTP/\d\.\d", request["httpVersion"])
    for pair in (*request["headers"], *request["queryString"], *entry["response"]["headers"]):
        _object("pair", pair)
    if "postData" in request:
        _object("postData", request["postData"])
    content = _object("content", _object("response", entry["response"])["content"])
    if "encoding" in content:
        assert content["encoding"] == "base64"
        base64.b64decode(content["text"], validate=True)


def _object(kind: str, value: Any) -> Any:
    fields = _FIELDS[kind]
    for name, type_ in fields.items():
        assert isinstance(value[name], type_), (kind, name)
    more = set(value) - set(fields) - _MORE.get(kind, set())
    assert all(name.startswith("_") for name in more), (kind, more)
    if "startedDateTime" in fields:
        assert _TIME.fullmatch(value["startedDateTime"])
        assert datetime.fromisoformat(value["startedDateTime"]).tzinfo is not None
    return value
