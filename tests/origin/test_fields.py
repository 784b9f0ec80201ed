"""Fields of heads between client and origin, as they travel."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.origin.fields import (
    Framing,
    Moved,
    NotForwardable,
    framing,
    head,
    passed_by,
    to_origin,
)
from bridge.origin.place import Place

HERE = Moved(Place("https", "acme.harvestapp.com", 443), "https://acme.harvestapp.com")

OCTETS = st.binary(max_size=40)
FIELDS = st.lists(st.tuples(OCTETS, OCTETS), max_size=6)


@given(FIELDS, st.integers(200, 599), st.none() | st.text(max_size=20))
def test_whatever_an_origin_says_no_line_of_a_head_becomes_two(
    fields: list[tuple[bytes, bytes]], status: int, reason: str | None
) -> None:
    try:
        written = head(status, reason, fields, Framing(True, 3), besides=[], moved=HERE)
    except NotForwardable:
        return

    lines = written.split(b"\r\n")
    assert lines[-2:] == [b"", b""]
    assert re.fullmatch(rb"HTTP/1\.1 [0-9]{3} [^\r\n\0]*", lines[0])
    for line in lines[1:-2]:
        assert re.fullmatch(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+: [^\r\n\0]*", line)
    assert written.count(b"Content-Length: 3") >= 1


@given(FIELDS)
def test_whatever_a_client_names_no_field_of_a_hop_goes_on(
    fields: list[tuple[bytes, bytes]],
) -> None:
    kept = to_origin(
        [*fields, (b"TE", b"trailers"), (b"X", b"1"), (b"Connection", b"x")],
        "us",
        "1.1",
        came_by_proxy=False,
    )

    names = {name.lower() for name, _ in kept}
    assert not names & {"te", "x", "connection", "host", "content-length", "expect"}
    assert kept[-1] == ("Via", "1.1 us")


@pytest.mark.parametrize(
    ("lengths", "told"),
    [([b"3"], 3), ([b"3", b"3"], 3), ([b"3, 3"], 3), ([], None)],
)
def test_a_length_is_told_once(lengths: list[bytes], told: int | None) -> None:
    """RFC 9112, section 6.3."""
    fields = [(b"Content-Length", each) for each in lengths]

    assert framing("GET", (1, 1), 200, fields).length == told


@pytest.mark.parametrize("lengths", [[b"3", b"4"], [b"3, 4"], [b"-1"], [b"0x3"], [b""], [b"\xb2"]])
def test_what_is_no_length_is_refused(lengths: list[bytes]) -> None:
    with pytest.raises(NotForwardable):
        framing("GET", (1, 1), 200, [(b"content-length", each) for each in lengths])


@pytest.mark.parametrize(
    ("via", "told"),
    [(b"1.1 us", True), (b"1.0 a, 1.1 us (x)", True), (b"1.1 usual", False), (b"", False)],
)
def test_a_request_that_has_passed_by_is_known(via: bytes, told: bool) -> None:
    """RFC 9110, section 7.6.3."""
    assert passed_by([(b"VIA", via)], "us") is told
