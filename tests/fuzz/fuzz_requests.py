"""Request reading under fuzz: whatever the bytes, a clean refusal or harmless v2 parameters.

`python -m tests.fuzz.fuzz_requests` runs for as long as it is let: under atheris with libFuzzer's
arguments if that is installed, else, or with `--seconds`, under hypothesis.
"""

import argparse
import codecs
import importlib
import importlib.util
import inspect
import json
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.sax.saxutils import escape

import msgspec
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from lxml import etree

from bridge.resources import invoice_messages
from bridge.resources.failures import answer_to
from bridge.v1 import encoding, reader, recipients, values
from bridge.v1.errors import InvalidRequest, UnsupportedMediaType
from bridge.v1.notes import Notes
from tests.support.addresses import is_mailable
from tests.support.legacy import assert_valid
from tests.support.reading import read_request

INSTRUMENTED = (encoding, reader, recipients, values, invoice_messages)

CONTENT_TYPES = (
    None,
    "application/xml",
    "text/xml; charset=utf-8",
    "text/xml; charset=iso-8859-1",
    "application/xml; charset=windows-1252",
    "application/xml; charset=utf-16",
    "application/xml; charset=utf-16le",
    "application/xml; charset=utf-32",
    "application/xml; charset=us-ascii",
    "application/xml; charset=gb18030",
    "application/xml; charset=shift_jis",
    "application/xml; charset=euc_jis_2004",
    "application/xml; charset=cp037",
    "application/xml; charset=utf-7",
    "application/json",
)

FIELDS: dict[str, tuple[type, ...]] = {
    "body": (str, type(None)),
    "subject": (str, type(None)),
    "recipients": (list,),
    "attach_pdf": (bool, type(None)),
    "send_me_a_copy": (bool, type(None)),
    "thank_you": (bool, type(None)),
}

_NO_HEADER_CHARACTER = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_NO_XML_CHARACTER = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_SAFE_NOTE = re.compile(r"[a-z][a-z0-9-]*|…")

outcomes: Counter[str] = Counter()
"""How often each end was reached."""


def joined(content_type: str | None, body: bytes) -> bytes:
    """Return the data that `split` takes apart into these."""
    if content_type in CONTENT_TYPES:
        return bytes([CONTENT_TYPES.index(content_type)]) + body
    assert content_type is not None
    header = content_type.encode("utf-8", "surrogateescape")[:255]
    return bytes([255, len(header)]) + header + body


def split(data: bytes) -> tuple[str | None, bytes]:
    """Return the Content-Type and the body that `data` stands for."""
    choice, rest = (data[0], data[1:]) if data else (0, b"")
    if choice < 128:
        return CONTENT_TYPES[choice % len(CONTENT_TYPES)], rest
    length = rest[0] if rest else 0
    header = rest[1 : 1 + length].decode("utf-8", "surrogateescape")
    return _NO_HEADER_CHARACTER.sub(" ", header), rest[1 + length :]


def fuzz_one(data: bytes) -> None:
    """Read one request and check what came of it."""
    content_type, body = split(data)
    notes = Notes()
    try:
        given_values = read_request(body, content_type, invoice_messages.MESSAGE_FORM, notes)
        parameters = invoice_messages._parameters(given_values, notes)
    except (InvalidRequest, UnsupportedMediaType) as error:
        _check_refusal(error)
        outcomes[type(error).__name__] += 1
        return
    _check_parameters(parameters)
    _check_no_document_type(body)
    for note, count in notes:
        assert count > 0
        assert _SAFE_NOTE.fullmatch(note.code), note
        assert _SAFE_NOTE.fullmatch(note.subject), note
    outcomes["accepted with recipients" if parameters.get("recipients") else "accepted"] += 1


def _check_refusal(error: Exception) -> None:
    answer = answer_to(error)
    assert answer.status == (400 if isinstance(error, InvalidRequest) else 415)
    assert 0 < len(str(error)) < 1000
    for value in answer.headers.values():
        assert re.fullmatch(r"[ -~]{1,500}", value), value
    assert_valid(b"".join(answer.body), "errors")


