"""What anybody can send is read with work that is linear in its length, or is refused before.

The work is counted, never timed: the steps of each regular expression, and what the functions call
that read texts before v2 is asked. A normalisation counts as the square of its text.
"""

import importlib
import pkgutil
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import ip_network
from typing import Any

import pytest
from multidict import CIMultiDict

import bridge
from bridge.identity.agents import agent_of
from bridge.identity.book import Book, login_key
from bridge.identity.credentials import credentials
from bridge.identity.digests import KEY_LENGTH, Digests
from bridge.identity.hosts import network_of, origin, scheme, subdomain
from bridge.identity.masking import without_addresses
from bridge.record.log.redaction import _KEPT_HEADERS
from bridge.resources import RESOURCES
from bridge.resources.account import _called
from bridge.resources.invoice_messages import MESSAGE_FORM
from bridge.resources.routes import Router, path_for_a_log
from bridge.server.answers import request_id_of
from bridge.server.heads import end_of_head, has_bare_line_feeds, repaired
from bridge.server.negotiation import admits_json, admits_xml, expects_continue
from bridge.v1.dialects import Dialect
from bridge.v1.encoding import decode_xml
from bridge.v1.errors import LegacyCallError
from bridge.v1.notes import Notes
from bridge.v1.reader import Form
from bridge.v1.recipients import InvalidRecipient, read
from bridge.v1.values import read_boolean, read_clock, read_datetime, read_decimal
from bridge.v1.wire import V1Request
from tests.support.reading import read_request
from tests.support.regex_steps import AnyPattern, Engine, hostile_texts

USED = {
    "cli.terminal._HARMFUL": "finditer",
    "comparing.documents._JSON": "match",
    "comparing.paths._LAST_STEP": "fullmatch",
    "comparing.paths._PLAIN_NAME": "fullmatch",
    "comparing.paths._STEP": "fullmatch",
    "identity.agents._BROWSERS": "search",
    "identity.agents._COMPATIBLE": "match",
    "identity.agents._PRODUCT": "match",
    "identity.credentials._TOKEN": "fullmatch",
    "identity.hosts._ADDRESS": "fullmatch",
    "identity.hosts._LABEL": "fullmatch",
    "identity.hosts._PLAIN": "fullmatch",
    "identity.masking._AT": "search",
    "identity.masking._TOKEN": "finditer",
    "identity.masking._WORD": "finditer",
    "origin.fields._TOKEN": "fullmatch",
    "origin.fields._VALUE": "fullmatch",
    "record.log.redaction._ASSIGNED": "finditer",
    "record.log.redaction._ATTRIBUTE": "finditer",
    "record.log.redaction._AUTHORIZATION": "finditer",
    "record.log.redaction._CHARSET": "search",
    "record.log.redaction._CLOSED": "finditer",
    "record.log.redaction._DATE": "fullmatch",
    "record.log.redaction._DECLARED": "match",
    "record.log.redaction._DECLARED_VALUE": "fullmatch",
    "record.log.redaction._ESCAPE": "finditer",
    "record.log.redaction._HTTP_DATE": "fullmatch",
    "record.log.redaction._INTEGER": "fullmatch",
    "record.log.redaction._JSON": "finditer",
    "record.log.redaction._NAME": "fullmatch",
    "record.log.redaction._NUMBER": "fullmatch",
    "record.log.redaction._OPENED": "finditer",
    "record.log.redaction._PERCENT": "finditer",
    "record.log.redaction._READABLE": "match",
    "record.log.redaction._REFERENCE": "finditer",
    "record.log.redaction._SCHEME": "match",
    "record.log.redaction._SECRET_NAME": "search",
    "record.log.redaction._WITH_AN_EXPONENT": "fullmatch",
    "record.log.redaction._XML": "finditer",
    "resources.account._HOST": "fullmatch",
    "resources.invoice_messages.EVENT_FORM": "fullmatch",
    "resources.invoice_messages.MESSAGE_FORM": "fullmatch",
    "resources.invoice_payments.PAYMENT_FORM": "fullmatch",
    "resources.routes._PLAIN_NAME": "fullmatch",
    "server.admin.guard._ID": "fullmatch",
    "server.admin.requests._OWN_PATH": "fullmatch",
    "server.admin.side._BRACKETED": "fullmatch",
    "server.answers._SANE_ID": "fullmatch",
    "server.heads._LINE_BREAKS": "finditer",
    "server.heads._WRAPPED": "finditer",
    "server.negotiation._JSON": "fullmatch",
    "server.negotiation._QUALITY": "fullmatch",
    "server.negotiation._XML": "fullmatch",
    "server.upstream_events._NUMBER": "finditer",
    "v1.encoding._CHARSET": "search",
    "v1.encoding._DECLARED": "match",
    "v1.encoding._MEDIA_TYPE": "match",
    "v1.paths._HASH_ID": "fullmatch",
    "v1.paths._WORD": "fullmatch",
    "v1.reader._BEFORE_ROOT": "match",
    "v1.reader._MISTAKES": "finditer",
    "v1.reader._PLAIN_NAME": "fullmatch",
    "v1.recipients._CONTROL": "finditer",
    "v1.recipients._ENTRY": "match",
    "v1.recipients._FOLDING": "finditer",
    "v1.recipients._LINK": "search",
    "v1.recipients._MAILTO": "match",
    "v1.recipients._NEEDS_QUOTES": "search",
    "v1.recipients._PART": "finditer",
    "v1.recipients._PLAIN_ADDRESS": "fullmatch",
    "v1.recipients._PLAIN_DOMAIN": "fullmatch",
    "v1.values._DATETIME": "fullmatch",
    "v1.values._DECIMAL": "fullmatch",
    "v1.writer._NOT_XML": "finditer",
    "v2.decoding._ESCAPE": "finditer",
    "v2.decoding._SURROGATE": "search",
    "v2.paging._PLAIN": "fullmatch",
    "v2.retry_after._SECONDS": "fullmatch",
    "verifying.har._PLAIN": "match",
    "verifying.junit._NO_XML": "finditer",
    "verifying.reads._URL": "fullmatch",
    "verifying.reads._V2": "match",
}
"""How each expression is used that meets a text of a client's, or of v2's."""

