"""Requests byte for byte as old clients put them on the wire (schemas/README.md, "Requests")."""

import base64
import io
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from bridge.server import logs
from tests.support.held_upstream import running_held_upstream
from tests.support.legacy import LegacyClient
from tests.support.running import running_bridge
from tests.support.upstream import Reply, ScriptedUpstream, message, page
from tests.support.writing import caught_up

PAIR = base64.b64encode(b"any@example.com:sandbox-token").decode()
CREATED = Reply(json.dumps(message(id=27835324)).encode(), 201)
RENE = {"name": "René", "email": "rene@doe.org"}


def request(
    body: bytes,
    *,
    path: str = "/invoice/1420/messages",
    version: str = "1.1",
    authorization: str = f"Basic {PAIR}",
    headers: tuple[str, ...] = ("Content-Type: application/xml",),
    length: bool = True,
) -> bytes:
    lines = [
        f"POST {path} HTTP/{version}",
        "Host: acme.harvestapp.com",
        f"Authorization: {authorization}",
        "Connection: close",
        *headers,
        *([f"Content-Length: {len(body)}"] if length else []),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def named(text: str, encoding: str | None = None) -> str:
    declaration = f'<?xml version="1.0" encoding="{encoding}"?>' if encoding else ""
    return f"{declaration}<invoice-message><recipients>{text}</recipients></invoice-message>"


TYPED = "René &lt;rene@doe.org&gt;"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        pytest.param(named(TYPED, "UTF-8").encode(), "application/xml", id="UTF-8 declared"),
        pytest.param(named(TYPED).encode(), "application/xml", id="no declaration"),
        pytest.param(named(TYPED).encode("utf-8-sig"), "text/xml", id="UTF-8 with a BOM"),
        pytest.param(
            named(TYPED, "ISO-8859-1").encode("iso-8859-1"), "text/xml", id="ISO-8859-1 declared"
        ),
        pytest.param(
            named(TYPED, "windows-1252").encode("cp1252"), "text/xml", id="windows-1252 declared"
        ),
        pytest.param(
            named(TYPED, "UTF-16").encode("utf-16"), "text/xml", id="UTF-16 with a BOM, declared"
        ),
        pytest.param(named(TYPED).encode("utf-16"), "text/xml", id="UTF-16 with a BOM"),
        pytest.param(
            named(TYPED, "UTF-16").encode("utf-16-be"), "text/xml", id="UTF-16 without a BOM"
        ),
        pytest.param(
            named(TYPED, "utf-16").encode(), "text/xml", id="UTF-16 declared, UTF-8 sent, as .NET"
        ),
        pytest.param(
            named(TYPED).encode("iso-8859-1"), "text/xml; charset=ISO-8859-1", id="by Content-Type"
        ),
        pytest.param(
            named(TYPED, "UTF-8").encode("iso-8859-1"),
            'text/xml; charset="iso-8859-1"',
            id="the Content-Type wins over the declaration",
        ),
        pytest.param(
            named(TYPED, "ISO-8859-1").encode(),
            "text/xml; charset=utf-8",
            id="and the other way round",
        ),
        pytest.param(
            named(TYPED).encode("utf-16"), "text/xml; charset=utf-16", id="UTF-16 by Content-Type"
        ),
        pytest.param(
            b"\r\n" + named(TYPED, "UTF-8").encode(), "text/xml", id="a line break comes first"
        ),
        pytest.param(named("Ren&#233; &lt;rene@doe.org&gt;").encode(), "text/xml", id="reference"),
        pytest.param(named("<![CDATA[René <rene@doe.org>]]>").encode(), "text/xml", id="CDATA"),
        pytest.param(
            named("René <rene@doe.org>").encode(), "text/xml", id="not escaped, as published"
        ),
        pytest.param(
            named("René <rene@doe.org>", "ISO-8859-1").encode("iso-8859-1"),
            "text/xml",
            id="not escaped, in ISO-8859-1",
        ),
        pytest.param(
            named("René <rene@doe.org>").encode("utf-16"), "text/xml", id="not escaped, in UTF-16"
        ),
        pytest.param(
            named(TYPED).replace("><", ">\r\n\t<").encode(), "text/xml", id="CRLF and tabs"
        ),
        pytest.param(
            named(TYPED)
            .replace(
                "<invoice-message>",
                '<invoice-message xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
                ' xmlns:xsd="http://www.w3.org/2001/XMLSchema"><body xsi:nil="true"/>',
            )
            .encode(),
            "text/xml; charset=utf-8",
            id="as .NET serialises",
        ),
        pytest.param(
            named(TYPED).replace("invoice-message", "invoice_message").encode(),
            "application/xml",
            id="underscores in the root",
        ),
    ],
)
async def test_bodies(
    upstream: ScriptedUpstream, scripted_bridge: LegacyClient, body: bytes, content_type: str
) -> None:
    upstream.says(CREATED)

    answer = await scripted_bridge.raw(request(body, headers=(f"Content-Type: {content_type}",)))

    assert answer.startswith(b"HTTP/1.1 201 ")
    assert json.loads(upstream.received[0].body)["recipients"] == [RENE]


