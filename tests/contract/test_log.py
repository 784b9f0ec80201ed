"""The one log line of each legacy call: who called what, and what it took to serve it."""

import json
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import structlog

from bridge.identity.callers import Way
from bridge.server import logs
from tests.support.books import enter, write_token
from tests.support.legacy import LegacyClient
from tests.support.running import running_bridge
from tests.support.upstream import Reply, ScriptedUpstream, message, page


class Log(StringIO):
    """What the process has logged."""

    def lines(self) -> list[dict[str, Any]]:
        """Return every line, parsed."""
        return [json.loads(line) for line in self.getvalue().splitlines()]

    def call(self) -> dict[str, Any]:
        """Return the line of the only legacy call there was."""
        (line,) = [line for line in self.lines() if line["event"] == "legacy_call"]
        return line


@pytest.fixture
def log() -> Iterator[Log]:
    stream = Log()
    logs.configure(stream)
    yield stream
    structlog.reset_defaults()


async def test_a_served_call(log: Log, bridge: LegacyClient) -> None:
    answer = await bridge.get("/invoice/4500/messages", headers={"User-Agent": "HaPi/1.0"})

    line = log.call()
    assert line["method"] == "GET"
    assert line["route"] == "/invoice/{invoice_id}/messages"
    assert line["dialect"] == "classic"
    assert line["status"] == 200
    assert line["milliseconds"] > 0
    assert line["request_id"] == answer.headers["X-Request-Id"]
    assert line["user_agent"] == "HaPi/1.0"
    assert {note["code"] for note in line["notes"]} == {"field-lost"}
    assert [(call["method"], call["path"], call["status"]) for call in line["upstream"]] == [
        ("GET", "/invoices/4500/messages", 200)
    ] * 3
    assert all(call["milliseconds"] > 0 for call in line["upstream"])


async def test_notes_name_code_and_element_and_are_counted(
    log: Log, upstream: ScriptedUpstream, scripted_bridge: LegacyClient
) -> None:
    upstream.says(
        page(
            message(body="\x00\x01", recipients=[{"name": "Ghost"}]),
            message(body="\x02", thank_you=None),
        )
    )

    await scripted_bridge.get("/invoices/%237/messages.xml/")

    assert {(note["code"], note["subject"], note["count"]) for note in log.call()["notes"]} == {
        ("trailing-slash", "path", 1),
        ("xml-suffix", "path", 1),
        ("hash-in-id", "path", 1),
        ("character-replaced", "body", 2),
        ("recipient-dropped", "full-recipient-list", 1),
        ("null-replaced", "thank-you", 1),
        ("field-lost", "attach_pdf", 2),
    }


@pytest.mark.parametrize(
    ("path", "ignored"),
    [
        ("/invoice/1420/messages?updated_sinse=2010-09-25&page=2", ["updated_sinse", "page"]),
        ("/invoice/1420/messages?updated_since=2010-09-25", []),
        ("/invoice/1420/messages?updated_since=", ["updated_since"]),
        ("/invoice/1420/messages/new?reminder=true&updated_since=x", ["updated_since"]),
        ("/invoice/1420/messages/409?updatedSince=x", ["updatedSince"]),
        ("/invoice/1420/payments?access_token=x&updated_since=x", ["updated_since"]),
        ("/invoice/1420/messages?12.at.3aB4&%00&" + "a" * 40 + "=1", ["…"]),
    ],
)
async def test_parameters_that_a_call_does_not_know_are_named(
    log: Log, bridge: LegacyClient, path: str, ignored: list[str]
) -> None:
    await bridge.get(path)

    notes = log.call()["notes"]
    assert [note["subject"] for note in notes if note["code"] == "parameter-ignored"] == ignored


async def test_a_write_names_them_too(log: Log, bridge: LegacyClient) -> None:
    await bridge.call("DELETE", "/invoice/1420/messages/409?force=1")

    assert log.call()["notes"] == [{"code": "parameter-ignored", "subject": "force", "count": 1}]


async def test_however_many_there_are_a_line_has_an_end(log: Log, bridge: LegacyClient) -> None:
    names = [f"{a}{b}" for a in "abcdefghijklmnopqrstuvwxyz" for b in "abcdefghijklmnopqrstuvwxyz"]

    await bridge.get(f"/invoice/1420/messages?{'&'.join(names)}&access_token=sesame")

    notes = log.call()["notes"]
    assert sum(note["count"] for note in notes) == len(names)
    assert len(notes) < 60
    assert "sesame" not in log.getvalue()


