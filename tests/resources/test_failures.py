"""Answers that are not 2xx: written and validated, whatever the sentence says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from bridge.resources.failures import DEFECT, REFUSALS, answer_to
from bridge.v1.errors import InvalidRequest, MethodNotAllowed, Overloaded
from bridge.v1.problems import Problem
from bridge.v2.errors import UpstreamFault, UpstreamRefusal
from tests.support.legacy import assert_valid


def sentence(error: Exception) -> str | None:
    (body,) = answer_to(error).body
    assert_valid(body, "errors")
    return etree.fromstring(body).findtext("error")


@given(st.text(st.characters(codec=None, categories=None), min_size=1))
def test_any_sentence_is_told(text: str) -> None:
    told = sentence(InvalidRequest(text, Problem.BAD_VALUE))

    assert told is not None
    assert len(told) == len(text)


def test_markup_in_a_sentence_is_text() -> None:
    assert sentence(InvalidRequest("</error> & ]]>\r", Problem.BAD_VALUE)) == "</error> & ]]>\r"


def test_a_defect_tells_nothing_of_itself() -> None:
    assert answer_to(AttributeError("secret")).status == DEFECT.status
    assert sentence(AttributeError("secret")) == DEFECT.message
    assert sentence(UpstreamFault("secret")) != "secret"


@pytest.mark.parametrize("status", [*REFUSALS, 418, 500])
@pytest.mark.parametrize("message", [None, "", "No."])
def test_every_refusal_has_a_sentence(status: int, message: str | None) -> None:
    told = sentence(UpstreamRefusal(status, message, None))

    assert (told == "No.") == (message == "No." and status in {400, 422})


def test_the_headers_that_go_with_it() -> None:
    assert answer_to(MethodNotAllowed("PUT", ("GET", "HEAD"))).headers == {"Allow": "GET, HEAD"}
    assert answer_to(Overloaded("Full.", 7)).headers == {"Retry-After": "7"}
    assert answer_to(InvalidRequest("Né\n", Problem.BAD_VALUE)).headers == {"Hint": "N?"}
