"""What is said of a legacy call without a server, against what a running bridge makes of it."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from bridge.guide.explaining import Request, explain
from bridge.resources import RESOURCES
from bridge.resources.routes import Call
from bridge.v1.dialects import Dialect
from tests.support.legacy import LegacyClient
from tests.support.running import running_app, running_bridge
from tests.support.upstream import message, page

GLUED = (
    b"<invoice-message><id>1</id><recipients>Doe, Jane <jane@doe.example></recipients>"
    b"<include-pay-pal-link>true</include-pay-pal-link></invoice-message>"
)
CALLS = [(resource, call) for resource in RESOURCES for call in resource.calls]
BODIES = {"send": b"<invoice-message/>", "create": b"<payment><amount>1</amount></payment>"}


def request_for(call: Call) -> Request:
    path = call.path
    for at, name in enumerate(("invoice_id", "message_id", "payment_id")):
        path = path.replace(f"{{{name}}}", str(at + 7))
    return Request(method=call.method, target=path, body=BODIES.get(call.name, b""))


@pytest.mark.parametrize(
    "call", [call for _, call in CALLS], ids=[f"{call.method} {call.path}" for _, call in CALLS]
)
def test_every_call_that_is_served_goes_on_to_its_end(call: Call) -> None:
    told = explain(request_for(call))

    assert told.error is None
    assert told.status in {200, 201}
    assert told.route == call.path
    assert bool(told.v2) == call.asks_v2
    assert told.notes == []


@pytest.mark.parametrize(
    "target",
    [
        "/invoice/7/messages?updated_since=2010-09-25+18:30",
        "invoice/7/messages?updated_since=2010-09-25+18:30",
        "https://acme.harvestapp.com/invoice/7/messages?updated_since=2010-09-25+18:30",
        "HTTP://[broken/invoice/7/messages?updated_since=2010-09-25+18:30#top",
    ],
)
def test_a_path_is_taken_as_operators_have_it(target: str) -> None:
    told = explain(Request(method="get", target=target))

    assert [(asked.path, asked.query) for asked in told.v2] == [
        ("/invoices/7/messages", "per_page=2000&updated_since=2010-09-25T18%3A30%3A00Z")
    ]


def test_a_path_that_begins_with_two_slashes_has_no_host() -> None:
    told = explain(Request(method="GET", target="//invoice/7/messages"))

    assert told.status == 200
    assert [note.code for note in told.notes] == ["double-slash"]


@pytest.mark.parametrize("target", ["", "*", "x", "?", "#", "http://", "/%", "/invoice/\udc80/x"])
@pytest.mark.parametrize("method", ["GET", "POST", "O P"])
def test_a_path_that_is_none_is_refused_and_no_failure(method: str, target: str) -> None:
    assert explain(Request(method=method, target=target)).error is not None


class Asked:
    """A v2 that remembers what it was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, str, object]] = []

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else None
        if "Authorization" in request.headers:  # and not the look at whether this is v2
            path = request.rel_url.raw_path.removeprefix("/v2")
            self.calls.append((request.method, path, request.rel_url.raw_query_string, body))
        if request.method == "POST":
            return web.json_response(message(id=8), status=201)
        return web.json_response(page(message(id=8)))


@pytest.fixture
def v2() -> Asked:
    return Asked()


@pytest.fixture
async def bridge(v2: Asked) -> AsyncIterator[LegacyClient]:
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", v2.answer)
    async with running_app(app) as url, running_bridge(f"{url}/v2") as client:
        yield client


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("GET", "/invoice/7/messages", b""),
        ("GET", "/invoices/7/message/8", b""),
        ("GET", "/invoice/%237/messages.xml?updated_since=2010-09-25+18:30&page=2", b""),
        ("POST", "/invoices/7/messages", GLUED),
        ("POST", "/invoice/7/messages/mark_as_closed/", b""),
        ("POST", "/invoice/7/messages", b"<invoice-message><body>"),
        ("POST", "/invoice/7/messages", b"<payment/>"),
        ("POST", "/invoice/7/messages", b"<invoice-message><recipients>x</recipients></invoice-message>"),
        ("POST", "/invoice/7/payments", b"<payment><amount>much</amount></payment>"),
        ("PUT", "/invoice/7/messages", b""),
        ("GET", "/clients/12", b""),
        ("GET", "/nothing/here", b""),
        ("GET", "/invoice/7/messages.json", b""),
    ],
)  # fmt: skip
async def test_it_says_what_the_bridge_does(
    v2: Asked, bridge: LegacyClient, method: str, target: str, body: bytes
) -> None:
    headers = {"Content-Type": "application/xml"} if body else {}
    answer = await bridge.call(method, target, headers=headers, body=body or None)

    told = explain(
        Request(
            method=method, target=target, body=body,
            content_type="application/xml" if body else None,
        )
    )  # fmt: skip

    assert told.status == answer.status
    assert [(each.method, each.path, each.query, each.body) for each in told.v2] == v2.calls
    assert ([] if told.error is None else [told.error]) == (
        answer.errors if answer.status >= 400 else []
    )
    assert {name: answer.headers[name] for name in told.headers} == told.headers


def test_each_note_is_told_with_its_meaning() -> None:
    told = explain(
        Request(
            method="POST", target="/invoice/7/messages.xml", body=GLUED,
            content_type="application/xml",
        )
    )  # fmt: skip

    assert {(note.code, note.subject) for note in told.notes} == {
        ("xml-suffix", "path"),
        ("address-escaped", "document"),
        ("element-ignored", "id"),
        ("comma-in-name", "recipients"),
        ("element-dropped", "include-pay-pal-link"),
    }
    assert all(note.meaning for note in told.notes)


def test_what_was_noted_of_a_refused_body_is_told_too() -> None:
    told = explain(
        Request(
            method="POST", target="/invoice/7/messages/", body=b"<payment/>",
            content_type="application/xml",
        )
    )  # fmt: skip

    assert told.status == 400
    assert [note.code for note in told.notes] == ["trailing-slash"]


def test_what_is_not_translated_comes_with_what_takes_its_place() -> None:
    told = explain(Request(method="put", target="https://acme.harvestapp.com/clients/12.xml"))

    assert told.status == 501
    assert told.counterpart is not None
    assert told.counterpart.v2 == ("PATCH /clients/{id}",)


def test_the_dialect_can_be_asked_for() -> None:
    told = explain(Request(method="GET", target="/invoice/7/messages", dialect=Dialect.FINAL))

    assert told.dialect is Dialect.FINAL
