"""What two answers have to differ in to be told as different, and where that is told to be."""

import threading

import pytest

from bridge.comparing import (
    KNOWN,
    Answer,
    Comparison,
    Kind,
    Paths,
    Reason,
    Result,
    Spot,
    compare,
)
from bridge.comparing.documents import (
    LONGEST,
    LONGEST_JSON,
    LONGEST_NAMESPACE,
    MOST_ATTRIBUTES,
    MOST_MARKUP,
    MOST_NAMESPACES,
)
from bridge.comparing.trees import LONGEST_VALUE, MOST_LEVELS, MOST_NAMES, MOST_TOLD
from bridge.score import score
from bridge.side import Side
from tests.comparing.documents import XML, answer, message, messages

ITEM = "/invoice-messages/invoice-message"


def found(comparison: Comparison) -> list[tuple[Kind, str]]:
    return [(each.spot.kind, each.path) for each in comparison.differences]


def item(markup: str, attributes: str = "") -> Answer:
    return answer(f"<payment><amount {attributes}>{markup}</amount></payment>")


def test_white_space_between_elements_and_the_order_of_attributes_are_no_difference() -> None:
    v1 = answer('<a x="1" y="2"><b>  text </b><c/></a>')
    bridge = answer('<?xml version="1.0"?>\n<a y="2" x="1">\n\t<b>  text </b>\n  <c></c>\n</a>\n')

    assert compare(v1, bridge) == Comparison(Result.EQUAL)


def test_white_space_within_a_text_is_a_difference() -> None:
    assert found(compare(item("two  words"), item("two words"))) == [
        (Kind.VALUE, "/payment/amount")
    ]


def test_white_space_in_an_empty_list_is_no_difference() -> None:
    bridge = answer('<payments type="array">\n</payments>')

    assert compare(answer('<payments type="array"/>'), bridge) == Comparison(Result.EQUAL)


def test_a_comment_and_a_section_of_text_are_no_difference() -> None:
    v1 = answer("<a><!-- one --><b>x &amp; <!-- two -->y</b></a>")

    assert compare(v1, answer("<a><b><![CDATA[x & ]]>y</b></a>")).result is Result.EQUAL


def test_an_encoding_is_no_difference() -> None:
    text = '<?xml version="1.0" encoding="ISO-8859-1"?><a>Jürgen</a>'
    v1 = Answer(200, "text/xml", text.encode("latin-1"))

    assert compare(v1, Answer(200, "text/xml", "<a>Jürgen</a>".encode())).result is Result.EQUAL


def test_another_value_is_told_where_it_is_and_counted_where_it_would_be_in_any_list() -> None:
    v1 = messages(message(409), message(410, body="v1's words"))
    comparison = compare(v1, messages(message(409), message(410, body="v2's")), wants_values=True)

    (difference,) = comparison.differences
    assert difference.path == f"{ITEM}[id=410]/body"
    assert difference.spot == Spot(Kind.VALUE, f"{ITEM}/body")
    assert (difference.v1, difference.bridge) == ("v1's words", "v2's")
    assert comparison.counted == {difference.spot: 1}


def test_values_are_told_only_where_they_are_asked_for() -> None:
    (difference,) = compare(item("secret"), item("other")).differences

    assert (difference.v1, difference.bridge) == (None, None)


def test_of_a_long_value_that_part_is_told_where_it_differs() -> None:
    v1, bridge = "x" * 5001 + "y" + "z" * 5000, "x" * 5001 + "Y" + "z" * 5000
    (difference,) = compare(item(v1), item(bridge), wants_values=True).differences

    assert difference.v1 is not None
    assert "xyz" in difference.v1
    assert "xYz" in (difference.bridge or "")
    assert len(difference.v1) == LONGEST_VALUE + 2


def test_a_missing_item_of_a_list_is_one_difference() -> None:
    v1 = messages(*(message(number) for number in range(1, 9)))
    bridge = messages(*(message(number) for number in range(1, 9) if number != 3))

    assert found(compare(v1, bridge)) == [(Kind.MISSING, f"{ITEM}[id=3]")]
    assert found(compare(bridge, v1)) == [(Kind.ADDED, f"{ITEM}[id=3]")]


def test_another_order_of_a_list_is_one_difference_of_its_own() -> None:
    v1 = messages(message(1), message(2), message(3))
    bridge = messages(message(3), message(2, body="Another"), message(1))

    assert found(compare(v1, bridge)) == [
        (Kind.VALUE, f"{ITEM}[id=2]/body"),
        (Kind.ORDER, "/invoice-messages/order()"),
    ]


