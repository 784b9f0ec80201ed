"""What is left of what people say: its length and shape, its structure, and no secret."""

import base64
import json
import re
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from multidict import CIMultiDict, istr

from bridge.record.log.redaction import REMOVED, Redaction, stand_in

REDACTED, RAW = Redaction(), Redaction(raw=True)
TOKEN = "1234567.pt.qk-Secret+Token/of=v2"
KNOWING, KNOWING_RAW = Redaction([TOKEN]), Redaction([TOKEN], raw=True)

XML, JSON, FORM = "text/xml; charset=utf-8", "application/json", "application/x-www-form-urlencoded"


def rewritten(text: str, type_: str = XML) -> str:
    body = REDACTED.body(text.encode(), type_)
    assert body is not None
    return body.decode()


def letters_kept(before: str, after: str) -> set[str]:
    """Return the runs of three letters of a text that have survived, but for those of stand-ins."""
    runs = {before[at : at + 3] for at in range(len(before) - 2)}
    return {run for run in runs if run.isalpha() and set(run) - set("xXéÉ字") and run in after}


# Texts.


@given(st.text())
def test_a_stand_in_has_the_length_and_the_shape_of_its_text(text: str) -> None:
    shape = stand_in(text)

    assert len(shape) == len(text)
    for was, is_ in zip(text, shape, strict=True):
        assert was.isalpha() == is_.isalpha()
        assert was.isspace() == is_.isspace()
        assert was.isascii() == is_.isascii()
        assert was.isupper() == is_.isupper() or not was.isalpha() or was.istitle()
        assert was == is_ or was.isalpha() or was.isnumeric()


@given(st.text())
def test_no_three_letters_of_a_text_survive(text: str) -> None:
    assert letters_kept(text, stand_in(text)) == set()


@given(st.text())
def test_a_stand_in_stands_in_for_itself(text: str) -> None:
    assert stand_in(stand_in(text)) == stand_in(text)


def test_an_address_looks_like_an_address() -> None:
    assert stand_in('"Doe, Jane" <jane.doe@doe.org>, Jörg 42') == (
        '"Xxx, Xxxx" <xxxx.xxx@xxx.xxx>, Xéxx 99'
    )


# XML.

NAMES = st.from_regex(r"\A[a-z][a-z0-9-]{0,8}\Z").filter(
    lambda name: not re.search("token|secret|pass|pwd|key|session|cookie|auth|cred", name)
)
TEXTS = st.text(
    st.characters(codec="utf-8", exclude_characters="\x00", exclude_categories=("Cc", "Cs")) |
    st.sampled_from("\t\n&<>\"'"), max_size=20
)  # fmt: skip


def test_a_namespace_is_known_only_if_it_is_everybodys() -> None:
    schema = "xmlns:i='http://www.w3.org/2001/XMLSchema-instance'"
    body = f"<a {schema} xmlns:b='http://jane@doe.example/Smith' i:nil='true'/>"

    assert Redaction().body(body.encode(), "text/xml") == (
        f"<a {schema} xmlns:b='http://xxxx@xxx.xxxxxxx/Xxxxx' i:nil='true'/>".encode()
    )


@st.composite
def elements(draw: st.DrawFn, depth: int = 3) -> etree._Element:
    element = etree.Element(draw(NAMES))
    for name in draw(st.lists(NAMES, max_size=2, unique=True)):
        element.set(name, xml_text(draw(TEXTS)))
    element.text = xml_text(draw(TEXTS))
    if depth:
        for child in draw(st.lists(elements(depth - 1), max_size=2)):
            element.append(child)
            child.tail = xml_text(draw(TEXTS))
    return element


def xml_text(text: str) -> str:
    return "".join(each for each in text if ord(each) < 0xFFFE or ord(each) > 0xFFFF)


def outline(element: etree._Element) -> Any:
    """Return the tree of names, with the lengths of the texts."""
    texts = (element.text or "", element.tail or "")
    attributes = {str(name): len(value) for name, value in element.attrib.items()}
    return element.tag, attributes, [len(each) for each in texts], [outline(e) for e in element]


def texts_of(element: etree._Element) -> list[str]:
    return [
        each
        for part in element.iter()
        for each in (part.text or "", part.tail or "", *map(str, part.attrib.values()))
    ]