async def test_a_part_of_v1_that_is_not_translated_is_recorded(
    log: Log, bridge: LegacyClient
) -> None:
    await bridge.get("/people/jane@doe.org/entries/5")

    assert log.call()["path"] == "/people/{…}/entries/{…}"
    assert log.call()["route"] is None
    assert log.call()["status"] == 501


async def test_a_failure_names_its_cause_and_the_place(
    log: Log, upstream: ScriptedUpstream, scripted_bridge: LegacyClient
) -> None:
    upstream.says(page(message(created_at="jane@doe.org")))

    await scripted_bridge.get("/invoice/7/messages")

    assert log.call()["cause"].startswith("UpstreamFault: v2 sent JSON of the wrong shape")
    assert "created_at" in log.call()["cause"]


async def test_a_refused_login_names_the_subdomain_that_it_was_looked_for_at(
    log: Log, tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    """Without one, a client that calls `bridge.internal` is a stranger to every book."""
    book = tmp_path / "book.toml"
    enter(book, "acme", "jane@doe.org", "word", 1, write_token(tmp_path, "token", "t0ken"))
    async with running_bridge(upstream.base_url, auth={Way.BOOK}, book=book) as client:
        for host in ("bridge.internal", "globex.harvestapp.com"):
            answer = await client.get("/invoice/7/messages", headers={"Host": host})
            assert "globex" not in answer.body.decode()

    assert [line["cause"] for line in log.lines() if line["event"] == "legacy_call"] == [
        "NotIdentified: no subdomain: the host name is below none of the domains, and subdomain is not set (host name bridge.internal, domains harvestapp.com)",
        "NotIdentified: the book has no subdomain globex",
    ]


async def test_an_upstream_that_does_not_answer_is_told_by_error(log: Log) -> None:
    async with running_bridge("http://127.0.0.1:1/v2") as client:
        await client.get("/invoice/7/messages")

    assert log.call()["upstream"][0]["status"] is None
    assert log.call()["upstream"][0]["error"] == "UpstreamUnreachable"


async def test_a_failure_that_cannot_even_be_answered_is_told_once_under_the_id_of_its_answer(
    log: Log, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The 500 says that the log has the reason under its id."""

    def fail(_error: Exception) -> None:
        raise RuntimeError("sesame")

    monkeypatch.setattr("bridge.server.endpoint.answer_to", fail)
    upstream.says(Reply(b"", 403))
    async with running_bridge(upstream.base_url) as client:
        answer = await client.get("/invoice/7/messages")

    assert answer.status == 500
    assert log.call()["request_id"] == answer.headers["X-Request-Id"]
    (defect,) = [line for line in log.lines() if line["event"] == "defect"]
    assert defect["request_id"] == answer.headers["X-Request-Id"]


async def test_what_is_not_http_is_recorded_without_its_bytes(
    log: Log, bridge: LegacyClient
) -> None:
    await bridge.raw(b"GET / HTTP/1.1\r\nAuthorization Basic sesame\r\n\r\n")

    assert log.call()["status"] == 400
    assert "sesame" not in log.getvalue()


async def test_no_line_holds_a_secret_a_body_or_an_address(
    log: Log, upstream: ScriptedUpstream, scripted_bridge: LegacyClient
) -> None:
    marked = "sesame"
    person = "jane.doe@example.org"
    upstream.says(page(message(body=marked, subject=marked, sent_by=marked, sent_by_email=person)))
    for path, headers in [
        ("/invoice/7/messages", {"Authorization": f"Bearer {marked}"}),
        (f"/invoice/7/messages?access_token={marked}&updated_since={marked}", {}),
        (f"/invoice/7/messages/27835209?access_token={marked}", {"Accept": person}),
        (f"/people/{person}", {"User-Agent": f"App/1 (mailto:{person}) <{person}>"}),
        (f"/invoice/{person}/messages", {"X-Request-Id": person}),
        (f"/nowhere/7.{marked}", {"Authorization": f"Basic {marked}"}),
    ]:
        await scripted_bridge.get(path, headers=headers, authorization=None)

    text = log.getvalue()
    assert len(log.lines()) == 6
    assert marked not in text
    assert "jane" not in text
    assert "example.org" not in text