def test_a_list_without_ids_is_compared_by_places_if_it_is_as_long() -> None:
    def rates(*values: str) -> Answer:
        return answer(
            f'<rates type="array">{"".join(f"<rate>{each}</rate>" for each in values)}</rates>'
        )

    assert found(compare(rates("1", "2"), rates("1", "3"))) == [(Kind.VALUE, "/rates/rate[2]")]
    assert found(compare(rates("1", "2"), rates("2"))) == [(Kind.COUNT, "/rates/count()")]
    assert found(compare(rates("1", "2"), rates())) == [
        (Kind.MISSING, "/rates/rate"),
        (Kind.MISSING, "/rates/rate[2]"),
    ]


def test_an_item_without_an_id_does_not_keep_the_others_from_being_compared() -> None:
    v1 = messages(message(1), message(2))

    assert found(compare(v1, messages(message(1), "<planted/>", message(2, body="Another")))) == [
        (Kind.VALUE, f"{ITEM}[id=2]/body"),
        (Kind.ADDED, "/invoice-messages/planted"),
    ]


def test_another_order_of_elements_is_one_difference() -> None:
    one, other = answer("<a><b/><c/><d/></a>"), answer("<a><d/><b/><c/></a>")

    assert found(compare(one, other)) == [(Kind.ORDER, "/a/order()")]


def test_an_item_that_is_there_twice_is_one_too_many() -> None:
    twice = messages(message(1), message(1))

    assert found(compare(messages(message(1)), twice)) == [(Kind.ADDED, f"{ITEM}[id=1][2]")]


def test_an_element_on_one_side_is_one_difference_whatever_is_in_it() -> None:
    v1 = answer("<hash><user><id>1</id><email>a</email></user><company/></hash>")

    assert found(compare(v1, answer("<hash><company/></hash>"))) == [(Kind.MISSING, "/hash/user")]


def test_a_type_is_told_apart_from_other_attributes() -> None:
    v1, bridge = item("1", 'type="integer" unit="EUR"'), item("1", 'type="decimal" unit="USD"')

    assert found(compare(v1, bridge)) == [
        (Kind.TYPE, "/payment/amount/@type"),
        (Kind.ATTRIBUTE, "/payment/amount/@unit"),
    ]


def test_null_is_a_value_of_its_own() -> None:
    (difference,) = compare(item("5"), item("", 'nil="true"'), wants_values=True).differences

    assert (difference.spot.kind, difference.v1, difference.bridge) == (Kind.VALUE, "5", None)


def test_another_root_is_one_difference_and_lists_are_compared_all_the_same() -> None:
    v1 = answer(f'<invoice-message type="array">{message(1)}</invoice-message>')

    assert found(compare(v1, messages(message(1, body="Another")))) == [
        (Kind.ROOT, "/invoice-message"),
        (Kind.VALUE, "/invoice-message/invoice-message[id=1]/body"),
    ]
    assert found(compare(answer("<a><x/></a>"), answer("<b><y/></b>"))) == [(Kind.ROOT, "/a")]


def nested(levels: int, text: str) -> Answer:
    inner = "<a type='array'>" * (levels - 1), "</a>" * (levels - 1)
    return answer(f"{inner[0]}<b unit='{text}'>{text}</b>{inner[1]}")


def test_what_is_too_deep_on_both_sides_is_not_compared() -> None:
    found_in = compare(nested(MOST_LEVELS, "1"), nested(MOST_LEVELS, "2"))
    assert [each.path for each in found_in.differences] == [
        "/a" * (MOST_LEVELS - 1) + "/b/@unit",
        "/a" * (MOST_LEVELS - 1) + "/b",
    ]
    deeper = compare(nested(MOST_LEVELS + 1, "1"), nested(MOST_LEVELS + 1, "2"))
    assert deeper == Comparison(Result.INCOMPARABLE, reason=Reason.TOO_MUCH, side=Side.V1)
    assert compare(nested(250, "1"), nested(250, "2")) == deeper


def test_what_is_deep_on_one_side_only_is_one_difference() -> None:
    assert found(compare(nested(200, "1"), answer("<a type='array'/>"))) == [(Kind.MISSING, "/a/a")]


def test_names_that_v1_never_had_are_not_told() -> None:
    v1 = answer("<a><Müller-GmbH>1</Müller-GmbH></a>")

    assert found(compare(v1, answer("<a/>"))) == [(Kind.MISSING, "/a/…")]


# Statuses and formats.


