"""Calls that v1 answers: which they are, how they come to the origin, and how its answers come back.

What goes wrong on the way is in `test_pass_through_faults`.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bridge.identity.callers import Way
from bridge.record.log.events import ALL
from bridge.record.log.reports import Log
from bridge.side import Side
from bridge.tape import BODY_KEPT, CUT
from tests.support.books import enter, write_token
from tests.support.captured import capturing, kept
from tests.support.clocks import until
from tests.support.held_upstream import HeldUpstream
from tests.support.legacy import BASIC, Answer, LegacyClient
from tests.support.logged import Logged
from tests.support.origins import OK, RawOrigin
from tests.support.running import empty_log, running_bridge
from tests.support.writing import caught_up

MESSAGES = "/invoices/1/messages"


@pytest.fixture
async def client(
    log: Logged, held: HeldUpstream, journal: Path, origin: RawOrigin
) -> AsyncIterator[LegacyClient]:
    async with running_bridge(held.base_url, journal=journal, legacy_origin=origin.url) as legacy:
        yield legacy


async def line(client: LegacyClient, log: Logged) -> dict[str, Any]:
    """The log line of the first call that was made."""
    await caught_up(client)
    told, *_ = log.lines("legacy_call")
    return told


def request(line: str, *fields: str, body: bytes = b"", host: str = "acme.harvestapp.com") -> bytes:
    """A request byte for byte, after whose answer the connection ends."""
    lines = [line, f"Host: {host}", *fields]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def names(answer: Answer) -> set[str]:
    return {name.lower() for name in answer.headers}


def fields(head: bytes) -> list[bytes]:
    return head.split(b"\r\n")[1:-2]


class TestWhichCalls:
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            pytest.param("GET", "/projects", id="what the bridge does not translate"),
            pytest.param("PUT", MESSAGES, id="a method it does not translate"),
            pytest.param("GET", "/login", id="a path that is none of v1's API"),
            pytest.param("GET", f"{MESSAGES}.json", id="JSON of v1"),
        ],
    )
    async def test_what_the_bridge_has_no_answer_to_is_answered_by_v1(
        self, client: LegacyClient, origin: RawOrigin, log: Logged, method: str, path: str
    ) -> None:
        answer = await client.call(method, path)

        assert (answer.status, answer.body) == (200, b"<v1/>\n")
        assert origin.heads[0].startswith(f"{method} {path} HTTP/1.1\r\n".encode())
        told = await line(client, log)
        assert (told["outcome"], told["status"], told["upstream"]) == ("passed-through", 200, [])

    async def test_what_the_bridge_translates_is_not(
        self, client: LegacyClient, origin: RawOrigin
    ) -> None:
        assert (await client.get("/account/rate_limit_status")).status == 200
        assert not origin.heads

    async def test_without_an_origin_they_are_refused(self, held: HeldUpstream) -> None:
        async with running_bridge(held.base_url) as client:
            assert (await client.get("/projects")).status == 501
            assert (await client.get("/login")).status == 404
            assert (await client.call("PUT", MESSAGES)).status == 405
            assert (await client.get(f"{MESSAGES}.json")).status == 406

    async def test_nobody_is_judged_but_by_v1(
        self, client: LegacyClient, origin: RawOrigin
    ) -> None:
        origin.answer = b"HTTP/1.1 401 No\r\nContent-Length: 0\r\nX-V1: yes\r\n\r\n"

        answer = await client.get("/projects", authorization=None)

        assert (answer.status, answer.headers["X-V1"]) == (401, "yes")
        assert "WWW-Authenticate" not in answer.headers

    @pytest.mark.parametrize("asked", ["OPTIONS * HTTP/1.1", "TRACE /projects HTTP/1.1"])
    async def test_what_is_asked_of_whoever_is_called_is_not(
        self, client: LegacyClient, origin: RawOrigin, asked: str
    ) -> None:
        """RFC 9110, sections 9.3.7 and 9.3.8: TRACE would show credentials to a script."""
        answer = await client.raw(request(asked, f"Authorization: {BASIC}", "Connection: close"))

        assert answer.startswith((b"HTTP/1.1 404", b"HTTP/1.1 501", b"HTTP/1.1 405"))
        assert not origin.heads


class TestHowACallComesToV1:
    async def test_as_it_came(self, client: LegacyClient, origin: RawOrigin) -> None:
        """RFC 9110, section 7.6.1: all but what is for the connection alone, in order and case."""
        sent = [
            f"authorization: {BASIC}",
            "X-ODD-Case: a",
            "Cookie: a=1",
            "x-twice: 1",
            "Accept: text/html, */*;q=0.1",
            "x-twice: 2",
            "User-Agent: Ödön/1.0".encode().decode("latin-1"),
            "Content-Type: text/plain",
        ]
        target = "/clients/%7e/..;/a//b?q=%2B+%zz&q=[1]&access_token=t"

        await client.raw(request(f"GET {target} HTTP/1.1", *sent, "Connection: close"))

        head = origin.heads[0]
        assert head.startswith(f"GET {target} HTTP/1.1\r\n".encode())
        host, *rest, via = fields(head)
        assert host == f"Host: 127.0.0.1:{origin.port}".encode()
        assert rest == [each.encode("latin-1") for each in sent]
        assert re.fullmatch(rb"Via: 1\.1 harvest-bridge-[0-9a-f]{12}", via)

    async def test_without_what_is_for_the_next_hop_alone(
        self, client: LegacyClient, origin: RawOrigin
    ) -> None:
        """RFC 9110, sections 7.6.1, 11.7 and 7.8."""
        await client.raw(
            request(
                "GET /projects HTTP/1.1",
                "Connection: close, X-Hop, keep-alive",
                "Keep-Alive: timeout=5",
                "Proxy-Authorization: Basic x",
                "Proxy-Connection: keep-alive",
                "TE: trailers",
                "Upgrade: websocket",
                "X-Hop: secret",
                "X-Stays: yes",
            )
        )

        _host, *rest, _via = fields(origin.heads[0])
        assert rest == [b"X-Stays: yes"]

    @pytest.mark.parametrize("named", ["Host", "Content-Length", "Via"])
    async def test_what_connection_names_takes_no_framing_away(
        self, client: LegacyClient, origin: RawOrigin, named: str
    ) -> None:
        """RFC 9112, section 6: a client that names Content-Length must not smuggle a body."""
        await client.raw(
            request(
                "POST /projects HTTP/1.1", f"Connection: close, {named}", "Content-Length: 5",
                body=b"GET /",
            )
        )  # fmt: skip

        assert origin.bodies == [b"GET /"]
        names = {each.partition(b":")[0].lower() for each in fields(origin.heads[0])}
        assert {b"host", b"content-length", b"via"} <= names

    async def test_an_absolute_url_becomes_a_path(
        self, client: LegacyClient, origin: RawOrigin
    ) -> None:
        """RFC 9112, section 3.2.2."""
        await client.raw(
            request("GET http://acme.harvestapp.com/projects?a=b HTTP/1.1", "Connection: close")
        )

        assert origin.heads[0].startswith(b"GET /projects?a=b HTTP/1.1\r\n")

    async def test_a_body_keeps_its_length(self, client: LegacyClient, origin: RawOrigin) -> None:
        await client.call("POST", "/projects", body=b"<project/>" * 100_000)

        assert origin.bodies == [b"<project/>" * 100_000]
        assert b"\r\nContent-Length: 1000000\r\n" in origin.heads[0]

    async def test_a_body_in_chunks_goes_on_in_chunks(
        self, client: LegacyClient, origin: RawOrigin
    ) -> None:
        """RFC 9112, section 7.1."""

        async def body() -> AsyncIterator[bytes]:
            yield b"one "
            yield b"two"

        await client.call("POST", "/projects", body=body())

        assert origin.bodies == [b"one two"]
        assert b"\r\nTransfer-Encoding: chunked\r\n" in origin.heads[0]
        assert b"Content-Length" not in origin.heads[0]

    async def test_a_body_that_is_held_back_is_asked_for(
        self, client: LegacyClient, origin: RawOrigin
    ) -> None:
        """RFC 9110, section 10.1.1."""
        async with client.connection() as (reader, writer):
            writer.write(
                request("POST /projects HTTP/1.1", "Expect: 100-continue", "Content-Length: 2")
            )
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"ab")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")

        assert b"Expect" not in origin.heads[0]
        assert origin.bodies == [b"ab"]

    async def test_what_a_proxy_in_front_says_is_for_the_bridge(
        self, held: HeldUpstream, origin: RawOrigin
    ) -> None:
        """v1 is not told who calls, and must not take the bridge's name for its own."""
        proxied = {
            "X-Forwarded-For": "203.0.113.7",
            "X-Forwarded-Host": "acme.harvestapp.com",
            "Forwarded": "for=203.0.113.7",
        }
        async with running_bridge(
            held.base_url, legacy_origin=origin.url, trusted_proxies=["127.0.0.1"]
        ) as client:
            await client.get("/projects", headers=proxied)

        assert b"orwarded" not in origin.heads[0]
        assert b"203.0.113.7" not in origin.heads[0]

    async def test_the_subdomain_names_the_host_of_the_origin(
        self, held: HeldUpstream, log: Logged, origin: RawOrigin
    ) -> None:
        template = f"http://{{subdomain}}.v1.invalid:{origin.port}"
        async with running_bridge(held.base_url, legacy_origin=template) as client:
            await client.get("/projects", headers={"Host": "Acme.harvestapp.com"})
            await caught_up(client)

        assert "acme.v1.invalid" in log.getvalue()

    async def test_nothing_but_a_subdomain_gets_into_that(
        self, held: HeldUpstream, log: Logged, origin: RawOrigin
    ) -> None:
        template = f"http://{{subdomain}}.v1.invalid:{origin.port}"
        async with running_bridge(held.base_url, legacy_origin=template) as client:
            for host in (
                "a_b.harvestapp.com", "x@evil.example", "evil.example", "-a.harvestapp.com", "",
                "a%2eb.harvestapp.com", "acme.harvestapp.com.evil.example", "a/b.harvestapp.com",
            ):  # fmt: skip
                asked = request("GET /projects HTTP/1.1", "Connection: close", host=host)
                answer = await client.raw(asked)
                assert answer.startswith((b"HTTP/1.1 404", b"HTTP/1.1 400")), host

        assert "v1.invalid" not in str(log.lines("legacy_call"))


