"""v2's JSON into typed values: what is no JSON, what has the wrong shape, and odd Unicode."""

import json
import re
import traceback
import tracemalloc
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.v2 import decoding
from bridge.v2.decoding import MOST_OBJECTS, convert, decode
from bridge.v2.errors import UpstreamFault

VALUE = "s3cret"


class Person(msgspec.Struct):
    name: str
    age: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | None = None


class People(msgspec.Struct):
    people: list[Person]


def shown(error: BaseException) -> str:
    """All that a log could get to see of an error."""
    return "".join(traceback.format_exception(error)).partition("Error: ")[2] + repr(error)


class TestShape:
    def test_the_right_shape_becomes_values(self) -> None:
        assert decode(b'{"people": [{"name": "Jane", "age": 7}]}', People) == People(
            [Person("Jane", 7)]
        )

    def test_a_part_of_a_document_is_read_like_a_whole_one(self) -> None:
        assert decode(msgspec.Raw(b'{"name": "Jane"}'), Person) == Person("Jane")

    def test_unknown_members_are_ignored(self) -> None:
        assert decode(b'{"name": "Jane", "shoe_size": {"eu": 38}}', Person) == Person("Jane")

    @pytest.mark.parametrize(
        ("document", "place"),
        [
            pytest.param({"people": [{"name": "Jane", "age": VALUE}]}, "$.people[0].age", id="age"),
            pytest.param({"people": [{"name": "x"}, {"name": [VALUE]}]}, "$.people[1].name", id="name"),
            pytest.param({"people": [VALUE]}, "$.people[0]", id="item"),
            pytest.param({"people": {VALUE: VALUE}}, "$.people", id="list"),
            pytest.param({"people": None}, "$.people", id="null"),
            pytest.param({"people": [{"age": 7, VALUE: VALUE}]}, "`name`", id="missing"),
            pytest.param([VALUE], "Expected `object`, got `array`", id="document"),
            pytest.param(VALUE, "Expected `object`, got `str`", id="string"),
        ],
    )  # fmt: skip
    def test_a_wrong_shape_names_the_place_and_not_the_value(
        self, document: object, place: str
    ) -> None:
        with pytest.raises(UpstreamFault, match="wrong shape") as raised:
            decode(json.dumps(document).encode(), People)

        assert place in str(raised.value)
        assert VALUE not in shown(raised.value)

    @pytest.mark.parametrize("age", [-1, 2**63, 2**64, 10**30, 10**4000, 1.5])
    def test_a_number_beyond_its_bounds_is_a_wrong_shape(self, age: float) -> None:
        with pytest.raises(UpstreamFault, match=r"wrong shape.*\$\.age"):
            decode(f'{{"name": "Jane", "age": {age}}}'.encode(), Person)

    def test_a_number_that_python_refuses_to_read_is_a_fault(self) -> None:
        with pytest.raises(UpstreamFault):
            decode(b'{"name": "Jane", "age": ' + b"9" * 100_000 + b"}", Person)


@pytest.mark.parametrize("item", [b"1", b'""', b"[]", b"null"])
def test_too_many_things_are_a_fault_before_they_are_made(item: bytes) -> None:
    with pytest.raises(UpstreamFault):
        decode(b"[" + (item + b",") * 1_500_000 + item + b"]", list[msgspec.Raw])


class Told(msgspec.Struct):
    name: Any = None
    age: Any = None


class TestConvert:
    def test_what_was_decoded_is_understood(self) -> None:
        assert convert(Told("Jane", 7), Person) == Person("Jane", 7)

    def test_what_cannot_be_names_the_place_and_not_the_value(self) -> None:
        with pytest.raises(UpstreamFault, match=r"wrong shape.*\$\.age") as raised:
            convert(Told("Jane", VALUE), Person)

        assert VALUE not in shown(raised.value)