def _check_parameters(parameters: dict[str, object]) -> None:
    for name, value in parameters.items():
        assert isinstance(value, FIELDS[name]), (name, value)
    given_recipients: Any = parameters.get("recipients", [])
    assert len(given_recipients) <= 2 * invoice_messages.MAX_RECIPIENTS
    for recipient in given_recipients:
        assert recipient.keys() <= {"email", "name"}
        assert is_mailable(recipient["email"]), recipient
        assert recipient.get("name", "x"), recipient
        assert not _CONTROL.search(recipient.get("name", "")), recipient
    addresses = [recipient["email"].rpartition("@") for recipient in given_recipients]
    assert len({(local, domain.lower()) for local, _, domain in addresses}) == len(addresses)
    encoded = msgspec.json.encode(parameters)
    assert json.loads(encoded) == parameters


def _check_no_document_type(body: bytes) -> None:
    """Parse what was accepted without the reader's care, and look for a document type."""
    if b"DOCTYPE" not in body.replace(b"\x00", b""):
        return
    for codec in ("utf-8", "utf-16", "utf-16-le", "utf-16-be", "cp1252"):
        with suppress(UnicodeError, etree.XMLSyntaxError):
            text = body.decode(codec).strip("\ufeff \t\r\n")
            parser = etree.XMLParser(encoding="utf-8", resolve_entities=False)
            root = etree.fromstring(text.encode(), parser)
            assert root.getroottree().docinfo.internalDTD is None


# Documents that are nearly right: where random bytes would end at "not well-formed".

TOKENS = (
    "<", ">", "&", ";", "'", '"', "/", "=", "-->", "<!--", "<![CDATA[", "]]>", "<?", "?>", "&#",
    "&#13;&#10;", "&#x85;", "&#0;", "&lt;", "&gt;", "&amp;", "&quot;", "&e;", "&#x2028;", "&#xD800;", "&#55357;&#56832;",
    "<!DOCTYPE invoice-message>", '<!DOCTYPE a [<!ENTITY e "b">]>', "<!ENTITY", "\ufeff", "\x00",
    "\r\n", "\n", "\t", " ", ",", "@", "(", ")", "\\", ":", "<jane@doe.org>", "a@b.org",
    "<invoice-message>", "</invoice-message>", "<body>", "</body>", "<recipients>", "</recipients>",
    " nil='true'", " type='array'", " xmlns='u'", " xmlns:x='u'", "\U0001f600", "é", "\ufffe",
    '<?xml version="1.0"?>', '<?xml version="1.0" encoding="utf-16"?>', "true", "0",
)  # fmt: skip

SEEDS = (
    b"<invoice-message><" + b"b" * 3000 + b"></invoice-message>",
    b"<invoice-message body='x' send_me_a_copy='1'>&#55357;&#56832;<a@b.org></invoice-message>",
    b"<invoice-message><recipients>a..b@c.org\n'd@e.org'\nJ [mailto:f@g.org]</recipients></invoice-message>",
    b"<invoice-message><body>Hello</body><subject>Hi</subject></invoice-message>",
    (
        b"<invoice-message><recipients>Jane Doe &lt;jane@doe.org>, bob@doe.org</recipients>"
        b"<send-me-a-copy type='boolean'>true</send-me-a-copy></invoice-message>"
    ),
    (
        b"<invoice-message><full-recipient-list>Jane <jane@doe.org></full-recipient-list>"
        b"</invoice-message>"
    ),
    (
        b'<?xml version="1.0" encoding="ISO-8859-1"?><invoice-message><body>\xe9</body>'
        b"</invoice-message>"
    ),
    '<?xml version="1.0" encoding="utf-16"?><invoice-message/>'.encode("utf-16"),
    b'<!DOCTYPE a [<!ENTITY e "b">]><invoice-message><body>&e;</body></invoice-message>',
    '\n\ufeff<!DOCTYPE a [<!ENTITY e "b">]><invoice-message>&e;</invoice-message>'.encode(),
    b"<invoice-message><body nil='true'/><x>y</x><!-- --><?p?></invoice-message>",
    (
        b'<invoice-message><recipients>"Doe, J\\"" (x) &lt;j@doe.org>; Team: \xc3\xa9@\xc3\xa9.fr;'
        b"</recipients></invoice-message>"
    ),
)

ODD_NAMES = ("id", "Body", "x:body", "invoice-message", "é")
TEXTS = ("body", "subject")
LISTS = ("recipients", "full-recipient-list", "full_recipient_list")
FLAGS = (
    "attach-pdf", "send-me-a-copy", "send_me_a_copy", "include-pay-pal-link", "thank-you",
)  # fmt: skip

