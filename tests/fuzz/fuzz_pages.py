"""Translation under fuzz: whatever v2 sends as a page, a clean refusal or a valid list.

`python -m tests.fuzz.fuzz_pages --seconds 600` runs for as long as it is told, under hypothesis.
"""

import argparse
import json
import sys
import time
from collections import Counter
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from lxml import etree

from bridge.resources.invoice_messages import MESSAGES
from bridge.resources.invoice_payments import PAYMENTS
from bridge.resources.table import Collection
from bridge.v1 import recipients
from bridge.v1.dialects import Dialect
from bridge.v1.errors import InvalidAnswer
from bridge.v1.notes import Notes
from bridge.v1.reuse import Reuse
from bridge.v1.wire import V1Request
from bridge.v2.errors import UpstreamFault
from tests.support.legacy import assert_valid

COLLECTIONS = (MESSAGES, PAYMENTS)

_REUSE = Reuse(1024 * 1024)


def fuzz_one(body: bytes, collection: Collection, dialect: Dialect) -> bool:
    """Translate a page, and tell whether there was anything to tell a client.

    Raises:
        AssertionError: what would have left is no list of its dialect, or not what v2 sent.
    """
    notes, again = Notes(), Notes()
    call = V1Request(path="/", ids={"invoice_id": 7}, dialect=dialect, notes=notes)
    try:
        page = collection.translate(body, call)
    except (UpstreamFault, InvalidAnswer):
        return False
    document = b"".join(collection.document(page.parts, call))
    assert_valid(document, f"{collection.entity.schema}/{dialect}-list")
    assert b"<!" not in document
    root = etree.fromstring(document)
    # Members that nobody knows are passed over, whatever their names.
    sent = json.loads(body.decode(errors="replace"))[collection.key]
    assert [item.findtext("id") for item in root] == [str(item["id"]) for item in sent]
    for written in root.iter("full-recipient-list"):
        recipients.read(written.text or "")  # what is written can be read, whatever v2 gave
    for _ in range(2):
        kept = V1Request(
            path="/", ids={"invoice_id": 7}, dialect=dialect, notes=again, reuse=_REUSE
        )
        assert collection.translate(body, kept).parts == page.parts
    assert sorted(again) == sorted((note, 2 * count) for note, count in notes)
    return True


TEXTS = st.one_of(
    st.text(st.characters(codec=None, categories=None), max_size=12),
    st.sampled_from([
        "2017-08-23T22:15:06Z", "2017-08-23t22:15:06z", "2017-02-30T00:00:00Z", "2017-08-23",
        "2017-08-23T24:00:00Z", "2017-08-23T22:15:06.5+02:00", "0000-01-01T00:00:00Z",
        "9999-12-31T23:59:59-14:00", "<!--", "]]>", "</id>", "&amp;", "\r\n", "\x00", "10.50",
        "1e400", "-0", "NaN", "PayPal", "a@b", '"', "\ufffe", "a..b@c.org", "'a@b'", "a@b\nc@d",
    ]),
)  # fmt: skip
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2**64),
    st.floats(),
    TEXTS,
    st.lists(st.fixed_dictionaries({}, optional={"name": TEXTS, "email": TEXTS}), max_size=3),
    st.fixed_dictionaries({}, optional={"id": st.integers(-1, 2**63), "name": TEXTS}),
)


def _fields(collection: Collection) -> list[str]:
    return sorted({
        source.path.split(".")[0]
        for field in collection.entity.fields
        for source in field.sources
        if source.kind.v2 is not None
    })  # fmt: skip


_LIKELY: dict[str, st.SearchStrategy[Any]] = {
    "id": st.integers(1, 2**63 - 1),
    "send_me_a_copy": st.booleans(),
    "amount": st.one_of(st.integers(-5, 10**12), st.decimals(allow_nan=False).map(float)),
}


@st.composite
def pages(draw: st.DrawFn) -> tuple[bytes, Collection, Dialect]:
    """A page with values of likely and unlikely types; now and then, bytes of it are damaged."""
    collection = draw(st.sampled_from(COLLECTIONS))
    honest = draw(st.booleans())
    items = []
    for _ in range(draw(st.integers(0, 3))):
        item = {"id": draw(_LIKELY["id"])}
        for name in draw(st.lists(st.sampled_from(_fields(collection)), unique=True, max_size=6)):
            likely = _LIKELY.get(name, TEXTS if name != "recipients" else st.none())
            item[name] = draw(likely if honest else st.one_of(likely, VALUES))
        items.append(item)
    body = json.dumps({collection.key: items, "links": {"next": None}}).encode()
    if draw(st.integers(0, 9)) == 0:
        at = draw(st.integers(0, len(body)))
        body = body[:at] + draw(st.binary(max_size=3)) + body[at + draw(st.integers(0, 3)) :]
    return body, collection, draw(st.sampled_from(Dialect))


def _run(seconds: float) -> Counter[bool]:
    told: Counter[bool] = Counter()
    end = time.monotonic() + seconds
    number = int(time.time())

    while time.monotonic() < end:
        number += 1

        @seed(number)
        @settings(
            max_examples=2000,
            database=None,
            deadline=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @given(pages())
        def fuzz(case: tuple[bytes, Collection, Dialect]) -> None:
            told[fuzz_one(*case)] += 1

        fuzz()
    return told


def main() -> None:
    """Fuzz for the time given, and say how many pages were translated and how many refused."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    told = _run(parser.parse_args().seconds)
    sys.stdout.write(f"{told[True]} pages translated, {told[False]} refused\n")


if __name__ == "__main__":
    main()
