"""Requests byte for byte as old clients put them on the wire (schemas/README.md, "Requests")."""

import base64
import json
import re

import pytest

from tests.support.legacy import LegacyClient
from tests.support.upstream import Reply, ScriptedUpstream, message

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