def test_an_error_is_compared_by_its_status_alone() -> None:
    v1 = answer("Not found", 404, "text/html")
    bridge = answer("<errors><error>No.</error><message>No.</message></errors>", 404)

    assert compare(v1, bridge) == Comparison(Result.EQUAL, known={"error-body": 1})


def test_two_errors_of_the_bridge_s_own_kind_are_compared_as_documents() -> None:
    def error(sentence: str) -> Answer:
        body = f"<errors><error>{sentence}</error><message>Same.</message></errors>"
        return answer(body, 404)

    assert compare(error("No."), error("No.\n")).result is Result.DIFFERENT
    assert found(compare(error("No."), error("Never."))) == [(Kind.VALUE, "/errors/error")]


def test_another_status_of_the_same_class_is_a_known_difference() -> None:
    assert compare(answer("", 404), answer("", 403)).known == {"error-status": 1}


@pytest.mark.parametrize(("v1", "bridge"), [(200, 404), (404, 200), (200, 401), (200, 201)])
def test_another_status_is_a_difference(v1: int, bridge: int) -> None:
    comparison = compare(answer("<a/>", v1), answer("<a/>", bridge))

    assert [(each.path, each.v1, each.bridge) for each in comparison.differences] == [
        ("/", str(v1), str(bridge))
    ]


@pytest.mark.parametrize(
    ("v1", "bridge", "side"),
    [(503, 200, Side.V1), (200, 502, Side.BRIDGE), (302, 200, Side.V1), (404, 504, Side.BRIDGE)],
)
def test_what_was_not_served_cannot_be_compared(v1: int, bridge: int, side: Side) -> None:
    comparison = compare(answer("<a/>", v1), answer("<a/>", bridge))

    assert comparison == Comparison(Result.INCOMPARABLE, reason=Reason.STATUS, side=side)


def test_a_body_against_none_is_a_difference() -> None:
    assert found(compare(answer("<a/>"), answer(""))) == [(Kind.FORMAT, "/")]
    assert compare(answer(" ", content_type=None), answer("")).result is Result.EQUAL


def test_xml_that_does_not_say_so_is_xml() -> None:
    assert compare(answer("<a/>", content_type=None), answer("<a></a>")) == Comparison(Result.EQUAL)
    json = answer("{}", content_type="application/json")
    assert found(compare(answer("<hash/>", content_type=None), json)) == [(Kind.FORMAT, "/")]


def test_json_is_compared_as_the_object_that_it_is() -> None:
    def status(body: str) -> Answer:
        return answer(body, content_type="application/json; charset=utf-8")

    v1 = status('{"timeframe_limit": 15, "name": "a", "none": null}')

    assert compare(v1, status('{"none":null,"name":"a","timeframe_limit":15}')).known == {}
    other = status('{"timeframe_limit": 16, "name": "a", "none": null}')
    assert found(compare(v1, other)) == [(Kind.VALUE, "/hash/timeframe-limit")]
    assert found(compare(v1, answer("<hash/>"))) == [(Kind.FORMAT, "/")]


DEEP = "<a>" * 300 + "</a>" * 300
MANY = "<a" + "".join(f" a{number}='1'" for number in range(MOST_ATTRIBUTES + 1)) + "/>"
NAMESPACES = "<a>" + "".join(f"<b xmlns:n{x}='n'/>" for x in range(MOST_NAMESPACES + 1)) + "</a>"
BOMB = '<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;&b;">]><a>&c;</a>'


