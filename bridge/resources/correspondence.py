"""Which elements of v1 and which members of v2 say the same: read off the field tables.

For people who look at both sides of a call. Nothing is translated by it.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from bridge.resources.routes import Call


class Correspondence(NamedTuple):
    """The names on both sides, each with the fact that it tells; those of one fact correspond."""

    elements: Mapping[str, str]
    """By the path of an element below its item, such as `company/name`."""
    members: Mapping[str, str]
    """By the path of a member below its object, such as `payment_gateway.name`."""


def of_answers(call: Call) -> Correspondence:
    """Return what corresponds in the answers to a call."""
    fields = () if call.shows is None else call.shows.fields
    return _joined(
        (field.element, source.path)
        for field in fields
        for source in field.sources
        if source.kind.v2 is not None
    )


def of_requests(call: Call) -> Correspondence:
    """Return what corresponds in the bodies of its requests."""
    return _joined((each.element, each.field) for each in call.takes if each.field is not None)


def _joined(pairs: Iterable[tuple[str, str]]) -> Correspondence:
    """Tell the facts apart: an element of several members is one with them, and they with it."""
    elements: dict[str, str] = {}
    members: dict[str, str] = {}
    for element, member in pairs:
        fact = elements.get(element, member)
        other = members.get(member, fact)
        if other != fact:  # two facts turn out to be one
            for names in (elements, members):
                names.update({name: fact for name, its in names.items() if its == other})
        elements[element] = members[member] = fact
    return Correspondence(elements, members)