@given(elements(), st.sampled_from(["utf-8", "utf-16", "iso-8859-1", "us-ascii"]))
def test_xml_keeps_its_tree_and_none_of_its_texts(element: etree._Element, encoding: str) -> None:
    before = etree.tostring(element, encoding=encoding, xml_declaration=True)
    assert isinstance(before, bytes)
    body = REDACTED.body(before)

    assert body is not None
    after = etree.fromstring(body)
    assert outline(after) == outline(etree.fromstring(before))
    kept = [letters_kept(*pair) for pair in zip(texts_of(element), texts_of(after), strict=True)
            if pair[0].strip() not in {"true", "false", "null"}]  # fmt: skip
    assert not any(kept)


@given(st.binary(max_size=400), st.sampled_from(["", XML, JSON, FORM, "text/plain"]))
def test_any_bytes_can_be_redacted(body: bytes, type_: str) -> None:
    for cut in (False, True):
        REDACTED.body(body, type_, cut=cut)
        KNOWING_RAW.body(body, type_, cut=cut)


def test_ids_dates_booleans_and_nulls_stay_and_amounts_do_not() -> None:
    assert rewritten(
        '<payment><id type="integer">409</id><invoice-id type="integer">1420</invoice-id>'
        '<paid-at type="datetime">2008-04-09T20:44:54Z</paid-at><amount type="decimal">10.50'
        '</amount><thank-you type="boolean">true</thank-you><reminder>1</reminder>'
        '<notes nil="true"/><phone type="integer">5551234</phone></payment>'
    ) == (
        '<payment><id type="integer">409</id><invoice-id type="integer">1420</invoice-id>'
        '<paid-at type="datetime">2008-04-09T20:44:54Z</paid-at><amount type="decimal">99.99'
        '</amount><thank-you type="boolean">true</thank-you><reminder>1</reminder>'
        '<notes nil="true"/><phone type="integer">9999999</phone></payment>'
    )


def test_what_is_no_integer_is_no_id() -> None:
    assert rewritten("<id>jane</id><id>1a</id>") == "<id>xxxx</id><id>9x</id>"


def test_an_ill_formed_list_of_recipients_stays_ill_formed() -> None:
    assert rewritten("<m><recipients>Jane Doe <jane@doe.org>, Al <Al></recipients></m>") == (
        "<m><recipients>Xxxx Xxx <xxxx@xxx.xxx>, Xx <Xx></recipients></m>"
    )


def test_what_hides_in_references_comments_and_sections_has_stand_ins() -> None:
    assert rewritten(
        "<m><!-- Jane --><a>&#74;&#x61;ne &amp; &eacute;&#13;</a><b><![CDATA[Jane]]></b></m>"
    ) == ("<m><!-- Xxxx --><a>&#88;&#x78;xx &amp; &xxxxxx;&#13;</a><b><![CDATA[Xxxx]]></b></m>")


def test_a_declaration_stays() -> None:
    told = '<?xml version="1.0" encoding="iso-8859-1" standalone="yes"?>'
    assert REDACTED.body(f"{told}<a>é</a>".encode("latin-1")) == f"{told}<a>é</a>".encode("latin-1")
    assert rewritten('<?xml version="1.0" encoding="jane"?><a/>').startswith(
        '<?xml version="1.0" encoding="xxxx"?>'
    )


# JSON.

JSONS = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**15), 10**15)
    | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=12,
)  # fmt: skip


def shape_of(value: Any) -> Any:
    match value:
        case dict():
            return {key: shape_of(each) for key, each in value.items()}
        case list():
            return [shape_of(each) for each in value]
        case str():
            return len(value)
        case bool() | None:
            return value
    return float


def strings_of(value: Any) -> list[str]:
    match value:
        case dict():
            return [text for each in value.values() for text in strings_of(each)]
        case list():
            return [text for each in value for text in strings_of(each)]
        case str():
            return [value]
    return []