@pytest.mark.parametrize(
    ("body", "content_type", "reason"),
    [
        ("<html><body>Sign in<br></body></html>", "text/html", Reason.NOT_XML),
        ("<a>&nothing;</a>", XML, Reason.NOT_XML),
        ("<a>cut off", XML, Reason.NOT_XML),
        ("\x00\x01\x02", XML, Reason.NOT_XML),
        (b"\xff<a/>", XML, Reason.NOT_XML),
        ('{"a": [1]}', "application/json", Reason.NOT_XML),
        ('{"a b": 1}', "application/json", Reason.NOT_XML),
        (BOMB, XML, Reason.DTD),
        ('<!DOCTYPE a SYSTEM "file:///etc/hostname"><a/>', XML, Reason.DTD),
        ("<a/>" + " " * LONGEST, XML, Reason.TOO_LARGE),
        (f"<a>{'<b/>' * MOST_MARKUP}</a>", XML, Reason.TOO_MUCH),
        (MANY, XML, Reason.TOO_MUCH),
        (DEEP, XML, Reason.TOO_MUCH),
        (NAMESPACES, XML, Reason.TOO_MUCH),
        (f"<a xmlns:n='{'n' * LONGEST_NAMESPACE}'/>", XML, Reason.TOO_MUCH),
        ('{"a": 1}' + " " * LONGEST_JSON, "application/json", Reason.TOO_LARGE),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_cannot_be_read_cannot_be_compared(
    body: str | bytes, content_type: str, reason: Reason
) -> None:
    hostile, good = answer(body, content_type=content_type), answer("<a/>")

    assert compare(hostile, good) == Comparison(Result.INCOMPARABLE, reason=reason, side=Side.V1)
    assert compare(good, hostile).side is Side.BRIDGE


def test_a_page_of_xhtml_is_another_document() -> None:
    page = answer('<html xmlns="http://www.w3.org/1999/xhtml" xmlns:a="b"><body/></html>')

    assert found(compare(page, answer("<a/>"))) == [(Kind.ROOT, "/…")]


def test_so_many_differences_are_told_and_all_are_counted() -> None:
    numbers = range(1, MOST_TOLD * 2 + 1)
    v1 = messages(*map(message, numbers))
    comparison = compare(v1, messages(*(message(number, body="Another") for number in numbers)))

    assert len(comparison.differences) == MOST_TOLD
    assert comparison.counted == {Spot(Kind.VALUE, f"{ITEM}/body"): MOST_TOLD * 2}


def test_made_up_names_are_counted_together() -> None:
    v1 = answer(f"<a>{''.join(f'<n{number}/>' for number in range(MOST_NAMES * 3))}</a>")
    comparison = compare(v1, answer("<a/>"))

    assert len(comparison.counted) <= MOST_NAMES + 1
    assert sum(comparison.counted.values()) == MOST_NAMES * 3


def test_comparing_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    compare(answer("<a><b/></a>"), answer("<a/>"))

    assert threading.active_count() == before


# What is ignored.


@pytest.mark.parametrize(
    ("path", "left"),
    [
        (f"{ITEM}/body", ["subject"]),
        ("//body", ["subject"]),
        ("//invoice-message/*", []),
        ("/*/*/body", ["subject"]),
        ("/invoice-messages", []),
        ("/invoice-message/body", ["body", "subject"]),
        ("//subject/body", ["body", "subject"]),
    ],
)
def test_what_is_at_an_ignored_path_may_differ(path: str, left: list[str]) -> None:
    v1, bridge = messages(message(1)), messages(message(1, body="Another", subject="Another"))

    comparison = compare(v1, bridge, Paths([path]))
    assert [each.spot.path for each in comparison.differences] == [
        f"{ITEM}/{name}" for name in left
    ]
    assert comparison.result is (Result.DIFFERENT if left else Result.EQUAL)


def test_attributes_orders_and_numbers_can_be_ignored() -> None:
    one = answer('<l type="array"><i kind="x"><id>1</id></i><i><id>2</id></i></l>')
    other = answer('<l type="array"><i><id>2</id></i><i kind="y"><id>1</id></i></l>')

    assert compare(one, other, Paths(["//@kind", "/l/order()"])).result is Result.EQUAL
    assert compare(one, other, Paths(["//@*", "//order()"])).result is Result.EQUAL
    longer, shorter = answer('<l type="array"><i/><i/></l>'), answer('<l type="array"><i/></l>')
    assert compare(longer, shorter, Paths(["/l/count()"])).result is Result.EQUAL


def test_an_ignored_item_may_be_missing() -> None:
    assert compare(answer("<a><b/></a>"), answer("<a/>"), Paths(["/a/b"])).result is Result.EQUAL


# How it is told.


def test_a_score_says_how_many_are_equal_and_where_others_differ() -> None:
    assert score(4213, 4213, {}) == "4,213 of 4,213 equal"
    assert score(4210, 4213, {f"{ITEM}/body": 3}) == "4,210 of 4,213 equal; 3 differ at …/body"
    places = {"/a/b/@type": 1, "/a/order()": 2, "/": 1, "/a/c": 1, "/a/d": 1}
    assert score(0, 5, places) == (
        "0 of 5 equal; 2 differ at /a/order(), 1 differ at /, 1 differ at …/b/@type, "
        "and others at 2 more places"
    )
    first = {"/a/b": 3, "/a/c": 2, "status (v1 200, bridge 401)": 1}
    assert score(0, 9, first, places=5) == (
        "0 of 9 equal; 3 differ at …/b, 2 differ at …/c, 1 differ at status (v1 200, bridge 401), "
        "and others at 2 more places"
    )


def test_known_differences_have_a_name_each_and_a_reason() -> None:
    assert len({each.name for each in KNOWN}) == len(KNOWN)
    assert all(each.reason.endswith(".") for each in KNOWN)