free_text = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from("ab \t\x85\u2028"), max_size=12
)
text = free_text.map(lambda raw: escape(_NO_XML_CHARACTER.sub("", raw)))
tokens = st.sampled_from(TOKENS)
atoms = st.text(st.sampled_from("abzAZ09.-_!#'*+é花"), min_size=1, max_size=8)
good_addresses = st.builds(
    "{}{}@{}".format,
    st.sampled_from(["a", "b.c", "é", "o'neil+x", "J", "d..e", "f."]),
    st.sampled_from(["", "1", "2"]),
    st.sampled_from(["b.org", "B.ORG", "é.fr", "花.jp", "[192.0.2.1]", "localhost", "xn--9ca.fr"]),
)
addresses = st.one_of(
    good_addresses,
    good_addresses,
    good_addresses,
    st.builds('"{}"@b.org'.format, text),
    st.builds("{}@{}".format, atoms, atoms),
)
breaks = st.sampled_from(["&#13;&#10;", "&#9;", "\r\n", "&#x9b;", "&#x2028;", "&#x85;", " ", "  "])
words = st.one_of(
    atoms, text, breaks, text.map('"{}"'.format), st.sampled_from(["Doe, ", "Team:", "mailto:"])
)
phrases = st.lists(words, max_size=3).map("".join)
mailboxes = st.one_of(
    addresses,
    st.builds("{} &lt;{}&gt;".format, phrases, addresses),
    st.builds('"{}{}{}" &lt;{}&gt;'.format, text, breaks, text, addresses),
    st.builds("{} <{}>".format, atoms, addresses),
    st.builds("{} ({}{})".format, addresses, atoms, breaks),
    st.builds("{}: {};".format, atoms, addresses),
    st.builds("{} [mailto:{}]".format, phrases, addresses),
    st.builds("'{}'".format, addresses),
)
lists = st.builds(
    lambda found, separator: separator.join(found),
    st.lists(mailboxes, max_size=3),
    st.sampled_from([",", ", ", ";", ",\r\n ", ",&#10;", "\n", "&#13;&#10;"]),
)
flags = st.sampled_from(["true", "false", "1", "0", "T", " f ", "", "tr<!---->ue"])
texts = st.one_of(
    text,
    text.map("<![CDATA[{}]]>".format),
    st.builds("{}<!--c-->{}<?p?>{}".format, text, breaks, text),
)
contents = st.one_of(lists, flags, texts, free_text, tokens, phrases)
attributes = st.sampled_from([
    "", "", "", "", " nil='true'", ' nil="1"', " nil='false'", " type='boolean'", " type='array'",
    " body='x'", ' attach_pdf="1"', " x:subject=''", " é='a'",
    " xmlns='u'", " xmlns:x='u'", " xmlns:i='http://www.w3.org/2001/XMLSchema-instance' i:nil='1'",
])  # fmt: skip


def _elements(names: Sequence[str], content: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(
        lambda name, attribute, inner: f"<{name}{attribute}>{inner}</{name}>",
        st.sampled_from(names),
        attributes,
        content,
    )


elements = st.one_of(
    _elements(LISTS, lists),
    _elements(LISTS, lists),
    _elements(TEXTS, texts),
    _elements(FLAGS, flags),
    _elements((*LISTS, *TEXTS, *FLAGS, *ODD_NAMES), contents),
)
prologues = st.lists(
    st.sampled_from([
        "\ufeff", "\n", '<?xml version="1.0"?>', '<?xml version="1.0" encoding="utf-8"?>',
        '<?xml version="1.0" encoding="iso-8859-1"?>', '<?xml version="1.0" encoding="utf-16"?>',
        "<!-- -->", "<?p?>", "<!DOCTYPE a>", '<!DOCTYPE a [<!ENTITY e "b">]>', "&e;",
    ]),
    max_size=3,
).map("".join)  # fmt: skip
documents = st.builds(
    lambda prologue, root, attribute, inner, rest: (
        f"{prologue}<{root}{attribute}>{''.join(inner)}</{root}>{rest}"
    ),
    st.one_of(st.just(""), st.just(""), prologues),
    st.sampled_from(["invoice-message"] * 8 + ["invoice_message", "x:invoice-message", "body"]),
    attributes,
    st.lists(st.one_of(elements, elements, elements, text, tokens), max_size=4),
    st.sampled_from(["", "", "", "\n", "<!-- -->", "<?p?>", "x", "\x00"]),
)


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """Draw a document in which a few tokens have been put, or pieces cut out."""
    whole = draw(documents)
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(whole)))
        cut = draw(st.sampled_from([0, 0, 1, 5]))
        whole = whole[:at] + draw(tokens | free_text) + whole[at + cut :]
    return whole


