"""The same list by Python's usual means: Flask and xmltodict. It checks and logs nothing.

gunicorn runs it; the environment's `UPSTREAM` is the base URL of v2.
"""

import os
import threading
from typing import Any

import requests
import xmltodict
from flask import Flask, Response, request  # type: ignore[import-not-found]

_UPSTREAM = os.environ.get("UPSTREAM", "")
_local = threading.local()


def _session() -> requests.Session:
    if not hasattr(_local, "session"):
        _local.session = requests.Session()
    session: requests.Session = _local.session
    return session


def _typed(type_: str, value: object) -> dict[str, object]:
    return {"@type": type_, **({"@nil": "true"} if value is None else {"#text": value})}


def _text(value: str | None) -> object:
    return {"@nil": "true"} if value is None else value


def _item(message: dict[str, Any], invoice: int) -> dict[str, object]:
    return {
        "body": _text(message["body"]),
        "created-at": _typed("datetime", message["created_at"]),
        "id": _typed("integer", message["id"]),
        "invoice-id": _typed("integer", invoice),
        "send-me-a-copy": _typed("boolean", message["send_me_a_copy"]),
        "sent-by": _text(message["sent_by"]),
        "sent-by-email": _text(message["sent_by_email"]),
        "full-recipient-list": ", ".join(
            f"{each['name']} <{each['email']}>" for each in message["recipients"]
        ),
    }


def _list(root: str, invoice: int) -> Any:
    answer = _session().get(
        f"{_UPSTREAM}/invoices/{invoice}/messages?per_page=2000",
        headers={"Authorization": request.headers["Authorization"]},
    )
    messages = answer.json()["invoice_messages"]
    items = [_item(message, invoice) for message in messages]
    document = xmltodict.unparse({
        "invoice-messages": {"@type": "array", "invoice-message": items},
    })  # fmt: skip
    return Response(document, content_type="application/xml; charset=utf-8")


app = Flask(__name__)
app.add_url_rule("/<root>/<int:invoice>/messages", view_func=_list)
