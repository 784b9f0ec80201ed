"""What the worst of bodies cost: how long each holds the event loop of a bridge of its own process.

Run it as `python -m tests.bench.bench_attacks`, with parts of names to run only those attacks.
"""

import asyncio
import gzip
import json
import sys
import zlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import aiohttp

from tests.bench.processes import Server, running
from tests.support.legacy import LegacyClient
from tests.support.running import LOOPBACK
from tests.support.upstream import Reply, message, running_upstream

SEND = "/invoices/7/messages"
LARGEST = 1024 * 1024
RUNS = 5
TOO_LONG = 0.02
"""Seconds that deserve a mark."""


@dataclass(frozen=True)
class Attack:
    """A request body, and how it is sent."""

    name: str
    body: bytes
    content_type: str = "application/xml"
    coding: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers that go with the body."""
        headers = {"Content-Type": self.content_type}
        return {**headers, "Content-Encoding": self.coding} if self.coding else headers


def filled(piece: str | bytes, before: str = "", after: str = "", size: int = LARGEST) -> bytes:
    """Repeat `piece` for as long as the whole fits into `size`."""
    middle = piece.encode() if isinstance(piece, str) else piece
    first, last = before.encode(), after.encode()
    return first + middle * ((size - len(first) - len(last)) // len(middle)) + last


def inside(piece: str, element: str = "x", size: int = LARGEST) -> bytes:
    """Repeat `piece` in an element of a message."""
    return filled(
        piece, f"<invoice-message><{element}>", f"</{element}></invoice-message>", size=size
    )


def numbered(pattern: str, count: int) -> str:
    """Return `pattern` for each number."""
    return "".join(pattern.format(number) for number in range(count))


def laughs() -> str:
    """Return the billion laughs."""
    levels = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    return f'<!DOCTYPE invoice-message [<!ENTITY e0 "l">{levels}]>'


def hidden(document: str) -> bytes:
    """Put byte order marks before a document, in case they hide its beginning."""
    return b"\xef\xbb\xbf" * 3 + document.encode()


def attacks() -> Iterator[Attack]:
    """Return every attack; the first is none, to compare with."""
    yield Attack("(harmless)", inside("x", "body", size=500))
    yield from not_well_formed()
    yield from many()
    yield from long_texts()
    yield from recipient_lists()
    yield from encodings()
    yield from entities()
    yield from transfers()


def not_well_formed() -> Iterator[Attack]:
    """Return what is no XML, and what makes the repair of addresses work for nothing."""
    for piece in ("<", "&", "<a", "<x@`", "<a@b", "<!--", "<![CDATA[", "<?", "<?a?>", "<!---->"):
        yield Attack(f"{piece} and so on", filled(piece))
    yield Attack("comments and half a root", filled("<!---->", after="<invoice-message>"))
    yield Attack("comments in half a root", filled("<!---->", "<invoice-message>"))
    yield Attack("sections in half a root", filled("<![CDATA[]]>", "<invoice-message>"))
    yield Attack("addresses of 64@255, unclosed", filled("<" + "a" * 64 + "@" + "b" * 255))
    yield Attack("local parts of 64, no @", filled("<" + "a" * 64))
    yield Attack("unescaped addresses", inside("<a@b>", "body"))
    yield Attack("unescaped addresses, and no end", filled("<a@b>", "<invoice-message><body>"))
    yield Attack("undefined entities", inside("&e;", "body"))
    yield Attack("nesting", filled("<a>"))
    yield Attack("nesting, closed", b"<a>" * 149_000 + b"</a>" * 149_000)
    yield Attack("overlong name", filled("a", "<", "/>"))
    yield Attack("undeclared prefixes", inside("<p:a/>"))
    yield Attack("one attribute often", filled("a='' ", "<invoice-message ", "/>"))
    yield Attack("roots", filled("<invoice-message/>"))


def many() -> Iterator[Attack]:
    """Return many of everything."""
    yield Attack("elements in the root", filled("<a/>", "<invoice-message>", "</invoice-message>"))
    yield Attack("elements in a text", inside("<a/>", "body"))
    yield Attack("elements in an unknown", inside("<a/>"))
    yield Attack("elements with texts", inside("<a>b</a>c"))
    yield Attack("elements 250 deep", inside("<a>" * 250 + "</a>" * 250))
    yield Attack("attributes", ("<invoice-message " + numbered("a{0}='' ", 85_000) + "/>").encode())
    yield Attack(
        "namespaces", ("<invoice-message " + numbered("xmlns:a{0}='u' ", 58_000) + "/>").encode()
    )
    spaces = "<invoice-message " + numbered("xmlns:a{0}='u{0}' ", 20_000) + "><x"
    end = "</x></invoice-message>"
    elements = numbered("<a{0}:b/>", 20_000)
    yield Attack("namespaces, each on an element", f"{spaces}>{elements}{end}".encode())
    of_each = numbered(" a{0}:b=''", 20_000)
    yield Attack("namespaces, each on an attribute", f"{spaces}{of_each}>{end}".encode())
    yield Attack("namespaces, again and again", inside("<a xmlns='u'/>"))
    identified = numbered("<a xml:id='i{0}'/>", 45_000)
    yield Attack("xml:ids", f"<invoice-message><x>{identified}{end}".encode())
    yield Attack("comments before", filled("<!---->", after="<invoice-message/>"))
    yield Attack("instructions before", filled("<?a?>", after="<invoice-message/>"))
    yield Attack("white space before", filled("\n", after="<invoice-message/>"))


def long_texts() -> Iterator[Attack]:
    """Return texts that are accepted, and reach v2."""
    for name, piece in {
        "ASCII": "x",
        "line feeds": "\n",
        "CR LF by number": "&#13;&#10;",
        "ampersands": "&amp;",
        "two bytes": "é",
        "three bytes": "漢",
        "four bytes": "\U0001f600",
        "comments": "a<!---->",
        "sections": "<![CDATA[a]]>b",
        "quotes": '"',
    }.items():
        yield Attack(f"text: {name}", inside(piece, "body"))
    yield Attack(
        "text: attribute", filled("x", "<invoice-message><body a='", "'/></invoice-message>")
    )
    yield Attack("boolean: white space", inside(" ", "thank-you"))


def recipient_lists() -> Iterator[Attack]:
    """Return lists that are as long as they may be, or longer."""
    yield Attack("list: 1 MiB of addresses", inside("a@b.c,", "recipients"))
    size = 32 * 1024
    for piece in ('"', '""', "(", "()", ";", "a:", "a,", "@", '"\\a', "\u0301", "&lt;", "&#13;"):
        yield Attack(f"list: {piece} and so on", inside(piece, "recipients", size=size))
    for name, address in {
        "plain": "{}@example.com",
        "international": "é{}@" + "ñ" * 20 + ".fr",
        "many labels": "é{}@" + ".".join("ñ" * 20),
        "long label": "é{}@" + "ñ" * 50,
        "right to left": "é{}@" + "א" * 40,
        "quoted": '"é\\ {}"@example.com',
        "literals": "é{}@[IPv6:2001:db8::1]",
    }.items():
        texts = [",".join(address.format(f"{each}{n}") for n in range(250)) for each in "ab"]
        one, two = (text[: size - 100].rpartition(",")[0] for text in texts)
        yield Attack(
            f"lists: 2 of 250, {name}",
            f"<invoice-message><recipients>{one}</recipients>"
            f"<full-recipient-list>{two}</full-recipient-list></invoice-message>".encode(),
        )


def encodings() -> Iterator[Attack]:
    """Return what is slow to decode."""
    text = "<invoice-message><body>{}</body></invoice-message>"
    for codec in ("utf-16", "utf-32", "gb18030", "euc_jis_2004", "big5hkscs", "shift_jis", "cp949"):
        body = text.format("漢" * 255_000).encode(codec)
        yield Attack(f"charset: {codec}", body, f"application/xml; charset={codec}")
    for codec in ("cp1252", "mac-roman", "koi8-r"):
        body = filled(b"\xe9", "<invoice-message><body>", "</body></invoice-message>")
        yield Attack(f"charset: {codec}", body, f"application/xml; charset={codec}")
    for codec in ("gb18030", "shift_jis"):
        yield Attack(f"charset: broken {codec}", filled(b"\x81"), f"text/xml; charset={codec}")
    harmless = inside("x", "body", size=500)
    yield Attack("header: semicolons in quotes", harmless, 'text/xml; a="' + ";" * 8000)
    yield Attack("header: semicolons", harmless, "text/xml" + ";" * 8000)
    yield Attack("header: continuations", harmless, "text/xml" + numbered(";charset*{0}=a", 500))


def entities() -> Iterator[Attack]:
    """Return document types, some of them out of sight."""
    use = "<invoice-message><body a='{0}'>{0}</body></invoice-message>"
    declared = numbered('<!ENTITY e{0} "">', 50_000)
    long = f'<!DOCTYPE invoice-message [<!ENTITY e "{"l" * 50_000}">]>'
    for name, body in {
        "billion laughs": laughs() + use.format("&e9;"),
        "quadratic blowup": long + use.format("&e;" * 50_000),
        "declarations": f"<!DOCTYPE a [{declared}]>" + use.format(""),
    }.items():
        yield Attack(f"DTD: {name}", body.encode())
        yield Attack(f"DTD after marks: {name}", hidden(body))


def transfers() -> Iterator[Attack]:
    """Return bodies that are, or grow, too large."""
    yield Attack("2 MiB", b" " * 2 * LARGEST)
    bomb = b" " * 64 * LARGEST
    yield Attack("bomb: gzip, 64 MiB", gzip.compress(bomb), coding="gzip")
    yield Attack("bomb: deflate, 64 MiB", zlib.compress(bomb), coding="deflate")
    yield Attack("bomb: gzip, 1 GiB", gzip.compress(bomb) * 16, coding="gzip")
    yield Attack("bomb: 1 MiB exactly", gzip.compress(b" " * LARGEST), coding="gzip")
    empty = gzip.compress(b"")
    yield Attack("bomb: empty gzip members", empty * (LARGEST // len(empty)), coding="gzip")


async def run(server: Server, client: LegacyClient, attack: Attack) -> tuple[str, bool]:
    """Make an attack a few times and return its row, and whether the row has a mark."""
    statuses: set[str] = set()
    totals: list[float] = []
    reports: list[dict[str, Any]] = []
    grown = 0
    for _ in range(RUNS):
        before = await server.told("watch")
        started = perf_counter()
        try:
            body = pieces(attack.body)
            answer = await client.call("POST", SEND, headers=attack.headers, body=body)
            statuses.add(str(answer.status))
        except aiohttp.ClientError:
            statuses.add("reset")
        totals.append(perf_counter() - started)
        reports.append(await server.told("report"))
        grown = max(grown, reports[-1]["peak"] - before["resident"])
    holds = [report["longest_wall"] for report in reports]
    long = median(holds) > TOO_LONG
    row = (
        f"{attack.name:<34} {len(attack.body):>8} {'/'.join(sorted(statuses)):>9}"
        f" {median(totals) * 1e3:8.1f} {median(holds) * 1e3:7.1f} {max(holds) * 1e3:7.1f}"
        f" {median(report['longest'] for report in reports) * 1e3:7.1f} {grown / 1e6:7.1f}"
        f" {'<--' if long else ''}"
    )
    return row, long


async def pieces(body: bytes) -> AsyncIterator[bytes]:
    """Stream `body`, which aiohttp would warn about in one piece."""
    for at in range(0, len(body), 65_536):
        yield body[at : at + 65_536]


def say(line: str) -> None:
    """Print."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def main(wanted: list[str]) -> None:
    """Make every attack, or those whose names are wanted."""
    say(
        f"{'':<34} {'':>8} {'':>9} {'total':>8} {'loop held: wall':>15} {'CPU':>7}"
        f"\n{f'median of {RUNS}, ms':<34} {'bytes':>8} {'status':>9} {'median':>8} {'median':>7}"
        f" {'max':>7} {'median':>7} {'MB more':>7}"
    )
    marks = 0
    async with running_upstream() as upstream:
        upstream.says(Reply(json.dumps(message()).encode(), 201))
        async with (
            running("tests.bench.watched_bridge", upstream.base_url) as server,
            LegacyClient(LOOPBACK, server.port) as client,
        ):
            await run(server, client, next(attacks()))
            for attack in attacks():
                if not wanted or any(part in attack.name for part in wanted):
                    row, long = await run(server, client, attack)
                    marks += long
                    say(row)
    say(f"{marks} held the loop longer than {TOO_LONG * 1e3:.0f} ms.")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