async def test_an_address_in_a_cdata_section_is_not_escaped_when_another_is_repaired(
    upstream: ScriptedUpstream, scripted_bridge: LegacyClient
) -> None:
    upstream.says(CREATED)

    await scripted_bridge.raw(
        request(
            b"<invoice-message><body><![CDATA[Ask <jo@doe.org>]]></body>"
            b"<full-recipient-list>Jane <jane@doe.org></full-recipient-list></invoice-message>"
        )
    )

    sent = json.loads(upstream.received[0].body)
    assert sent["body"] == "Ask <jo@doe.org>"
    assert sent["recipients"] == [{"name": "Jane", "email": "jane@doe.org"}]


BODY = named(TYPED).encode()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(request(BODY, authorization=f"Basic ({PAIR})"), id="parenthesised Basic"),
        pytest.param(request(BODY, headers=()), id="no Content-Type"),
        pytest.param(request(BODY, version="1.0"), id="HTTP/1.0"),
        pytest.param(
            request(BODY, headers=("Content-Type: text/xml", "Expect: something-else")),
            id="an Expect that nobody knows",
        ),
        pytest.param(
            request(
                b"%x\r\n%s\r\n5;ext=1\r\n     \r\n0\r\nTrailer: x\r\n\r\n" % (len(BODY), BODY),
                headers=("Content-Type: text/xml", "Transfer-Encoding: chunked"),
                length=False,
            ),
            id="chunked, with an extension and a trailer",
        ),
        pytest.param(request(BODY).replace(b"Host: acme", b"hOST:    acme"), id="odd header case"),
    ],
)
async def test_heads(
    upstream: ScriptedUpstream, scripted_bridge: LegacyClient, data: bytes
) -> None:
    upstream.says(CREATED)

    answer = await scripted_bridge.raw(data)

    assert answer.split(b" ")[1] == b"201"
    assert json.loads(upstream.received[0].body)["recipients"] == [RENE]


async def test_http_1_0_closes_the_connection_and_is_not_chunked(bridge: LegacyClient) -> None:
    answer = await bridge.raw(
        f"GET /invoice/4500/messages HTTP/1.0\r\nAuthorization: Basic {PAIR}\r\n\r\n".encode()
    )

    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"200 OK" in head
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"chunked" not in head


async def test_expect_100_continue_is_answered_before_the_body_is_sent(
    upstream: ScriptedUpstream, scripted_bridge: LegacyClient
) -> None:
    upstream.says(CREATED)
    head = request(b"", headers=("Content-Type: text/xml", "Expect: 100-continue"), length=False)
    async with scripted_bridge.connection() as (reader, writer):
        writer.write(head[:-2] + f"Content-Length: {len(BODY)}\r\n\r\n".encode())

        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"

        writer.write(BODY)
        assert (await reader.read()).startswith(b"HTTP/1.1 201 ")


async def test_what_the_head_alone_refuses_is_not_continued(bridge: LegacyClient) -> None:
    head = request(
        b"",
        authorization="Basic nonsense",
        headers=("Content-Length: 9", "Expect: 100-continue"),
        length=False,
    )
    async with bridge.connection() as (reader, writer):
        writer.write(head)

        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("segment", ["mark_as_sent", "mark_as_closed", "re_open", "mark_as_draft"])
