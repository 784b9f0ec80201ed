"""Where v1 is, and what a client's host name can make of that: nothing but a label."""

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.origin.place import Place, Template

TEMPLATE = Template("https://{subdomain}.harvestapp.com")


def test_a_subdomain_is_put_in() -> None:
    place = TEMPLATE.place("acme")

    assert place == Place("https", "acme.harvestapp.com", 443)
    assert place.url == "https://acme.harvestapp.com"


def test_a_place_without_a_subdomain_is_the_same_for_all() -> None:
    place = Template("http://[::1]:81").place(None)

    assert place is not None
    assert (place.url, place.authority) == ("http://[::1]:81", "[::1]:81")


@pytest.mark.parametrize("subdomain", [None, "", "A", "a.b", "a:1", "a/b", "a@b", "a b", "-a", "é"])
def test_what_is_no_subdomain_has_no_place(subdomain: str | None) -> None:
    assert TEMPLATE.place(subdomain) is None


@given(st.text(max_size=80))
def test_whatever_comes_no_other_host_is_called(subdomain: str) -> None:
    place = TEMPLATE.place(subdomain)

    if place is not None:
        assert urlsplit(place.url).hostname == f"{subdomain}.harvestapp.com"
        assert urlsplit(place.url).port is None
