"""The fuzzer of pages of v2, for as long as a test may take."""

from hypothesis import given

from bridge.resources.table import Collection
from bridge.v1.dialects import Dialect
from tests.fuzz.fuzz_pages import fuzz_one, pages


@given(pages())
def test_whatever_v2_sends_is_refused_or_told_as_it_is(
    case: tuple[bytes, Collection, Dialect],
) -> None:
    fuzz_one(*case)