@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(("Content-Length: 0",), id="length 0"),
        pytest.param((), id="no length"),
        pytest.param(("Content-Type: text/xml", "Content-Length: 0"), id="length 0, typed"),
        pytest.param(("Transfer-Encoding: chunked",), id="chunked"),
    ],
)
async def test_an_empty_body_changes_the_state(
    upstream: ScriptedUpstream,
    scripted_bridge: LegacyClient,
    segment: str,
    headers: tuple[str, ...],
) -> None:
    upstream.says(CREATED)
    body = b"0\r\n\r\n" if "chunked" in "".join(headers) else b""

    answer = await scripted_bridge.raw(
        request(body, path=f"/invoice/1420/messages/{segment}", headers=headers, length=False)
    )

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert len(upstream.received) == 1


async def test_pipelined_calls_are_answered_in_order(bridge: LegacyClient) -> None:
    calls = [
        f"GET /invoice/{invoice}/messages HTTP/1.1\r\nHost: a\r\n"
        f"Authorization: Basic {PAIR}\r\n{connection}\r\n"
        for invoice, connection in ((1420, ""), (1421, ""), (999, "Connection: close\r\n"))
    ]

    answer = await bridge.raw("".join(calls).encode())

    assert re.findall(rb"HTTP/1\.1 (\d+)", answer) == [b"200", b"200", b"404"]


async def test_a_body_that_comes_after_its_refusal_is_no_head_of_a_call(
    bridge: LegacyClient,
) -> None:
    head = request(
        b"", authorization="Basic nonsense", headers=("Content-Length: 200000",), length=False
    ).replace(b"Connection: close\r\n", b"")
    async with bridge.connection() as (reader, writer):
        writer.write(head)
        refusal = await reader.readuntil(b"</errors>\n")
        assert refusal.startswith(b"HTTP/1.1 401 ")
        for _ in range(4):
            writer.write(b"<" * 50_000)
            await writer.drain()
        writer.write(
            f"GET /invoice/1420/messages HTTP/1.1\r\nHost: a\r\n"
            f"Authorization: Basic {PAIR}\r\n\r\n".encode()
        )

        assert (await reader.readuntil(b"\r\n")) == b"HTTP/1.1 200 OK\r\n"


READ = f"GET /invoice/1420/messages HTTP/1.1\r\nHost: a\r\nAuthorization: Basic {PAIR}\r\n".encode()


def statuses(answers: bytes) -> list[str]:
    return re.findall(r"HTTP/1\.1 (\d+)", answers.decode())


async def in_pieces(bridge: LegacyClient, *pieces: bytes) -> bytes:
    """Send pieces, each of which the bridge has read before the next one leaves."""
    async with bridge.connection() as (reader, writer):
        for piece in pieces:
            writer.write(piece)
            await caught_up(bridge)
        return await reader.read()


class TestFieldsOnSeveralLines:
    """All lines of a field that is a list are one list (RFC 9110, section 5.2)."""

    @pytest.mark.parametrize(
        ("fields", "status"),
        [
            (b"Accept: application/json\r\nAccept: application/xml\r\n", "200"),
            (b"Accept: application/json\r\nAccept: text/html\r\n", "406"),
            (b"Accept: application/json\r\nAccept:\r\n", "406"),
        ],
    )
    async def test_accept(self, bridge: LegacyClient, fields: bytes, status: str) -> None:
        assert statuses(await bridge.raw(READ + fields + b"Connection: close\r\n\r\n")) == [status]

    async def test_content_encoding(self, bridge: LegacyClient) -> None:
        coded = request(BODY, headers=("Content-Encoding: identity", "Content-Encoding: gzip"))

        assert statuses(await bridge.raw(coded)) == ["415"]

        plain = request(BODY, headers=("Content-Encoding: identity", "Content-Encoding: identity"))
        assert statuses(await bridge.raw(plain)) == ["201"]

    async def test_connection(self, bridge: LegacyClient) -> None:
        fields = b"Connection: x-any\r\nConnection: close\r\n\r\n"

        assert statuses(await bridge.raw(READ + fields)) == ["200"]