class TestHowAnAnswerComesBack:
    async def test_as_v1_gave_it(self, client: LegacyClient, origin: RawOrigin) -> None:
        head = (
            b"HTTP/1.1 299 Rather \xd6K\r\nserver: nginx/1.2\r\nDate: Tue, 01 Jan 2013 00:00:00 GMT"
            b"\r\nSet-Cookie: a=1\r\nX-CASE: b\r\nset-cookie: c=2\r\n"
            b'Content-Disposition: attachment; filename="\xdcberblick.pdf"\r\n'
            b"Content-Encoding: gzip\r\nX-Request-Id: v1s"
        )
        origin.answer = head + b"\r\nContent-Length: 4\r\n\r\n\x1f\x8b\0\n"

        answer = await client.raw(request("GET /projects HTTP/1.1", "Connection: close"))

        assert answer == head + (b"\r\nContent-Length: 4\r\nConnection: close\r\n\r\n\x1f\x8b\0\n")

    async def test_with_the_id_of_the_call_and_nothing_else_of_the_bridge(
        self, client: LegacyClient, log: Logged
    ) -> None:
        """RFC 9110, section 6.6.1: whoever forwards an answer without a Date gives it one."""
        answer = await client.get("/projects")

        told = await line(client, log)
        assert answer.headers["X-Request-Id"] == told["request_id"]
        assert names(answer) == {"content-type", "content-length", "date", "x-request-id"}

    async def test_without_what_was_for_the_hop_before(
        self, client: LegacyClient, origin: RawOrigin
    ) -> None:
        origin.answer = (
            b"HTTP/1.1 200 OK\r\nConnection: X-Hop, close\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n"
            b"Proxy-Authenticate: Basic\r\nTrailer: X-T\r\nUpgrade: h2c\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n"
        )

        answer = await client.get("/projects")

        assert answer.body == b"abc"
        assert names(answer) == {"transfer-encoding", "date", "x-request-id"}

    async def test_of_unknown_length_in_chunks_and_to_an_old_client_until_the_end(
        self, client: LegacyClient, origin: RawOrigin
    ) -> None:
        """RFC 9112, sections 6.1 and 6.3: who speaks HTTP/1.0 cannot read chunks."""
        origin.answer = b"HTTP/1.0 200 OK\r\nConnection: close\r\n\r\nabc"

        new = await client.raw(request("GET /projects HTTP/1.1", "Connection: close"))
        old = await client.raw(request("GET /projects HTTP/1.0", "Connection: keep-alive"))

        assert new.partition(b"\r\n\r\n")[2] == b"3\r\nabc\r\n0\r\n\r\n"
        assert old.endswith(b"\r\nConnection: close\r\n\r\nabc")
        assert b"Transfer-Encoding" not in old

    async def test_an_old_client_keeps_its_connection(self, client: LegacyClient) -> None:
        """RFC 9112, section 9.3."""
        asked = request("GET /projects HTTP/1.0", "Connection: keep-alive")
        async with client.connection() as (reader, writer):
            for _ in range(2):
                writer.write(asked)
                head = await reader.readuntil(b"\r\n\r\n")
                assert b"\r\nConnection: keep-alive\r\n" in head
                assert await reader.readexactly(6) == b"<v1/>\n"

    @pytest.mark.parametrize(
        ("method", "answer"),
        [
            ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"),
            ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
            ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n"),
        ],
        ids=["HEAD", "204", "304"],
    )
    async def test_without_a_body(
        self, client: LegacyClient, origin: RawOrigin, method: str, answer: bytes
    ) -> None:
        """RFC 9110, sections 8.6, 9.3.2 and 15.4.5: a length is then that of another body."""
        origin.answer = answer

        async with client.connection() as (reader, writer):
            for _ in range(2):
                writer.write(request(f"{method} /projects HTTP/1.1"))
                head = await reader.readuntil(b"\r\n\r\n")
                assert (b"Content-Length: 99" in head) == (b"99" in answer)
                assert b"chunked" not in head

    @pytest.mark.parametrize(
        ("location", "told"),
        [
            ("http://{origin}/login?a=b#c", "http://{called}/login?a=b#c"),
            ("https://elsewhere.example/x", "https://elsewhere.example/x"),
            ("http://{origin}:1/x", "http://{origin}:1/x"),
            ("/login", "/login"),
            ("//{origin}/x", "//{origin}/x"),
        ],
    )
    async def test_a_redirect_is_not_followed_and_leads_no_client_past_the_bridge(
        self, client: LegacyClient, origin: RawOrigin, location: str, told: str
    ) -> None:
        """RFC 9110, section 10.2.2. What names the origin has the name that the client has called,
        or its credentials would go on to v1 by themselves.
        """
        places = {
            "origin": f"127.0.0.1:{origin.port}",
            "called": f"bridge.example:{client.port}",
        }
        sent = location.format_map(places).encode()
        origin.answer = (
            b"HTTP/1.1 302 Found\r\nLocation: " + sent + b"\r\nContent-Length: 0\r\n\r\n"
        )

        answer = await client.raw(
            request("GET /x HTTP/1.1", "Connection: close", host=places["called"])
        )

        assert f"\r\nLocation: {told.format_map(places)}\r\n".encode() in answer
        assert len(origin.heads) == 1

    async def test_who_calls_the_origin_by_its_own_name_is_redirected_as_v1_says(
        self, client: LegacyClient, origin: RawOrigin
    ) -> None:
        own = f"127.0.0.1:{origin.port}"
        location = f"http://{own}/login".encode()
        origin.answer = (
            b"HTTP/1.1 302 F\r\nLocation: " + location + b"\r\nContent-Length: 0\r\n\r\n"
        )

        answer = await client.raw(request("GET /x HTTP/1.1", "Connection: close", host=own))

        assert b"\r\nLocation: " + location + b"\r\n" in answer