class TestSyntax:
    @pytest.mark.parametrize(
        "document",
        [
            pytest.param(b"", id="nothing"),
            pytest.param(b" \n", id="blank"),
            pytest.param(b"<html>s3cret</html>", id="html"),
            pytest.param(b'{"name": "s3cret"', id="cut-off"),
            pytest.param(b'{"name": "s3cret', id="cut-off-in-a-string"),
            pytest.param(b'{"name": "s3cret\\u12', id="cut-off-in-an-escape"),
            pytest.param(b'{"name": "s3cret\\ud8', id="cut-off-in-a-surrogate"),
            pytest.param(b'{"name": "s3cret"} s3cret', id="something-behind"),
            pytest.param(b"{'name': 's3cret'}", id="single-quotes"),
            pytest.param(b'{"name": "s3cret\n"}', id="raw-newline-in-a-string"),
            pytest.param(b'{"name": "s3cret\\x41"}', id="unknown-escape"),
            pytest.param(b'{"name": "s3cret", "age": NaN}', id="nan"),
            pytest.param('{"name": "s3cret"}'.encode("utf-16"), id="utf-16"),
            pytest.param(b'{"name": "s3cret \xff"}', id="invalid-utf-8"),
            pytest.param(b'{"name": "s3cret \xed\xa0\x80"}', id="surrogate-in-utf-8"),
            pytest.param(b'{"name": "s3cret \xff \\ud800"}', id="invalid-utf-8-and-surrogate"),
            pytest.param(b'{"name": "s3cret \\ud800"', id="surrogate-and-cut-off"),
        ],
    )
    def test_what_is_no_json_is_a_fault_that_does_not_quote_it(self, document: bytes) -> None:
        with pytest.raises(UpstreamFault, match=r"^v2 sent no JSON: ") as raised:
            decode(document, Person)

        assert "s3cret" not in shown(raised.value)
        assert "\n" not in str(raised.value)

    def test_not_even_a_byte_of_what_is_no_utf_8_is_quoted(self) -> None:
        with pytest.raises(UpstreamFault, match=r"^v2 sent no JSON: UnicodeDecodeError$"):
            decode(b'{"name": "\xff"}', Person)

    @pytest.mark.parametrize("type_", [Any, list[Any], dict[str, Any], Person], ids=str)
    @pytest.mark.parametrize(
        "document",
        [
            pytest.param(b"[" * 100_000, id="open-arrays"),
            pytest.param(b"[" * 100_000 + b"]" * 100_000, id="arrays"),
            pytest.param(b'{"name":' * 100_000, id="open-objects"),
            pytest.param(b'{"other":' * 100_000 + b"1" + b"}" * 100_000, id="objects"),
            pytest.param(b'["\\ud800",' + b"[" * 100_000, id="below-a-surrogate"),
        ],
    )
    def test_deep_nesting_is_a_fault(self, document: bytes, type_: Any) -> None:
        with pytest.raises(UpstreamFault):
            decode(document, type_)

    @given(st.binary() | st.text(alphabet=st.sampled_from('{}[]":,\\ud8c0 1-')).map(str.encode))
    def test_any_bytes_are_json_or_a_fault(self, document: bytes) -> None:
        try:
            expected = json.loads(document.decode())
        except ValueError:
            with pytest.raises(UpstreamFault):
                decode(document, Any)
        else:
            assert decode(document, Any) == _repaired(expected)


def _repaired(value: Any) -> Any:
    """A value of `json.loads`, with what is still a surrogate, and so a lone one, replaced."""
    match value:
        case str():
            return re.sub("[\ud800-\udfff]", "\ufffe", value)
        case list():
            return [_repaired(each) for each in value]
        case dict():
            return {_repaired(name): _repaired(each) for name, each in value.items()}
    return value


_PIECES = st.sampled_from(
    [
        r"\ud800",
        r"\uD83D",
        r"\udbFF",
        r"\udc00",
        r"\uDE00",
        r"\uDfff",
        r"\ud7ff",
        r"\ue000",
        r"\ufffe",
        r"\\",
        r"\"",
        r"\/",
        r"\n",
        "ud800",
        "udc00",
        "dc00",
        "u",
        "😀",
        "é",
        "x",
    ]
)
"""Whatever a search for lone surrogates could stumble over, as it stands in JSON."""

_DOCUMENTS = st.lists(_PIECES, max_size=12).map(lambda pieces: f'"{"".join(pieces)}"')