USED |= {f"record.log.redaction._KEPT_HEADERS[{name}]": "fullmatch" for name in _KEPT_HEADERS}

OPERATORS = {
    "guide.explaining._ORIGIN", "identity.book._WORD", "identity.book_editing._CREDENTIAL", "record.log.capture._SPAN",
    "record.log.schedules._DATE", "record.log.schedules._SPAN",
    "settings._DAY", "settings._KEY", "settings._LINK", "settings._LINKED", "settings._NEAR", "settings._NOBODY",
    "settings._PLAIN",
}  # fmt: skip
"""Those that meet only what the operator has written."""

OF_THE_BRIDGE = {
    "record.log.redaction._CODEC", "server.upstream_events._ID", "v1.encoding._TEXT_CODEC",
}  # fmt: skip
"""Those that meet only what is in the bridge itself."""

NEARLY_TWICE = 2.6
"""How many times the work may be as much for a text of twice the length; the square would be 4."""

SMALL = 200
"""What it may be more, whatever the length."""


def grows_in_proportion(
    work: Callable[[str], int], text: Callable[[int], str], length: int
) -> bool:
    """Tell whether twice as long a text takes about twice the work, from this length on.

    Of an expression that counts to some bound it may not be so below that.
    """
    return work(text(2 * length)) <= NEARLY_TWICE * work(text(length)) + SMALL


