"""Heads as bytes (schemas/README.md, "Heads"): where they end, and what is put right in them."""

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.server.heads import end_of_head, has_bare_line_feeds, repaired
from bridge.v1.notes import NoteCode

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
lines = st.lists(st.binary(min_size=1).map(lambda line: line.translate(None, b"\r\n") or b"x"))


@pytest.mark.parametrize(
    ("data", "end"),
    [
        (HEAD, len(HEAD)),
        (HEAD + b"more\r\n\r\n", len(HEAD)),
        (b"a\nb\n\nmore\r\n\r\n", 5),
        (b"a\nb\n\r\nmore", 6),
        (HEAD[:-1], -1),
        (HEAD[:-2], -1),
        (b"", -1),
    ],
)
def test_a_head_ends_with_an_empty_line_whatever_its_line_breaks(data: bytes, end: int) -> None:
    assert end_of_head(data) == end


@given(lines, st.sampled_from([b"\n", b"\r\n"]), st.binary())
def test_what_comes_behind_a_head_does_not_move_its_end(
    head_lines: list[bytes], line_break: bytes, behind: bytes
) -> None:
    head = line_break.join([b"GET / HTTP/1.0", *head_lines, b"", b""])

    assert end_of_head(head + behind) == end_of_head(head) == len(head)


@given(lines)
def test_a_head_whose_lines_all_end_in_lf_reads_as_with_crlf(head_lines: list[bytes]) -> None:
    written = [b"GET / HTTP/1.0", *head_lines, b"", b""]

    head, notes = repaired(b"\n".join(written))

    assert head == b"\r\n".join(written)
    assert notes == (NoteCode.LINE_FEEDS,)
    assert not has_bare_line_feeds(head)


@pytest.mark.parametrize("width", [60, 64, 76])
@pytest.mark.parametrize("line_break", [b"\n", b"\r\n"])
@pytest.mark.parametrize("form", [b"Basic %s", b"Basic (%s)", b"basic  %s"])
def test_wrapped_credentials_are_put_together(width: int, line_break: bytes, form: bytes) -> None:
    pair = b64encode(b"any@example.com:" + b"1234567.pt." + b"x" * 90)
    wrapped = b"\n".join(pair[at : at + width] for at in range(0, len(pair), width))
    written = [b"GET / HTTP/1.1", b"Host: a", b"Authorization: " + form, b"Accept: */*", b"", b""]

    head, notes = repaired(line_break.join(written) % wrapped)

    assert head == b"\r\n".join(written) % pair
    assert NoteCode.CREDENTIALS_WRAPPED in notes
    assert (NoteCode.LINE_FEEDS in notes) == (line_break == b"\n")


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: a\nTransfer-Encoding: chunked\r\n\r\n", id="another field"
        ),
        pytest.param(
            b"GET / HTTP/1.1\r\nAuthorization: Basic %s\nHost: a\r\n\r\n" % (b"A" * 60),
            id="a field behind credentials",
        ),
        pytest.param(
            b"GET / HTTP/1.1\r\nAuthorization: Basic AAAA\nBBBB\r\n\r\n", id="not as encoders wrap"
        ),
        pytest.param(
            b"GET / HTTP/1.1\r\nX-Any: Basic %s\nAAAA\r\n\r\n" % (b"A" * 60), id="of another field"
        ),
        pytest.param(b"GET /\nHost: a\r\n\r\n", id="the first line alone"),
    ],
)
def test_any_other_bare_lf_is_left_to_be_refused(head: bytes) -> None:
    assert repaired(head) == (head, ())
    assert has_bare_line_feeds(head)
