"""Marked secrets driven through every failure: no log line, answer, admin page or traceback has one.

A client may be told its own invoice (2xx), its own recipients and v2's words (400).
"""

import asyncio
import base64
import gc
import hashlib
import json
import logging
import os
import pickle
import traceback
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import structlog
from aiohttp import web
from sqlalchemy import Connection
from typer.testing import CliRunner

from bridge import cli
from bridge.cli import credentials as credentials_cli
from bridge.identity.book import Book, BookError, Cost, Entry, load, read_rows
from bridge.identity.book_keeper import BookKeeper
from bridge.identity.callers import Caller, Identification, Way
from bridge.identity.credentials import credentials
from bridge.identity.passwords import PasswordChecker, hash_password
from bridge.record.log import har
from bridge.record.log.capture import Capture, Mode, Rule
from bridge.resources.failures import FAILURES, REFUSALS
from bridge.secret import Secret
from bridge.server import logs
from bridge.server.limits import BodyLimits, read_body
from bridge.server.records import CallRecord
from bridge.server.service import Service, running
from bridge.settings import PREFIX, Settings, Traces
from bridge.settings import load as load_settings
from bridge.v1 import errors as v1
from bridge.v2 import errors as v2
from bridge.v2.client import V2Client
from bridge.v2.wire import V2Request
from tests.support.captured import kept
from tests.support.collector import collecting
from tests.support.dashboards import running_dashboard
from tests.support.running import LOOPBACK, configured, empty_log
from tests.support.upstream import message, page

# The marks, each of which says by itself whose secret has got out.

PASSWORD = "qkfirstpasswordofthebook"
SECOND_PASSWORD = "qksecondpasswordofthebook"
WRONG_PASSWORD = "qkpasswordthatiswrong"
NEW_PASSWORD = "qkpasswordthatisnew"
ENV_TOKEN = "qktokenofenvironment"
FILE_TOKEN = "qktokenofafile"
PASSWORD_TOKEN = "qktokenaspassword"
BEARER = "qktokenofabearer"
ACCESS_TOKEN = "qktokenofaquery"
BODY = "qkbodyofamessage"
SUBJECT = "qksubjectofamessage"
RECIPIENT = "qkrecipient"
SENDER = "qksender"
LOGIN = "qklogin"
SECOND_LOGIN = "qkotherlogin"

CHEAP = Cost(memory=8, passes=1, lanes=1, salt_length=16, tag_length=16)
HASH = hash_password(Secret(PASSWORD), CHEAP)
SECOND_HASH = hash_password(Secret(SECOND_PASSWORD), CHEAP)

PASSWORDS = {PASSWORD, SECOND_PASSWORD, WRONG_PASSWORD, NEW_PASSWORD}
TOKENS = {ENV_TOKEN, FILE_TOKEN, PASSWORD_TOKEN, BEARER, ACCESS_TOKEN}
HASHES = {part for each in (HASH, SECOND_HASH) for part in each.split("$")[-2:]}
MESSAGE = {BODY, SUBJECT, RECIPIENT, SENDER}
LOGINS = {LOGIN, SECOND_LOGIN}
MARKS = PASSWORDS | TOKENS | HASHES | MESSAGE | LOGINS
EVERYTHING = " ".join(sorted(MARKS))


def _forms(mark: str) -> Iterator[str]:
    """Yield what a mark looks like: as it is, and in base64 after one to three other bytes."""
    yield mark.lower()
    for before in range(3):
        encoded = base64.b64encode(b"-" * before + mark.encode()).decode()
        yield encoded[(before * 8 + 5) // 6 : (before + len(mark)) * 8 // 6].lower()


FORMS = {mark: tuple(_forms(mark)) for mark in MARKS}


def marks_in(text: str | bytes) -> set[str]:
    """Return the marks that stand in `text`, in any case and in plain or in base64."""
    lower = (text if isinstance(text, str) else text.decode("iso-8859-1")).lower()
    return {mark for mark, forms in FORMS.items() if any(form in lower for form in forms)}


@dataclass
class Evidence:
    """All that has left the process: its log, its answers, its admin pages, its terminal."""

    capture: pytest.CaptureFixture[str]
    log: StringIO = field(default_factory=StringIO)
    answers: list[bytes] = field(default_factory=list)
    admin: list[bytes] = field(default_factory=list)
    captures: list[str] = field(default_factory=list)
    kept: list[tuple[str, str | bytes]] = field(default_factory=list)
    """What the translation log keeps and its reports print, each with its place."""

    def lines(self, event: str = "legacy_call") -> list[dict[str, Any]]:
        lines = map(json.loads, self.log.getvalue().splitlines())
        return [line for line in lines if line["event"] == event]

    def statuses(self) -> list[int]:
        return [int(answer.split()[1]) for answer in self.answers]

    def leaks(
        self,
        *,
        in_answers: Collection[str] = (),
        in_log: Collection[str] = (),
        in_captures: Collection[str] = (),
    ) -> set[tuple[str, str]]:
        """Return every mark that has got out, and where; a 2xx may tell of its message."""
        gc.collect()  # asyncio logs what nobody has looked at when it is thrown away
        out, err = self.capture.readouterr()
        places: list[tuple[str, str | bytes, Collection[str]]] = [
            *(("log", line, in_log) for line in self.log.getvalue().splitlines()),
            *(
                ("answer", answer, MESSAGE if answer.startswith(b"HTTP/1.1 2") else in_answers)
                for answer in self.answers
            ),
            *(("admin page", answer, ()) for answer in self.admin),
            *(("capture", said, in_captures) for said in self.captures),
            *((place, text, in_log) for place, text in self.kept),
            ("standard output", out, ()),
            ("standard error", err, ()),
        ]
        return {
            (place, mark)
            for place, text, allowed in places
            for mark in marks_in(text) - set(allowed)
        }


@pytest.fixture(scope="module", autouse=True)
def little_garbage() -> Iterator[None]:
    """Keep what other tests have left out of the garbage collections of these."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def evidence(capsys: pytest.CaptureFixture[str]) -> Iterator[Evidence]:
    evidence = Evidence(capsys)
    logs.configure(evidence.log)
    # Else the loggers used here would be deaf to `capture_logs` in later tests.
    structlog.configure(cache_logger_on_first_use=False)
    yield evidence
    structlog.reset_defaults()


# Who calls.


def _basic(login: str, password: str) -> str:
    pair = base64.b64encode(f"{login}@example.org:{password}".encode()).decode()
    return f"Authorization: Basic {pair}"


BOOK_CALLERS = {"book, env": ENV_TOKEN, "book, file": FILE_TOKEN}
CALLERS: Mapping[str, tuple[str, str]] = {
    "book, env": (_basic(LOGIN, PASSWORD), ""),
    "book, file": (_basic(SECOND_LOGIN, SECOND_PASSWORD), ""),
    "token as password": (_basic("any", PASSWORD_TOKEN), ""),
    "bearer": (f"Authorization: Bearer {BEARER}", ""),
    "access_token": ("X-Nothing: 1", f"?access_token={ACCESS_TOKEN}"),
}
"""The header line and the query of everybody whom the bridge lets in."""

XML = (
    f"<invoice-message><subject>{SUBJECT}</subject><body>{BODY}</body>"
    f"<recipients>{RECIPIENT}@example.org</recipients></invoice-message>"
)
LIST, SEND = "/invoice/7/messages", "/invoices/7/messages"


def call(
    method: str,
    target: str,
    *headers: str,
    caller: str = "book, env",
    body: str = "",
    length: int | None = None,
) -> bytes:
    """Return the bytes of one call; with more `length` than body it never comes to its end."""
    authorization, query = CALLERS[caller]
    lines = [
        f"{method} {target}{query}",
        "Host: acme.harvestapp.com",
        authorization,
        "Connection: close",
        f"User-Agent: App/1 (mailto:{SENDER}@example.org) <{RECIPIENT}@example.org>",
        *headers,
    ]
    lines[0] += " HTTP/1.1"
    if body or length is not None:
        lines.append(f"Content-Length: {len(body.encode()) if length is None else length}")
    return "\r\n".join([*lines, "", body]).encode()


# What v2 does.

Answering = Callable[[bytes], bytes | None]
"""From a call's bytes to those of its answer; None resets the connection."""

HANG = b"(hang)"
"""What an answer ends in that keeps its connection open."""


@asynccontextmanager
async def upstream_that(
    answers: Answering, over: asyncio.Event | None = None
) -> AsyncIterator[str]:
    """Run a v2 that reads whole calls, and yield its base URL; what hangs does so until `over`."""
    over = over or asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            _, _, length = head.lower().partition(b"content-length:")
            body = await reader.readexactly(int(length.split()[0]) if length else 0)
            asks_nothing = b"authorization" not in head.lower()
            answer = says(404, HTML)(head) if asks_nothing else answers(head + body)
            if answer is None:
                writer.transport.abort()
            elif answer.endswith(HANG):
                writer.write(answer.removesuffix(HANG))
                await over.wait()
            else:
                writer.write(answer)
                await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, LOOPBACK, 0) as server:
        yield f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}/v2"
        over.set()


