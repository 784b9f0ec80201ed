"""A short, repeatable run of the fuzzing of request reading; see fuzz_requests.py for a long one."""

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.fuzz.fuzz_requests import CONTENT_TYPES, SEEDS, fuzz_one, joined, requests, split

brief = settings(
    max_examples=150,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.mark.parametrize("body", SEEDS)
@pytest.mark.parametrize("content_type", CONTENT_TYPES)
def test_the_examples_that_fuzzing_starts_from(content_type: str | None, body: bytes) -> None:
    fuzz_one(joined(content_type, body))


@brief
@given(requests())
@example(joined("text/xml; charset*=a; charset*1=b", SEEDS[0]))
@example(joined("text/xml\udc80é", SEEDS[0]))
@example(joined(None, b"<x:invoice-message><body xmlns='u'/></x:invoice-message>"))
def test_nearly_good_requests_are_refused_or_harmless(data: bytes) -> None:
    fuzz_one(data)


@brief
@given(st.binary(max_size=300))
def test_any_bytes_are_refused_or_harmless(data: bytes) -> None:
    fuzz_one(data)


@brief
@given(st.sampled_from(CONTENT_TYPES) | st.just("text/xml; charset=é"), st.binary())
def test_a_request_survives_being_joined_and_split(content_type: str | None, body: bytes) -> None:
    assert split(joined(content_type, body)) == (content_type, body)
