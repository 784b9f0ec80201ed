"""Log lines for people: one line a call, colours on terminals only, and nothing that does harm."""

import io
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from bridge.record.log.events import CallEvent, Ended, NoteEvent, UpstreamCallEvent
from bridge.server import logs
from bridge.server.console import ConsoleForm, harmless
from bridge.settings import LogFormat, LogLevel

AT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


def call(**fields: Any) -> CallEvent:
    given: dict[str, Any] = {
        "level": "info",
        "timestamp": AT,
        "id": 1,
        "request_id": "r1",
        "integration": "0123456789ab",
        "method": "GET",
        "route": "/invoice/{invoice_id}/messages",
        "dialect": "classic",
        "way": "book",
        "account_id": 1000,
        "label": None,
        "user_agent": "HaPi/1.0",
        "status": 200,
        "outcome": "served",
        "milliseconds": 12.3,
        "upstream": (),
        "notes": (),
    }
    return CallEvent(**{**given, **fields})


@pytest.fixture(autouse=True)
def defaults(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    yield
    structlog.reset_defaults()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def written(stream: io.StringIO, **more: Any) -> list[str]:
    """Have the log written to `stream`, and return the lines of two calls and an event."""
    logs.configure(stream, **more)
    log_call = logs.call_log()
    for level in ("info", "warning"):
        line = b'{"event":"legacy_call","level":"%s"}' % level.encode()
        log_call([Ended(call(level=level), line)])
    structlog.get_logger().info("listening", port=8080)
    return stream.getvalue().splitlines()


class TestCalls:
    @pytest.mark.parametrize(
        ("fields", "line"),
        [
            pytest.param(
                {},
                "05:06:07  200   GET     /invoice/{invoice_id}/messages      0123456789ab  12 ms",
                id="served",
            ),
            pytest.param(
                {
                    "label": "Shop",
                    "status": 502,
                    "cause": "UpstreamFault: v2 sent JSON of the wrong shape",
                    "upstream": (
                        UpstreamCallEvent("GET", "/invoices/1", "/invoices/{id}", 200, 3.0),
                        UpstreamCallEvent("GET", "/x", "/x", None, None, "UpstreamTimeout"),
                    ),
                    "notes": (NoteEvent("dropped", "subject", 1), NoteEvent("cut", "body", 3)),
                },
                "05:06:07  502   GET     /invoice/{invoice_id}/messages      Shop  12 ms  "
                "v2 200 UpstreamTimeout  dropped subject, cut body x3  "
                "UpstreamFault: v2 sent JSON of the wrong shape",
                id="failed",
            ),
            pytest.param(
                {"route": None, "path": "/expenses/{}", "status": 401, "refusal": "no-credential"},
                "05:06:07  401   GET     /expenses/{}                        0123456789ab  12 ms  "
                "no-credential",
                id="refused",
            ),
            pytest.param(
                {"status": None, "event": "client_gone", "method": "POST"},
                "05:06:07  gone  POST    /invoice/{invoice_id}/messages      0123456789ab  12 ms  "
                "client_gone",
                id="gone",
            ),
        ],
    )
    def test_are_one_line_each(self, fields: dict[str, Any], line: str) -> None:
        assert ConsoleForm(colors=False).call(call(**fields)) == line

    @given(st.text())
    def test_show_nothing_that_moves_a_terminal(self, text: str) -> None:
        line = ConsoleForm(colors=False).call(
            call(
                method=text, route=None, path=text, label=text, cause=text, refusal=text,
                event=text, notes=(NoteEvent(text, text, 2),),
                upstream=(UpstreamCallEvent("GET", "/", "/", None, None, text),),
            )
        )  # fmt: skip

        assert line.isprintable()


class TestEvents:
    @given(st.dictionaries(st.text(), st.one_of(st.text(), st.lists(st.text()))), st.text())
    def test_show_nothing_that_moves_a_terminal(self, fields: dict[str, Any], event: str) -> None:
        told = {**fields, "event": event, "level": "info", "timestamp": AT.isoformat()}
        told.pop("exception", None)
        told.pop("stack", None)

        assert ConsoleForm(colors=False).event(told).isprintable()

    def test_show_a_traceback_in_lines_of_its_own(self) -> None:
        stream = io.StringIO()
        logs.configure(stream, LogFormat.CONSOLE)
        structlog.get_logger().error("defect", exc_info=ValueError("\x1b[2Jhush\nnext"))

        lines = stream.getvalue().splitlines()
        assert "defect" in lines[0]
        assert "ValueError: \\x1b[2Jhush" in lines
        assert all(line.isprintable() for line in lines)


@given(st.text())
def test_what_is_printable_stays_as_it_is(text: str) -> None:
    assert harmless(text).isprintable()
    assert harmless(text) == text or not text.isprintable()


class TestForm:
    def test_is_json_unless_somebody_looks(self) -> None:
        lines = written(io.StringIO())

        assert [json.loads(line)["event"] for line in lines] == ["legacy_call"] * 2 + ["listening"]

    def test_is_the_consoles_on_a_terminal(self) -> None:
        lines = written(Terminal())

        assert [line.startswith("{") for line in lines] == [False] * 3
        assert all("\x1b[" in line for line in lines)

    def test_is_what_was_asked_for(self) -> None:
        assert written(Terminal(), form=LogFormat.JSON)[0].startswith("{")
        assert written(io.StringIO(), form=LogFormat.CONSOLE)[0].startswith("05:06:07  200")

    @pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
    def test_has_no_colours_where_they_are_not_wanted(
        self, monkeypatch: pytest.MonkeyPatch, name: str, value: str
    ) -> None:
        monkeypatch.setenv(name, value)

        assert all(line.isprintable() for line in written(Terminal()))

    def test_has_none_in_a_file(self) -> None:
        lines = written(io.StringIO(), form=LogFormat.CONSOLE)

        assert all(line.isprintable() for line in lines)

    def test_reaches_a_real_terminal(self) -> None:
        screen, terminal = os.openpty()
        with os.fdopen(terminal, "w") as stream:
            logs.configure(stream)
            structlog.get_logger().info("listening", port=8080)
            shown = os.read(screen, 4096)
        os.close(screen)

        assert b"listening" in shown
        assert b"\x1b[" in shown


class TestLevel:
    @pytest.mark.parametrize("form", [LogFormat.JSON, LogFormat.CONSOLE])
    @pytest.mark.parametrize(
        ("level", "count"),
        [(LogLevel.DEBUG, 3), (LogLevel.INFO, 3), (LogLevel.WARNING, 1), (LogLevel.ERROR, 0)],
    )
    def test_holds_for_calls_too(self, form: LogFormat, level: LogLevel, count: int) -> None:
        """A legacy call is `info`, one that an operator has to look into `warning`."""
        assert len(written(io.StringIO(), form=form, level=level)) == count
