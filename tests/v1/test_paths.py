"""Paths of legacy calls: no text breaks them, and ids are what the contract says they are."""

from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st

from bridge.resources import RESOURCES
from bridge.resources.routes import Router
from bridge.v1.errors import LegacyCallError
from bridge.v1.notes import Notes
from bridge.v1.paths import MAX_ID, anonymous, covers, read_id, segments, template

ROUTER = Router(RESOURCES)
SHAPE, _ = template("/invoice/{invoice_id}/messages/{message_id}")
PATHS = st.one_of(
    st.text(),
    st.lists(
        st.sampled_from(
            ["invoice", "invoices", "messages", "message", "new", "1", "%231", "", "%"]
        ),
    ).map(lambda parts: "/" + "/".join(parts)),
)


@given(PATHS, st.sampled_from(["GET", "POST", "DELETE", "HEAD", "PUT"]))
def test_any_path_is_matched_or_refused(path: str, method: str) -> None:
    notes = Notes()
    try:
        match = ROUTER.match(method, f"/{path}", notes)
    except LegacyCallError:
        return
    assert all(1 <= value <= MAX_ID for value in match.ids.values())


@given(st.integers(1, MAX_ID), st.integers(1, MAX_ID))
def test_ids_are_read_by_the_names_of_the_template(invoice: int, message: int) -> None:
    match = ROUTER.match("GET", f"/invoice/{invoice}/messages/{message}", Notes())

    assert match.ids == {"invoice_id": invoice, "message_id": message}


@given(st.text())
def test_an_id_is_a_positive_integer_of_63_bits_in_ascii_digits(text: str) -> None:
    value = read_id(text)

    assert value is None or (text.isascii() and int(text) == value and 1 <= value <= MAX_ID)


@given(st.integers(MAX_ID + 1, 10**400))
def test_a_longer_id_is_none(value: int) -> None:
    assert read_id(str(value)) is None


@given(st.lists(st.text(), min_size=1))
def test_an_anonymous_path_keeps_nothing_but_plain_words(parts: list[str]) -> None:
    path = "/" + "/".join(quote(part, safe="") for part in parts)

    kept = anonymous(segments(path, Notes())).replace("{…}", "")

    assert set(kept) <= set("/abcdefghijklmnopqrstuvwxyz_")


def test_a_path_is_below_its_template_whatever_its_ids() -> None:
    assert covers(SHAPE, ("invoice", "x", "messages", "y", "z"))
    assert not covers(SHAPE, ("invoice", "1", "payments", "2"))
    assert not covers(SHAPE, ("invoice", "1", "messages"))
