"""Field tables: what follows from a row, whatever the resource."""

from typing import Any

import msgspec
import pytest
from lxml import etree

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
from bridge.v2.errors import UpstreamFault
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
