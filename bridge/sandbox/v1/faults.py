"""Which misbehaviour can be asked of the sandbox's v1: v2's, as far as it is not JSON's, and more.

What a planted difference does to a document is in planting.py, how the rest looks on the wire in
misbehaviour.py. The docstrings of the faults are the table in README.md.
"""

from typing import Annotated, Literal

from msgspec import Meta

from bridge.sandbox.faults import (
    Close,
    Count,
    Delay,
    Fault,
    Hang,
    HeaderText,
    Html,
    NotHttp,
    Reset,
    Status,
    Trickle,
    Truncate,
    by_name,
)

Framing = Literal["length", "chunks", "close"]

# A name as v1's are, which the one who makes a rule may get wrong, but not so that it is no XML.
ElementName = Annotated[str, Meta(pattern=r"\A[a-z][a-z0-9-]*\Z")]


class V1Status(Status, frozen=True, tag="status"):
    """Answers `status`, such as 410 for everything; there is no body if none is given."""

    content_type: HeaderText = "application/xml; charset=utf-8"


class Redirect(Fault, frozen=True, tag="redirect"):
    """Answers a redirect to `location`."""

    location: HeaderText
    status: Literal[301, 302, 303, 307, 308] = 302
    applied: bool = False


class Framed(Fault, frozen=True, tag="framed"):
    """Serves rightly, filled with blanks to `bytes`; `length`, `chunks` or `close` tell the end."""

    by: Framing
    bytes: Annotated[int, Meta(ge=0)] = 0
    applied: bool = True


class Planted(Fault, frozen=True):
    """A difference in the right answer, at the `number`th element of a name, if there is one."""

    element: ElementName
    number: Count = 1


class OtherValue(Planted, frozen=True, tag="other-value"):
    """Serves rightly, but an `element` has another value."""

    value: str = "planted"


class OtherType(Planted, frozen=True, tag="other-type"):
    """Serves rightly, but an `element` has another `type`."""

    type: HeaderText = "planted"


class MissingElement(Planted, frozen=True, tag="missing-element"):
    """Serves rightly, but without an `element`."""


class ExtraElement(Planted, frozen=True, tag="extra-element"):
    """Serves rightly, but behind an `element` there is one more, with a `name` and `value`."""

    name: ElementName = "planted"
    value: str = "planted"


class SwappedElements(Planted, frozen=True, tag="swapped-elements"):
    """Serves rightly, but an `element` comes behind the one that should follow it."""


V1_FAULTS = by_name(
    Delay,
    Hang,
    Reset,
    Close,
    Truncate,
    Trickle,
    V1Status,
    Html,
    NotHttp,
    Redirect,
    Framed,
    OtherValue,
    OtherType,
    MissingElement,
    ExtraElement,
    SwappedElements,
)
