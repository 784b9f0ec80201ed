"""Documents put to the XSDs: from several threads at once, each hears of its own mistake."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from bridge.v1.errors import InvalidAnswer
from bridge.v1.xsd import is_valid, require_valid_document

GOOD = b"<errors><error>a</error><message>a</message></errors>"
WRONG = {
    b"<errors/>": "/errors",
    b"<errors><error/><message>a</message></errors>": "/errors/error",
    b"<errors><error>a</error><error/><message>a</message></errors>": "/errors/error[2]",
    b"<errors><error>a</error><id/></errors>": "/errors/id",
    b"<errors><error>a</error><message/></errors>": "/errors/message",
}
"""Where the mistake is, by document."""


def good_but(text: bytes) -> bytes:
    """Return `GOOD` with other text in its `error`."""
    return GOOD.replace(b"<error>a", b"<error>" + text)


@pytest.mark.parametrize("document", [GOOD, b'<?xml version="1.0" encoding="UTF-8"?>\n' + GOOD])
def test_what_is_valid(document: bytes) -> None:
    assert is_valid(document, "errors")
    require_valid_document(document, "errors")


@pytest.mark.parametrize(
    "document",
    [
        *WRONG, b"", b"a", b"<errors>", GOOD + GOOD, b"<error>a</error>", GOOD[:-1],
        GOOD.replace(b"<errors>", b"<errors>x"), GOOD.replace(b"<errors>", b"<errors>&#160;"),
        good_but(b"\x00"), good_but(b"\xff"), good_but(b"&#0;"), good_but(b"&e;"),
        GOOD.replace(b"<errors>", b'<errors xmlns="urn:x">'),
    ],
)  # fmt: skip
def test_what_is_not(document: bytes) -> None:
    assert not is_valid(document, "errors")
    with pytest.raises(InvalidAnswer):
        require_valid_document(document, "errors")


def test_blank_text_counts_where_it_is_text() -> None:
    root = '<invoice-message><id type="integer"> </id></invoice-message>'
    with pytest.raises(InvalidAnswer, match="/invoice-message/id"):
        require_valid_document(root.encode(), "invoice-messages/final-item")


def test_no_entity_is_expanded_and_nothing_fetched() -> None:
    document = b'<!DOCTYPE e [<!ENTITY e SYSTEM "/etc/hostname">]>' + good_but(b"&e;")

    assert not is_valid(document, "errors")


@pytest.mark.parametrize("judge", [require_valid_document, is_valid])
def test_threads_do_not_mix_up_what_is_wrong(judge: Callable[[bytes, str], bool | None]) -> None:
    documents = [*WRONG, GOOD] * 100
    begin = Barrier(4)

    def work(_number: int) -> None:
        begin.wait()
        for document in documents:
            if judge is is_valid:
                assert is_valid(document, "errors") is (document == GOOD)
            elif document != GOOD:
                with pytest.raises(InvalidAnswer) as refused:
                    require_valid_document(document, "errors")
                assert refused.value.element == WRONG[document]

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
