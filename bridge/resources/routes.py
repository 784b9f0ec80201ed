"""The calls of a resource, and from a method and a path to the call that serves it."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bridge.resources.flow import Flow, Look
from bridge.v1.dialects import Dialect
from bridge.v1.errors import MethodNotAllowed, NotFound, NotTranslated
from bridge.v1.notes import Notes
from bridge.v1.paths import Template, anonymous, segments
from bridge.v1.wire import V1Request


@dataclass(frozen=True, slots=True)
class Call:
    """One legacy call: where it is found and the flow that serves it."""

    name: str
    method: str
    path: str
    """With ids in braces, such as `/invoice/{invoice_id}/messages`."""
    dialect: Dialect
    flow: Callable[[V1Request], Flow]


@dataclass(frozen=True, slots=True)
class Resource:
    """A part of v1 that the bridge translates."""

    name: str
    calls: tuple[Call, ...]
    look: Look
    """How to find what a write of this resource made."""
    successor: str
    """The v2 path that takes the resource's place, with the same ids in braces."""


V1_ROOTS = frozenset({
    "account", "clients", "contacts", "projects", "tasks", "people", "expenses",
    "expense_categories", "invoices", "invoice_item_categories", "daily", "reports",
})  # fmt: skip
"""The first segments of the paths that v1 documented."""


@dataclass(frozen=True, slots=True)
class Match:
    """A call that was found, and the ids in its path."""

    resource: Resource
    call: Call
    ids: dict[str, int]


class Router:
    """The paths of all resources."""

    def __init__(self, resources: Sequence[Resource]) -> None:
        """Gather the calls of `resources` by path."""
        by_path: defaultdict[str, dict[str, tuple[Resource, Call]]] = defaultdict(dict)
        for resource in resources:
            for call in resource.calls:
                by_path[call.path][call.method] = (resource, call)
        self._paths = [(Template(path), calls) for path, calls in by_path.items()]

    def match(self, method: str, path: str, notes: Notes) -> Match:
        """Find the call for `method` on a percent-encoded `path` (schemas/README.md, "Paths").

        HEAD finds the call of GET.

        Raises:
            NotFound: nothing is there, or a segment that should be an id is none.
            MethodNotAllowed: the path is known, but not with this method.
            NotTranslated: the path is one of v1's that the bridge does not serve.
        """
        parts = segments(path, notes)
        for template, calls in self._paths:
            if (ids := template.ids(parts)) is None:
                continue
            if found := calls.get("GET" if method == "HEAD" else method):
                return Match(*found, ids)
            raise MethodNotAllowed(method, _allowed(calls))
        if parts[0] in V1_ROOTS and not any(t.covers(parts) for t, _ in self._paths):
            raise NotTranslated(path, anonymous(parts))
        raise NotFound("Nothing is at this path.")


def _allowed(methods: Iterable[str]) -> tuple[str, ...]:
    allowed = set(methods)
    return tuple(sorted(allowed | {"HEAD"} if "GET" in allowed else allowed))