codecs_used = st.sampled_from(
    ["utf-8"] * 6 + ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
    + ["iso-8859-1", "cp1252", "gb18030", "shift_jis", "cp037"]
)  # fmt: skip
parameters_of_a_type = st.lists(
    st.builds(
        "{}{}{}".format,
        st.sampled_from(["charset", "Charset", "a", "charset*", "charset*0*", "charset*1"]),
        st.sampled_from(["=", "", '="', "=utf-8''"]),
        st.sampled_from(
            ["utf-8", "utf-16", "UTF8", "idna", "hex", "", '"', "é", "\x85", "%00", "a;b"]
        ),
    ),
    max_size=3,
).map("; ".join)
content_types = st.one_of(
    st.sampled_from([None, None, "text/xml"]),
    st.sampled_from(CONTENT_TYPES),
    st.builds(
        "{}; {}".format, st.sampled_from(["text/xml", "application/xml"]), parameters_of_a_type
    ),
)


@st.composite
def encoded(draw: st.DrawFn) -> bytes:
    """Draw a damaged document in some encoding, which its Content-Type may or may not name."""
    codec = draw(codecs_used)
    body = draw(damaged()).encode(codec, "xmlcharrefreplace")
    of_itself = f"application/xml; charset={codec}"
    return joined(draw(st.just(of_itself) | content_types), body)


tidy = st.builds(
    lambda *inner: joined(None, f"<invoice-message>{''.join(inner)}</invoice-message>".encode()),
    _elements(LISTS, lists),
    _elements(TEXTS, texts),
    _elements(FLAGS, flags),
)


def requests() -> st.SearchStrategy[bytes]:
    """Return data for `fuzz_one` that is nearly a good request, or a good one."""
    return tidy | encoded()


# Long runs, by hand.


def _mutate(atheris: Any, data: bytes, max_size: int, number: int) -> bytes:
    """Put a token somewhere, double a piece, or let libFuzzer do as it likes."""
    chance = random.Random(number)
    what = chance.randrange(4)
    if what > 1 or not data:
        mutated: bytes = atheris.Mutate(data, max_size)
        return mutated
    start, end = sorted(chance.randrange(len(data) + 1) for _ in range(2))
    piece = chance.choice(TOKENS).encode("utf-8") if what else data[start:end]
    if what and data[1:3] in (codecs.BOM_UTF16_LE, b"<\x00"):
        piece = piece.decode().encode("utf-16-le")
    keep = start if chance.randrange(2) else end
    return (data[:start] + piece + data[keep:])[:max_size]


def _instrument(atheris: Any, module: ModuleType) -> None:
    for function in vars(module).values():
        if inspect.isfunction(function) and function.__module__ == module.__name__:
            atheris.instrument_func(function)


def _run_atheris(arguments: list[str]) -> None:
    atheris: Any = importlib.import_module("atheris")
    for module in (*INSTRUMENTED, importlib.import_module("email_validator.syntax")):
        _instrument(atheris, module)
    with tempfile.TemporaryDirectory() as directory:
        for number, body in enumerate(SEEDS):
            Path(directory, str(number)).write_bytes(joined(None, body))
        atheris.Setup(
            [sys.argv[0], *arguments, directory],
            fuzz_one,
            custom_mutator=lambda data, size, number: _mutate(atheris, data, size, number),
        )
        atheris.Fuzz()


def _run_hypothesis(seconds: float) -> None:
    until = time.monotonic() + seconds
    for number in range(sys.maxsize):
        if time.monotonic() > until:
            break

        @seed(random.randrange(2**32) + number)
        @settings(
            max_examples=2000,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @given(requests())
        def batch(data: bytes) -> None:
            fuzz_one(data)

        batch()
    sys.stdout.write(f"{outcomes.total()} requests: {dict(outcomes)}\n")


def main() -> None:
    """Fuzz until told to stop, or until the time is up."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--seconds", type=float)
    options, arguments = parser.parse_known_args()
    if options.seconds is None and importlib.util.find_spec("atheris") is not None:
        _run_atheris(arguments)
    else:
        _run_hypothesis(options.seconds or 60)


if __name__ == "__main__":
    main()
