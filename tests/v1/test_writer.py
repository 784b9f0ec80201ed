"""The validated writer: whatever the field tables allow leaves as valid XML that reads back."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from bridge.resources.invoice_messages import MESSAGE, MESSAGES
from bridge.resources.invoice_payments import PAYMENTS
from bridge.resources.table import BOOLEAN, DATE, DATETIME, STRING, Collection, Field, Kind
from bridge.v1 import elements, writer
from bridge.v1.dialects import Dialect
from bridge.v1.elements import Column, Layout, PerDialect
from bridge.v1.errors import InvalidAnswer
from bridge.v1.notes import NoteCode, Notes
from bridge.v1.recipients import Mailbox, read
from bridge.v1.wire import V1Request
from bridge.v1.writer import BATCH, Writer, write_errors
from bridge.v2.errors import UpstreamFault
from tests.support.legacy import assert_valid

DIALECTS = st.sampled_from(Dialect)
IDS = st.integers(1, 2**63 - 1)
ANY_TEXT = st.text(st.characters(codec=None, categories=None))
TEXTS = st.none() | ANY_TEXT
BOOLEANS = st.none() | st.booleans()
OFFSETS = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
TIMES = st.none() | st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=OFFSETS)  # noqa: DTZ001
RECIPIENTS: st.SearchStrategy[list[dict[str, Any]]] = st.lists(
    st.builds(
        dict,
        name=st.none() | st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1),
        email=st.emails(),
    ),
    max_size=4,
    unique_by=lambda recipient: recipient["email"].lower(),
)
V2_MESSAGES = st.fixed_dictionaries(
    {"id": IDS},
    optional={
        "body": TEXTS,
        "subject": TEXTS,
        "sent_by": TEXTS,
        "sent_by_email": TEXTS,
        "sent_from": TEXTS,
        "sent_from_email": TEXTS,
        "send_me_a_copy": BOOLEANS,
        "thank_you": BOOLEANS,
        "include_link_to_client_invoice": BOOLEANS,
        "created_at": TIMES,
        "updated_at": TIMES,
        "send_reminder_on": st.none() | st.dates(),
        "recipients": st.none() | RECIPIENTS,
        "event_type": st.none() | st.sampled_from(["send", "close"]),
        "anything_else": st.integers() | st.text(max_size=3),
    },
)
V2_PAYMENTS = st.fixed_dictionaries(
    {"id": IDS},
    optional={
        "amount": st.none() | st.decimals(-(10**20), 10**20, allow_nan=False, places=3).map(float),
        "paid_at": TIMES,
        "paid_date": st.none() | st.dates(),
        "recorded_by": TEXTS,
        "recorded_by_email": TEXTS,
        "notes": TEXTS,
        "transaction_id": TEXTS,
        "payment_gateway": st.none()
        | st.fixed_dictionaries({}, optional={"id": st.none() | IDS, "name": TEXTS}),
        "created_at": TIMES,
        "updated_at": TIMES,
        "anything_else": st.integers() | st.text(max_size=3),
    },
)
V2_ITEMS: dict[Collection, st.SearchStrategy[dict[str, Any]]] = {
    MESSAGES: V2_MESSAGES,
    PAYMENTS: V2_PAYMENTS,
}


class Told(NamedTuple):
    """An element, and the v2 field that alone says what it holds (if nothing else is given)."""

    collection: Collection
    source: str
    element: str

    def write(self, value: object, dialect: Dialect = Dialect.FINAL) -> bytes:
        """Write an item that has this value."""
        item = as_json({"id": 1, self.source: value})
        return self.collection.entity.write(item, call(dialect))

    def texts(self, body: bytes) -> list[str]:
        root = etree.fromstring(body, etree.XMLParser(huge_tree=True))
        return [each.text or "" for each in root.iter(self.element)]


def columns(kind: Kind) -> list[Any]:
    return [
        pytest.param(Told(each, field.source, field.element), id=f"{each.key}-{field.element}")
        for each in (MESSAGES, PAYMENTS)
        for field in each.entity.fields
        if field.kind is kind and field.element != "pay-pal-transaction-id"
    ]


def call(dialect: Dialect, invoice_id: int = 7) -> V1Request:
    return V1Request(path="", ids={"invoice_id": invoice_id}, dialect=dialect)


def as_json(value: object) -> bytes:
    """Encode as v2 would, lone surrogates as the escapes that JSON allows for them."""
    return json.dumps(value, default=lambda other: other.isoformat()).encode()


def item(message: dict[str, Any], dialect: Dialect = Dialect.FINAL) -> bytes:
    return MESSAGE.write(as_json(message), call(dialect))


def listed(
    items: Sequence[dict[str, Any]], request: V1Request, collection: Collection = MESSAGES
) -> bytes:
    """Write a list of these, and make sure that it is valid as a whole."""
    page = as_json({collection.key: items, "links": {"next": None}})
    body = b"".join(collection.document(collection.translate(page, request).parts, request))
    assert_valid(body, f"{collection.entity.schema}/{request.dialect}-list")
    return body


def counts(notes: Notes) -> dict[tuple[str, str], int]:
    return {(note.code, note.subject): count for note, count in notes}


def is_xml(character: str) -> bool:
    """Say by hand what XML 1.0 can carry (production 2)."""
    point = ord(character)
    return (
        point in {0x9, 0xA, 0xD}
        or 0x20 <= point <= 0xD7FF
        or 0xE000 <= point <= 0xFFFD
        or point >= 0x10000
    )


def expected_text(value: str) -> str:
    return "".join(character if is_xml(character) else "\ufffd" for character in value)


ALL_FALSE = dict.fromkeys(
    (field.source for field in MESSAGE.fields if field.kind is BOOLEAN), False
)
"""The booleans of a message, by v2's names: of one that is null, there would be a note."""


