"""Field tables: what follows from a row, whatever the resource."""

from typing import Any

import msgspec
import pytest
from lxml import etree

from bridge.resources.invoice_messages import MESSAGES, MOST_RECIPIENTS
from bridge.resources.table import (
    BOOLEAN,
    DATETIME,
    DECIMAL,
    ID,
    PATH_ID,
    STRING,
    Entity,
    Field,
    Source,
    place,
)
from bridge.v1.writer import BATCH
from bridge.v2.errors import UpstreamFault, UpstreamTimeout
from tests.resources.driving import call

# A table of its own, for the XSD that asks for the least.
WORDS = Entity(
    schema="invoice-message-templates",
    element="invoice-message",
    fields=(
        Field("invoice_id", "invoice-id", PATH_ID, place(classic=1)),
        Field("deep.down.text", "subject", STRING, place(classic=2)),
        Field(
            "first",
            "body",
            STRING,
            place(classic=3),
            besides=(Source("deep.second", STRING),),
            choose=lambda first, second: f"{first}-{second}",
        ),
        Field("reminder", "reminder", BOOLEAN, place(classic=4)),
        Field("deep.thanks", "thank-you", BOOLEAN, place(classic=5)),
        Field("id", "id", ID, place()),
        Field("sum", "sum", DECIMAL, place()),
        Field("deep.sum", "deep-sum", DECIMAL, place()),
        Field("deep.at", "at", DATETIME, place()),
    ),
)


def told(data: bytes | msgspec.Raw) -> dict[str, str | None]:
    root = etree.fromstring(WORDS.write(data, call(invoice_id=7)))
    return {str(each.tag): None if each.get("nil") else each.text for each in root}


@pytest.mark.parametrize("wrap", [bytes, msgspec.Raw])
def test_a_value_may_lie_deep_in_an_object_and_be_made_of_several(wrap: Any) -> None:
    data = b"""{"id": 1, "first": "a", "reminder": true,
        "deep": {"down": {"text": "t", "other": 5}, "second": "b", "thanks": false}}"""

    assert told(wrap(data)) == {
        "invoice-id": "7",
        "subject": "t",
        "body": "a-b",
        "reminder": "true",
        "thank-you": "false",
    }


@pytest.mark.parametrize("deep", ["null", "{}", '{"down": null}', '{"down": {"text": null}}'])
def test_what_is_below_a_null_is_null(deep: str) -> None:
    elements = told(f'{{"id": 1, "deep": {deep}}}'.encode())

    assert (elements["subject"], elements["thank-you"]) == (None, "false")  # as booleans are
    assert elements["body"] == "None-None"


@pytest.mark.parametrize(
    ("member", "named"),
    [
        ('"deep": []', r"`\$\.deep`"),
        ('"deep": {"down": "x"}', r"`\$\.deep\.down`"),
        ('"deep": {"down": {"text": 5}}', r"`\$\.deep\.down\.text`"),
        ('"deep": {"at": "yesterday"}', r"`\$\.deep\.at`"),
        ('"deep": {"sum": 1e99}', "`sum` is out of bounds"),
        ('"sum": 1e99', "`sum` is out of bounds"),
        ('"sum": "x"', r"`\$\.sum`"),
        ('"id": 0', r"`\$\.id`"),
    ],
)
def test_what_is_wrong_is_refused_even_where_it_has_no_place(member: str, named: str) -> None:
    with pytest.raises(UpstreamFault, match=named):
        told(f'{{"id": 1, {member}}}'.encode())


def test_only_what_is_required_has_to_be_there() -> None:
    with pytest.raises(UpstreamFault, match="`id`"):
        told(b"{}")


def test_a_call_whose_time_is_up_is_told_no_more_of_a_page() -> None:
    """A long page goes on in a thread that others wait for, whoever has given it up."""
    asked = 0

    def out_of_time() -> bool:
        nonlocal asked
        asked += 1
        return asked == 3

    page = {"invoice_messages": [{"id": 1}] * (10 * BATCH), "links": {"next": None}}
    hurried = msgspec.structs.replace(call(invoice_id=7), out_of_time=out_of_time)

    with pytest.raises(UpstreamTimeout):
        MESSAGES.translate(msgspec.json.encode(page), hurried)
    assert asked == 3


@pytest.mark.parametrize("recipients", [MOST_RECIPIENTS, MOST_RECIPIENTS + 1])
def test_a_message_to_more_than_anybody_mails_is_a_fault(recipients: int) -> None:
    page = {
        "invoice_messages": [{"id": 1, "recipients": [{"email": "jane@doe.org"}] * recipients}],
        "links": {"next": None},
    }
    body = msgspec.json.encode(page)
    if recipients == MOST_RECIPIENTS:
        assert MESSAGES.translate(body, call(invoice_id=7)).parts
    else:
        with pytest.raises(UpstreamFault, match="recipients"):
            MESSAGES.translate(body, call(invoice_id=7))