def says(status: int, body: str | Mapping[str, Any], *headers: str) -> Answering:
    """Answer `status`; with all marks and the whole call in the headers where they can be."""
    octets = (body if isinstance(body, str) else json.dumps(body)).encode()

    def answer(request: bytes) -> bytes:
        echo = " ".join([EVERYTHING, *request.decode().split()])
        lines = [
            f"HTTP/1.1 {status} {echo}",
            f"Content-Length: {len(octets)}",
            "Connection: close",
            f"Location: https://evil.example/?{echo}",
            f"Link: <https://evil.example/{ENV_TOKEN}>; rel={BEARER}",
            f"Retry-After: {echo}",
            f"WWW-Authenticate: Bearer realm={echo}",
            f"Set-Cookie: session={echo}",
            f"Set-Cookie: ({ENV_TOKEN})={FILE_TOKEN}; [{BEARER}]={PASSWORD}",
            f"X-Echo: {echo}",
            f"X-Request-Id: {ENV_TOKEN}",
            f"Date: {formatdate(usegmt=True)}",
            *headers,
        ]
        return "\r\n".join([*lines, "", ""]).encode() + octets

    return answer


def sends(answer: bytes) -> Answering:
    return lambda _request: answer


def echoes(before: bytes) -> Answering:
    return lambda request: before + EVERYTHING.encode() + request


def of_shape(**fields: Any) -> Answering:
    """A page and a message in one, of which something is wrong."""
    told = {**message(body=BODY, subject=SUBJECT), **fields}
    return says(200, {**page(told), **told, **fields})


def linked(following: str) -> Answering:
    return says(200, page(message(body=BODY), following=following))


HTML = f"<html><body>{EVERYTHING}</body></html>"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