class TestBehindACall:
    """What comes behind a call does not change what becomes of it, however TCP cuts the two."""

    BEHIND = (
        pytest.param(b"\0", id="NUL"),
        pytest.param(b" ", id="blank"),
        pytest.param(b">", id="bracket"),
        pytest.param(b"x", id="letter"),
        pytest.param(b"\r\n\r\n", id="line breaks"),
        pytest.param(READ + b"\r\n", id="a call"),
        pytest.param(b"NONSENSE\r\n\r\n", id="nonsense"),
    )

    @pytest.mark.parametrize("behind", BEHIND)
    @pytest.mark.parametrize("together", [True, False], ids=["one segment", "two segments"])
    @pytest.mark.parametrize(
        ("last", "reply", "status"),
        [
            pytest.param(READ + b"Connection: close\r\n\r\n", page(), "200", id="read"),
            pytest.param(request(BODY), message(id=27835324), "201", id="write"),
        ],
    )
    async def test_the_last_call_is_served_once_and_the_rest_is_not(
        self, behind: bytes, together: bool, last: bytes, reply: dict[str, Any], status: str
    ) -> None:
        async with (
            running_held_upstream() as held,
            running_bridge(held.base_url) as bridge,
            bridge.connection() as (reader, writer),
        ):
            writer.write(last + behind if together else last)
            call = await held.next()
            if not together:
                writer.write(behind)
            await caught_up(bridge)
            call.answer(reply, int(status))

            assert statuses(await reader.read()) == [status]
            assert len(held.calls) == 1

    async def test_what_is_no_call_is_refused_where_the_connection_stays_open(
        self, upstream: ScriptedUpstream, scripted_bridge: LegacyClient
    ) -> None:
        upstream.says(CREATED)
        write = request(BODY).replace(b"Connection: close\r\n", b"")

        answers = await scripted_bridge.raw(write + b"NONSENSE\r\n\r\n")

        assert statuses(answers) == ["201", "400"]
        assert len(upstream.received) == 1

    @pytest.mark.parametrize(
        "behind", [READ + b"\r\n", b"NONSENSE\r\n\r\n", b"GET", request(BODY)[:-1]]
    )
    async def test_nothing_is_served_that_comes_with_the_last_chunk(
        self, upstream: ScriptedUpstream, scripted_bridge: LegacyClient, behind: bytes
    ) -> None:
        upstream.says(CREATED)
        chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
        write = request(chunks, headers=("Transfer-Encoding: chunked",), length=False)

        answers = await scripted_bridge.raw(write.replace(b"Connection: close\r\n", b"") + behind)

        assert statuses(answers) == ["201"]
        assert b"Connection: close" in answers
        assert len(upstream.received) == 1

    async def test_a_head_that_comes_in_two_with_the_call_before_it(
        self, bridge: LegacyClient
    ) -> None:
        second = READ + b"Connection: close\r\n\r\n"
        for cut in (1, len(second) - 3, len(second) - 1):
            answers = await in_pieces(bridge, READ + b"\r\n" + second[:cut], second[cut:])

            assert statuses(answers) == ["200", "200"]

    @pytest.mark.parametrize("token", [b"h2c", b"TLS/1.0", b"any"])
    @pytest.mark.parametrize("body", [b"", b"<body/>"])
    async def test_a_call_behind_an_upgrade_is_answered(
        self, bridge: LegacyClient, token: bytes, body: bytes
    ) -> None:
        upgrade = READ + b"Connection: Upgrade\r\nUpgrade: %s\r\n" % token
        length = b"Content-Length: %d\r\n\r\n" % len(body)

        answers = await bridge.raw(upgrade + length + body + READ + b"Connection: close\r\n\r\n")

        assert statuses(answers) == ["200", "200"]

    async def test_a_last_chunk_that_comes_in_pieces_keeps_the_connection(
        self, upstream: ScriptedUpstream, scripted_bridge: LegacyClient
    ) -> None:
        upstream.says(CREATED)
        chunks = b"%x\r\n%s\r\n0\r\n" % (len(BODY), BODY)
        write = request(chunks, headers=("Transfer-Encoding: chunked",), length=False)
        second = request(BODY)

        answers = await in_pieces(
            scripted_bridge, write.replace(b"Connection: close\r\n", b""), b"\r\n", second
        )

        assert statuses(answers) == ["201", "201"]

    @pytest.mark.parametrize(
        "head",
        [
            READ + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            b"CONNECT api.example.com:443 HTTP/1.1\r\nHost: a\r\n\r\n",
        ],
        ids=["websocket", "connect"],
    )
    async def test_what_asks_for_another_protocol_is_the_last(
        self, bridge: LegacyClient, head: bytes
    ) -> None:
        answers = await bridge.raw(head + READ + b"\r\n")

        assert len(statuses(answers)) == 1
        assert b"Connection: close" in answers


