"""What is compared, and what a comparison finds, as values. How it is found is not known here."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple

from bridge.side import Side


class Answer(NamedTuple):
    """What one side answered."""

    status: int
    content_type: str | None
    """The header of this name; None: there was none."""
    body: bytes
    """Whole, and without a Content-Encoding."""


class Result(StrEnum):
    """What a comparison comes to."""

    EQUAL = "equal"
    """But for known differences."""
    DIFFERENT = "different"
    INCOMPARABLE = "incomparable"
    """Nothing can be said: one of the answers is not what could be compared."""


class Kind(StrEnum):
    """What is different."""

    STATUS = "status"
    FORMAT = "format"
    """One answer is XML and the other JSON, or one has a body and the other none."""
    ROOT = "root"
    """The names of the roots."""
    MISSING = "missing"
    """v1 has the element, the bridge has not."""
    ADDED = "added"
    """The bridge has the element, v1 has not."""
    VALUE = "value"
    """The text of an element, or whether it is null."""
    TYPE = "type"
    """The attribute `type`."""
    ATTRIBUTE = "attribute"
    """Any other attribute."""
    ORDER = "order"
    """The same items of a list, or elements, stand in another order."""
    COUNT = "count"
    """How many items a list has, where they have no ids that tell which are missing."""


class Spot(NamedTuple):
    """Where in all answers of a kind something is different: what is counted."""

    kind: Kind
    path: str
    """Without ids and positions, such as `/invoice-messages/invoice-message/body`. It holds no
    value of a customer's: a name that is none of v1's is `…`."""


class Difference(NamedTuple):
    """One difference."""

    spot: Spot
    path: str
    """With the ids of items, such as `/invoice-messages/invoice-message[id=409]/body`."""
    v1: str | None = None
    """The value there, or what shows where it differs; None: null, or not asked for. Statuses,
    numbers of items and names of roots are no values of anybody's, and always told."""
    bridge: str | None = None


class Reason(StrEnum):
    """Why an answer cannot be compared."""

    STATUS = "status"
    """Its status says that nothing was served: 5xx or 3xx, and the other side's is another."""
    NOT_XML = "not-xml"
    """It is neither a well-formed document nor JSON of v1's."""
    DTD = "dtd"
    """It has a document type declaration, so that its entities could be anything."""
    TOO_LARGE = "too-large"
    """Its body has more than `LONGEST` bytes."""
    TOO_MUCH = "too-much"
    """It has too many elements, attributes or levels."""


_NONE: Mapping[Any, int] = MappingProxyType({})


class Comparison(NamedTuple):
    """What comparing two answers came to."""

    result: Result
    differences: tuple[Difference, ...] = ()
    """The first of them, in the order of v1's document."""
    counted: Mapping[Spot, int] = _NONE
    """How often each spot is different: of all differences."""
    known: Mapping[str, int] = _NONE
    """How often each known difference was met, by its name (`KNOWN`)."""
    reason: Reason | None = None
    """Why the answers are incomparable."""
    side: Side | None = None
    """Whose answer is the reason; None: neither's more than the other's."""
