"""Requests from bytes to values, by hand: what is repaired, taken and passed over, and its notes."""

import json
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.resources.invoice_messages import MESSAGE_FORM
from bridge.resources.invoice_payments import PAYMENT_FORM
from bridge.v1.errors import InvalidRequest
from bridge.v1.notes import MOST, NoteCode, Notes
from bridge.v1.reader import MAX_ADDRESSES
from tests.support.reading import read_request
from tests.v1.test_recipients import addresses

TEN_MEGABYTES = 10_000_000


def read(document: str) -> tuple[dict[str, str | None], set[tuple[str, str]]]:
    """Return the values of a request and its notes."""
    notes = Notes()
    values = read_request(document.encode(), None, MESSAGE_FORM, notes)
    return values, {(note.code, note.subject) for note, _ in notes}


def document(inner: str = "", attributes: str = "") -> str:
    return f"<invoice-message{attributes}>{inner}</invoice-message>"


def refusal(text: str) -> str:
    with pytest.raises(InvalidRequest) as refused:
        read(text)
    return str(refused.value)


class TestUnescapedAddresses:
    """One judge of addresses: what a list takes in angle brackets, the repair takes."""

    @given(addresses.filter(lambda address: ";" not in address))
    def test_whatever_is_an_address_is_escaped(self, address: str) -> None:
        glued, notes = read(document(f"<recipients>Jane <{address}></recipients>"))

        assert glued == read(document(f"<recipients>{escape(f'Jane <{address}>')}</recipients>"))[0]
        assert notes == {(NoteCode.ADDRESS_ESCAPED, "document")}

    @pytest.mark.parametrize(
        "address",
        [
            "sean.o'brien@doe.org",
            "at&t@doe.org",
            "a/b@doe.org",
            "mailto:jane@doe.org",
            " jane@doe.org\n",
            "'jane@doe.org'",
            "jane..doe@docomo.ne.jp",
            "jürgen@bücher.de",
            '"j>d"@doe.org',
        ],
    )
    def test_and_so_is_what_people_write(self, address: str) -> None:
        values, _ = read(document(f"<full-recipient-list>Jane <{address}></full-recipient-list>"))

        assert values == {"full-recipient-list": f"Jane <{address}>"}

    def test_a_reference_in_an_address_is_the_character_it_stands_for(self) -> None:
        values, _ = read(document("<recipients><sean.o&#39;brien@doe.org></recipients>"))

        assert values == {"recipients": "<sean.o'brien@doe.org>"}

    @pytest.mark.parametrize("no_address", ["jane", "jane@", "j d@doe.org", "body x='a@b.org'"])
    def test_what_is_no_address_is_left(self, no_address: str) -> None:
        assert "not well-formed" in refusal(document(f"<recipients><{no_address}></recipients>"))

    def test_comments_and_cdata_sections_are_left(self) -> None:
        inside = "<!-- <a@b.org> --><body><![CDATA[<a@b.org>&#55357;&#56832;]]></body>"

        values, _ = read(document(f"{inside}<recipients><a@b.org></recipients>"))

        assert values == {"body": "<a@b.org>&#55357;&#56832;", "recipients": "<a@b.org>"}

    def test_no_more_are_looked_at_than_lists_may_have(self) -> None:
        assert read(document(f"<body>{'<a@b.org>' * MAX_ADDRESSES}</body>"))
        assert "not well-formed" in refusal(
            document(f"<body>{'<a@b.org>' * (MAX_ADDRESSES + 1)}</body>")
        )


class TestSurrogatePairs:
    """Runtimes whose characters have 16 bits write one of 21 bits as two references."""

    @given(
        st.characters(min_codepoint=0x10000), st.sampled_from(["&#{};", "&#x{:x};", "&#x0{:X};"])
    )
    def test_a_pair_is_the_character(self, character: str, reference: str) -> None:
        units = json.dumps(character).split(r"\u")[1:]
        pair = "".join(reference.format(int(unit.strip('"'), 16)) for unit in units)

        values, notes = read(document(f"<body>a{pair}b</body>"))

        assert values == {"body": f"a{character}b"}
        assert notes == {(NoteCode.SURROGATES_JOINED, "document")}

    @pytest.mark.parametrize(
        "lone", ["&#55357;", "&#56832;&#55357;", "&#55357; &#56832;", "&#55357;&#55357;&#56832;"]
    )
    def test_a_lone_one_is_no_character(self, lone: str) -> None:
        assert "not well-formed" in refusal(document(f"<body>{lone}</body>"))

    def test_it_can_be_set_right_together_with_an_address(self) -> None:
        values, notes = read(
            document("<body>&#55357;&#56832;</body><recipients><a@b></recipients>")
        )

        assert values == {"body": "\U0001f600", "recipients": "<a@b>"}
        assert {code for code, _ in notes} == {
            NoteCode.ADDRESS_ESCAPED,
            NoteCode.SURROGATES_JOINED,
        }