@given(JSONS, st.booleans())
def test_json_keeps_its_tree_and_none_of_its_texts(value: Any, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    if "\\u" in text and not ascii_only:  # nothing that UTF-8 can hold
        text = text.encode("utf-8", "replace").decode()
    try:
        before = text.encode()
    except UnicodeEncodeError:  # a lone surrogate: JSON can carry one as an escape
        before = json.dumps(value).encode()
    body = REDACTED.body(before, JSON)

    assert body is not None
    after = json.loads(body)
    told = json.loads(before)
    assert shape_of(after) == shape_of(told)
    pairs = zip(strings_of(told), strings_of(after), strict=True)
    assert not any(
        letters_kept(*pair)
        for pair in pairs
        if pair[0].strip() not in {"true", "false", "null"} and "http" not in pair[0].lower()
    )


def test_a_message_of_v2_shows_its_structure_and_nobody() -> None:
    assert rewritten(
        '{"id":12,"sent_by":"J\\u00f6rg","amount":10.5e3,"event_type":"re-open","note":"a\\"b",'
        '"recipients":[{"name":"Jane","email":"jane@doe.org"}],"thank_you":true,"page":null,'
        '"links":{"next":"https://api.example/x?cursor=abc"},"jane@doe.org":1}', JSON
    ) == (
        '{"id":12,"sent_by":"X\\u00e9xx","amount":99.9e3,"event_type":"re-open","note":"x\\"x",'
        '"recipients":[{"name":"Xxxx","email":"xxxx@xxx.xxx"}],"thank_you":true,"page":null,'
        '"links":{"next":"https://xxx.xxxxxxx/x?xxxxxx=xxx"},"xxxx@xxx.xxx":9}'
    )  # fmt: skip


def test_the_same_text_has_the_same_stand_in_on_both_sides() -> None:
    text = "Dear Jörg, 42 & more"
    xml = etree.fromstring(rewritten(f"<body>{text.replace('&', '&amp;')}</body>"))
    assert xml.text == json.loads(rewritten(json.dumps({"body": text}), JSON))["body"]


# Parameters, URLs and headers.


@given(st.lists(st.tuples(NAMES, st.text(st.characters(codec="utf-8"), min_size=1)), min_size=1))
def test_parameters_keep_their_names(pairs: list[tuple[str, str]]) -> None:
    after = parse_qsl(rewritten(urlencode(pairs), FORM))

    assert [name for name, _ in after] == [name for name, _ in pairs]
    assert not any(
        letters_kept(was, is_)
        for (_, was), (_, is_) in zip(pairs, after, strict=True)
        if was not in {"true", "false", "null"}
    )


def test_of_a_url_the_parameters_are_replaced() -> None:
    url = (
        "http://h/invoice/1/messages?updated_since=2010-09-25+18:30&access_token=abc&who=J%C3%B6rg"
    )
    kept = "http://h/invoice/1/messages?updated_since=2010-09-25+18:30&access_token=REMOVED&who="
    assert REDACTED.url(url) == f"{kept}X%C3%A9xx"
    assert RAW.url(url) == f"{kept}J%C3%B6rg"


@pytest.mark.parametrize("name", ["Authorization", "Cookie", "Set-Cookie", "Proxy-Authorization",
                                  "X-Auth-Token", "X-Api-Key", "x-csrf-token"])  # fmt: skip
def test_a_header_that_carries_a_secret_is_removed_raw_too(name: str) -> None:
    for each in (REDACTED, RAW):
        assert each.headers({name: "Basic abc"}) == ((name, REMOVED),)


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("User-Agent", "App/1.2 (jane@doe.org)", "App/1.2 (xxxx@xxx.xxx)"),
        ("User-Agent", "App/1 mailto:jane%40doe.org", "App/1 xxxxxx:xxxx%99xxx.xxx"),
        ("Referer", "http://intra/jane?x=1", "http://xxxxx/xxxx?x=9"),
        ("Hint", "jane is no address", "xxxx xx xx xxxxxxx"),
        ("Content-Type", XML, XML),
        ("Content-Type", "text/jane", "xxxx/xxxx"),
        ("Host", "acme.harvestapp.com", "xxxx.xxxxxxxxxx.xxx"),
        ("Location", "/invoices/7/messages/12", "/invoices/7/messages/12"),
        ("Location", "https://jane.example/", "https://xxxx.xxxxxxx/"),
        ("Harvest-Account-Id", "1000", "1000"),
        ("Date", "Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 GMT"),
    ],
)
def test_of_a_header_stays_what_is_ordinary(name: str, value: str, kept: str) -> None:
    assert REDACTED.headers({name: value}) == ((name, kept),)
    assert RAW.headers({name: value}) == ((name, value),)