def patterns() -> Iterator[tuple[str, AnyPattern]]:
    """Yield the expressions of every module, by name."""
    for module in pkgutil.walk_packages(bridge.__path__, "bridge."):
        name = module.name.removeprefix("bridge.")
        # Migrations are Alembic's to import.
        if not name.startswith(("sandbox", "__main__")) and "migrations" not in name:
            for attribute, value in vars(importlib.import_module(module.name)).items():
                if isinstance(value, re.Pattern):
                    yield f"{name}.{attribute}", value
                elif isinstance(value, Form):
                    yield f"{name}.{attribute}", value.plain
                elif isinstance(value, dict):
                    for key, each in value.items():
                        if isinstance(each, re.Pattern):
                            yield f"{name}.{attribute}[{key}]", each


ALL = dict(patterns())


def test_how_every_expression_is_used_is_known() -> None:
    assert set(ALL) == set(USED) | OPERATORS | OF_THE_BRIDGE


def steps(engine: Engine, use: str, text: str) -> int:
    engine.run(use, text)
    return engine.steps


@pytest.fixture(autouse=True)
def deep() -> Iterator[None]:
    """Let what repeats be deep in the stack."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(50_000)
    yield
    sys.setrecursionlimit(before)


@pytest.mark.parametrize("name", USED)
def test_an_expression_takes_steps_in_proportion_to_its_text(name: str) -> None:
    pattern, use = ALL[name], USED[name]
    engine = Engine(pattern)

    for hostile in hostile_texts(pattern):
        assert any(
            grows_in_proportion(lambda text: steps(engine, use, text), hostile.text, length)
            for length in (128, 256, 512)
        ), hostile


@pytest.mark.parametrize("name", USED)
def test_steps_are_counted_of_what_the_engine_does(name: str) -> None:
    """The matcher that counts finds just what `re` does."""
    pattern, use = ALL[name], USED[name]
    engine = Engine(pattern)
    for hostile in hostile_texts(pattern):
        text = hostile.text(16)
        given: Any = text.encode("latin-1") if isinstance(pattern.pattern, bytes) else text
        found: Any = engine.run(use, text)
        if use == "finditer":
            assert found == [each.span() for each in pattern.finditer(given)], text
        else:
            real = getattr(pattern, use)(given)
            end = found[1] if isinstance(found, tuple) else found
            assert end == (None if real is None else real.end()), text


@pytest.mark.parametrize("source", [r"(a+)+b", r"a*a*b", r"(?:a|aa)+b", r"\s*,"])
def test_what_is_not_linear_is_found(source: str) -> None:
    """As is any search for what begins with a long repeat."""
    pattern = re.compile(source)
    engine = Engine(pattern)
    few, many = (
        max(steps(engine, "search", hostile.text(length)) for hostile in hostile_texts(pattern))
        for length in (8, 16)
    )

    assert many > NEARLY_TWICE * few


# The functions.


TRUSTED = (ip_network("10.0.0.0/8"),)


def _called_at(text: str) -> None:
    _called(V1Request(path="", ids={}, dialect=Dialect.FINAL, base_uri=f"http://{text}"))


def heads(octets: bytes) -> None:
    end_of_head(octets)
    has_bare_line_feeds(octets)
    repaired(octets)


BOOK = Book(())
"""Made before the work is counted: the first one asks Python what is iterable, and how."""


def looked_up(text: str) -> None:
    BOOK.find("acme", text)
    BOOK.knows(text)


def post(text: str, content_type: str = "application/xml") -> None:
    body = text.encode("utf-8", "replace")
    read_request(body, content_type, MESSAGE_FORM, Notes())


READERS: dict[str, Callable[[str], object]] = {
    "path": lambda text: Router(RESOURCES).match("GET", f"/{text}", Notes()),
    "path below a root": lambda text: Router(RESOURCES).match("GET", f"/people/{text}", Notes()),
    "method": lambda text: Router(RESOURCES).match(text, "/invoice/1/messages", Notes()),
    "request id": request_id_of,
    "user agent": without_addresses,
    "user agent, told": agent_of,
    "path, told": lambda text: path_for_a_log(f"/{text}"),
    "login, told": Digests(bytes(KEY_LENGTH)).login,
    "accept": lambda text: (admits_xml(text), admits_json(text)),
    "accept: type": lambda text: (admits_xml(f"a/{text}"), admits_json(f"a/{text}")),
    "expect": lambda text: expects_continue(CIMultiDict({"Expect": text})),
    "host": lambda text: subdomain(text, ("harvestapp.com",)),
    "host, told": _called_at,
    "forwarded": lambda text: origin("10.0.0.1", text, [text] * 2, [text] * 2, TRUSTED),
    "forwarded scheme": lambda text: scheme("10.0.0.1", "http", [text] * 2, TRUSTED),
    "address": network_of,
    "address of IPv6": lambda text: network_of(f"::{text}"),
    "credentials": lambda text: list(credentials(text, {})),
    "credentials: Basic": lambda text: list(credentials(f"Basic {text}", {})),
    "credentials: in parentheses": lambda text: list(credentials(f"Basic ({text})", {})),
    "login": login_key,
    "login, looked up": looked_up,
    "point in time": lambda text: read_datetime(text, "updated_since"),
    "clock": lambda text: read_clock(f"2010-09-25 {text}", "paid-at"),
    "boolean": lambda text: read_boolean(text, "attach-pdf"),
    "decimal": lambda text: read_decimal(text, "amount", 30),
    "head": lambda text: heads(text.encode("utf-8", "replace")),
    "head: credentials": lambda text: heads(b"\nauthorization: basic " + text.encode()),
    "recipients": lambda text: read(text, limit=250),
    "content type": lambda text: decode_xml(b"<a/>", text),
    "content type: parameters": lambda text: decode_xml(b"<a/>", f"text/xml;{text}"),
    "body": post,
    "body: element": lambda text: post(f"<invoice-message>{text}</invoice-message>"),
    "body: recipients": lambda text: post(
        f"<invoice-message><recipients>{text}</recipients></invoice-message>"
    ),
    "body: attribute": lambda text: post(f"<invoice-message a='{text}'/>"),
}
"""All that reads a text of a client's before v2 is asked, by what the text is."""

