"""The validated writer: whatever the field table allows leaves as valid XML that reads back."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from bridge.resources.invoice_messages import MESSAGE, MESSAGES
from bridge.v1.dialects import Dialect
from bridge.v1.errors import InvalidAnswer
from bridge.v1.notes import NoteCode, Notes
from bridge.v1.recipients import Mailbox, read
from bridge.v1.wire import V1Request
from bridge.v1.writer import BATCH, Document, ErrorsDocument, ListDocument, Record
from tests.support.legacy import assert_valid

DIALECTS = st.sampled_from(Dialect)
IDS = st.integers(1, 2**63 - 1)
TEXTS = st.none() | st.text(st.characters(codec=None, categories=None))
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


def call(dialect: Dialect, invoice_id: int = 7) -> V1Request:
    return V1Request(path="", ids={"invoice_id": invoice_id}, dialect=dialect)


def as_json(message: dict[str, Any]) -> bytes:
    """Encode as v2 would, lone surrogates as the escapes that JSON allows for them."""
    return json.dumps(message, default=lambda value: value.isoformat()).encode()


def written(document: Document) -> bytes:
    return b"".join(document.parts(Notes()))


def listing(dialect: Dialect, records: Iterable[Record]) -> ListDocument:
    return replace(MESSAGES.document([], call(dialect)), records=records)


def expected_text(value: str) -> str:
    """Say by hand what XML 1.0 can carry of a string (production 2)."""

    def allowed(character: str) -> bool:
        point = ord(character)
        return (
            point in {0x9, 0xA, 0xD}
            or 0x20 <= point <= 0xD7FF
            or 0xE000 <= point <= 0xFFFD
            or point >= 0x10000
        )

    return "".join(character if allowed(character) else "\ufffd" for character in value)


def expected(source: str, value: Any) -> Any:
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


@given(V2_MESSAGES, IDS, DIALECTS)
def test_any_message_of_v2_is_valid_and_reads_back_to_the_same_values(
    message: dict[str, Any], invoice_id: int, dialect: Dialect
) -> None:
    body = written(MESSAGE.item(as_json(message), call(dialect, invoice_id)))

    assert_valid(body, f"invoice-messages/{dialect}-item")
    root = etree.fromstring(body)
    for field in MESSAGE.fields:
        element = root.find(field.element)
        assert (element is None) == (field.places.of(dialect) is None)
        if element is None:
            continue
        value = invoice_id if field.source == "invoice_id" else message.get(field.source)
        assert read_back(field.source, element) == (
            None if value is None else expected(field.source, value)
        )


@given(st.lists(V2_MESSAGES, max_size=3 * BATCH), DIALECTS)
def test_any_list_is_valid_as_a_whole_and_holds_each_message_once_in_order(
    messages: list[dict[str, Any]], dialect: Dialect
) -> None:
    items = [msgspec.Raw(as_json(message)) for message in messages]

    body = written(MESSAGES.document(items, call(dialect)))

    assert_valid(body, f"invoice-messages/{dialect}-list")
    found = [item.findtext("id") for item in etree.fromstring(body)]
    assert found == [str(message["id"]) for message in messages]


@given(st.lists(st.text(st.characters(codec=None, categories=None), min_size=1), min_size=1))
def test_any_error_sentence_is_valid(sentences: list[str]) -> None:
    assert_valid(written(ErrorsDocument(tuple(sentences))), "errors")


def test_a_long_list_is_written_in_parts_and_read_no_faster_than_they_are_asked_for() -> None:
    decoded = []

    def records() -> Iterator[dict[str, Any]]:
        for number in range(1, 10 * BATCH + 1):
            decoded.append(number)
            yield {
                **dict.fromkeys(field.source for field in MESSAGE.fields),
                "id": number,
                "invoice_id": 7,
            }

    parts = listing(Dialect.FINAL, records()).parts(Notes())
    next(parts)
    next(parts)

    assert len(decoded) == BATCH
    assert len(list(parts)) == 10  # nine batches and the end


@pytest.mark.parametrize("dialect", Dialect)
def test_what_is_not_valid_is_refused_and_named_without_its_value(dialect: Dialect) -> None:
    record = dict.fromkeys(field.source for field in MESSAGE.fields)
    records = [{**record, "id": "sesame", "invoice_id": 7}]

    with pytest.raises(InvalidAnswer) as refused:
        written(listing(dialect, records))

    assert refused.value.element.endswith("/id")
    assert "sesame" not in str(refused.value)


def test_a_replaced_character_is_noted_with_its_element() -> None:
    request = call(Dialect.FINAL)
    document = MESSAGE.item(as_json({"id": 1, "subject": "\x00\x01"}), request)

    list(document.parts(request.notes))

    assert [(note.code, note.subject, count) for note, count in request.notes] == [
        (NoteCode.CHARACTER_REPLACED, "subject", 1)
    ]


@pytest.mark.parametrize("dialect", Dialect)
def test_carriage_returns_are_written_as_references(dialect: Dialect) -> None:
    body = written(MESSAGE.item(as_json({"id": 1, "body": "a\r\nb"}), call(dialect)))

    assert b"a&#13;\nb" in body