def test_names_of_headers_are_plain_text() -> None:
    (pair,) = REDACTED.headers(CIMultiDict({istr("X-One"): "1"}))
    assert [type(each) for each in pair] == [str, str]


def test_a_header_that_is_not_utf8_can_be_kept() -> None:
    odd = b"J\xfcrgen".decode("utf-8", "surrogateescape")
    assert RAW.headers({"X": odd}) == (("X", "J\N{REPLACEMENT CHARACTER}rgen"),)


# Kinds of bodies.


@pytest.mark.parametrize("type_", ["image/png", "application/octet-stream", "application/pdf"])
def test_what_is_no_text_is_not_kept_unless_raw(type_: str) -> None:
    body = b"\x89PNG\r\n\x00Jane"
    assert REDACTED.body(body, type_) is None
    assert RAW.body(body, type_) == body


def test_no_body_is_no_body() -> None:
    assert REDACTED.body(b"") == b""


def test_plain_text_has_a_stand_in() -> None:
    assert rewritten("Dear Jane,", "text/plain") == "Xxxx Xxxx,"


@pytest.mark.parametrize("codec", ["utf-16-le", "iso-8859-1", "windows-1252", "punycode", "zip"])
def test_a_charset_that_is_told_is_read_where_that_takes_no_long(codec: str) -> None:
    body = REDACTED.body(b"<a>J\xfcrg</a>", f"text/xml; charset={codec}")
    assert body is not None
    assert b"rg" not in body


# Secrets.


@pytest.mark.parametrize("redaction", [KNOWING, KNOWING_RAW], ids=["redacted", "raw"])
@pytest.mark.parametrize(
    "form",
    [
        TOKEN,
        quote(TOKEN, safe=""),
        quote(TOKEN, safe="").lower(),
        *(base64.b64encode(b"x" * before + TOKEN.encode() + b"y").decode() for before in range(3)),
    ],
)
@pytest.mark.parametrize("around", ["<a>{}</a>", '{{"a":"{}"}}', "a={}", "Bearer {} it is", "{}"])
def test_a_secret_is_removed_wherever_it_stands(
    redaction: Redaction, form: str, around: str
) -> None:
    for type_ in (XML, JSON, FORM, "text/plain"):
        body = redaction.body(around.format(form).encode(), type_)
        assert body is not None
        assert form[4:-4] not in body.decode()
    assert form not in str(redaction.headers({"X-Echo": form, f"X-{form}": "1"}))
    assert form not in redaction.url(f"http://h/{form}?a={form}")


@pytest.mark.parametrize(
    "body",
    [
        '{"access_token": "abcdef", "password":"abcdef", "a": [{"client_secret": "abcdef"}]}',
        "<a><password>abcdef</password><b token='abcdef'/><api-key><![CDATA[abcdef]]></api-key></a>",
        '{"next": "https://h/?access_token=abcdef&page=2"}',
        "grant_type=password&password=abcdef&api_key=abcdef",
    ],
)
def test_what_is_called_a_secret_is_removed_raw_too(body: str) -> None:
    kept = RAW.body(body.encode(), FORM if "&" in body and body[0] not in "{<" else "")
    assert kept is not None
    assert b"abcdef" not in kept
    assert b"REMOVED" in kept


def test_a_short_secret_is_one_as_a_word_of_its_own_only() -> None:
    assert Redaction(["abc"], raw=True).body(b"abcd abc", "text/plain") == b"abcd REMOVED"


def test_of_a_secret_that_was_cut_nothing_is_left() -> None:
    body = KNOWING_RAW.body(f"hello {'and ' * 50}{TOKEN[:20]}".encode(), "text/plain", cut=True)
    assert body is not None
    assert body.startswith(b"hello and")
    assert TOKEN[:4].encode() not in body


def test_raw_keeps_all_else() -> None:
    for body in (
        "<a b='Jane'>Jane & <!-- Jane --></a>",
        '{"a": "J\\u00f6rg", "b": 10.50',
        "a=Jane",
    ):
        assert RAW.body(body.encode(), FORM if "=" in body[:2] else "") == body.encode()