class TestWhoAnswers:
    """An operator switches an integration to and fro; who it is does not change by that."""

    @pytest.fixture
    def settings(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        monkeypatch.setattr("bridge.record.log.brownouts.READ_EVERY", 0.0)
        book = tmp_path / "book.toml"
        enter(book, "acme", "jane@acme.example", "secret", 1000, write_token(tmp_path, "t", "tok"))
        return {
            "database": empty_log(tmp_path), "book": book, "subdomain": "acme",
            "auth": frozenset(Way),
        }  # fmt: skip

    @pytest.mark.parametrize(
        "offered",
        [
            pytest.param(aiohttp.encode_basic_auth("Jane@acme.example", "secret"), id="book"),
            pytest.param(aiohttp.encode_basic_auth("x@y.example", "sometoken"), id="token"),
            pytest.param("Bearer sometoken", id="bearer"),
        ],
    )
    async def test_an_integration_is_the_same_whoever_answers_it(
        self, held: HeldUpstream, origin: RawOrigin, log: Logged, settings: dict[str, Any],
        offered: str,
    ) -> None:  # fmt: skip
        async with running_bridge(held.base_url, legacy_origin=origin.url, **settings) as client:
            await client.get("/account/rate_limit_status", authorization=offered)
            switched(settings, ALL, Side.V1)
            await until(lambda: log.lines("policy_changed"))
            await client.get("/account/rate_limit_status", authorization=offered)
            await caught_up(client)

        translated, passed, *_ = log.lines("legacy_call")
        assert (translated["outcome"], passed["outcome"]) == ("served", "passed-through")
        for name in ("integration", "account_id", "login", "token", "way", "label"):
            assert translated.get(name) == passed.get(name), name

    async def test_one_integration_is_switched_and_the_others_stay(
        self, held: HeldUpstream, origin: RawOrigin, log: Logged, settings: dict[str, Any]
    ) -> None:
        async with running_bridge(held.base_url, legacy_origin=origin.url, **settings) as client:
            await client.get("/account/rate_limit_status", authorization="Bearer sometoken")
            await caught_up(client)
            told, *_ = log.lines("legacy_call")
            switched(settings, told["integration"], Side.V1)
            await until(lambda: log.lines("policy_changed"))
            own = await client.get("/account/rate_limit_status", authorization="Bearer sometoken")
            other = await client.get("/account/rate_limit_status", authorization="Bearer another")

        assert own.body == b"<v1/>\n"
        assert other.body != own.body


def switched(settings: dict[str, Any], integration: str, side: Side) -> None:
    opened = Log.open(settings["database"])
    opened.decisions.switch(integration, side)
    opened.close()


class TestObserving:
    async def test_v1_answers_all_and_v2_is_not_asked(
        self, held: HeldUpstream, origin: RawOrigin, log: Logged
    ) -> None:
        async with running_bridge(
            held.base_url, legacy_origin=origin.url, mode="observe", auth=frozenset()
        ) as client:
            for path in (MESSAGES, "/projects", "/account/rate_limit_status"):
                assert (await client.get(path)).body == b"<v1/>\n"
            await caught_up(client)

        assert not held.calls
        passed = log.lines("legacy_call")[:3]
        assert {each["outcome"] for each in passed} == {"passed-through"}
        assert [each.get("route") for each in passed] == [
            "/invoices/{invoice_id}/messages", None, "/account/rate_limit_status",
        ]  # fmt: skip


class TestTheRecord:
    async def test_both_sides_are_captured_within_bounds(
        self, held: HeldUpstream, origin: RawOrigin, log: Logged, tmp_path: Path
    ) -> None:
        origin.answer = OK.replace(b"Content-Length: 6", b"Content-Length: 300000")
        origin.answer = origin.answer.replace(b"<v1/>\n", b"<v1>%s</v1>" % (b" " * 299_991))
        database = tmp_path / "log.sqlite"
        async with capturing(held.base_url, database, log, raw=True, legacy_origin=origin.url) as (
            _,
            client,
        ):
            await client.call("POST", "/projects", body=b"<project>a</project>")

        (call,) = kept(database)
        sent, told = call.exchange.request, call.exchange.answer
        assert (call.row.outcome, call.exchange.status) == ("passed-through", 200)
        assert sent.body == b"<project>a</project>"
        assert told is not None
        assert (told.size, told.left_out) == (300_000, CUT)
        assert 200_000 < len(told.body) <= BODY_KEPT

    async def test_no_secret_of_a_call_is_kept(
        self, held: HeldUpstream, origin: RawOrigin, log: Logged, tmp_path: Path
    ) -> None:
        origin.answer = OK.replace(b"200 OK\r\n", b"200 OK\r\nSet-Cookie: s=hidden2; Path=/\r\n")
        database = tmp_path / "log.sqlite"
        async with capturing(held.base_url, database, log, raw=True, legacy_origin=origin.url) as (
            _,
            client,
        ):
            await client.call(
                "POST", "/login?access_token=hidden3", body=b"email=a%40b.de&password=hidden4",
                headers={"Cookie": "s=hidden1", "Content-Type": "application/x-www-form-urlencoded"},
            )  # fmt: skip

        assert b"hidden" not in database.read_bytes()
        assert "hidden" not in log.getvalue()
        assert BASIC.partition(" ")[2] not in log.getvalue()

    async def test_only_what_v1_fails_at_counts_as_not_served(
        self, held: HeldUpstream, origin: RawOrigin, tmp_path: Path
    ) -> None:
        database = str(tmp_path / "log.sqlite")
        async with running_bridge(
            held.base_url, database=database, legacy_origin=origin.url
        ) as client:
            for status in (200, 302, 404, 422, 500):
                origin.answer = b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status
                await client.get("/projects")

        opened = Log.open(database)
        (found,) = opened.integrations(since=0)
        opened.close()
        assert (found.calls, found.not_served) == (5, 1)
        assert found.outcomes == {"passed-through": 5}

    @pytest.mark.parametrize(
        "public", ["/login", "/client/invoices/a1b2", "/clients/%2E./client/invoices/a1b2"]
    )
    async def test_a_stranger_whom_v1_lets_look_at_a_public_page_stays_one(
        self, client: LegacyClient, origin: RawOrigin, log: Logged, public: str
    ) -> None:
        """Else, whoever makes up logins would be told apart as if they were known."""
        await client.raw(
            request(f"GET {public} HTTP/1.1", f"Authorization: {BASIC}", "Connection: close")
        )
        await client.get("/projects")
        origin.answer = b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n"
        await client.get("/projects")
        await caught_up(client)

        page, api, refused, *_ = log.lines("legacy_call")
        assert [each.get("is_known", False) for each in (page, api, refused)] == [
            False, True, False,
        ]  # fmt: skip

    async def test_a_credential_that_v1_has_accepted_is_one_however_it_is_spelled(
        self, client: LegacyClient, log: Logged
    ) -> None:
        """Else, one valid login would have as many shares as there are spellings."""
        known = aiohttp.encode_basic_auth("jane@acme.example", "secret")
        await client.get("/projects", authorization=known)
        as_well = aiohttp.encode_basic_auth("Jane@Acme.example", "secret")
        await client.get("/projects", authorization=as_well.replace("Basic ", "bASIC  "))
        for path in ("/projects?access_token=a", "/projects?access_token=b&access_token=c"):
            await client.get(path, authorization=known)
        await client.get("/projects?access_token=b&access_token=c", authorization=None)
        await caught_up(client)

        told = [each.get("is_known", False) for each in log.lines("legacy_call")]
        assert told[:5] == [True, True, False, False, False]


async def test_strangers_of_one_address_leave_room_at_v1_for_others(
    held: HeldUpstream, origin: RawOrigin
) -> None:
    answers = asyncio.Event()

    async def wait(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answers.wait()
        writer.write(OK)

    known = {"authorization": "Bearer known"}
    async with running_bridge(
        held.base_url, legacy_origin=origin.url, passed_through_per_address=1
    ) as client:
        await client.get("/projects", **known)
        origin.misbehave = wait
        stranger = asyncio.ensure_future(client.get("/projects", authorization="Bearer a"))
        await until(lambda: len(origin.heads) == 2)
        refused = await client.get("/projects", authorization="Bearer b")
        origin.misbehave = None
        served = await client.get("/projects", **known)
        answers.set()
        await stranger

    assert (refused.status, served.status) == (503, 200)