class TestSurrogates:
    @pytest.mark.parametrize(
        ("document", "text"),
        [
            pytest.param(r'"\ud800"', "\ufffe", id="high-alone"),
            pytest.param(r'"\udc00"', "\ufffe", id="low-alone"),
            pytest.param(r'"\uDBFF\uDBFF"', "\ufffe\ufffe", id="two-high"),
            pytest.param(r'"\ude00\ud83d"', "\ufffe\ufffe", id="wrong-way-round"),
            pytest.param(r'"\ud83d-\ude00"', "\ufffe-\ufffe", id="parted"),
            pytest.param(r'"\ud800\ud83d\ude00"', "\ufffe😀", id="before-a-pair"),
            pytest.param(r'"\ud83d\ude00\ude00"', "😀\ufffe", id="after-a-pair"),
            pytest.param(r'"\ud83d\ude00"', "😀", id="pair"),
            pytest.param(r'"\uD83D\uDE00"', "😀", id="pair-in-upper-case"),
            pytest.param(r'"\\ud800"', r"\ud800", id="escaped-backslash"),
            pytest.param(r'"\\\ud800"', "\\\ufffe", id="escaped-backslash-before"),
            pytest.param(r'"\\\\ud800\ud800"', "\\\\ud800\ufffe", id="two-escaped-backslashes"),
            pytest.param(r'"\ud800\\udc00"', "\ufffe\\udc00", id="no-pair-over-a-backslash"),
            pytest.param(r'"\ud800\n\u0041é"', "\ufffe\nAé", id="beside-other-escapes"),
        ],
    )
    def test_a_lone_surrogate_becomes_u_fffe(self, document: str, text: str) -> None:
        assert decode(document.encode(), str) == text

    @given(_DOCUMENTS)
    def test_nothing_else_changes(self, document: str) -> None:
        assert decode(document.encode(), str) == _repaired(json.loads(document))

    @given(_DOCUMENTS)
    def test_a_text_means_the_same_wherever_it_stands(self, document: str) -> None:
        around = f'{{"people": [{{"name": {document}}}, {{"name": "\\ud800"}}]}}'.encode()

        assert decode(around, People).people[0].name == decode(document.encode(), str)

    @given(_DOCUMENTS)
    def test_parts_can_be_read_later(self, document: str) -> None:
        parts = decode(f"[{document}]".encode(), list[msgspec.Raw])

        assert [decode(part, str) for part in parts] == [decode(document.encode(), str)]

    @given(_DOCUMENTS, st.integers(1, 40))
    def test_wherever_a_search_is_interrupted(self, document: str, window: int) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(decoding, "_WINDOW", window)

            assert decode(document.encode(), str) == _repaired(json.loads(document))

    def test_a_wrong_shape_beside_one_is_told_as_such(self) -> None:
        with pytest.raises(UpstreamFault, match=r"wrong shape.*\$\.age"):
            decode(rb'{"name": "\ud800", "age": "x"}', Person)


class TestBounds:
    """A broken answer costs no more than a long one."""

    @pytest.mark.parametrize(
        "flood", [rb"\n", rb"\\", rb"\ud83d\ude00", rb"\ud800", rb"\u0041", rb"\\ud800"]
    )
    def test_a_search_for_surrogates_takes_little_memory(self, flood: bytes) -> None:
        document = b'{"name": "\\ud800' + flood * (1_200_000 // len(flood))  # and no end
        tracemalloc.start()
        try:
            with pytest.raises(UpstreamFault, match="no JSON"):
                decode(document, Person)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert most < 4 * len(document)

    def test_only_so_many_surrogates_are_replaced(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(decoding, "MOST_REPAIRS", 3)

        assert decode(b'"' + 3 * rb"\ud800" + b'"', str) == "\ufffe" * 3
        with pytest.raises(UpstreamFault, match="no JSON"):
            decode(b'"' + 4 * rb"\ud800" + b'"', str)

    def test_what_is_very_long_is_not_searched(self, monkeypatch: pytest.MonkeyPatch) -> None:
        document = rb'"\ud800"'
        monkeypatch.setattr(decoding, "REPAIRABLE", len(document))

        assert decode(document, str) == "\ufffe"
        with pytest.raises(UpstreamFault, match="no JSON"):
            decode(document + b" ", str)

    @pytest.mark.parametrize(
        "type_", [list[Person], list[dict[str, str]], Any, msgspec.Raw], ids=str
    )
    def test_more_objects_than_a_page_has_are_a_fault(self, type_: Any) -> None:
        objects = b",".join([b'{"name":"ab"}'] * MOST_OBJECTS)

        decode(b"[" + objects + b"]", type_)
        with pytest.raises(UpstreamFault, match="objects at once"):
            decode(b"[" + objects + b',{"name":"ab"}]', type_)