UNITS = [
    *"T 0aé\u0301\u0323,;:/@.\"'()<>[]{}=+-%#&\\\t\n\x85\u2028\x01A",
    "\u0323\u0301", "a/", "a,", "a@b.c,", "%41", "%23", '""', "()", "(a)", "\\a", "\r\n", "\n\n", "//",
    "10.0.0.1,", "a=b;", "q=0;", "*/*,", "<a>", "<a/>", "<a@b>", "<!--", "<![CDATA[", "&#55357;",
    "&lt;", "a b=c ", "mailto:", "x\n ", "\u00df", "1:2:",
]  # fmt: skip


def work_of(reader: Callable[[str], object], text: str) -> int:
    """Return how many calls reading a text takes, of Python's functions and of its own.

    That counts loops, of which each turn calls something; and it counts what a normalisation takes.
    """
    calls = 0

    def count(_frame: object, event: str, what: Any) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    real = unicodedata.normalize

    def normalize(form: Any, given: str) -> str:
        nonlocal calls
        calls += len(given) ** 2
        return real(form, given)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(unicodedata, "normalize", normalize)
        before = sys.getprofile()
        sys.setprofile(count)
        try:
            with suppress(LegacyCallError, InvalidRecipient):
                reader(text)
        finally:
            sys.setprofile(before)
    return calls


@pytest.mark.parametrize("what", READERS)
def test_a_function_takes_work_in_proportion_to_its_text(what: str) -> None:
    for unit in UNITS:

        def text(length: int, unit: str = unit) -> str:
            return unit * (length // len(unit))

        assert grows_in_proportion(lambda given: work_of(READERS[what], given), text, 2048), unit


def test_a_loop_in_a_loop_is_found() -> None:
    def read_slowly(text: str) -> None:
        for _ in text:
            for each in text:
                each.strip()

    assert not grows_in_proportion(lambda text: work_of(read_slowly, text), "a".__mul__, 64)
