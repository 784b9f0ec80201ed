"""Which Accept headers admit XML or JSON (schemas/README.md; RFC 9110, section 12.5.1)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.server.negotiation import admits_json, admits_xml

ADMITTED = [
    pytest.param(None, id="no-header"),
    pytest.param("", id="empty"),
    pytest.param("  ", id="blank"),
    pytest.param(",", id="empty-members"),
    pytest.param("xml", id="no-media-range"),
    pytest.param("*/*", id="anything"),
    pytest.param("application/xml", id="application-xml"),
    pytest.param("text/xml", id="text-xml"),
    pytest.param("application/*", id="any-application"),
    pytest.param("text/*", id="any-text"),
    pytest.param("APPLICATION/XML", id="upper-case"),
    pytest.param("application/xml; charset=utf-8", id="charset"),
    pytest.param("text/xml;q=0.1", id="low-quality"),
    pytest.param("text/xml;q=0.001", id="lowest-quality"),
    pytest.param("text/xml;q=1.000", id="highest-quality"),
    pytest.param("text/xml ; charset=utf-8 ; q=0.5", id="quality-after-a-parameter"),
    pytest.param("application/json, application/xml", id="json-or-xml"),
    pytest.param("application/json;q=0.9,*/*;q=0.1", id="json-or-anything"),
    pytest.param("application/xml;q=0, text/xml", id="one-kind-of-xml-refused"),
    pytest.param("text/html, */*; q=.2", id="java"),
    pytest.param(
        "text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8", id="browser"
    ),
    pytest.param("application/atom+xml", id="a-kind-of-xml"),
    pytest.param("garbage, text/xml", id="garbage-beside-xml"),
]

REFUSED = [
    pytest.param("application/json", id="json"),
    pytest.param("application/json; charset=utf-8", id="json-with-charset"),
    pytest.param("application/json;q=0", id="json-refused"),
    pytest.param("text/html", id="html"),
    pytest.param("image/*", id="any-image"),
    pytest.param("application/json, text/html", id="neither-is-xml"),
    pytest.param("garbage, application/json", id="garbage-beside-json"),
    pytest.param("application/xml;q=0", id="xml-refused"),
    pytest.param("application/xml; q=0.000", id="xml-refused-at-length"),
    pytest.param("text/xml;Q=0", id="xml-refused-in-upper-case"),
    pytest.param("*/*;q=0", id="anything-refused"),
    pytest.param("text/xml;charset=utf-8;q=0.0", id="refused-after-a-parameter"),
    pytest.param("application/json, */*;q=0", id="nothing-but-json"),
    pytest.param("application/xmlish", id="begins-like-xml"),
    pytest.param("application/notxml", id="ends-like-xml"),
    pytest.param("text/xml-dtd", id="dtd"),
]


@pytest.mark.parametrize("accept", ADMITTED)
def test_xml_is_admitted(accept: str | None) -> None:
    assert admits_xml(accept)


@pytest.mark.parametrize("accept", REFUSED)
def test_xml_is_refused(accept: str) -> None:
    assert not admits_xml(accept)


@pytest.mark.parametrize(
    ("accept", "admitted"),
    [
        (None, True),
        ("*/*", True),
        ("application/*", True),
        ("application/json", True),
        ("Application/JSON; charset=utf-8", True),
        ("text/html, application/json;q=0.1", True),
        ("application/hal+json", True),
        ("application/json;q=0", False),
        ("application/xml", False),
        ("text/json", True),
        ("image/png", False),
        ("application/jsonish", False),
    ],
)
def test_json(accept: str | None, admitted: bool) -> None:
    assert admits_json(accept) is admitted


_REFUSED_RANGES = st.sampled_from(["application/json", "text/html", "*/*;q=0", "text/xml;q=0.0"])


@given(st.lists(_REFUSED_RANGES), st.lists(_REFUSED_RANGES), st.sampled_from([",", ", ", " ,\t"]))
def test_one_range_is_enough_wherever_it_stands(
    before: list[str], after: list[str], separator: str
) -> None:
    assert admits_xml(separator.join([*before, "application/xml", *after]))
    assert admits_xml(separator.join([*before, *after])) == (not before and not after)


@given(st.text(alphabet=st.sampled_from('aqxml/*;,=.0 \t"') | st.characters(codec="ascii")))
def test_case_says_nothing(accept: str) -> None:
    assert admits_xml(accept) == admits_xml(accept.upper())
