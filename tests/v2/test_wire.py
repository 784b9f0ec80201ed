"""v2 calls and answers as values: which status is a success, and what a refusal says."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from bridge.v2.errors import UpstreamRefusal
from bridge.v2.refusals import LONGEST
from bridge.v2.wire import V2Response, require_status, require_success

URL = "https://api.harvestapp.com/v2/invoices/1420/messages"


def refusal(
    body: bytes | dict[str, Any] = b"", status: int = 422, **headers: str
) -> UpstreamRefusal:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = CIMultiDict({name.replace("_", "-"): text for name, text in headers.items()})
    with pytest.raises(UpstreamRefusal) as raised:
        require_status(V2Response(status, raw, URL, sent), 200)
    return raised.value


@pytest.mark.parametrize("status", [200, 201])
def test_the_expected_status_passes(status: int) -> None:
    require_status(V2Response(status, b"whatever", URL), status)


@pytest.mark.parametrize(
    "status", [199, 201, 202, 204, 301, 302, 304, 400, 401, 403, 404, 422, 429, 500, 503, 599]
)
def test_any_other_is_a_refusal_with_that_status(status: int) -> None:
    assert refusal(status=status).status == status


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param({"message": "Invoice is closed"}, "Invoice is closed", id="message"),
        pytest.param(
            {"error": "invalid_token", "error_description": "The token is expired."},
            "The token is expired.",
            id="oauth",
        ),
        pytest.param(
            {"message": "this", "error_description": "not this"}, "this", id="message-first"
        ),
        pytest.param(
            {"message": "", "error_description": "instead"}, "instead", id="empty-message"
        ),
        pytest.param({"message": None, "error_description": None}, None, id="null"),
        pytest.param({}, None, id="empty-object"),
        pytest.param({"message": " \r\n\t", "error": "instead"}, "instead", id="blank-message"),
        pytest.param({"message": " \r\n\t"}, None, id="only-a-blank-message"),
        pytest.param({"message": ["a", "b"]}, "a, b", id="list"),
        pytest.param({"message": [None, 7, "", "a"]}, "a", id="list-of-anything"),
        pytest.param({"message": []}, None, id="empty-list"),
        pytest.param(
            {"errors": {"email": ["is invalid", "is long"], "subject": ["is blank"], "n": [7]}},
            "email: is invalid, is long; subject: is blank",
            id="errors-by-field",
        ),
        pytest.param({"errors": ["a", {"message": "b"}]}, "a, b", id="errors-as-a-list"),
        pytest.param({"errors": {"base": []}, "error": "instead"}, "instead", id="errors-of-none"),
        pytest.param(
            {"error": {"code": 422, "message": {"body": ["is blank"]}}},
            "body: is blank",
            id="nested",
        ),
        pytest.param({"message": {"text": "deep"}}, "text: deep", id="message-is-an-object"),
        pytest.param({"message": [[[["a"]]]]}, "a", id="as-deep-as-anybody-nests"),
        pytest.param({"message": [[[[["a"]]]]]}, None, id="deeper"),
        pytest.param({"headers": {"Authorization": "Bearer t0ken"}}, None, id="other-members"),
        pytest.param(b'{"message": "a\\ud800"}', "a\ufffe", id="lone-surrogate"),
        pytest.param({"message": 7}, None, id="message-is-a-number"),
        pytest.param(b'["message"]', None, id="array"),
        pytest.param(b"<h1>Bad gateway</h1>", None, id="html"),
        pytest.param(b"", None, id="nothing"),
        pytest.param(b'{"message": "cut', None, id="cut-off"),
        pytest.param(b'{"message": "\xff"}', None, id="invalid-utf-8"),
        pytest.param(b'{"message": ' * 100_000, None, id="deep"),
        pytest.param(b'{"other": ' * 100_000, None, id="deep-and-unknown"),
        pytest.param({"message": "zwei\nZeilen é 😀"}, "zwei\nZeilen é 😀", id="any-text"),
    ],
)
def test_a_refusal_has_v2s_own_words(body: bytes | dict[str, Any], message: str | None) -> None:
    assert refusal(body).message == message


def test_no_words_are_looked_for_in_what_is_no_sentence() -> None:
    around = len('{"message": ""}')

    assert refusal({"message": "a" * (LONGEST - around)}).message is not None
    assert refusal({"message": "a" * (LONGEST - around + 1)}).message is None


@pytest.mark.parametrize("status", range(200, 300))
def test_whatever_2xx_is_a_success(status: int) -> None:
    require_success(V2Response(status, b"", URL))


@pytest.mark.parametrize("status", [199, 300, 301, 304, 400, 404, 422, 500])
def test_nothing_else_is_a_success(status: int) -> None:
    with pytest.raises(UpstreamRefusal, match=str(status)):
        require_success(V2Response(status, b"", URL))


@pytest.mark.parametrize("status", [429, 503, 404])
def test_a_refusal_has_the_seconds_that_v2_asks_to_wait(status: int) -> None:
    assert refusal(status=status, retry_after="7").retry_after == 7.0


def test_without_retry_after_it_has_none() -> None:
    assert refusal(status=429).retry_after is None


def test_a_refusal_is_told_by_its_status_alone() -> None:
    error = refusal({"message": "about jane@doe.org"}, status=422, retry_after="jane@doe.org")

    assert str(error) == "v2 answered 422"


@given(st.binary())
def test_no_body_breaks_it(body: bytes) -> None:
    assert refusal(body, status=500).status == 500