def expected(source: str, value: Any) -> Any:
    if value is None:
        return "false" if source in ALL_FALSE else None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ").zfill(20)
    if isinstance(value, date):
        return value.isoformat()
    if source == "recipients":
        return tuple(Mailbox(each["email"], each["name"]) for each in value)
    return expected_text(str(value))


def read_back(source: str, element: etree._Element) -> Any:
    text = element.text or ""
    if element.get("nil") == "true":
        assert text == ""
        return None
    return read(text).mailboxes if source == "recipients" else text


@pytest.fixture(params=["as it was told", "carefully"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways in which items are written."""
    if request.param == "carefully":
        monkeypatch.setattr(writer, "is_valid", lambda _document, _name: False)
    return str(request.param)


class TestAnything:
    @given(V2_MESSAGES, IDS, DIALECTS)
    def test_any_message_of_v2_is_valid_and_reads_back_to_the_same_values(
        self, message: dict[str, Any], invoice_id: int, dialect: Dialect
    ) -> None:
        body = MESSAGE.write(as_json(message), call(dialect, invoice_id))

        assert_valid(body, f"invoice-messages/{dialect}-item")
        root = etree.fromstring(body)
        for field in MESSAGE.fields:
            element = root.find(field.element)
            assert (element is None) == (field.places.of(dialect) is None)
            if element is None:
                continue
            value = invoice_id if field.source == "invoice_id" else message.get(field.source)
            assert read_back(field.source, element) == expected(field.source, value)

    @given(V2_PAYMENTS, DIALECTS)
    def test_any_payment_of_v2_is_valid_and_reads_back_to_the_same_values(
        self, payment: dict[str, Any], dialect: Dialect
    ) -> None:
        body = PAYMENTS.entity.write(as_json(payment), call(dialect))

        assert_valid(body, f"invoice-payments/{dialect}-item")
        root = etree.fromstring(body)
        for source in ("id", "notes", "recorded_by", "created_at"):
            element = root.find(source.replace("_", "-"))
            assert element is not None
            assert read_back(source, element) == expected(source, payment.get(source))
        told, amount = root.findtext("amount"), payment.get("amount")
        assert told == "" if amount is None else Decimal(told or "") == Decimal(str(amount))

    @pytest.mark.parametrize("collection", V2_ITEMS)
    @given(st.data(), DIALECTS)
    def test_any_list_holds_each_item_once_in_order(
        self, collection: Collection, data: st.DataObject, dialect: Dialect
    ) -> None:
        items = data.draw(st.lists(V2_ITEMS[collection], max_size=8))

        root = etree.fromstring(listed(items, call(dialect), collection))

        assert [each.findtext("id") for each in root] == [str(each["id"]) for each in items]

    @pytest.mark.parametrize("collection", V2_ITEMS)
    @given(st.data(), DIALECTS)
    def test_both_ways_of_writing_give_the_same(
        self, collection: Collection, data: st.DataObject, dialect: Dialect
    ) -> None:
        items = data.draw(st.lists(V2_ITEMS[collection], max_size=4))
        asked, asked_again = call(dialect), call(dialect)
        told = listed(items, asked, collection)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(writer, "is_valid", lambda _document, _name: False)
            careful = listed(items, asked_again, collection)

        assert told == careful
        assert counts(asked.notes) == counts(asked_again.notes)

    @given(st.lists(st.text(st.characters(codec=None, categories=None), min_size=1), min_size=1))
    def test_any_error_sentence_is_valid(self, sentences: list[str]) -> None:
        body = write_errors(*sentences)

        assert_valid(body, "errors")
        root = etree.fromstring(body)
        assert [(each.tag, each.text) for each in root] == [
            *(("error", expected_text(sentence)) for sentence in sentences),
            ("message", expected_text(" ".join(sentences))),
        ]

    @pytest.mark.parametrize("dialect", Dialect)
    @pytest.mark.parametrize("count", [0, 1, BATCH, BATCH + 1, 2 * BATCH + 1])
    def test_a_list_of_any_length_is_whole(self, dialect: Dialect, count: int) -> None:
        root = etree.fromstring(listed([{"id": each + 1} for each in range(count)], call(dialect)))

        assert [each.findtext("id") for each in root] == [str(each + 1) for each in range(count)]


class TestLayout:
    def test_an_item(self) -> None:
        body = MESSAGE.write(
            as_json(
                {"id": 1, "body": "a & b", "sent_by": "", "created_at": "2017-08-23T22:15:06Z"}
            ),
            call(Dialect.CLASSIC),
        )

        assert body.decode() == (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            "<invoice-message>\n"
            "  <body>a &amp; b</body>\n"
            '  <created-at type="datetime">2017-08-23T22:15:06Z</created-at>\n'
            '  <id type="integer">1</id>\n'
            '  <invoice-id type="integer">7</invoice-id>\n'
            '  <send-me-a-copy type="boolean">false</send-me-a-copy>\n'
            "  <sent-by></sent-by>\n"
            '  <sent-by-email nil="true"/>\n'
            '  <full-recipient-list nil="true"/>\n'
            "</invoice-message>\n"
        )

    def test_a_list(self) -> None:
        body = listed([{"id": 1}], call(Dialect.CLASSIC))

        assert body.decode() == (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            '<invoice-messages type="array">\n'
            "  <invoice-message>\n"
            '    <body nil="true"/>\n'
            '    <created-at type="datetime" nil="true"/>\n'
            '    <id type="integer">1</id>\n'
            '    <invoice-id type="integer">7</invoice-id>\n'
            '    <send-me-a-copy type="boolean">false</send-me-a-copy>\n'
            '    <sent-by nil="true"/>\n'
            '    <sent-by-email nil="true"/>\n'
            '    <full-recipient-list nil="true"/>\n'
            "  </invoice-message>\n"
            "</invoice-messages>\n"
        )

    @pytest.mark.parametrize("dialect", Dialect)
    def test_an_empty_list(self, dialect: Dialect) -> None:
        root = MESSAGES.root.of(dialect)

        assert listed([], call(dialect)).decode() == (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<{root} type="array">\n</{root}>\n'
        )


@pytest.mark.usefixtures("way")
class TestText:
    @pytest.mark.parametrize("column", columns(STRING))
    def test_every_character_that_xml_can_hold_is_told(self, column: Told) -> None:
        characters = [each for each in map(chr, range(0x10000)) if is_xml(each)]
        texts = ["".join(characters[at : at + 500]) for at in range(0, len(characters), 500)]
        texts += ["\U00010000", "\U0010fffd", "\U0001ffff", "\U0010ffff"]
        request = call(Dialect.FINAL)

        items = [{"id": 1, **ALL_FALSE, column.source: text} for text in texts]
        body = listed(items, request, column.collection)

        assert column.texts(body) == texts
        assert counts(request.notes) == {}

    @pytest.mark.parametrize("column", columns(STRING))
    def test_every_character_that_xml_cannot_hold_is_replaced(self, column: Told) -> None:
        foreign = [each for each in map(chr, range(0x10000)) if not is_xml(each)]
        request = call(Dialect.FINAL)

        items = [{"id": 1, **ALL_FALSE, column.source: f"a{character}b"} for character in foreign]
        body = listed(items, request, column.collection)

        assert column.texts(body) == ["a\ufffdb"] * len(foreign)
        assert counts(request.notes) == {
            (NoteCode.CHARACTER_REPLACED, column.element): len(foreign)
        }

    @pytest.mark.parametrize("column", columns(STRING))
    @pytest.mark.parametrize(
        "text",
        [
            "</invoice-message><invoice-message>", "<id>2</id>", "<x/>", "<", ">", "&", "]]>",
            "<![CDATA[x]]>", "<!-- x -->", "<?x y?>", "&amp;", "&lt;", "&#0;", "&#13;", "&e;",
            '<!DOCTYPE a [<!ENTITY e "b">]>', "'\"", '" nil="true', "%s", "{0}", "\\", "\r",
            "\r\n", "\n\r", " a ", "\t", "  ", "\x85", "\u2028", "",
        ],
    )  # fmt: skip
    def test_markup_is_text(self, column: Told, text: str) -> None:
        assert column.texts(column.write(text)) == [text]

    @pytest.mark.parametrize("dialect", Dialect)
    def test_carriage_returns_are_written_as_references(self, dialect: Dialect) -> None:
        assert b"a&#13;\nb" in item({"id": 1, "body": "a\r\nb"}, dialect)

    @pytest.mark.parametrize("column", columns(STRING))
    def test_an_empty_text_is_not_null(self, column: Told) -> None:
        element = column.element

        assert f"<{element}></{element}>".encode() in column.write("")
        assert f'<{element} nil="true"/>'.encode() in column.write(None)

    @pytest.mark.usefixtures("way")
    @given(text=st.text(st.sampled_from("a&<>\r\n\x01é😀]"), max_size=20))
    def test_a_text_that_is_escaped_in_pieces_is_the_same(self, text: str) -> None:
        column = Told(MESSAGES, "body", "body")
        whole = column.write(text)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(writer, "_SLICE", 3)

            assert column.write(text) == whole

    def test_a_long_text_is_told(self) -> None:
        text = "x" * 11_000_000  # more than libxml2 takes of those it does not know

        column = Told(MESSAGES, "body", "body")

        assert column.texts(column.write(text)) == [text]


class TestPointsInTime:
    @pytest.mark.usefixtures("way")
    @pytest.mark.parametrize("column", columns(DATETIME))
    @pytest.mark.parametrize(
        ("told", "written"),
        [
            ("2017-08-23T22:15:06Z", "2017-08-23T22:15:06Z"),
            ("2017-08-23t22:15:06z", "2017-08-23T22:15:06Z"),
            ("2017-08-23 22:15:06Z", "2017-08-23T22:15:06Z"),
            ("2017-08-23T22:15:06", "2017-08-23T22:15:06Z"),
            ("2017-08-23T22:15:06.999Z", "2017-08-23T22:15:06Z"),
            ("2017-08-23T22:15:06+00:00", "2017-08-23T22:15:06Z"),
            ("2017-08-23T22:15:06-00:00", "2017-08-23T22:15:06Z"),
            ("2017-08-23T23:15:06+02:00", "2017-08-23T21:15:06Z"),
            ("2017-12-31T23:59:59.5-00:30", "2018-01-01T00:29:59Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
            ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
            ("2016-02-29T00:00:00Z", "2016-02-29T00:00:00Z"),
        ],
    )
    def test_they_are_told_in_utc_and_whole_seconds(
        self, column: Told, told: str, written: str
    ) -> None:
        assert column.texts(column.write(told)) == [written]

    @pytest.mark.parametrize("dialect", Dialect)
    @pytest.mark.parametrize("column", columns(DATETIME))
    @pytest.mark.parametrize(
        "told",
        [
            "2017-02-30T00:00:00Z", "2017-02-29T00:00:00Z", "2017-00-01T00:00:00Z",
            "2017-13-01T00:00:00Z", "2017-01-00T00:00:00Z", "2017-01-32T00:00:00Z",
            "2017-01-01T24:00:00Z", "2017-01-01T23:60:00Z", "2017-01-01T23:00:61Z",
            "0000-01-01T00:00:00Z", "-2017-01-01T00:00:00Z", "12017-01-01T00:00:00Z",
            "٢٠١٧-٠١-٠١T٠٠:٠٠:٠٠Z", "2017-01-01T00:00:0０Z", "2017-01-01T00:00Z",
            "2017-01-01T00:00:00Z ", " 2017-01-01T00:00:00Z", "2017-01-01T00:00:00Z\n",
            "2017-01-01T00:00:00+24:00", "2017-01-01T00:00:00.Z", "2017-1-1T0:0:0Z",
            "2017-01-01T00:00:00Z<x/>", "2017-01-01T00:00:00Z</created-at>", "&#50;017",
            "yesterday", "", "\x00", "<", "]]>", 5, 1.5, True, [], {},
        ],
    )  # fmt: skip
    def test_what_is_none_is_refused_and_never_quoted(
        self, dialect: Dialect, column: Told, told: object
    ) -> None:
        with pytest.raises(UpstreamFault, match=rf"`\$\.{column.source}`$") as refused:
            column.write(told, dialect)

        assert len(str(told)) < 2 or str(told) not in str(refused.value).partition(":")[2]

    def test_one_outside_the_years_of_xml_is_named(self) -> None:
        with pytest.raises(InvalidAnswer, match="created-at: value outside the range"):
            item({"id": 1, "created_at": "0001-01-01T00:00:00+05:00"})

    def test_one_odd_message_does_not_change_the_others(self) -> None:
        plain = [{"id": 1, "body": "a\r&"}, {"id": 2, "created_at": "2017-08-23T22:15:06Z"}]
        odd = {"id": 3, "created_at": "2017-08-23T22:15:06.5Z"}

        parts = [listed(each, call(Dialect.FINAL)) for each in (plain, [*plain, odd])]

        end = len(b"\n</invoice-message>\n")
        assert parts[1].startswith(parts[0][:-end])


class TestDays:
    @pytest.mark.usefixtures("way")
    @pytest.mark.parametrize("column", columns(DATE))
    @pytest.mark.parametrize("told", ["2017-08-23", "0001-01-01", "9999-12-31", "2016-02-29"])
    def test_they_are_told(self, column: Told, told: str) -> None:
        assert column.texts(column.write(told)) == [told]

    @pytest.mark.parametrize("dialect", Dialect)
    @pytest.mark.parametrize("column", columns(DATE))
    @pytest.mark.parametrize(
        "told",
        [
            "2017-02-30", "0000-01-01", "2017-13-01", "2017-1-1", "٢٠١٧-٠١-٠١", "2017-01-01Z",
            "2017-01-01T00:00:00Z", " 2017-01-01", "2017-01-01\n", "", "<x/>", "2017-01-01<x/>",
            5, True, [],
        ],
    )  # fmt: skip
    def test_what_is_none_is_refused(self, dialect: Dialect, column: Told, told: object) -> None:
        with pytest.raises(UpstreamFault, match=rf"`\$\.{column.source}`$"):
            column.write(told, dialect)


@pytest.mark.usefixtures("way")
class TestNotes:
    def test_a_replaced_character_is_noted_with_its_element(self) -> None:
        request = call(Dialect.FINAL)

        MESSAGE.write(as_json({"id": 1, **ALL_FALSE, "subject": "\x00\x01"}), request)

        assert counts(request.notes) == {(NoteCode.CHARACTER_REPLACED, "subject"): 1}

    def test_each_is_made_once_however_often_an_item_is_written(self) -> None:
        request = call(Dialect.FINAL)
        nobody = {"name": "Jane", "email": None}
        messages: list[dict[str, Any]] = [
            {"id": 1, **ALL_FALSE, "recipients": [nobody, nobody]},
            {"id": 2, **ALL_FALSE, "recipients": [nobody], "subject": "\x00", "thank_you": None},
            {"id": 3, **ALL_FALSE, "created_at": "2017-08-23T22:15:06.5Z", "subject": "\x00"},
        ]

        listed(messages, request)

        assert counts(request.notes) == {
            (NoteCode.RECIPIENT_DROPPED, "full-recipient-list"): 2,
            (NoteCode.CHARACTER_REPLACED, "subject"): 2,
            (NoteCode.NULL_REPLACED, "thank-you"): 1,
        }


def as_it_is(item: Any) -> Any:
    return item


class TestWhatIsNotValid:
    """Whoever hands the writer something else than the tables allow."""

    LAYOUT = Layout(Dialect.FINAL, "error", (Column("id", elements.INTEGER, as_it_is),))

    @pytest.mark.parametrize("dialect", Dialect)
    def test_it_is_refused_and_named_without_its_value(self, dialect: Dialect) -> None:
        def value_of(field: Field) -> Callable[[Any], Any] | str:
            if field.kind.v2 is None:
                return field.source
            return lambda _: "sesame" if field.element == "id" else None

        layout = Layout(
            dialect,
            "invoice-message",
            tuple(
                Column(field.element, field.kind.v1, value_of(field))
                for field in sorted(MESSAGE.fields, key=lambda field: field.places.of(dialect) or 0)
                if field.places.of(dialect) is not None
            ),
        )
        written = Writer(layout, f"invoice-messages/{dialect}-list", MESSAGES.root.of(dialect))

        with pytest.raises(InvalidAnswer) as refused:
            written.write([None], {"invoice_id": 7}, as_it_is, Notes())

        assert refused.value.element.endswith("/id")
        assert "sesame" not in str(refused.value)

    @pytest.mark.parametrize("value", ["<", "&", "\x00", "</id>", "<x></id>"])
    def test_what_is_no_xml_is_refused_as_well(self, value: str) -> None:
        # Values of types that hold no markup are not escaped.
        refusing = Writer(self.LAYOUT, "errors", "errors")

        with pytest.raises(InvalidAnswer) as refused:
            refusing.write([value], {}, as_it_is, Notes())

        assert value not in str(refused.value)

    def test_a_valid_item_of_another_schema_is_none(self) -> None:
        with pytest.raises(InvalidAnswer):
            Writer(self.LAYOUT, "errors").write([1], {}, as_it_is, Notes())

    def test_no_sentence_is_no_error(self) -> None:
        with pytest.raises(InvalidAnswer):
            write_errors()
        with pytest.raises(InvalidAnswer):
            write_errors("")


def test_an_unknown_dialect_is_an_error_and_not_the_last_one() -> None:
    unknown: Any = "json"

    with pytest.raises(AttributeError):
        PerDialect(1, 2).of(unknown)
    with pytest.raises(AttributeError):
        MESSAGE.write(b'{"id": 1}', call(unknown))
