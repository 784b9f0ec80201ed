"""The known differences: each is counted by its name, and hides no more than it says."""

import pytest

from bridge.comparing import KNOWN, Answer, Result, compare
from tests.comparing.documents import answer

DATETIME, DECIMAL = 'type="dateTime"', 'type="decimal"'


def hash_(group: str, name: str, value: str, attributes: str = "") -> Answer:
    inner = f"<{name} {attributes}>{value}</{name}>"
    return answer(f"<hash><{group}>{inner}</{group}></hash>" if group else f"<hash>{inner}</hash>")


def field(name: str, value: str, attributes: str = "") -> Answer:
    return answer(f"<payment><{name} {attributes}>{value}</{name}></payment>")


CASES = [
    ("time-type", field("created-at", "2015-04-09T20:44:54Z", 'type="datetime"'),
     field("created-at", "2015-04-09T20:44:54Z", DATETIME)),
    ("null-type", field("send-reminder-on", "", 'type="date" nil="true"'),
     field("send-reminder-on", "", 'nil="true"')),
    ("time-spelling", field("created-at", "2015-04-09T22:44:54+02:00", DATETIME),
     field("created-at", "2015-04-09T20:44:54Z", DATETIME)),
    ("time-spelling", field("created-at", "2015-04-09 20:44:54.123 UTC", DATETIME),
     field("created-at", "2015-04-09T20:44:54Z", DATETIME)),
    ("paid-day", field("paid-at", "2015-04-09T20:44:54Z", DATETIME),
     field("paid-at", "2015-04-09T00:00:00Z", DATETIME)),
    ("number-spelling", field("amount", "10700", DECIMAL), field("amount", "10700.0", DECIMAL)),
    ("recipients-spelling", field("full-recipient-list", "Jane Doe &lt;j@d.org&gt;,a@b.org"),
     field("full-recipient-list", '"Jane Doe" &lt;j@d.org&gt;, a@b.org')),
    ("line-ends", field("body", "one\ntwo"), field("body", "one&#13;\ntwo")),
    ("empty-or-null", field("notes", ""), field("notes", "", 'nil="true"')),
    ("pay-pal-link", field("include-pay-pal-link", "true", 'type="boolean"'),
     field("include-pay-pal-link", "false", 'type="boolean"')),
    ("host-called", hash_("company", "base-uri", "https://acme.harvestapp.com"),
     hash_("company", "base-uri", "http://127.0.0.1:8080")),
    ("host-called", hash_("company", "full-domain", "acme.harvestapp.com"),
     hash_("company", "full-domain", "127.0.0.1")),
    ("zone-offset", hash_("user", "timezone-utc-offset", "-25200", 'type="integer"'),
     hash_("user", "timezone-utc-offset", "-28800", 'type="integer"')),
    ("avatar-host", hash_("user", "avatar-url", "/assets/1.png"),
     hash_("user", "avatar-url", "https://cdn.example.com/assets/1.png")),
    ("own-count", hash_("", "count", "40", 'type="integer"'),
     hash_("", "count", "1", 'type="integer"')),
    ("own-count", hash_("", "last-access-at", "2015-04-09T20:44:54Z", DATETIME),
     hash_("", "last-access-at", "2026-04-09T20:44:54Z", DATETIME)),
    ("empty-list", answer('<nil-classes type="array"/>'), answer('<payments type="array"/>')),
    ("error-status", answer("", 404), answer("", 403)),
    ("error-body", answer("Gone fishing.", 404), answer("<errors/>", 404)),
    ("media-type", answer("<a/>", content_type="text/xml"),
     answer("<a/>", content_type="application/xml; charset=utf-8")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "v1", "bridge"), CASES, ids=[each[0] for each in CASES])
def test_a_known_difference_is_counted_by_its_name(name: str, v1: Answer, bridge: Answer) -> None:
    for one, other in ((v1, bridge), (bridge, v1)):
        comparison = compare(one, other)
        assert (comparison.result, comparison.known) == (Result.EQUAL, {name: 1})


def test_every_known_difference_has_a_case() -> None:
    assert {each.name for each in KNOWN} == {name for name, _, _ in CASES}


@pytest.mark.parametrize(
    ("v1", "bridge"),
    [
        (field("created-at", "x", 'type="datetime"'), field("created-at", "x", 'type="date"')),
        (field("created-at", "2015-04-09T20:44:54Z", DATETIME),
         field("created-at", "2015-04-09T20:44:55Z", DATETIME)),
        (field("paid-at", "2015-04-09T20:44:54Z", DATETIME),
         field("paid-at", "2015-04-10T00:00:00Z", DATETIME)),
        (field("paid-at", "2015-04-09T20:44:54Z", DATETIME),
         field("paid-at", "2015-04-09T10:00:00Z", DATETIME)),
        (field("amount", "10700", DECIMAL), field("amount", "10700.01", DECIMAL)),
        (field("amount", "1", 'type="integer"'), field("amount", "1.0", 'type="integer"')),
        (field("amount", "1", DECIMAL), field("amount", "1.0", 'type="integer"')),
        (field("notes", "x", DECIMAL), field("notes", "x")),
        (field("amount", "NaN", DECIMAL), field("amount", "1", DECIMAL)),
        (field("full-recipient-list", "a@b.org, c@d.org"),
         field("full-recipient-list", "c@d.org, a@b.org")),
        (field("full-recipient-list", "a@b.org"), field("full-recipient-list", "A@b.org")),
        (field("body", "one\ntwo"), field("body", "one two")),
        (field("body", "one\r\ntwo"), field("body", "", 'nil="true"')),
        (field("amount", "", DECIMAL), field("amount", "0", DECIMAL)),
        (field("notes", " "), field("notes", "", 'nil="true"')),
        (field("avatar-url", "/assets/1.png"), field("avatar-url", "https://cdn/assets/2.png")),
        (hash_("user", "avatar-url", ""), hash_("user", "avatar-url", "https://cdn/assets/2.png")),
        (hash_("", "timeframe-limit", "15"), hash_("", "timeframe-limit", "16")),
        (answer('<l type="array"><i><id>1</id></i><i><id>2</id></i></l>'),
         answer('<l type="array"><i><id>2</id></i><i><id>1</id></i></l>')),
        (answer('<nil-classes type="array"/>'),
         answer('<payments type="array"><payment><id>1</id></payment></payments>')),
        (answer("", 404), answer("", 200)),
    ],
)  # fmt: skip
def test_what_is_more_than_that_is_a_difference(v1: Answer, bridge: Answer) -> None:
    for one, other in ((v1, bridge), (bridge, v1)):
        assert compare(one, other).result is Result.DIFFERENT
