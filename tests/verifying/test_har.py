"""Recordings as programs write them: what is read of each, and that none does harm."""

import gzip
import json
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.comparing import LONGEST
from bridge.verifying.har import Entry, Recording, UnusableRecording, entries
from tests.support.recordings import XML, Call, chromium, document, mitmproxy, record, sparse

BODY = '<payments type="array">Jürgen\'s</payments>'


def only(recording: Recording) -> Entry:
    ((_, entry),) = entries(recording)
    assert entry is not None
    return entry


def written(path: Path, entry: Any, **more: Any) -> Entry:
    path.write_text(json.dumps(document([entry], **more)))
    return only(Recording(path))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "v1.har"


@pytest.mark.parametrize("by", [chromium, mitmproxy, sparse])
def test_a_call_is_read_as_every_program_writes_it(
    file: Path, by: Callable[[Call], dict[str, Any]]
) -> None:
    entry = only(Recording(record(file, [Call("/invoices/1/payments", BODY)], by)))

    assert (entry.method, entry.url) == ("GET", "https://acme.harvestapp.com/invoices/1/payments")
    assert entry.answer is not None
    assert (entry.answer.status, entry.answer.body) == (200, BODY.encode())
    assert (entry.is_v2s, entry.has_stand_ins) == (False, False)


def test_pseudo_fields_are_no_headers(file: Path) -> None:
    entry = only(Recording(record(file, [Call("/", BODY)], chromium)))

    assert dict(entry.headers) == {"accept": "application/xml"}


def test_a_mark_before_the_document_is_passed_over(file: Path) -> None:
    assert len(Recording(record(file, [Call("/", BODY)], mark=b"\xef\xbb\xbf"))) == 1


def test_what_a_recorder_has_decoded_is_utf_8_whatever_the_header_says(file: Path) -> None:
    call = Call("/", BODY, content_type="text/xml; charset=iso-8859-1")
    entry = only(Recording(record(file, [call], chromium)))

    assert entry.answer is not None
    assert entry.answer.headers["content-type"] == "text/xml; charset=utf-8"
    assert entry.answer.body == BODY.encode()


def raw_deflate(body: bytes) -> bytes:
    return zlib.compress(body)[2:-4]


@pytest.mark.parametrize(
    ("coding", "encode"),
    [
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", raw_deflate),
        ("gzip", bytes),
    ],
)
def test_an_encoding_is_undone_unless_it_has_been(
    file: Path, coding: str, encode: Callable[[bytes], bytes]
) -> None:
    call = Call("/", encode(BODY.encode()), headers={"Content-Encoding": coding})
    entry = only(Recording(record(file, [call])))

    assert entry.answer is not None
    assert entry.answer.body == BODY.encode()


def test_an_encoding_that_cannot_be_undone_leaves_no_body(file: Path) -> None:
    call = Call("/", b"\x0b\x02\x80", headers={"Content-Encoding": "br"})
    entry = only(Recording(record(file, [call])))

    assert entry.answer is not None
    assert entry.answer.body is None


def test_a_bomb_is_inflated_no_further_than_can_be_compared(file: Path) -> None:
    bomb = gzip.compress(b"<" * (LONGEST * 4))
    entry = only(Recording(record(file, [Call("/", bomb, headers={"Content-Encoding": "gzip"})])))

    assert entry.answer is not None
    assert len(entry.answer.body or b"") == LONGEST + 1


def test_a_body_that_was_cut_or_not_kept_is_none(file: Path) -> None:
    entry = chromium(Call("/", BODY))
    for content in ({"size": 40}, {"text": "<cut", "_left_out": "cut"}, None):
        entry["response"]["content"] = content
        answer = written(file, entry).answer
        assert answer is not None
        assert answer.body is None


def test_a_call_that_failed_has_no_answer(file: Path) -> None:
    entry = chromium(Call("/", BODY))
    for response in ({"status": 0, "_error": "net::ERR_FAILED"}, {}, None):
        entry["response"] = response
        assert written(file, entry).answer is None


def test_the_type_is_that_of_the_content_where_no_header_says_it(file: Path) -> None:
    entry = chromium(Call("/", BODY))
    entry["response"]["headers"] = None
    answer = written(file, entry).answer

    assert answer is not None
    assert answer.headers["content-type"] == XML


def test_what_a_capture_says_of_itself_is_known(file: Path) -> None:
    entry = {**mitmproxy(Call("/", BODY)), "pageref": "7", "_side": "v2"}

    assert written(file, entry, pages=[{"id": "7", "_raw": False}])[-3:] == ("7", True, True)
    assert written(file, entry, pages=[{"id": "7", "_raw": True}])[-3:] == ("7", True, False)


def test_an_entry_that_is_none_does_not_spoil_the_others(file: Path) -> None:
    good = mitmproxy(Call("/", BODY))
    file.write_text(json.dumps(document([1, {}, {"request": {"method": "GET"}}, good])))

    assert [entry is None for _, entry in entries(Recording(file))] == [True, True, True, False]


def test_a_lone_surrogate_in_a_text_does_not_spoil_the_recording(file: Path) -> None:
    file.write_text(json.dumps(document([sparse(Call("/", "<a>!</a>"))])).replace("!", "\\ud83d"))
    answer = only(Recording(file)).answer

    assert answer is not None
    assert answer.body == "<a>￾</a>".encode()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is no JSON"),
        (b"<har/>", "is no JSON"),
        (b"[1]", "is no HAR 1.2"),
        (b'{"log": {}}', "is no HAR 1.2"),
        (b'{"log": {"entries": {}}}', "is no HAR 1.2"),
        (b'{"log": {"entries": [' + b"[" * 100_000, "is no JSON"),
    ],
)
def test_what_is_no_recording_is_told_in_one_line(
    file: Path, content: bytes, complaint: str
) -> None:
    file.write_bytes(content)

    with pytest.raises(UnusableRecording, match=complaint) as refusal:
        list(entries(Recording(file)))
    assert "\n" not in str(refusal.value)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnusableRecording, match="No such file"):
        Recording(tmp_path / "none.har")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "log",
                    "entries",
                    "pages",
                    "request",
                    "response",
                    "headers",
                    "content",
                    "text",
                    "encoding",
                    "method",
                    "url",
                    "status",
                    "name",
                    "value",
                    "_raw",
                    "_side",
                    "pageref",
                    "mimeType",
                    "id",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=60)
@given(st.one_of(_JSON, st.builds(lambda each: document([each]), _JSON)))
def test_no_document_is_more_than_unusable(
    tmp_path_factory: pytest.TempPathFactory, said: Any
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.har"
    file.write_text(json.dumps(said))
    with suppress(UnusableRecording):
        assert all(entry is None or entry.method for _, entry in entries(Recording(file)))