class TestAttributes:
    """To Rails, attributes of the root were parameters as its elements are."""

    @pytest.mark.parametrize(
        ("attributes", "values"),
        [
            (" body='x'", {"body": "x"}),
            (
                " send_me_a_copy='1' attach-pdf='F'",
                {"send-me-a-copy": "true", "attach-pdf": "false"},
            ),
            (" xmlns:v='u' v:subject='x'", {"subject": "x"}),
            (" body=''", {"body": None}),
        ],
    )
    def test_one_that_names_a_parameter_sets_it(
        self, attributes: str, values: dict[str, str | None]
    ) -> None:
        found, notes = read(document(attributes=attributes))

        assert found == values
        assert notes == {(NoteCode.ATTRIBUTE_TAKEN, name) for name in values}

    def test_an_element_wins(self) -> None:
        values, notes = read(document("<send_me_a_copy>0</send_me_a_copy>", " send-me-a-copy='1'"))

        assert values == {"send-me-a-copy": "false"}
        assert notes == {(NoteCode.ATTRIBUTE_IGNORED, "send-me-a-copy")}

    def test_any_other_is_ignored_with_a_note(self) -> None:
        values, notes = read(document("<body lang='en'>x</body>", " colour='blue' Body='y'"))

        assert values == {"body": "x"}
        assert notes == {
            (NoteCode.ATTRIBUTE_IGNORED, "lang"),
            (NoteCode.ATTRIBUTE_IGNORED, "colour"),
            (NoteCode.ATTRIBUTE_IGNORED, "…"),
        }

    def test_type_and_nil_mean_what_they_mean_in_rails(self) -> None:
        xsi = " xmlns:i='http://www.w3.org/2001/XMLSchema-instance' i:nil='false' i:type='x'"
        inner = f"<body type='string' nil='true'>x</body><subject{xsi}>y</subject>"

        values, notes = read(document(inner, " type='array' nil='true'"))

        assert values == {"body": None, "subject": "y"}
        assert notes == set()

    def test_one_that_is_given_twice_is_refused(self) -> None:
        assert refusal(document(attributes=" attach_pdf='1' attach-pdf='1'")) == (
            "attach-pdf is given twice."
        )

    def test_a_value_that_cannot_be_read_is_refused(self) -> None:
        assert refusal(document(attributes=" thank-you='?'")) == "thank-you must be true or false."

    def test_a_payment_has_them_too(self) -> None:
        body = b"<payment amount='10.5' notes='x'><paid-at>2010-09-25</paid-at></payment>"

        values = read_request(body, None, PAYMENT_FORM, Notes())

        assert values == {"paid-at": "2010-09-25", "amount": "10.5", "notes": "x"}


def test_text_outside_of_elements_is_ignored_with_a_note() -> None:
    for text in (document("Hello"), document("<body>x</body> Hello")):
        assert (NoteCode.TEXT_IGNORED, "invoice-message") in read(text)[1]
    assert read(document("\n  <body>x</body>\n"))[1] == set()


def test_no_element_has_more_attributes_than_any_client_wrote() -> None:
    attributes = "".join(f" b{number}=''" for number in range(201))

    for inner in (f"<body{attributes}/>", f"<x{attributes}/>", f"<x><y{attributes}/></x>"):
        assert refusal(document(inner)) == "An element has more than 200 attributes."


def test_no_more_notes_are_told_apart_than_a_log_line_holds() -> None:
    notes = Notes()
    elements = "".join(f"<a{number}/>" for number in range(200))
    attributes = "".join(f" b{number}=''" for number in range(200))

    read_request(document(elements, attributes).encode(), None, MESSAGE_FORM, notes)

    counted = dict(notes)
    assert len(counted) <= MOST + 2
    assert sum(counted.values()) == 200 + 200


class TestLimits:
    """A body may be as long as the operator lets it be; how deep it is, is bounded."""

    @pytest.mark.parametrize("length", [TEN_MEGABYTES - 100, TEN_MEGABYTES + 1])
    def test_a_text_may_be_longer_than_libxml2_takes_of_itself(self, length: int) -> None:
        values, _ = read(document(f"<body>{'x' * length}</body>"))

        assert len(values["body"] or "") == length

    @pytest.mark.parametrize("padding", [0, TEN_MEGABYTES])
    @pytest.mark.parametrize(("levels", "is_read"), [(255, True), (256, False), (5000, False)])
    def test_depth_is_bounded_however_long_the_body(
        self, padding: int, levels: int, is_read: bool
    ) -> None:
        text = document(f"<body>{'x' * padding}</body>{'<a>' * levels}{'</a>' * levels}")

        if is_read:
            assert read(text)
        else:
            assert refusal(text) == (
                "The body is not well-formed XML: it has more than 256 levels."
            )

    def test_a_document_type_is_refused_however_long_the_body(self) -> None:
        dtd = '<!DOCTYPE a [<!ENTITY e "b">]>'
        long = document(f"<body>{'x' * TEN_MEGABYTES}&e;</body>")

        assert refusal(dtd + long) == "A document type declaration is not accepted."
        assert "Entity 'e' not defined" in refusal(long)