class TestVersions:
    """Only HTTP/1.0 and HTTP/1.1 are spoken."""

    @pytest.mark.parametrize("version", ["", " HTTP/0.9", " HTTP/1.2", " HTTP/2.0", " HTTP/3.0"])
    @pytest.mark.parametrize("line_break", ["\r\n", "\n"])
    async def test_any_other_is_400_in_http_1_1(
        self, upstream: ScriptedUpstream, bridge: LegacyClient, version: str, line_break: str
    ) -> None:
        head = request(BODY).replace(b" HTTP/1.1\r\n", f"{version}{line_break}".encode())

        answer = await bridge.raw(head)

        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"Connection: close" in answer
        assert upstream.received == []

    async def test_http_1_0_is_not_told_to_continue(
        self, upstream: ScriptedUpstream, scripted_bridge: LegacyClient
    ) -> None:
        upstream.says(CREATED)
        call = request(BODY, version="1.0", headers=("Expect: 100-continue",))

        assert (await scripted_bridge.raw(call)).startswith(b"HTTP/1.0 201 ")

    async def test_the_preface_of_http_2_is_400(self, bridge: LegacyClient) -> None:
        assert statuses(await bridge.raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")) == ["400"]


class TestTransferCodings:
    @pytest.mark.parametrize("coding", ["gzip, chunked", "gzip,chunked", "identity, chunked"])
    async def test_beside_chunked_are_400(
        self, upstream: ScriptedUpstream, bridge: LegacyClient, coding: str
    ) -> None:
        chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
        call = request(chunks, headers=(f"Transfer-Encoding: {coding}",), length=False)

        answers = await bridge.raw(call.replace(b"Connection: close\r\n", b"") + READ + b"\r\n")

        assert statuses(answers) == ["400"]
        assert upstream.received == []


class TestOldRuntimes:
    """Heads as PHP's fsockopen and Ruby's encode64 make them (schemas/README.md, "Heads")."""

    LF = request(BODY).partition(BODY)[0].replace(b"\r\n", b"\n")

    async def test_lines_that_all_end_in_lf(
        self, upstream: ScriptedUpstream, scripted_bridge: LegacyClient
    ) -> None:
        upstream.says(CREATED)

        assert statuses(await scripted_bridge.raw(self.LF + BODY)) == ["201"]

    async def test_lines_that_come_one_by_one(
        self, upstream: ScriptedUpstream, scripted_bridge: LegacyClient
    ) -> None:
        upstream.says(CREATED)

        answers = await in_pieces(scripted_bridge, *self.LF.splitlines(keepends=True), BODY)

        assert statuses(answers) == ["201"]

    async def test_credentials_in_two_lines(
        self, upstream: ScriptedUpstream, log: io.StringIO, scripted_bridge: LegacyClient
    ) -> None:
        upstream.says(CREATED)
        token = "1234567.pt." + "x" * 80
        pair = base64.encodebytes(f"any@example.com:{token}".encode()).decode().rstrip("\n")
        assert "\n" in pair

        answer = await scripted_bridge.raw(request(BODY, authorization=f"Basic {pair}"))

        assert statuses(answer) == ["201"]
        assert upstream.received[0].headers["Authorization"] == f"Bearer {token}"
        assert '"code":"credentials-wrapped","subject":"head"' in log.getvalue()

    async def test_a_bare_lf_that_could_hide_a_field_is_refused(
        self, upstream: ScriptedUpstream, bridge: LegacyClient
    ) -> None:
        smuggling = request(BODY).replace(b"Host: acme", b"X: a\nHost: acme")

        assert statuses(await bridge.raw(smuggling)) == ["400"]
        assert upstream.received == []


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    logs.configure(stream)
    yield stream
    structlog.reset_defaults()