UPSTREAMS: Mapping[str, Answering] = {
    **{f"{status} in HTML": says(status, HTML) for status in (*REFUSALS, 418, 500, 503, 599)},
    **{
        f"{status} in other JSON": says(status, {"headers": [EVERYTHING], EVERYTHING: EVERYTHING})
        for status in (*REFUSALS, 500)
    },
    **{f"{status}, redirecting": says(status, HTML) for status in (301, 302, 303, 307, 308)},
    "created, and no message": says(201, {EVERYTHING: EVERYTHING}),
    "no JSON": says(200, HTML),
    "no JSON after a while": says(200, f'{{"invoice_messages": [{EVERYTHING}'),
    "no UTF-8": sends(b"HTTP/1.1 200 OK\r\n\r\n\xff\xfe" + EVERYTHING.encode()),
    "a string": says(200, json.dumps(EVERYTHING)),
    "an object of marks": says(200, dict.fromkeys(MARKS, EVERYTHING)),
    "an id that is none": of_shape(id=ENV_TOKEN),
    "a time that is none": of_shape(created_at=ENV_TOKEN),
    "a date that is none": of_shape(send_reminder_on=BODY),
    "a boolean that is none": of_shape(thank_you=BODY),
    "recipients that are none": of_shape(recipients=[{"email": {RECIPIENT: SENDER}}]),
    "links that are none": of_shape(links=ENV_TOKEN),
    "a time that XML cannot tell": of_shape(created_at="0001-01-01T00:00:00+14:00"),
    "another host": linked(f"https://{ENV_TOKEN}.example/v2/invoices/7/messages?cursor={BEARER}"),
    "no URL": linked(f"http://[{ENV_TOKEN}/?cursor={BEARER}"),
    "no port": linked(f"http://{ENV_TOKEN}:{BEARER}@h:{FILE_TOKEN}/?cursor={BODY}"),
    "no query": linked(f"/v2/invoices/7/messages#{ENV_TOKEN}"),
    "the same page again": linked(f"?cursor={ENV_TOKEN}"),
    "an echo": echoes(b""),
    "an echo in the reason": echoes(b"HTTP/1.1 2x0 "),
    "an echo among the headers": echoes(b"HTTP/1.1 200 OK\r\n"),
    "an echo in a chunk's size": echoes(CHUNKED),
    "an echo in a length": echoes(b"HTTP/1.1 200 OK\r\nContent-Length: "),
    "an echo that breaks off": echoes(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n"),
    "an echo that is no gzip": echoes(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n"),
    "an echo in another protocol": echoes(
        b"HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    ),
    "an echo that is too long": echoes(b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 4096),
    "a reset": lambda _request: None,
    "nothing": sends(b""),
    "nothing for long": sends(HANG),
    "half a head for long": sends(f"HTTP/1.1 200 {EVERYTHING}\r\nX: {EVERYTHING}".encode() + HANG),
    "half a body for long": sends(CHUNKED + b"ffff\r\n" + EVERYTHING.encode() + HANG),
}
"""Ways of v2 not to serve a call."""

SERVED: Mapping[str, Answering] = {
    "200": says(
        200,
        page(
            message(
                body=BODY,
                subject=SUBJECT,
                sent_by_email=f"{SENDER}@example.org",
                recipients=[{"name": "R", "email": f"{RECIPIENT}@example.org"}, {"name": SENDER}],
            )
        ),
    ),
    "201": says(201, message(body=f"{BODY}\x00", subject=SUBJECT)),
}

LEGACY_CALLS = {
    "list": ("GET", LIST, ""),
    "show": ("GET", f"{LIST}/27835209", ""),
    "template": ("GET", f"{SEND}/new", ""),
    "delete": ("DELETE", f"{SEND}/27835209", ""),
    "send": ("POST", SEND, XML),
    "close": ("POST", f"{LIST}/mark_as_closed", XML),
}

# A bridge on a stage.


def credential(login: str, password_hash: str, token: str) -> str:
    return (
        f'[[credential]]\nsubdomain = "acme"\nlogin = "{login}@example.org"\n'
        f'password = "{password_hash}"\naccount_id = 1000\ntoken = "{token}"\n'
        f'label = "the job of {login}@example.org"\n'
    )


@dataclass
class Files:
    """The credential book of a test and the token file that it names."""

    directory: Path

    @property
    def book(self) -> Path:
        return self.directory / "book.toml"

    @property
    def token(self) -> Path:
        return self.directory / "token"

    @property
    def good(self) -> str:
        return credential(LOGIN, HASH, "env:QK_VARIABLE") + credential(
            SECOND_LOGIN, SECOND_HASH, f"file:{self.token}"
        )

    def write(self, path: Path, content: str | bytes) -> None:
        path.touch(0o600)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.fixture
def files(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Files:
    files = Files(tmp_path_factory.mktemp("files"))
    monkeypatch.setenv("QK_VARIABLE", ENV_TOKEN)
    files.write(files.token, FILE_TOKEN)
    files.write(files.book, files.good)
    return files


async def _answer(reader: asyncio.StreamReader) -> bytes:
    """Read one whole answer, without waiting until the connection is closed."""
    head = await reader.readuntil(b"\r\n\r\n")
    _, _, length = head.lower().partition(b"content-length:")
    return head + await reader.readexactly(int(length.split()[0]))


@dataclass
class Stage:
    """A running bridge, and everything it says."""

    service: Service
    evidence: Evidence

    async def _say(self, port: int, *parts: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
            return await _answer(reader)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def say(self, *requests: bytes) -> bytes:
        """Make calls, each on a connection of its own, and return the last one's whole answer."""
        for request in requests:
            answer = await self._say(self.service.port, request)
            self.evidence.answers.append(answer)
        return answer

    async def look_at_admin(self) -> None:
        for page_of_it in ("healthz", "readyz", "metrics", BEARER):
            request = f"GET /{page_of_it} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            self.evidence.admin.append(await self._say(self.service.admin_port, request.encode()))


class EverythingCaptured(Capture):
    """Has a rule for all, whatever the table says."""

    def __init__(self, *, raw: bool) -> None:
        super().__init__()
        self.take([Rule(mode=Mode.ALL, raw=raw, since=0, until=2**45)])

    def read(self, connection: Connection) -> None:
        pass


def captured(database: Path) -> list[str]:
    """Return what was captured: as it is read, and as HAR."""
    calls = kept(database)
    pages = [
        har.Captured(row.id, row.request_id, row.route or "", row.integration, exchange)
        for row, exchange in calls
    ]
    said = [repr(call.exchange) for call in calls]
    return [*said, b"".join(har.write(pages)).decode()]


@asynccontextmanager
async def stage(
    evidence: Evidence, files: Files, upstream: str, **settings: Any
) -> AsyncIterator[Stage]:
    """Run a bridge that lets in everybody, and look at its admin side at the end.

    Both sides of every call are captured, in stand-ins or `raw`. What the log keeps is looked at in
    any case; what reports and pages make of that, if it `is_shown`.
    """
    raw, is_shown = settings.pop("raw", False), settings.pop("is_shown", True)
    defaults: dict[str, Any] = {
        "auth": frozenset(Way),
        "account_id": 1000,
        "book": files.book,
        "contact": "tests@example.com",
        "port": 0,
        "admin_port": 0,
        "upstream_body_limit": 4096,
        "journal": files.directory / "journal.sqlite",
        "database": empty_log(files.directory),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bridge.server.service.Capture", partial(EverythingCaptured, raw=raw))
        async with running(*configured(upstream=upstream, **{**defaults, **settings})) as service:
            on_stage = Stage(service, evidence)
            yield on_stage
            await on_stage.look_at_admin()
    assert evidence.lines("not_captured") == []
    evidence.captures += captured(Path(defaults["database"]))
    # Texts, SQLite keeps as they are.
    assert marks_in((files.directory / "journal.sqlite").read_bytes()) == set()
    evidence.kept.append(("translation log", (files.directory / "log.sqlite").read_bytes()))
    if is_shown:
        for report in EXPORTS:
            evidence.kept.append((" ".join(report), reported(files, *report)))
        await look_at_pages(evidence, files)


async def look_at_pages(evidence: Evidence, files: Files) -> None:
    """Look at every page of the dashboard, and at all that is behind them."""
    database = str(files.directory / "log.sqlite")
    async with running_dashboard(database) as url, aiohttp.ClientSession(url) as session:

        async def look(path: str, *, shows_a_call: bool = False) -> dict[str, Any]:
            for each in (path, f"{path}.json"):
                async with session.get(each) as answer:
                    said = await answer.text()
                    if shows_a_call:
                        evidence.captures.append(said)
                    else:
                        evidence.kept.append((f"page {path}", said))
            data: dict[str, Any] = json.loads(said)
            return data

        await look("/overview")
        await look("/switch-off")
        for one in (await look("/integrations"))["integrations"]:
            await look(f"/integrations/{one['id']}")
        for row in (await look("/calls"))["page"]["rows"]:
            await look(f"/calls/{row['id']}", shows_a_call=True)


PAGES = ("page /overview", "page /switch-off", "page /integrations", "page /calls")
"""Those that tell of what is asked without an id."""

EXPORTS = (("export", "--json"), ("export", "--csv"), ("integrations", "--json"))
"""The reports that have everything."""


def reported(files: "Files", *command: str) -> str:
    """Return all that a command prints that asks the translation log."""
    database = str(files.directory / "log.sqlite")
    done = CliRunner().invoke(cli.app, [*command, "--database", database], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    return done.stdout + done.stderr


# The grep itself.


@pytest.mark.parametrize("mark", sorted(MARKS - HASHES))
def test_a_mark_is_found_in_any_case_and_in_base64(mark: str) -> None:
    assert marks_in(f"x{mark.upper()}x") == {mark}
    for before in ("", "x", "xx", "any:"):
        assert marks_in(base64.b64encode(f"{before}{mark}:".encode())) == {mark}
    assert marks_in("nothing of interest") == set()


def log_a_traceback() -> None:
    def fail() -> None:
        raise KeyError(EVERYTHING)

    try:
        fail()
    except KeyError:
        structlog.get_logger("bridge").exception("defect")


async def leave_a_task_behind() -> None:
    async def fail() -> None:
        raise ValueError(EVERYTHING)

    await asyncio.wait([asyncio.create_task(fail())])


@pytest.mark.parametrize(
    "way",
    [
        pytest.param(
            lambda: structlog.get_logger("bridge").info("said", value=EVERYTHING), id="a log line"
        ),
        pytest.param(
            lambda: logging.getLogger("aiohttp.server").info(EVERYTHING), id="a library's log line"
        ),
        pytest.param(log_a_traceback, id="a traceback"),
        pytest.param(lambda: asyncio.run(leave_a_task_behind()), id="a task left behind"),
    ],
)
def test_a_mark_that_is_logged_is_found(evidence: Evidence, way: Callable[[], object]) -> None:
    way()

    assert evidence.leaks() == {("log", mark) for mark in MARKS}


def test_a_mark_is_found_outside_the_log(evidence: Evidence) -> None:
    print(PASSWORD)  # noqa: T201
    evidence.answers.append(f"HTTP/1.1 200 OK\r\nX: {BEARER}{BODY}".encode())
    evidence.answers.append(f"HTTP/1.1 400 Bad Request\r\n\r\n{BODY}".encode())
    evidence.admin.append(LOGIN.encode())

    assert evidence.leaks() == {
        ("standard output", PASSWORD),
        ("answer", BEARER),
        ("answer", BODY),
        ("admin page", LOGIN),
    }


async def test_a_mark_in_the_log_of_a_running_bridge_is_found(
    evidence: Evidence, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tells(record: CallRecord, caller: Caller) -> None:
        record.label = caller.token.reveal()

    monkeypatch.setattr(CallRecord, "told_of", tells)
    async with upstream_that(SERVED["200"]) as upstream, stage(evidence, files, upstream) as bridge:
        await bridge.say(*(call("GET", LIST, caller=who) for who in CALLERS))

    leaks = evidence.leaks()
    assert {mark for place, mark in leaks if place == "log"} == TOKENS
    # The log keeps the latest label of an integration, and without an account, all are one.
    kept = {"translation log", *(" ".join(report) for report in EXPORTS), *PAGES}
    told = {place for place, _ in leaks if not place.startswith("page /integrations/")}
    assert told == {"log", "capture", *kept}


def unkeyed_digests() -> set[str]:
    """Return what whoever guesses a login or token can make of it without a key, cut short."""
    secrets = [*TOKENS, *(f"{login}@example.org" for login in LOGINS), PASSWORD]
    return {
        hashlib.new(way, secret.encode()).hexdigest()[:12]
        for way in ("md5", "sha1", "sha256", "sha512", "blake2b", "blake2s")
        for secret in secrets
    } | {hashlib.blake2b(secret.encode(), digest_size=8).hexdigest() for secret in secrets}


async def test_logins_and_tokens_are_told_apart_by_digests_that_nobody_else_can_make(
    evidence: Evidence, files: Files
) -> None:
    refused = _basic(LOGIN, BODY)
    async with upstream_that(SERVED["200"]) as upstream, stage(evidence, files, upstream) as bridge:
        for target in (LIST, "/people", f"/invoice/{SUBJECT}9/messages"):
            await bridge.say(*(call("GET", target, caller=who) for who in CALLERS))
        await bridge.say(
            call("GET", LIST).replace(CALLERS["book, env"][0].encode(), refused.encode())
        )

    assert set(evidence.statuses()) == {200, 501, 404, 401}
    told = [(line.get("login"), line.get("token")) for line in evidence.lines()]
    assert all(login or token for login, token in told)
    assert len(set(told)) == len(CALLERS)
    assert [digest for digest in unkeyed_digests() if digest in evidence.log.getvalue()] == []
    assert evidence.leaks() == set()


async def test_what_is_traced_tells_no_secret(
    evidence: Evidence, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        collecting(monkeypatch) as collector,
        upstream_that(SERVED["200"]) as upstream,
        stage(evidence, files, upstream, traces=Traces.OTLP, call_timeout=0.3) as bridge,
    ):
        for who in CALLERS:
            for target in (LIST, "/people", f"/invoice/{SUBJECT}9/messages"):
                await bridge.say(call("GET", target, caller=who))
            await bridge.say(posted(XML, target=SEND))

    assert len(collector.all("SERVER")) == 4 * len(CALLERS)
    assert len(collector.all("CLIENT")) >= len(CALLERS)
    assert marks_in(collector.received) == set()


# What v2 does to a call.


SHOWN = set(list(UPSTREAMS)[::4])
"""Of what v2 says, what reports and pages are looked at for: they show what is in the log."""


@pytest.mark.parametrize("name", UPSTREAMS)
async def test_an_upstream_that_does_not_serve(evidence: Evidence, files: Files, name: str) -> None:
    answers = UPSTREAMS[name]
    async with (
        upstream_that(answers) as upstream,
        stage(evidence, files, upstream, is_shown=name in SHOWN, call_timeout=0.05) as bridge,
    ):
        for caller in CALLERS:
            for method, target, body in (LEGACY_CALLS["list"], LEGACY_CALLS["send"]):
                await bridge.say(call(method, target, caller=caller, body=body))

    assert len(evidence.lines()) == len(evidence.answers) == 2 * len(CALLERS)
    # A send is served all the same if what comes back is a message, whatever else it holds.
    assert all(status >= 400 for status in evidence.statuses()[::2])
    # What is the name of a member is no value.
    names = {RECIPIENT} if answers is UPSTREAMS["recipients that are none"] else ()
    assert evidence.leaks(in_captures=names) == set()


@pytest.mark.parametrize("way", LEGACY_CALLS)
async def test_every_call_when_v2_says_everything_it_knows(
    evidence: Evidence, files: Files, way: str
) -> None:
    method, target, body = LEGACY_CALLS[way]
    for answers in (says(500, HTML), says(404, HTML), says(200, HTML), echo := echoes(b"")):
        async with (
            upstream_that(answers) as upstream,
            stage(evidence, files, upstream, is_shown=answers is echo) as bridge,
        ):
            await bridge.say(*(call(method, target, caller=who, body=body) for who in CALLERS))

    assert evidence.leaks() == set()


async def test_an_upstream_that_is_not_there(evidence: Evidence, files: Files) -> None:
    async with stage(evidence, files, "http://127.0.0.1:1/v2") as bridge:
        await bridge.say(
            *(
                call(method, target, caller=caller, body=body)
                for caller in CALLERS
                for method, target, body in LEGACY_CALLS.values()
            )
        )

    assert set(evidence.statuses()) == {502, 503}
    assert evidence.leaks() == set()


@pytest.mark.parametrize("answers", SERVED.values(), ids=SERVED)
async def test_a_call_that_is_served_tells_of_the_message_only(
    evidence: Evidence, files: Files, answers: Answering
) -> None:
    method, target, body = LEGACY_CALLS["list" if answers is SERVED["200"] else "send"]
    async with upstream_that(answers) as upstream, stage(evidence, files, upstream) as bridge:
        await bridge.say(*(call(method, target, caller=who, body=body) for who in CALLERS))

    assert {status // 100 for status in evidence.statuses()} == {2}
    assert BODY in marks_in(evidence.answers[0])
    assert evidence.leaks() == set()


REPORTS = (
    ("calls",),
    ("calls", "--json"),
    ("show", "{call}"),
    ("show", "{call}", "--json"),
    ("integrations",),
    ("integrations", "{integration}"),
    ("integrations", "{integration}", "--json"),
    ("plan", "{integration}"),
    ("plan", "{integration}", "--json"),
)


@pytest.mark.parametrize("caller", CALLERS)
async def test_what_is_reported_of_a_call_tells_nothing_of_its_message_or_its_caller(
    evidence: Evidence, files: Files, caller: str
) -> None:
    async with (
        upstream_that(SERVED["200"]) as upstream,
        stage(evidence, files, upstream, call_timeout=0.3) as bridge,
    ):
        await bridge.say(call("GET", LIST, caller=caller))
        await bridge.say(call("POST", SEND, caller=caller, body=XML))
        await bridge.say(call("GET", f"/people/{RECIPIENT}@example.org", caller=caller))

    lines = evidence.lines()
    assert len(lines) == 3
    commands = {
        tuple(each.format(call=line["id"], integration=line["integration"]) for each in report)
        for line in lines
        for report in REPORTS
    }
    for command in commands:
        told = reported(files, *command)
        assert told
        assert marks_in(told) == set(), command


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize("key", ["message", "error_description"])
async def test_v2s_words_reach_the_client_and_nobody_else(
    evidence: Evidence, files: Files, status: int, key: str
) -> None:
    async with (
        upstream_that(says(status, {key: EVERYTHING})) as upstream,
        stage(evidence, files, upstream) as bridge,
    ):
        await bridge.say(*(call("POST", SEND, caller=who, body=XML) for who in CALLERS))

    assert set(evidence.statuses()) == {400}
    assert evidence.leaks(in_answers=MARKS) == set()


@pytest.mark.parametrize("caller", BOOK_CALLERS)
@pytest.mark.parametrize("status", sorted({*REFUSALS, 500} - {400, 422}))
async def test_v2s_words_do_not_hand_the_books_token_to_a_client_who_has_only_a_password(
    evidence: Evidence, files: Files, status: int, caller: str
) -> None:
    words = {"message": f"There is no {BOOK_CALLERS[caller]} here."}
    async with (
        upstream_that(says(status, words)) as upstream,
        stage(evidence, files, upstream) as bridge,
    ):
        await bridge.say(
            call("GET", LIST, caller=caller), call("POST", SEND, caller=caller, body=XML)
        )

    assert evidence.leaks() == set()


async def test_what_v2_echoes_is_captured_without_its_secrets_raw_too(
    evidence: Evidence, files: Files
) -> None:
    def answers(request: bytes) -> bytes:
        told = {"message": request.decode(), request.decode(): 1}
        echo = " ".join(request.decode().split())
        body = json.dumps(told).encode()
        head = f"HTTP/1.1 422 No\r\nContent-Length: {len(body)}\r\nX-Echo: {echo}\r\n\r\n"
        return head.encode() + body

    async with (
        upstream_that(answers) as upstream,
        stage(evidence, files, upstream, raw=True) as bridge,
    ):
        for method, target, body in (LEGACY_CALLS["list"], LEGACY_CALLS["send"]):
            await bridge.say(
                *(call(method, target, "Cookie: " + who, caller=who, body=body) for who in CALLERS)
            )

    marks = marks_in("".join(evidence.captures))
    assert marks & (PASSWORDS | TOKENS | HASHES) == set()
    assert marks >= MESSAGE


# What the bridge refuses by itself.


@dataclass(frozen=True)
class Refused:
    """Calls that end in one row of `bridge.resources.failures`."""

    cause: type[Exception]
    requests: Sequence[bytes]
    answers: Answering = SERVED["200"]
    settings: Mapping[str, Any] = field(default_factory=dict)
    in_answers: Collection[str] = ()
    """What the client gave itself, and is told."""


def posted(body: str, *headers: str, caller: str = "book, env", target: str = SEND) -> bytes:
    return call("POST", target, *headers, caller=caller, body=body)


def _unknown(login: str, password: str) -> bytes:
    known = CALLERS["book, env"][0].encode()
    return call("GET", LIST).replace(known, _basic(login, password).encode())


BAD_RECIPIENT = XML.replace(f"{RECIPIENT}@example.org", f'"{RECIPIENT} no address')
OWN_WAYS = {"auth": frozenset({Way.BOOK})}

REFUSED: Mapping[str, Refused] = {
    "XML that is none": Refused(v1.InvalidRequest, [posted(XML[:-5]), posted(EVERYTHING)]),
    "a document type": Refused(
        v1.InvalidRequest, [posted(f'<!DOCTYPE x [<!ENTITY e "{EVERYTHING}">]>{XML}')]
    ),
    "another root": Refused(v1.InvalidRequest, [posted(f"<m>{EVERYTHING}</m>")]),
    "an element twice": Refused(
        v1.InvalidRequest, [posted(XML.replace("<body>", f"<body>{BODY}</body><body>"))]
    ),
    "a boolean that is none": Refused(
        v1.InvalidRequest,
        [posted(f"<invoice-message><thank-you>{BODY}</thank-you></invoice-message>")],
    ),
    "an encoding that is none": Refused(
        v1.InvalidRequest, [posted(f'<?xml version="1.0" encoding="{ENV_TOKEN}"?>{XML}')]
    ),
    "not in its charset": Refused(
        v1.InvalidRequest,
        [posted(f"{XML}\xff", "Content-Type: text/xml; charset=ascii", target=SEND)],
    ),
    "a recipient that is none": Refused(
        v1.InvalidRequest, [posted(BAD_RECIPIENT)], in_answers={RECIPIENT}
    ),
    "a time that is none": Refused(
        v1.InvalidRequest, [call("GET", f"{LIST}?updated_since={BODY}", caller="bearer")]
    ),
    "a wrong password": Refused(
        v1.NotIdentified, [_unknown(LOGIN, WRONG_PASSWORD)], settings=OWN_WAYS
    ),
    "an unknown login": Refused(v1.NotIdentified, [_unknown(SENDER, PASSWORD)], settings=OWN_WAYS),
    "an unknown subdomain": Refused(
        v1.NotIdentified,
        [
            call("GET", LIST).replace(b"acme.harvestapp.com", f"{host}.harvestapp.com".encode())
            for host in ("nobody", f"{ENV_TOKEN}_", ENV_TOKEN * 4)
        ],
        settings=OWN_WAYS,
    ),
    "a way that is off": Refused(
        v1.NotIdentified,
        [call("GET", LIST, caller=who) for who in CALLERS if who not in BOOK_CALLERS],
        settings=OWN_WAYS,
    ),
    "a garbled credential": Refused(
        v1.NotIdentified,
        [
            call("GET", LIST).replace(b"Authorization: Basic ", before.encode())
            for before in (f"Authorization: Basic !{PASSWORD} ", f"Authorization: {ENV_TOKEN} ")
        ],
    ),
    "a token with blanks": Refused(
        v1.NotIdentified,
        [call("GET", LIST, caller="bearer").replace(BEARER.encode(), b"a " + BEARER.encode())],
    ),
    # Of a path, plain words are logged: no token is one.
    "no such path": Refused(
        v1.NotFound, [call("GET", f"/7.{mark}") for mark in (ENV_TOKEN, LOGIN, BEARER)]
    ),
    "no such message": Refused(
        v1.NotFound, [call("GET", f"{LIST}/1", caller=who) for who in CALLERS]
    ),
    "another method": Refused(
        v1.MethodNotAllowed, [call("PUT", LIST, caller=who) for who in CALLERS]
    ),
    "no XML wanted": Refused(
        v1.NotAcceptable, [call("GET", LIST, f"Accept: application/{ENV_TOKEN}+json")]
    ),
    "half a body": Refused(
        v1.RequestTimeout,
        [call("POST", SEND, caller=who, body=XML, length=9999) for who in CALLERS],
        settings={"body_timeout": 0.02},
    ),
    "too long a body": Refused(
        v1.BodyTooLarge, [posted(XML, caller=who) for who in CALLERS], settings={"body_limit": 64}
    ),
    "another type": Refused(
        v1.UnsupportedMediaType,
        [
            posted(XML, f"Content-Type: text/{ENV_TOKEN}"),
            posted(XML, f"Content-Type: text/xml; charset={ENV_TOKEN}"),
            posted(XML, f"Content-Encoding: {ENV_TOKEN}"),
        ],
    ),
    "another part of v1": Refused(
        v1.NotTranslated,
        [call("GET", f"/people/{LOGIN}@example.org/{RECIPIENT}-1", caller=who) for who in CALLERS],
        in_answers={LOGIN, RECIPIENT},
    ),
    "an answer that is no XML": Refused(
        v1.InvalidAnswer, [call("GET", LIST)], UPSTREAMS["a time that XML cannot tell"]
    ),
    "a token of the book refused": Refused(
        v2.OwnTokenRefused, [call("GET", LIST, caller=who) for who in BOOK_CALLERS], says(401, HTML)
    ),
    "a fault": Refused(v2.UpstreamFault, [call("GET", LIST)], says(200, HTML)),
    "a reset": Refused(v2.UpstreamUnreachable, [call("GET", LIST)], UPSTREAMS["a reset"]),
    "too slow": Refused(
        v2.UpstreamTimeout, [call("GET", LIST)], sends(HANG), settings={"call_timeout": 0.05}
    ),
    "a write that breaks": Refused(v2.OutcomeUnknown, [posted(XML)], UPSTREAMS["a reset"]),
    "a write that was not done": Refused(
        v2.WriteNotDone,
        [posted(XML)],
        lambda request: None if request.startswith(b"POST") else SERVED["200"](request),
    ),
}


def test_every_row_of_failures_is_driven() -> None:
    covered_by_a_test_of_its_own = {
        v1.UnreadableHead, v1.Overloaded, v1.AttemptsPaused, v2.UpstreamUnavailable,
        v1.OriginGone, v1.OriginLoops,  # in test_pass_through_faults.py
    }  # fmt: skip
    say_nothing_of_the_call = {v1.NotOnRecord, v1.Leaving, v1.BrownedOut, v1.PastSunset}

    driven = {each.cause for each in REFUSED.values()} | covered_by_a_test_of_its_own
    assert driven | say_nothing_of_the_call == set(FAILURES)


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
async def test_a_call_that_is_refused(
    evidence: Evidence, files: Files, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.resources.flow.LOOK_AGAIN", (0.0,))  # one look more, at once
    async with (
        upstream_that(refused.answers) as upstream,
        stage(evidence, files, upstream, **refused.settings) as bridge,
    ):
        await bridge.say(*refused.requests)

    assert {line["cause"].partition(":")[0] for line in evidence.lines()} == {
        refused.cause.__name__
    }
    assert set(evidence.statuses()) == {FAILURES[refused.cause].status}
    assert evidence.leaks(in_answers=refused.in_answers) == set()


async def test_a_token_that_has_to_wait(evidence: Evidence, files: Files) -> None:
    async with (
        upstream_that(says(429, HTML)) as upstream,
        stage(evidence, files, upstream) as bridge,
    ):
        await bridge.say(*[posted(XML, caller=who) for who in CALLERS] * 2)

    assert set(evidence.statuses()) == {FAILURES[v2.UpstreamUnavailable].status}
    causes = {line["cause"].partition(":")[0] for line in evidence.lines()}
    assert causes == {v2.UpstreamRefusal.__name__, v2.UpstreamUnavailable.__name__}
    assert evidence.leaks() == set()


async def test_a_password_that_is_not_looked_at(evidence: Evidence, files: Files) -> None:
    async with (
        upstream_that(SERVED["200"]) as upstream,
        stage(evidence, files, upstream, **OWN_WAYS) as bridge,
    ):
        await bridge.say(*[_unknown(LOGIN, WRONG_PASSWORD)] * 6)

    causes = [line["cause"].partition(":")[0] for line in evidence.lines()]
    assert causes == [v1.NotIdentified.__name__] * 5 + [v1.AttemptsPaused.__name__]
    assert evidence.leaks() == set()


@pytest.mark.parametrize("limit", ["calls", "calls_per_login"])
@pytest.mark.parametrize("caller", CALLERS)
async def test_a_call_too_many(evidence: Evidence, files: Files, caller: str, limit: str) -> None:
    asked, over = asyncio.Event(), asyncio.Event()

    def answers(_request: bytes) -> bytes:
        asked.set()
        return HANG

    async with (
        upstream_that(answers, over) as upstream,
        stage(evidence, files, upstream, **{limit: 1}) as bridge,
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(bridge.say(call("GET", LIST, caller=caller)))
        await asked.wait()
        await bridge.say(posted(XML, caller=caller))
        over.set()

    assert evidence.lines()[0]["cause"] == "Overloaded"
    assert evidence.statuses()[0] == 503
    assert evidence.leaks() == set()


AUTHORIZED = "\r\n".join(header for header, _ in CALLERS.values()).encode()
MALFORMED = {
    "a header without a colon": b"GET / HTTP/1.1\r\nAuthorization Basic %a\r\n\r\n",
    "a header's name with a blank": b"GET / HTTP/1.1\r\n%a : 1\r\n\r\n",
    "a folded header": b"GET / HTTP/1.1\r\n %a\r\n%h\r\n\r\n",
    "a NUL": b"GET / HTTP/1.1\r\n%h\x00\r\n\r\n",
    "two credentials": b"GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%h\r\n\r\n",
    "no version": b"GET /%a\r\n%h\r\n\r\n",
    "another version": b"GET / HTTP/%a\r\n%h\r\n\r\n",
    "another method": b"%a / HTTP/1.1\r\n%h\r\n\r\n",
    "no target": b"GET %a HTTP/1.1\r\n%h\r\n\r\n",
    "a port that is none": b"GET http://%a:%a@h:%a/ HTTP/1.1\r\n%h\r\n\r\n",
    "a host that is none": b"GET http://[%a/ HTTP/1.1\r\n%h\r\n\r\n",
    "a tunnel": b"CONNECT h:%a HTTP/1.1\r\n%h\r\n\r\n",
    "a byte in the target": b"GET /?access_token=%a\xff HTTP/1.1\r\n%h\r\n\r\n",
    "a length that is none": b"POST / HTTP/1.1\r\nContent-Length: %a\r\n%h\r\n\r\n",
    "a chunk that is none": b"POST / HTTP/1.1\r\n%h\r\nTransfer-Encoding: chunked\r\n\r\n%a\r\n",
    "a trailer that is none": b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n%a\r\n\r\n",
    "a body beyond its length": b"POST / HTTP/1.1\r\n%h\r\nContent-Length: 1\r\n\r\nx%a\r\n\r\n",
    "TLS": b"\x16\x03\x01%a\r\n\r\n",
    "too long a target": b"GET /%l HTTP/1.1\r\n%h\r\n\r\n",
    "too long a header": b"GET / HTTP/1.1\r\nX: %l\r\n%h\r\n\r\n",
    "too many headers": b"GET / HTTP/1.1\r\n" + b"X: %a\r\n" * 200 + b"%h\r\n\r\n",
    "half a head": b"GET /?access_token=%a HTTP/1.1\r\n%h\r\n",
}


@pytest.mark.parametrize("request_", MALFORMED.values(), ids=MALFORMED)
async def test_what_is_not_http(evidence: Evidence, files: Files, request_: bytes) -> None:
    one_word = EVERYTHING.replace(" ", "").encode()
    request = request_.replace(b"%h", AUTHORIZED).replace(b"%a", one_word)
    async with (
        upstream_that(SERVED["200"]) as upstream,
        stage(evidence, files, upstream, head_timeout=0.1) as bridge,
    ):
        await bridge.say(request.replace(b"%l", one_word * 40))

    assert all(400 <= status < 500 for status in evidence.statuses())
    assert evidence.leaks() == set()


@pytest.mark.parametrize("caller", CALLERS)
async def test_a_body_that_breaks_while_it_is_read(
    evidence: Evidence, files: Files, caller: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = call("POST", SEND, "Transfer-Encoding: chunked", caller=caller)
    begun = asyncio.Event()

    async def reading(
        request: web.BaseRequest, limits: BodyLimits, take: Callable[[int], None]
    ) -> bytes:
        begun.set()
        return await read_body(request, limits, take)

    monkeypatch.setattr("bridge.server.endpoint.read_body", reading)
    async with upstream_that(SERVED["201"]) as upstream, stage(evidence, files, upstream) as bridge:
        reader, writer = await asyncio.open_connection(LOOPBACK, bridge.service.port)
        writer.write(head + b"5\r\nhello\r\n")
        await begun.wait()
        writer.write(EVERYTHING.encode() + b"\r\n")
        evidence.answers.append(await _answer(reader))
        writer.close()

    assert evidence.statuses() == [400]
    assert evidence.leaks() == set()


# E-mail addresses in a User-Agent (SECURITY.md: "logged, with e-mail addresses masked").


@pytest.mark.parametrize(
    "user_agent",
    [
        pytest.param(f"App/1 ({SENDER}@example.org)", id="in parentheses"),
        pytest.param(f"App/1 <mailto:{SENDER}@example.org>", id="mailto"),
        pytest.param(f"{SENDER}+tag@example.org", id="alone"),
        pytest.param(f'App/1 "{SENDER}"@example.org', id="quoted local part"),
        pytest.param(f"App/1 {SENDER}'x@example.org", id="apostrophe in the local part"),
        pytest.param(f"App/1 {SENDER}=x@example.org", id="equals sign in the local part"),
        pytest.param(f"App/1 (mailto:{SENDER}%40example.org)", id="percent-encoded at sign"),
        pytest.param(
            f"{'x' * (199 - len(SENDER))} {SENDER}@example.org", id="cut before its at sign"
        ),
    ],
)
async def test_an_address_in_a_user_agent_is_masked(
    evidence: Evidence, files: Files, user_agent: str
) -> None:
    request = call("GET", LIST)
    (line,) = [each for each in request.split(b"\r\n") if each.startswith(b"User-Agent")]
    async with (
        upstream_that(SERVED["200"]) as upstream,
        stage(evidence, files, upstream) as bridge,
    ):
        await bridge.say(request.replace(line, f"User-Agent: {user_agent}".encode()))

    assert evidence.leaks() == set()


# Defects.

DEFECTS = [
    "bridge.server.endpoint.Endpoint._serve",
    "bridge.server.endpoint.origin",
    "bridge.server.endpoint.Endpoint._read_body",
    "bridge.server.endpoint.read_body",
    "bridge.server.endpoint.run",
    "bridge.server.endpoint.headers_of",
    "bridge.server.endpoint.http_response",
    "bridge.server.endpoint.send",
    "bridge.server.writes.Writing.perform",
    "bridge.resources.flow._make",
    "bridge.resources.invoice_messages.create",
    "bridge.identity.callers.Identification._by_password",
    "bridge.identity.passwords.PasswordChecker._digest",
    "bridge.identity.passwords._matches",
    "bridge.resources.invoice_messages.read",
    "bridge.resources.invoice_messages.recipients.read",
    "bridge.v2.client.V2Client.send",
    "bridge.v2.client.V2Client._read",
    "bridge.server.records.CallRecord.told_of",
]


@pytest.mark.parametrize("broken", DEFECTS)
async def test_the_traceback_of_a_defect_holds_no_value_of_a_variable(
    evidence: Evidence, files: Files, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def defect(*arguments: object, **options: object) -> object:
        everything, given = EVERYTHING, [repr(each) for each in arguments]
        raise RuntimeError("a defect", len(everything), len(given))

    monkeypatch.setattr(broken, defect)
    async with upstream_that(SERVED["201"]) as upstream, stage(evidence, files, upstream) as bridge:
        await bridge.say(*(posted(XML, caller=who) for who in CALLERS))

    assert 500 in evidence.statuses()
    assert evidence.lines("defect")
    assert "Traceback" in evidence.lines("defect")[0]["exception"]
    assert evidence.leaks() == set()


@pytest.mark.parametrize("kind", [KeyError, ValueError, OSError, RuntimeError])
async def test_the_answer_to_a_defect_holds_nothing_of_its_words(
    evidence: Evidence, files: Files, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def defect(*_arguments: object, **_options: object) -> object:
        raise kind(EVERYTHING)

    monkeypatch.setattr("bridge.server.endpoint.run", defect)
    async with upstream_that(SERVED["201"]) as upstream, stage(evidence, files, upstream) as bridge:
        await bridge.say(*(posted(XML, caller=who) for who in CALLERS))

    assert set(evidence.statuses()) == {500}
    assert evidence.leaks(in_log=MARKS) == set()


async def test_a_defect_in_answering_a_failure_is_answered_without_its_words(
    evidence: Evidence, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    def defect(_error: object) -> object:
        raise RuntimeError(EVERYTHING)

    monkeypatch.setattr("bridge.server.endpoint.answer_to", defect)
    async with (
        upstream_that(says(403, HTML)) as upstream,
        stage(evidence, files, upstream) as bridge,
    ):
        await bridge.say(*(call("GET", LIST, caller=who) for who in CALLERS))

    assert set(evidence.statuses()) == {500}
    assert evidence.leaks() == set()


# Broken books.

RAW = {"book": lambda files: files.book, "token": lambda files: files.token}


def _broken_book(old: str, new: str) -> Callable[[Files], None]:
    def damage(files: Files) -> None:
        assert old in files.good
        files.write(files.book, files.good.replace(old, new, 1))

    return damage


def _broken_token(content: str) -> Callable[[Files], None]:
    return lambda files: files.write(files.token, content)


def _readable_by_all(name: str) -> Callable[[Files], None]:
    return lambda files: RAW[name](files).chmod(0o644)


LINE = '"env:QK_VARIABLE"'
DAMAGES: Mapping[str, Callable[[Files], None]] = {
    "a raw token": _broken_book(LINE, f'"{ENV_TOKEN}"'),
    "a raw token with a scheme": _broken_book(LINE, f'"token:{ENV_TOKEN}"'),
    "a raw token as a file": _broken_book(LINE, f'"file:{ENV_TOKEN}"'),
    "a token in a list": _broken_book(LINE, f'["{ENV_TOKEN}"]'),
    "a token in a table": _broken_book(LINE, f'{{env = "{ENV_TOKEN}"}}'),
    "a token without quotes": _broken_book(LINE, ENV_TOKEN),
    "a token with half its quotes": _broken_book(LINE, f'"{ENV_TOKEN}'),
    "a token with two values": _broken_book(LINE, f'{LINE} "{ENV_TOKEN}"'),
    "a token with a bad escape": _broken_book(LINE, rf'"\q{ENV_TOKEN}"'),
    "a token on a line of its own": _broken_book("token =", f"{ENV_TOKEN}\ntoken ="),
    "a field twice": _broken_book("token =", f'token = "{ENV_TOKEN}"\ntoken ='),
    "an unknown field": _broken_book("token =", f'secret = "{ENV_TOKEN}"\ntoken ='),
    "a plain password": _broken_book(HASH, PASSWORD),
    "a hash that is cut": _broken_book(HASH, HASH[:-12]),
    "a hash with a stranger in it": _broken_book(HASH, f"{HASH}!"),
    "a hash that costs too much": _broken_book(HASH, HASH.replace("m=8", "m=99999999")),
    "a hash that costs too little": _broken_book(HASH, HASH.replace("p=1", "p=9")),
    "a hash without quotes": _broken_book(f'"{HASH}"', HASH),
    "an account that is a token": _broken_book("1000", f'"{ENV_TOKEN}"'),
    "a dialect that is a token": _broken_book("label =", f'dialect = "{ENV_TOKEN}"\nlabel ='),
    "a label that cannot be printed": _broken_book(
        'label = "', f'label = "\\u0000{PASSWORD}{ENV_TOKEN}'
    ),
    "a login twice": _broken_book(SECOND_LOGIN, LOGIN),
    "two accounts": _broken_book("account_id = 1000", "account_id = 1"),
    "no UTF-8": lambda files: files.write(
        files.book, files.good.encode() + b"# \xff" + HASH.encode()
    ),
    "no book": lambda files: files.book.unlink(),
    "an open book": _readable_by_all("book"),
    "a variable that is not set": _broken_book("QK_VARIABLE", "QK_NOTHING"),
    "an open token": _readable_by_all("token"),
    "an empty token": _broken_token(""),
    "a token with a blank": _broken_token(f"{FILE_TOKEN} {FILE_TOKEN}"),
    "a token of two lines": _broken_token(f"{FILE_TOKEN}\n{FILE_TOKEN}\n"),
    "too long a token": _broken_token(FILE_TOKEN * 400),
}
WITHOUT_LOGINS = MARKS - LOGINS


def run(*arguments: object, given: str = "", **environ: str) -> str:
    """Run the command here, and return all that it told its user, tracebacks included."""
    hidden: dict[str, str | None] = dict.fromkeys(
        name for name in os.environ if name.startswith(PREFIX)
    )
    done = CliRunner(env={**hidden, **environ}).invoke(
        cli.app, [str(each) for each in arguments], input=given
    )
    failed = done.exc_info and not isinstance(done.exception, SystemExit)
    trace = traceback.format_exception(done.exception) if failed and done.exception else []
    return "".join([done.stdout, done.stderr, *trace])


def secrets_in(text: str) -> set[str]:
    """Return the marks in what an operator reads: there, logins are no secrets."""
    return marks_in(text) & WITHOUT_LOGINS


SERVE = (
    "serve",
    "--journal",
    "/nonexistent/journal.sqlite",
    "--auth",
    "book",
    "--contact",
    "x@example.com",
    "--port",
    "0",
    "--admin-port",
    "0",
)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_serve_with_a_broken_book(files: Files, damage: Callable[[Files], None]) -> None:
    damage(files)

    told = run(*SERVE, "--book", files.book)

    assert told.startswith("harvest-bridge: ")
    assert secrets_in(told) == set()


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_an_error_of_the_book_formatted_with_its_causes(
    files: Files, damage: Callable[[Files], None]
) -> None:
    damage(files)

    with pytest.raises(BookError) as refused:
        load(files.book, os.environ)

    assert secrets_in("".join(traceback.format_exception(refused.value))) == set()
    assert secrets_in(repr(refused.value)) == set()


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_credentials_commands_on_a_broken_book(
    files: Files, damage: Callable[[Files], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials_cli, "hash_password", partial(hash_password, cost=CHEAP))
    damage(files)
    who = ("--subdomain=acme", f"--login={LOGIN}@example.org")

    for command in (
        ("list",),
        ("check", "--upstream", "http://127.0.0.1:1/v2", "--contact", "x@example.com"),
        ("add", *who, "--account-id=1000", "--token=env:QK_VARIABLE"),
        ("add", *who, "--account-id=1000", "--token=env:QK_VARIABLE", "--replace"),
        ("remove", *who),
    ):
        told = run(
            "credentials", command[0], "--book", files.book, *command[1:], given=NEW_PASSWORD
        )
        assert told
        assert secrets_in(told) == set(), command


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
async def test_a_book_that_is_broken_while_it_is_in_force(
    evidence: Evidence, files: Files, damage: Callable[[Files], None]
) -> None:
    async with (
        upstream_that(SERVED["200"]) as upstream,
        stage(evidence, files, upstream) as bridge,
    ):
        damage(files)
        await bridge.service.reload()

    assert evidence.lines("book_broken")
    assert evidence.leaks(in_log=LOGINS) == set()  # of those, see the next test


async def test_a_broken_book_is_logged_without_the_e_mail_addresses_of_its_logins(
    evidence: Evidence, files: Files
) -> None:
    async with (
        upstream_that(SERVED["200"]) as upstream,
        stage(evidence, files, upstream) as bridge,
    ):
        DAMAGES["a plain password"](files)
        await bridge.service.reload()

    assert evidence.lines("book_broken")
    assert evidence.leaks() == set()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("token =", f'"{ENV_TOKEN}" = ""\ntoken =', id="as the name of a field"),
        pytest.param(
            "[[credential]]", f'"{ENV_TOKEN}" = ""\n[[credential]]', id="as a name at the top"
        ),
    ],
)
def test_a_token_in_the_place_of_a_name_is_not_quoted(files: Files, old: str, new: str) -> None:
    files.write(files.book, files.good.replace(old, new, 1))

    assert secrets_in(run(*SERVE, "--book", files.book)) == set()


# Good books, and the commands on them.


@pytest.mark.parametrize(
    "answers",
    [*(UPSTREAMS[f"{status} in HTML"] for status in (400, 401, 403, 404, 429, 500)),
     *(says(status, {"message": EVERYTHING}) for status in (400, 401, 403, 404, 500)),
     *(UPSTREAMS[name] for name in ("an echo", "an echo in the reason", "a reset", "302, redirecting"))],
)  # fmt: skip
async def test_credentials_check_when_v2_says_everything_it_knows(
    evidence: Evidence, files: Files, answers: Answering
) -> None:
    async with upstream_that(answers) as upstream:
        told = await asyncio.to_thread(
            run, "credentials", "check", "--book", files.book, "--upstream", upstream,
            "--contact", "x@example.com",
        )  # fmt: skip

    assert len(told.splitlines()) == 3
    assert secrets_in(told) == set()
    assert evidence.leaks() == set()


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("--token", ENV_TOKEN), id="a raw token"),
        pytest.param(("--account-id", ENV_TOKEN), id="an account that is a token"),
        pytest.param(("--dialect", ENV_TOKEN), id="a dialect that is a token"),
        pytest.param(("--subdomain", f"{ENV_TOKEN}."), id="a subdomain that is none"),
        pytest.param((f"--password={NEW_PASSWORD}",), id="an option that does not exist"),
        pytest.param(("--replace",), id="a replacement"),
        pytest.param((), id="a login that is there"),
        pytest.param(("--login", "new@example.org"), id="another login"),
    ],
)
def test_credentials_add(
    files: Files, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials_cli, "hash_password", partial(hash_password, cost=CHEAP))
    given = ("--subdomain=acme", f"--login={LOGIN}@example.org", "--account-id=1000",
             "--token=env:QK_VARIABLE")  # fmt: skip

    told = run("credentials", "add", "--book", files.book, *given, *arguments, given=NEW_PASSWORD)

    assert told
    assert secrets_in(told) == set()
    assert secrets_in(run("credentials", "list", "--book", files.book)) == set()
    assert NEW_PASSWORD not in files.book.read_text()


@pytest.mark.parametrize("password", [f"{NEW_PASSWORD}\x07", "", f"{NEW_PASSWORD}\ud800"])
def test_a_new_password_that_is_refused(files: Files, password: str) -> None:
    given = password.encode("utf-8", "surrogatepass").decode("iso-8859-1")

    told = run("credentials", "add", "--book", files.book, "--subdomain=acme", "--login=x",
               "--account-id=1000", "--token=env:QK_VARIABLE", given=given)  # fmt: skip

    assert secrets_in(told) == set()


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(
            f'upstream = "https://u:{ENV_TOKEN}@h/v2"\n', id="an upstream with a password"
        ),
        pytest.param(f'upstream = "https://h/v2?access_token={ENV_TOKEN}"\n', id="with a token"),
        pytest.param(f"{ENV_TOKEN}\n", id="no TOML"),
        pytest.param(f'contact = "{ENV_TOKEN}\n', id="half a string"),
        pytest.param(f'auth = "{ENV_TOKEN}"\n', id="no way"),
        pytest.param(f'password = "{PASSWORD}"\n', id="no setting"),
        pytest.param(f'port = "{ENV_TOKEN}"\n', id="no port"),
    ],
)
def test_serve_with_a_broken_settings_file(files: Files, tmp_path: Path, settings: str) -> None:
    config = tmp_path / "settings.toml"
    config.write_text(settings)

    told = run("serve", "--config", config)

    assert told.startswith("harvest-bridge: ")
    assert secrets_in(told) == set()


# The URL of a database, which may have a password.

ENCODED = "".join(f"%{ord(each):02x}" for each in PASSWORD)
AT = "127.0.0.1:1/d"
"""Where no server is."""
URLS = {
    "with a password": f"postgresql://u:{PASSWORD}@{AT}",
    "with an encoded password": f"postgresql://u:{ENCODED}@{AT}",
    "with a password and no user": f"postgresql://:{PASSWORD}@{AT}",
    "with a password in its query": f"postgresql://u@{AT}?password={PASSWORD}",
    "with that encoded": f"postgresql://u@{AT}?password={ENCODED}",
    "with a passphrase": f"postgresql://u@{AT}?sslpassword={PASSWORD}",
    "with a file of passwords": f"postgresql://u@{AT}?passfile=/x/{PASSWORD}",
    "with a key": f"postgresql://u@{AT}?sslkey=/x/{PASSWORD}",
    "with an option": f"postgresql://u@{AT}?options=-c%20a.b%3D{PASSWORD}",
    "with a name that is none": f"postgresql://u@{AT}?passwort={PASSWORD}",
    "with a password that has an @": f"postgresql://u:x@{PASSWORD}@{AT}",
    "with a password that has a slash": f"postgresql://u:1/{PASSWORD}@{AT}",
    "with a password that has a question mark": f"postgresql://u:1?{PASSWORD}@{AT}",
    "with a password that has a per cent sign": f"postgresql://u:{PASSWORD}%@{AT}",
    "with a password that has a zero byte": f"postgresql://u:{PASSWORD}%00@{AT}",
    "with a password that is no UTF-8": f"postgresql://u:{PASSWORD}%ff@{AT}",
    "with a password in the place of the port": f"postgresql://u@127.0.0.1:{PASSWORD}/d",
    "with a port that is none": f"postgresql://u:{PASSWORD}@127.0.0.1:port/d",
    "with half an address": f"postgresql://u:{PASSWORD}@[::1/d",
    "of a driver": f"postgresql+psycopg://u:{PASSWORD}@{AT}",
    "of another server": f"mysql://u:{PASSWORD}@h/d",
    "that is none": f"host=127.0.0.1 port=1 password={PASSWORD}",
}
ASKS = ("--contact=x@acme.dev", "--auth=bearer", "--account-id=1")
TELLING: Mapping[str, tuple[str, ...]] = {
    "config": ("config", *ASKS),
    "config --json": ("config", "--json", *ASKS),
    "check": ("check", "--offline", *ASKS),
    "check --json": ("check", "--offline", "--json", *ASKS),
    "journal": ("journal",),
    "journal --reconcile": ("journal", "--reconcile", "--contact=x@acme.dev", "--token=env:QK_TOKEN"),
    "calls": ("calls",),
}  # fmt: skip


@pytest.mark.parametrize("url", URLS.values(), ids=URLS)
@pytest.mark.parametrize("command", TELLING.values(), ids=TELLING)
def test_a_database_url_is_told_without_its_password(
    command: tuple[str, ...], url: str, tmp_path: Path
) -> None:
    (tmp_path / "key").touch(0o600)
    (tmp_path / "key").write_text("0123456789abcdef" * 4)
    key = f"--database-key={tmp_path}/key"

    told = run(*command, f"--database={url}", key, QK_TOKEN=ENV_TOKEN)

    assert told
    assert secrets_in(told) == set()
    assert ENCODED not in told


@pytest.mark.parametrize("setting", ["book", "journal", "database-key", "tls-certificate"])
@pytest.mark.parametrize("command", ["config", "check", "serve"])
def test_a_database_url_in_the_place_of_a_path(command: str, setting: str) -> None:
    told = run(command, *ASKS, f"--{setting}={URLS['with a password']}")

    assert "must be the path of a file" in told
    assert secrets_in(told) == set()


@pytest.mark.parametrize(
    "line",
    [
        f'database = "{URLS["with a password"]}',
        f'journal = "{URLS["with a password"]}"',
        f'databse = "{URLS["with a password"]}"',
        f'database = "{URLS["of a driver"]}"',
        f'admin_bearer_token = "{ENV_TOKEN}"',
        f'port = "{ENV_TOKEN}"',
        ENV_TOKEN,
    ],
)
async def test_a_reload_that_finds_settings_broken(
    evidence: Evidence, files: Files, tmp_path: Path, line: str
) -> None:
    """The log has it, and `/readyz`, without what stands there."""
    config = tmp_path / "bridge.toml"
    needed = 'contact = "x@acme.dev"\nauth = "bearer"\naccount_id = 1\nport = 0\nadmin_port = 0\n'
    kept_in = f'journal = "{tmp_path}/journal.sqlite"\ndatabase = "{empty_log(tmp_path)}"\n'
    config.write_text(needed + kept_in)
    read = partial(load_settings, Settings, {}, config)
    async with running(read(), read_again=read) as service:
        config.write_text(needed + line)
        await service.reload()
        async with aiohttp.ClientSession() as session:
            url = f"http://{LOOPBACK}:{service.admin_port}/readyz"
            async with session.get(url) as response:
                evidence.admin.append(await response.read())

    assert evidence.lines("settings_broken")
    assert b"settings" in evidence.admin[-1]
    assert evidence.leaks() == set()


# What prints itself.


@pytest.fixture
async def wiring(files: Files, evidence: Evidence) -> AsyncIterator[dict[str, object]]:
    """Everything that holds a secret while the bridge runs."""
    settings = Settings(auth=frozenset(Way), account_id=1, contact="x@acme.dev", book=files.book)
    client = V2Client(settings.upstream_client())
    async with BookKeeper(files.book) as keeper:
        book = keeper.book
        checker = PasswordChecker(lambda: book.usual_cost)
        identification = Identification(settings.auth, 1, lambda: book, checker)
        callers = [
            await identification.identify(
                credentials(header.partition(": ")[2], {"access_token": ACCESS_TOKEN}),
                "acme",
                "::1",
            )
            for header, _ in CALLERS.values()
        ]
        record = CallRecord("id", "GET", None)
        for caller in callers:
            record.told_of(caller)
        yield {
            "settings": settings,
            "upstream": settings.upstream_client(),
            "client": client,
            "keeper": keeper,
            "state": keeper.state,
            "book": book,
            "entry": book.entries[0],
            "rows": read_rows(files.book),
            "checker": checker,
            "identification": identification,
            "callers": callers,
            "record": record,
            "credentials": [*credentials(CALLERS["book, env"][0].partition(": ")[2], {})],
            "secret": Secret(EVERYTHING),
        }
        await checker.close()
    await client.close()


async def test_nothing_in_the_wiring_prints_a_secret(
    wiring: Mapping[str, object], evidence: Evidence
) -> None:
    assert isinstance(wiring["book"], Book)
    assert isinstance(wiring["entry"], Entry)
    assert all(isinstance(each, Caller) for each in wiring["callers"])  # type: ignore[attr-defined]
    for name, part in wiring.items():
        for text in (repr(part), str(part), f"{part}", ascii(part)):
            assert secrets_in(text) == set(), name
        structlog.get_logger("bridge").info("said", part=part, parts=[part], **{name: {"a": part}})
        logging.getLogger("aiohttp.server").info("said %s %r", part, part)

    assert evidence.leaks(in_log=LOGINS) == set()


@pytest.mark.parametrize(
    "misuse",
    [
        pytest.param(lambda secret: secret == EVERYTHING, id="compared"),
        pytest.param(lambda secret: f"{secret:>20}", id="formatted"),
        pytest.param(bool, id="judged"),
        pytest.param(hash, id="hashed"),
        pytest.param(len, id="measured"),
        pytest.param(pickle.dumps, id="pickled"),
        pytest.param(json.dumps, id="encoded"),
        pytest.param(lambda secret: {}[secret], id="looked up"),
        pytest.param(lambda secret: secret.value, id="asked for an attribute"),
        pytest.param(lambda secret: secret + "", id="added"),
        pytest.param(int, id="converted"),
    ],
)
def test_misuse_of_a_secret_is_told_without_it(misuse: Callable[[Secret], object]) -> None:
    with pytest.raises((TypeError, AttributeError)) as refused:
        misuse(Secret(EVERYTHING))

    assert marks_in("".join(traceback.format_exception(refused.value))) == set()


async def test_a_task_that_nobody_looks_after_is_logged_without_its_variables(
    evidence: Evidence, files: Files
) -> None:
    async def fail(secret: Secret) -> None:
        value = secret.reveal()
        raise RuntimeError("a defect", len(value))

    task = asyncio.create_task(fail(Secret(EVERYTHING)))
    await asyncio.wait([task])
    del task

    assert evidence.leaks() == set()
    assert "Task exception was never retrieved" in evidence.log.getvalue()


@pytest.mark.parametrize(
    "answers",
    [
        UPSTREAMS[name]
        for name in UPSTREAMS
        if "echo" in name or "for long" in name or "reset" in name
    ],
    ids=[name for name in UPSTREAMS if "echo" in name or "for long" in name or "reset" in name],
)
async def test_an_error_of_the_v2_client_formatted_with_its_causes(answers: Answering) -> None:
    async with upstream_that(answers) as upstream:
        settings = Settings(
            auth=frozenset({Way.BEARER}), account_id=1, contact="x@acme.dev",
            upstream=upstream,
        )  # fmt: skip
        client = V2Client(replace(settings.upstream_client(), body_limit=1024))
        request = V2Request("POST", "/x", "updated_since=1", XML.encode())
        told = []
        try:
            await client.send(request, account_id=1, token=Secret(ENV_TOKEN), seconds=0.05)
        except v2.UpstreamError as error:
            told = traceback.format_exception(error)
        finally:
            await client.close()

    assert marks_in("".join(told)) == set()
